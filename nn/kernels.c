/* SPDX-License-Identifier: Apache-2.0
 * kernels: picks the best table for this CPU, within the limit set for the library's kernels, so
 * that both take the same layouts.
 */
#include "dnn.h"
#include "kernels.h"
#include "kernels_amx.h"

#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

const nn_kernels *nn_kernels_best(void)
{
    dnn_isa isa = __builtin_cpu_supports("fma") ? dnn_isa_allowed() : DNN_SSE;
    nn_gelu_ready();
    if (isa >= DNN_AVX512_BF16)
        return &nn_kernels_avx512_bf16;
    if (isa >= DNN_AVX512)
        return &nn_kernels_avx512;
    if (isa >= DNN_AVX2)
        return &nn_kernels_avx2;
    return &nn_kernels_generic;
}

bool amx_usable(void)
{
#if defined(__x86_64__) && defined(__linux__)
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 }; /* arch_prctl(2), ARCH_REQ_XCOMP_PERM */
    static _Atomic int known;                             /* 1: no, 2: yes */
    if (!known)
        known = 1 + (dnn_isa_allowed() >= DNN_AMX &&
                     syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0);
    return known == 2;
#else
    return false;
#endif
}
