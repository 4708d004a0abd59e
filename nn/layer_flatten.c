/* SPDX-License-Identifier: Apache-2.0
 * flatten: an image to a vector in NCHW order, as PyTorch's; where the memory is in that order
 * already the two share it.
 */
#include "plan.h"

static int infer(nn_row *row, at_error *err)
{
    (void)err;
    row->out = (nn_shape){.c = nn_elements(row->in[0]), .h = 1, .w = 1, .vector = true};
    return 0;
}

typedef struct flatten_work {
    const plan_op *op;
    nn_view view; /* of the input */
} flatten_work;

static void forward_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const flatten_work *w = context;
    w->op->plan->kernels->flatten(&w->view, w->op->in[0]->data, w->op->out->data, begin, end);
}

static void backward_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const flatten_work *w = context;
    w->op->plan->kernels->unflatten(&w->view, w->op->out->grad, w->op->in_grad[0], begin, end);
}

static int forward(plan_op *op, at_error *err)
{
    (void)err;
    flatten_work w = {op, plan_view(op->plan, op->in[0])};
    if (op->in[0]->data != op->out->data)
        plan_parallel_bytes(op->plan, w.view.samples, plan_tensor_bytes(op->plan, op->out),
                            forward_part, &w);
    return 0;
}

static int backward(plan_op *op, at_error *err)
{
    (void)err;
    flatten_work w = {op, plan_view(op->plan, op->in[0])};
    if (op->in_grad[0] != op->out->grad)
        plan_parallel_bytes(op->plan, plan_slots(&w.view), plan_tensor_bytes(op->plan, op->out),
                            backward_part, &w);
    return 0;
}

static bool in_order(const plan_op *op)
{
    nn_view v = plan_view(op->plan, op->in[0]);
    return !v.grouped && (v.lanes == 1 || (v.pixels == 1 && v.channels % v.lanes == 0));
}

static int build(plan_op *op, at_error *err)
{
    (void)err;
    plan_decide_lanes(op->in[0], 1);
    op->value_in_place = op->grad_in_place = in_order(op);
    op->forward = forward;
    op->backward = op->in[0]->wants_grad ? backward : NULL;
    return 0;
}

static double bytes(const plan_op *op)
{
    double passes = op->in[0]->wants_grad ? 4 : 2;
    return in_order(op) ? 0 : passes * (double)plan_tensor_bytes(op->plan, op->out);
}

const at_layer at_layer_flatten = {
    .name = "flatten",
    .probes = {""},
    .infer = infer,
    .build = build,
    .bytes = bytes,
};
