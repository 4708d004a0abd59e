#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=300 engine
# A network learns, is saved and predicts, whatever the instruction set and the oneDNN are; what the CPU cannot compute is
# refused with what it can.
source "$ATOLL_SOURCE/tests/support/training.sh"
cd "$scratch"
make_data 2000 200 data --val-fraction 0.1

value() { # value KEY FILE: of a JSON file of one object, numbers and words
    sed -n "s/.*\"$1\": *\"\{0,1\}\([^\",}]*\).*/\1/p" "$2" | head -1
}

"$ATOLL" doctor --json >doctor.json
instructions=$(value instructions doctor.json)
echo "instructions: $instructions, oneDNN $(value onednn doctor.json), limit: ${ONEDNN_MAX_CPU_ISA:-none}"
case ${ONEDNN_MAX_CPU_ISA:-} in
SSE41) [ "$instructions" = sse ] || die "SSE4.1 is the limit, but $instructions is used" ;;
AVX2) [[ $instructions =~ ^(sse|avx2)$ ]] || die "AVX2 is the limit, but $instructions is used" ;;
AVX512_CORE) [[ $instructions =~ ^(sse|avx2|avx512)$ ]] || die "AVX-512 is the limit, but $instructions is used" ;;
esac

"$ATOLL" train --data data --model lenet --out run --quiet -s epochs=3 -s batch=50 -s threads=2 -s seed=1 >/dev/null
accuracy=$(value test_accuracy run/summary.json)
echo "test accuracy $accuracy"
awk -v a="$accuracy" 'BEGIN { exit !(a > 0.55 && a <= 1) }' || die "test accuracy $accuracy"
"$ATOLL" eval run/model.h5 --data data --json >eval.json
[ "$(value accuracy eval.json)" = "$accuracy" ] || die "eval says $(value accuracy eval.json), training said $accuracy"

# bf16 needs hardware: with the limit at AVX-512, no CPU has it.
status=0
ONEDNN_MAX_CPU_ISA=${ONEDNN_MAX_CPU_ISA:-AVX512_CORE} "$ATOLL" train --data data --model lenet --out half -s precision=bf16 \
    >out 2>message || status=$?
[ $status = 3 ] || die "bf16: exit status $status; $(cat message)"
grep -q 'bf16.*precision fp32' message || die "bf16: $(cat message)"
[ ! -e half ] || die "bf16 left half/"
cat message
