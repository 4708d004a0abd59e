#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# One program for every x86-64 CPU: the build names no instruction set, and what needs more than SSE2 is in functions that
# are only called where the CPU has it. Disassembles the program and its libraries: vector registers of AVX (ymm, zmm, or any
# instruction with VEX or EVEX coding, whose names begin with v) may occur only in the objects listed here.
set -euo pipefail
cd "$ATOLL_SOURCE"
objects=$(dirname "$ATOLL")
dispatched='^kernels_(avx2|avx512|amx)[a-z0-9_]*\.c\.o$'

bad=0
if grep -nE -- '-m(arch|tune|avx|sse|fma|cpu)' CMakeLists.txt CMakePresets.json cmake/* tests/CMakeLists.txt; then
    echo "the build names an instruction set"
    bad=1
fi
if grep -oE -- ' -m(arch=|avx|sse|fma)[a-z0-9=-]*' "$objects/compile_commands.json" | sort | uniq -c | grep .; then
    echo "so do the compiler's command lines"
    bad=1
fi
checked=0
with=0
while read -r object; do
    name=$(basename "$object")
    checked=$((checked + 1))
    # file: address: bytes of code, tab, mnemonic
    found=$(objdump -d --no-show-raw-insn "$object" | awk -F'\t' '$2 ~ /^v[a-z]/ && $2 !~ /^(verr|verw|vm)/ { n++ } END { print n + 0 }')
    if [[ $name =~ $dispatched ]]; then
        [ "$found" -gt 20 ] || { echo "$name has $found AVX instructions: this test no longer sees them"; bad=1; }
        with=$((with + 1))
    elif [ "$found" -gt 0 ]; then
        echo "$object has $found AVX instructions, and is not one of those that are only called where the CPU has them"
        bad=1
    fi
done < <(find "$objects/CMakeFiles" -path '*/CMakeFiles/a*.dir/*' -name '*.c.o' | sort)
echo "checked $checked objects, $with of them with AVX"
[ "$checked" -gt 100 ] && [ "$with" -ge 2 ] && [ $bad = 0 ]
