#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A disk that is full while a cache is built, by itself or by a training: an error that says what to do, and nothing
# half-written. Caches that nobody uses make room for the next.
# ctest: timeout=300
set -u
[ "$(id -u)" = 0 ] || { echo "skipped: only root mounts a small disk"; exit 77; }
source "$ATOLL_SOURCE/tests/support/cli.sh"
disk=$dir/disk
mkdir "$disk"
trap 'umount "$disk" 2>/dev/null; rm -rf "$dir"' EXIT
mount -t tmpfs -o size=4k tmpfs "$disk" 2>/dev/null || { echo "skipped: no tmpfs can be mounted here"; exit 77; }
umount "$disk"

mkdir src # 600 pictures of 28 x 28 in 3 classes
{ printf '\0\0\010\003\0\0\002\130\0\0\0\034\0\0\0\034'; head -c $((600 * 784)) /dev/zero | tr '\0' 'x'; } \
    >src/train-images-idx3-ubyte
{ printf '\0\0\010\001\0\0\002\130'; for _ in $(seq 200); do printf '\0\001\002'; done; } >src/train-labels-idx1-ubyte
expect 0 "$ATOLL" ingest src --out data --val-fraction 0.1 --quiet

full=0 whole=0
for form in uint8 encoded; do
    expect 0 "$ATOLL" cache build data --form $form --out fits --quiet
    bytes=$(cat fits/*.atc | wc -c)
    # From far too small to enough: what is checked at first, what is reserved, and the last small file.
    for size in 4096 $((bytes / 2)) $(seq $((bytes - 8192)) 12288 $((bytes + 120000))); do
        mount -t tmpfs -o size=$size tmpfs "$disk" || fail "no disk of $size bytes"
        "$ATOLL" cache build data --form $form --out disk/cache --quiet >out 2>err
        status=$?
        if [ -e disk/cache ]; then
            [ $status = 0 ] || fail "$size bytes: exit $status, but a cache"
            expect 0 "$ATOLL" cache verify disk/cache --data data
            whole=$((whole + 1))
        else
            [ $status = 1 ] || fail "$size bytes: exit $status: $(cat err)"
            grep -q "No space left on device\|are free" err || fail "$size bytes: not said: $(cat err)"
            [ "$(ls -A disk)" = .cache.lock ] || fail "$size bytes: $(ls -A disk) is left"
            full=$((full + 1))
        fi
        umount "$disk"
    done
    rm -r fits
done
[ $full -ge 6 ] && [ $whole -ge 6 ] || fail "only $full disks were full, $whole had room"

train() { "$ATOLL" train --data data --model lenet -s epochs=1 -s threads=1 --cache.dir disk --quiet "$@" >out 2>err; }
mount -t tmpfs -o size=300k tmpfs "$disk"
train --out run
[ $? = 1 ] || fail "a training without room for its cache: $(cat err)"
grep -q -- "--cache.dir" err || fail "no remedy: $(cat err)"
[ -z "$(find disk -mindepth 1 ! -name '.*.lock')" ] || fail "left: $(find disk)"
[ ! -e run/model.h5 ] || fail "a model"
umount "$disk"

# Room for one of two: the one that is not in use goes.
mount -t tmpfs -o size=900k tmpfs "$disk"
train --out first || fail "$(cat err)"
train --fit crop -s size=28x27 --out second || fail "$(cat err)"
[ "$(ls disk)" = "$(ls disk | grep crop)" ] || fail "not the older one went: $(ls disk)"
umount "$disk"
echo "$full full disks, $whole with room enough; one cache made room for another"
