#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=900 once
# docs/extending.md, followed to the letter in a copy of the sources: its layer, its model and its augmentation, one file
# and one row each.
source "$ATOLL_SOURCE/tests/support/training.sh"
cd "$scratch"
make_data 600 100 data --val-fraction 0.1

(cd "$ATOLL_SOURCE" && tar -cf - --exclude=./build --exclude=./.git --exclude=./out --exclude=./data .) | (mkdir copy && tar -xf - -C copy)
code() { # code FIRST LAST: the C between the fence behind a line with FIRST and the next fence
    awk -v first="$1" '$0 == "```c" { on = 1; text = ""; next } $0 == "```" && on { on = 0; if (index(text, first)) print text }
        on { text = text $0 "\n" }' "$ATOLL_SOURCE/docs/extending.md"
}
code "at_layer_gain = {" >copy/nn/layer_gain.c
code "at_models_mine[] = {" >copy/nn/model_mine.c
grep -q at_layer_gain copy/nn/layer_gain.c && grep -q at_models_mine copy/nn/model_mine.c || die "the guide has lost its examples"
sed -i 's|rows_plain(r, "flat", "flatten");|rows_add(r, "g", "gain", "factor=2");\n    &|' copy/nn/model_mine.c
echo 'LAYER(gain)' >>copy/nn/layers.def
echo 'MODELS(mine)' >>copy/nn/models.def
code "at_augment_dim = {" >copy/cache/augment_dim.c
key=$(code "X(double, dim," | sed 's/^ *//')
[ -n "$key" ] || die "the guide has lost its augmentation's key"
sed -i "s|^#define AT_AUGMENT_KEYS(X).*|#define AT_AUGMENT_KEYS(X) $key \\\\|" copy/include/atoll/cache.h
echo 'AUGMENT(dim)' >>copy/cache/augments.def
cmake -S copy -B copy/build -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS_DEBUG=-O1 >log 2>&1 || die "cmake: $(tail log)"
ninja -C copy/build atoll grad_test_layers >log 2>&1 || die "build: $(grep -E 'error|warning' log | head)"

copy/build/tests/grad_test_layers >log 2>&1 || die "gradients: $(tail -20 log)"
grep -q "gain" log || die "the gradient test does not know the layer: $(cat log)"
atoll=copy/build/atoll
prints gain "$atoll" model describe mine --size 28x28 --channels 1 || die "the model has no such row"
"$atoll" train --data data --model mine --out run --quiet -s epochs=1 -s batch=50 -s augment.dim=0.5 >/dev/null
grep -q "dim: 0.5" run/config.yaml || die "the key is not in config.yaml: $(cat run/config.yaml)"
prints --augment.dim "$atoll" train --help || die "--help does not know the key"
prints '"accuracy"' "$atoll" eval run/model.h5 --data data --json || die "the model file is not read"
status=0
"$atoll" export run/model.h5 --to onnx --out x.onnx 2>err || status=$?
[ $status = 3 ] && grep -q gain err || die "ONNX has no such layer: exit $status, $(cat err)"
echo "a layer, a model and an augmentation by the guide: described, checked, trained, saved and read"
