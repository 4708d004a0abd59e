/* SPDX-License-Identifier: Apache-2.0
 * kernels_norm: elementwise activations and the four passes of batch normalisation, which carry the
 * activation behind it along: its input is computed again in backward rather than stored.
 *
 * A plane is walked in pieces of at most PIECE floats, so that bf16 is widened in the first-level
 * cache, and sums in fp32 stay short before they are added up in double precision.
 */
#ifndef NN_KERNELS_NORM_H
#define NN_KERNELS_NORM_H

#include "kernels_math.h"

typedef struct piece_args {
    const nn_view *v;
    nn_activation act;
    const void *x, *dy;
    void *out;
    const float *a, *b, *mean, *m, *c;
    double *sum, *product;
} piece_args;

/* Elements [at, at + rows*lanes): rows of the channels [channel, channel+lanes). */
typedef void (*piece_fn)(const piece_args *s, int64_t at, int64_t rows, int64_t lanes,
                         int64_t channel);

static void walk(const piece_args *s, piece_fn piece, int64_t begin, int64_t end)
{
    int64_t lanes = s->v->lanes, pixels = s->v->pixels;
    for (int64_t plane = begin; plane < end; plane++) {
        int64_t base = plane * pixels * lanes, channel = plane % s->v->blocks * lanes;
        int64_t rows = lanes <= PIECE ? PIECE / lanes : 1;
        for (int64_t p = 0; p < pixels; p += rows) {
            int64_t count = pixels - p < rows ? pixels - p : rows;
            for (int64_t l = 0; l < lanes; l += PIECE)
                piece(s, base + p * lanes + l, count, lanes - l < PIECE ? lanes - l : PIECE,
                      channel + l);
        }
    }
}

/* ---- sums ---- */

INLINE void sums_rows(const float *x, const float *shift, float *sum, float *square, int64_t rows,
                      int64_t lanes)
{
    for (int64_t r = 0; r < rows; r++) {
#pragma omp simd
        for (int64_t l = 0; l < lanes; l++) {
            float d = x[r * lanes + l] - shift[l];
            sum[l] += d;
            square[l] += d * d;
        }
    }
}

static void sums_piece(const piece_args *s, int64_t at, int64_t rows, int64_t lanes,
                       int64_t channel)
{
    float wide[PIECE], sum[PIECE], square[PIECE];
    memset(sum, 0, (size_t)lanes * sizeof *sum);
    memset(square, 0, (size_t)lanes * sizeof *square);
    const float *x = read_floats(s->x, s->v->bf16, at, rows * lanes, wide);
    if (lanes == 16)
        sums_rows(x, s->mean + channel, sum, square, rows, 16);
    else
        sums_rows(x, s->mean + channel, sum, square, rows, lanes);
    for (int64_t l = 0; l < lanes; l++) {
        s->sum[channel + l] += (double)sum[l];
        s->product[channel + l] += (double)square[l];
    }
}

static void sums(const nn_view *v, const void *x, const float *shift, double *sum, double *square,
                 int64_t begin, int64_t end)
{
    piece_args s = {.v = v, .x = x, .mean = shift, .sum = sum, .product = square};
    walk(&s, sums_piece, begin, end);
}

/* ---- y = act(x*a+b) ---- */

INLINE void affine_rows(nn_activation act, const float *x, float *y, const float *a, const float *b,
                        int64_t rows, int64_t lanes)
{
    for (int64_t r = 0; r < rows; r++) {
#pragma omp simd
        for (int64_t l = 0; l < lanes; l++)
            y[r * lanes + l] = act_value(act, x[r * lanes + l] * a[l] + b[l]);
    }
}

static void affine_piece(const piece_args *s, int64_t at, int64_t rows, int64_t lanes,
                         int64_t channel)
{
    float wide[PIECE], result[PIECE];
    const float *x = read_floats(s->x, s->v->bf16, at, rows * lanes, wide);
    const float *a = s->a + channel, *b = s->b + channel;
    float *y = place_floats(s->out, s->v->bf16, at, result);
#define CALL(act, n) affine_rows(act, x, y, a, b, rows, n)
    FOR_LANES(lanes, s->act, CALL);
#undef CALL
    write_floats(s->out, s->v->bf16, at, rows * lanes, result);
}

static void affine(const nn_view *v, const void *x, void *y, const float *a, const float *b,
                   nn_activation act, int64_t begin, int64_t end)
{
    piece_args s = {.v = v, .act = act, .x = x, .out = y, .a = a, .b = b};
    walk(&s, affine_piece, begin, end);
}

/* ---- backward, sums ---- */

INLINE void back_sums_rows(nn_activation act, const float *x, const float *dy, const float *a,
                           const float *b, const float *mean, float *sum, float *product,
                           int64_t rows, int64_t lanes)
{
    for (int64_t r = 0; r < rows; r++) {
#pragma omp simd
        for (int64_t l = 0; l < lanes; l++) {
            float value = x[r * lanes + l];
            float g = dy[r * lanes + l] * act_slope(act, value * a[l] + b[l]);
            sum[l] += g;
            product[l] += g * (value - mean[l]);
        }
    }
}

static void back_sums_piece(const piece_args *s, int64_t at, int64_t rows, int64_t lanes,
                            int64_t channel)
{
    float wide[PIECE], wide_dy[PIECE], sum[PIECE], product[PIECE];
    memset(sum, 0, (size_t)lanes * sizeof *sum);
    memset(product, 0, (size_t)lanes * sizeof *product);
    const float *x = read_floats(s->x, s->v->bf16, at, rows * lanes, wide);
    const float *dy = read_floats(s->dy, s->v->bf16, at, rows * lanes, wide_dy);
    const float *a = s->a + channel, *b = s->b + channel, *mean = s->mean + channel;
#define CALL(act, n) back_sums_rows(act, x, dy, a, b, mean, sum, product, rows, n)
    FOR_LANES(lanes, s->act, CALL);
#undef CALL
    for (int64_t l = 0; l < lanes; l++) {
        s->sum[channel + l] += (double)sum[l];
        s->product[channel + l] += (double)product[l];
    }
}

static void affine_back_sums(const nn_view *v, const void *x, const void *dy, const float *a,
                             const float *b, const float *mean, nn_activation act, double *sum,
                             double *product, int64_t begin, int64_t end)
{
    piece_args s = {.v = v,
                    .act = act,
                    .x = x,
                    .dy = dy,
                    .a = a,
                    .b = b,
                    .mean = mean,
                    .sum = sum,
                    .product = product};
    walk(&s, back_sums_piece, begin, end);
}

/* ---- backward, dx ---- */

INLINE void back_rows(nn_activation act, const float *x, const float *dy, float *dx, const float *a,
                      const float *b, const float *mean, const float *m, const float *c,
                      int64_t rows, int64_t lanes)
{
    for (int64_t r = 0; r < rows; r++) {
#pragma omp simd
        for (int64_t l = 0; l < lanes; l++) {
            float value = x[r * lanes + l];
            float g = dy[r * lanes + l] * act_slope(act, value * a[l] + b[l]);
            dx[r * lanes + l] = g * a[l] + (value - mean[l]) * m[l] + c[l];
        }
    }
}

static void back_piece(const piece_args *s, int64_t at, int64_t rows, int64_t lanes,
                       int64_t channel)
{
    float wide[PIECE], wide_dy[PIECE], result[PIECE];
    const float *x = read_floats(s->x, s->v->bf16, at, rows * lanes, wide);
    const float *dy = read_floats(s->dy, s->v->bf16, at, rows * lanes, wide_dy);
    const float *a = s->a + channel, *b = s->b + channel, *mean = s->mean + channel;
    const float *m = s->m + channel, *c = s->c + channel;
    float *dx = place_floats(s->out, s->v->bf16, at, result);
#define CALL(act, n) back_rows(act, x, dy, dx, a, b, mean, m, c, rows, n)
    FOR_LANES(lanes, s->act, CALL);
#undef CALL
    write_floats(s->out, s->v->bf16, at, rows * lanes, result);
}

static void affine_back(const nn_view *v, const void *x, const void *dy, void *dx, const float *a,
                        const float *b, const float *mean, const float *m, const float *c,
                        nn_activation act, int64_t begin, int64_t end)
{
    piece_args s = {.v = v,
                    .act = act,
                    .x = x,
                    .dy = dy,
                    .out = dx,
                    .a = a,
                    .b = b,
                    .mean = mean,
                    .m = m,
                    .c = c};
    walk(&s, back_piece, begin, end);
}

/* ---- activations alone ---- */

INLINE void activate_piece(nn_activation act, const float *x, float *y, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = act_value(act, x[i]);
}

static void activate(nn_activation act, bool bf16, const void *x, void *y, int64_t begin,
                     int64_t end)
{
    float wide[PIECE], result[PIECE];
    for (int64_t at = begin; at < end; at += PIECE) {
        int64_t n = end - at < PIECE ? end - at : PIECE;
        const float *from = read_floats(x, bf16, at, n, wide);
        float *to = place_floats(y, bf16, at, result);
#define CALL(a, count) activate_piece(a, from, to, count)
        FOR_ACT(act, CALL, n);
#undef CALL
        write_floats(y, bf16, at, n, result);
    }
}

INLINE void activate_back_piece(nn_activation act, const float *value, const float *dy, float *dx,
                                int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        dx[i] = dy[i] * act_slope(act, value[i]);
}

static void activate_back(nn_activation act, bool bf16, const void *value, const void *dy, void *dx,
                          int64_t begin, int64_t end)
{
    float wide[PIECE], wide_dy[PIECE], result[PIECE];
    for (int64_t at = begin; at < end; at += PIECE) {
        int64_t n = end - at < PIECE ? end - at : PIECE;
        const float *from = read_floats(value, bf16, at, n, wide);
        const float *grad = read_floats(dy, bf16, at, n, wide_dy);
        float *to = place_floats(dx, bf16, at, result);
#define CALL(a, count) activate_back_piece(a, from, grad, to, count)
        FOR_ACT(act, CALL, n);
#undef CALL
        write_floats(dx, bf16, at, n, result);
    }
}

static void add(bool bf16, const void *x, void *y, int64_t begin, int64_t end)
{
    float wide[PIECE], wide_y[PIECE];
    for (int64_t at = begin; at < end; at += PIECE) {
        int64_t n = end - at < PIECE ? end - at : PIECE;
        const float *from = read_floats(x, bf16, at, n, wide);
        const float *old = read_floats(y, bf16, at, n, wide_y);
        float *to = place_floats(y, bf16, at, wide_y);
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            to[i] = old[i] + from[i];
        write_floats(y, bf16, at, n, wide_y);
    }
}

#endif
