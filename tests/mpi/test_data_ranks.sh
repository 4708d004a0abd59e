#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=300
# Commands without ranks of their own, started by mpirun: `atoll ingest` is done once and told once, however the
# processes meet; `atoll run` and `tune` are refused. And caches without a folder that can be written.
source "$ATOLL_SOURCE/tests/support/training.sh"
cd "$scratch"
mkdir photos
take train 300 photos
take t10k 60 photos
"$ATOLL" ingest photos --out alone --quiet >/dev/null

rows() { "$ATOLL" sql "$1" 'SELECT path, split, label, hash FROM images ORDER BY 1' --csv; }

rounds=0
for ranks in 2 3 4 8; do
    for again in first second; do # the second time all of them find it
        "${mpirun[@]}" -np $ranks "$ATOLL" ingest photos --out many$ranks --quiet --json >out.json
        [ "$(grep -c '"images"' out.json || true)" = "$([ $again = first ] && echo 1 || echo 0)" ] ||
            die "$ranks processes, the $again time, said: $(cat out.json)"
        cmp <(rows alone) <(rows many$ranks) || die "$ranks processes made another data set"
        rounds=$((rounds + 1))
    done
done
left=$(find . -name '*.lock' -o -name '*.partial')
[ -z "$left" ] || die "left behind: $left"

"${mpirun[@]}" -np 3 "$ATOLL" cache build alone --size 8x8 --out cached --quiet --json >out.json
[ "$(grep -c '"dataset_hash"' out.json)" = 1 ] || die "three builders of one cache said: $(cat out.json)"
"$ATOLL" cache verify cached >/dev/null

# two jobs of two ranks at once: the cache is filled by one of the four, the others wait
jobs=()
for job in one two; do
    "${mpirun[@]}" -np 2 "$ATOLL" train --data alone --model lenet -s epochs=1 -s batch=30 -s threads=1 -s size=64x64 \
        --out $job >/dev/null 2>$job.log &
    jobs+=($!)
done
wait "${jobs[0]}" && wait "${jobs[1]}" || die "two jobs at once: $(cat one.log two.log)"
[ "$(cat one.log two.log | grep -c '^cache.*done')" = 1 ] || die "filled more than once: $(cat one.log two.log)"
[ "$(ls caches | grep -c 64x64)" = 1 ] || die "$(ls caches)"
same_model one two

status=0
"${mpirun[@]}" -np 3 "$ATOLL" ingest nowhere --out none 2>message || status=$?
[ $status = 3 ] && grep -q 'nowhere' message && [ ! -e none ] || die "no source: $status, $(cat message)"

# each with a place of its own: as many data sets
"${mpirun[@]}" -np 3 bash -c "\"$ATOLL\" ingest photos --out own\$OMPI_COMM_WORLD_RANK --quiet --json" >out.json
[ "$(grep -c '"images"' out.json)" = 3 ] || die "three ingests said: $(cat out.json)"

printf 'data: {source: photos}\nmodel: lenet\n' >job.yaml
for command in "run job.yaml" "tune job.yaml"; do
    status=0
    # shellcheck disable=SC2086
    "${mpirun[@]}" -np 2 "$ATOLL" $command --out job 2>message || status=$?
    [ $status = 2 ] && grep -q 'run it once, without mpirun' message && [ ! -e job ] ||
        die "$command under mpirun: $status, $(cat message)"
done

status=0
ATOLL_CACHE_DIR=/proc/none "$ATOLL" train --data alone --model lenet --out run --quiet 2>message || status=$?
[ $status = 3 ] && grep -q 'ATOLL_CACHE_DIR names another folder' message && [ ! -e run ] ||
    die "no folder for caches: $status, $(cat message)"
echo "$rounds ingests of several processes"
