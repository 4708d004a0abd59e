/* SPDX-License-Identifier: Apache-2.0
 * lrn: local response normalisation over neighbouring channels (Krizhevsky et al. 2012) with the
 * semantics of PyTorch's LocalResponseNorm: alpha is divided by the size, and of an even size one
 * channel more lies before than behind. Backward computes the sums again from x.
 */
#include "plan.h"

static const at_option attributes[] = {
    {"size", AT_OPT_INT, offsetof(nn_lrn_attrs, size), "5", "channels that are summed up", "N",
     .min = 1, .max = 65535},
    {"alpha", AT_OPT_REAL, offsetof(nn_lrn_attrs, alpha), "1e-4", "weight of the mean square", "X",
     .min = 0, .max = 1e6},
    {"beta", AT_OPT_REAL, offsetof(nn_lrn_attrs, beta), "0.75", "exponent", "X", .min = 0,
     .max = 100},
    {"k", AT_OPT_REAL, offsetof(nn_lrn_attrs, k), "1", "added to the weighted mean square", "X",
     .min = 1e-6, .max = 1e6},
    {0},
};

typedef struct lrn_state {
    nn_lrn_shape shape;
    int64_t floats; /* of a thread's memory */
    float *lines;   /* [threads][floats] */
    nn_view view;
} lrn_state;

static void forward_part(void *context, int64_t begin, int64_t end, int thread)
{
    const plan_op *op = context;
    const lrn_state *s = op->state;
    op->plan->kernels->lrn(&s->view, &s->shape, op->in[0]->data, op->out->data,
                           s->lines + thread * s->floats, begin, end);
}

static void backward_part(void *context, int64_t begin, int64_t end, int thread)
{
    const plan_op *op = context;
    const lrn_state *s = op->state;
    op->plan->kernels->lrn_back(&s->view, &s->shape, op->in[0]->data, op->out->grad, op->in_grad[0],
                                s->lines + thread * s->floats, begin, end);
}

static void run(plan_op *op, plan_part part)
{
    lrn_state *s = op->state;
    s->view = plan_view(op->plan, op->in[0]);
    plan_parallel_bytes(op->plan, s->view.n * s->view.pixels,
                        plan_tensor_bytes(op->plan, op->in[0]), part, op);
}

static int forward(plan_op *op, at_error *err)
{
    (void)err;
    run(op, forward_part);
    return 0;
}

static int backward(plan_op *op, at_error *err)
{
    (void)err;
    run(op, backward_part);
    return 0;
}

static int build(plan_op *op, at_error *err)
{
    const nn_lrn_attrs *a = op->row->attrs;
    lrn_state *s = plan_state(op, sizeof *s, err);
    if (!s)
        return AT_ENOMEM;
    /* More neighbours than channels change nothing but the divisor. */
    int64_t c = op->out->shape.c, before = a->size / 2, behind = (a->size - 1) / 2;
    s->shape = (nn_lrn_shape){.before = before < c ? before : c,
                              .behind = behind < c ? behind : c,
                              .share = (float)(a->alpha / (double)a->size),
                              .beta = (float)a->beta,
                              .k = (float)a->k};
    s->floats = NN_LRN_LINES * (5 * c + 8) * op->plan->kernels->lanes;
    plan_follow(op);
    op->forward = forward;
    op->value_in_place = !op->plan->options.training;
    op->backward = op->in[0]->wants_grad ? backward : NULL;
    op->keeps_input = op->grad_in_place = true;
    return plan_want(op, (void **)&s->lines,
                     (size_t)(s->floats * op->plan->options.threads) * sizeof(float), LIVES_BOTH,
                     err);
}

const at_layer at_layer_lrn = {
    .name = "lrn",
    .probes = {"size=3 alpha=2 beta=0.75 k=2", "size=4 alpha=0.5 beta=1.5 k=0.5",
               "size=99 alpha=3 beta=0.5 k=1"},
    .attributes = attributes,
    .attributes_bytes = sizeof(nn_lrn_attrs),
    .infer = nn_same_shape,
    .build = build,
    .bytes = plan_activation_bytes,
};
