/* SPDX-License-Identifier: Apache-2.0
 * kernels_winograd: convolution with windows of 3x3 and 5x5 and stride 1 by Winograd's minimal
 * filtering F(4x4, 3x3) and F(2x2, 5x5), Lavin and Gray, "Fast algorithms for convolutional neural
 * networks", 2016: a tile of outputs from 6x6 inputs by 36 products a pair of channels instead of 144
 * or 100.
 *
 *     y = At [ (G g Gt) . (Bt d B) ] A,   summed over the input's channels before At and A
 *
 * and the weights' gradient by F(3x3, 4x4) and F(5x5, 2x2), the same with a tile of gradients as the
 * filter. All evaluate polynomials at 0, 1, -1, 2, -2 and infinity: d's transform is the same for all,
 * G's and At's differ in their length. Tensors are [n][blocks][pixels][VF channels], fp32. A few tiles
 * at a time go through all steps, so that what lies between them stays in the second-level cache:
 *
 *     v [36][blocks in][tiles][VF]   z, m [36][blocks out][tiles][VF]
 */
#ifndef NN_KERNELS_WINOGRAD_H
#define NN_KERNELS_WINOGRAD_H

#include "kernels_watch.h"

enum {
    /* Blocks of sums that are kept in registers, of 32 or 16. */
    TILES_BY_TWO = VF == 16 ? 14 : 6, /* tiles by two vectors of channels out */
    TILES_BY_ONE = VF == 16 ? 28 : 12,
    INS_BY_TWO = VF == 16 ? 8 : 4, /* channels in by two vectors of channels out */
    INS_BY_ONE = VF == 16 ? 16 : 8,
    WINO_AT_ONES =
        7, /* the point (1, 1), where a polynomial's value is the sum of its coefficients, */
    WINO_OF_ONES = 36, /* which G divides by this */
    AT_ONCE = 8,       /* channels in, of whose filters the points are read and written in runs */
};

/* ---- where a tile lies ---- */

typedef struct wino_place {
    int64_t n, y, x; /* sample; of the first output */
} wino_place;

INLINE wino_place wino_first(const nn_winograd *s, int64_t tile)
{
    int64_t a_plane = s->th * s->tw, in_plane = tile % a_plane;
    return (wino_place){tile / a_plane, in_plane / s->tw * s->tile, in_plane % s->tw * s->tile};
}

INLINE void wino_next(const nn_winograd *s, wino_place *at)
{
    at->x += s->tile;
    if (at->x < s->ow)
        return;
    at->x = 0;
    at->y += s->tile;
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

/* The side x side pixels of a plane from some place on, of which columns [from, to) are in the plane;
 * a row that is not in it is zeros. `whole`, a constant where it is used: all are. */
typedef struct wino_window {
    const float *row[6];
    int32_t real[6]; /* rows: all bits, or none */
    int64_t from, to;
} wino_window;

INLINE bool wino_inside(int64_t y, int64_t x, int64_t side, int64_t h, int64_t w)
{
    return y >= 0 && x >= 0 && y + side <= h && x + side <= w;
}

INLINE wino_window wino_see(const float *plane, int64_t h, int64_t w, int64_t y, int64_t x,
                            int64_t side, bool whole)
{
    static const float nothing[6 * VF];
    wino_window window = {.from = !whole && x < 0 ? -x : 0,
                          .to = !whole && w - x < side ? w - x : side};
#pragma GCC unroll 6
    for (int64_t i = 0; i < side; i++) {
        bool real = whole || (y + i >= 0 && y + i < h);
        window.row[i] = real ? plane + ((y + i) * w + x) * VF : nothing;
        window.real[i] = -real;
    }
    return window;
}

/* The pointer, in a register: the compiler would keep one for each of 36 rows of points beside the
 * loop, in memory, and move them all on, where adding up an address takes nothing. */
INLINE const float *wino_here(const float *x)
{
#ifdef __GNUC__
    __asm__("" : "+r"(x));
#endif
    return x;
}

/* ---- the transforms of one row or column ---- */

/* Bt: 6 inputs; the 6 results are `step` apart. */
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

/* G: the polynomial with n coefficients g, 2 to 5, at the 6 points, divided as Bt wants it. */
INLINE void wino_g(const vf *g, int64_t n, vf *out, int64_t step)
{
    const vf none = {0}, g2 = n > 2 ? g[2] : none, g3 = n > 3 ? g[3] : none,
             g4 = n > 4 ? g[4] : none;
    vf even = (g[0] + g2 + g4) * (-1.0f / 6), odd = (g[1] + g3) * (-1.0f / 6);
    vf far = (g[0] + g2 * 4.0f + g4 * 16.0f) * (1.0f / 24);
    vf middle = (g[1] + g3 * 4.0f) * (1.0f / 12);
    out[0] = g[0] * 0.25f;
    out[step] = even + odd;
    out[2 * step] = even - odd;
    out[3 * step] = far + middle;
    out[4 * step] = far - middle;
    out[5 * step] = g[n - 1];
}

/* At: 6 products to n outputs, 2 to 5. */
INLINE void wino_at(const vf *m, int64_t n, vf *out)
{
    const vf s1 = m[1] + m[2], d1 = m[1] - m[2], s2 = m[3] + m[4], d2 = m[3] - m[4];
    const vf all[5] = {m[0] + s1 + s2, d1 + d2 * 2.0f, s1 + s2 * 4.0f, d1 + d2 * 8.0f,
                       s1 + s2 * 16.0f};
#pragma GCC unroll 5
    for (int64_t i = 0; i < n; i++)
        out[i] = i == n - 1 ? all[i] + m[5] : all[i];
}

/* Six inputs, or a filter with fewer taps. */
INLINE void wino_transform(const vf *in, int64_t n, vf *out, int64_t step)
{
    if (n == 6)
        wino_bt(in, out, step);
    else
        wino_g(in, n, out, step);
}

/* Zeros beside the plane stay zeros. */
INLINE vf wino_value(watch_affine f, vf x, bool whole, int32_t real)
{
    if (f.kind == NN_AFFINE_NONE)
        return x;
    vf y = x * f.a + (whole ? f.b : (vf)((vi)f.b & real));
    return f.kind == NN_AFFINE_RELU ? act_value(NN_RELU, y) : y;
}

/* The window's pixels, transformed; the 36 results are `step` floats apart. */
INLINE void wino_put(const wino_window *x, watch_affine f, int64_t side, bool whole, float *to,
                     int64_t step)
{
    vf t[NN_WINOGRAD_POINTS];
#pragma GCC unroll 6
    for (int64_t j = 0; j < side; j++) {
        vf line[6] = {{0}};
        if (whole || (j >= x->from && j < x->to)) {
#pragma GCC unroll 6
            for (int64_t i = 0; i < side; i++)
                line[i] = wino_value(f, plain(x->row[i] + j * VF), whole, x->real[i]);
        }
        wino_transform(line, side, t + j, side);
    }
#pragma GCC unroll 6
    for (int64_t i = 0; i < 6; i++) {
        vf six[6];
        float *row = (float *)(uintptr_t)wino_here(to + i * 6 * step);
        wino_transform(t + i * side, side, six, 1);
#pragma GCC unroll 6
        for (int64_t j = 0; j < 6; j++)
            put(row + j * step, six[j]);
    }
}

/* The window whose first pixel is (y, x), transformed; most lie in the plane as a whole. */
INLINE void wino_take(const float *plane, int64_t h, int64_t w, int64_t y, int64_t x, int64_t side,
                      bool whole, watch_affine f, float *to, int64_t step)
{
    if (whole) {
        wino_window window = wino_see(plane, h, w, y, x, side, true);
        wino_put(&window, f, side, true, to, step);
    } else {
        wino_window window = wino_see(plane, h, w, y, x, side, false);
        wino_put(&window, f, side, false, to, step);
    }
}

/* side x side pixels for the tile below, towards the second-level cache; any address is allowed. */
INLINE void wino_prefetch(const float *x, int64_t w, int64_t side)
{
#pragma GCC unroll 4
    for (int64_t i = 0; i < side; i++)
#pragma GCC unroll 4
        for (int64_t j = 0; j < side; j++)
            __builtin_prefetch(x + (i * w + j) * VF, 0, 2);
}

/* The functions below are made for tiles of 4x4 and of 2x2, their last argument. */
#define BY_TILE(shape, function, ...)                                                              \
    ((shape)->tile == 4 ? function(__VA_ARGS__, 4) : function(__VA_ARGS__, 2))

/* ---- tiles in ---- */

INLINE void wino_input(const nn_winograd *s, const nn_affine *in, const float *x, float *v,
                       int64_t room, int64_t begin, int64_t end, nn_affine_kind kind)
{
    int64_t step = nn_winograd_step(room, s->ins, VF), plane = s->h * s->w * VF;
    wino_place at = wino_first(s, begin);
    for (int64_t tile = begin; tile < end; tile++, wino_next(s, &at)) {
        int64_t top = at.y - s->ph, left = at.x - s->pw;
        bool whole = wino_inside(top, left, 6, s->h, s->w);
        const float *from = x + at.n * s->ins * plane;
        float *to = v + (tile - begin) * VF;
        for (int64_t b = 0; b < s->ins; b++, from += plane, to += room * VF) {
            watch_affine f = watch_affine_of(kind, in, b);
            wino_prefetch(from + ((at.y + s->tile + 1) * s->w + at.x) * VF, s->w, s->tile);
            wino_take(from, s->h, s->w, top, left, 6, whole, f, to, step);
        }
    }
}

/* v of tiles [begin, end), which has room for `room` of them. */
static void winograd_input(const nn_winograd *s, const nn_affine *in, const float *x, float *v,
                           int64_t room, int64_t begin, int64_t end)
{
    if (in->kind == NN_AFFINE_RELU)
        wino_input(s, in, x, v, room, begin, end, NN_AFFINE_RELU);
    else if (in->kind == NN_AFFINE_ALONE)
        wino_input(s, in, x, v, room, begin, end, NN_AFFINE_ALONE);
    else
        wino_input(s, in, x, v, room, begin, end, NN_AFFINE_NONE);
}

INLINE void wino_gradient(const nn_winograd *s, const float *dy, float *z, double *bias,
                          int64_t room, int64_t begin, int64_t end, int64_t side)
{
    int64_t step = nn_winograd_step(room, s->outs, VF), plane = s->oh * s->ow * VF;
    const watch_affine none = {NN_AFFINE_NONE};
    for (int64_t b = 0; b < s->outs; b++) {
        vf sum = {0};
        wino_place at = wino_first(s, begin);
        for (int64_t tile = begin; tile < end; tile++, wino_next(s, &at)) {
            const float *from = dy + (at.n * s->outs + b) * plane;
            float *to = z + (b * room + tile - begin) * VF;
            wino_prefetch(from + ((at.y + side) * s->ow + at.x) * VF, s->ow, side);
            wino_take(from, s->oh, s->ow, at.y, at.x, side,
                      wino_inside(at.y, at.x, side, s->oh, s->ow), none, to, step);
            if (bias)
                sum += plain(to + WINO_AT_ONES * step);
        }
        for (int64_t l = 0; l < VF && bias; l++)
            bias[b * VF + l] += WINO_OF_ONES * (double)sum[l];
    }
}

/* z of tiles [begin, end) of dy, and its sums a channel, added to bias (NULL: not wanted). */
static void winograd_gradient(const nn_winograd *s, const float *dy, float *z, double *bias,
                              int64_t room, int64_t begin, int64_t end)
{
    BY_TILE(s, wino_gradient, s, dy, z, bias, room, begin, end);
}

/* ---- products ---- */

/* `tiles` tiles by `outs` vectors of channels out; both are constants where it is used. */
INLINE void wino_multiply(const float *u, const float *v, float *m, int64_t ins, int64_t room,
                          int64_t tiles, int64_t outs)
{
    vf sum[TILES_BY_ONE];
#pragma GCC unroll 28
    for (int64_t i = 0; i < tiles * outs; i++)
        sum[i] = (vf){0};
    for (int64_t b = 0; b < ins; b++, v += room * VF)
        for (int64_t c = 0; c < VF; c++) {
            vf w[2];
#pragma GCC unroll 2
            for (int64_t o = 0; o < outs; o++)
                w[o] = plain(u + ((o * ins + b) * VF + c) * VF);
#pragma GCC unroll 28
            for (int64_t i = 0; i < tiles * outs; i++)
                sum[i] += w[i % outs] * v[i / outs * VF + c];
        }
#pragma GCC unroll 28
    for (int64_t i = 0; i < tiles * outs; i++)
        put(m + (i % outs * room + i / outs) * VF, sum[i]);
}

INLINE void wino_multiply_all(const float *u, const float *v, float *m, int64_t ins, int64_t room,
                              int64_t tiles, int64_t most, int64_t outs)
{
    int64_t t = 0;
    for (; t + most <= tiles; t += most)
        wino_multiply(u, v + t * VF, m + t * VF, ins, room, most, outs);
    for (; t + 4 <= tiles; t += 4)
        wino_multiply(u, v + t * VF, m + t * VF, ins, room, 4, outs);
    for (; t < tiles; t++)
        wino_multiply(u, v + t * VF, m + t * VF, ins, room, 1, outs);
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
            wino_multiply_all(w + b * channels * VF, from, to + b * room * VF, s->ins, room, tiles,
                              TILES_BY_TWO, 2);
        if (b < s->outs)
            wino_multiply_all(w + b * channels * VF, from, to + b * room * VF, s->ins, room, tiles,
                              TILES_BY_ONE, 1);
    }
}

/* `ins` channels in by `outs` vectors of channels out, summed over the tiles; a block out has so many
 * channels in. */
INLINE void wino_accumulate(const float *v, const float *z, float *m, int64_t channels,
                            int64_t room, int64_t tiles, int64_t ins, int64_t outs)
{
    vf sum[INS_BY_ONE]; /* twice INS_BY_TWO */
#pragma GCC unroll 16
    for (int64_t i = 0; i < ins * outs; i++)
        sum[i] = plain(m + (i % outs * channels + i / outs) * VF);
    for (int64_t t = 0; t < tiles; t++) {
        vf g[2];
#pragma GCC unroll 2
        for (int64_t o = 0; o < outs; o++)
            g[o] = plain(z + (o * room + t) * VF);
#pragma GCC unroll 16
        for (int64_t i = 0; i < ins * outs; i++)
            sum[i] += g[i % outs] * v[t * VF + i / outs];
    }
#pragma GCC unroll 16
    for (int64_t i = 0; i < ins * outs; i++)
        put(m + (i % outs * channels + i / outs) * VF, sum[i]);
}

/* sums [36][blocks out][channels in][VF] += v . z, summed over the tiles. */
static void winograd_accumulate(const nn_winograd *s, const float *v, const float *z, float *sums,
                                int64_t room, int64_t tiles)
{
    int64_t ins = s->ins * VF;
    for (int64_t p = 0; p < NN_WINOGRAD_POINTS; p++) {
        const float *a = v + p * nn_winograd_step(room, s->ins, VF),
                    *g = z + p * nn_winograd_step(room, s->outs, VF);
        float *to = sums + p * ins * s->outs * VF;
        int64_t b = 0;
        for (; b + 2 <= s->outs; b += 2)
            for (int64_t i = 0; i < ins; i += INS_BY_TWO)
                wino_accumulate(a + i / VF * room * VF + i % VF, g + b * room * VF,
                                to + (b * ins + i) * VF, ins, room, tiles, INS_BY_TWO, 2);
        for (int64_t i = 0; i < ins && b < s->outs; i += INS_BY_ONE)
            wino_accumulate(a + i / VF * room * VF + i % VF, g + b * room * VF,
                            to + (b * ins + i) * VF, ins, room, tiles, INS_BY_ONE, 1);
    }
}

/* ---- tiles out ---- */

/* The pixels of one tile that lie in the plane, which begins at `plane`, in floats; `whole`, a
 * constant: all do. */
INLINE void wino_store(const nn_winograd *s, const nn_conv_end *e, const wino_place *at,
                       const vf *out, vf bias, float *y, int64_t plane, bool whole,
                       nn_activation act, nn_watch_kind kind, watch_tally *t, int64_t side)
{
    vf sum = {0}, product = {0};
#pragma GCC unroll 16
    for (int64_t i = 0; i < side * side; i++) {
        int64_t y_at = at->y + i / side, x_at = at->x + i % side;
        if (!whole && (y_at >= s->oh || x_at >= s->ow))
            continue;
        int64_t to = plane + (y_at * s->ow + x_at) * VF;
        vf value = out[i] + bias;
        if (e->sum)
            value += plain(y + to);
        value = act_value(act, value);
        if (kind)
            value = watch_value(kind, &e->watch, false, t, to, value, &sum, &product);
        put(y + to, value);
        t->n++;
    }
    t->sum += sum;
    t->product += product;
}

INLINE void wino_tile_out(const float *from, int64_t step, vf *out, int64_t side)
{
    vf t[5 * 6];
#pragma GCC unroll 6
    for (int64_t j = 0; j < 6; j++) {
        const float *at = wino_here(from + j * step);
        vf six[6], fewer[5];
#pragma GCC unroll 6
        for (int64_t i = 0; i < 6; i++)
            six[i] = plain(at + i * 6 * step);
        wino_at(six, side, fewer);
#pragma GCC unroll 5
        for (int64_t i = 0; i < side; i++)
            t[i * 6 + j] = fewer[i];
    }
#pragma GCC unroll 5
    for (int64_t i = 0; i < side; i++)
        wino_at(t + i * 6, side, out + i * side);
}

INLINE void wino_output(const nn_winograd *s, const nn_conv_end *e, const float *m, float *y,
                        int64_t room, int64_t begin, int64_t end, nn_activation act,
                        nn_watch_kind kind, int64_t side)
{
    int64_t step = nn_winograd_step(room, s->outs, VF), pixels = s->oh * s->ow * VF;
    for (int64_t b = 0; b < s->outs; b++, m += room * VF) {
        vf out[16], bias = e->bias ? plain(e->bias + b * VF) : (vf){0};
        wino_place at = wino_first(s, begin);
        watch_tally tally = {.n = 0};
        for (int64_t tile = begin; tile < end; tile++, wino_next(s, &at)) {
            int64_t plane = (at.n * s->outs + b) * pixels;
            wino_tile_out(m + (tile - begin) * VF, step, out, side);
            if (kind && tile == begin)
                tally = watch_begin(kind, &e->watch, b, out[0] + bias);
            if (at.y + side <= s->oh && at.x + side <= s->ow)
                wino_store(s, e, &at, out, bias, y, plane, true, act, kind, &tally, side);
            else
                wino_store(s, e, &at, out, bias, y, plane, false, act, kind, &tally, side);
        }
        if (kind)
            watch_end(kind, &e->watch, &tally, b);
    }
}

/* y of tiles [begin, end) from m. */
static void winograd_output(const nn_winograd *s, const nn_conv_end *e, const float *m, float *y,
                            int64_t room, int64_t begin, int64_t end)
{
#define CALL(act) BY_TILE(s, wino_output, s, e, m, y, room, begin, end, act, NN_WATCH_NOTHING)
#define WATCH(kind)                                                                                \
    case kind:                                                                                     \
        BY_TILE(s, wino_output, s, e, m, y, room, begin, end, NN_IDENTITY, kind);                  \
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
INLINE vf wino_gather(const float *w, int64_t step, int64_t lanes)
{
#ifdef __AVX512F__
    if (lanes == VF) {
        const vi lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
        return (vf)_mm512_i32gather_ps((__m512i)(lane * (int32_t)step), w, sizeof *w);
    }
#endif
    float some[VF] = {0};
    for (int64_t l = 0; l < lanes; l++)
        some[l] = w[l * step];
    return plain(some);
}

/* Past the caches, for what is read much later; wino_streamed() when all is written. */
INLINE void wino_stream(float *to, const float *from, int64_t vectors)
{
    for (int64_t i = 0; i < vectors * VF; i += VF)
#ifdef __AVX512F__
        _mm512_stream_ps(to + i, (__m512)plain(from + i));
#else
        put(to + i, plain(from + i));
#endif
}

INLINE void wino_streamed(void)
{
#ifdef __AVX512F__
    _mm_sfence();
#endif
}

INLINE void wino_filters(const nn_winograd *s, const nn_filters *f, float *u, int64_t begin,
                         int64_t end, int64_t tile)
{
    const int64_t side = NN_WINOGRAD_SIDES - tile, taps = side * side;
    const watch_affine none = {NN_AFFINE_NONE};
    int64_t channels = s->ins * VF, step = s->outs * channels * VF;
    for (int64_t b = begin; b < end; b++) {
        int64_t lanes = f->outs - b * VF < VF ? f->outs - b * VF : VF;
        const float *from = f->weights + b * VF * f->out_step;
        for (int64_t c = 0; c < channels; c += AT_ONCE) {
            float g[25 * VF], some[NN_WINOGRAD_POINTS * AT_ONCE * VF];
            for (int64_t i = 0; i < AT_ONCE; i++) {
                const float *w = from + (c + i) * f->in_step;
                for (int64_t k = 0; k < taps; k++)
                    put(g + (f->turned ? taps - 1 - k : k) * VF,
                        c + i < f->ins ? wino_gather(w + k, f->out_step, lanes) : (vf){0});
                wino_take(g, side, side, 0, 0, side, true, none, some + i * VF, AT_ONCE * VF);
            }
            for (int64_t p = 0; p < NN_WINOGRAD_POINTS; p++)
                wino_stream(u + p * step + (b * channels + c) * VF, some + p * AT_ONCE * VF,
                            AT_ONCE);
        }
    }
}

/* u [36][blocks out][channels in][VF] of the blocks out [begin, end). */
static void winograd_filters(const nn_winograd *s, const nn_filters *f, float *u, int64_t begin,
                             int64_t end)
{
    BY_TILE(s, wino_filters, s, f, u, begin, end);
    wino_streamed();
}

/* Of one block out and the channels in [c, c + n): the sums of all parts, [n][36][VF]. */
INLINE void wino_total(const float *sums, int64_t parts, int64_t part_floats, int64_t step,
                       int64_t n, float *total)
{
    for (int64_t p = 0; p < NN_WINOGRAD_POINTS; p++)
        for (int64_t i = 0; i < n; i++) {
            vf sum = {0};
            for (int64_t part = 0; part < parts; part++)
                sum += plain(sums + part * part_floats + p * step + i * VF);
            put(total + (i * NN_WINOGRAD_POINTS + p) * VF, sum);
        }
}

INLINE void wino_filters_back(const nn_winograd *s, const nn_filters *f, const float *sums,
                              int64_t parts, int64_t part_floats, float *gradients, int64_t begin,
                              int64_t end, int64_t tile)
{
    const int64_t side = NN_WINOGRAD_SIDES - tile, taps = side * side;
    int64_t ins = s->ins * VF, step = ins * s->outs * VF;
    float total[AT_ONCE * NN_WINOGRAD_POINTS * VF];
    for (int64_t b = 0; b < s->outs; b++)
        for (int64_t c = begin; c < end; c += AT_ONCE) {
            int64_t n = end - c < AT_ONCE ? end - c : AT_ONCE;
            wino_total(sums + (b * ins + c) * VF, parts, part_floats, step, n, total);
            for (int64_t i = 0; i < n; i++) {
                vf g[25];
                wino_tile_out(total + i * NN_WINOGRAD_POINTS * VF, VF, g, side);
                for (int64_t l = 0; l < VF && b * VF + l < f->outs; l++)
                    for (int64_t k = 0; k < taps; k++)
                        gradients[(b * VF + l) * f->out_step + (c + i) * f->in_step + k] = g[k][l];
            }
        }
}

/* The gradients of the filters of the channels in [begin, end), from `parts` sums, `part_floats`
 * apart. */
static void winograd_filters_back(const nn_winograd *s, const nn_filters *f, const float *sums,
                                  int64_t parts, int64_t part_floats, float *gradients,
                                  int64_t begin, int64_t end)
{
    BY_TILE(s, wino_filters_back, s, f, sums, parts, part_floats, gradients, begin, end);
}

#undef BY_TILE

#endif
