/* SPDX-License-Identifier: Apache-2.0
 * kernels_winograd: convolution with windows of 3x3 and stride 1 by Winograd's minimal filtering
 * F(4x4, 3x3), Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016: a tile of
 * 4x4 outputs from 6x6 inputs by 36 products a pair of channels instead of 144.
 *
 *     y = At [ (G g Gt) . (Bt d B) ] A,   summed over the input's channels before At and A
 *
 * and the weights' gradient by F(3x3, 4x4), the same with a tile of 4x4 gradients as the filter:
 * d's transform is the same. Tensors are [n][blocks][pixels][VF channels], fp32. A few tiles at a
 * time go through all steps, so that what lies between them stays in the second-level cache:
 *
 *     v [36][tiles][channels in]   z [36][tiles][channels out]   m [36][blocks out][tiles][VF]
 */
#ifndef NN_KERNELS_WINOGRAD_H
#define NN_KERNELS_WINOGRAD_H

#include "kernels_math.h"

enum {
    /* Blocks of sums that are kept in registers, of 32 or 16. */
    TILES_BY_TWO = VF == 16 ? 14 : 6, /* tiles by two vectors of channels out */
    TILES_BY_ONE = VF == 16 ? 28 : 12,
    INS_BY_TWO = VF == 16 ? 8 : 4, /* channels in by two vectors of channels out */
    INS_BY_ONE = VF == 16 ? 16 : 8,
};

/* ---- where a tile lies ---- */

typedef struct wino_place {
    int64_t n, y, x; /* sample; of the first output */
} wino_place;

INLINE wino_place wino_first(const nn_winograd *s, int64_t tile)
{
    int64_t a_plane = s->th * s->tw, in_plane = tile % a_plane;
    return (wino_place){tile / a_plane, in_plane / s->tw * 4, in_plane % s->tw * 4};
}

INLINE void wino_next(const nn_winograd *s, wino_place *at)
{
    at->x += 4;
    if (at->x < s->ow)
        return;
    at->x = 0;
    at->y += 4;
    if (at->y < s->oh)
        return;
    at->y = 0;
    at->n++;
}

INLINE vf plain(const float *x)
{
    return load(x, false, 0, VF);
}

INLINE void put(float *x, vf v)
{
    store(x, false, 0, VF, v);
}

/* The side x side pixels of a plane of h*w from (y, x) on; zeros beyond it. */
typedef struct wino_window {
    int64_t h, w, y, x;
} wino_window;

/* The first pixel, and the floats from row to row: in the plane, or in a copy in `memory` where some
 * of them are beyond it. */
INLINE const float *wino_pixels(const float *plane, const wino_window *at, int64_t side,
                                float *memory, int64_t *row)
{
    *row = at->w * VF;
    if (at->y >= 0 && at->x >= 0 && at->y + side <= at->h && at->x + side <= at->w)
        return plane + (at->y * at->w + at->x) * VF;
    *row = side * VF;
    int64_t y0 = at->y < 0 ? -at->y : 0, y1 = at->h - at->y < side ? at->h - at->y : side;
    int64_t x0 = at->x < 0 ? -at->x : 0, x1 = at->w - at->x < side ? at->w - at->x : side;
    for (int64_t i = 0; i < side * side; i++)
        put(memory + i * VF, (vf){0});
    for (int64_t i = y0; i < y1; i++) {
        const float *from = plane + ((at->y + i) * at->w + at->x) * VF;
        for (int64_t j = x0; j < x1; j++)
            put(memory + (i * side + j) * VF, plain(from + j * VF));
    }
    return memory;
}

/* ---- the transforms of one row or column ---- */

/* To 6 values, `step` apart. */
typedef void (*wino_transform)(const vf *in, vf *out, int64_t step);

INLINE void wino_bt(const vf *d, vf *out, int64_t step)
{
    vf a = d[4] - d[2] * 4.0f, b = d[3] - d[1] * 4.0f, c = d[4] - d[2], e = (d[3] - d[1]) * 2.0f;
    out[0] = d[0] * 4.0f - d[2] * 5.0f + d[4];
    out[step] = a + b;
    out[2 * step] = a - b;
    out[3 * step] = c + e;
    out[4 * step] = c - e;
    out[5 * step] = d[1] * 4.0f - d[3] * 5.0f + d[5];
}

/* 6 products to 4 outputs. */
INLINE void wino_at4(const vf *m, vf *out)
{
    vf s1 = m[1] + m[2], d1 = m[1] - m[2];
    vf s2 = m[3] + m[4], d2 = m[3] - m[4];
    out[0] = m[0] + s1 + s2;
    out[1] = d1 + d2 * 2.0f;
    out[2] = s1 + s2 * 4.0f;
    out[3] = d1 + d2 * 8.0f + m[5];
}

/* 6 products to the 3 elements of a filter's gradient. */
INLINE void wino_at3(const vf *m, vf *out)
{
    vf s1 = m[1] + m[2], d1 = m[1] - m[2];
    vf s2 = m[3] + m[4], d2 = m[3] - m[4];
    out[0] = m[0] + s1 + s2;
    out[1] = d1 + d2 * 2.0f;
    out[2] = s1 + s2 * 4.0f + m[5];
}

INLINE void wino_g3(const vf *g, vf *out, int64_t step)
{
    vf even = (g[0] + g[2]) * (-1.0f / 6), odd = g[1] * (-1.0f / 6);
    vf far = (g[0] + g[2] * 4.0f) * (1.0f / 24), middle = g[1] * (1.0f / 12);
    out[0] = g[0] * 0.25f;
    out[step] = even + odd;
    out[2 * step] = even - odd;
    out[3 * step] = far + middle;
    out[4 * step] = far - middle;
    out[5 * step] = g[2];
}

INLINE void wino_g4(const vf *g, vf *out, int64_t step)
{
    vf even = (g[0] + g[2]) * (-1.0f / 6), odd = (g[1] + g[3]) * (-1.0f / 6);
    vf far = (g[0] + g[2] * 4.0f) * (1.0f / 24);
    vf middle = (g[1] + g[3] * 4.0f) * (1.0f / 12);
    out[0] = g[0] * 0.25f;
    out[step] = even + odd;
    out[2 * step] = even - odd;
    out[3 * step] = far + middle;
    out[4 * step] = far - middle;
    out[5 * step] = g[3];
}

/* The rows of t [6][width], transformed; the 36 results are `step` floats apart. */
INLINE void wino_put_rows(const vf *t, int64_t width, wino_transform transform, float *to,
                          int64_t step)
{
#pragma GCC unroll 6
    for (int64_t i = 0; i < 6; i++) {
        vf row[6];
        transform(t + i * width, row, 1);
#pragma GCC unroll 6
        for (int64_t j = 0; j < 6; j++)
            put(to + (i * 6 + j) * step, row[j]);
    }
}

/* ---- tiles in ---- */

INLINE void wino_input(const float *plane, const wino_window *at, float *to, int64_t step,
                       float *memory)
{
    vf t[NN_WINOGRAD_POINTS];
    int64_t width;
    const float *from = wino_pixels(plane, at, 6, memory, &width);
#pragma GCC unroll 6
    for (int64_t j = 0; j < 6; j++) {
        vf six[6];
#pragma GCC unroll 6
        for (int64_t i = 0; i < 6; i++)
            six[i] = plain(from + i * width + j * VF);
        wino_bt(six, t + j, 6);
    }
    wino_put_rows(t, 6, wino_bt, to, step);
}

/* v of tiles [begin, end), which has room for `room` of them. */
static void winograd_input(const nn_winograd *s, const float *x, float *v, int64_t room,
                           int64_t begin, int64_t end)
{
    int64_t channels = s->ins * VF, step = nn_winograd_step(room, s->ins, VF),
            plane = s->h * s->w * VF;
    float memory[NN_WINOGRAD_POINTS * VF];
    wino_place at = wino_first(s, begin);
    for (int64_t tile = begin; tile < end; tile++, wino_next(s, &at)) {
        wino_window window = {s->h, s->w, at.y - s->ph, at.x - s->pw};
        const float *from = x + at.n * s->ins * plane;
        float *to = v + (tile - begin) * channels;
        for (int64_t b = 0; b < s->ins; b++, from += plane, to += VF)
            wino_input(from, &window, to, step, memory);
    }
}

/* The sum of the tile's gradients. */
INLINE vf wino_gradient(const float *plane, const wino_window *at, float *to, int64_t step,
                        float *memory)
{
    vf t[24], sum = {0};
    int64_t width;
    const float *from = wino_pixels(plane, at, 4, memory, &width);
#pragma GCC unroll 4
    for (int64_t j = 0; j < 4; j++) {
        vf six[4];
#pragma GCC unroll 4
        for (int64_t i = 0; i < 4; i++) {
            six[i] = plain(from + i * width + j * VF);
            sum += six[i];
        }
        wino_g4(six, t + j, 4);
    }
    wino_put_rows(t, 4, wino_g4, to, step);
    return sum;
}

/* z of tiles [begin, end) of dy, and its sums a channel, added to bias (NULL: not wanted). */
static void winograd_gradient(const nn_winograd *s, const float *dy, float *z, double *bias,
                              int64_t room, int64_t begin, int64_t end)
{
    int64_t channels = s->outs * VF, step = nn_winograd_step(room, s->outs, VF),
            plane = s->oh * s->ow * VF;
    float memory[16 * VF];
    for (int64_t b = 0; b < s->outs; b++) {
        vf sum = {0};
        wino_place at = wino_first(s, begin);
        for (int64_t tile = begin; tile < end; tile++, wino_next(s, &at)) {
            wino_window window = {s->oh, s->ow, at.y, at.x};
            const float *from = dy + (at.n * s->outs + b) * plane;
            float *to = z + (tile - begin) * channels + b * VF;
            sum += wino_gradient(from, &window, to, step, memory);
        }
        for (int64_t l = 0; l < VF && bias; l++)
            bias[b * VF + l] += (double)sum[l];
    }
}

/* ---- products ---- */

/* `tiles` tiles by `outs` vectors of channels out; both are constants where it is used. */
INLINE void wino_multiply(const float *u, const float *v, float *m, int64_t channels, int64_t room,
                          int64_t tiles, int64_t outs)
{
    vf sum[TILES_BY_ONE];
#pragma GCC unroll 28
    for (int64_t i = 0; i < tiles * outs; i++)
        sum[i] = (vf){0};
    for (int64_t c = 0; c < channels; c++) {
        vf w[2];
#pragma GCC unroll 2
        for (int64_t o = 0; o < outs; o++)
            w[o] = plain(u + (o * channels + c) * VF);
#pragma GCC unroll 28
        for (int64_t i = 0; i < tiles * outs; i++)
            sum[i] += w[i % outs] * v[i / outs * channels + c];
    }
#pragma GCC unroll 28
    for (int64_t i = 0; i < tiles * outs; i++)
        put(m + (i % outs * room + i / outs) * VF, sum[i]);
}

INLINE void wino_multiply_all(const float *u, const float *v, float *m, int64_t channels,
                              int64_t room, int64_t tiles, int64_t most, int64_t outs)
{
    int64_t t = 0;
    for (; t + most <= tiles; t += most)
        wino_multiply(u, v + t * channels, m + t * VF, channels, room, most, outs);
    for (; t + 4 <= tiles; t += 4)
        wino_multiply(u, v + t * channels, m + t * VF, channels, room, 4, outs);
    for (; t < tiles; t++)
        wino_multiply(u, v + t * channels, m + t * VF, channels, room, 1, outs);
}

/* m = u . v, summed over the channels in. */
static void winograd_multiply(const nn_winograd *s, const float *u, const float *v, float *m,
                              int64_t room, int64_t tiles)
{
    int64_t channels = s->ins * VF;
    for (int64_t p = 0; p < NN_WINOGRAD_POINTS; p++) {
        const float *from = v + p * nn_winograd_step(room, s->ins, VF);
        const float *w = u + p * s->outs * channels * VF;
        float *to = m + p * nn_winograd_step(room, s->outs, VF);
        int64_t b = 0;
        for (; b + 2 <= s->outs; b += 2)
            wino_multiply_all(w + b * channels * VF, from, to + b * room * VF, channels, room,
                              tiles, TILES_BY_TWO, 2);
        if (b < s->outs)
            wino_multiply_all(w + b * channels * VF, from, to + b * room * VF, channels, room,
                              tiles, TILES_BY_ONE, 1);
    }
}

/* `ins` channels in by `outs` vectors of channels out, summed over the tiles. */
INLINE void wino_accumulate(const float *v, const float *z, float *m, int64_t v_step,
                            int64_t z_step, int64_t tiles, int64_t ins, int64_t outs)
{
    vf sum[INS_BY_ONE]; /* twice INS_BY_TWO */
#pragma GCC unroll 16
    for (int64_t i = 0; i < ins * outs; i++)
        sum[i] = plain(m + i / outs * z_step + i % outs * VF);
    for (int64_t t = 0; t < tiles; t++) {
        vf g[2];
#pragma GCC unroll 2
        for (int64_t o = 0; o < outs; o++)
            g[o] = plain(z + t * z_step + o * VF);
#pragma GCC unroll 16
        for (int64_t i = 0; i < ins * outs; i++)
            sum[i] += g[i % outs] * v[t * v_step + i / outs];
    }
#pragma GCC unroll 16
    for (int64_t i = 0; i < ins * outs; i++)
        put(m + i / outs * z_step + i % outs * VF, sum[i]);
}

/* sums [36][channels in][channels out] += v . z, summed over the tiles. */
static void winograd_accumulate(const nn_winograd *s, const float *v, const float *z, float *sums,
                                int64_t room, int64_t tiles)
{
    int64_t ins = s->ins * VF, outs = s->outs * VF;
    for (int64_t p = 0; p < NN_WINOGRAD_POINTS; p++) {
        const float *a = v + p * nn_winograd_step(room, s->ins, VF),
                    *g = z + p * nn_winograd_step(room, s->outs, VF);
        float *to = sums + p * ins * outs;
        int64_t b = 0;
        for (; b + 2 <= s->outs; b += 2)
            for (int64_t i = 0; i < ins; i += INS_BY_TWO)
                wino_accumulate(a + i, g + b * VF, to + i * outs + b * VF, ins, outs, tiles,
                                INS_BY_TWO, 2);
        for (int64_t i = 0; i < ins && b < s->outs; i += INS_BY_ONE)
            wino_accumulate(a + i, g + b * VF, to + i * outs + b * VF, ins, outs, tiles, INS_BY_ONE,
                            1);
    }
}

/* ---- tiles out ---- */

/* The pixels of one tile that lie in the plane; `whole`, a constant: all do. */
INLINE void wino_store(const nn_winograd *s, const nn_winograd_end *e, const wino_place *at,
                       const vf *y, vf bias, float *plane, bool whole, nn_activation act)
{
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; i++)
#pragma GCC unroll 4
        for (int64_t j = 0; j < 4; j++) {
            if (!whole && (at->y + i >= s->oh || at->x + j >= s->ow))
                continue;
            float *to = plane + ((at->y + i) * s->ow + at->x + j) * VF;
            vf value = y[i * 4 + j] + bias;
            if (e->sum)
                value += plain(to);
            put(to, act_value(act, value));
        }
}

INLINE void wino_tile_out(const float *from, int64_t step, vf *out)
{
    vf t[24];
#pragma GCC unroll 6
    for (int64_t j = 0; j < 6; j++) {
        vf six[6], four[4];
#pragma GCC unroll 6
        for (int64_t i = 0; i < 6; i++)
            six[i] = plain(from + (i * 6 + j) * step);
        wino_at4(six, four);
#pragma GCC unroll 4
        for (int64_t i = 0; i < 4; i++)
            t[i * 6 + j] = four[i];
    }
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; i++)
        wino_at4(t + i * 6, out + i * 4);
}

INLINE void wino_output(const nn_winograd *s, const nn_winograd_end *e, const float *m, float *y,
                        int64_t room, int64_t begin, int64_t end, nn_activation act)
{
    int64_t step = nn_winograd_step(room, s->outs, VF), plane = s->oh * s->ow * VF;
    wino_place at = wino_first(s, begin);
    for (int64_t tile = begin; tile < end; tile++, wino_next(s, &at)) {
        bool whole = at.y + 4 <= s->oh && at.x + 4 <= s->ow;
        for (int64_t b = 0; b < s->outs; b++) {
            vf out[16], bias = e->bias ? plain(e->bias + b * VF) : (vf){0};
            float *to = y + (at.n * s->outs + b) * plane;
            wino_tile_out(m + (b * room + tile - begin) * VF, step, out);
            if (whole)
                wino_store(s, e, &at, out, bias, to, true, act);
            else
                wino_store(s, e, &at, out, bias, to, false, act);
        }
    }
}

/* y of tiles [begin, end) from m. */
static void winograd_output(const nn_winograd *s, const nn_winograd_end *e, const float *m,
                            float *y, int64_t room, int64_t begin, int64_t end)
{
#define CALL(act) wino_output(s, e, m, y, room, begin, end, act)
    FOR_ACT(e->activation, CALL);
#undef CALL
}

/* ---- filters ---- */

/* u [36][blocks out][channels in][VF] of the blocks out [begin, end). */
static void winograd_filters(const nn_winograd *s, const nn_winograd_filters *f, float *u,
                             int64_t begin, int64_t end)
{
    int64_t channels = s->ins * VF, step = s->outs * channels * VF;
    for (int64_t b = begin; b < end; b++)
        for (int64_t c = 0; c < channels; c++) {
            vf g[9] = {0}, t[18];
            float *to = u + (b * channels + c) * VF;
            for (int64_t l = 0; l < VF && b * VF + l < f->outs && c < f->ins; l++) {
                const float *w = f->weights + (b * VF + l) * f->out_step + c * f->in_step;
                for (int64_t k = 0; k < 9; k++)
                    g[k][l] = w[f->turned ? 8 - k : k];
            }
            for (int64_t j = 0; j < 3; j++)
                wino_g3((const vf[]){g[j], g[3 + j], g[6 + j]}, t + j, 3);
            wino_put_rows(t, 3, wino_g3, to, step);
        }
}

/* The gradients of the filters of the channels in [begin, end), from `parts` sums, `part_floats`
 * apart. */
static void winograd_filters_back(const nn_winograd *s, const nn_winograd_filters *f,
                                  const float *sums, int64_t parts, int64_t part_floats,
                                  float *gradients, int64_t begin, int64_t end)
{
    int64_t outs = s->outs * VF, step = s->ins * VF * outs;
    for (int64_t c = begin; c < end; c++)
        for (int64_t b = 0; b < s->outs; b++) {
            vf t[18], g[9];
            for (int64_t j = 0; j < 6; j++) {
                vf six[6] = {0}, three[3];
                for (int64_t part = 0; part < parts; part++)
                    for (int64_t i = 0; i < 6; i++)
                        six[i] += plain(sums + part * part_floats + (i * 6 + j) * step + c * outs +
                                        b * VF);
                wino_at3(six, three);
                for (int64_t i = 0; i < 3; i++)
                    t[i * 6 + j] = three[i];
            }
            for (int64_t i = 0; i < 3; i++)
                wino_at3(t + i * 6, g + i * 3);
            for (int64_t l = 0; l < VF && b * VF + l < f->outs; l++)
                for (int64_t k = 0; k < 9; k++)
                    gradients[(b * VF + l) * f->out_step + c * f->in_step + k] = g[k][l];
        }
}

#endif
