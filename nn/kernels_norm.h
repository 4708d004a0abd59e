/* SPDX-License-Identifier: Apache-2.0
 * kernels_norm: elementwise activations and the four passes of batch normalisation, which carry the
 * activation behind it along: its input is computed again in backward rather than stored.
 *
 * A plane is walked in pieces that fit the first-level cache, and a piece in columns: n <= VF
 * channels side by side in every row. Sums in fp32 stay as short as a piece before double precision
 * takes over. NCHW planes have one channel: there a column is VF pixels wide.
 */
#ifndef NN_KERNELS_NORM_H
#define NN_KERNELS_NORM_H

#include "kernels_math.h"

enum { PIECE = 2048 }; /* elements */

typedef struct piece_args {
    const nn_view *v;
    nn_activation act;
    const void *x, *dy, *skip; /* skip: what is added, or the sum's output in backward */
    void *out;
    const float *a, *b, *mean, *m, *c;
    double *sum, *product;
} piece_args;

/* `rows` rows of n elements, `stride` apart, the first at `at`; they are the channels from
 * `channel` on, or, where `one` is set, all of that channel. */
typedef struct column {
    int64_t at, rows, stride, n, channel;
    bool one;
} column;

typedef void (*column_fn)(const piece_args *s, const column *c);

static void walk_piece(const piece_args *s, column_fn work, int64_t at, int64_t rows, int64_t lanes,
                       int64_t channel)
{
    for (int64_t l = 0; l < lanes; l += VF) {
        column c = {.at = at + l, .rows = rows, .stride = lanes, .channel = channel + l};
        c.n = lanes - l < VF ? lanes - l : VF;
        work(s, &c);
    }
}

static void walk_line(const piece_args *s, column_fn work, int64_t at, int64_t pixels,
                      int64_t channel)
{
    column c = {
        .at = at, .rows = pixels / VF, .stride = VF, .n = VF, .channel = channel, .one = true};
    if (c.rows)
        work(s, &c);
    c.at += c.rows * VF;
    c.n = pixels - c.rows * VF;
    c.rows = 1;
    if (c.n)
        work(s, &c);
}

static void walk(const piece_args *s, column_fn work, int64_t begin, int64_t end)
{
    bool line = s->v->grouped || s->v->lanes == 1;
    int64_t lanes = line ? 1 : s->v->lanes, pixels = s->v->pixels * s->v->lanes / lanes;
    int64_t rows = lanes < PIECE ? PIECE / lanes : 1;
    for (int64_t plane = begin; plane < end; plane++) {
        int64_t base = plane * pixels * lanes, channel = plane % s->v->blocks * lanes;
        for (int64_t p = 0; p < pixels; p += rows) {
            int64_t count = pixels - p < rows ? pixels - p : rows;
            if (line)
                walk_line(s, work, base + p, count, channel);
            else
                walk_piece(s, work, base + p * lanes, count, lanes, channel);
        }
    }
}

/* The column's part of an array a channel. */
INLINE vf channels(const float *array, const column *c)
{
    return c->one ? all(array[c->channel]) : load(array, false, c->channel, c->n);
}

INLINE void add_sums(double *to, const column *c, vf sums)
{
    for (int64_t i = 0; i < c->n; i++)
        to[c->channel + (c->one ? 0 : i)] += (double)sums[i];
}

/* ---- sums ---- */

INLINE void sums_rows(const piece_args *s, const column *c, int64_t n)
{
    vf shift = channels(s->mean, c), sum = {0}, square = {0};
    for (int64_t r = 0; r < c->rows; r++) {
        vf d = load(s->x, s->v->bf16, c->at + r * c->stride, n) - shift;
        sum += d;
        square += d * d;
    }
    add_sums(s->sum, c, sum);
    add_sums(s->product, c, square);
}

static void sums_column(const piece_args *s, const column *c)
{
    if (c->n == VF)
        sums_rows(s, c, VF);
    else
        sums_rows(s, c, c->n);
}

static void sums(const nn_view *v, const void *x, const float *shift, double *sum, double *square,
                 int64_t begin, int64_t end)
{
    piece_args s = {.v = v, .x = x, .mean = shift, .sum = sum, .product = square};
    walk(&s, sums_column, begin, end);
}

/* ---- y = act(x*a+b) ---- */

INLINE void affine_rows(nn_activation act, const piece_args *s, const column *c, int64_t n)
{
    vf a = channels(s->a, c), b = channels(s->b, c);
    for (int64_t r = 0; r < c->rows; r++) {
        int64_t at = c->at + r * c->stride;
        vf x = load(s->x, s->v->bf16, at, n);
        store(s->out, s->v->bf16, at, n, act_value(act, x * a + b));
    }
}

static void affine_column(const piece_args *s, const column *c)
{
#define CALL(act) (c->n == VF ? affine_rows(act, s, c, VF) : affine_rows(act, s, c, c->n))
    FOR_ACT(s->act, CALL);
#undef CALL
}

static void affine(const nn_view *v, const void *x, void *y, const float *a, const float *b,
                   nn_activation act, int64_t begin, int64_t end)
{
    piece_args s = {.v = v, .act = act, .x = x, .out = y, .a = a, .b = b};
    walk(&s, affine_column, begin, end);
}

/* ---- backward, sums ---- */

INLINE void back_sums_rows(nn_activation act, const piece_args *s, const column *c, int64_t n)
{
    vf a = channels(s->a, c), b = channels(s->b, c), mean = channels(s->mean, c);
    vf sum = {0}, product = {0};
    for (int64_t r = 0; r < c->rows; r++) {
        int64_t at = c->at + r * c->stride;
        vf x = load(s->x, s->v->bf16, at, n);
        vf g = act_back(act, x * a + b, load(s->dy, s->v->bf16, at, n));
        sum += g;
        product += g * (x - mean);
    }
    add_sums(s->sum, c, sum);
    add_sums(s->product, c, product);
}

static void back_sums_column(const piece_args *s, const column *c)
{
#define CALL(act) (c->n == VF ? back_sums_rows(act, s, c, VF) : back_sums_rows(act, s, c, c->n))
    FOR_ACT(s->act, CALL);
#undef CALL
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
    walk(&s, back_sums_column, begin, end);
}

/* ---- y = relu(x*a+b + skip), or without the relu ---- */

INLINE void affine_sum_rows(bool relu, const piece_args *s, const column *c, int64_t n)
{
    vf a = channels(s->a, c), b = channels(s->b, c);
    for (int64_t r = 0; r < c->rows; r++) {
        int64_t at = c->at + r * c->stride;
        vf y = load(s->x, s->v->bf16, at, n) * a + b + load(s->skip, s->v->bf16, at, n);
        store(s->out, s->v->bf16, at, n, relu ? act_value(NN_RELU, y) : y);
    }
}

static void affine_sum_column(const piece_args *s, const column *c)
{
    bool relu = s->act == NN_RELU;
    if (c->n == VF && relu)
        affine_sum_rows(true, s, c, VF);
    else if (c->n == VF)
        affine_sum_rows(false, s, c, VF);
    else
        affine_sum_rows(relu, s, c, c->n);
}

static void affine_sum(const nn_view *v, const void *x, const void *skip, void *y, const float *a,
                       const float *b, nn_activation act, int64_t begin, int64_t end)
{
    piece_args s = {.v = v, .act = act, .x = x, .skip = skip, .out = y, .a = a, .b = b};
    walk(&s, affine_sum_column, begin, end);
}

INLINE void sum_back_rows(bool relu, const piece_args *s, const column *c, int64_t n)
{
    vf mean = channels(s->mean, c), sum = {0}, product = {0};
    for (int64_t r = 0; r < c->rows; r++) {
        int64_t at = c->at + r * c->stride;
        vf g = load(s->dy, s->v->bf16, at, n);
        if (relu)
            g = act_back_output(NN_RELU, load(s->skip, s->v->bf16, at, n), g);
        store(s->out, s->v->bf16, at, n, g);
        sum += g;
        product += g * (load(s->x, s->v->bf16, at, n) - mean);
    }
    add_sums(s->sum, c, sum);
    add_sums(s->product, c, product);
}

static void sum_back_column(const piece_args *s, const column *c)
{
    bool relu = s->act == NN_RELU;
    if (c->n == VF && relu)
        sum_back_rows(true, s, c, VF);
    else if (c->n == VF)
        sum_back_rows(false, s, c, VF);
    else
        sum_back_rows(relu, s, c, c->n);
}

static void affine_sum_back(const nn_view *v, const void *x, const void *y, const void *dy, void *g,
                            const float *mean, nn_activation act, double *sum, double *product,
                            int64_t begin, int64_t end)
{
    piece_args s = {.v = v,
                    .act = act,
                    .x = x,
                    .dy = dy,
                    .skip = y,
                    .out = g,
                    .mean = mean,
                    .sum = sum,
                    .product = product};
    walk(&s, sum_back_column, begin, end);
}

/* ---- backward, dx ---- */

INLINE void back_rows(nn_activation act, const piece_args *s, const column *c, int64_t n)
{
    vf a = channels(s->a, c), b = channels(s->b, c), mean = channels(s->mean, c);
    vf slope = channels(s->m, c), base = channels(s->c, c);
    for (int64_t r = 0; r < c->rows; r++) {
        int64_t at = c->at + r * c->stride;
        vf x = load(s->x, s->v->bf16, at, n);
        vf g = act_back(act, x * a + b, load(s->dy, s->v->bf16, at, n));
        store(s->out, s->v->bf16, at, n, g * a + (x - mean) * slope + base);
    }
}

static void back_column(const piece_args *s, const column *c)
{
#define CALL(act) (c->n == VF ? back_rows(act, s, c, VF) : back_rows(act, s, c, c->n))
    FOR_ACT(s->act, CALL);
#undef CALL
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
    walk(&s, back_column, begin, end);
}

/* ---- activations alone ---- */

INLINE void activate_all(nn_activation act, bool bf16, const void *x, void *y, int64_t begin,
                         int64_t end)
{
    int64_t at = begin;
    for (; at + VF <= end; at += VF)
        store(y, bf16, at, VF, act_value(act, load(x, bf16, at, VF)));
    if (at < end)
        store(y, bf16, at, end - at, act_value(act, load(x, bf16, at, end - at)));
}

static void activate(nn_activation act, bool bf16, const void *x, void *y, int64_t begin,
                     int64_t end)
{
#define CALL(a) activate_all(a, bf16, x, y, begin, end)
    FOR_ACT(act, CALL);
#undef CALL
}

INLINE void activate_back_some(nn_activation act, bool bf16, const void *value, const void *dy,
                               void *dx, int64_t at, int64_t n)
{
    vf from = load(value, bf16, at, n), g = load(dy, bf16, at, n);
    bool output = act == NN_RELU || act == NN_SIGMOID || act == NN_TANH;
    store(dx, bf16, at, n, output ? act_back_output(act, from, g) : act_back(act, from, g));
}

INLINE void activate_back_all(nn_activation act, bool bf16, const void *value, const void *dy,
                              void *dx, int64_t begin, int64_t end)
{
    int64_t at = begin;
    for (; at + VF <= end; at += VF)
        activate_back_some(act, bf16, value, dy, dx, at, VF);
    if (at < end)
        activate_back_some(act, bf16, value, dy, dx, at, end - at);
}

static void activate_back(nn_activation act, bool bf16, const void *value, const void *dy, void *dx,
                          int64_t begin, int64_t end)
{
#define CALL(a) activate_back_all(a, bf16, value, dy, dx, begin, end)
    FOR_ACT(act, CALL);
#undef CALL
}

static void add(bool bf16, const void *x, void *y, int64_t begin, int64_t end)
{
    for (int64_t at = begin; at < end; at += VF) {
        int64_t n = end - at < VF ? end - at : VF;
        store(y, bf16, at, n, load(y, bf16, at, n) + load(x, bf16, at, n));
    }
}

#endif
