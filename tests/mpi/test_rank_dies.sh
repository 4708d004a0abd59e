#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=300 serial
# A rank that is killed, or that fails alone, ends all others soon: nobody waits for it for ever. What it
# said is told once, and the training can be resumed.
source "$ATOLL_SOURCE/tests/support/training.sh"
cd "$scratch"
make_data 2000 100 data --val-fraction 0.1
train=("$ATOLL" train --data data --model lenet --quiet -s batch=16 -s threads=1 -s log.every=1)

# kill -9 of each rank in turn
for victim in 0 1 2; do
    rm -rf run
    "${mpirun[@]}" -np 3 "${train[@]}" --out run -s epochs=1000 >log 2>&1 &
    pid=$!
    until [ "$(steps run 2>/dev/null | wc -l)" -ge 60 ]; do kill -0 $pid || die "$(cat log)"; sleep 0.05; done
    mapfile -t children < <(pgrep -P $pid)
    [ ${#children[@]} = 3 ] || die "mpirun has ${#children[@]} children"
    kill -KILL "${children[victim]}"
    status=0
    for each in $pid "${children[@]}"; do
        timeout 30 tail --pid="$each" -f /dev/null || die "rank $victim was killed, process $each waits"
    done
    wait $pid || status=$?
    [ $status != 0 ] || die "rank $victim was killed, exit status 0"
done
status=0
"${mpirun[@]}" -np 3 "${train[@]}" --out run --resume -s epochs=3 >log 2>&1 || status=$?
[ $status = 0 ] || die "resumed: exit status $status, $(cat log)"
echo "3 killed ranks ended all others; the training went on"

# a batch of the cache that is damaged behind its header, and whose images are, too: only the ranks that meet it fail
"$ATOLL" cache build data --size 28x28 --out cache --quiet >/dev/null
big=$(ls -S cache | head -n 1)
size=$(stat -c %s "cache/$big")
printf 'damaged here' | dd of="cache/$big" bs=1 seek=$((size * 3 / 10)) conv=notrunc status=none
shard=data/shards/00000.atb
dd if=/dev/zero of="$shard" bs=1 seek=8192 count=$(($(stat -c %s "$shard") - 16384)) conv=notrunc status=none
status=0
timeout 60 "${mpirun[@]}" -np 3 \
    "${train[@]}" --out failed -s epochs=2 -s cache=cache >log 2>&1 || status=$?
[ $status = 3 ] || die "a damaged cache: exit status $status, $(cat log)"
[ "$(grep -c '^atoll train: ' log)" = 1 ] || die "told more than once: $(cat log)"
grep -q "cache/" log || die "the message does not name the cache: $(cat log)"
grep '^atoll train: ' log

# what all ranks see alike is told once, also where rank 0 is the last to come out of MPI and mpirun kills it there
cat >late.c <<'end'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

int MPI_Finalize(void)
{
    int (*finalize)(void) = (int (*)(void))dlsym(RTLD_NEXT, "MPI_Finalize");
    int code = finalize();
    for (int seconds = 0; seconds < 4 && getenv("OMPI_COMM_WORLD_RANK")[0] == '0'; seconds++)
        while (sleep(1) > 0) {
        }
    return code;
}
end
cc -shared -fPIC -o late.so late.c -ldl
late=(env "LD_PRELOAD=$scratch/late.so" "ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0:verify_asan_link_order=0")
status=0
"${mpirun[@]}" -np 3 "${late[@]}" "${train[@]}" --out late -s epochs=2 -s cache=cache >log 2>&1 || status=$?
[ $status = 3 ] && [ "$(grep -c '^atoll train: ' log)" = 1 ] || die "rank 0 is late: status $status, $(cat log)"
# and a diverging loss
status=0
"${mpirun[@]}" -np 3 "${train[@]}" --out diverged -s lr=900 -s epochs=5 >log 2>&1 || status=$?
[ $status = 1 ] || die "diverging: exit status $status, $(cat log)"
[ "$(grep -c '^atoll train: ' log)" = 1 ] && grep -q 'lower lr' log || die "$(cat log)"
