#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=300 serial
# The number of ranks does not change a training: 1 x 64 and 4 x 16 give the same losses, and a training
# that one rank began goes on with four. Equal ranks and seed give equal bits.
source "$ATOLL_SOURCE/tests/support/training.sh"
cd "$scratch"
make_data 4000 100 data --val-fraction 0.1
# A rate at which lenet does not overshoot: there, sums rounded otherwise would grow to other trainings.
train=("$ATOLL" train --data data --model lenet --quiet -s threads=1 -s log.every=1 -s lr=0.02)

# Waits for a run's first step without a process of its own: a whole run takes a fraction of a second.
first_step() { # RUN PID
    until [ -s "$1/metrics.jsonl" ]; do kill -0 "$2" 2>/dev/null || break; done
}

# Interrupts the run moved behind its first step; one that was through before the signal came is made again.
interrupt_moved() { # OPTIONS...
    local status=0 pid
    for ((try = 0; try < 10; try++)); do
        rm -rf moved
        status=0
        "${train[@]}" --out moved "$@" >/dev/null &
        pid=$!
        first_step moved $pid
        kill -INT $pid || true
        wait $pid || status=$?
        [ $status = 0 ] || break
    done
    [ $status = 4 ] || die "interrupted: exit status $status"
}

# 50 steps and more: two epochs of 29, the last step of each only partly full (3600 = 28 x 128 + 16)
"${train[@]}" --out one -s batch=128 -s epochs=2 >/dev/null
"${mpirun[@]}" -np 4 "${train[@]}" --out four -s batch=32 -s epochs=2 >/dev/null
[ "$(steps one | wc -l)" = 58 ] || die "$(steps one | wc -l) steps"
same_losses <(steps one) <(steps four) 1e-4

"${train[@]}" --out one64 -s batch=64 -s epochs=1 >/dev/null
"${mpirun[@]}" -np 4 "${train[@]}" --out four16 -s batch=16 -s epochs=1 >/dev/null
same_losses <(steps one64 | head -n 50) <(steps four16 | head -n 50) 1e-4

# the same bits again: alone, on two ranks; and other bits with another seed
"${train[@]}" --out one64b -s batch=64 -s epochs=1 >/dev/null
same_model one64 one64b
for run in a b; do
    "${mpirun[@]}" -np 2 "${train[@]}" --out two$run -s batch=32 -s epochs=1 -s augment.flip=true -s augment.shift=2 >/dev/null
done
same_model twoa twob
"${train[@]}" --out seed -s batch=64 -s epochs=1 -s seed=2 >/dev/null
! cmp -s one64/model.h5 seed/model.h5 || die "another seed, the same model"

# begun by one rank, finished by four
interrupt_moved -s batch=64 -s epochs=2
began=$(steps moved | wc -l)
[ "$began" -lt 114 ] || die "interrupted too late to show anything"
"${mpirun[@]}" -np 4 "${train[@]}" --out moved --resume -s batch=16 >/dev/null
"${train[@]}" --out whole -s batch=64 -s epochs=2 >/dev/null
# Behind 50 steps roundings may have grown: other samples would still be another loss altogether.
same_losses <(steps moved | head -n 50) <(steps whole | head -n 50) 1e-4
same_losses <(steps moved) <(steps whole) 0.05
[ "$(epochs moved)" = "1 2 " ] || die "epochs of metrics.jsonl: $(epochs moved)"
echo "one rank took $began of $(steps moved | wc -l) steps, four ranks the others"

# a batch that does not fit where the checkpoint stands is refused, and the checkpoint stays
interrupt_moved -s batch=64 -s epochs=3
cp -r moved before
status=0
"${train[@]}" --out moved --resume -s batch=61 2>message || status=$?
[ $status = 3 ] && grep -q "no multiple" message || die "batch 61: exit status $status, $(cat message)"
diff -r before moved
"${train[@]}" --out moved --resume >/dev/null
