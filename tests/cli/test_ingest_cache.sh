#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ingest --size also fills the cache that training at that size reads: the same bytes as decoding makes, found by training
# without filling it again; with several processes, after a kill, and where the disk of the caches is full.
source "$ATOLL_SOURCE/tests/support/cli.sh" || exit 1
fashion=/usr/share/datasets/fashion-mnist
[ -e $fashion/train-images-idx3-ubyte.gz ] || { echo "skipped: dataset-fashion-mnist is not installed"; exit 77; }
mkdir idx
ln -s $fashion/*-ubyte.gz idx # 70,000 pictures
export ATOLL_CACHE_DIR=$dir/caches
one() { find "$1" -mindepth 1 -maxdepth 1 -type d; }
same_as_decoded() { # DATASET FIT
    cache=$(one caches)
    expect 0 "$ATOLL" cache build "$1" --size 24x20 --fit "$2" --out decoded --quiet
    for file in train.atc val.atc test.atc meta.json; do cmp "$cache/$file" decoded/$file || fail "$1: $file"; done
    rm -r decoded
}

expect 0 "$ATOLL" ingest idx --out whole --val-fraction 0.1 --size 24x20 --json
says out "\"cache\":\"$dir/$(one caches)\""
same_as_decoded whole stretch
inode=$(stat -c %i "$cache/train.atc")
expect 0 "$ATOLL" train --data whole --model lenet --size 24x20 --epochs 1 --train_limit 256 --out run --quiet
[ "$(one caches)" = "$cache" ] && [ "$(stat -c %i "$cache/train.atc")" = "$inode" ] || fail "training made another cache"
[ "$(ls -A caches | grep -vc "^convolutions-")" = 2 ] || fail "$(ls -A caches) is left"
rm -r caches

# kills: what was fitted before is decoded again
killed=0
for after in 0.05 0.15 0.25 0.35 0.45; do
    rm -rf again again.partial caches
    timeout -s KILL $after "$ATOLL" ingest idx --out again --size 24x20 --fit crop --quiet && break
    killed=$((killed + 1))
    expect 0 "$ATOLL" ingest idx --out again --size 24x20 --fit crop --quiet --resume
    same_as_decoded again crop
done
echo "$killed kills"
[ $killed -ge 1 ] || fail "no kill"

# several processes: one makes the data set, all find the cache
rm -rf caches
expect 0 mpirun --allow-run-as-root --oversubscribe -n 3 "$ATOLL" ingest idx --out ranks --size 24x20 --quiet
same_as_decoded ranks stretch

# the size of training that tells none, and what is no size
rm -r caches
expect 0 "$ATOLL" ingest idx --out auto --size auto --quiet
case $(one caches) in *-28x28x1-*) ;; *) fail "auto: $(one caches)" ;; esac
expect 2 "$ATOLL" ingest idx --out bad --size 24
says err 'HEIGHTxWIDTH'
expect 2 "$ATOLL" ingest idx --out bad --size 99999x4
says err 'is over 16384'
expect 2 "$ATOLL" ingest idx --out bad --fit crop
says err 'go with --size'
[ ! -e bad ] && [ ! -e bad.partial ] || fail "a data set"

[ "$(id -u)" = 0 ] || exit 0
mkdir disk
mount -t tmpfs -o size=48m tmpfs disk 2>/dev/null || exit 0
trap 'cd /; umount "$dir/disk"; rm -rf "$dir"' EXIT
# room for the cache, but not for the pictures beside it
rm -rf caches
ATOLL_CACHE_DIR=$dir/disk expect 0 "$ATOLL" ingest idx --out tight --size 24x20
says err 'it decodes them again'
mkdir caches && cp -r "$(one disk)" caches
same_as_decoded tight stretch
rm -rf disk/* && mount -o remount,size=2m disk
ATOLL_CACHE_DIR=$dir/disk expect 1 "$ATOLL" ingest idx --out full --size 24x20
says err 'full is made, but not its cache'
says err 'it decodes them again'
expect 0 "$ATOLL" dataset verify full --quiet
[ "$(df --output=used disk | tail -1)" -lt 64 ] || fail "the full disk stays full: $(ls -A disk)"
