#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=240 serial
# A rank that fails or dies ends all of them; a rank that others wait for is named; who is not under a
# launcher, though in an allocation, runs alone.
export ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0:fast_unwind_on_malloc=1" # the programs' own tests look for leaks
set -u
program=tests/mpi_test_comm
run() { # TROUBLE RANKS_PER_NODE: output in $said, exit status in $status
    said=$(ATOLL_STALL_SECONDS=0.2 ATOLL_RANKS_PER_NODE=$2 \
        timeout 60 mpirun --oversubscribe -np 4 "$program" "$1" 2>&1)
    status=$?
}
fail() {
    echo "failed: $1"
    echo "status $status, it said:"
    echo "$said"
    exit 1
}
for nodes in 4 1; do
    run abort $nodes
    [ $status -eq 7 ] || fail "an aborted rank ends all (nodes of $nodes)"
    run die $nodes
    [ $status -eq 137 ] || fail "a killed rank ends all (nodes of $nodes)"
done
for trouble in stall stall-step stall-barrier; do
    run $trouble 4
    [ $status -eq 0 ] || fail "$trouble ends well"
    echo "$said" | grep -Eq 'rank 0 on .* has waited [0-9.]+ s in .* for rank 1 on ' ||
        fail "$trouble names rank 1"
done
run stall 1
[ $status -eq 0 ] || fail "stall over nodes ends well"
echo "$said" | grep -Eq 'rank 2 on .* in allreduce \(ring, receiving\) for rank 1 on ' ||
    fail "stall over nodes names the neighbour"
said=$(SLURM_JOB_ID=1 SLURM_NTASKS=4 SLURM_PROCID=0 "$program" alone 2>&1)
status=$?
[ $status -eq 0 ] || fail "a shell in an allocation runs alone"
said=$(bash -c "SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=2 SLURM_TASK_PID=\$\$ exec $program alone" 2>&1)
status=$?
[ $status -eq 2 ] && [[ $said == *"srun --mpi=pmix"* ]] || fail "srun without PMIx is refused"
echo "trouble: all ends named"
