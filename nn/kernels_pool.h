/* SPDX-License-Identifier: Apache-2.0
 * kernels_pool: maximum and average pooling, forward and backward.
 *
 * Of equal elements the first is the largest, as in PyTorch. Windows that do not overlap send each
 * gradient to its own pixels, so dx is written once without clearing it before; overlapping ones
 * add.
 */
#ifndef NN_KERNELS_POOL_H
#define NN_KERNELS_POOL_H

#include "kernels_math.h"

enum { POOL_LANES = 64 }; /* at a time */

/* The part of a window that lies in the plane: rows [y0, y1), columns [x0, x1). */
typedef struct pool_span {
    int64_t y0, y1, x0, x1, top, left;
} pool_span;

INLINE pool_span span_of(const nn_pool_shape *s, int64_t oy, int64_t ox)
{
    const nn_window *w = &s->window;
    pool_span p = {.top = oy * w->sh - w->ph, .left = ox * w->sw - w->pw};
    p.y0 = p.top > 0 ? p.top : 0;
    p.x0 = p.left > 0 ? p.left : 0;
    p.y1 = p.top + w->kh < s->h ? p.top + w->kh : s->h;
    p.x1 = p.left + w->kw < s->w ? p.left + w->kw : s->w;
    return p;
}

INLINE void max_lanes(const nn_view *v, const nn_pool_shape *s, pool_span p, const void *x,
                      int64_t plane, int64_t first, int64_t lanes, float *best, int32_t *which)
{
    float piece[POOL_LANES];
    for (int64_t l = 0; l < lanes; l++) {
        best[l] = -INFINITY;
        which[l] = (int32_t)((p.y0 - p.top) * s->window.kw + p.x0 - p.left);
    }
    for (int64_t iy = p.y0; iy < p.y1; iy++) {
        for (int64_t ix = p.x0; ix < p.x1; ix++) {
            int32_t here = (int32_t)((iy - p.top) * s->window.kw + ix - p.left);
            int64_t at = plane + (iy * s->w + ix) * v->lanes + first;
            const float *row = read_floats(x, v->bf16, at, lanes, piece);
#pragma omp simd
            for (int64_t l = 0; l < lanes; l++) {
                which[l] = row[l] > best[l] ? here : which[l];
                best[l] = row[l] > best[l] ? row[l] : best[l];
            }
        }
    }
}

INLINE void max_plane(const nn_view *v, const nn_pool_shape *s, const void *x, void *y,
                      uint8_t *where, int64_t plane, int64_t lanes)
{
    float best[POOL_LANES];
    int32_t which[POOL_LANES];
    int64_t from = plane * s->h * s->w * v->lanes, to = plane * s->oh * s->ow * v->lanes;
    for (int64_t o = 0; o < s->oh * s->ow; o++) {
        pool_span p = span_of(s, o / s->ow, o % s->ow);
        for (int64_t first = 0; first < v->lanes; first += lanes) {
            int64_t n = v->lanes - first < lanes ? v->lanes - first : lanes;
            int64_t at = to + o * v->lanes + first;
            max_lanes(v, s, p, x, from, first, lanes == 16 ? 16 : n, best, which);
            float *out = place_floats(y, v->bf16, at, best);
            for (int64_t l = 0; l < n; l++)
                out[l] = best[l];
            write_floats(y, v->bf16, at, n, best);
            for (int64_t l = 0; where && l < n; l++)
                where[at + l] = (uint8_t)which[l];
        }
    }
}

static void max_pool(const nn_view *v, const nn_pool_shape *s, const void *x, void *y,
                     uint8_t *where, int64_t begin, int64_t end)
{
    for (int64_t plane = begin; plane < end; plane++) {
        if (v->lanes == 16)
            max_plane(v, s, x, y, where, plane, 16);
        else
            max_plane(v, s, x, y, where, plane, POOL_LANES);
    }
}

static void clear_plane(const nn_view *v, const nn_pool_shape *s, void *dx, int64_t plane)
{
    size_t bytes = (size_t)(s->h * s->w * v->lanes) * (v->bf16 ? 2 : 4);
    memset((char *)dx + (size_t)plane * bytes, 0, bytes);
}

INLINE void add_one(void *dx, bool bf16, int64_t at, float value)
{
    if (bf16)
        ((uint16_t *)dx)[at] = narrow(widen(((uint16_t *)dx)[at]) + value);
    else
        ((float *)dx)[at] += value;
}

static void max_plane_scatter(const nn_view *v, const nn_pool_shape *s, const void *dy,
                              const uint8_t *where, void *dx, int64_t plane)
{
    int64_t to = plane * s->h * s->w * v->lanes, from = plane * s->oh * s->ow * v->lanes;
    clear_plane(v, s, dx, plane);
    for (int64_t o = 0; o < s->oh * s->ow; o++) {
        pool_span p = span_of(s, o / s->ow, o % s->ow);
        for (int64_t l = 0; l < v->lanes; l++) {
            int64_t at = from + o * v->lanes + l;
            float g, piece;
            g = *read_floats(dy, v->bf16, at, 1, &piece);
            int64_t iy = p.top + where[at] / s->window.kw, ix = p.left + where[at] % s->window.kw;
            add_one(dx, v->bf16, to + (iy * s->w + ix) * v->lanes + l, g);
        }
    }
}

/* One input pixel's lanes: the gradient of its window where that chose the pixel. */
INLINE void gather_lanes(const nn_view *v, const void *dy, const uint8_t *where, void *dx,
                         int64_t from, int64_t to, uint8_t here, int64_t lanes)
{
    float piece[POOL_LANES], result[POOL_LANES];
    const float *g = read_floats(dy, v->bf16, from, lanes, piece);
    float *out = place_floats(dx, v->bf16, to, result);
#pragma omp simd
    for (int64_t l = 0; l < lanes; l++)
        out[l] = where[from + l] == here ? g[l] : 0.0f;
    write_floats(dx, v->bf16, to, lanes, result);
}

INLINE void max_plane_gather(const nn_view *v, const nn_pool_shape *s, const void *dy,
                             const uint8_t *where, void *dx, int64_t plane, int64_t lanes)
{
    const nn_window *w = &s->window;
    int64_t to = plane * s->h * s->w * v->lanes, from = plane * s->oh * s->ow * v->lanes;
    size_t size = v->bf16 ? 2 : 4;
    for (int64_t iy = 0; iy < s->h; iy++) {
        int64_t oy = (iy + w->ph) / w->sh, ky = (iy + w->ph) % w->sh;
        for (int64_t ix = 0; ix < s->w; ix++) {
            int64_t ox = (ix + w->pw) / w->sw, kx = (ix + w->pw) % w->sw;
            int64_t at = to + (iy * s->w + ix) * v->lanes;
            if (oy >= s->oh || ox >= s->ow || ky >= w->kh || kx >= w->kw) {
                memset((char *)dx + (size_t)at * size, 0, (size_t)v->lanes * size);
                continue;
            }
            int64_t source = from + (oy * s->ow + ox) * v->lanes;
            for (int64_t first = 0; first < v->lanes; first += lanes)
                gather_lanes(v, dy, where, dx, source + first, at + first,
                             (uint8_t)(ky * w->kw + kx),
                             lanes == 16                ? 16
                             : v->lanes - first < lanes ? v->lanes - first
                                                        : lanes);
        }
    }
}

static void max_pool_back(const nn_view *v, const nn_pool_shape *s, const void *dy,
                          const uint8_t *where, void *dx, int64_t begin, int64_t end)
{
    bool apart = s->window.sh >= s->window.kh && s->window.sw >= s->window.kw;
    for (int64_t plane = begin; plane < end; plane++) {
        if (!apart)
            max_plane_scatter(v, s, dy, where, dx, plane);
        else if (v->lanes == 16)
            max_plane_gather(v, s, dy, where, dx, plane, 16);
        else
            max_plane_gather(v, s, dy, where, dx, plane, POOL_LANES);
    }
}

static void average_plane(const nn_view *v, const nn_pool_shape *s, const void *x, void *y,
                          int64_t plane, int64_t first, int64_t lanes)
{
    float piece[POOL_LANES], sum[POOL_LANES];
    float share = 1.0f / (float)(s->window.kh * s->window.kw);
    int64_t from = plane * s->h * s->w * v->lanes + first;
    int64_t to = plane * s->oh * s->ow * v->lanes + first;
    for (int64_t o = 0; o < s->oh * s->ow; o++) {
        pool_span p = span_of(s, o / s->ow, o % s->ow);
        memset(sum, 0, sizeof sum);
        for (int64_t iy = p.y0; iy < p.y1; iy++) {
            for (int64_t ix = p.x0; ix < p.x1; ix++) {
                const float *row =
                    read_floats(x, v->bf16, from + (iy * s->w + ix) * v->lanes, lanes, piece);
                for (int64_t l = 0; l < lanes; l++)
                    sum[l] += row[l];
            }
        }
        float *out = place_floats(y, v->bf16, to + o * v->lanes, sum);
        for (int64_t l = 0; l < lanes; l++)
            out[l] = sum[l] * share;
        write_floats(y, v->bf16, to + o * v->lanes, lanes, sum);
    }
}

static void average_pool(const nn_view *v, const nn_pool_shape *s, const void *x, void *y,
                         int64_t begin, int64_t end)
{
    for (int64_t plane = begin; plane < end; plane++)
        for (int64_t l = 0; l < v->lanes; l += POOL_LANES)
            average_plane(v, s, x, y, plane, l,
                          v->lanes - l < POOL_LANES ? v->lanes - l : POOL_LANES);
}

static void average_plane_back(const nn_view *v, const nn_pool_shape *s, const void *dy, void *dx,
                               int64_t plane, int64_t first, int64_t lanes)
{
    float piece[POOL_LANES];
    float share = 1.0f / (float)(s->window.kh * s->window.kw);
    int64_t to = plane * s->h * s->w * v->lanes + first;
    int64_t from = plane * s->oh * s->ow * v->lanes + first;
    for (int64_t o = 0; o < s->oh * s->ow; o++) {
        pool_span p = span_of(s, o / s->ow, o % s->ow);
        const float *g = read_floats(dy, v->bf16, from + o * v->lanes, lanes, piece);
        for (int64_t iy = p.y0; iy < p.y1; iy++)
            for (int64_t ix = p.x0; ix < p.x1; ix++)
                for (int64_t l = 0; l < lanes; l++)
                    add_one(dx, v->bf16, to + (iy * s->w + ix) * v->lanes + l, g[l] * share);
    }
}

static void average_pool_back(const nn_view *v, const nn_pool_shape *s, const void *dy, void *dx,
                              int64_t begin, int64_t end)
{
    for (int64_t plane = begin; plane < end; plane++) {
        clear_plane(v, s, dx, plane);
        for (int64_t l = 0; l < v->lanes; l += POOL_LANES)
            average_plane_back(v, s, dy, dx, plane, l,
                               v->lanes - l < POOL_LANES ? v->lanes - l : POOL_LANES);
    }
}

#endif
