/* SPDX-License-Identifier: Apache-2.0
 * kernels_math: a register of floats at a time, bf16, and activations, for the kernels_*.h that are
 * compiled once an instruction set.
 *
 * GELU is exact, x*Phi(x): erfc by Abramowitz and Stegun 7.1.26 (absolute error 1.5e-7), whose
 * exp(-x*x/2) the derivative needs anyway; exp by a polynomial of degree 6 on [-ln2/2, ln2/2].
 */
#ifndef NN_KERNELS_MATH_H
#define NN_KERNELS_MATH_H

#include "kernels.h"

#include <math.h>
#include <string.h>

#ifndef __clang__
#pragma GCC diagnostic ignored "-Wpsabi" /* no vector crosses a call: everything is inlined */
#endif
#define INLINE static inline __attribute__((always_inline, unused))

/* VF, the floats in a vector, is defined by the including kernels_<set>.c. */
typedef float vf __attribute__((vector_size(VF * 4)));
typedef int32_t vi __attribute__((vector_size(VF * 4)));
typedef uint32_t vu __attribute__((vector_size(VF * 4)));
typedef uint16_t vh __attribute__((vector_size(VF * 2)));
typedef uint8_t vb __attribute__((vector_size(VF)));

INLINE float widen(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* To the nearest, ties to even; NaN stays NaN. */
INLINE uint16_t narrow(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    uint32_t quiet = (bits >> 16) | 0x40u;
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

INLINE vf pick(vi mask, vf yes, vf no)
{
    return (vf)(((vi)yes & mask) | ((vi)no & ~mask));
}

INLINE vf all(float x)
{
    return (vf){0} + x;
}

/* n <= VF floats from element `at`; zeros behind them. */
INLINE vf load(const void *x, bool bf16, int64_t at, int64_t n)
{
    if (bf16) {
        vh half = {0};
        memcpy(&half, (const uint16_t *)x + at, (size_t)n * sizeof(uint16_t));
        return (vf)(__builtin_convertvector(half, vu) << 16);
    }
    vf v = {0};
    memcpy(&v, (const float *)x + at, (size_t)n * sizeof(float));
    return v;
}

INLINE void store(void *y, bool bf16, int64_t at, int64_t n, vf v)
{
    if (bf16) {
        vu bits = (vu)v, rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
        vu nan = (vu)((bits & 0x7fffffffu) > 0x7f800000u), quiet = (bits >> 16) | 0x40u;
        vh half = __builtin_convertvector((quiet & nan) | (rounded & ~nan), vh);
        memcpy((uint16_t *)y + at, &half, (size_t)n * sizeof(uint16_t));
        return;
    }
    memcpy((float *)y + at, &v, (size_t)n * sizeof(float));
}

/* exp(x) for x <= 0; 0 below -87. */
INLINE vf exp_negative(vf x)
{
    vi small = x < -87.0f;
    vf bounded = pick(small, all(-87.0f), x);
    vi k = __builtin_convertvector(bounded * 1.44269504f - 0.5f, vi);
    vf whole = __builtin_convertvector(k, vf);
    vf r = bounded - whole * 0.693359375f + whole * 2.12194440e-4f;
    vf p = r * (1.0f / 720) + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return (vf)((vi)(p * (vf)((k + 127) << 23)) & ~small);
}

/* Phi(x), the normal distribution, and exp(-x*x/2). */
INLINE vf normal_cdf(vf x, vf *bell)
{
    vf e = exp_negative(x * x * -0.5f), z = (vf)((vi)x & 0x7fffffff) * 0.70710678f;
    vf t = 1.0f / (z * 0.3275911f + 1.0f);
    vf p = t * 1.061405429f - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    vf tail = p * t * e * 0.5f; /* Phi(-|x|) */
    *bell = e;
    return pick(x > 0.0f, 1.0f - tail, tail);
}

INLINE vf act_value(nn_activation act, vf z)
{
    vf bell;
    if (act == NN_RELU)
        return (vf)((vi)z & (z > 0.0f));
    return act == NN_GELU ? z * normal_cdf(z, &bell) : z;
}

/* dy times the derivative, from the activation's input (relu: its output does as well). */
INLINE vf act_back(nn_activation act, vf z, vf dy)
{
    vf bell;
    if (act == NN_RELU)
        return (vf)((vi)dy & (z > 0.0f));
    if (act == NN_IDENTITY)
        return dy;
    vf cdf = normal_cdf(z, &bell);
    return dy * (cdf + z * bell * 0.39894228f);
}

/* Makes one copy of a call for each activation, so that the compiler sees a constant. */
#define FOR_ACT(act, call)                                                                         \
    do {                                                                                           \
        if ((act) == NN_RELU)                                                                      \
            call(NN_RELU);                                                                         \
        else if ((act) == NN_GELU)                                                                 \
            call(NN_GELU);                                                                         \
        else                                                                                       \
            call(NN_IDENTITY);                                                                     \
    } while (0)

#endif
