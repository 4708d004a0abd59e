#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# atoll dataset, ingest and sql: the 60,000 CIFAR-10 JPEGs end to end, interruption, and exit statuses.
# ctest: timeout=300
source "$ATOLL_SOURCE/tests/support/cli.sh"

# ---- usage and bad input
expect 0 "$ATOLL" dataset list
for name in fashion-mnist mnist cifar10 cifar100; do says out "^$name "; done
expect 0 "$ATOLL" dataset list --json
says out '"datasets":\[{"name":"fashion-mnist"'
expect 2 "$ATOLL" dataset get cifar10
expect 2 "$ATOLL" dataset fetch cifar10 --out src
expect 3 "$ATOLL" dataset get cifar01 --out src
says err 'did you mean "cifar10"'
expect 3 "$ATOLL" dataset get cifar10 --from nowhere.tar.gz --out src
says err 'nowhere.tar.gz'
expect 2 "$ATOLL" ingest photos
expect 2 "$ATOLL" ingest photos --out data --val-fraction 2
expect 3 "$ATOLL" ingest photos --out data
says err 'photos'
mkdir -p photos/cat
echo 'no picture' >photos/cat/README.txt
expect 3 "$ATOLL" ingest photos --out data
says err 'no image among its 1 files'
[ "$(ls)" = "$(printf 'err\nout\nphotos')" ] || fail "left behind: $(ls)"
expect 3 "$ATOLL" sql photos 'SELECT 1'
expect 3 "$ATOLL" sql nothing 'SELECT 1'

# ---- a data set of real JPEGs
tar=$ATOLL_SHARED/datasets/cifar10-jpeg.tar.gz
if [ ! -e "$tar" ]; then
    echo "skipped the rest of data: no $tar"
    exit 77
fi
expect 0 "$ATOLL" dataset get cifar10 --from "$tar" --out src
cmp -s "$tar" src/cifar10-jpeg.tar.gz || fail 'the copy differs'
says src/dataset.yaml '^name: cifar10$'
expect 0 "$ATOLL" dataset get cifar10 --from "$tar" --out src # again
expect 3 "$ATOLL" dataset get mnist --out src
says err 'src holds cifar10 from'

expect 0 "$ATOLL" ingest src --out data --val-fraction 0.1 --json
says out '"images":60000,"errors":0,"bytes":55250913'
expect 3 "$ATOLL" ingest src --out data
says err 'data exists already'
expect 0 "$ATOLL" sql data 'SELECT split, count(*) AS n FROM images GROUP BY split ORDER BY n' --csv
[ "$(cat out)" = "$(printf 'split,n\nval,5000\ntest,10000\ntrain,45000')" ] || fail "$(cat out)"
expect 0 "$ATOLL" sql data 'SELECT name, 1 AS a, 2 AS a, NULL AS b FROM classes WHERE label = 9' --json
says out '{"columns":\["name","a","a_2","b"\],"rows":\[{"name":"truck","a":1,"a_2":2,"b":null}\]}'
expect 0 "$ATOLL" sql data 'SELECT * FROM errors'
says out '^path  reason  detail$'
expect 3 "$ATOLL" sql data 'SELECT nothing FROM images'
says err 'nothing'
expect 3 "$ATOLL" sql data 'SELECT 1; SELECT 2'
expect 2 "$ATOLL" sql data 'DELETE FROM images'
expect 2 "$ATOLL" sql data
expect 0 "$ATOLL" sql data 'SELECT count(*) FROM images' --csv
says out '^60000$'

# ---- one bad picture among 10,000
mkdir unpacked
tar xzf "$tar" -C unpacked test
head -c 400 unpacked/test/cat/0000.jpg >short && mv short unpacked/test/cat/0000.jpg
expect 0 "$ATOLL" ingest unpacked --out ten-thousand --quiet --json
says out '"images":9999,"errors":1'
[ ! -s err ] || fail "not quiet: $(cat err)"
expect 0 "$ATOLL" sql ten-thousand 'SELECT path, reason FROM errors' --csv
says out '^test/cat/0000.jpg,truncated$'

# ---- Ctrl-C, then --resume: the same data set
stopped=0
for delay in 0.3 0.6 0.9 1.2 1.5 2; do
    "$ATOLL" ingest src --out again --val-fraction 0.1 --resume >out 2>err &
    ingest=$!
    sleep "$delay"
    kill -INT "$ingest" 2>/dev/null
    wait "$ingest"
    status=$?
    [ $status -eq 0 ] && break
    [ $status -eq 4 ] || fail "exit $status after an interrupt: $(cat err)"
    says err '--resume'
    [ ! -e again ] || fail 'half-written under its final name'
    stopped=$((stopped + 1))
done
expect 0 "$ATOLL" ingest src --out again --val-fraction 0.1 --resume --json
says out '"images":60000,"errors":0'
hash="SELECT value FROM meta WHERE key = 'dataset_hash'"
[ "$("$ATOLL" sql data "$hash" --csv)" = "$("$ATOLL" sql again "$hash" --csv)" ] || fail 'another data set'
cmp -s data/shards/00000.atb again/shards/00000.atb || fail 'other shard bytes'
echo "interrupted $stopped times"
[ $stopped -ge 1 ] || fail 'never interrupted'
