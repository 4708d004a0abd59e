#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A pipe in place of each file of a data set and of a cache: no command waits for its other end.
source "$ATOLL_SOURCE/tests/support/training.sh"
cd "$scratch"
make_data 60 20 data
"$ATOLL" cache build data --out cache >/dev/null
tried=0

# never_waits FILE COMMAND...: with a pipe for FILE it tells, or does without
never_waits() {
    local file=$1 status=0
    shift
    mv "$file" kept
    mkfifo "$file"
    timeout 30 "$ATOLL" "$@" >out 2>err || status=$?
    rm "$file"
    mv kept "$file"
    [[ $status == 0 || $status == 3 ]] || die "$file, atoll $*: exit $status: $(cat err)"
    [[ $status == 0 ]] || grep -q "$file" err out || die "$file is not named: $(cat err)"
    tried=$((tried + 1))
}

for file in data/catalog.db data/images.idx data/shards/*; do
    never_waits $file dataset verify data
    never_waits $file sql data "SELECT count(*) FROM images"
    never_waits $file dataset report data --out report.html
    never_waits $file cache build data --out other
    rm -rf other
done
for file in cache/*.atc cache/meta.json; do
    never_waits $file cache info cache
    never_waits $file cache verify cache
    never_waits $file bench loader --cache cache --steps 1
done
"$ATOLL" dataset verify data >/dev/null
"$ATOLL" cache verify cache >/dev/null
echo "a pipe in place of a file, $tried times: never waited for"
