/* SPDX-License-Identifier: Apache-2.0
 * kernels_amx_order: samples brought side by side, in the orders that tiles are loaded from
 * (kernels_amx.h), and where things are in these.
 */
#ifndef NN_KERNELS_AMX_ORDER_H
#define NN_KERNELS_AMX_ORDER_H

#include "kernels_amx.h"
#include "kernels_watch.h"

#include <string.h>

/* Elements of a tile of bf16, of one of sums, of a pixel's tiles of a pair of blocks; bytes of a row. */
enum { TILE = 512, SUMS = 256, PIXEL = 2 * TILE, ROW = 64, TILES = 8 };
enum { PIXELS_TAKEN = 8 };

/* Elements of a row in, of v and of t. */
static int64_t row_of(const amx_conv *c)
{
    return c->words.pixel ? AMX_GROUP * c->words.row : c->in.w * c->ins * PIXEL;
}

int64_t amx_v_size(const amx_conv *c)
{
    return c->together * c->slots * row_of(c);
}

/* Floats of one sample's pixels; not a power of 2, so that 16 of them are in as many cache sets. */
static int64_t line_of(const amx_conv *c)
{
    return (c->together * c->rows * c->out.w + 1) * AMX_LANES;
}

int64_t amx_m_size(const amx_conv *c)
{
    return 2 * AMX_GROUP * line_of(c);
}

int64_t amx_z_size(const amx_conv *c)
{
    return c->outs * c->together * c->rows * c->out.w * PIXEL;
}

int64_t amx_filters_size(const amx_conv *c)
{
    return c->kh * c->kw * c->ins * c->outs * AMX_PAIR * AMX_PAIR;
}

static int64_t slot_of(const amx_conv *c, int64_t at, int64_t y)
{
    return at * c->slots + y % c->slots;
}

/* Rows or columns of the window at `at` that are in the plane. */
typedef struct span {
    int64_t begin, end;
} span;

static span inside(int64_t at, int64_t stride, int64_t pad, int64_t k, int64_t size)
{
    int64_t first = at * stride - pad;
    return (span){most(0, -first), least(k, size - first)};
}

/* ---- as they are multiplied ---- */

/* 16 channels of a pixel of a sample, or zeros where there is no such one. */
INLINE __m256i value_of(const uint16_t *x, __mmask16 real, watch_affine f)
{
    __m256i half = _mm256_maskz_loadu_epi16(real, x);
    if (f.kind == NN_AFFINE_NONE)
        return half;
    vf y = (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16) * f.a + f.b;
    y = f.kind == NN_AFFINE_RELU ? act_value(NN_RELU, y) : y;
    return _mm256_maskz_mov_epi16(real, (__m256i)_mm512_cvtneps_pbh((__m512)y));
}

INLINE __m512i join(__m256i low, __m256i high)
{
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

/* The numbers of the two halves in turn. */
INLINE __m512i interleave(__m512i halves)
{
    const __m512i between =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(between, halves);
}

static int64_t samples_of(const amx_tensor *t, int64_t group)
{
    return least(AMX_GROUP, t->n - group * AMX_GROUP);
}

/* Rows of words, with the zeros around them. */
static void take_words(const amx_conv *c, int64_t group, int64_t at, int64_t y, const uint16_t *x,
                       uint16_t *v)
{
    const amx_words *w = &c->words;
    int64_t there = samples_of(&c->in, group), words = w->plane * (int64_t)sizeof *v;
    const uint16_t *from = x + group * AMX_GROUP * c->in.sample + y * w->plane;
    uint16_t *row = v + slot_of(c, at, y) * row_of(c);
    memset(row, 0, (size_t)row_of(c) * sizeof *row);
    for (int64_t n = 0; n < there; n++)
        memcpy(row + n * w->row + w->before, from + n * c->in.sample, (size_t)words);
}

/* Pixels [from, until) of a row, of one pair of blocks. */
INLINE void take_pixels(const amx_conv *c, const nn_affine *in, int64_t there, int64_t p,
                        int64_t from, int64_t until, const uint16_t *x, uint16_t *to,
                        nn_affine_kind kind)
{
    const amx_tensor *t = &c->in;
    bool two = 2 * p + 1 < t->blocks;
    watch_affine f = watch_affine_of(kind, in, 2 * p), g = watch_affine_of(kind, in, 2 * p + two);
    for (int64_t n = 0; n < AMX_GROUP; n++) {
        const uint16_t *at = x + n * t->sample + 2 * p * t->block;
        __mmask16 low = n < there ? 0xffff : 0, high = two ? low : 0;
        for (int64_t i = from; i < until; i++)
            _mm512_store_si512(to + i * c->deep * PIXEL + n * AMX_PAIR,
                               join(value_of(at + i * t->pixel, low, f),
                                    value_of(at + i * t->pixel + t->block, high, g)));
    }
}

/* A few pixels at a time, whose tiles stay in the first-level cache until all samples are there. */
INLINE void take(const amx_conv *c, const nn_affine *in, int64_t group, int64_t at, int64_t y,
                 const uint16_t *x, uint16_t *v, nn_affine_kind kind)
{
    const amx_tensor *t = &c->in;
    int64_t there = samples_of(t, group), chunk = t->w * c->deep * PIXEL;
    const uint16_t *from = x + group * AMX_GROUP * t->sample + y * t->row;
    uint16_t *row = v + slot_of(c, at, y) * row_of(c);
    for (int64_t i = 0; i < t->w; i += PIXELS_TAKEN)
        for (int64_t p = 0; p < c->ins; p++)
            take_pixels(c, in, there, p, i, least(i + PIXELS_TAKEN, t->w), from,
                        row + p / c->deep * chunk + p % c->deep * PIXEL, kind);
}

/* One copy a kind of what batch normalisation leaves to the reader. */
#define BY_AFFINE(in, function, ...)                                                               \
    do {                                                                                           \
        if ((in)->kind == NN_AFFINE_RELU)                                                          \
            function(__VA_ARGS__, NN_AFFINE_RELU);                                                 \
        else if ((in)->kind == NN_AFFINE_ALONE)                                                    \
            function(__VA_ARGS__, NN_AFFINE_ALONE);                                                \
        else                                                                                       \
            function(__VA_ARGS__, NN_AFFINE_NONE);                                                 \
    } while (0)

void amx_take(const amx_conv *c, const nn_affine *in, int64_t group, int64_t at, int64_t y,
              const uint16_t *x, uint16_t *v)
{
    if (c->words.pixel)
        take_words(c, group, at, y, x, v);
    else
        BY_AFFINE(in, take, c, in, group, at, y, x, v);
}

/* ---- turned, for the filters' gradient ---- */

/* Two pixels of a block, of all samples: [2][16 pairs of samples][16 channels][2], of those `channels`
 * that there are; `second`: there are two. They are read together since they share a line of the cache. */
INLINE void pairs(const amx_tensor *t, const uint16_t *x, int64_t there, __mmask16 channels,
                  bool second, watch_affine f, uint16_t *to, int64_t step)
{
    for (int64_t j = 0; j < AMX_GROUP / 2; j++, x += 2 * t->sample) {
        __mmask16 a = 2 * j < there ? channels : 0, b = 2 * j + 1 < there ? channels : 0;
        for (int64_t i = 0; i <= second; i++) {
            __m256i even = value_of(x + i * t->pixel, a, f);
            __m256i odd = value_of(x + t->sample + i * t->pixel, b, f);
            _mm512_store_si512(to + i * step + j * 2 * AMX_LANES, interleave(join(even, odd)));
        }
    }
}

/* 16x16 pairs of numbers, turned. */
INLINE void turn(const uint16_t *from, uint16_t *to)
{
    __m512i a[16], b[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        a[i] = _mm512_load_si512(from + i * 32);
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
        a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
        a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
        a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
    }
    /* a[4*g + k]: columns k, k+4, k+8, k+12, a quarter each, of rows 4*g to 4*g+3 */
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        __m512i low = _mm512_shuffle_i32x4(a[k], a[4 + k], 0x88);
        __m512i low_odd = _mm512_shuffle_i32x4(a[k], a[4 + k], 0xdd);
        __m512i high = _mm512_shuffle_i32x4(a[8 + k], a[12 + k], 0x88);
        __m512i high_odd = _mm512_shuffle_i32x4(a[8 + k], a[12 + k], 0xdd);
        _mm512_store_si512(to + k * 32, _mm512_shuffle_i32x4(low, high, 0x88));
        _mm512_store_si512(to + (k + 8) * 32, _mm512_shuffle_i32x4(low, high, 0xdd));
        _mm512_store_si512(to + (k + 4) * 32, _mm512_shuffle_i32x4(low_odd, high_odd, 0x88));
        _mm512_store_si512(to + (k + 12) * 32, _mm512_shuffle_i32x4(low_odd, high_odd, 0xdd));
    }
}

static void zero(uint16_t *to, int64_t tiles, int64_t step)
{
    for (int64_t i = 0; i < tiles; i++)
        memset(to + i * step, 0, TILE * sizeof *to);
}

INLINE void take_turned(const amx_conv *c, const nn_affine *in, int64_t group, int64_t at,
                        int64_t y, const uint16_t *x, uint16_t *t, nn_affine_kind kind)
{
    const amx_tensor *in_plane = &c->in;
    int64_t w = in_plane->w, there = samples_of(in_plane, group);
    for (int64_t b = 0; b < 2 * c->ins; b++) {
        uint16_t *to =
            t + (b / 2 * c->together * c->slots + slot_of(c, at, y)) * w * PIXEL + b % 2 * TILE;
        if (b >= in_plane->blocks) {
            zero(to, w, PIXEL);
            continue;
        }
        const uint16_t *from =
            x + group * AMX_GROUP * in_plane->sample + b * in_plane->block + y * in_plane->row;
        watch_affine f = watch_affine_of(kind, in, b);
        for (int64_t i = 0; i < w; i += 2) {
            _Alignas(64) uint16_t two[2 * TILE];
            pairs(in_plane, from + i * in_plane->pixel, there, 0xffff, i + 1 < w, f, two, TILE);
            turn(two, to + i * PIXEL);
            if (i + 1 < w)
                turn(two + TILE, to + (i + 1) * PIXEL);
        }
    }
}

/* 16 words of all samples at a time. */
static void take_turned_words(const amx_conv *c, int64_t group, int64_t at, int64_t y,
                              const uint16_t *x, uint16_t *t)
{
    const amx_words *w = &c->words;
    const watch_affine none = {NN_AFFINE_NONE};
    int64_t there = samples_of(&c->in, group);
    const uint16_t *from = x + group * AMX_GROUP * c->in.sample + y * w->plane;
    uint16_t *row = t + slot_of(c, at, y) * row_of(c);
    memset(row, 0, (size_t)row_of(c) * sizeof *row);
    for (int64_t i = 0; i < w->plane; i += AMX_LANES) {
        _Alignas(64) uint16_t one[TILE];
        __mmask16 some = (__mmask16)((1u << least(AMX_LANES, w->plane - i)) - 1);
        pairs(&c->in, from + i, there, some, false, none, one, TILE);
        turn(one, row + (w->before + i) * AMX_GROUP);
    }
}

void amx_take_turned(const amx_conv *c, const nn_affine *in, int64_t group, int64_t at, int64_t y,
                     const uint16_t *x, uint16_t *t)
{
    if (c->words.pixel)
        take_turned_words(c, group, at, y, x, t);
    else
        BY_AFFINE(in, take_turned, c, in, group, at, y, x, t);
}

static vf sum_pairs(const uint16_t *z, int64_t tiles, int64_t step)
{
    vf sum = {0};
    for (int64_t i = 0; i < tiles; i++)
        for (int64_t j = 0; j < TILE; j += 2 * AMX_LANES) {
            vi two = (vi)_mm512_load_si512(z + i * step + j);
            sum += (vf)(two << 16) + (vf)(two & (int32_t)0xffff0000);
        }
    return sum;
}

void amx_take_pairs(const amx_conv *c, const amx_strip *s, int64_t at, int64_t y,
                    const uint16_t *dy, uint16_t *z, double *bias)
{
    const amx_tensor *t = &c->out;
    const watch_affine none = {NN_AFFINE_NONE};
    int64_t group = s->group + at, there = samples_of(t, group), row = at * c->rows + y - s->begin;
    for (int64_t b = 0; b < 2 * c->outs; b++) {
        uint16_t *to = z + (b / 2 * c->together * c->rows + row) * t->w * PIXEL + b % 2 * TILE;
        if (b >= t->blocks) {
            zero(to, t->w, PIXEL);
            continue;
        }
        const uint16_t *from = dy + group * AMX_GROUP * t->sample + b * t->block + y * t->row;
        for (int64_t i = 0; i < t->w; i += 2)
            pairs(t, from + i * t->pixel, there, 0xffff, i + 1 < t->w, none, to + i * PIXEL, PIXEL);
        vf sum = bias ? sum_pairs(to, t->w, PIXEL) : (vf){0};
        for (int64_t l = 0; l < VF && bias; l++)
            bias[b * VF + l] += (double)sum[l];
    }
}

#endif
