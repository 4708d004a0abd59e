/* SPDX-License-Identifier: Apache-2.0
 * softmax_loss: cross-entropy over logits, with the semantics of PyTorch's CrossEntropyLoss for
 * label smoothing e and class weights w. For a sample with label y and scores p of C classes:
 *
 *     q_c = (1-e)*[c = y] + e/C,  loss = -sum of w_c*q_c*ln p_c
 *     dloss/dlogit_c = p_c * sum of w_k*q_k - w_c*q_c
 *
 * A sample that was mixed has a share of its own label and the rest of another's: [c = y] is then
 * share * [c = y] + (1-share) * [c = other], and the loss that blend of the two labels' losses.
 *
 * The last row is the main one: it fills the plan's logits and scores and adds to the step's
 * statistics. Losses before it are auxiliary (Szegedy et al. 2014): their weighted gradients help
 * training, and inference leaves them out.
 */
#include "plan.h"

#include <math.h>
#include <string.h>

static const at_option attributes[] = {
    {"weight", AT_OPT_REAL, offsetof(nn_loss_attrs, weight), "1",
     "of an auxiliary row's gradient beside the last row's", "X", .min = 0, .max = 1e6},
    {0},
};

static int infer(nn_row *row, at_error *err)
{
    if (!row->in[0].vector)
        return nn_misfit(row, err, "a vector of logits: put a row \"flatten\" before it");
    return nn_same_shape(row, err);
}

typedef struct loss_state {
    double weights;         /* of all classes, added up */
    float *logits, *scores; /* [N,classes]; the plan's own in the last row */
} loss_state;

static bool is_main(const plan_op *op)
{
    return op->index + 1 == op->plan->op_count;
}

static double class_weight(const at_plan *p, int64_t c)
{
    return p->options.class_weights ? (double)p->options.class_weights[c] : 1;
}

static void copy_logits(const plan_op *op, float *to)
{
    size_t n = (size_t)(op->plan->options.batch * op->out->shape.c);
    if (op->in[0]->precision == AT_FP32) {
        memcpy(to, op->in[0]->data, n * sizeof(float));
        return;
    }
    const uint16_t *from = op->in[0]->data;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)from[i] << 16;
        memcpy(&to[i], &bits, sizeof bits);
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

/* What a sample is to be: `share` of its label, the rest of the other one. */
typedef struct target {
    int32_t label, other;
    double share;
} target;

static target target_of(const at_plan_input *in, int i)
{
    int32_t label = in->labels[i];
    return in->shares ? (target){label, in->other_labels[i], (double)in->shares[i]}
                      : (target){label, label, 1};
}

static double weight_of_target(const at_plan *p, target t)
{
    return t.share * class_weight(p, t.label) + (1 - t.share) * class_weight(p, t.other);
}

/* `all` is the logarithm of the sum of exponentials. */
static double loss_of(const plan_op *op, const float *logits, double all, target t)
{
    const at_plan *p = op->plan;
    int64_t classes = op->out->shape.c;
    double smoothing = (double)p->options.label_smoothing, even = 0;
    for (int64_t c = 0; c < classes && smoothing > 0; c++)
        even += class_weight(p, c) * (all - (double)logits[c]);
    double own = t.share * class_weight(p, t.label) * (all - (double)logits[t.label]);
    own += (1 - t.share) * class_weight(p, t.other) * (all - (double)logits[t.other]);
    return (1 - smoothing) * own + smoothing * even / (double)classes;
}

static int add_statistics(const plan_op *op, int i, double all, at_error *err)
{
    at_plan *p = op->plan;
    const loss_state *s = op->state;
    int64_t classes = op->out->shape.c;
    const float *logits = s->logits + i * classes;
    target t = target_of(p->input, i);
    for (int k = 0; k < 2; k++) {
        int32_t label = k ? t.other : t.label;
        if (label < 0 || label >= classes)
            return at_fail(err, AT_EINPUT, "sample %d has label %d, the network has %lld classes",
                           i, label, (long long)classes);
    }
    p->stats->loss_sum += (double)weight_of(p->input, i) * loss_of(op, logits, all, t);
    p->stats->correct += largest(logits, classes) == (t.share >= 0.5 ? t.label : t.other);
    p->stats->samples++;
    return 0;
}

static int forward(plan_op *op, at_error *err)
{
    at_plan *p = op->plan;
    const loss_state *s = op->state;
    int64_t classes = op->out->shape.c;
    bool counts = is_main(op) && p->input->labels;
    copy_logits(op, s->logits);
    for (int i = 0; i < p->options.batch; i++) {
        double all = softmax(s->logits + i * classes, s->scores + i * classes, classes);
        int status = counts && weight_of(p->input, i) != 0 ? add_statistics(op, i, all, err) : 0;
        if (status)
            return status;
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

static void sample_back(const plan_op *op, int i, float scale, target t)
{
    const at_plan *p = op->plan;
    const loss_state *s = op->state;
    int64_t classes = op->out->shape.c;
    double smoothing = (double)p->options.label_smoothing, even = smoothing / (double)classes;
    double total = (1 - smoothing) * weight_of_target(p, t) + even * s->weights;
    for (int64_t c = 0; c < classes; c++) {
        double hot = (t.label == c ? t.share : 0) + (t.other == c ? 1 - t.share : 0);
        double wanted = class_weight(p, c) * ((1 - smoothing) * hot + even);
        double score = (double)s->scores[i * classes + c];
        store(op, i * classes + c, scale * (float)(score * total - wanted));
    }
}

static int backward(plan_op *op, at_error *err)
{
    (void)err;
    const at_plan *p = op->plan;
    float weight = (float)((const nn_loss_attrs *)op->row->attrs)->weight;
    for (int i = 0; i < p->options.batch; i++) {
        float sample = weight_of(p->input, i);
        if (sample != 0)
            sample_back(op, i, p->input->scale * weight * sample, target_of(p->input, i));
        for (int64_t c = 0; c < op->out->shape.c && sample == 0; c++)
            store(op, i * op->out->shape.c + c, 0);
    }
    return 0;
}

static int build(plan_op *op, at_error *err)
{
    at_plan *p = op->plan;
    loss_state *s = plan_state(op, sizeof *s, err);
    if (!s)
        return AT_ENOMEM;
    for (int64_t c = 0; c < op->out->shape.c; c++)
        s->weights += class_weight(p, c);
    op->forward = forward;
    op->backward = op->in[0]->wants_grad ? backward : NULL;
    op->out->no_value = true;
    op->out->wants_grad = false;
    s->logits = p->logits;
    s->scores = p->scores;
    if (is_main(op))
        return 0;
    size_t bytes = (size_t)(p->options.batch * op->out->shape.c) * sizeof(float);
    int status = plan_want(op, (void **)&s->logits, bytes, LIVES_FORWARD, err);
    return status ? status : plan_want(op, (void **)&s->scores, bytes, LIVES_BOTH, err);
}

static double bytes(const plan_op *op)
{
    double n = (double)(op->plan->options.batch * op->out->shape.c);
    return 2 * (double)plan_tensor_bytes(op->plan, op->in[0]) + 2 * 4 * n;
}

const at_layer at_layer_softmax_loss = {
    .name = "softmax_loss",
    .probes = {""},
    .attributes = attributes,
    .attributes_bytes = sizeof(nn_loss_attrs),
    .infer = infer,
    .build = build,
    .bytes = bytes,
};
