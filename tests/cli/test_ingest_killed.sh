#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=600
# atoll ingest killed with SIGKILL, again and again, of JPEGs in a folder, a tar and a zip; each ends in the bytes of an
# undisturbed one. unit.kills kills at every call; here it is the real program, with its usual commits and processes.
source "$ATOLL_SOURCE/tests/support/cli.sh" || exit 1
jpegs=$ATOLL_SHARED/datasets/cifar10-jpeg.tar.gz
[ -e "$jpegs" ] || { echo "skipped: there is no $jpegs"; exit 77; }
mkdir photos
tar xzf "$jpegs" -C photos --wildcards 'test/[a-d]*'
tar cf photos.tar -C photos .
python3 -m zipfile -c photos.zip photos/test
RANDOM=11

files() { (cd "$1" && find . -type f | sort | xargs sha256sum); }

kills=0
for source in photos photos.tar photos.zip; do
    started=$(date +%s%N)
    expect 0 "$ATOLL" ingest $source --out whole --quiet
    milliseconds=$((($(date +%s%N) - started) / 1000000))
    files whole >wanted
    for ((times = 0, i = 0; times < 8 && i < 60; i++)); do
        "$ATOLL" ingest $source --out data --quiet --resume --jobs $((1 + i % 3)) >/dev/null 2>err &
        pid=$!
        sleep "$(printf '0.%03d' $((RANDOM % (milliseconds < 999 ? milliseconds + 1 : 1000))))"
        kill -9 $pid 2>/dev/null
        if wait $pid 2>/dev/null; then
            cmp wanted <(files data) || fail "$source: other bytes"
            rm -r data
        else
            times=$((times + 1))
        fi
    done
    kills=$((kills + times))
    [ -e data ] || expect 0 "$ATOLL" ingest $source --out data --quiet --resume
    cmp wanted <(files data) || fail "$source: other bytes"
    left=$(find . -maxdepth 1 -name 'data?*' -o -maxdepth 1 -name '*.lock')
    [ -z "$left" ] || fail "left behind: $left"
    rm -r data whole
done
[ $kills -ge 12 ] || fail "only $kills kills"

# ---- several at once for one place: one makes it, the others are told so
"$ATOLL" ingest photos --out whole --quiet >/dev/null
files whole >wanted
refused=0
for round in 1 2 3; do
    pids=()
    for ((i = 0; i < 4; i++)); do
        "$ATOLL" ingest photos --out data --quiet >/dev/null 2>err.$i &
        pids+=($!)
    done
    made=0
    for ((i = 0; i < 4; i++)); do
        wait "${pids[i]}"
        case $? in
        0) made=$((made + 1)) ;;
        *) grep -Eq 'another ingest is writing|exists already' err.$i || fail "$(cat err.$i)"; refused=$((refused + 1)) ;;
        esac
    done
    [ $made = 1 ] || fail "$made of 4 made it"
    cmp wanted <(files data) || fail "four at once: other bytes"
    [ ! -e data.partial ] && [ ! -e data.lock ] || fail "left behind"
    rm -r data
done
echo "$kills kills of ingest, $refused ingests beside another: the same bytes"
