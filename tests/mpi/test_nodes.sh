#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=600 serial
# The tests of communication again on pretended nodes: nodes of one rank (a plain ring), of two, uneven
# ones, and other numbers of ranks than ctest's own run has; and one process alone.
export ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0:fast_unwind_on_malloc=1" # the programs' own tests look for leaks
set -eu
cases=0
for program in comm allreduce reducer; do
    for layout in 4x1 4x2 4x3 6x2 5x2 2x1; do
        ATOLL_RANKS_PER_NODE=${layout#*x} OMPI_MCA_rmaps_base_oversubscribe=1 \
            timeout 100 mpirun --oversubscribe -np "${layout%x*}" "tests/mpi_test_$program" >/dev/null ||
            { echo "test_$program failed on ${layout%x*} ranks in nodes of ${layout#*x}"; exit 1; }
        cases=$((cases + 1))
    done
    "tests/mpi_test_$program" >/dev/null || { echo "test_$program failed alone"; exit 1; }
done
echo "$cases layouts and programs"
