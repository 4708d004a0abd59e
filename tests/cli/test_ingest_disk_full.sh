#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=600
# A disk that is full while an ingest writes: exit 1 and the remedy in one line; where there is room again, --resume goes on
# to the same bytes as on a disk that had room. The same where an append runs out of it: readers find the old data set.
source "$ATOLL_SOURCE/tests/support/cli.sh" || exit 1
[ "$(id -u)" = 0 ] || { echo "skipped: only root mounts a small disk"; exit 77; }
mkdir disk
mount -t tmpfs -o size=4k tmpfs disk 2>/dev/null || { echo "skipped: no tmpfs can be mounted here"; exit 77; }
trap 'cd /; umount "$dir/disk"; rm -rf "$dir"' EXIT
fashion=/usr/share/datasets/fashion-mnist
[ -e $fashion/t10k-images-idx3-ubyte.gz ] || { echo "skipped: dataset-fashion-mnist is not installed"; exit 77; }
mkdir idx more
ln -s $fashion/t10k-* idx # 10,000 pictures
# one pixel each
png() { echo "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nG$1AElFTkSuQmCC" | base64 -d; }
mkdir more/Shirt
png P4z8AAAAMBAQDJ/pLvAAAA >more/Shirt/red.png
png Ng+M8AAAICAQB7CYF4AAAA >more/Shirt/green.png

files() { (cd "$1" && find . -type f | sort | xargs sha256sum); }
expect 0 "$ATOLL" ingest idx --out whole --quiet --allow-missing-classes
need=$(du -sk whole | cut -f1)

full=0
for part in 1 10 35 60 80 90 97 300; do
    mount -o remount,size=$((need * part / 100 + 4))k disk
    "$ATOLL" ingest idx --out disk/data --quiet --allow-missing-classes >out 2>err
    status=$?
    if [ $status != 0 ]; then
        [ $status = 1 ] || fail "$part %: exit $status: $(cat err)"
        [ "$(wc -l <err)" = 1 ] || fail "$part %: $(cat err)"
        grep -Eq 'No space left on device|disk is full' err || fail "$part %: not said: $(cat err)"
        [ ! -e disk/data ] || fail "$part %: a data set"
        if [ -e disk/data.partial ]; then says err '--resume goes on there'; fi
        full=$((full + 1))
        mount -o remount,size=$((need * 6))k disk
        expect 0 "$ATOLL" ingest idx --out disk/data --quiet --allow-missing-classes --resume
    elif [ ! -e disk/data/images.idx ]; then # done without, and said where errors are not all that is wanted
        rm -r disk/data
        expect 0 "$ATOLL" ingest idx --out disk/data --allow-missing-classes
        says err 'will open slowly'
        rm -r disk/data
        continue
    fi
    cmp <(files whole) <(files disk/data) || fail "$part %: other bytes"
    [ "$(ls -A disk)" = data ] || fail "$part %: $(ls -A disk) is left"
    rm -r disk/data
done
[ $full -ge 5 ] || fail "only $full disks were full"

# ---- appending
expect 0 "$ATOLL" ingest more --append --out whole --quiet --allow-missing-classes
appends=0
for ((room = 16; room < need; room *= 3)); do
    mount -o remount,size=$((need * 6))k disk
    expect 0 "$ATOLL" ingest idx --out disk/data --quiet --allow-missing-classes
    old=$(files disk/data)
    mount -o remount,size=$(($(du -sk disk | cut -f1) + room))k disk
    "$ATOLL" ingest more --append --out disk/data --quiet --allow-missing-classes >out 2>err
    status=$?
    if [ $status != 0 ]; then
        [ $status = 1 ] && grep -Eq 'No space left on device|disk is full' err || fail "$room KiB: exit $status: $(cat err)"
        appends=$((appends + 1))
        expect 0 "$ATOLL" sql disk/data 'SELECT count(*) FROM images' --csv
        says out '^10000$'
        grep -qvF "$old" <(files disk/data) && [ "$old" != "$(files disk/data | grep -F "$old")" ] && fail "changed"
        mount -o remount,size=$((need * 6))k disk
        expect 0 "$ATOLL" ingest more --append --out disk/data --quiet --allow-missing-classes --resume
    fi
    [ -e disk/data/images.idx ] && { cmp <(files whole) <(files disk/data) || fail "$room KiB: other bytes"; }
    rm -r disk/data
done
[ $appends -ge 3 ] || fail "only $appends appends ran out of room"
echo "$full full disks, $appends more while appending"
