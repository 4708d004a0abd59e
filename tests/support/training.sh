# SPDX-License-Identifier: Apache-2.0
# Sourced by tests of `atoll train`: a scratch folder that goes at the end, a small data set of real
# images, runs and comparisons. `steps RUN` prints a line "epoch step loss" for each logged step.
set -euo pipefail
fashion=/usr/share/datasets/fashion-mnist
[ -e $fashion/train-images-idx3-ubyte.gz ] || { echo "skipped: dataset-fashion-mnist is not installed"; exit 77; }
scratch=$(mktemp -d "${TMPDIR:-/tmp}/atoll-test-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
export ATOLL_CACHE_DIR=$scratch/caches OMPI_MCA_btl_vader_single_copy_mechanism=none

die() {
    echo "FAILED: $*" >&2
    exit 1
}

# prints PATTERN COMMAND...: whether the command ends well and its stdout has the pattern; `| grep -q` may close the pipe
# while it still writes, which ends it
prints() {
    local pattern=$1 out
    shift
    out=$("$@") && grep -q -- "$pattern" <<<"$out"
}

u32() { # big-endian
    printf "\\x$(printf %02x $(($1 >> 24 & 255)))\\x$(printf %02x $(($1 >> 16 & 255)))"
    printf "\\x$(printf %02x $(($1 >> 8 & 255)))\\x$(printf %02x $(($1 & 255)))"
}

# take PREFIX COUNT OUT: the first COUNT images of a split of Fashion-MNIST, with their labels
take() {
    { u32 2051; u32 "$2"; u32 28; u32 28
      { zcat $fashion/$1-images-idx3-ubyte.gz || true; } 2>/dev/null | tail -c +17 | head -c $((784 * $2)); } \
        >"$3/$1-images-idx3-ubyte" || true
    { u32 2049; u32 "$2"
      { zcat $fashion/$1-labels-idx1-ubyte.gz || true; } 2>/dev/null | tail -c +9 | head -c "$2"; } \
        >"$3/$1-labels-idx1-ubyte" || true
}

# make_data TRAIN TEST OUT [ingest options]: a DATASET
make_data() {
    local source=$scratch/idx out=$3
    mkdir -p "$source"
    take train "$1" "$source"
    take t10k "$2" "$source"
    "$ATOLL" ingest "$source" --out "$out" --quiet "${@:4}" >/dev/null
    rm -rf "$source"
}

# Leaks are looked for where one process runs alone: Open MPI has many of its own.
mpirun=(env "ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0" mpirun --allow-run-as-root --oversubscribe --bind-to none)

steps() {
    sed -n 's/^{"epoch": *\([0-9]*\), *"epoch_step": *\([0-9]*\), *"loss": *\([^,]*\),.*/\1 \2 \3/p' "$1/metrics.jsonl"
}

epochs() { # the numbers of the epochs that metrics.jsonl tells of, in one line
    grep -v epoch_step "$1/metrics.jsonl" | sed 's/^{"epoch": *\([0-9]*\),.*/\1/' | tr '\n' ' '
}

# same_losses A B TOLERANCE: lines of steps() agree; prints how many and the largest difference
same_losses() {
    paste -d ' ' "$1" "$2" | awk -v limit="$3" '
        NF != 6 || $1 != $4 || $2 != $5 { print "lines differ: " $0; bad = 1; exit }
        { d = $3 - $6; d = d < 0 ? -d : d; if (d > most) most = d }
        END { printf "%d steps, losses differ by at most %g\n", NR, most; exit bad || NR == 0 || most > limit }'
}

same_model() { # same_model RUN RUN: bit-equal model files
    cmp "$1/model.h5" "$2/model.h5" || die "model.h5 of $1 and $2 differ"
}
