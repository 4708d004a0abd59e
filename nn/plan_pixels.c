/* SPDX-License-Identifier: Apache-2.0
 * plan_pixels: the rows input, rescale and normalize, composed. Each only multiplies and adds a
 * number a channel, so a chain of them is one multiplication and addition; the row whose output is
 * read by something else turns uint8 [N,H,W,C] into numbers in the layout that its reader asked
 * for: one pass over memory however many rows the chain has.
 */
#include "plan.h"

typedef struct cast_work {
    const plan_op *op;
    nn_view view;
} cast_work;

static void cast_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const cast_work *w = context;
    const plan_tensor *out = w->op->out;
    w->op->plan->kernels->pixels(&w->view, w->op->plan->input->pixels, out->scale, out->offset,
                                 out->data, begin, end);
}

static int cast(plan_op *op, at_error *err)
{
    (void)err;
    cast_work w = {op, plan_view(op->plan, op->out)};
    plan_parallel_bytes(op->plan, w.view.n, plan_tensor_bytes(op->plan, op->out), cast_part, &w);
    return 0;
}

static bool read_by_others(const plan_op *op)
{
    for (int i = 0; i < op->plan->op_count; i++) {
        const plan_op *other = &op->plan->ops[i];
        for (int k = 0; k < other->row->input_count; k++)
            if (other->in[k] == op->out && !other->row->layer->pixels)
                return true;
    }
    return false;
}

int plan_pixels_build(plan_op *op, at_error *err)
{
    (void)err;
    plan_tensor *out = op->out;
    for (int64_t c = 0; c < out->shape.c; c++) {
        float s = op->in[0] ? op->in[0]->scale[c] : 1, o = op->in[0] ? op->in[0]->offset[c] : 0;
        float scale = 1, offset = 0;
        op->row->layer->pixel(op->row, c, &scale, &offset);
        out->scale[c] = s * scale;
        out->offset[c] = o * scale + offset;
    }
    if (read_by_others(op))
        op->forward = cast;
    else
        out->no_value = true;
    return 0;
}

void at_pixels_normalize(const uint8_t *pixels, size_t samples, size_t area, int channels,
                         const float *mean, const float *deviation, float *out)
{
    float scale[NN_CHANNELS], offset[NN_CHANNELS];
    nn_view view = {.n = (int64_t)samples,
                    .blocks = 1,
                    .pixels = (int64_t)area,
                    .lanes = channels,
                    .channels = channels,
                    .samples = (int64_t)samples};
    for (int c = 0; c < channels; c++) {
        scale[c] = 1 / (255 * deviation[c]);
        offset[c] = -mean[c] / deviation[c];
    }
    nn_kernels_best()->pixels(&view, pixels, scale, offset, out, 0, (int64_t)samples);
}
