#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# atoll ingest with label files and --append, as a user meets them: what is printed, and exit statuses.
# ctest: timeout=60
source "$ATOLL_SOURCE/tests/support/cli.sh"
# one pixel each
png() { echo "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nG$1AElFTkSuQmCC" | base64 -d; }
mkdir -p photos more
png P4z8AAAAMBAQDJ/pLvAAAA >photos/red.png
png Ng+M8AAAICAQB7CYF4AAAA >photos/green.png
png NgYPgPAAEDAQAIicLsAAAA >more/blue.png
cp photos/red.png more/copy.png

# ---- label files
printf 'path,label\nred.png,warm\ngreen.png,cold\n' >labels.csv
expect 0 "$ATOLL" ingest photos --labels labels.csv --out data --json
says out '"images":2,"errors":0'
expect 3 "$ATOLL" ingest photos --labels none.csv --out other
says err 'none.csv'
printf 'path,label\nred.png,warm\nred.png,cold\n' >twice.csv
expect 3 "$ATOLL" ingest photos --labels twice.csv --out other
says err 'twice.csv:3: red.png comes again, it is in line 2'
printf '{"path": "red.png", "label": "warm"}\n{"path": "green.png", "lable": "cold"}\n' >typo.jsonl
expect 3 "$ATOLL" ingest photos --labels typo.jsonl --out other
says err 'typo.jsonl:2: .*did you mean "label"'
[ ! -e other ] && [ ! -e other.partial ] || fail 'left behind'

# ---- more images
printf 'path,label\nblue.png,deep\ncopy.png,warm\ngone.png,warm\n' >more.csv
expect 0 "$ATOLL" ingest more --labels more.csv --out data --append
says out '^new: 2 images$'
says out '^1 file set aside'
expect 0 "$ATOLL" sql data 'SELECT name FROM classes ORDER BY label' --csv
[ "$(tr '\n' ' ' <out)" = 'name cold warm deep ' ] || fail "$(cat out)"
expect 0 "$ATOLL" sql data 'SELECT count(*), count(DISTINCT hash), (SELECT count(*) FROM blobs) FROM images' --csv
says out '^4,3,3$'
expect 0 "$ATOLL" sql data 'SELECT path, detail FROM errors' --csv
says out '^gone.png,more.csv:4: there is no such file$'
expect 0 "$ATOLL" ingest more --labels more.csv --out data --append --json
says out '"images":4,"errors":1,.*"added":0'
cp photos/green.png more/blue.png # another picture under a path that is there
expect 3 "$ATOLL" ingest more --labels more.csv --out data --append
says err 'blue.png: the data set has another picture under this path'
expect 3 "$ATOLL" ingest more --out nothing --append
says err 'nothing to append to'
[ ! -e nothing ] || fail 'made for nothing'
ln -s gone link
expect 3 "$ATOLL" ingest photos --labels labels.csv --out link
says err 'link is a link to nothing'
[ ! -e link.partial ] || fail 'work for nothing'

# ---- what is no file in a tar
mkdir -p odd/warm odd/cold odd/.git/cold
cp photos/red.png odd/warm/red.png && cp photos/green.png odd/cold/green.png && cp more/blue.png odd/.git/cold/blue.png
ln odd/warm/red.png odd/warm/same.png && ln -s red.png odd/warm/soft.png && mkfifo odd/warm/pipe.png
tar -C odd --sort=name -cf odd.tar warm cold
expect 0 "$ATOLL" ingest odd.tar --out from-tar
expect 0 "$ATOLL" sql from-tar 'SELECT path, reason, detail FROM errors' --csv
[ "$(tail -n +2 out)" = 'warm/pipe.png,unreadable,"a pipe or a device, not a file"
warm/same.png,unsupported,a link
warm/soft.png,unsupported,a link' ] || fail "$(cat out)"
expect 0 "$ATOLL" ingest odd --out from-folder --json # links are followed there, hidden folders are passed over
says out '"images":4,"errors":1,'

# ---- limits
expect 2 "$ATOLL" ingest photos --labels labels.csv --out small --max-pixels 0
expect 3 "$ATOLL" ingest photos --labels labels.csv --out small --max-bytes 20
says err 'too-large'
echo 'labels, appending and limits as told'

# ---- a folder around the folders of classes; with an image beside them it is the class, and that is said
mkdir -p around/all/warm around/all/cold
cp photos/red.png around/all/warm
cp photos/green.png around/all/cold
tar cf around.tar -C around all
expect 0 "$ATOLL" ingest around.tar --out around-data
! grep -q 'one class' err || fail "$(cat err)"
cp more/blue.png around/all
tar cf beside.tar -C around all
expect 0 "$ATOLL" ingest beside.tar --out beside-data
says err 'every image is of one class.*"\(cold" and "warm\|warm" and "cold\)"'
