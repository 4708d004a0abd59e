/* SPDX-License-Identifier: Apache-2.0
 * The loops of picture_look.c for AVX2. Run only where the CPU has it. */
#include <string.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "internal.h"

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC target("avx2")
#endif

#define LOOK_VECTOR 32
#define LOOK_TABLE  at_look_kernels_avx2
#include "look_kernels.h"

#ifdef __clang__
#pragma clang attribute pop
#endif
