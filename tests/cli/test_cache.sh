#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# atoll cache on the real Fashion-MNIST: build, info, verify, damage, interruption, and exit statuses.
# ctest: timeout=120
source_dir=/usr/share/datasets/fashion-mnist
if [ ! -d "$source_dir" ]; then
    echo "skipped cache: no $source_dir (Debian's dataset-fashion-mnist)"
    exit 77
fi
source "$ATOLL_SOURCE/tests/support/cli.sh"

expect 0 "$ATOLL" ingest "$source_dir" --out data
expect 0 "$ATOLL" cache build data --size 32x32 --out cache --json
says out '"height":32,"width":32,"channels":1'
says out '"samples":{"train":60000,"val":0,"test":10000}'
expect 0 "$ATOLL" cache info cache
says out 'Ankle boot'
expect 0 "$ATOLL" cache verify cache --json
says out '"bad_batches":0,"ok":true'

printf '\xff\x00\xff\x00' | dd of=cache/test.atc bs=1 seek=1000003 conv=notrunc status=none
expect 3 "$ATOLL" cache verify cache --json
says out '"bad_batches":1,"ok":false'
says err 'cache/test.atc: batch'
expect 0 "$ATOLL" cache build data --size 32x32 --out cache # makes it again
says err 'made again'
expect 0 "$ATOLL" cache verify cache

truncate -s 100 cache/train.atc
expect 3 "$ATOLL" cache info cache
says err 'cache/train.atc'
expect 3 "$ATOLL" cache verify nothing
expect 3 "$ATOLL" cache build nothing --out other
expect 2 "$ATOLL" cache build data --size 32 --out other
expect 2 "$ATOLL" cache build data --size 32x32
expect 2 "$ATOLL" cache polish cache
mkdir home && touch home/letter
expect 3 "$ATOLL" cache build data --size 32x32 --out home
[ -e home/letter ] || fail "a folder that is no cache was replaced"

"$ATOLL" cache build data --size 128x128 --out large >out 2>err & # seconds of work
builder=$!
for _ in $(seq 200); do
    ls -d large.partial.* >/dev/null 2>&1 && break
    sleep 0.05
done
kill -INT $builder
wait $builder
[ $? -eq 4 ] || fail "an interrupted build did not exit with 4: $(cat err)"
ls -d large* >/dev/null 2>&1 && fail "an interrupted build left $(ls -d large*)"
echo "atoll cache: all as it should be"
