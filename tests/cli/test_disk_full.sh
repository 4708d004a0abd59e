#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A disk that is full while a model file is written: an error that says so, and nothing under the final name.
set -u
[ "$(id -u)" = 0 ] || { echo "skipped: only root mounts a small disk"; exit 77; }
dir=$(mktemp -d)
trap 'umount "$dir/disk" 2>/dev/null; rm -rf "$dir"' EXIT
mkdir "$dir/disk"
mount -t tmpfs -o size=4k tmpfs "$dir/disk" 2>/dev/null || { echo "skipped: no tmpfs can be mounted here"; exit 77; }
umount "$dir/disk"

fail() {
    echo "FAILED: $*"
    cat "$dir/err"
    exit 1
}

cases=0
for kib in 4 16 64 128 200 1000 4000 8000; do
    mount -t tmpfs -o size=${kib}k tmpfs "$dir/disk" || fail "no disk of $kib KiB"
    model=lenet
    [ $kib -gt 200 ] && model=airnet
    "$ATOLL" model new $model --size 32x32 --channels 3 --classes 10 --out "$dir/disk/m.h5" >"$dir/out" 2>"$dir/err"
    status=$?
    if [ -e "$dir/disk/m.h5" ]; then
        [ $status = 0 ] || fail "$kib KiB: exit $status, but a file"
        "$ATOLL" model describe "$dir/disk/m.h5" >"$dir/out" 2>"$dir/err" || fail "$kib KiB: the file is not whole"
    else
        [ $status = 1 ] || fail "$kib KiB: exit $status"
        grep -q "No space left on device" "$dir/err" || fail "$kib KiB: not said"
        [ "$(wc -l <"$dir/err")" = 1 ] || fail "$kib KiB: more than a line"
        [ -z "$(ls -A "$dir/disk")" ] || fail "$kib KiB: $(ls -A "$dir/disk") is left"
        cases=$((cases + 1))
    fi
    umount "$dir/disk"
done
[ $cases -ge 5 ] || fail "only $cases disks were full"
echo "$cases full disks"
