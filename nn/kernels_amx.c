/* SPDX-License-Identifier: Apache-2.0
 * kernels_amx: see kernels_amx.h. Compiled for CPUs that have tiles; run only there.
 */
#include "kernels_amx.h"

#include <math.h>
#include <string.h>

#ifdef __clang__
#pragma clang attribute push(                                                                      \
    __attribute__((target("amx-tile,amx-bf16,avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), \
    apply_to = function)
#else
#pragma GCC target(                                                                                \
    "amx-tile,amx-bf16,avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#pragma GCC optimize("no-trapping-math", "fp-contract=fast")
#endif

#define VF 16
#include "kernels_watch.h"

/* Elements of a tile of bf16, of one of sums, of a pixel's tiles of a pair of blocks; bytes of a row. */
enum { TILE = 512, SUMS = 256, PIXEL = 2 * TILE, ROW = 64, TILES = 8 };
/* Pairs of blocks that are multiplied before sums go to memory and come back: the filters of these
 * stay in the first-level cache. */
enum { STEPS_AT_ONCE = 18 };

/* Between plain stores and tile loads: not all compilers know that those read memory. */
#define SETTLE() __asm__ volatile("" ::: "memory")

void amx_begin(void)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < TILES; i++) {
        config.bytes[i] = ROW;
        config.rows[i] = 16;
    }
    SETTLE();
    _tile_loadconfig(&config);
}

void amx_end(void)
{
    _tile_release();
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* ---- where things are ---- */

int64_t amx_v_size(const amx_conv *c)
{
    return c->slots * c->in.w * c->ins * PIXEL;
}

/* Floats of one sample's pixels; not a power of 2, so that 16 of them are in as many cache sets. */
static int64_t line_of(const amx_conv *c)
{
    return (c->rows * c->out.w + 1) * AMX_LANES;
}

int64_t amx_m_size(const amx_conv *c)
{
    return 2 * AMX_GROUP * line_of(c);
}

int64_t amx_z_size(const amx_conv *c)
{
    return c->outs * c->rows * c->out.w * PIXEL;
}

int64_t amx_filters_size(const amx_conv *c)
{
    return c->kh * c->kw * c->ins * c->outs * AMX_PAIR * AMX_PAIR;
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

/* ---- samples brought side by side ---- */

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

static int64_t samples_of(const amx_tensor *t, int64_t group)
{
    return least(AMX_GROUP, t->n - group * AMX_GROUP);
}

INLINE void take(const amx_conv *c, const nn_affine *in, int64_t group, int64_t y,
                 const uint16_t *x, uint16_t *v, nn_affine_kind kind)
{
    const amx_tensor *t = &c->in;
    int64_t there = samples_of(t, group), chunk = t->w * c->deep * PIXEL;
    uint16_t *row = v + y % c->slots * (t->w * c->ins * PIXEL);
    for (int64_t n = 0; n < AMX_GROUP; n++)
        for (int64_t p = 0; p < c->ins; p++) {
            const uint16_t *from =
                x + (group * AMX_GROUP + n) * t->sample + 2 * p * t->block + y * t->row;
            uint16_t *to = row + p / c->deep * chunk + p % c->deep * PIXEL + n * AMX_PAIR;
            __mmask16 low = n < there ? 0xffff : 0;
            __mmask16 high = n < there && 2 * p + 1 < t->blocks ? 0xffff : 0;
            watch_affine f = watch_affine_of(kind, in, 2 * p);
            watch_affine g = high ? watch_affine_of(kind, in, 2 * p + 1) : f;
            for (int64_t i = 0; i < t->w; i++, from += t->pixel, to += c->deep * PIXEL)
                _mm512_store_si512(to, join(value_of(from, low, f),
                                            value_of(from + t->block, high, g)));
        }
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

void amx_take(const amx_conv *c, const nn_affine *in, int64_t group, int64_t y, const uint16_t *x,
              uint16_t *v)
{
    BY_AFFINE(in, take, c, in, group, y, x, v);
}

/* Two pixels of a block, of all samples: [2][16 pairs of samples][16 channels][2]; `second`: there are
 * two. They are read together since they share a line of the cache. */
INLINE void pairs(const amx_tensor *t, const uint16_t *x, int64_t there, bool second, watch_affine f,
                  uint16_t *to, int64_t step)
{
    const __m512i between = _mm512_set_epi16(
        31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19,
        3, 18, 2, 17, 1, 16, 0);
    for (int64_t j = 0; j < AMX_GROUP / 2; j++, x += 2 * t->sample) {
        __mmask16 a = 2 * j < there ? 0xffff : 0, b = 2 * j + 1 < there ? 0xffff : 0;
        for (int64_t i = 0; i <= second; i++) {
            __m256i even = value_of(x + i * t->pixel, a, f);
            __m256i odd = value_of(x + t->sample + i * t->pixel, b, f);
            _mm512_store_si512(to + i * step + j * 2 * AMX_LANES,
                               _mm512_permutexvar_epi16(between, join(even, odd)));
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

INLINE void take_turned(const amx_conv *c, const nn_affine *in, int64_t group, int64_t y,
                        const uint16_t *x, uint16_t *t, nn_affine_kind kind)
{
    const amx_tensor *in_plane = &c->in;
    int64_t w = in_plane->w, there = samples_of(in_plane, group);
    for (int64_t b = 0; b < 2 * c->ins; b++) {
        uint16_t *to = t + (b / 2 * c->slots + y % c->slots) * w * PIXEL + b % 2 * TILE;
        if (b >= in_plane->blocks) {
            zero(to, w, PIXEL);
            continue;
        }
        const uint16_t *from =
            x + group * AMX_GROUP * in_plane->sample + b * in_plane->block + y * in_plane->row;
        watch_affine f = watch_affine_of(kind, in, b);
        for (int64_t i = 0; i < w; i += 2) {
            _Alignas(64) uint16_t two[2 * TILE];
            pairs(in_plane, from + i * in_plane->pixel, there, i + 1 < w, f, two, TILE);
            turn(two, to + i * PIXEL);
            if (i + 1 < w)
                turn(two + TILE, to + (i + 1) * PIXEL);
        }
    }
}

void amx_take_turned(const amx_conv *c, const nn_affine *in, int64_t group, int64_t y,
                     const uint16_t *x, uint16_t *t)
{
    BY_AFFINE(in, take_turned, c, in, group, y, x, t);
}

static vf add_pairs(vf sum, const uint16_t *z, int64_t tiles, int64_t step)
{
    for (int64_t i = 0; i < tiles; i++)
        for (int64_t j = 0; j < TILE; j += 2 * AMX_LANES) {
            vi two = (vi)_mm512_load_si512(z + i * step + j);
            sum += (vf)(two << 16) + (vf)(two & (int32_t)0xffff0000);
        }
    return sum;
}

void amx_take_pairs(const amx_conv *c, const amx_strip *s, const uint16_t *dy, uint16_t *z,
                    double *bias)
{
    const amx_tensor *t = &c->out;
    const watch_affine none = {NN_AFFINE_NONE};
    int64_t pixels = (s->end - s->begin) * t->w, there = samples_of(t, s->group);
    for (int64_t b = 0; b < 2 * c->outs; b++) {
        uint16_t *to = z + b / 2 * c->rows * t->w * PIXEL + b % 2 * TILE;
        if (b >= t->blocks) {
            zero(to, pixels, PIXEL);
            continue;
        }
        const uint16_t *from =
            dy + s->group * AMX_GROUP * t->sample + b * t->block + s->begin * t->row;
        for (int64_t i = 0; i < pixels; i += 2)
            pairs(t, from + i * t->pixel, there, i + 1 < pixels, none, to + i * PIXEL, PIXEL);
        vf sum = bias ? add_pairs((vf){0}, to, pixels, PIXEL) : (vf){0};
        for (int64_t l = 0; l < VF && bias; l++)
            bias[b * VF + l] += (double)sum[l];
    }
}

/* ---- products ---- */

/* The tiles 0 to 3: sums of samples (of channels in) by channels out; 4, 5 and 6, 7 what is
 * multiplied. `outs`, 1 or 2 blocks of channels out, is a constant. */
INLINE void sums_zero(int64_t outs)
{
    _tile_zero(0);
    _tile_zero(1);
    if (outs == 2) {
        _tile_zero(2);
        _tile_zero(3);
    }
}

INLINE void sums_load(const float *m, int64_t row, int64_t down, int64_t across, int64_t outs)
{
    _tile_loadd(0, m, row);
    _tile_loadd(1, m + down, row);
    if (outs == 2) {
        _tile_loadd(2, m + across, row);
        _tile_loadd(3, m + down + across, row);
    }
}

INLINE void sums_store(float *m, int64_t row, int64_t down, int64_t across, int64_t outs)
{
    _tile_stored(0, m, row);
    _tile_stored(1, m + down, row);
    if (outs == 2) {
        _tile_stored(2, m + across, row);
        _tile_stored(3, m + down + across, row);
    }
}

INLINE void products(const uint16_t *a, const uint16_t *b, int64_t steps, int64_t outs)
{
    for (int64_t i = 0; i < steps; i++, a += PIXEL, b += PIXEL) {
        _tile_loadd(6, b, ROW);
        _tile_loadd(4, a, ROW);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(5, a + TILE, ROW);
        _tile_dpbf16ps(1, 5, 6);
        if (outs == 2) {
            _tile_loadd(7, b + TILE, ROW);
            _tile_dpbf16ps(2, 4, 7);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
}

/* Rows `taps` of the windows of one row of pixels out. */
INLINE void multiply_row(const amx_conv *c, int64_t y, span taps, const uint16_t *u,
                         const uint16_t *v, float *m, bool fresh, int64_t outs)
{
    int64_t line = line_of(c), row = line * (int64_t)sizeof(float);
    int64_t slot = c->in.w * c->ins * PIXEL, step = c->deep * PIXEL;
    for (int64_t x = 0; x < c->out.w; x++) {
        span across = inside(x, c->sw, c->pw, c->kw, c->in.w);
        int64_t first = x * c->sw - c->pw + across.begin, steps = (across.end - across.begin) * c->deep;
        float *sums = m + x * AMX_LANES;
        if (fresh)
            sums_zero(outs);
        else
            sums_load(sums, row, 16 * line, AMX_GROUP * line, outs);
        for (int64_t i = taps.begin; i < taps.end; i++) {
            int64_t at = y * c->sh - c->ph + i;
            products(v + at % c->slots * slot + first * step,
                     u + (i * c->kw + across.begin) * step, steps, outs);
        }
        sums_store(sums, row, 16 * line, AMX_GROUP * line, outs);
    }
}

void amx_multiply(const amx_conv *c, const amx_strip *s, int64_t out, const uint16_t *u,
                  const uint16_t *v, float *m)
{
    int64_t chunks = c->ins / c->deep, taps = c->kh * c->kw * c->deep * PIXEL;
    int64_t together = least(c->kh, most(1, STEPS_AT_ONCE / (c->kw * c->deep)));
    bool two = 2 * out + 1 < c->out.blocks;
    SETTLE();
    for (int64_t q = 0; q < chunks; q++)
        for (int64_t i = 0; i < c->kh; i += together)
            for (int64_t y = s->begin; y < s->end; y++) {
                span in = inside(y, c->sh, c->ph, c->kh, c->in.h);
                span some = {most(in.begin, i), least(in.end, i + together)};
                bool none = in.begin >= in.end; /* the window lies beside the plane */
                bool fresh = q == 0 && (none ? i == 0 : some.begin == in.begin);
                const uint16_t *filters = u + (out * chunks + q) * taps;
                const uint16_t *from = v + q * c->in.w * c->deep * PIXEL;
                float *to = m + (y - s->begin) * c->out.w * AMX_LANES;
                if (some.begin >= some.end && !(none && fresh))
                    continue;
                if (two)
                    multiply_row(c, y, some, filters, from, to, fresh, 2);
                else
                    multiply_row(c, y, some, filters, from, to, fresh, 1);
            }
    SETTLE();
}

/* One window's place of the filters: sums over the strip's pixels whose windows have it in the plane. */
INLINE void accumulate_place(const amx_conv *c, const amx_strip *s, int64_t ky, int64_t kx,
                             const uint16_t *t, const uint16_t *z, float *sums, int64_t outs)
{
    int64_t w = c->out.w, before = c->pw - kx, begin = 0, end = w;
    while (begin < w && begin * c->sw < before)
        begin++;
    while (end > begin && (end - 1) * c->sw - before >= c->in.w)
        end--;
    sums_load(sums, ROW, SUMS, 2 * SUMS, outs);
    for (int64_t y = s->begin; y < s->end; y++) {
        int64_t at = y * c->sh - c->ph + ky;
        if (at < 0 || at >= c->in.h)
            continue;
        const uint16_t *a = t + (at % c->slots * c->in.w - before) * PIXEL;
        const uint16_t *b = z + (y - s->begin) * w * PIXEL;
        for (int64_t x = begin; x < end; x++)
            products(a + x * c->sw * PIXEL, b + x * PIXEL, 1, outs);
    }
    sums_store(sums, ROW, SUMS, 2 * SUMS, outs);
}

void amx_accumulate(const amx_conv *c, const amx_strip *s, const uint16_t *t, const uint16_t *z,
                    float *sums)
{
    int64_t a_place = c->ins * c->outs * 4 * SUMS;
    SETTLE();
    for (int64_t o = 0; o < c->outs; o++)
        for (int64_t i = 0; i < c->ins; i++)
            for (int64_t k = 0; k < c->kh * c->kw; k++) {
                const uint16_t *a = t + i * c->slots * c->in.w * PIXEL;
                const uint16_t *b = z + o * c->rows * c->out.w * PIXEL;
                float *to = sums + k * a_place + (o * c->ins + i) * 4 * SUMS;
                if (2 * o + 1 < c->out.blocks)
                    accumulate_place(c, s, k / c->kw, k % c->kw, a, b, to, 2);
                else
                    accumulate_place(c, s, k / c->kw, k % c->kw, a, b, to, 1);
            }
    SETTLE();
}

/* ---- results brought back ---- */

INLINE void put_line(const amx_conv *c, const nn_conv_end *e, const float *m, uint16_t *y,
                     int64_t at, vf bias, nn_activation act, nn_watch_kind kind, watch_tally *t)
{
    vf sum = {0}, product = {0};
    for (int64_t i = 0; i < c->out.w; i++, m += VF, at += c->out.pixel) {
        vf value = load(m, false, 0, VF) + bias;
        if (e->sum)
            value += load(y, true, at, VF);
        value = act_value(act, value);
        if (kind)
            value = watch_value(kind, &e->watch, true, t, at, value, &sum, &product);
        store(y, true, at, VF, value);
    }
    t->sum += sum;
    t->product += product;
    t->n += c->out.w;
}

INLINE void put(const amx_conv *c, const amx_strip *s, int64_t out, const nn_conv_end *e,
                const float *m, uint16_t *y, nn_activation act, nn_watch_kind kind)
{
    const amx_tensor *t = &c->out;
    int64_t there = samples_of(t, s->group), rows = s->end - s->begin;
    for (int64_t b = 2 * out; b < 2 * out + 2 && b < t->blocks; b++) {
        vf bias = e->bias ? load(e->bias, false, b * VF, VF) : (vf){0};
        const float *from = m + (b - 2 * out) * AMX_GROUP * line_of(c);
        int64_t at = t->first + s->group * AMX_GROUP * t->sample + b * t->block + s->begin * t->row;
        watch_tally tally = {.n = 0};
        if (kind)
            tally = watch_begin(kind, &e->watch, b, load(from, false, 0, VF) + bias);
        for (int64_t i = 0; i < there * rows; i++) {
            int64_t n = i / rows, row = i % rows;
            put_line(c, e, from + n * line_of(c) + row * t->w * VF, y,
                     at + n * t->sample + row * t->row, bias, act, kind, &tally);
        }
        if (kind)
            watch_end(kind, &e->watch, &tally, b);
    }
}

void amx_put(const amx_conv *c, const amx_strip *s, int64_t out, const nn_conv_end *e, const float *m,
             uint16_t *y)
{
#define CALL(act) put(c, s, out, e, m, y, act, NN_WATCH_NOTHING)
#define WATCH(kind)                                                                                \
    case kind:                                                                                     \
        put(c, s, out, e, m, y, NN_IDENTITY, kind);                                                \
        break;
    switch (e->watch.kind) {
        WATCH(NN_WATCH_VALUES)
        WATCH(NN_WATCH_GRADIENT)
        WATCH(NN_WATCH_RELU)
        WATCH(NN_WATCH_RELU_OUTPUT)
    case NN_WATCH_NOTHING:
        FOR_ACT(e->activation, CALL);
    }
#undef WATCH
#undef CALL
}

/* ---- filters ---- */

/* A number from each of `lanes` windows that lie `step` apart; zeros behind them. */
INLINE __m512 gather(const float *w, int64_t step, int64_t lanes)
{
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __mmask16 real = lanes >= VF ? 0xffff : (__mmask16)((1u << most(lanes, 0)) - 1);
    return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), real,
                                    _mm512_mullo_epi32(lane, _mm512_set1_epi32((int)step)), w, 4);
}

/* A tile of u: 16 pairs of channels in from `in` on by 16 channels out from `out` on. */
static void filter_tile(const nn_filters *f, int64_t tap, int64_t out, int64_t in, uint16_t *to)
{
    const __m512i between = _mm512_set_epi16(
        31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19,
        3, 18, 2, 17, 1, 16, 0);
    const float *from = f->weights + out * f->out_step + in * f->in_step + tap;
    for (int64_t j = 0; j < 16; j++, from += 2 * f->in_step) {
        int64_t left = f->ins - in - 2 * j;
        __m512 even = gather(from, f->out_step, left > 0 ? f->outs - out : 0);
        __m512 odd = gather(from + f->in_step, f->out_step, left > 1 ? f->outs - out : 0);
        __m512i both = (__m512i)_mm512_cvtne2ps_pbh(odd, even);
        _mm512_store_si512(to + j * 32, _mm512_permutexvar_epi16(between, both));
    }
}

void amx_filters(const amx_conv *c, const nn_filters *f, uint16_t *u, int64_t begin, int64_t end)
{
    int64_t taps = c->kh * c->kw, chunks = c->ins / c->deep;
    for (int64_t o = begin; o < end; o++)
        for (int64_t i = 0; i < c->ins; i++)
            for (int64_t k = 0; k < taps; k++) {
                int64_t chunk = o * chunks + i / c->deep;
                uint16_t *to = u + ((chunk * taps + k) * c->deep + i % c->deep) * PIXEL;
                int64_t tap = c->tap + k / c->kw * c->tap_row + k % c->kw * c->tap_column;
                filter_tile(f, tap, o * AMX_PAIR, i * AMX_PAIR, to);
                filter_tile(f, tap, o * AMX_PAIR + AMX_LANES, i * AMX_PAIR, to + TILE);
            }
}

/* Of one tile: the sums of all parts, to [16 out][16 in][taps]. */
INLINE void total(const float *sums, int64_t parts, int64_t part_floats, int64_t tap, int64_t taps,
                  float *to)
{
    for (int64_t i = 0; i < VF; i++) {
        vf sum = {0};
        for (int64_t p = 0; p < parts; p++)
            sum += load(sums + p * part_floats, false, i * VF, VF);
        for (int64_t o = 0; o < VF; o++)
            to[(o * VF + i) * taps + tap] = sum[o];
    }
}

void amx_filters_back(const amx_conv *c, const nn_filters *f, const float *sums, int64_t parts,
                      int64_t part_floats, float *gradients, int64_t begin, int64_t end)
{
    enum { MOST_TAPS = AMX_MOST_SIDE * AMX_MOST_SIDE };
    int64_t taps = c->kh * c->kw, a_place = c->ins * c->outs * 4 * SUMS;
    float block[MOST_TAPS * VF * VF];
    for (int64_t b = 2 * begin; b < 2 * end && b * VF < f->outs; b++)
        for (int64_t i = 0; i * VF < f->ins; i++) {
            int64_t quad = (b / 2 * c->ins + i / 2) * 4 + b % 2 * 2 + i % 2;
            for (int64_t k = 0; k < taps; k++)
                total(sums + k * a_place + quad * SUMS, parts, part_floats, k, taps, block);
            int64_t ins = least(VF, f->ins - i * VF), outs = least(VF, f->outs - b * VF);
            for (int64_t o = 0; o < outs; o++)
                memcpy(gradients + (b * VF + o) * f->out_step + i * VF * f->in_step,
                       block + o * VF * taps, (size_t)(ins * taps) * sizeof(float));
        }
}

#ifdef __clang__
#pragma clang attribute pop
#endif
