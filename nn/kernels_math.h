/* SPDX-License-Identifier: Apache-2.0
 * kernels_math: bf16 and activations, for the kernels_*.h that are compiled once an instruction
 * set.
 *
 * GELU is exact, x*Phi(x): erfc by Abramowitz and Stegun 7.1.26 (absolute error 1.5e-7), whose
 * exp(-x*x/2) the derivative needs anyway; exp by a polynomial of degree 6 on [-ln2/2, ln2/2].
 */
#ifndef NN_KERNELS_MATH_H
#define NN_KERNELS_MATH_H

#include "kernels.h"

#include <math.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline, unused))

enum { PIECE = 1024 }; /* floats widened at a time */

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

/* Elements [at, at+n) as floats: in place, or widened into piece[PIECE]. */
INLINE const float *read_floats(const void *x, bool bf16, int64_t at, int64_t n, float *piece)
{
    if (!bf16)
        return (const float *)x + at;
    const uint16_t *h = (const uint16_t *)x + at;
    for (int64_t i = 0; i < n; i++)
        piece[i] = widen(h[i]);
    return piece;
}

/* Where to compute elements [at, at+n): in place, or in piece[PIECE] until write_floats. */
INLINE float *place_floats(void *y, bool bf16, int64_t at, float *piece)
{
    return bf16 ? piece : (float *)y + at;
}

INLINE void write_floats(void *y, bool bf16, int64_t at, int64_t n, const float *piece)
{
    if (!bf16)
        return;
    uint16_t *h = (uint16_t *)y + at;
    for (int64_t i = 0; i < n; i++)
        h[i] = narrow(piece[i]);
}

/* exp(x) for x <= 0; 0 below -87. */
INLINE float exp_negative(float x)
{
    float bounded = x < -87.0f ? -87.0f : x;
    float k = (float)(int32_t)(bounded * 1.44269504f - 0.5f);
    float r = bounded - k * 0.693359375f + k * 2.12194440e-4f;
    float p = 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    int32_t bits = ((int32_t)k + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return x < -87.0f ? 0.0f : p * power;
}

/* Phi(x), the normal distribution, and exp(-x*x/2). */
INLINE float normal_cdf(float x, float *bell)
{
    float e = exp_negative(-0.5f * x * x), z = fabsf(x) * 0.70710678f;
    float t = 1.0f / (1.0f + 0.3275911f * z);
    float p = 1.061405429f;
    p = p * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    float tail = 0.5f * p * t * e; /* Phi(-|x|) */
    *bell = e;
    return x > 0 ? 1.0f - tail : tail;
}

INLINE float act_value(nn_activation act, float z)
{
    float bell;
    if (act == NN_RELU)
        return z > 0 ? z : 0;
    return act == NN_GELU ? z * normal_cdf(z, &bell) : z;
}

/* The derivative, from the activation's input (relu: its output does as well). */
INLINE float act_slope(nn_activation act, float z)
{
    float bell;
    if (act == NN_RELU)
        return z > 0 ? 1.0f : 0.0f;
    if (act == NN_IDENTITY)
        return 1.0f;
    float cdf = normal_cdf(z, &bell);
    return cdf + z * bell * 0.39894228f;
}

/* Makes one copy of a loop for each activation and the common numbers of lanes, so that the
 * compiler sees constants: call(act, lanes). */
#define FOR_ACT(act, call, lanes)                                                                  \
    do {                                                                                           \
        if ((act) == NN_RELU)                                                                      \
            call(NN_RELU, lanes);                                                                  \
        else if ((act) == NN_GELU)                                                                 \
            call(NN_GELU, lanes);                                                                  \
        else                                                                                       \
            call(NN_IDENTITY, lanes);                                                              \
    } while (0)
#define FOR_LANES(lanes, act, call)                                                                \
    do {                                                                                           \
        if ((lanes) == 16)                                                                         \
            FOR_ACT(act, call, 16);                                                                \
        else if ((lanes) == 1)                                                                     \
            FOR_ACT(act, call, 1);                                                                 \
        else                                                                                       \
            FOR_ACT(act, call, lanes);                                                             \
    } while (0)

#endif
