/* SPDX-License-Identifier: Apache-2.0
 * softmax_loss: cross-entropy over logits, the last row. Forward fills the plan's logits and scores
 * and adds to the step's statistics; backward is scale * weight * (score - [class is the label]).
 */
#include "plan.h"

#include <math.h>
#include <string.h>

static int infer(nn_row *row, at_error *err)
{
    if (!row->in[0].vector)
        return nn_misfit(row, err, "a vector of logits: put a row \"flatten\" before it");
    return nn_same_shape(row, err);
}

static void copy_logits(const plan_op *op)
{
    size_t n = (size_t)(op->plan->options.batch * op->out->shape.c);
    if (op->in[0]->precision == AT_FP32) {
        memcpy(op->plan->logits, op->in[0]->data, n * sizeof(float));
        return;
    }
    const uint16_t *from = op->in[0]->data;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)from[i] << 16;
        memcpy(&op->plan->logits[i], &bits, sizeof bits);
    }
}

/* Scores of one sample; the logarithm of the sum of exponentials is returned. */
static double softmax(const float *logits, float *scores, int64_t classes)
{
    float top = logits[0];
    double sum = 0;
    for (int64_t c = 1; c < classes; c++)
        top = logits[c] > top ? logits[c] : top;
    for (int64_t c = 0; c < classes; c++) {
        scores[c] = expf(logits[c] - top);
        sum += (double)scores[c];
    }
    for (int64_t c = 0; c < classes; c++)
        scores[c] = (float)((double)scores[c] / sum);
    return (double)top + log(sum);
}

static int64_t largest(const float *v, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        best = v[i] > v[best] ? i : best;
    return best;
}

static float weight_of(const at_plan_input *in, int i)
{
    return in->weights ? in->weights[i] : 1;
}

static int forward(plan_op *op, at_error *err)
{
    at_plan *p = op->plan;
    const at_plan_input *in = p->input;
    int64_t classes = op->out->shape.c;
    copy_logits(op);
    for (int i = 0; i < p->options.batch; i++) {
        const float *logits = p->logits + i * classes;
        double all = softmax(logits, p->scores + i * classes, classes);
        if (!in->labels || weight_of(in, i) == 0)
            continue;
        int32_t label = in->labels[i];
        if (label < 0 || label >= classes)
            return at_fail(err, AT_EINPUT, "sample %d has label %d, the network has %lld classes",
                           i, label, (long long)classes);
        p->stats->loss_sum += (double)weight_of(in, i) * (all - (double)logits[label]);
        p->stats->correct += largest(logits, classes) == label;
        p->stats->samples++;
    }
    return 0;
}

static void store(const plan_op *op, int64_t at, float g)
{
    if (op->in[0]->precision == AT_FP32) {
        ((float *)op->in_grad[0])[at] = g;
        return;
    }
    uint32_t bits;
    memcpy(&bits, &g, sizeof bits);
    ((uint16_t *)op->in_grad[0])[at] = (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static int backward(plan_op *op, at_error *err)
{
    (void)err;
    const at_plan *p = op->plan;
    int64_t classes = op->out->shape.c;
    for (int i = 0; i < p->options.batch; i++) {
        float weight = weight_of(p->input, i), scale = p->input->scale * weight;
        for (int64_t c = 0; c < classes; c++) {
            float score = p->scores[i * classes + c], target = p->input->labels[i] == c ? 1.0f : 0;
            store(op, i * classes + c, weight != 0 ? scale * (score - target) : 0);
        }
    }
    return 0;
}

static int build(plan_op *op, at_error *err)
{
    (void)err;
    op->forward = forward;
    op->backward = op->in[0]->wants_grad ? backward : NULL;
    op->out->no_value = true;
    op->out->wants_grad = false;
    return 0;
}

static double bytes(const plan_op *op)
{
    double n = (double)(op->plan->options.batch * op->out->shape.c);
    return 2 * (double)plan_tensor_bytes(op->plan, op->in[0]) + 2 * 4 * n;
}

const at_layer at_layer_softmax_loss = {
    .name = "softmax_loss",
    .probes = {""},
    .infer = infer,
    .build = build,
    .bytes = bytes,
};
