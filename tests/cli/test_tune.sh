#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=600 serial
# atoll tune, worker, study and run as a user meets them: results, messages, exit statuses, Ctrl-C, kill -9.
source "$ATOLL_SOURCE/tests/support/training.sh"
cd "$scratch"
make_data 600 100 data --val-fraction 0.2

cat > sweep.yaml <<'YAML'
data: data
model: lenet
train: {batch: 32, epochs: 2}
search:
  trials: 6
  wave: 3
  workers: local:2
  seed: 1
  space:
    lr: {loguniform: [0.005, 0.2]}
    momentum: {uniform: [0.8, 0.95]}
YAML

refused() { # refused STATUS PATTERN COMMAND...
    local expected=$1 pattern=$2 status=0
    shift 2
    "$@" >out.txt 2>err.txt || status=$?
    [ "$status" = "$expected" ] || die "exit status $status, not $expected, of: $* ($(cat err.txt))"
    grep -q -- "$pattern" err.txt || die "\"$pattern\" is not in the message of: $* ($(cat err.txt))"
}

changed() { # changed FROM TO: the sweep with one thing changed
    sed "s/$1/$2/" sweep.yaml > changed.yaml
    ! cmp -s sweep.yaml changed.yaml || die "nothing to change: $1"
}

# ---- what is wrong is said before any trial ----
refused 2 'usage: atoll tune' "$ATOLL" tune sweep.yaml
refused 3 'nosuch.yaml' "$ATOLL" tune nosuch.yaml --out s
changed 'momentum:' 'momentun:'
refused 3 'changed.yaml:11:5: unknown key "momentun"; did you mean "momentum"' "$ATOLL" tune changed.yaml --out s
changed 'batch: 32' 'bach: 32'
refused 3 'changed.yaml:3:9: unknown key "bach"; did you mean "batch"' "$ATOLL" tune changed.yaml --out s
changed 'model: lenet' 'model: lenett'
refused 3 'unknown model .lenett.; did you mean .lenet.' "$ATOLL" tune changed.yaml --out s
changed '0.95' '7'
refused 3 'above the maximum' "$ATOLL" tune changed.yaml --out s
changed 'data: data' 'data: nodata'
refused 3 'there is no data set at nodata' "$ATOLL" tune changed.yaml --out s
refused 2 'expected local:N' "$ATOLL" tune sweep.yaml --out s --workers loca:2
refused 3 's is not a study' "$ATOLL" study show s
refused 2 'did you mean "trials"' "$ATOLL" study trails s
refused 2 'join HOST:PORT is missing' "$ATOLL" worker
[ ! -e s ] || die "a refused sweep left something behind"

# ---- a sweep that a worker's and the coordinator's death do not change ----
"$ATOLL" tune sweep.yaml --out quiet --quiet --json > best.json
grep -q '"waves": *2' best.json || die "not 2 waves: $(cat best.json)"
grep -q '"workers": *2' best.json || die "not 2 workers: $(cat best.json)"
refused 3 '--resume continues it' "$ATOLL" tune sweep.yaml --out quiet

params() {
    "$ATOLL" study trials "$1" --json | tr -d ' \n' | grep -o '"number":[0-9]*\|"lr":[0-9.e-]*\|"momentum":[0-9.e-]*'
}
count() { "$ATOLL" study show "$1" --json 2>/dev/null | tr -d ' \n' | sed -n "s/.*\"$2\":\([0-9]*\).*/\1/p"; }
until_count() { # until_count STUDY STATE N
    for _ in $(seq 1500); do
        [ "$(count "$1" "$2" || true)" -ge "$3" ] 2>/dev/null && return
        sleep 0.02
    done
    die "$1 never had $3 $2 trials"
}

"$ATOLL" tune sweep.yaml --out broken --quiet &
coordinator=$!
worker=
for ((i = 0; i < 1500; i++)); do
    worker=$("$ATOLL" study trials broken --json 2>/dev/null | tr -d ' \n' |
        sed -n 's/.*"state":"RUNNING"[^}]*"worker":"[^"]*-\([0-9]*\)".*/\1/p') || true # not there yet
    [ -z "$worker" ] || break
    sleep 0.02
done
[ -n "$worker" ] || die "no trial was running"
kill -9 "$worker" || true
until_count broken complete 1
kill -9 $coordinator || true
wait $coordinator 2>/dev/null || true
"$ATOLL" tune sweep.yaml --out broken --quiet --resume > /dev/null
[ "$(params quiet)" = "$(params broken)" ] || { "$ATOLL" study trials quiet; "$ATOLL" study trials broken; die "other trials after kill -9"; }
[ "$(count broken complete)" = 6 ] || die "not all trials of the broken sweep are complete"

"$ATOLL" tune sweep.yaml --out stopped --quiet 2> err.txt &
coordinator=$!
until_count stopped running 1
kill -INT $coordinator
status=0
wait $coordinator || status=$?
[ $status = 4 ] || die "exit status $status, not 4, after Ctrl-C"
grep -q 'atoll tune sweep.yaml --out stopped --resume' err.txt || die "no hint: $(cat err.txt)"
[ "$(count stopped running)" = 0 ] || die "a trial still counts as running"

# ---- what the study tells ----
"$ATOLL" study trials quiet --json | tr -d ' \n' > trials.json
for key in number wave state value params worker start_delay_ms seconds; do
    [ "$(grep -o "\"$key\":" trials.json | wc -l)" = 6 ] || die "study trials lacks $key"
done
grep -o '"start_delay_ms":[0-9.]*' trials.json | sed 's/.*://' | sort -n | tr '\n' ' ' | sed 's/^/start delays in ms: /'
echo
prints 'number  wave  state' "$ATOLL" study trials quiet || die "no table of trials"
prints '^value' "$ATOLL" study best quiet || die "no best trial"
"$ATOLL" study best quiet >best
[ -z "$(awk 'NF != 2 && $0 != "params"' best)" ] || die "no names with values: $(cat best)"

# ---- data without validation or test images ----
mkdir plain
take train 60 plain
printf 'data: {source: plain}\nmodel: lenet\ntrain: {epochs: 1}\n' > plain.yaml
"$ATOLL" run plain.yaml --out unmeasured --quiet > out.txt
grep -q '^test accuracy not measured' out.txt || die "a test accuracy without test images: $(cat out.txt)"
printf 'search: {trials: 9, space: {lr: {uniform: [0.01, 0.1]}}}\n' >> plain.yaml
refused 3 'trial 0: .*no finite val_accuracy; has the data set a val split' "$ATOLL" run plain.yaml --out blind --quiet

# ---- a key that is another's ----
"$ATOLL" tune sweep.yaml --out door --workers listen:127.0.0.1:0 2> door.txt &
coordinator=$!
for _ in $(seq 500); do [ -e door/coordinator.json ] && break; sleep 0.02; done
join=$(sed -n 's/.*"join": *"\([^"]*\)".*/\1/p' door/coordinator.json)
refused 3 "wrong key: quiet/worker.key is not the key of the coordinator at $join" \
    "$ATOLL" worker --join "$join" --key quiet/worker.key
chmod 644 quiet/worker.key
refused 3 'may be read by others' "$ATOLL" worker --join "$join" --key quiet/worker.key
refused 3 "$join" "$ATOLL" tune sweep.yaml --out other --workers "listen:$join"
"$ATOLL" worker --join "$join" --key door/worker.key --name helper
wait $coordinator
grep -q 'refused a connection from 127.0.0.1:[0-9]*: wrong key' door.txt || die "the coordinator does not tell"
[ "$(params quiet)" = "$(params door)" ] || die "other trials with another worker"
echo "tune, worker, study: kill -9 of both sides, Ctrl-C, wrong keys, wrong input"
