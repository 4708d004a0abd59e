/* SPDX-License-Identifier: Apache-2.0
 * bn: batch normalisation (Ioffe and Szegedy 2015) with PyTorch's semantics: the batch's biased
 * variance normalises, the unbiased one goes into the moving variance. An activation behind it is
 * done in the same passes; backward computes its input again from x, so nothing but x is kept; for the convolution behind it
 * it may make y again (plan_remake.c).
 *
 *     y = act(x*a + b),  a = gamma*inv,  b = beta - mean*a,  inv = 1/sqrt(variance + eps)
 *     g = dy * act'(x*a + b),  dbeta = sum g,  dgamma = inv * sum g*(x-mean)
 *     dx = a*g + m*(x-mean) + c,  m = -a*inv*dgamma/M,  c = -a*dbeta/M
 *
 * Where a convolution of our own writes x, or dy last, it takes the sums while it does (nn_watch); it
 * writes g for dy then.
 *
 * Frozen or not in training, mean and variance are the moving ones, which then stay as they are.
 * Sums are taken of x less its first value in the channel: no cancellation where the mean is large.
 * Synchronised over ranks (at_plan_options.sum), they are of all ranks' samples; gamma's and beta's
 * gradients stay a rank's own, since these are summed over ranks anyway.
 */
#include "bn.h"

#include <math.h>
#include <string.h>

static const at_option attributes[] = {
    {"eps", AT_OPT_REAL, offsetof(nn_bn_attrs, eps), "1e-5", "added to the variance", "X",
     .min = 1e-12, .max = 1},
    {"momentum", AT_OPT_REAL, offsetof(nn_bn_attrs, momentum), "0.1",
     "the batch's share of the moving statistics", "X", .min = 0, .max = 1},
    {0},
};

static int infer(nn_row *row, at_error *err)
{
    int64_t c = row->in[0].c;
    int status = nn_same_shape(row, err);
    if (!status)
        status = nn_add_param(row, "gamma", NN_ONES, 1, 1, &c, err);
    if (!status)
        status = nn_add_param(row, "beta", NN_ZEROS, 1, 1, &c, err);
    nn_add_state(row, "moving_mean", c, 0);
    nn_add_state(row, "moving_variance", c, 1);
    return status;
}

/* Adds up what the threads found, into thread 0's; always in the same order. */
static void reduce(const plan_op *op)
{
    bn_state *s = op->state;
    for (int t = 1; t < op->plan->options.threads; t++)
        for (int64_t i = 0; i < 2 * s->padded; i++)
            s->sums[i] += bn_sums_of(s, t)[i];
}

static void clear_sums(const plan_op *op)
{
    bn_state *s = op->state;
    memset(s->sums, 0, sizeof(double) * 2 * (size_t)s->padded * (size_t)op->plan->options.threads);
}

static void sums_part(void *context, int64_t begin, int64_t end, int thread)
{
    const plan_op *op = context;
    const bn_state *s = op->state;
    double *sums = bn_sums_of(s, thread);
    op->plan->kernels->sums(&s->view, op->in[0]->data, s->mean, sums, sums + s->padded, begin, end);
}

/* The first value of each channel, into mean. */
static void first_values(const plan_op *op)
{
    bn_state *s = op->state;
    nn_view v = s->view;
    for (int64_t c = 0; c < v.channels; c++) {
        int64_t lane = v.grouped ? 0 : c % v.lanes, block = v.grouped ? c : c / v.lanes;
        int64_t at = block * v.pixels * v.lanes + lane;
        uint32_t bits;
        if (v.bf16) {
            bits = (uint32_t)((const uint16_t *)op->in[0]->data)[at] << 16;
            memcpy(&s->mean[c], &bits, sizeof bits);
        } else {
            s->mean[c] = ((const float *)op->in[0]->data)[at];
        }
    }
}

/* Adds up what the ranks found, and how much of it there was. */
static int sum_over_ranks(const plan_op *op, at_error *err)
{
    const at_plan_options *o = &op->plan->options;
    bn_state *s = op->state;
    double *count = s->sums + 2 * s->padded; /* the other threads' sums are used up */
    s->count = *count = (double)(s->view.samples * s->view.pixels);
    if (!o->sum)
        return 0;
    int status = o->sum(o->sum_context, s->sums, 2 * (size_t)s->padded + 1, err);
    s->count = *count;
    return status;
}

/* Ranks shift x by numbers of their own: what they add up is x itself, in double precision; as watched
 * sums are. */
static void take_shift_back(const plan_op *op)
{
    bn_state *s = op->state;
    double count = (double)(s->view.samples * s->view.pixels);
    for (int64_t c = 0; c < s->view.channels && op->plan->options.sum; c++) {
        double shift = (double)s->mean[c], *sum = &s->sums[c], *square = &s->sums[s->padded + c];
        *square += shift * (2 * *sum + shift * count);
        *sum += shift * count;
        s->mean[c] = 0;
    }
}

static float *moving(const at_net *net, const nn_row *row, int k)
{
    return net->state + row->states[k].offset;
}

static void batch_statistics(const plan_op *op)
{
    const nn_bn_attrs *attrs = op->row->attrs;
    bn_state *s = op->state;
    double count = s->count, unbiased = count > 1 ? count / (count - 1) : 1;
    float *mean = moving(op->plan->net, op->row, 0), *variance = moving(op->plan->net, op->row, 1);
    for (int64_t c = 0; c < s->view.channels; c++) {
        double d = s->sums[c] / count, var = s->sums[s->padded + c] / count - d * d;
        var = var > 0 ? var : 0;
        double m = (double)s->mean[c] + d, keep = 1 - attrs->momentum;
        s->mean[c] = (float)m;
        s->inv[c] = (float)(1 / sqrt(var + attrs->eps));
        mean[c] = (float)(keep * (double)mean[c] + attrs->momentum * m);
        variance[c] = (float)(keep * (double)variance[c] + attrs->momentum * var * unbiased);
    }
}

static float moving_inv(const at_net *net, const nn_row *row, int64_t c)
{
    const nn_bn_attrs *attrs = row->attrs;
    return (float)(1 / sqrt((double)moving(net, row, 1)[c] + attrs->eps));
}

static void moving_statistics(const plan_op *op)
{
    bn_state *s = op->state;
    memcpy(s->mean, moving(op->plan->net, op->row, 0), (size_t)op->out->shape.c * sizeof(float));
    for (int64_t c = 0; c < op->out->shape.c; c++)
        s->inv[c] = moving_inv(op->plan->net, op->row, c);
}

void bn_affine(const at_net *net, const nn_row *row, float *a, float *b)
{
    const float *gamma = net->params + row->params[0].info.offset;
    const float *beta = net->params + row->params[1].info.offset;
    for (int64_t c = 0; c < row->out.c; c++) {
        a[c] = gamma[c] * moving_inv(net, row, c);
        b[c] = beta[c] - moving(net, row, 0)[c] * a[c];
    }
}

static void affine_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const plan_op *op = context;
    const bn_state *s = op->state;
    op->plan->kernels->affine(&s->view, op->in[0]->data, s->y, s->a, s->b, op->activation, begin,
                              end);
}

static void normalise(plan_op *op, void *y)
{
    bn_state *s = op->state;
    s->y = y;
    bn_for_planes(op, affine_part);
}

static void remake(plan_op *op)
{
    normalise(op, op->out->again);
}

static void take_sums(const plan_op *op)
{
    bn_state *s = op->state;
    if (op->in[0]->value_watched && op->in[0]->value_watch == &s->values) {
        memset(s->mean, 0, (size_t)s->padded * sizeof *s->mean);
        return;
    }
    first_values(op);
    clear_sums(op);
    bn_for_planes(op, sums_part);
}

static int take_statistics(plan_op *op, at_error *err)
{
    take_sums(op);
    reduce(op);
    take_shift_back(op);
    int status = sum_over_ranks(op, err);
    if (!status)
        batch_statistics(op);
    return status;
}

static int forward(plan_op *op, at_error *err)
{
    bn_state *s = op->state;
    int status = op->trains ? take_statistics(op, err) : 0;
    if (status)
        return status;
    if (!op->trains)
        moving_statistics(op);
    const float *gamma = plan_param(op, 0), *beta = plan_param(op, 1);
    for (int64_t c = 0; c < op->out->shape.c; c++) {
        s->a[c] = gamma[c] * s->inv[c];
        s->b[c] = beta[c] - s->mean[c] * s->a[c];
    }
    if (op->adds_input)
        bn_sum_forward(op);
    else if (!op->out->read_through)
        normalise(op, op->out->data);
    if (!op->out->read_through)
        plan_activation_padding(op, op->activation);
    return 0;
}

static void back_sums_part(void *context, int64_t begin, int64_t end, int thread)
{
    const plan_op *op = context;
    const bn_state *s = op->state;
    double *sums = bn_sums_of(s, thread);
    op->plan->kernels->affine_back_sums(&s->view, op->in[0]->data, op->out->grad, s->a, s->b,
                                        s->mean, op->activation, sums, sums + s->padded, begin,
                                        end);
}

static void back_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const plan_op *op = context;
    const bn_state *s = op->state;
    bool behind = op->adds_input || op->out->grad_watched; /* the gradient is g */
    op->plan->kernels->affine_back(&s->view, op->in[0]->data, bn_gradient(op), op->in_grad[0], s->a,
                                   s->b, s->mean, s->m, s->c,
                                   behind ? NN_IDENTITY : op->activation, begin, end);
}

/* What the batch's statistics add to the gradient, and the parameters' own gradients. */
static int back_statistics(plan_op *op, at_error *err)
{
    bn_state *s = op->state;
    if (!op->out->grad_watched) {
        clear_sums(op);
        if (op->adds_input)
            bn_sum_backward(op);
        else
            bn_for_planes(op, back_sums_part);
    }
    reduce(op);
    float *dgamma = plan_param_grad(op, 0), *dbeta = plan_param_grad(op, 1);
    for (int64_t c = 0; c < s->view.channels; c++) {
        dgamma[c] = (float)((double)s->inv[c] * s->sums[s->padded + c]);
        dbeta[c] = (float)s->sums[c];
    }
    int status = sum_over_ranks(op, err);
    for (int64_t c = 0; c < s->view.channels && !status; c++) {
        double a = (double)s->a[c], inv = (double)s->inv[c];
        s->m[c] = (float)(-a * inv * inv * s->sums[s->padded + c] / s->count);
        s->c[c] = (float)(-a * s->sums[c] / s->count);
    }
    return status;
}

/* Frozen, it is a fixed scale and offset: m and c stay 0. */
static int backward(plan_op *op, at_error *err)
{
    int status = op->trains ? back_statistics(op, err) : 0;
    if (!status && op->in_grad[0])
        bn_for_planes(op, back_part);
    return status;
}

/* What it would have others take for it. Another activation's derivative would make them slow. */
static void watch(plan_op *op)
{
    bn_state *s = op->state;
    bool relu = op->activation == NN_RELU;
    nn_watch w = {.sum = s->sums, .product = s->sums + s->padded, .step = 2 * s->padded};
    if (!op->trains)
        return;
    s->values = s->gradients = w;
    s->values.kind = NN_WATCH_VALUES;
    s->gradients.kind = !relu            ? NN_WATCH_GRADIENT
                        : op->adds_input ? NN_WATCH_RELU_OUTPUT
                                         : NN_WATCH_RELU;
    if (op->in[0]->consumers == 1)
        op->in[0]->value_watch = &s->values;
    if ((relu || op->activation == NN_IDENTITY) && (!op->adds_input || bn_sum_passes_on(op)))
        op->out->grad_watch = &s->gradients;
}

static int bind(plan_op *op, at_error *err)
{
    bn_state *s = op->state;
    (void)err;
    s->view = plan_view(op->plan, op->in[0]);
    s->affine.kind = op->activation == NN_RELU ? NN_AFFINE_RELU : NN_AFFINE_ALONE;
    s->affine.a = s->a;
    s->affine.b = s->b;
    s->gradients.x = op->in[0]->data;
    s->gradients.y = op->out->data;
    s->gradients.a = s->a;
    s->gradients.b = s->b;
    s->gradients.mean = s->mean;
    return 0;
}

/* Behind a sum, a relu alone. */
static bool absorbs(const plan_op *op, const plan_op *next)
{
    const at_layer *layer = next->row->layer;
    if (op->adds_input)
        return layer->activation == NN_RELU;
    return layer->activation || (layer == &at_layer_add && op->trains);
}

static int build(plan_op *op, at_error *err)
{
    size_t padded = (size_t)(op->out->shape.c + 15) / 16 * 16;
    size_t numbers = 2 * padded * (size_t)op->plan->options.threads + 1;
    bn_state *s =
        plan_state(op, sizeof *s + numbers * sizeof(double) + 6 * padded * sizeof(float), err);
    if (!s)
        return AT_ENOMEM;
    s->padded = (int64_t)padded;
    s->sums = (double *)(s + 1);
    float **arrays[] = {&s->a, &s->b, &s->mean, &s->inv, &s->m, &s->c};
    float *next = (float *)(s->sums + numbers);
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++, next += padded)
        *arrays[i] = next;
    plan_follow(op);
    op->forward = forward;
    op->value_in_place = !op->out->wants_grad;
    op->backward = op->out->wants_grad ? backward : NULL;
    op->keeps_input = op->grad_in_place = true;
    bool cheap = op->activation == NN_IDENTITY || op->activation == NN_RELU;
    op->bind = bind;
    if (cheap && !op->adds_input) {
        op->remake = remake;
        op->out->affine = op->in[0]->consumers == 1 ? &s->affine : NULL;
    }
    int status = op->adds_input ? bn_sum_build(op, err) : 0;
    watch(op);
    return status;
}

static double bytes(const plan_op *op)
{
    double passes = op->in[0]->wants_grad ? 5 : 4; /* x, y; then x, dy, dx */
    passes -= op->out->read_through ? 2 : 0;
    passes += op->adds_input ? 3 : 0;              /* the addend; then y, its gradient */
    return passes * (double)plan_tensor_bytes(op->plan, op->out);
}

const at_layer at_layer_bn = {
    .name = "bn",
    .probes = {"eps=1e-3 momentum=0.2"},
    .attributes = attributes,
    .attributes_bytes = sizeof(nn_bn_attrs),
    .infer = infer,
    .absorbs = absorbs,
    .build = build,
    .bytes = bytes,
};
