/* SPDX-License-Identifier: Apache-2.0
 * kernels: picks the best table for this CPU, within the limit set for the library's kernels, so
 * that both take the same layouts.
 */
#include "dnn.h"
#include "kernels.h"

const nn_kernels *nn_kernels_best(void)
{
    dnn_isa isa = __builtin_cpu_supports("fma") ? dnn_isa_allowed() : DNN_SSE;
    if (isa >= DNN_AVX512)
        return &nn_kernels_avx512;
    if (isa >= DNN_AVX2)
        return &nn_kernels_avx2;
    return &nn_kernels_generic;
}
