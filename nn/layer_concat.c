/* SPDX-License-Identifier: Apache-2.0
 * concat: inputs of one height and width behind each other, by channels; vectors too. Each value
 * moves once: the output has its first input's kind of layout (blocks of channels, NHWC, NCHW or
 * grouped), where an input that does not end at a block's border is copied in shorter runs.
 */
#include "plan.h"

static int infer(nn_row *row, at_error *err)
{
    nn_shape first = row->in[0];
    row->out = first;
    for (int k = 1; k < row->input_count; k++) {
        nn_shape s = row->in[k];
        if (s.h != first.h || s.w != first.w || s.vector != first.vector)
            return nn_misfit(row, err, "inputs of one height and width");
        row->out.c += s.c;
    }
    return 0;
}

typedef struct concat_work {
    const plan_op *op;
    nn_channels from, to;
    const void *source;
    void *target;
} concat_work;

static void copy_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const concat_work *w = context;
    w->op->plan->kernels->copy_channels(&w->from, w->source, &w->to, w->target, begin, end);
}

static void copy(const concat_work *w, size_t bytes)
{
    plan_parallel_bytes(w->op->plan, plan_slots(&w->to.view), bytes, copy_part,
                        (void *)(uintptr_t)w);
}

/* The k-th input beside its place in the output, the first of whose channels is `first`. */
static concat_work work_of(const plan_op *op, int k, int64_t first, bool back)
{
    const at_plan *p = op->plan;
    nn_channels input = {plan_view(p, op->in[k]), 0, op->in[k]->shape.c};
    nn_channels place = {plan_view(p, op->out), first, op->in[k]->shape.c};
    if (back)
        return (concat_work){op, place, input, op->out->grad, op->in_grad[k]};
    return (concat_work){op, input, place, op->in[k]->data, op->out->data};
}

static void copy_all(const plan_op *op, bool back)
{
    int64_t first = 0;
    for (int k = 0; k < op->row->input_count; first += op->in[k++]->shape.c) {
        concat_work w = work_of(op, k, first, back);
        if (w.target)
            copy(&w, plan_tensor_bytes(op->plan, op->in[k]));
    }
}

static int forward(plan_op *op, at_error *err)
{
    (void)err;
    copy_all(op, false);
    return 0;
}

static int backward(plan_op *op, at_error *err)
{
    (void)err;
    copy_all(op, true);
    return 0;
}

static int build(plan_op *op, at_error *err)
{
    (void)err;
    for (int k = 0; k < op->row->input_count; k++)
        plan_decide_lanes(op->in[k], op->in[k]->shape.c);
    int64_t lanes = plan_lanes(op->in[0]);
    op->out->lanes = lanes == op->in[0]->shape.c && lanes != 1 ? op->out->shape.c : lanes;
    op->forward = forward;
    op->backward = op->out->wants_grad ? backward : NULL;
    return 0;
}

static double bytes(const plan_op *op)
{
    return (op->out->wants_grad ? 4 : 2) * (double)plan_tensor_bytes(op->plan, op->out);
}

const at_layer at_layer_concat = {
    .name = "concat",
    .probes = {""},
    .inputs_min = 2,
    .inputs_max = NN_INPUTS,
    .infer = infer,
    .build = build,
    .bytes = bytes,
};
