/* SPDX-License-Identifier: Apache-2.0
 * conv_weights: what the forward primitive reads where that is not the parameters themselves.
 *
 * In inference batch normalisation is done by the convolution in front of it. With fixed statistics
 * it is a scale and an offset a channel (bn.h), which go into the filters and the bias:
 *
 *     w'[o] = w[o] * a[o],  bias'[o] = bias[o] * a[o] + b[o]
 *
 * A bias is always copied: oneDNN 2.6's SSE4.1 kernels add it as aligned vectors, our own in whole
 * vectors, zeros behind the last channel.
 */
#include "bn.h"
#include "conv.h"

#include <string.h>

static size_t padded_channels(const plan_op *op)
{
    return ((size_t)op->row->out.c + 15) / 16 * 16;
}

int conv_weights_build(plan_op *op, conv_weights *w, bool reordered, at_error *err)
{
    size_t channels = padded_channels(op) * sizeof(float);
    plan_life life = op->plan->options.constant ? LIVES_ALWAYS : LIVES_FORWARD;
    if (op->row->param_count == 1 && !op->norm)
        return 0;
    int status = plan_want(op, (void **)&w->bias, channels, life, err);
    if (status || !op->norm)
        return status;
    status = plan_want(op, (void **)&w->scale, channels, LIVES_FORWARD, err);
    return status
               ? status
               : plan_want(op, (void **)&w->kernel, op->row->params[0].info.count * sizeof(float),
                           reordered ? LIVES_FORWARD : life, err);
}

typedef struct scale_work {
    const plan_op *op;
    const conv_weights *weights;
} scale_work;

/* The filters of output channels [begin, end). */
static void scale_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const scale_work *w = context;
    const float *from = plan_param(w->op, 0);
    int64_t size = (int64_t)w->op->row->params[0].info.count / w->op->row->out.c;
    for (int64_t o = begin; o < end; o++)
        for (int64_t i = o * size; i < (o + 1) * size; i++)
            w->weights->kernel[i] = from[i] * w->weights->scale[o];
}

static void fold(const plan_op *op, const conv_weights *w)
{
    const float *bias = op->row->param_count > 1 ? plan_param(op, 1) : NULL;
    scale_work work = {op, w};
    bn_affine(op->plan->net, op->norm, w->scale, w->bias);
    for (int64_t o = 0; o < op->row->out.c && bias; o++)
        w->bias[o] += bias[o] * w->scale[o];
    plan_parallel_bytes(op->plan, op->row->out.c, op->row->params[0].info.count * sizeof(float),
                        scale_part, &work);
}

void conv_weights_take(const plan_op *op, const conv_weights *w)
{
    if (w->bias)
        memset(w->bias, 0, padded_channels(op) * sizeof(float));
    if (op->norm)
        fold(op, w);
    else if (w->bias)
        memcpy(w->bias, plan_param(op, 1), (size_t)op->row->out.c * sizeof(float));
}
