/* SPDX-License-Identifier: Apache-2.0
 * kernels_math: a register of floats at a time, bf16, and activations, for the kernels_*.h that are
 * compiled once an instruction set.
 *
 * GELU is exact, x*Phi(x): erfc by Abramowitz and Stegun 7.1.26 (absolute error 1.5e-7), whose
 * exp(-x*x/2) the derivative needs anyway, or by tables where kernels are compiled for AVX-512
 * (kernels_gelu.c); exp by a polynomial of degree 6 on [-ln2/2, ln2/2], ln by the series of
 * 2*atanh((m-1)/(m+1)) with m in [1/sqrt2, sqrt2].
 */
#ifndef NN_KERNELS_MATH_H
#define NN_KERNELS_MATH_H

#include "kernels.h"

#include <math.h>
#include <string.h>
#if VF >= 8
#include <immintrin.h>
#endif

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
#ifdef __AVX512F__ /* of which compilers would make two halves */
    if (bf16 && n == VF) {
        __m256i half = _mm256_loadu_si256((const void *)((const uint16_t *)x + at));
        return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
    }
#endif
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
#ifdef __AVX512BF16__
    if (bf16 && n == VF) {
        _mm256_storeu_si256((void *)((uint16_t *)y + at), (__m256i)_mm512_cvtneps_pbh((__m512)v));
        return;
    }
#endif
    if (bf16) {
        vu bits = (vu)v, rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
        vu nan = (vu)((bits & 0x7fffffffu) > 0x7f800000u), quiet = (bits >> 16) | 0x40u;
        vh half = __builtin_convertvector((quiet & nan) | (rounded & ~nan), vh);
        memcpy((uint16_t *)y + at, &half, (size_t)n * sizeof(uint16_t));
        return;
    }
    memcpy((float *)y + at, &v, (size_t)n * sizeof(float));
}

/* 1/x of a normal number, a unit in the last place off at most. */
INLINE vf reciprocal(vf x)
{
#ifdef __AVX512F__
    vf near = (vf)_mm512_rcp14_ps((__m512)x);
    return near * (2.0f - x * near);
#else
    return 1.0f / x;
#endif
}

/* exp(x), k being x/ln2 rounded, -126 <= k <= 127. */
INLINE vf exp_whole(vf x, vi k)
{
    vf whole = __builtin_convertvector(k, vf);
    vf r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    vf p = r * (1.0f / 720) + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return p * (vf)((k + 127) << 23);
}

/* exp(x) for x <= 0; 0 below -87. */
INLINE vf exp_negative(vf x)
{
    vi small = x < -87.0f;
    vf bounded = pick(small, all(-87.0f), x);
    vi k = __builtin_convertvector(bounded * 1.44269504f - 0.5f, vi);
    return (vf)((vi)exp_whole(bounded, k) & ~small);
}

/* ln(x) for x > 0 that is no denormal. */
INLINE vf log_positive(vf x)
{
    vi bits = (vi)x - 0x3f3504f3; /* sqrt(1/2) */
    vi k = bits >> 23;
    vf m = (vf)((bits & 0x7fffff) + 0x3f3504f3);
    vf t = (m - 1.0f) / (m + 1.0f), q = t * t;
    vf p = q * (2.0f / 9) + 2.0f / 7;
    p = p * q + 2.0f / 5;
    p = p * q + 2.0f / 3;
    vf whole = __builtin_convertvector(k, vf);
    return t * q * p + whole * -2.12194440e-4f + t * 2.0f + whole * 0.693359375f;
}

/* x^p for x > 0, kept within e^±87. */
INLINE vf power(vf x, float p)
{
    vf z = log_positive(x) * p;
    z = pick(z < -87.0f, all(-87.0f), pick(z > 87.0f, all(87.0f), z));
    vf half = pick(z > 0.0f, all(0.5f), all(-0.5f));
    return exp_whole(z, __builtin_convertvector(z * 1.44269504f + half, vi));
}

INLINE vf magnitude(vf x)
{
    return (vf)((vi)x & 0x7fffffff);
}

INLINE vf logistic(vf x)
{
    vf e = exp_negative(-magnitude(x)), large = reciprocal(1.0f + e);
    return pick(x > 0.0f, large, e * large);
}

/* Near 0 by the continued fraction x/(1 + x²/(3 + x²/(5 + ...))), which cancels nothing. */
INLINE vf hyperbolic(vf x)
{
    vf size = magnitude(x), q = x * x;
    vf near = x / (1.0f + q / (3.0f + q / (5.0f + q / (7.0f + q * (1.0f / 9)))));
    vf e = exp_negative(size * -2.0f), far = (1.0f - e) / (1.0f + e);
    vf signed_far = (vf)((vi)far | ((vi)x & (int32_t)0x80000000));
    return pick(size < 0.5f, near, signed_far);
}

/* Phi(x), the normal distribution, and exp(-x*x/2). */
INLINE vf normal_cdf(vf x, vf *bell)
{
    vf e = exp_negative(x * x * -0.5f), z = magnitude(x) * 0.70710678f;
    vf t = reciprocal(z * 0.3275911f + 1.0f);
    vf p = t * 1.061405429f - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    vf tail = p * t * e * 0.5f; /* Phi(-|x|) */
    *bell = e;
    return pick(x > 0.0f, 1.0f - tail, tail);
}

#ifdef __AVX512F__
/* Of a table of kernels_gelu.c; x >= 0. */
INLINE vf gelu_cubic(const float table[4][NN_GELU_PARTS], vf x)
{
    __m512 most = _mm512_set1_ps(NN_GELU_PARTS - 1); /* whose values are 0 */
    vf place = (vf)_mm512_min_ps(most, (__m512)(x * NN_GELU_PARTS_IN_ONE));
    __m512i part = _mm512_cvttps_epi32((__m512)place);
    vf u = place - (vf)_mm512_cvtepi32_ps(part), value = {0};
    for (int i = 3; i >= 0; i--) {
        __m512 low = _mm512_load_ps(table[i]), high = _mm512_load_ps(table[i] + 16);
        value = value * u + (vf)_mm512_permutex2var_ps(low, part, high);
    }
    return value;
}
#endif

/* z*Phi(z). */
INLINE vf gelu(vf z)
{
#ifdef __AVX512F__
    vf tail = gelu_cubic(nn_gelu.tail, magnitude(z));
    return z * pick(z > 0.0f, 1.0f - tail, tail);
#else
    vf bell;
    return z * normal_cdf(z, &bell);
#endif
}

INLINE vf gelu_slope(vf z)
{
#ifdef __AVX512F__
    vf negative = gelu_cubic(nn_gelu.slope, magnitude(z));
    return pick(z > 0.0f, 1.0f - negative, negative);
#else
    vf bell, cdf = normal_cdf(z, &bell);
    return cdf + z * bell * 0.39894228f;
#endif
}

INLINE vf act_value(nn_activation act, vf z)
{
    if (act == NN_RELU)
        return (vf)((vi)z & (z > 0.0f));
    if (act == NN_GELU)
        return gelu(z);
    if (act == NN_SIGMOID)
        return logistic(z);
    if (act == NN_TANH)
        return hyperbolic(z);
    return act == NN_SILU ? z * logistic(z) : z;
}

/* dy times the derivative, from the activation's output; of those that keep it. */
INLINE vf act_back_output(nn_activation act, vf y, vf dy)
{
    if (act == NN_RELU)
        return (vf)((vi)dy & (y > 0.0f));
    return act == NN_SIGMOID ? dy * (y * (1.0f - y)) : dy * (1.0f - y * y);
}

/* From its input. */
INLINE vf act_back(nn_activation act, vf z, vf dy)
{
    if (act == NN_IDENTITY)
        return dy;
    if (act == NN_RELU || act == NN_SIGMOID || act == NN_TANH)
        return act_back_output(act, act_value(act, z), dy);
    if (act == NN_SILU) {
        vf s = logistic(z);
        return dy * (s + z * s * (1.0f - s));
    }
    return dy * gelu_slope(z);
}

/* Makes one copy of a call for each activation, so that the compiler sees a constant. */
#define FOR_ACT(act, call)                                                                         \
    do {                                                                                           \
        switch (act) {                                                                             \
        case NN_IDENTITY:                                                                          \
            call(NN_IDENTITY);                                                                     \
            break;                                                                                 \
        case NN_RELU:                                                                              \
            call(NN_RELU);                                                                         \
            break;                                                                                 \
        case NN_GELU:                                                                              \
            call(NN_GELU);                                                                         \
            break;                                                                                 \
        case NN_SIGMOID:                                                                           \
            call(NN_SIGMOID);                                                                      \
            break;                                                                                 \
        case NN_TANH:                                                                              \
            call(NN_TANH);                                                                         \
            break;                                                                                 \
        case NN_SILU:                                                                              \
            call(NN_SILU);                                                                         \
            break;                                                                                 \
        }                                                                                          \
    } while (0)

#endif
