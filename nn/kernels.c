/* SPDX-License-Identifier: Apache-2.0
 * kernels: picks the best table for this CPU.
 */
#include "kernels.h"

const nn_kernels *nn_kernels_best(void)
{
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("fma"))
        return &nn_kernels_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &nn_kernels_avx2;
    return &nn_kernels_generic;
}
