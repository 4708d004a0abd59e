#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# How pictures come to the network's size is one key of training, and the model remembers it: evaluation and prediction
# do the same, through every file format that keeps it. A cache in either form gives the same training.
# ctest: timeout=300
source "$ATOLL_SOURCE/tests/support/training.sh"
cd "$scratch"
make_data 1500 300 data
elsewhere=(--cache.dir elsewhere --cache.limit 1G)
keys=(--data data --model lenet -s epochs=1 -s batch=50 -s threads=1 -s size=20x32 -s channels=3)

number() { sed -n "s/.*\"$1\": *\([-0-9.e]*\).*/\1/p" "$2" | head -n 1; }
loss_of() { "$ATOLL" eval "$@" --data data --json --quiet >eval.json && number loss eval.json; }

for fit in stretch crop letterbox; do
    "$ATOLL" train "${keys[@]}" --fit $fit --out $fit --quiet >/dev/null || die "no training with $fit"
    [ "$(loss_of $fit)" = "$(number test_loss $fit/summary.json)" ] || die "eval of $fit is not training's own"
    [ "$(loss_of $fit --fit $fit)" = "$(loss_of $fit)" ] || die "--fit $fit is not what the model remembers"
    other=crop
    [ $fit = crop ] && other=letterbox
    [ "$(loss_of $fit --fit $other)" != "$(loss_of $fit)" ] || die "--fit $other makes no difference"
    "$ATOLL" export $fit --out $fit.keras >/dev/null && "$ATOLL" export $fit.keras --out $fit.h5 >/dev/null
    [ "$(loss_of $fit.h5)" = "$(loss_of $fit)" ] || die "$fit is lost on the way through .keras"
done

"$ATOLL" sql data --csv "SELECT shard, offset, bytes FROM blobs WHERE id = 7" | tail -n 1 | {
    IFS=, read -r shard offset bytes
    dd if="data/shards/$(printf %05d "$shard").atb" bs=1 skip="$offset" count="$bytes" status=none >picture.raw
}
scores() { "$ATOLL" predict "$@" picture.raw --json | sed 's/.*"scores"//'; }
[ "$(scores crop)" = "$(scores crop --fit crop)" ] || die "predict does not crop"
[ "$(scores crop)" != "$(scores crop --fit stretch)" ] || die "predict crops all the same"

"$ATOLL" train "${keys[@]}" --fit crop --form encoded --out encoded --quiet >/dev/null
[ "$(loss_of encoded)" = "$(loss_of crop)" ] || die "the forms of a cache train differently"
[ "$(ls -d caches/*crop* | wc -l)" = 2 ] || die "eval made another cache: $(ls caches)"
[ "$(loss_of encoded --form uint8)" = "$(loss_of crop)" ] || die "eval with the other form is another"
ls caches | grep -q 'crop-encoded-v3' || die "the cache's name does not tell: $(ls caches)"

# A cache that is named: what is told must be what it has, what is not told is its own.
"$ATOLL" cache build data --size 20x32 --channels 3 --fit crop --out named --quiet >/dev/null
"$ATOLL" train --data data --model lenet -s epochs=1 -s batch=50 -s threads=1 --cache named --out own --quiet >/dev/null
[ "$(loss_of own)" = "$(loss_of crop)" ] || die "the named cache's fit was not taken"
for told in size=28x28 channels=1 fit=stretch form=encoded; do
    status=0
    "$ATOLL" train "${keys[@]}" --cache named -s $told --out never --quiet 2>err || status=$?
    [ $status = 3 ] && grep -q "${told%=*} is told, but the cache" err || die "$told: exit $status: $(cat err)"
done

# Where it is made; a damaged batch of it is made again by the training that meets it.
"$ATOLL" train "${keys[@]}" "${elsewhere[@]}" --out placed --quiet >/dev/null
cache=$(ls -d elsewhere/*-v3)
printf 'X' | dd of="$cache/train.atc" bs=1 seek=50000 conv=notrunc status=none
"$ATOLL" train "${keys[@]}" "${elsewhere[@]}" --out mended >/dev/null 2>err
"$ATOLL" train "${keys[@]}" "${elsewhere[@]}" --out again 2>err.2 >/dev/null
grep -q "was damaged: made again from data" err || die "nothing was mended: $(cat err)"
grep -q damaged err.2 && die "it was not mended for good: $(cat err.2)"
same_model placed mended
"$ATOLL" cache verify "$cache" --data data >/dev/null || die "the cache is still damaged"
# a training does not go on with pictures that look otherwise, where nothing in the network shows it
plain=(train "${keys[@]}" -s normalize=false -s train_limit=500 --out plain --quiet)
"$ATOLL" "${plain[@]}" --fit crop >/dev/null
status=0
"$ATOLL" "${plain[@]}" --fit stretch --resume 2>log || status=$?
[ $status = 3 ] && grep -q "fit=crop, not stretch" log || die "resumed with another fit: exit status $status, $(cat log)"
echo "three fits, remembered by the model; two forms, one result; a damaged batch mended in training"
