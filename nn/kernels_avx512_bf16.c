/* SPDX-License-Identifier: Apache-2.0
 * kernels_avx512_bf16: the kernels compiled for AVX-512 with instructions that round to bf16 (Cooper
 * Lake, Zen 4 and later). Run only where the CPU has them.
 */
#include "kernels.h"

#include <math.h>
#include <string.h>

#ifdef __clang__
#pragma clang attribute push(                                                                      \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,prefer-vector-width=512")
#pragma GCC optimize("no-trapping-math", "fp-contract=fast")
#endif

#define VF         16
#define TABLE      nn_kernels_avx512_bf16
#define TABLE_NAME "avx512-bf16"
#include "kernels_table.h"

#ifdef __clang__
#pragma clang attribute pop
#endif
