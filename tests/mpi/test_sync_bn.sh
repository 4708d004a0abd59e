#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=300 serial
# With sync_bn two ranks of 16 normalise as one of 32: the same losses. Without it they do not, or this
# would show nothing. Class weights and label smoothing do not depend on the ranks either.
source "$ATOLL_SOURCE/tests/support/training.sh"
cd "$scratch"
make_data 1400 100 data --val-fraction 0.1
cat >net.yaml <<'EOF'
- {name: c1, layer: conv, attrs: {out: 16, k: 3, bias: 0, init: kaiming}}
- {name: n1, layer: bn}
- {name: r1, layer: relu}
- {name: p1, layer: pool, attrs: {k: 2}}
- {name: c2, layer: conv, attrs: {out: 32, k: 3, stride: 2, bias: 0, init: kaiming}}
- {name: n2, layer: bn}
- {name: r2, layer: gelu}
- {name: p2, layer: pool, attrs: {kind: avg, k: global}}
- {name: f, layer: flatten}
- {name: d, layer: dense, attrs: {out: classes}}
EOF
train=("$ATOLL" train --data data --model net.yaml --quiet -s threads=1 -s log.every=1 -s lr=0.02 -s epochs=1)
first() { steps "$1" | head -n 20; }

"${train[@]}" --out one -s batch=32 >/dev/null
"${mpirun[@]}" -np 2 "${train[@]}" --out apart -s batch=16 >/dev/null
"${mpirun[@]}" -np 2 "${train[@]}" --out two -s batch=16 -s sync_bn=true >/dev/null
"${mpirun[@]}" -np 2 "${train[@]}" --out again -s batch=16 -s sync_bn=true -s bucket_kib=4 >/dev/null
[ "$(first one | wc -l)" = 20 ] || die "$(first one | wc -l) steps"
same_losses <(first one) <(first two) 1e-4
same_losses <(steps two) <(steps again) 1e-4
! same_losses <(first one) <(first apart) 1e-3 || die "statistics of 16 and of 32 samples are alike"

loss=(-s class_weights=balanced -s label_smoothing=0.1)
"${train[@]}" --out w1 -s batch=32 "${loss[@]}" >/dev/null
"${mpirun[@]}" -np 2 "${train[@]}" --out w2 -s batch=16 -s sync_bn=true "${loss[@]}" >/dev/null
same_losses <(first w1) <(first w2) 1e-4
! same_losses <(first one) <(first w1) 1e-3 || die "class weights and label smoothing change nothing"
