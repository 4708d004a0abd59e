#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=600 serial
# Several ranks interrupted at random moments, by what mpirun passes on (SIGUSR1), by Ctrl-C on mpirun and
# by kill -9: the same bits as undisturbed, with batch normalisation too, whose moving statistics each
# rank computes from its own samples.
source "$ATOLL_SOURCE/tests/support/training.sh"
cd "$scratch"
make_data 300 30 data --val-fraction 0.1
RANDOM=5

# disturb RUN MODEL SIGNAL STEPS: sends SIGNAL to mpirun once STEPS steps are logged; prints the exit status
disturb() {
    local pid status=0
    train "$1" "$2" >"$1.log" 2>&1 &
    pid=$!
    until [ "$(steps "$1" 2>/dev/null | wc -l)" -ge "$4" ]; do kill -0 $pid 2>/dev/null || break; sleep 0.02; done
    kill "-$3" "$(pgrep -P $pid)" 2>/dev/null || true
    wait $pid || status=$?
    # what mpirun left behind when it was killed notices and ends
    for ((i = 0; i < 300; i++)); do pgrep -f -- "--out $scratch/$1 " >/dev/null || break; sleep 0.1; done
    echo $status
}

train() { # train RUN MODEL [MORE]
    "${mpirun[@]}" -np 2 "$ATOLL" train --out "$scratch/$1" --data data --model "$2" --quiet -s batch=8 \
        -s epochs=$epochs -s threads=1 -s log.every=1 -s bucket_kib=64 "${@:3}"
}

for model in lenet airnet; do
    epochs=$([ $model = lenet ] && echo 60 || echo 3)
    train $model $model >/dev/null
    total=$(steps $model | wc -l)
    for signal in USR1 INT KILL; do
        after=$((RANDOM % (total / 2) + 1))
        status=$(disturb run $model $signal $after)
        [ "$status" != 0 ] || die "$signal: exit status 0"
        [ $signal != USR1 ] || [ "$status" = 4 ] || die "$signal: exit status $status; $(cat run.log)"
        began=$(steps run | wc -l)
        train run $model --resume >/dev/null
        same_model run $model
        [ "$(epochs run)" = "$(seq -s ' ' $epochs) " ] || die "epochs of metrics.jsonl: $(epochs run)"
        [ "$(steps run)" = "$(steps $model)" ] || die "steps of metrics.jsonl differ"
        echo "$model, SIG$signal after $began of $total steps: the same bits"
        rm -rf run
    done
done
