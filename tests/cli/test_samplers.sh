#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=300 serial
# Trainings that draw by class and mix images: left in mid-epoch they go on to the same bits, two ranks see what one
# sees, and the keys are kept in config.yaml.
source "$ATOLL_SOURCE/tests/support/training.sh"
cd "$scratch"
make_data 600 60 data --val-fraction 0.1
usual=(--data data --model lenet --quiet -s batch=20 -s epochs=3 -s threads=1 -s log.every=1 -s normalize=false
    -s checkpoint.every=0.23 -s checkpoint.keep=100)
changed=(-s augment.flip=alternate -s augment.crop=0.5 -s augment.cutout=6 -s augment.brightness=0.2
    -s augment.contrast=0.2 -s augment.mixup=0.4 -s augment.cutmix=1 -s label_smoothing=0.1)
declare -A way=(
    [uniform]=""
    [balanced]="-s sampler=balanced"
    [weighted]="-s sampler=weighted -s sampler.weights=1,2,0.5,1,1,1,3,1,0,1 -s class_weights=balanced"
)

# cut_off RUN OUT: as it stood at the second checkpoint of its second epoch
cut_off() {
    local file newest
    cp -r "$1" "$2"
    rm "$2/model.h5" "$2/summary.json"
    newest=$(ls "$2/checkpoints" | grep '^epoch-000001-' | sed -n 2p)
    [ -n "$newest" ] || die "no checkpoint in mid-epoch: $(ls "$2/checkpoints")"
    for file in "$2"/checkpoints/*; do
        if [[ ${file##*/} > $newest ]]; then rm "$file"; fi
    done
}

resumed=0
for sampler in uniform balanced weighted; do
    read -ra how <<<"${way[$sampler]}"
    "$ATOLL" train --out $sampler "${usual[@]}" "${changed[@]}" "${how[@]}" >/dev/null
    grep -q "sampler: $sampler" $sampler/config.yaml || die "config.yaml has lost the sampler"
    cut_off $sampler half
    "$ATOLL" train --out half --resume --quiet >/dev/null
    same_model half $sampler
    [ "$(steps half)" = "$(steps $sampler)" ] || die "$sampler: steps of metrics.jsonl differ"
    rm -rf half
    resumed=$((resumed + 1))
    "${mpirun[@]}" -np 2 "$ATOLL" train --out two "${usual[@]}" "${changed[@]}" "${how[@]}" -s batch=10 >/dev/null
    steps $sampler >one.txt
    steps two >two.txt
    same_losses one.txt two.txt 1e-3
    rm -rf two
done
echo "$resumed trainings gone on with in mid-epoch came to the same bits"
for sampler in uniform balanced; do
    if cmp -s $sampler/model.h5 weighted/model.h5; then die "$sampler and weighted came to the same model"; fi
done
