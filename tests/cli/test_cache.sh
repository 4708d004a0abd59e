#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# atoll cache on the real Fashion-MNIST: build, info, verify, damage, interruption, and exit statuses.
# ctest: timeout=600
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
says err 'atoll cache repair cache --data DATASET'
cp -r cache damaged
expect 0 "$ATOLL" cache build data --size 32x32 --out cache # makes it again
says err 'made again'
expect 0 "$ATOLL" cache verify cache
expect 0 "$ATOLL" cache repair damaged --data data --json
says out '"bad_batches":1,"ok":true,"mended_batches":1,"rebuilt":false'
for file in train.atc val.atc test.atc meta.json; do
    cmp cache/$file damaged/$file || fail "what was repaired is not what was made"
done

truncate -s 100 damaged/train.atc
expect 3 "$ATOLL" cache info damaged
says err 'damaged/train.atc'
expect 3 "$ATOLL" cache verify damaged
expect 2 "$ATOLL" cache repair damaged
expect 0 "$ATOLL" cache repair damaged --data data
says out 'the whole cache is made again'
expect 0 "$ATOLL" cache verify damaged --data data
cmp cache/train.atc damaged/train.atc || fail "what was made again is not what was made"

# A header of version 2, which says of itself that it is whole: refused by name, replaced by a build.
cp -r damaged old
{ head -c 8 old/val.atc; printf '\2\0\0\0'; tail -c +13 old/val.atc; } | head -c 4092 >page
crc=$(python3 - <<'EOF'
import struct
crc, data = 0xffffffff, open("page", "rb").read()
for byte in data:
    crc ^= byte
    for _ in range(8):
        crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
print("".join("\\x%02x" % b for b in struct.pack("<I", crc ^ 0xffffffff)))
EOF
) || fail "python3 is needed"
{ cat page; printf "$crc"; } | dd of=old/val.atc conv=notrunc status=none
expect 3 "$ATOLL" cache info old
says err 'version 2 of the format, this program reads 3: `atoll cache build DATASET --out CACHE`'
expect 0 "$ATOLL" cache repair old --data data
expect 0 "$ATOLL" cache verify old --data data

expect 0 "$ATOLL" cache build data --size 48x20 --fit letterbox --channels 3 --form encoded --out small --json
says out '"fit":"letterbox","height":48,"width":20,"channels":3'
says out '"form":"encoded"'
[ "$(du -s small | cut -f1)" -lt "$(($(du -s cache | cut -f1) * 9 / 10))" ] || fail "files take as much as pictures"
expect 0 "$ATOLL" cache verify small --data data
expect 3 "$ATOLL" cache verify nothing
expect 3 "$ATOLL" cache build nothing --out other
expect 2 "$ATOLL" cache build data --size 32 --out other
expect 2 "$ATOLL" cache build data --size 32x32
expect 2 "$ATOLL" cache build data --channels 2 --out other
expect 2 "$ATOLL" cache build data --fit squeeze --out other
expect 2 "$ATOLL" cache polish cache
expect 0 "$ATOLL" dataset verify data
says out '70000 images, 70000 contents of 56000000 bytes in 1 shard: all whole'
cp -r data worn
printf 'X' | dd of=worn/shards/00000.atb bs=1 seek=7000003 conv=notrunc status=none
expect 3 "$ATOLL" dataset verify worn --json
says out '"damaged":1,"ok":false,"damages":\[{"file":"shards/00000.atb","offset":[0-9]*,"image":"t'
expect 3 "$ATOLL" cache build worn --size 32x32 --out never
says err 'worn/shards/00000.atb: offset'
[ ! -e never ] || fail 'a cache of a damaged data set'
expect 3 "$ATOLL" cache verify cache --data worn
says err 'worn/shards/00000.atb: offset'
rm -r worn
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
