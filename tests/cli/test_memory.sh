#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=300
# A batch that needs more memory than there is is refused before training, with the largest that fits, which then trains.
source "$ATOLL_SOURCE/tests/support/training.sh"
cd "$scratch"
make_data 600 60 data --val-fraction 0.1

refused() {
    local status=0 pattern=$1
    shift
    timeout 100 "$ATOLL" train --out run --data data "$@" >out 2>message || status=$?
    [ $status = 3 ] || die "$*: exit status $status; $(cat message)"
    grep -qE -- "$pattern" message || die "$*: no \"$pattern\" in: $(cat message)"
    [ ! -e run ] || die "$*: run/ is there"
}

refused 'memory: expected.*1.5G.*"lots"' --model lenet --memory lots
refused 'memory: expected' --model lenet --memory 12
refused 'memory: expected' --model lenet --memory 1Gb
refused 'weights of vgg16.*MB' --model vgg16 --memory 150M
refused 'weights of resnet50 need' --model resnet50 --memory 1M
refused 'batch of 60000 needs [0-9]+ MB.*largest batch that fits is [0-9]+ \(--batch' --model lenet --memory 500M \
    --batch 60000
batch=$(sed -n 's/.*--batch \([0-9]*\)).*/\1/p' message)
[ "$batch" -gt 8 ] || die "largest batch $batch"

# What a process takes beside the plan differs from start to start: what is offered must fit each time.
for try in 1 2 3 4 5; do
    "$ATOLL" train --out "run$try" --data data --model lenet --memory 500M --batch "$batch" --epochs 1 --quiet >/dev/null ||
        die "the batch $batch, which was said to fit, does not"
done
echo "largest batch $batch, trained $try times"
