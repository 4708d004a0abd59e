/* SPDX-License-Identifier: Apache-2.0
 * conv_amx: one direction of a convolution of bf16 tensors on tile registers (kernels_amx.h). Threads
 * share the rows of all groups of samples, or where planes are small whole groups; each goes through
 * its part a strip at a time, in memory of its own that stays in its second-level cache. The input's
 * gradient is the convolution of the output's with turned filters, where those have a stride one for
 * each phase: pixels whose places in windows are the same, and of the filters what comes there. The
 * filters' gradients are summed a thread, then over threads; where the filters are large beside the
 * tensors, threads share the filters instead, and each sums over all samples.
 */
#include "kernels_amx.h"
#include "conv.h"

#include <stdlib.h>
#include <string.h>

/* Pixels out of a strip, of which 32 samples' sums of 32 channels stay in the cache; pairs of blocks
 * multiplied without a break; bytes a thread; words of a window's row. */
enum {
    PIXELS_AT_ONCE = 64,
    MOST_DEEP = 12,
    MOST_BYTES = 8 << 20,
    MOST_PHASES = 9,
    MOST_WORDS = 512
};
/* Elements of a strip of several groups; of z that stay in the cache beside each part of t. */
enum { MOST_TOGETHER = 1 << 19, KEPT_OUT = 1 << 18 };
enum { SUMS_FREE = 8 << 20 }; /* floats */

typedef struct amx {
    at_plan *plan;
    dnn_conv_spec spec;
    int phases;
    amx_conv shape[MOST_PHASES];
    int64_t groups;
    conv_memory memory;
    uint16_t *filters;      /* u */
    uint16_t *v, *z;        /* [threads]; v is t for the filters' gradient */
    float *m;               /* [threads]; sums for the filters' gradient */
    bool by_channels;       /* the filters' gradient: v and z are of all samples, m of two pairs */
    int64_t v_step, m_step; /* from a thread's to the next one's */
    double *bias;           /* [threads][channels out] */
} amx;

static bool for_weights(const dnn_conv_spec *s)
{
    return s->direction == DNN_BACKWARD_WEIGHTS;
}

static int64_t up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static amx_tensor tensor_of(int64_t n, nn_shape s, int64_t lanes)
{
    bool blocked = lanes == AMX_LANES;
    int64_t channels = up(s.c, AMX_LANES) * AMX_LANES;
    return (amx_tensor){.n = n,
                        .h = s.h,
                        .w = s.w,
                        .blocks = channels / AMX_LANES,
                        .sample = channels * s.h * s.w,
                        .row = s.w * (blocked ? AMX_LANES : channels),
                        .block = blocked ? s.h * s.w * AMX_LANES : AMX_LANES,
                        .pixel = blocked ? AMX_LANES : channels};
}

static int64_t deep_of(int64_t ins, int64_t kw)
{
    int64_t deep = least(ins, MOST_DEEP / kw > 1 ? MOST_DEEP / kw : 1);
    while (ins % deep)
        deep--;
    return deep;
}

/* Of a plane out without pixels, which a phase may have, there is nothing to take. */
static void set_sizes(amx_conv *c)
{
    c->ins = up(c->in.blocks, 2);
    c->outs = up(c->out.blocks, 2);
    c->deep = c->words.pixel ? c->ins : deep_of(c->ins, c->kw);
    c->together = 1;
    if (c->out.h <= 0 || c->out.w <= 0)
        return;
    c->rows = least(c->out.h, up(PIXELS_AT_ONCE, c->out.w));
    c->slots = least(c->in.h, (c->rows - 1) * c->sh + c->kh);
    int64_t size = most(amx_v_size(c), amx_z_size(c));
    if (c->rows == c->out.h)
        c->together = most(1, least(PIXELS_AT_ONCE / (c->out.h * c->out.w), MOST_TOGETHER / size));
}

static bool few_channels(const dnn_conv_spec *s)
{
    return 2 * s->src.c < AMX_LANES;
}

/* A convolution one pixel wide of all that rows of windows have. */
static amx_conv of_words(const dnn_conv_spec *s)
{
    const nn_window *w = &s->window;
    int64_t c = s->src.c, window = w->kw * c, width = s->src.w + 2 * w->pw, before = w->pw * c;
    int64_t copied = before + up(s->src.w * c, AMX_LANES) * AMX_LANES;
    int64_t read = (s->dst.w - 1) * w->sw * c + up(window, AMX_PAIR) * AMX_PAIR;
    amx_conv k = {.words = {.pixel = c,
                            .before = before,
                            .plane = s->src.w * c,
                            .row = up(most(copied, read), AMX_PAIR) * AMX_PAIR},
                  .in = {.n = s->n,
                         .h = s->src.h,
                         .w = width,
                         .blocks = up(window, AMX_LANES),
                         .sample = nn_elements(s->src)},
                  .out = tensor_of(s->n, s->dst, s->dst_lanes),
                  .kh = w->kh,
                  .kw = 1,
                  .sh = w->sh,
                  .sw = w->sw,
                  .ph = w->ph,
                  .tap_row = w->kw};
    set_sizes(&k);
    return k;
}

static amx_conv forward_of(const dnn_conv_spec *s)
{
    const nn_window *w = &s->window;
    amx_conv c = {.in = tensor_of(s->n, s->src, s->src_lanes),
                  .out = tensor_of(s->n, s->dst, s->dst_lanes),
                  .kh = w->kh,
                  .kw = w->kw,
                  .sh = w->sh,
                  .sw = w->sw,
                  .ph = w->ph,
                  .pw = w->pw,
                  .tap_row = w->kw,
                  .tap_column = 1};
    set_sizes(&c);
    return c;
}

/* Along one side: of `size` pixels those that places phase, phase + stride, ... of windows come to. */
typedef struct side {
    int64_t k, pad, first, size; /* places; first pixel, how many */
} side;

static side side_of(int64_t phase, int64_t k, int64_t stride, int64_t pad, int64_t size)
{
    side s = {.k = up(k - phase, stride)};
    int64_t window = pad > phase ? up(pad - phase, stride) : 0; /* whose place is the first pixel */
    s.pad = s.k - 1 - window;
    s.first = window * stride + phase - pad;
    s.size = s.first < size ? up(size - s.first, stride) : 0;
    return s;
}

static amx_conv phase_of(const dnn_conv_spec *s, int64_t y, int64_t x)
{
    const nn_window *w = &s->window;
    side down = side_of(y, w->kh, w->sh, w->ph, s->src.h);
    side across = side_of(x, w->kw, w->sw, w->pw, s->src.w);
    amx_conv c = {.in = tensor_of(s->n, s->dst, s->dst_lanes),
                  .out = tensor_of(s->n, s->src, s->src_lanes),
                  .kh = down.k,
                  .kw = across.k,
                  .sh = 1,
                  .sw = 1,
                  .ph = down.pad,
                  .pw = across.pad,
                  .tap = (y + w->sh * (down.k - 1)) * w->kw + x + w->sw * (across.k - 1),
                  .tap_row = -w->sh * w->kw,
                  .tap_column = -w->sw};
    c.out.first = down.first * c.out.row + across.first * c.out.pixel;
    c.out.h = down.size;
    c.out.w = across.size;
    c.out.row *= w->sh;
    c.out.pixel *= w->sw;
    set_sizes(&c);
    return c;
}

/* Those that there are pixels for. */
static int shapes_of(const dnn_conv_spec *s, amx_conv *shape)
{
    int n = 0;
    if (s->direction != DNN_BACKWARD_DATA) {
        shape[0] = few_channels(s) ? of_words(s) : forward_of(s);
        return 1;
    }
    for (int64_t i = 0; i < s->window.sh * s->window.sw; i++) {
        shape[n] = phase_of(s, i / s->window.sw, i % s->window.sw);
        n += shape[n].out.h > 0 && shape[n].out.w > 0;
    }
    return n;
}

/* Whether the filters' gradient is shared out by channels: where t and z of all samples take less memory
 * than each thread's own sums would, and there are pairs enough. */
static bool by_channels(const at_plan *p, const dnn_conv_spec *s, const amx_conv *c)
{
    int64_t in = c->in.h * c->in.w * c->ins, out = c->out.h * c->out.w * c->outs;
    int64_t all = up(s->n, AMX_GROUP) * AMX_GROUP * AMX_PAIR * (in + out);
    int64_t sums = p->options.threads * amx_filters_size(c);
    bool enough = c->ins * c->outs >= p->options.threads;
    return for_weights(s) && !c->words.pixel && all <= 2 * sums && enough;
}

static void take_all(amx_conv *c, int64_t groups)
{
    c->rows = c->out.h;
    c->slots = c->in.h;
    c->together = groups;
}

static bool layout_fits(int64_t lanes, int64_t channels)
{
    return !lanes || lanes == AMX_LANES || (lanes == channels && channels % AMX_LANES == 0);
}

static bool memory_fits(const at_plan *p, const dnn_conv_spec *s)
{
    amx_conv shape[MOST_PHASES];
    dnn_conv_spec blocked = *s;
    blocked.src_lanes = blocked.dst_lanes = AMX_LANES;
    int phases = shapes_of(&blocked, shape);
    if (by_channels(p, s, shape))
        return true;
    for (int i = 0; i < phases; i++) {
        int64_t orders = amx_v_size(&shape[i]) + (for_weights(s) ? amx_z_size(&shape[i]) : 0);
        if (2 * orders + 4 * amx_m_size(&shape[i]) > MOST_BYTES)
            return false;
    }
    double sums = (double)p->options.threads * (double)amx_filters_size(&shape[0]);
    double tensors = (double)(shape[0].in.sample + shape[0].out.sample) * (double)s->n;
    return !for_weights(s) || sums < tensors + SUMS_FREE;
}

static bool can(const at_plan *p, const dnn_conv_spec *s, int64_t src_lanes, int64_t dst_lanes)
{
    const nn_window *w = &s->window;
    bool sides = few_channels(s) ? w->kh <= AMX_MOST_TAPS && w->kw * s->src.c <= MOST_WORDS
                                 : w->kh <= AMX_MOST_SIDE && w->kw <= AMX_MOST_SIDE;
    bool inside = sides && w->ph < w->kh && w->pw < w->kw;
    bool all =
        w->sh <= w->kh && w->sw <= w->kw && w->sh * w->sw <= MOST_PHASES; /* have a gradient */
    bool stride = s->direction != DNN_BACKWARD_DATA || all;
    bool window = inside && stride && w->dh == 1 && w->dw == 1 && s->groups == 1;
    bool few = s->direction != DNN_BACKWARD_DATA && (!src_lanes || src_lanes == s->src.c);
    bool layouts = (few_channels(s) ? few : layout_fits(src_lanes, s->src.c)) &&
                   layout_fits(dst_lanes, s->dst.c);
    /* A sigmoid of 0 is not 0, as the channels that fill up a block must be. */
    bool fits = s->precision == AT_BF16 && window && layouts && s->activation != NN_SIGMOID &&
                2 * s->dst.c >= AMX_LANES;
    return fits && amx_usable() && memory_fits(p, s);
}

static void *make(at_plan *p, const dnn_conv_spec *spec, at_error *err)
{
    amx *c = calloc(1, sizeof *c);
    if (!c) {
        at_nomem(err);
        return NULL;
    }
    c->plan = p;
    c->spec = *spec;
    c->phases = shapes_of(spec, c->shape);
    c->groups = up(spec->n, AMX_GROUP);
    for (int i = 0; i < c->phases; i++) /* no more than leave each thread some */
        c->shape[i].together = most(1, least(c->shape[i].together, c->groups / p->options.threads));
    c->by_channels = by_channels(p, spec, c->shape);
    if (c->by_channels)
        take_all(c->shape, c->groups);
    return c;
}

/* Sizes in elements; of u, of all phases, else what the largest wants. */
typedef struct sizes {
    int64_t u, v, m;
} sizes;

static sizes sizes_of(const amx *c)
{
    sizes s = {0};
    for (int i = 0; i < c->phases; i++) {
        s.u += amx_filters_size(&c->shape[i]);
        s.v = most(s.v, amx_v_size(&c->shape[i]));
        s.m = most(s.m, amx_m_size(&c->shape[i]));
    }
    return s;
}

static int memory(void *state, conv_want want, void *context, at_error *err)
{
    amx *c = state;
    bool back = for_weights(&c->spec);
    sizes s = sizes_of(c);
    size_t threads = (size_t)c->plan->options.threads, outs = (size_t)c->shape[0].outs * AMX_PAIR;
    size_t copies = c->by_channels ? 1 : threads; /* of v and z */
    c->v_step = s.v;
    c->m_step = c->by_channels ? c->shape[0].kh * c->shape[0].kw * AMX_SUMS : back ? s.u : s.m;
    const conv_piece pieces[] = {
        {(void **)&c->filters, back ? 0 : (size_t)s.u * sizeof *c->filters},
        {(void **)&c->v, copies * (size_t)c->v_step * sizeof *c->v},
        {(void **)&c->z, back ? copies * (size_t)amx_z_size(c->shape) * sizeof *c->z : 0},
        {(void **)&c->m, threads * (size_t)c->m_step * sizeof *c->m},
        {(void **)&c->bias, back && c->spec.bias ? threads * outs * sizeof *c->bias : 0}};
    return conv_want_pieces(pieces, sizeof pieces / sizeof *pieces, want, context, err);
}

static void bind(void *state, const conv_memory *bound)
{
    amx *c = state;
    c->memory = *bound;
}

/* ---- filters ---- */

static nn_filters filters_of(const amx *c)
{
    nn_filters f = conv_filters_of(&c->spec, c->memory.weights);
    if (few_channels(&c->spec)) {
        f.folded = f.ins;
        f.ins *= c->spec.window.kw;
    }
    return f;
}

static void filters_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const amx *c = context;
    nn_filters f = filters_of(c);
    uint16_t *u = c->filters;
    for (int i = 0; i < c->phases; u += amx_filters_size(&c->shape[i++]))
        amx_filters(&c->shape[i], &f, u, begin, end);
}

static void weights(const void *state)
{
    const amx *c = state;
    if (!for_weights(&c->spec))
        plan_parallel_bytes(c->plan, c->shape[0].outs, (size_t)sizes_of(c).u * sizeof *c->filters,
                            filters_part, (void *)(uintptr_t)c);
}

/* ---- strips ---- */

/* What is shared out among threads: rows of planes out, or whole planes where a strip has several. */
static int64_t units_of(const amx_conv *c, int64_t groups)
{
    return c->together > 1 ? groups : groups * c->out.h;
}

/* The next strip of the units [*at, end), and the rows in that have not been taken for an earlier one of
 * the group. */
typedef struct walk {
    int64_t at, end, taken; /* rows in */
} walk;

static bool next_strip(const amx_conv *c, walk *w, amx_strip *s, int64_t *from, int64_t *until)
{
    if (w->at >= w->end)
        return false;
    if (c->together > 1) {
        *s = (amx_strip){w->at, least(c->together, w->end - w->at), 0, c->out.h};
        w->at += s->groups;
    } else {
        int64_t y = w->at % c->out.h;
        int64_t rows = least(least(c->rows, c->out.h - y), w->end - w->at);
        *s = (amx_strip){w->at / c->out.h, 1, y, y + rows};
        w->at += rows;
    }
    int64_t first = s->begin * c->sh - c->ph;
    *from = most(first, s->begin > 0 ? w->taken : 0);
    *until = least(c->in.h, (s->end - 1) * c->sh - c->ph + c->kh);
    w->taken = *until;
    return true;
}

/* ---- a convolution, or a gradient of its input ---- */

typedef struct phase {
    const amx *conv;
    const amx_conv *shape;
    const uint16_t *filters;
} phase;

static void convolve_part(void *context, int64_t begin, int64_t end, int thread)
{
    const phase *p = context;
    const amx *c = p->conv;
    const amx_conv *s = p->shape;
    bool back = c->spec.direction == DNN_BACKWARD_DATA;
    const uint16_t *in = back ? c->memory.dst : c->memory.src;
    uint16_t *out = (void *)(uintptr_t)(back ? c->memory.src : c->memory.dst);
    uint16_t *v = c->v + thread * c->v_step;
    float *m = c->m + thread * c->m_step;
    nn_conv_end e = {c->memory.bias, c->spec.sum, c->spec.activation,
                     conv_watch_of(&c->memory, thread)};
    walk w = {begin, end, 0};
    amx_strip strip;
    int64_t from, until;
    amx_begin();
    while (next_strip(s, &w, &strip, &from, &until)) {
        for (int64_t g = 0; g < strip.groups; g++)
            for (int64_t y = from; y < until; y++)
                amx_take(s, &c->memory.before, strip.group + g, g, y, in, v);
        for (int64_t o = 0; o < s->outs; o++) {
            amx_multiply(s, &strip, o, p->filters, v, m);
            amx_put(s, &strip, o, &e, m, out);
        }
    }
    amx_end();
}

static void convolve(const amx *c)
{
    const uint16_t *u = c->filters;
    conv_watch_clear(c->plan, &c->memory, c->shape[0].out.blocks * AMX_LANES);
    for (int i = 0; i < c->phases; u += amx_filters_size(&c->shape[i++])) {
        phase p = {c, &c->shape[i], u};
        plan_parallel(c->plan, units_of(p.shape, c->groups), convolve_part, &p);
    }
}

/* ---- the filters' gradient ---- */

static double *bias_of(const amx *c, int thread)
{
    return c->spec.bias ? c->bias + thread * c->shape[0].outs * AMX_PAIR : NULL;
}

static void gradient_part(void *context, int64_t begin, int64_t end, int thread)
{
    const amx *c = context;
    const amx_conv *s = c->shape;
    uint16_t *t = c->v + thread * c->v_step, *z = c->z + thread * amx_z_size(s);
    float *sums = c->m + thread * c->m_step;
    int64_t pairs = s->outs * s->ins;
    walk w = {begin, end, 0};
    amx_strip strip;
    int64_t from, until;
    amx_begin();
    while (next_strip(s, &w, &strip, &from, &until)) {
        for (int64_t g = 0; g < strip.groups; g++) {
            for (int64_t y = from; y < until; y++)
                amx_take_turned(s, &c->memory.before, strip.group + g, g, y, c->memory.src, t);
            for (int64_t y = strip.begin; y < strip.end; y++)
                amx_take_pairs(s, &strip, g, y, c->memory.dst, z, bias_of(c, thread));
        }
        for (int64_t i = 0; i < pairs; i++)
            amx_accumulate(s, &strip, i / s->ins, i % s->ins, t, z, false, sums + i * AMX_SUMS,
                           pairs * AMX_SUMS);
    }
    amx_end();
}

static float *gradients_of(const amx *c)
{
    return (void *)(uintptr_t)c->memory.weights;
}

static void filters_back_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const amx *c = context;
    const amx_conv *s = c->shape;
    nn_filters f = filters_of(c);
    for (int64_t i = begin * s->ins; i < end * s->ins; i++)
        amx_filters_back(s, &f, i / s->ins, i % s->ins, c->m + i * AMX_SUMS,
                         s->outs * s->ins * AMX_SUMS, c->plan->options.threads, c->m_step,
                         gradients_of(c));
}

static void find_by_samples(amx *c)
{
    const amx_conv *s = c->shape;
    size_t sums = (size_t)(c->plan->options.threads * c->m_step) * sizeof *c->m;
    memset(c->m, 0, sums);
    plan_parallel(c->plan, units_of(s, c->groups), gradient_part, c);
    plan_parallel_bytes(c->plan, s->outs, sums, filters_back_part, c);
}

/* ---- the same by channels: where tensors are small beside the filters ---- */

static void turn_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const amx *c = context;
    const amx_conv *s = c->shape;
    for (int64_t i = begin; i < end; i++)
        amx_take_turned(s, &c->memory.before, i / s->in.h, i / s->in.h, i % s->in.h, c->memory.src,
                        c->v);
}

static void pairs_part(void *context, int64_t begin, int64_t end, int thread)
{
    const amx *c = context;
    const amx_conv *s = c->shape;
    const amx_strip all = {0, c->groups, 0, s->out.h};
    for (int64_t i = begin; i < end; i++)
        amx_take_pairs(s, &all, i / s->out.h, i % s->out.h, c->memory.dst, c->z,
                       bias_of(c, thread));
}

/* The i-th pair of channels out with one of channels in: as many pairs out as stay in the cache, with each
 * pair in in turn, then the next ones. */
static int64_t out_of(const amx_conv *s, int64_t i, int64_t *in)
{
    int64_t most_outs = most(1, KEPT_OUT / (amx_z_size(s) / s->outs));
    int64_t first = i / (s->ins * most_outs) * most_outs, outs = least(most_outs, s->outs - first);
    *in = (i - first * s->ins) / outs;
    return first + (i - first * s->ins) % outs;
}

static void channels_part(void *context, int64_t begin, int64_t end, int thread)
{
    const amx *c = context;
    const amx_conv *s = c->shape;
    const amx_strip all = {0, c->groups, 0, s->out.h};
    nn_filters f = filters_of(c);
    float *sums = c->m + thread * c->m_step;
    amx_begin();
    for (int64_t i = begin; i < end; i++) {
        int64_t in, out = out_of(s, i, &in);
        amx_accumulate(s, &all, out, in, c->v, c->z, true, sums, AMX_SUMS);
        amx_filters_back(s, &f, out, in, sums, AMX_SUMS, 1, 0, gradients_of(c));
    }
    amx_end();
}

static void find_by_channels(amx *c)
{
    const amx_conv *s = c->shape;
    plan_parallel(c->plan, c->groups * s->in.h, turn_part, c);
    plan_parallel(c->plan, c->groups * s->out.h, pairs_part, c);
    plan_parallel(c->plan, s->outs * s->ins, channels_part, c);
}

static void find_gradient(amx *c)
{
    int64_t threads = c->plan->options.threads, outs = c->shape[0].outs * AMX_PAIR;
    float *bias = (void *)(uintptr_t)c->memory.bias;
    if (bias)
        memset(c->bias, 0, (size_t)(threads * outs) * sizeof *c->bias);
    if (c->by_channels)
        find_by_channels(c);
    else
        find_by_samples(c);
    if (bias)
        conv_total_bias(c->bias, threads, outs, c->spec.dst.c, bias);
}

static void run(const void *state)
{
    const amx *c = state;
    if (for_weights(&c->spec))
        find_gradient((amx *)(uintptr_t)c);
    else
        convolve(c);
}

const conv_own conv_amx = {.name = "amx",
                           .can = can,
                           .new = make,
                           .memory = memory,
                           .bind = bind,
                           .weights = weights,
                           .run = run};
