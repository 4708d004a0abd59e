#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=300 serial
# Beginning with what another training learned: --init, --replace-head, --freeze and --preprocess, alone,
# under mpirun, resumed, in YAML and in a job; and what is wrong with them.
source "$ATOLL_SOURCE/tests/support/training.sh"
cd "$scratch"
make_data 1200 200 data --val-fraction 0.1
# the same images in two classes: the even and the odd ones
mkdir -p idx
take train 400 idx
take t10k 100 idx
for split in train t10k; do
    file=idx/$split-labels-idx1-ubyte
    { head -c 8 $file; tail -c +9 $file | tr '\000-\011' '\000\001\000\001\000\001\000\001\000\001'; } >labels
    mv labels $file
done
"$ATOLL" ingest idx --out two --quiet >/dev/null
train=("$ATOLL" train --model lenet --quiet -s threads=1 -s log.every=1)

"${train[@]}" --data data --out first --epochs 2 >/dev/null

# the summary says what was taken; a model begins where the other ended
"${train[@]}" --data data --out again --init first/model.h5 --epochs 1 --json >again.json 2>told
[ ! -s told ] || die "--quiet: $(cat told)"
grep -q '"matched": 10' again/init.json || die "$(cat again/init.json)"
grep -q '"layout": "atoll"' again/summary.json || die "no init in $(cat again/summary.json)"
began=$(steps first | head -n 1 | cut -d ' ' -f 3) went=$(steps again | head -n 1 | cut -d ' ' -f 3)
awk "BEGIN { exit !($went < 0.75 * $began) }" || die "began at a loss of $went, the first training at $began"
"$ATOLL" train --model lenet --data data --out loud --init first/model.h5 --epochs 1 >/dev/null 2>message
for word in 'weights of first/model.h5' 'c1 .*matched .*kernel 5x5x1x6' '10 of its weights taken'; do
    grep -q "$word" message || die "no \"$word\" in: $(cat message)"
done

# another number of classes
"${train[@]}" --data two --out binary --init first/model.h5 --replace-head --epochs 1 >/dev/null
grep -q '"status": "replaced"' binary/init.json || die "$(cat binary/init.json)"

# frozen: as many ranks, the same steps; twice, the same bits; the same from YAML
freeze=(--data data --init first/model.h5 --epochs 1 -s lr=0.02)
"${train[@]}" "${freeze[@]}" --freeze 'c*' --freeze d1 --out one -s batch=64 >/dev/null
"${mpirun[@]}" -np 2 "${train[@]}" "${freeze[@]}" --freeze 'c*,d1' --out two-a -s batch=32 >/dev/null
"${mpirun[@]}" -np 2 "${train[@]}" "${freeze[@]}" -s 'freeze=c*,d1' --out two-b -s batch=32 >/dev/null
same_losses <(steps one) <(steps two-a) 1e-4
same_model two-a two-b
printf 'init: first/model.h5\nfreeze: [c*, d1]\nepochs: 1\nlr: 0.02\nbatch: 64\n' >keys.yaml
"${train[@]}" --data data --config keys.yaml --out yaml >/dev/null
same_model one yaml
grep -q 'freeze: .*c\*,d1' yaml/config.yaml || die "$(cat yaml/config.yaml)"

# frozen normalisations: no statistics of a batch, so ranks do not matter even there
norm=(--data data --model airnet --quiet -s threads=1 -s log.every=1 -s train_limit=192 -s lr=0.01 --epochs 1)
"$ATOLL" train "${norm[@]}" --out air -s batch=32 >/dev/null
norm+=(--init air/model.h5 --freeze '*_n[12]')
"$ATOLL" train "${norm[@]}" --out air-one -s batch=32 >/dev/null
"${mpirun[@]}" -np 2 "$ATOLL" train "${norm[@]}" --out air-two -s batch=16 >/dev/null
same_losses <(steps air-one) <(steps air-two) 1e-4

# interrupted and resumed from elsewhere: the same model as undisturbed
"${train[@]}" "${freeze[@]}" --freeze 'c*' --epochs 40 --out whole >/dev/null
"${train[@]}" "${freeze[@]}" --freeze 'c*' --epochs 40 --out broken >/dev/null &
pid=$!
until [ "$(steps broken 2>/dev/null | wc -l)" -ge 20 ]; do kill -0 $pid 2>/dev/null || break; sleep 0.01; done
kill -INT $pid || true
status=0
wait $pid || status=$?
[ $status = 4 ] || die "interrupted: exit status $status"
mkdir elsewhere
(cd elsewhere && "$ATOLL" train --out ../broken --resume --quiet >/dev/null)
same_losses <(steps broken) <(steps whole) 0
same_model broken whole
grep -q '"layout": "atoll"' broken/summary.json || die "resumed, the summary forgot init"

# a job: init from where the command runs, for trials and for the training
cat >job.yaml <<'END'
data: {source: idx}
model: lenet
train: {init: first/model.h5, replace_head: true, freeze: [c*, d1], preprocess: tf, epochs: 1, threads: 1}
search:
  trials: 2
  wave: 2
  metric: train_loss
  space: {lr: {loguniform: [0.01, 0.1]}}
END
"$ATOLL" run job.yaml --out job --quiet >/dev/null
grep -q '"matched": 8' job/train/init.json || die "job: $(cat job/train/init.json)"
grep -q 'preprocess: tf' job/train/config.yaml || die "job: $(cat job/train/config.yaml)"
"$ATOLL" eval job/model.h5 --data two --json >eval.json

# ---- what is wrong ----------------------------------------------------------------------------------
cases=0
refused() { # refused PATTERN ARGUMENTS...
    local status=0 pattern=$1
    shift
    timeout 60 "${train[@]}" --data data --out bad "$@" >out 2>message || status=$?
    [ $status = 3 ] || die "$*: exit status $status, not 3; $(cat message)"
    grep -qE -- "$pattern" message || die "$*: no \"$pattern\" in: $(cat message)"
    [ ! -e bad ] || die "$*: bad/ is there"
    cases=$((cases + 1))
}
head -c 20000 first/model.h5 >cut.h5
"$ATOLL" train --model lenet --data two --out of-two --quiet --epochs 1 >/dev/null
refused 'nowhere.h5' --init nowhere.h5
refused '/etc/hosts.*not an HDF5 file' --init /etc/hosts
refused 'cut.h5' --init cut.h5
refused 'data' --init data
refused 'first/checkpoints' --init "$(echo first/checkpoints/*2-*.h5)"
refused '2 classes, this data set has 10: --replace-head' --init of-two/model.h5
refused 'none of its weights fit.*"white"' --init air/model.h5
refused 'replace_head.*needs init' --replace-head
refused 'no row with parameters matches "x\*".*"c1"' --freeze 'x*'
refused 'no row with parameters matches "c3".*"c1", "c2"' --freeze c1 --freeze c3
refused 'leaves no row' --freeze '*'
refused 'preprocess: caffe is for images of 3 channels' --preprocess caffe
refused 'preprocess.*caffe' -s preprocess=cafe
echo "$cases wrong uses refused"
