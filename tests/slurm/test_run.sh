#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=900 serial
# scripts/slurm/run.sbatch on a real slurmctld and slurmd that this test starts on the loopback address.
set -euo pipefail
source "$ATOLL_SOURCE/tests/support/slurm.sh"
need_slurm
work=$(mktemp -d)
trap 'slurm_stop "$work/slurm"; rm -rf "$work"' EXIT
slurm_start "$work/slurm"

cat > "$work/job.yaml" <<'YAML'
data: {source: /usr/share/datasets/fashion-mnist, val_fraction: 0.1}
model: lenet
train: {batch: 64}
search:
  trials: 4
  wave: 2
  sampler: tpe
  metric: val_accuracy
  direction: maximize
  seed: 1
  train: {epochs: 1, train_limit: 16000}
  space: {lr: {loguniform: [0.02, 0.06]}}
final: {ranks: 2, train: {epochs: 2, batch: 32}}
YAML
cd "$ATOLL_SOURCE"
ATOLL_CACHE_DIR=$work/caches ATOLL=$ATOLL sbatch --wait --export=ALL -n 2 -o "$work/log" -e "$work/log" \
    scripts/slurm/run.sbatch "$work/job.yaml" "$work/out" || { cat "$work/log"; tail "$work"/slurm/log/*; exit 1; }
tail -n 5 "$work/log"
accuracy=$(sed -n 's/^test accuracy *\(0\.[0-9]*\)$/\1/p' "$work/log")
awk -v a="$accuracy" 'BEGIN { exit !(a > 0.75) }' || { echo "test accuracy \"$accuracy\" is too low"; cat "$work/log"; exit 1; }
grep -q '"COMPLETE"' <<<"$("$ATOLL" study trials "$work/out/study" --json)"
grep -q '"ranks": *2' "$work/out/summary.json"
echo "one allocation: waves on two workers and a training on two ranks, test accuracy $accuracy"
