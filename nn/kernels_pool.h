/* SPDX-License-Identifier: Apache-2.0
 * kernels_pool: maximum and average pooling, forward and backward, n <= VF lanes of a plane at a
 * time.
 *
 * Of equal elements the first is the largest, as in PyTorch. Maxima whose windows do not overlap
 * send each gradient to its own pixels, so dx is written once without clearing it before;
 * overlapping ones add. Averages take windows from tables, so that one loop does fixed and adaptive
 * ones; backward sums up for each pixel the windows that it is in.
 */
#ifndef NN_KERNELS_POOL_H
#define NN_KERNELS_POOL_H

#include "kernels_math.h"

typedef struct pool_args {
    const nn_view *v;
    const nn_pool_shape *s;
    const void *in;
    void *out;
    void *where;
    const void *chosen;
} pool_args;

/* Some lanes of a plane: element (y,x) of the large side is at large + (y*w+x)*lanes. */
typedef struct pool_lanes {
    int64_t large, small, lanes;
} pool_lanes;

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

INLINE int64_t pixel(const pool_args *a, const pool_lanes *l, int64_t y, int64_t x)
{
    return l->large + (y * a->s->w + x) * l->lanes;
}

typedef void (*pool_fn)(const pool_args *a, const pool_lanes *l, int64_t n);

static void pool_walk(const pool_args *a, pool_fn work, int64_t begin, int64_t end)
{
    int64_t lanes = a->v->lanes;
    for (int64_t plane = begin; plane < end; plane++) {
        for (int64_t l = 0; l < lanes; l += VF) {
            pool_lanes at = {.large = plane * a->s->h * a->s->w * lanes + l,
                             .small = plane * a->s->oh * a->s->ow * lanes + l,
                             .lanes = lanes};
            work(a, &at, lanes - l < VF ? lanes - l : VF);
        }
    }
}

/* ---- maximum ---- */

/* Kernel element `here` of the window, pixel `at`: the new maximum where it is larger. */
INLINE void max_step(const pool_args *a, int64_t at, int64_t here, int64_t n, vf *best, vi *which)
{
    vf v = load(a->in, a->v->bf16, at, n);
    vi larger = v > *best, place = (vi){0} + (int32_t)here;
    *best = pick(larger, v, *best);
    *which = (place & larger) | (*which & ~larger);
}

INLINE void put_places(const pool_args *a, int64_t to, int64_t n, vi which)
{
    vh halves = __builtin_convertvector(which, vh);
    vb bytes = __builtin_convertvector(which, vb);
    if (a->s->wide)
        memcpy((uint16_t *)a->where + to, &halves, (size_t)n * sizeof(uint16_t));
    else
        memcpy((uint8_t *)a->where + to, &bytes, (size_t)n);
}

INLINE vi take_places(const pool_args *a, int64_t from, int64_t n)
{
    vh halves = {0};
    vb bytes = {0};
    if (a->s->wide) {
        memcpy(&halves, (const uint16_t *)a->chosen + from, (size_t)n * sizeof(uint16_t));
        return __builtin_convertvector(halves, vi);
    }
    memcpy(&bytes, (const uint8_t *)a->chosen + from, (size_t)n);
    return __builtin_convertvector(bytes, vi);
}

INLINE void max_store(const pool_args *a, int64_t to, int64_t n, vf best, vi which)
{
    if (a->s->relu) {
        vi positive = best > 0.0f;
        best = (vf)((vi)best & positive);
        which |= ~positive & (a->s->wide ? NN_NOWHERE_WIDE : NN_NOWHERE);
    }
    store(a->out, a->v->bf16, to, n, best);
    if (a->where)
        put_places(a, to, n, which);
}

INLINE void max_window(const pool_args *a, const pool_lanes *l, pool_span p, int64_t to, int64_t n)
{
    int64_t kw = a->s->window.kw;
    vf best = load(a->in, a->v->bf16, pixel(a, l, p.y0, p.x0), n);
    vi which = (vi){0} + (int32_t)((p.y0 - p.top) * kw + p.x0 - p.left);
    for (int64_t y = p.y0; y < p.y1; y++)
        for (int64_t x = p.x0; x < p.x1; x++)
            max_step(a, pixel(a, l, y, x), (y - p.top) * kw + x - p.left, n, &best, &which);
    max_store(a, to, n, best, which);
}

INLINE void max_plane(const pool_args *a, const pool_lanes *l, int64_t n)
{
    for (int64_t oy = 0; oy < a->s->oh; oy++)
        for (int64_t ox = 0; ox < a->s->ow; ox++)
            max_window(a, l, span_of(a->s, oy, ox), l->small + (oy * a->s->ow + ox) * l->lanes, n);
}

/* Windows of 2x2 side by side, the usual case. */
INLINE void max_plane_halves(const pool_args *a, const pool_lanes *l, int64_t n)
{
    for (int64_t oy = 0; oy < a->s->oh; oy++) {
        int64_t at = pixel(a, l, 2 * oy, 0), to = l->small + oy * a->s->ow * l->lanes;
        int64_t below = a->s->w * l->lanes;
        for (int64_t ox = 0; ox < a->s->ow; ox++, at += 2 * l->lanes, to += l->lanes) {
            vf best = load(a->in, a->v->bf16, at, n);
            vi which = {0};
            max_step(a, at + l->lanes, 1, n, &best, &which);
            max_step(a, at + below, 2, n, &best, &which);
            max_step(a, at + below + l->lanes, 3, n, &best, &which);
            max_store(a, to, n, best, which);
        }
    }
}

/* 2x2 side by side, none of them cut off by the border (as ceil=1 allows). */
static bool is_halving(const nn_pool_shape *s)
{
    const nn_window *w = &s->window;
    return w->kh == 2 && w->kw == 2 && w->sh == 2 && w->sw == 2 && !w->ph && !w->pw &&
           2 * s->oh <= s->h && 2 * s->ow <= s->w;
}

static void max_some(const pool_args *a, const pool_lanes *l, int64_t n)
{
    if (n == VF && is_halving(a->s))
        max_plane_halves(a, l, VF);
    else if (n == VF)
        max_plane(a, l, VF);
    else
        max_plane(a, l, n);
}

static void max_pool(const nn_view *v, const nn_pool_shape *s, const void *x, void *y, void *where,
                     int64_t begin, int64_t end)
{
    pool_args a = {.v = v, .s = s, .in = x, .out = y, .where = where};
    pool_walk(&a, max_some, begin, end);
}

/* ---- maximum, backward, windows apart ---- */

INLINE void clear(const pool_args *a, const pool_lanes *l, int64_t y, int64_t from, int64_t to,
                  int64_t n)
{
    for (int64_t x = from; x < to; x++)
        store(a->out, a->v->bf16, pixel(a, l, y, x), n, (vf){0});
}

/* One row of pixels from the windows that it crosses, its k-th rows. */
INLINE void gather_row(const pool_args *a, const pool_lanes *l, int64_t y, int64_t oy, int64_t k,
                       int64_t n)
{
    const nn_window *w = &a->s->window;
    int64_t done = 0;
    for (int64_t ox = 0; ox < a->s->ow; ox++) {
        int64_t left = ox * w->sw - w->pw, from = l->small + (oy * a->s->ow + ox) * l->lanes;
        vf g = load(a->in, a->v->bf16, from, n);
        vi chosen = take_places(a, from, n);
        clear(a, l, y, done, left < a->s->w ? left : a->s->w, n);
        for (int64_t x = left > 0 ? left : 0; x < left + w->kw && x < a->s->w; x++) {
            vi here = chosen == (int32_t)(k * w->kw + x - left);
            store(a->out, a->v->bf16, pixel(a, l, y, x), n, (vf)((vi)g & here));
            done = x + 1;
        }
    }
    clear(a, l, y, done, a->s->w, n);
}

INLINE void gather_plane(const pool_args *a, const pool_lanes *l, int64_t n)
{
    const nn_window *w = &a->s->window;
    for (int64_t y = 0; y < a->s->h; y++) {
        int64_t oy = (y + w->ph) / w->sh, k = (y + w->ph) % w->sh;
        if (oy < a->s->oh && k < w->kh)
            gather_row(a, l, y, oy, k, n);
        else
            clear(a, l, y, 0, a->s->w, n);
    }
}

INLINE void gather_plane_halves(const pool_args *a, const pool_lanes *l, int64_t n)
{
    bool bf16 = a->v->bf16;
    int64_t w = a->s->w, below = w * l->lanes;
    for (int64_t oy = 0; oy < a->s->oh; oy++) {
        int64_t to = pixel(a, l, 2 * oy, 0), from = l->small + oy * a->s->ow * l->lanes;
        for (int64_t ox = 0; ox < a->s->ow; ox++, to += 2 * l->lanes, from += l->lanes) {
            vi g = (vi)load(a->in, bf16, from, n);
            vi chosen = take_places(a, from, n);
            store(a->out, bf16, to, n, (vf)(g & (chosen == 0)));
            store(a->out, bf16, to + l->lanes, n, (vf)(g & (chosen == 1)));
            store(a->out, bf16, to + below, n, (vf)(g & (chosen == 2)));
            store(a->out, bf16, to + below + l->lanes, n, (vf)(g & (chosen == 3)));
        }
        clear(a, l, 2 * oy, 2 * a->s->ow, w, n);
        clear(a, l, 2 * oy + 1, 2 * a->s->ow, w, n);
    }
    for (int64_t y = 2 * a->s->oh; y < a->s->h; y++)
        clear(a, l, y, 0, w, n);
}

static void gather_some(const pool_args *a, const pool_lanes *l, int64_t n)
{
    if (n == VF && is_halving(a->s))
        gather_plane_halves(a, l, VF);
    else
        gather_plane(a, l, n);
}

/* ---- maximum, backward, overlapping windows ---- */

static void add_one(void *dx, bool bf16, int64_t at, float value)
{
    if (bf16)
        ((uint16_t *)dx)[at] = narrow(widen(((uint16_t *)dx)[at]) + value);
    else
        ((float *)dx)[at] += value;
}

static void scatter_some(const pool_args *a, const pool_lanes *l, int64_t n)
{
    int64_t kw = a->s->window.kw, nowhere = a->s->wide ? NN_NOWHERE_WIDE : NN_NOWHERE;
    for (int64_t y = 0; y < a->s->h; y++)
        clear(a, l, y, 0, a->s->w, n);
    for (int64_t o = 0; o < a->s->oh * a->s->ow; o++) {
        pool_span p = span_of(a->s, o / a->s->ow, o % a->s->ow);
        int64_t from = l->small + o * l->lanes;
        vf g = load(a->in, a->v->bf16, from, n);
        vi places = take_places(a, from, n);
        for (int64_t i = 0; i < n; i++) {
            int64_t place = places[i];
            if (place != nowhere)
                add_one(a->out, a->v->bf16,
                        pixel(a, l, p.top + place / kw, p.left + place % kw) + i, g[i]);
        }
    }
}

static void max_pool_back(const nn_view *v, const nn_pool_shape *s, const void *dy,
                          const void *where, void *dx, int64_t begin, int64_t end)
{
    pool_args a = {.v = v, .s = s, .in = dy, .out = dx, .chosen = where};
    bool apart = s->window.sh >= s->window.kh && s->window.sw >= s->window.kw;
    pool_walk(&a, apart ? gather_some : scatter_some, begin, end);
}

/* ---- average ---- */

INLINE void average_some(const pool_args *a, const pool_lanes *l, int64_t n)
{
    const nn_pool_shape *s = a->s;
    for (int64_t o = 0; o < s->oh * s->ow; o++) {
        nn_pool_span down = s->rows[o / s->ow], across = s->columns[o % s->ow];
        vf sum = {0};
        for (int64_t y = down.from; y < down.to; y++)
            for (int64_t x = across.from; x < across.to; x++)
                sum += load(a->in, a->v->bf16, pixel(a, l, y, x), n);
        store(a->out, a->v->bf16, l->small + o * l->lanes, n, sum * (down.share * across.share));
    }
}

static void average_lanes(const pool_args *a, const pool_lanes *l, int64_t n)
{
    if (n == VF)
        average_some(a, l, VF);
    else
        average_some(a, l, n);
}

static void average_pool(const nn_view *v, const nn_pool_shape *s, const void *x, void *y,
                         int64_t begin, int64_t end)
{
    pool_args a = {.v = v, .s = s, .in = x, .out = y};
    pool_walk(&a, average_lanes, begin, end);
}

INLINE void average_back_some(const pool_args *a, const pool_lanes *l, int64_t n)
{
    const nn_pool_shape *s = a->s;
    for (int64_t i = 0; i < s->h * s->w; i++) {
        int64_t y = i / s->w, x = i % s->w;
        nn_pool_span down = s->row_windows[y], across = s->column_windows[x];
        vf sum = {0};
        for (int64_t oy = down.from; oy < down.to; oy++)
            for (int64_t ox = across.from; ox < across.to; ox++)
                sum += load(a->in, a->v->bf16, l->small + (oy * s->ow + ox) * l->lanes, n) *
                       (s->rows[oy].share * s->columns[ox].share);
        store(a->out, a->v->bf16, pixel(a, l, y, x), n, sum);
    }
}

static void average_back_lanes(const pool_args *a, const pool_lanes *l, int64_t n)
{
    if (n == VF)
        average_back_some(a, l, VF);
    else
        average_back_some(a, l, n);
}

static void average_pool_back(const nn_view *v, const nn_pool_shape *s, const void *dy, void *dx,
                              int64_t begin, int64_t end)
{
    pool_args a = {.v = v, .s = s, .in = dy, .out = dx};
    pool_walk(&a, average_back_lanes, begin, end);
}

#endif
