/* SPDX-License-Identifier: Apache-2.0
 * conv_winograd: one direction of a 3x3 or 5x5 convolution by our own Winograd kernels
 * (kernels_winograd.h). Threads take parts of all tiles; each goes through them a few at a time, in
 * memory of its own that stays in its second-level cache. The input's gradient is the convolution of
 * the output's with turned filters; the filters' gradients are summed a thread, then over threads.
 */
#include "conv.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Tiles at a time: as many as leave most of the second-level cache to the filters, or, where these are
 * more than that, as many as take their memory, so that they are not read for a few. */
enum { USUAL_CACHE = 512 << 10, MOST_RUNS = 8 /* of kernels->winograd_tiles */ };
enum { SUMS_FREE = 4 << 20 }; /* floats */

typedef struct winograd {
    at_plan *plan;
    dnn_conv_spec spec;
    nn_winograd shape;
    int64_t room, tiles;                     /* at a time, in all */
    int64_t v_floats, m_floats, sums_floats; /* a thread */
    conv_memory memory;
    float *filters; /* u */
    float *v, *m;   /* [threads] */
    float *sums;    /* [threads] of the filters' gradient */
    double *bias;   /* [threads][channels out] */
} winograd;

/* The filters' gradient is summed in memory of its own by every thread: with many threads and
 * channels that would be more than the tensors. */
static bool sums_fit(const at_plan *p, const dnn_conv_spec *s)
{
    double sums = (double)p->options.threads * NN_WINOGRAD_POINTS * (double)(s->src.c * s->dst.c);
    double tensors = (double)(nn_elements(s->src) + nn_elements(s->dst)) * (double)s->n;
    return s->direction != DNN_BACKWARD_WEIGHTS || sums < tensors + SUMS_FREE;
}

static bool can(const at_plan *p, const dnn_conv_spec *s, int64_t src_lanes, int64_t dst_lanes)
{
    const nn_window *w = &s->window;
    int64_t lanes = p->kernels->lanes;
    bool square = (w->kh == 3 || w->kh == 5) && w->kw == w->kh && w->ph < w->kh && w->pw < w->kw;
    bool window = square && w->sh == 1 && w->sw == 1 && w->dh == 1 && w->dw == 1;
    bool layouts =
        lanes >= 8 && (!src_lanes || src_lanes == lanes) && (!dst_lanes || dst_lanes == lanes);
    /* A sigmoid of 0 is not 0, as the channels that fill up a block must be. */
    return window && layouts && sums_fit(p, s) && s->groups == 1 && s->precision == AT_FP32 &&
           s->activation != NN_SIGMOID && 2 * s->src.c >= lanes && 2 * s->dst.c >= lanes;
}

static int64_t blocks_of(const winograd *c, nn_shape s)
{
    return (s.c + c->plan->kernels->lanes - 1) / c->plan->kernels->lanes;
}

/* What is read and written in the direction; a gradient of the input comes out. */
static void set_shape(winograd *c)
{
    const dnn_conv_spec *s = &c->spec;
    bool back = s->direction == DNN_BACKWARD_DATA;
    nn_shape in = back ? s->dst : s->src, out = back ? s->src : s->dst;
    int64_t side = s->window.kh, tile = NN_WINOGRAD_SIDES - side;
    c->shape = (nn_winograd){.h = in.h,
                             .w = in.w,
                             .oh = out.h,
                             .ow = out.w,
                             .ph = back ? side - 1 - s->window.ph : s->window.ph,
                             .pw = back ? side - 1 - s->window.pw : s->window.pw,
                             .ins = blocks_of(c, in),
                             .outs = blocks_of(c, out),
                             .tile = tile,
                             .th = (out.h + tile - 1) / tile,
                             .tw = (out.w + tile - 1) / tile};
}

static int64_t cache_bytes(void)
{
    long bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
    return bytes > 0 ? bytes : USUAL_CACHE;
}

static int64_t within(int64_t n, int64_t least, int64_t most)
{
    return n < least ? least : n > most ? most : n;
}

/* Of which each takes so many bytes of v and m. Sums of the filters' gradient are read and written
 * each time, filters only read: for those twice as many tiles pay. */
static int64_t tiles_at_once(const winograd *c, int64_t bytes)
{
    int64_t cache = cache_bytes(), filters = c->sums_floats * (int64_t)sizeof(float);
    int64_t share = c->spec.direction == DNN_BACKWARD_WEIGHTS ? cache / 8 * 5 : cache / 16 * 5;
    int64_t tiles = filters < cache / 4 * 3 ? share / bytes : filters / bytes;
    int64_t run = c->plan->kernels->winograd_tiles;
    return tiles < run ? run / 2 : within(tiles / run, 1, MOST_RUNS) * run;
}

static void set_sizes(winograd *c)
{
    const nn_winograd *s = &c->shape;
    int64_t lanes = c->plan->kernels->lanes, points = NN_WINOGRAD_POINTS;
    int64_t tile = points * (s->ins + s->outs) * lanes;
    c->sums_floats = points * s->ins * s->outs * lanes * lanes;
    c->tiles = c->spec.n * s->th * s->tw;
    c->room = within(tiles_at_once(c, tile * (int64_t)sizeof(float)), 1, c->tiles);
    c->v_floats = points * nn_winograd_step(c->room, s->ins, lanes);
    c->m_floats = points * nn_winograd_step(c->room, s->outs, lanes);
}

static void *make(at_plan *p, const dnn_conv_spec *spec, at_error *err)
{
    winograd *c = calloc(1, sizeof *c);
    if (!c) {
        at_nomem(err);
        return NULL;
    }
    c->plan = p;
    c->spec = *spec;
    set_shape(c);
    set_sizes(c);
    return c;
}

static int memory(void *state, conv_want want, void *context, at_error *err)
{
    winograd *c = state;
    size_t threads = (size_t)c->plan->options.threads, floats = sizeof(float);
    size_t outs = (size_t)(c->shape.outs * c->plan->kernels->lanes);
    bool weights = c->spec.direction == DNN_BACKWARD_WEIGHTS;
    const conv_piece pieces[] = {
        {(void **)&c->filters, weights ? 0 : (size_t)c->sums_floats * floats},
        {(void **)&c->v, threads * (size_t)c->v_floats * floats},
        {(void **)&c->m, threads * (size_t)c->m_floats * floats},
        {(void **)&c->sums, weights ? threads * (size_t)c->sums_floats * floats : 0},
        {(void **)&c->bias, weights && c->spec.bias ? threads * outs * sizeof(double) : 0}};
    return conv_want_pieces(pieces, sizeof pieces / sizeof *pieces, want, context, err);
}

static void bind(void *state, const conv_memory *bound)
{
    winograd *c = state;
    c->memory = *bound;
}

/* ---- filters ---- */

static void filters_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const winograd *c = context;
    nn_filters f = conv_filters_of(&c->spec, c->memory.weights);
    c->plan->kernels->winograd_filters(&c->shape, &f, c->filters, begin, end);
}

static void weights(const void *state)
{
    const winograd *c = state;
    if (c->spec.direction != DNN_BACKWARD_WEIGHTS)
        plan_parallel_bytes(c->plan, c->shape.outs, (size_t)c->sums_floats * sizeof(float),
                            filters_part, (void *)(uintptr_t)c);
}

/* ---- a convolution, or a gradient of its input ---- */

static void convolve_part(void *context, int64_t begin, int64_t end, int thread)
{
    const winograd *c = context;
    const nn_kernels *k = c->plan->kernels;
    bool back = c->spec.direction == DNN_BACKWARD_DATA;
    const float *in = back ? c->memory.dst : c->memory.src;
    float *out = (void *)(uintptr_t)(back ? c->memory.src : c->memory.dst);
    float *v = c->v + thread * c->v_floats, *m = c->m + thread * c->m_floats;
    nn_conv_end e = {c->memory.bias, c->spec.sum, c->spec.activation,
                     conv_watch_of(&c->memory, thread)};
    for (int64_t first = begin, last; first < end; first = last) {
        last = first + c->room < end ? first + c->room : end;
        k->winograd_input(&c->shape, &c->memory.before, in, v, c->room, first, last);
        k->winograd_multiply(&c->shape, c->filters, v, m, c->room, last - first);
        k->winograd_output(&c->shape, &e, m, out, c->room, first, last);
    }
}

/* ---- the filters' gradient ---- */

static void gradient_part(void *context, int64_t begin, int64_t end, int thread)
{
    const winograd *c = context;
    const nn_kernels *k = c->plan->kernels;
    int64_t outs = c->shape.outs * k->lanes;
    float *v = c->v + thread * c->v_floats, *z = c->m + thread * c->m_floats;
    float *sums = c->sums + thread * c->sums_floats;
    double *bias = c->spec.bias ? c->bias + thread * outs : NULL;
    for (int64_t first = begin, last; first < end; first = last) {
        last = first + c->room < end ? first + c->room : end;
        k->winograd_input(&c->shape, &c->memory.before, c->memory.src, v, c->room, first, last);
        k->winograd_gradient(&c->shape, c->memory.dst, z, bias, c->room, first, last);
        k->winograd_accumulate(&c->shape, v, z, sums, c->room, last - first);
    }
}

static void filters_back_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const winograd *c = context;
    nn_filters f = conv_filters_of(&c->spec, c->memory.weights);
    c->plan->kernels->winograd_filters_back(&c->shape, &f, c->sums, c->plan->options.threads,
                                            c->sums_floats, (void *)(uintptr_t)c->memory.weights,
                                            begin, end);
}

static void find_gradient(const winograd *c)
{
    int64_t threads = c->plan->options.threads, outs = c->shape.outs * c->plan->kernels->lanes;
    float *bias = (void *)(uintptr_t)c->memory.bias;
    memset(c->sums, 0, (size_t)(threads * c->sums_floats) * sizeof(float));
    if (bias)
        memset(c->bias, 0, (size_t)(threads * outs) * sizeof(double));
    plan_parallel(c->plan, c->tiles, gradient_part, (void *)(uintptr_t)c);
    plan_parallel_bytes(c->plan, c->spec.src.c, (size_t)c->sums_floats * sizeof(float),
                        filters_back_part, (void *)(uintptr_t)c);
    if (bias)
        conv_total_bias(c->bias, threads, outs, c->spec.dst.c, bias);
}

static void run(const void *state)
{
    const winograd *c = state;
    if (c->spec.direction == DNN_BACKWARD_WEIGHTS) {
        find_gradient(c);
        return;
    }
    conv_watch_clear(c->plan, &c->memory, c->shape.outs * c->plan->kernels->lanes);
    plan_parallel(c->plan, c->tiles, convolve_part, (void *)(uintptr_t)c);
}

const conv_own conv_winograd = {.name = "winograd",
                                .can = can,
                                .new = make,
                                .memory = memory,
                                .bind = bind,
                                .weights = weights,
                                .run = run};
