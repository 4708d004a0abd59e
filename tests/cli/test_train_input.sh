#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=300
# What `atoll train` is given wrong: the exit status of the design, a message that names the thing, and
# nothing under --out. And what it tells a coordinator.
source "$ATOLL_SOURCE/tests/support/training.sh"
cd "$scratch"
make_data 600 60 data --val-fraction 0.1
make_data 300 30 other
cases=0

# refused STATUS PATTERN ARGUMENTS...: to `atoll train --out run ARGUMENTS`
refused() {
    local status=0 expected=$1 pattern=$2
    shift 2
    timeout 60 "$ATOLL" train --out run "$@" >out 2>message || status=$?
    [ $status = "$expected" ] || die "$*: exit status $status, not $expected; $(cat message)"
    grep -qE -- "$pattern" message || die "$*: no \"$pattern\" in: $(cat message)"
    [ ! -s out ] || die "$*: something on stdout"
    [ ! -e run ] || die "$*: run/ is there: $(ls -A run)"
    cases=$((cases + 1))
}
good=(--data data --model lenet)

refused 2 '--data' --model lenet
refused 2 '--model' --data data
refused 2 'epoch' "${good[@]}" --epoch 3
refused 2 'expected key=value' "${good[@]}" -s epochs
refused 3 'lenett.*lenet' --data data --model lenett
mkdir -p one/only
echo iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC |
    base64 -d >one/only/red.png
"$ATOLL" ingest one --out single --quiet >/dev/null
refused 3 'single has 1 class' --data single --model lenet
[ ! -e caches ] || die "a cache was filled for nothing: $(ls caches)"
printf -- '- {name: p, layer: pool, attrs: {kind: avg, k: 3, stride: 2, pad: 1, ceil: 1}}\n- {name: f, layer: flatten}\n- {name: l, layer: dense, attrs: {out: classes}}\n' >unsaved.yaml
refused 3 "row 'p'.*ceil" --data data --model unsaved.yaml # before the epochs, not behind them
refused 3 'epoch.*epochs' "${good[@]}" -s epoch=3
refused 3 'epochs' "${good[@]}" -s epochs=0
refused 2 'epochs' "${good[@]}" --epochs 0
refused 3 'epochs' "${good[@]}" -s epochs=two
refused 3 'epochs' "${good[@]}" -s epochs=1.5
refused 3 'batch' "${good[@]}" -s batch=-1
refused 3 'lr' "${good[@]}" -s lr=nan
refused 3 'lr' "${good[@]}" -s lr=inf
refused 3 'schedule.*cosine' "${good[@]}" -s schedule=cosin
refused 3 'precision' "${good[@]}" -s precision=fp16
refused 3 'size.*32x32' "${good[@]}" -s size=32
refused 3 'size' "${good[@]}" -s size=0x32
refused 3 'small' "${good[@]}" -s size=4x4
refused 3 'threads: 4000' "${good[@]}" -s threads=4000
refused 3 'augment.flip.*alternate' "${good[@]}" -s augment.flip=sideways
refused 3 'augment.crop and augment.shift' "${good[@]}" -s augment.crop=0.3 -s augment.shift=2
refused 3 'augment.crop_most' "${good[@]}" -s augment.crop=0.5 -s augment.crop_most=0.2
refused 3 'augment.cutout.*28x28' "${good[@]}" -s augment.cutout=80
refused 3 'augment.hue needs colour' "${good[@]}" -s augment.hue=0.1
refused 3 'augment.hue' "${good[@]}" -s augment.hue=0.7
refused 3 'augment.mixup' "${good[@]}" -s augment.mixup=-1
refused 3 'sampler.*balanced' "${good[@]}" -s sampler=fair
refused 3 'needs sampler.weights' "${good[@]}" -s sampler=weighted
refused 3 'sampler.weights is for' "${good[@]}" -s sampler.weights=1,1
refused 3 'not 10 numbers' "${good[@]}" -s sampler=weighted -s sampler.weights=1,1
refused 3 'not 10 numbers' "${good[@]}" -s sampler=weighted -s sampler.weights=1,1,1,1,1,1,1,1,1,1,1
refused 3 'number 2 is not' "${good[@]}" -s sampler=weighted -s sampler.weights=1,-1,1,1,1,1,1,1,1,1
refused 3 'weight above 0' "${good[@]}" -s sampler=weighted -s sampler.weights=0,0,0,0,0,0,0,0,0,0
refused 3 'twice' "${good[@]}" -s sampler=balanced -s class_weights=balanced
refused 3 'nowhere' --data nowhere --model lenet
refused 3 '/etc/hosts' --data /etc/hosts --model lenet
refused 3 'caches' --data caches --model lenet

printf 'epochs: 2\nbatch: [1]\n' >list.yaml
refused 3 'list.yaml:2:' "${good[@]}" --config list.yaml
printf 'epochs: 2\naugment: {flipp: true}\n' >unknown.yaml
refused 3 'unknown.yaml:2:.*flip' "${good[@]}" --config unknown.yaml
printf 'epochs: 2\n  lr: 3\n: [\n' >syntax.yaml
refused 3 'syntax.yaml:2:' "${good[@]}" --config syntax.yaml
refused 3 'missing.yaml' "${good[@]}" --config missing.yaml

"$ATOLL" cache build other --size 28x28 --out othercache --quiet >/dev/null
refused 3 'othercache' "${good[@]}" -s cache=othercache
refused 3 'nocache' "${good[@]}" -s cache=nocache
refused 3 'data' "${good[@]}" -s cache=data
"$ATOLL" cache build data --size 32x32 --out cache32 --quiet >/dev/null
refused 3 'cache32.*32x32' "${good[@]}" -s cache=cache32 -s size=28x28

# --out is a file, is a training, cannot be made
touch file
status=0
"$ATOLL" train --out file "${good[@]}" 2>message || status=$?
[ $status = 3 ] && grep -q 'file is a file' message && [ ! -s file ] || die "--out file: $status, $(cat message)"
"$ATOLL" train --out used "${good[@]}" --quiet -s epochs=1 -s threads=1 >out
grep -q '^trained       1 epoch on 1 rank, ' out || die "one epoch on one rank: $(cat out)"
"$ATOLL" train --out again "${good[@]}" --quiet --config used/config.yaml >/dev/null
[ "$(grep -A 99 '^train:' used/config.yaml)" = "$(grep -A 99 '^train:' again/config.yaml)" ] ||
    die "--config used/config.yaml gave other keys: $(diff used/config.yaml again/config.yaml)"
find used -type f -exec sha256sum {} + | sort >before
status=0
"$ATOLL" train --out used "${good[@]}" 2>message || status=$?
[ $status = 3 ] && grep -q -- '--resume' message || die "--out of a training: $status, $(cat message)"
find used -type f -exec sha256sum {} + | sort | cmp - before
status=0
"$ATOLL" train --out file/run "${good[@]}" 2>message || status=$?
[ $status = 3 ] && grep -q 'file' message || die "--out below a file: $status, $(cat message)"

# --resume with other data or another model is refused and changes nothing
for change in "--data other" "--model airnet" "-s optimizer=adam"; do
    status=0
    # shellcheck disable=SC2086
    "$ATOLL" train --out used --resume -s epochs=2 $change 2>message || status=$?
    [ $status = 3 ] && grep -q 'used/checkpoints' message || die "--resume $change: $status, $(cat message)"
    find used -type f -exec sha256sum {} + | sort | cmp - before
done
status=0
"$ATOLL" train --out new --resume 2>message || status=$?
[ $status = 2 ] && [ ! -e new ] || die "--resume of nothing: $status, $(cat message)"
cases=$((cases + 7))
echo "$cases wrong uses refused"

# a diverging training says so, and fails
status=0
"$ATOLL" train --out diverged "${good[@]}" --quiet -s lr=900 -s momentum=0.99 -s epochs=20 2>message || status=$?
[ $status = 1 ] && grep -qE 'became (not a number|infinite) .*lower lr' message || die "lr=900: exit status $status, $(cat message)"

# more samples in a batch than there are images: a warning, and it works
"$ATOLL" train --out wide "${good[@]}" -s batch=2000 -s epochs=2 >/dev/null 2>message
grep -q 'more than the [0-9]* training images' message || die "batch=2000: $(cat message)"

# a full disk is told; what was there stays
mkdir -p full
if mount -t tmpfs -o size=300k none full 2>/dev/null; then
    trap 'umount "$scratch/full"; rm -rf "$scratch"' EXIT
    status=0
    "$ATOLL" train --out full/run "${good[@]}" --quiet -s epochs=3 2>message || status=$?
    [ $status = 1 ] && grep -q 'full/run' message || die "full disk: exit status $status, $(cat message)"
    [ -z "$(find full -name '*.h5')" ] || die "a full disk holds $(find full -name '*.h5')"
fi

# events: start, one line an epoch, end; a trial writes a summary and no model
"$ATOLL" train --out trial "${good[@]}" --trial --quiet --events-fd 3 -s epochs=3 3>events >/dev/null
[ "$(sed 's/^{"event": *"\([a-z]*\)".*/\1/' events | tr '\n' ' ')" = "start epoch epoch epoch end " ] ||
    [ "$(grep -o '"event": *"[a-z]*"' events | cut -d '"' -f 4 | tr '\n' ' ')" = "start epoch epoch epoch end " ] ||
    die "events: $(cat events)"
for key in epoch train_loss train_accuracy val_loss val_accuracy lr images_per_second seconds; do
    [ "$(grep '"event": *"epoch"' events | grep -cE "\"$key\": *[0-9]")" = 3 ] || die "no $key: $(cat events)"
done
grep '"event": *"start"' events | grep -qE '"wall_ms": *1[0-9]{12}[,}]' || die "$(cat events)"
grep '"event": *"end"' events | grep -qE '"seconds": *[0-9]' || die "$(cat events)"
[ -e trial/summary.json ] && [ ! -e trial/model.h5 ] && [ ! -e trial/report.html ] || die "trial: $(ls trial)"

# who listened is gone: the trial ends by itself
status=0
{ timeout 60 "$ATOLL" train --out orphan "${good[@]}" --trial --quiet --events-fd 3 -s epochs=2000 3>&1 \
    >/dev/null 2>message || echo $? >orphan.status; } | head -n 2 >/dev/null
[ "$(cat orphan.status)" != 124 ] || die "a trial that nobody listens to goes on"
