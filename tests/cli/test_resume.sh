#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=600 serial
# Ctrl-C, kill -9 and damaged checkpoints: the training goes on from where it was, to the same bits as
# one that nothing disturbed, and metrics.jsonl tells of each epoch and step exactly once.
source "$ATOLL_SOURCE/tests/support/training.sh"
cd "$scratch"
make_data 1200 60 data --val-fraction 0.1
keys=(-s batch=16 -s epochs=3 -s augment.shift=2 -s log.every=7 -s threads=1)
train=("$ATOLL" train --data data --model lenet --quiet "${keys[@]}")
RANDOM=7

# disturb RUN SIGNAL [COMMAND...]: sends SIGNAL at a random moment after the first step began
disturb() {
    local run=$1 signal=$2 status=0 pid
    shift 2
    mkfifo "$run.events"
    "$@" --out "$run" --events-fd 3 3>"$run.events" >/dev/null 2>"$run.log" &
    pid=$!
    { read -r _ || true; cat >/dev/null & } <"$run.events"
    sleep "$(awk -v r=$RANDOM -v t="$whole_seconds" 'BEGIN { print 0.9 * t * r / 32768 }')"
    kill "-$signal" $pid 2>/dev/null || true
    wait $pid || status=$?
    rm "$run.events"
    echo $status >"$run.status"
}

check_whole() { # check_whole RUN REFERENCE
    same_model "$1" "$2"
    [ "$(epochs "$1")" = "1 2 3 " ] || die "$1: epochs of metrics.jsonl: $(epochs "$1")"
    [ "$(steps "$1")" = "$(steps "$2")" ] || die "$1: steps of metrics.jsonl differ: $(diff <(steps "$1") <(steps "$2"))"
    [ -e "$1/summary.json" ] && [ -e "$1/report.html" ] || die "$1 has no summary or report"
}

started=$(date +%s%N)
"${train[@]}" --out whole >/dev/null
whole_seconds=$(awk -v a="$started" -v b="$(date +%s%N)" 'BEGIN { print (b - a) / 1e9 }')
[ "$(epochs whole)" = "1 2 3 " ]

# Ctrl-C, until ten have hit a training
hits=0
for ((i = 0; hits < 10 && i < 200; i++)); do
    disturb int INT "${train[@]}"
    case $(cat int.status) in
    4) hits=$((hits + 1)); grep -q -- --resume int.log || die "the message does not tell how to go on" ;;
    0) ;;
    *) die "Ctrl-C: exit status $(cat int.status)"; ;;
    esac
    [ "$(cat int.status)" = 0 ] || "$ATOLL" train --out int --resume --quiet >/dev/null
    check_whole int whole
    rm -rf int
done
[ $hits = 10 ] || die "only $hits of $i interruptions hit"
echo "$hits of $i interruptions hit the training: all went on to the same bits"

# again and again in one run
"${train[@]}" --out often >/dev/null &
pid=$!
times=0
for ((i = 0; i < 8; i++)); do
    sleep 0.$((RANDOM % 3 + 2))
    kill -INT $pid 2>/dev/null || true
    status=0
    wait $pid || status=$?
    [ $status = 0 ] && break
    [ $status = 4 ] || [ $status = 130 ] || die "exit status $status"
    times=$((times + 1))
    "${train[@]}" --out often --resume >/dev/null 2>&1 &
    pid=$!
done
[ $status = 0 ] || wait $pid # the last one was left alone
check_whole often whole
echo "one run interrupted $times times"

# kill -9, until three have hit a training: back to the last epoch's checkpoint
killed=0
for ((i = 0; killed < 3 && i < 30; i++)); do
    disturb kill KILL "${train[@]}"
    [ "$(cat kill.status)" = 137 ] && killed=$((killed + 1))
    "${train[@]}" --out kill --resume >/dev/null
    check_whole kill whole
    rm -rf kill
done
[ $killed = 3 ] || die "only $killed of $i trainings were killed"
echo "$killed killed trainings went on to the same bits"

# a training that is done: --resume makes its results again; the newest checkpoint broken: the one before
rm whole/model.h5 whole/report.html
cp -r whole done
"${train[@]}" --out done --resume >/dev/null
"${train[@]}" --out whole --resume >/dev/null
check_whole done whole
newest=$(ls done/checkpoints | tail -n 1)
truncate -s 5000 "done/checkpoints/$newest"
"$ATOLL" train --out done --resume 2>log >/dev/null
grep -q "$newest cannot be used" log || die "$(cat log)"
check_whole done whole
for file in done/checkpoints/*; do truncate -s 3000 "$file"; done
status=0
"${train[@]}" --out done --resume 2>log || status=$?
[ $status = 3 ] && grep -q checkpoints log || die "all checkpoints broken: exit status $status, $(cat log)"

# another data set under the same name, where nothing in the network shows it
make_data 1200 60 other --val-fraction 0.2
same=("$ATOLL" train --model lenet --quiet "${keys[@]}" -s normalize=false --out same)
"${same[@]}" --data data >/dev/null
status=0
"${same[@]}" --data other --resume 2>log || status=$?
[ $status = 3 ] && grep -q "another data set" log || die "another data set: exit status $status, $(cat log)"
"${same[@]}" --data data --resume >/dev/null
