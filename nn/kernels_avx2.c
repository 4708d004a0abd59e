/* SPDX-License-Identifier: Apache-2.0
 * kernels_avx2: the kernels compiled for AVX2 and FMA. Run only where the CPU has them.
 */
#include "kernels.h"

#include <math.h>
#include <string.h>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#pragma GCC optimize("no-trapping-math", "fp-contract=fast")
#endif

#define VF         8
#define TABLE      nn_kernels_avx2
#define TABLE_NAME "avx2"
#include "kernels_table.h"

#ifdef __clang__
#pragma clang attribute pop
#endif
