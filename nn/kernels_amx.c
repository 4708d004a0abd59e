/* SPDX-License-Identifier: Apache-2.0
 * kernels_amx: see kernels_amx.h. Compiled for CPUs that have tiles; run only there.
 */
#include "kernels_amx.h"

#include <string.h>

#ifdef __clang__
#pragma clang attribute push(                                                                      \
    __attribute__((                                                                                \
        target("amx-tile,amx-bf16,avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))),      \
    apply_to = function)
#else
#pragma GCC target(                                                                                \
    "amx-tile,amx-bf16,avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#pragma GCC optimize("no-trapping-math", "fp-contract=fast")
#endif

#define VF 16
#include "kernels_amx_order.h"

/* Pairs of blocks that are multiplied before sums go to memory and come back: the filters of these
 * stay in the first-level cache. */
enum { STEPS_AT_ONCE = 12 };

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

/* Where the tiles of one side are: rows, in bytes; the second 16 of them, the next step, in elements. */
typedef struct side {
    int64_t row, second, step;
} side;

static const side whole = {ROW, TILE, PIXEL};

INLINE void products(const uint16_t *a, side s, const uint16_t *b, int64_t steps, int64_t ins,
                     int64_t outs)
{
    for (int64_t i = 0; i < steps; i++, a += s.step, b += PIXEL) {
        _tile_loadd(6, b, ROW);
        _tile_loadd(4, a, s.row);
        _tile_dpbf16ps(0, 4, 6);
        if (ins == 2) {
            _tile_loadd(5, a + s.second, s.row);
            _tile_dpbf16ps(1, 5, 6);
        }
        if (outs == 2) {
            _tile_loadd(7, b + TILE, ROW);
            _tile_dpbf16ps(2, 4, 7);
            if (ins == 2)
                _tile_dpbf16ps(3, 5, 7);
        }
    }
}

/* Rows `taps` of the windows of one row of pixels out. */
INLINE void multiply_row(const amx_conv *c, int64_t y, span taps, const uint16_t *u,
                         const uint16_t *v, float *m, bool fresh, int64_t outs, bool words)
{
    int64_t line = line_of(c), row = line * (int64_t)sizeof(float);
    int64_t step = c->deep * PIXEL, pixel = words ? c->words.pixel : step;
    side s = whole;
    if (words)
        s = (side){c->words.row * (int64_t)sizeof *v, AMX_GROUP / 2 * c->words.row, AMX_PAIR};
    for (int64_t x = 0; x < c->out.w; x++) {
        span across = inside(x, c->sw, c->pw, c->kw, c->in.w);
        int64_t first = x * c->sw - c->pw + across.begin,
                steps = (across.end - across.begin) * c->deep;
        float *sums = m + x * AMX_LANES;
        if (fresh)
            sums_zero(outs);
        else
            sums_load(sums, row, 16 * line, AMX_GROUP * line, outs);
        for (int64_t i = taps.begin; i < taps.end; i++) {
            int64_t at = y * c->sh - c->ph + i;
            products(v + at % c->slots * row_of(c) + first * pixel, s,
                     u + (i * c->kw + across.begin) * step, steps, 2, outs);
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
            for (int64_t k = 0; k < s->groups * (s->end - s->begin); k++) {
                int64_t group = k / (s->end - s->begin), row = k % (s->end - s->begin);
                int64_t y = s->begin + row;
                span in = inside(y, c->sh, c->ph, c->kh, c->in.h);
                span some = {most(in.begin, i), least(in.end, i + together)};
                bool none = in.begin >= in.end; /* the window lies beside the plane */
                bool fresh = q == 0 && (none ? i == 0 : some.begin == in.begin);
                const uint16_t *filters = u + (out * chunks + q) * taps;
                const uint16_t *from =
                    v + group * c->slots * row_of(c) + q * c->in.w * c->deep * PIXEL;
                float *to = m + (group * c->rows + row) * c->out.w * AMX_LANES;
                if (some.begin >= some.end && !(none && fresh))
                    continue;
                if (c->words.pixel && two)
                    multiply_row(c, y, some, filters, from, to, fresh, 2, true);
                else if (c->words.pixel)
                    multiply_row(c, y, some, filters, from, to, fresh, 1, true);
                else if (two)
                    multiply_row(c, y, some, filters, from, to, fresh, 2, false);
                else
                    multiply_row(c, y, some, filters, from, to, fresh, 1, false);
            }
    SETTLE();
}

/* One window's place of the filters: sums over the strip's pixels whose windows have it in the plane. */
INLINE void accumulate_place(const amx_conv *c, const amx_strip *s, int64_t ky, int64_t kx,
                             const uint16_t *t, const uint16_t *z, bool fresh, float *sums,
                             int64_t ins, int64_t outs)
{
    bool words = c->words.pixel;
    int64_t pixel = words ? c->words.pixel * AMX_GROUP : PIXEL;
    int64_t row = words ? row_of(c) : c->in.w * PIXEL;
    int64_t w = c->out.w, before = c->pw - kx, begin = 0, end = w;
    while (begin < w && begin * c->sw < before)
        begin++;
    while (end > begin && (end - 1) * c->sw - before >= c->in.w)
        end--;
    if (fresh)
        sums_zero(outs);
    else
        sums_load(sums, ROW, SUMS, 2 * SUMS, outs);
    for (int64_t k = 0; k < s->groups * (s->end - s->begin); k++) {
        int64_t group = k / (s->end - s->begin), y = k % (s->end - s->begin);
        int64_t at = (s->begin + y) * c->sh - c->ph + ky;
        if (at < 0 || at >= c->in.h)
            continue;
        const uint16_t *a = t + slot_of(c, group, at) * row - before * pixel;
        const uint16_t *b = z + (group * c->rows + y) * w * PIXEL;
        for (int64_t x = begin; x < end; x++)
            products(a + x * c->sw * pixel, whole, b + x * PIXEL, 1, ins, outs);
    }
    sums_store(sums, ROW, SUMS, 2 * SUMS, outs);
}

void amx_accumulate(const amx_conv *c, const amx_strip *s, int64_t out, int64_t in,
                    const uint16_t *t, const uint16_t *z, bool fresh, float *sums, int64_t place)
{
    bool two = 2 * out + 1 < c->out.blocks, both = 2 * in + 1 < c->in.blocks;
    int64_t pair = c->together * c->slots * c->in.w * PIXEL;
    const uint16_t *a = t + in * (c->words.pixel ? AMX_PAIR * AMX_GROUP : pair);
    const uint16_t *b = z + out * c->together * c->rows * c->out.w * PIXEL;
    SETTLE();
    for (int64_t k = 0; k < c->kh * c->kw; k++, sums += place) {
        int64_t y = k / c->kw, x = k % c->kw;
        if (two && both)
            accumulate_place(c, s, y, x, a, b, fresh, sums, 2, 2);
        else if (two)
            accumulate_place(c, s, y, x, a, b, fresh, sums, 1, 2);
        else if (both)
            accumulate_place(c, s, y, x, a, b, fresh, sums, 2, 1);
        else
            accumulate_place(c, s, y, x, a, b, fresh, sums, 1, 1);
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
    int64_t there = least(s->groups * AMX_GROUP, t->n - s->group * AMX_GROUP);
    int64_t rows = s->end - s->begin;
    for (int64_t b = 2 * out; b < 2 * out + 2 && b < t->blocks; b++) {
        vf bias = e->bias ? load(e->bias, false, b * VF, VF) : (vf){0};
        const float *from = m + (b - 2 * out) * AMX_GROUP * line_of(c);
        int64_t at = t->first + s->group * AMX_GROUP * t->sample + b * t->block + s->begin * t->row;
        watch_tally tally = {.n = 0};
        if (kind)
            tally = watch_begin(kind, &e->watch, b, load(from, false, 0, VF) + bias);
        for (int64_t i = 0; i < there * rows; i++) {
            int64_t n = i / rows, row = i % rows;
            int64_t line = n / AMX_GROUP * c->rows + row;
            put_line(c, e, from + n % AMX_GROUP * line_of(c) + line * t->w * VF, y,
                     at + n * t->sample + row * t->row, bias, act, kind, &tally);
        }
        if (kind)
            watch_end(kind, &e->watch, &tally, b);
    }
}

void amx_put(const amx_conv *c, const amx_strip *s, int64_t out, const nn_conv_end *e,
             const float *m, uint16_t *y)
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
    __mmask16 real = (__mmask16)((1u << least(most(lanes, 0), VF)) - 1);
    if (step == 1)
        return _mm512_maskz_loadu_ps(real, w);
    return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), real,
                                    _mm512_mullo_epi32(lane, _mm512_set1_epi32((int)step)), w, 4);
}

/* Folded, a row of a window: all channels in of its first place, of its second, ... */
static int64_t channel_at(const nn_filters *f, int64_t i)
{
    return f->folded ? i % f->folded * f->in_step + i / f->folded : i * f->in_step;
}

/* A tile of u: 16 pairs of channels in from `in` on by 16 channels out from `out` on. */
static void filter_tile(const nn_filters *f, int64_t tap, int64_t out, int64_t in, uint16_t *to)
{
    const float *from = f->weights + out * f->out_step + tap;
    for (int64_t j = 0; j < 16; j++) {
        int64_t at = in + 2 * j, left = f->ins - at;
        __m512 even = gather(from + channel_at(f, at), f->out_step, left > 0 ? f->outs - out : 0);
        __m512 odd =
            gather(from + channel_at(f, at + 1), f->out_step, left > 1 ? f->outs - out : 0);
        __m512i both = (__m512i)_mm512_cvtne2ps_pbh(odd, even);
        _mm512_store_si512(to + j * 32, interleave(both));
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

/* Of one tile: the sums of all parts, 16 channels in `step` apart. */
INLINE void total(const float *sums, int64_t parts, int64_t part_floats, float *to, int64_t step)
{
    for (int64_t i = 0; i < VF; i++) {
        vf sum = {0};
        for (int64_t p = 0; p < parts; p++)
            sum += load(sums + p * part_floats, false, i * VF, VF);
        _mm512_store_ps(to + i * step, (__m512)sum);
    }
}

/* [numbers][16 channels out], each channel's to its filter: the same numbers of filters `step` apart. */
static void put_filters(const float *from, int64_t numbers, int64_t filters, float *to,
                        int64_t step)
{
    _Alignas(64) float rows[VF * VF];
    for (int64_t n = 0; n < numbers; n += VF) {
        __mmask16 real = (__mmask16)((1u << least(numbers - n, VF)) - 1);
        turn((const uint16_t *)(from + n * VF), (uint16_t *)rows);
        for (int64_t o = 0; o < filters; o++)
            _mm512_mask_storeu_ps(to + o * step + n, real, _mm512_load_ps(rows + o * VF));
    }
}

void amx_filters_back(const amx_conv *c, const nn_filters *f, int64_t out, int64_t in,
                      const float *sums, int64_t place, int64_t parts, int64_t part_floats,
                      float *gradients)
{
    _Alignas(64) float all[AMX_MOST_TAPS * VF * VF];
    int64_t places = c->kh * c->kw;
    for (int64_t q = 0; q < 4; q++) {
        int64_t b = 2 * out + q / 2, i = 2 * in + q % 2;
        int64_t outs = least(VF, f->outs - b * VF), ins = least(VF, f->ins - i * VF);
        float *to = gradients + b * VF * f->out_step;
        if (outs <= 0 || ins <= 0)
            continue;
        for (int64_t k = 0; k < places; k++)
            total(sums + k * place + q * SUMS, parts, part_floats, all + k * VF, places * VF);
        if (!f->folded)
            put_filters(all, ins * places, outs, to + i * VF * f->in_step, f->out_step);
        for (int64_t l = 0; l < outs * ins * places && f->folded; l++) {
            int64_t o = l % outs, n = l / outs, number = channel_at(f, i * VF + n / places);
            to[o * f->out_step + number + n % places * c->tap_row] = all[n * VF + o];
        }
    }
}

#ifdef __clang__
#pragma clang attribute pop
#endif
