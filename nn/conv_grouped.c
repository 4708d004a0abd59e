/* SPDX-License-Identifier: Apache-2.0
 * conv_grouped: convolution in grouped plans (plan.h), by kernels of our own: networks of few
 * channels (LeNet has 1, 6 and 16) would fill oneDNN's blocks of 16 channels mostly with padding,
 * while sixteen samples fill a vector always. Weights are read as they lie in at_net_params.
 *
 * The input is brought into fp32 with its columns padded, unless it is so already; backward reads
 * that copy. The input's gradient is the convolution of the output's, spread out by the stride,
 * with the filters turned by 180 degrees.
 */
#include "conv.h"

#include <string.h>

typedef struct grouped_state {
    nn_conv_shape shape, back;     /* forward; from dy to dx */
    nn_spread spread_x, spread_dy; /* dy: for dx */
    int64_t groups, lanes, spread_x_floats, spread_dy_floats;
    float *x;      /* [groups] spread inputs; NULL: they are read where they are */
    float *dy;     /* bf16: [groups] gradients in fp32 */
    float *spread; /* [threads] gradients spread for dx */
    float *turned; /* [ic][oc][kh][kw] */
    float *sums;   /* [oc][ic][kh][kw][lanes], then [oc][lanes] of the bias */
} grouped_state;

static int64_t group_floats(const plan_tensor *t)
{
    return nn_elements(t->shape) * t->producer->plan->kernels->lanes;
}

/* Group g of a tensor's value or gradient. */
static void *group_of(const plan_tensor *t, void *data, int64_t g)
{
    return (char *)data + (size_t)(g * group_floats(t)) * (t->precision == AT_BF16 ? 2 : 4);
}

static const float *input_of(const plan_op *op, int64_t g)
{
    const grouped_state *s = op->state;
    if (s->x)
        return s->x + g * s->spread_x_floats;
    return group_of(op->in[0], op->in[0]->data, g);
}

static void forward_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const plan_op *op = context;
    const grouped_state *s = op->state;
    const nn_kernels *k = op->plan->kernels;
    const float *bias = op->row->param_count > 1 ? plan_param(op, 1) : NULL;
    for (int64_t g = begin; g < end; g++) {
        if (s->x)
            k->spread(&s->spread_x, op->in[0]->precision == AT_BF16,
                      group_of(op->in[0], op->in[0]->data, g), s->x + g * s->spread_x_floats);
        k->conv_group(&s->shape, plan_param(op, 0), bias, input_of(op, g),
                      group_of(op->out, op->out->data, g));
    }
}

static int forward(plan_op *op, at_error *err)
{
    (void)err;
    const grouped_state *s = op->state;
    plan_parallel(op->plan, s->groups, forward_part, op);
    return 0;
}

/* ---- backward ---- */

static const float *gradient_of(const plan_op *op, int64_t g)
{
    const grouped_state *s = op->state;
    return s->dy ? s->dy + g * group_floats(op->out) : group_of(op->out, op->out->grad, g);
}

static void widen_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const plan_op *op = context;
    const grouped_state *s = op->state;
    nn_shape o = op->out->shape;
    nn_spread plain = {.planes = o.c, .h = o.h, .w = o.w, .oh = o.h, .ow = o.w, .sh = 1, .sw = 1};
    for (int64_t g = begin; g < end; g++)
        op->plan->kernels->spread(&plain, true, group_of(op->out, op->out->grad, g),
                                  s->dy + g * group_floats(op->out));
}

/* Output channels [begin, end): every sum is made by one thread, in the order of the groups. */
static void weights_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const plan_op *op = context;
    const grouped_state *s = op->state;
    const nn_kernels *k = op->plan->kernels;
    int64_t filter = s->shape.ic * s->shape.kh * s->shape.kw;
    float *bias = op->row->param_count > 1 ? s->sums + s->shape.oc * filter * s->lanes : NULL;
    size_t vector = (size_t)s->lanes * sizeof(float);
    memset(s->sums + begin * filter * s->lanes, 0, (size_t)((end - begin) * filter) * vector);
    if (bias)
        memset(bias + begin * s->lanes, 0, (size_t)(end - begin) * vector);
    for (int64_t g = 0; g < s->groups; g++)
        k->conv_weights_group(&s->shape, input_of(op, g), gradient_of(op, g), s->sums, bias, begin,
                              end);
    k->sum_lanes(s->sums + begin * filter * s->lanes, plan_param_grad(op, 0) + begin * filter,
                 (end - begin) * filter);
    if (bias)
        k->sum_lanes(bias + begin * s->lanes, plan_param_grad(op, 1) + begin, end - begin);
}

static void turn_filters(const plan_op *op)
{
    const grouped_state *s = op->state;
    int64_t kernel = s->shape.kh * s->shape.kw;
    const float *from = plan_param(op, 0);
    for (int64_t o = 0; o < s->shape.oc; o++)
        for (int64_t i = 0; i < s->shape.ic; i++)
            for (int64_t k = 0; k < kernel; k++)
                s->turned[(i * s->shape.oc + o) * kernel + kernel - 1 - k] = *from++;
}

static void data_part(void *context, int64_t begin, int64_t end, int thread)
{
    const plan_op *op = context;
    const grouped_state *s = op->state;
    const plan_tensor *in = op->in[0];
    float *spread = s->spread + thread * s->spread_dy_floats;
    for (int64_t g = begin; g < end; g++) {
        op->plan->kernels->spread(&s->spread_dy, false, gradient_of(op, g), spread);
        op->plan->kernels->conv_group(&s->back, s->turned, NULL, spread,
                                      group_of(in, op->in_grad[0], g));
    }
}

static int backward(plan_op *op, at_error *err)
{
    (void)err;
    const grouped_state *s = op->state;
    if (s->dy)
        plan_parallel(op->plan, s->groups, widen_part, op);
    if (op->trains)
        plan_parallel(op->plan, s->shape.oc, weights_part, op);
    if (!op->in_grad[0])
        return 0;
    turn_filters(op);
    plan_parallel(op->plan, s->groups, data_part, op);
    return 0;
}

static int measure(plan_op *op, double *seconds, at_error *err)
{
    double best = 1e30;
    for (int i = 0; i < 10; i++) {
        double start = at_now();
        int status = op->forward(op, err);
        if (!status && op->backward)
            status = op->backward(op, err);
        if (status)
            return status;
        double took = at_now() - start;
        best = took < best ? took : best;
    }
    *seconds = best;
    return 0;
}

/* ---- making ---- */

bool conv_grouped_can(const nn_row *row)
{
    const nn_conv_attrs *a = row->attrs;
    bool plane = !row->in[0].vector; /* vectors are not grouped */
    return plane && a->groups == 1 && a->window.dh == 1 && a->window.dw == 1;
}

static int64_t spread_floats(const grouped_state *s, const nn_spread *spread)
{
    return spread->planes * spread->oh * spread->ow * s->lanes;
}

static void set_shapes(const plan_op *op, grouped_state *s)
{
    const nn_window *w = &((const nn_conv_attrs *)op->row->attrs)->window;
    nn_shape in = op->row->in[0], out = op->row->out;
    s->shape = (nn_conv_shape){.ic = in.c,
                               .ih = in.h,
                               .iw = in.w + 2 * w->pw,
                               .oc = out.c,
                               .oh = out.h,
                               .ow = out.w,
                               .kh = w->kh,
                               .kw = w->kw,
                               .sh = w->sh,
                               .sw = w->sw,
                               .top = w->ph,
                               .x0 = w->pw,
                               .x1 = w->pw + in.w,
                               .bf16 = op->out->precision == AT_BF16};
    s->spread_x = (nn_spread){in.c, in.h, in.w, in.h, s->shape.iw, w->pw, 1, 1};
    int64_t rows = (out.h - 1) * w->sh + 1, columns = in.w + w->kw - 1, left = w->kw - 1 - w->pw;
    s->spread_dy = (nn_spread){out.c, out.h, out.w, rows, columns, left, w->sh, w->sw};
    s->back = (nn_conv_shape){.ic = out.c,
                              .ih = rows,
                              .iw = columns,
                              .oc = in.c,
                              .oh = in.h,
                              .ow = in.w,
                              .kh = w->kh,
                              .kw = w->kw,
                              .sh = 1,
                              .sw = 1,
                              .top = w->kh - 1 - w->ph,
                              .x0 = left,
                              .x1 = left + (out.w - 1) * w->sw + 1,
                              .bf16 = s->shape.bf16};
}

static int want_floats(plan_op *op, float **to, size_t n, plan_life life, at_error *err)
{
    return plan_want(op, (void **)to, n * sizeof(float), life, err);
}

static int want_backward(plan_op *op, grouped_state *s, at_error *err)
{
    size_t filters = op->row->params[0].info.count;
    size_t sums = (filters + (size_t)(s->shape.oc)) * (size_t)s->lanes,
           threads = (size_t)op->plan->options.threads;
    int status = op->trains ? want_floats(op, &s->sums, sums, LIVES_BACKWARD, err) : 0;
    if (!status && s->shape.bf16)
        status = want_floats(op, &s->dy, (size_t)(s->groups * group_floats(op->out)),
                             LIVES_BACKWARD, err);
    if (status || !op->in[0]->wants_grad)
        return status;
    status = want_floats(op, &s->turned, filters, LIVES_BACKWARD, err);
    return status ? status
                  : want_floats(op, &s->spread, threads * (size_t)s->spread_dy_floats,
                                LIVES_BACKWARD, err);
}

int conv_grouped_build(plan_op *op, at_error *err)
{
    grouped_state *s = plan_state(op, sizeof *s, err);
    if (!s)
        return AT_ENOMEM;
    set_shapes(op, s);
    plan_set_lanes(op->in[0], PLAN_GROUPED);
    op->out->lanes = PLAN_GROUPED;
    s->lanes = op->plan->kernels->lanes;
    s->groups = (op->plan->options.batch + s->lanes - 1) / s->lanes;
    s->spread_x_floats = spread_floats(s, &s->spread_x);
    s->spread_dy_floats = spread_floats(s, &s->spread_dy);
    op->forward = forward;
    op->measure = measure;
    int status = 0;
    if (s->shape.iw != op->row->in[0].w || s->shape.bf16)
        status = want_floats(op, &s->x, (size_t)(s->groups * s->spread_x_floats),
                             op->trains ? LIVES_BOTH : LIVES_FORWARD, err);
    else
        op->keeps_input = op->trains;
    if (status || !op->out->wants_grad)
        return status;
    op->backward = backward;
    return want_backward(op, s, err);
}
