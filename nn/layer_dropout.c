/* SPDX-License-Identifier: Apache-2.0
 * dropout: in training an element is kept with probability 1-p and divided by that. The mask is a
 * hash of seed, row, epoch, sample and element, computed again in backward: it takes no memory, and
 * does not change when a batch is split over ranks.
 */
#include "plan.h"

#include <string.h>

static const at_option attributes[] = {
    {"p", AT_OPT_REAL, offsetof(nn_dropout_attrs, p), "0.5", "share of elements that are dropped",
     "X", .min = 0, .max = 0.999},
    {0},
};

typedef struct dropout_state {
    nn_dropout_keys keys;
    uint64_t *storage; /* [batch] */
    nn_view view;
    const void *from;
    void *to;
} dropout_state;

static void apply_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const plan_op *op = context;
    const dropout_state *s = op->state;
    op->plan->kernels->dropout(&s->view, &s->keys, s->from, s->to, begin, end);
}

static void apply(const plan_op *op, const void *from, void *to)
{
    dropout_state *s = op->state;
    s->view = plan_view(op->plan, op->out);
    s->from = from;
    s->to = to;
    plan_parallel_bytes(op->plan, s->view.n * s->view.blocks, plan_tensor_bytes(op->plan, op->out),
                        apply_part, (void *)(uintptr_t)op);
}

static int forward(plan_op *op, at_error *err)
{
    (void)err;
    dropout_state *s = op->state;
    const at_plan_input *in = op->plan->input;
    at_rng epoch = at_rng_stream(op->plan->options.seed, op->row->row.name, in->epoch);
    uint64_t seed = at_rng_next(&epoch);
    for (int i = 0; i < op->plan->options.batch; i++) {
        at_rng sample = at_rng_stream(seed, "dropout", in->ids ? in->ids[i] : (uint64_t)i);
        s->storage[i] = at_rng_next(&sample);
    }
    apply(op, op->in[0]->data, op->out->data);
    return 0;
}

static int backward(plan_op *op, at_error *err)
{
    (void)err;
    apply(op, op->out->grad, op->in_grad[0]);
    return 0;
}

/* Inference: the same values, moved only where the memory could not be shared. */
static int pass_on(plan_op *op, at_error *err)
{
    (void)err;
    if (op->in[0]->data != op->out->data)
        memcpy(op->out->data, op->in[0]->data, plan_tensor_bytes(op->plan, op->out));
    return 0;
}

static int build(plan_op *op, at_error *err)
{
    const nn_dropout_attrs *a = op->row->attrs;
    plan_follow(op);
    op->value_in_place = op->grad_in_place = true;
    op->forward = pass_on;
    if (!op->plan->options.training)
        return 0;
    size_t keys = (size_t)op->plan->options.batch * sizeof(uint64_t);
    dropout_state *s = plan_state(op, sizeof *s + keys, err);
    if (!s)
        return AT_ENOMEM;
    s->storage = (uint64_t *)(s + 1);
    s->keys =
        (nn_dropout_keys){s->storage, (uint32_t)(a->p * 4294967296.0), (float)(1 / (1 - a->p))};
    op->forward = forward;
    op->backward = op->in[0]->wants_grad ? backward : NULL;
    return 0;
}

static double bytes(const plan_op *op)
{
    return (op->in[0]->wants_grad ? 4 : 2) * (double)plan_tensor_bytes(op->plan, op->out);
}

const at_layer at_layer_dropout = {
    .name = "dropout",
    .probes = {"p=0.3"},
    .attributes = attributes,
    .attributes_bytes = sizeof(nn_dropout_attrs),
    .infer = nn_same_shape,
    .build = build,
    .bytes = bytes,
};
