#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=300
# `atoll model`: what it tells of networks, the file that it writes, and a training of a network given as rows.
source "$ATOLL_SOURCE/tests/support/training.sh"
cd "$scratch"
cases=0

refused() {
    local status=0 expected=$1 pattern=$2
    shift 2
    timeout 60 "$ATOLL" "$@" >out 2>message || status=$?
    [ $status = "$expected" ] || die "$*: exit status $status, not $expected; $(cat message)"
    grep -qE -- "$pattern" message || die "$*: no \"$pattern\" in: $(cat message)"
    [ ! -s out ] || die "$*: something on stdout"
    cases=$((cases + 1))
}

# parameters EXPECTED ARGUMENTS...: of `atoll model describe ARGUMENTS --json`
parameters() {
    local expected=$1
    shift
    "$ATOLL" model describe "$@" --json >out || die "$*: failed"
    grep -q "\"parameters\":$expected,\"state\"" out || die "$*: not $expected parameters: $(tail -c 200 out)"
    cases=$((cases + 1))
}

parameters 61706 lenet
parameters 11689512 resnet18
parameters 25557032 resnet50 --classes 1000 --size 224x224 --channels 3
parameters 138357544 vgg16
parameters 78954 "$ATOLL_SOURCE/examples/my-model.yaml"
"$ATOLL" model describe lenet >out
grep -qE '^c2 +conv +p1 +16x10x10 +2416 ' out || die "no row of c2 in: $(cat out)"
for name in lenet lenet-wide airnet vgg11 vgg16-bn resnet20 resnet50; do
    prints "^$name " "$ATOLL" model list || die "$name is not listed"
    cases=$((cases + 1))
done

refused 2 'atoll model describe NAME' model
refused 2 'did you mean "describe"' model descripe
refused 2 'operand' model describe
refused 2 'HxW' model describe lenet --size 32
refused 2 '--size' model describe start.h5 --size 32x32
refused 3 'small' model describe lenet --size 4x4
refused 3 'lenett.*lenet' model describe lenett
refused 3 'missing.yaml' model describe missing.yaml
refused 3 'missing.h5' model describe missing.h5
refused 2 '--out' model new lenet
refused 2 'classes 1.*2 at least' model new lenet --classes 1 --out bad.h5
refused 2 'classes 1.*2 at least' model describe lenet --classes 1
printf -- '- {name: a, layer: conv, attrs: {out: 4, k: 3}}\n- {name: b, layer: pool, attrs: {k: 99}}\n' >bad.yaml
refused 3 'bad.yaml:2:.*"b".*4x30x30' model describe bad.yaml
refused 3 'bad.yaml:2:' model new bad.yaml --out bad.h5
[ ! -e bad.h5 ] || die "bad.h5 is there"

# The same seed writes the same bytes, another one others.
"$ATOLL" model new lenet --classes 5 --seed 7 --out a.h5 >/dev/null
"$ATOLL" model new lenet --classes 5 --seed 7 --out b.h5 >/dev/null
"$ATOLL" model new lenet --classes 5 --seed 8 --out c.h5 >/dev/null
cmp -s a.h5 b.h5 || die "the same seed gives other weights"
! cmp -s a.h5 c.h5 || die "another seed gives the same weights"
parameters 61281 a.h5

# A training of rows: resumed from another folder; the model is served without the rows' file.
make_data 600 60 data --val-fraction 0.1
cat >mine.yaml <<'ROWS'
- {name: c, layer: conv, attrs: {out: 8, k: 3, stride: 2}}
- {name: r, layer: relu}
- {name: f, layer: flatten}
- {name: d, layer: dense, attrs: {out: classes}}
ROWS
"$ATOLL" train --data data --model mine.yaml --out run --epochs 1 --quiet >/dev/null
mkdir elsewhere
(cd elsewhere && "$ATOLL" train --out ../run --resume --epochs 2 --quiet >/dev/null)
grep -q '"epochs": 2' run/summary.json || die "not resumed: $(cat run/summary.json)"
mv mine.yaml gone
"$ATOLL" eval run --data data --json >out
grep -q '"accuracy"' out || die "no accuracy in: $(cat out)"
make_data 60 20 noval
refused 3 'the model knows 5 classes, data has 10' eval a.h5 --data data --cache.dir fresh
[ ! -e fresh ] || die "a cache was filled for nothing: $(ls fresh)"
refused 2 "unknown form 'tflite'; there are: keras-h5, keras," export a.h5 --to tflite --out a.tflite
refused 3 'no images in its val split; --split test has some' eval run --data noval --split val
refused 3 'predict: nowhere.png: unreadable' predict run nowhere.png
! grep -q 'of 1 images' message || die "told twice: $(cat message)"
refused 3 'of 2 images could not be read' predict run nowhere.png .
grep -q 'predict: \.: unreadable: a folder, not a file' message || die "no folder in: $(cat message)"
refused 3 'mine.yaml' train --data data --model mine.yaml --out run2
echo "$cases cases"
