#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=300
# Commands without ranks of their own, started by mpirun: `atoll ingest` is done once, by all, and told once, however the
# processes meet; `atoll run` and `tune` are refused. And caches without a folder that can be written.
source "$ATOLL_SOURCE/tests/support/training.sh"
cd "$scratch"
mkdir photos
take train 300 photos
take t10k 60 photos
"$ATOLL" ingest photos --out alone --quiet >/dev/null

files() { (cd "$1" && find . -type f | sort | xargs sha256sum); }

rounds=0
for ranks in 2 3 4 8; do
    for again in first second; do # the second time all of them find it
        "${mpirun[@]}" -np $ranks "$ATOLL" ingest photos --out many$ranks --quiet --json >out.json
        [ "$(grep -c '"images"' out.json || true)" = "$([ $again = first ] && echo 1 || echo 0)" ] ||
            die "$ranks processes, the $again time, said: $(cat out.json)"
        cmp <(files alone) <(files many$ranks) || die "$ranks processes made another data set"
        rounds=$((rounds + 1))
    done
done
left=$(find . -name '*.lock' -o -name '*.partial' -o -name '*.shared')
[ -z "$left" ] || die "left behind: $left"

# JPEGs: each rank decodes a part, and whoever is killed, the same again goes on
jpegs=$ATOLL_SHARED/datasets/cifar10-jpeg.tar.gz
if [ -e "$jpegs" ]; then
    mkdir cifar
    tar xzf "$jpegs" -C cifar --wildcards '*test/*'
    "$ATOLL" ingest cifar --out one --quiet >/dev/null
    for ((i = 0; i < 20; i++)); do
        rm -rf three
        "${mpirun[@]}" -np 3 "$ATOLL" ingest cifar --out three --jobs 1 --quiet --json >out.json
        cmp <(files one) <(files three) || die "three ranks made another data set of JPEGs"
        shared=$(sed -n 's/.*"shared": *\([0-9]*\).*/\1/p' out.json)
        [ "$shared" = 0 ] || break # a rank that starts late decodes in vain
    done
    [ "$shared" -gt 0 ] || die "no rank decoded for another in $i ingests"
    # the ranks of this job: their parent is the shell's child
    ranks_of() { pgrep -P "$(pgrep -P "$1" -f mpirun || echo "$1")" -f 'ingest cifar' || true; }
    killed=0
    for ((i = 0; i < 40 && killed < 5; i++)); do
        rm -rf three
        "${mpirun[@]}" -np 3 "$ATOLL" ingest cifar --out three --jobs 1 --quiet >/dev/null 2>&1 &
        job=$!
        until [ "$(ranks_of $job | wc -l)" -ge 3 ]; do kill -0 $job 2>/dev/null || break; sleep 0.01; done
        sleep 0.$((i % 8))
        rank=$(ranks_of $job | sed -n "$((i % 3 + 1))p")
        [ -z "$rank" ] || kill -9 "$rank" 2>/dev/null || true
        if wait $job; then :; else killed=$((killed + 1)); fi
        "${mpirun[@]}" -np 2 "$ATOLL" ingest cifar --out three --jobs 1 --quiet --resume >/dev/null
        cmp <(files one) <(files three) || die "killed and resumed, ranks made another data set"
        [ -z "$(find . -name '*.lock' -o -name '*.partial' -o -name '*.shared')" ] || die "left behind: $(ls)"
    done
    [ $killed -gt 0 ] || die "no job was killed"
    echo "$shared of 10000 JPEGs decoded by other ranks; $killed jobs killed and resumed to the same bytes"
else
    echo "skipped: JPEGs of several ranks, for there is no $jpegs"
fi

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
