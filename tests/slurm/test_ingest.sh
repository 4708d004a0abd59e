#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=300 serial
# `srun --mpi=pmix -n 2 atoll ingest` on a real slurmctld and slurmd: the tasks share the work, one of them tells of it,
# and one data set comes out, the same bytes as of a single process.
set -euo pipefail
source "$ATOLL_SOURCE/tests/support/slurm.sh"
need_slurm
jpegs=$ATOLL_SHARED/datasets/cifar10-jpeg.tar.gz
[ -e "$jpegs" ] || { echo "skipped: there is no $jpegs"; exit 77; }
work=$(mktemp -d)
trap 'slurm_stop "$work/slurm"; rm -rf "$work"' EXIT
slurm_start "$work/slurm"
cd "$work"

die() {
    echo "FAILED: $*" >&2
    tail slurm/log/* >&2
    exit 1
}
files() { (cd "$1" && find . -type f | sort | xargs sha256sum); }

mkdir photos
tar xzf "$jpegs" -C photos --wildcards '*test/*'
"$ATOLL" ingest photos --out alone --quiet >/dev/null
for ((tries = 1; tries <= 20; tries++)); do
    rm -rf two
    srun --mpi=pmix -n 2 "$ATOLL" ingest photos --out two --jobs 1 --quiet --json >told || die "$(cat told)"
    [ "$(grep -c '"images": *10000' told)" = 1 ] && [ "$(wc -l <told)" = 1 ] || die "the tasks said: $(cat told)"
    cmp <(files alone) <(files two) || die "two tasks made another data set"
    left=$(find . -name '*.lock' -o -name '*.partial' -o -name '*.shared')
    [ -z "$left" ] || die "left behind: $left"
    shared=$(sed -n 's/.*"shared": *\([0-9]*\).*/\1/p' told)
    [ "$shared" = 0 ] || break # a task that starts late decodes in vain
done
[ "$shared" -gt 0 ] || die "no task decoded for the other in 20 ingests"
srun --mpi=pmix -n 2 "$ATOLL" ingest photos --out two --quiet --json --resume >told || die "again: $(cat told)"
[ ! -s told ] || die "the data set was there, and the tasks said: $(cat told)"
cmp <(files alone) <(files two) || die "a second time changed it"
echo "10000 JPEGs, $shared of them decoded by the second task: the bytes of a single process's data set"
