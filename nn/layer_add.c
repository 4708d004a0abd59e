/* SPDX-License-Identifier: Apache-2.0
 * add: the sum of two or more inputs of one shape. Its output has the first input's layout;
 * others are read in theirs. Every input's gradient is the output's.
 */
#include "plan.h"

#include <string.h>

static int infer(nn_row *row, at_error *err)
{
    nn_shape first = row->in[0];
    for (int k = 1; k < row->input_count; k++) {
        nn_shape s = row->in[k];
        if (s.c != first.c || s.h != first.h || s.w != first.w || s.vector != first.vector)
            return nn_misfit(row, err, "inputs of one shape");
    }
    return nn_same_shape(row, err);
}

/* One tensor's memory added to, or put into, another's of the same shape. */
typedef struct add_work {
    const at_plan *plan;
    nn_view from, to;
    const void *source;
    void *target;
    bool put;
} add_work;

static bool same_layout(const add_work *w)
{
    return w->from.lanes == w->to.lanes && w->from.grouped == w->to.grouped;
}

static void straight_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const add_work *w = context;
    size_t size = w->to.bf16 ? 2 : 4;
    if (w->put)
        memcpy((char *)w->target + (size_t)begin * size,
               (const char *)w->source + (size_t)begin * size, (size_t)(end - begin) * size);
    else
        w->plan->kernels->add(w->to.bf16, w->source, w->target, begin, end);
}

static void other_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const add_work *w = context;
    w->plan->kernels->convert(&w->from, w->source, &w->to, w->target, !w->put, begin, end);
}

static void add_tensor(const plan_op *op, const plan_tensor *from, const void *source,
                       const plan_tensor *to, void *target, bool put)
{
    const at_plan *p = op->plan;
    add_work w = {p, plan_view(p, from), plan_view(p, to), source, target, put};
    if (source == target)
        return;
    if (same_layout(&w))
        plan_parallel_bytes(p, plan_tensor_elements(p, to), plan_tensor_bytes(p, to), straight_part,
                            &w);
    else
        plan_parallel_bytes(p, plan_slots(&w.to), plan_tensor_bytes(p, to), other_part, &w);
}

static int forward(plan_op *op, at_error *err)
{
    (void)err;
    for (int k = 0; k < op->row->input_count; k++)
        add_tensor(op, op->in[k], op->in[k]->data, op->out, op->out->data, k == 0);
    return 0;
}

static int backward(plan_op *op, at_error *err)
{
    (void)err;
    for (int k = op->row->input_count; k-- > 0;)
        if (op->in_grad[k])
            add_tensor(op, op->out, op->out->grad, op->in[k], op->in_grad[k], true);
    return 0;
}

static int build(plan_op *op, at_error *err)
{
    (void)err;
    plan_follow(op);
    op->forward = forward;
    op->backward = op->out->wants_grad ? backward : NULL;
    op->value_in_place = op->grad_in_place = true;
    return 0;
}

static double bytes(const plan_op *op)
{
    double passes = (op->out->wants_grad ? 2 : 1) * (op->row->input_count + 1.0);
    return passes * (double)plan_tensor_bytes(op->plan, op->out);
}

const at_layer at_layer_add = {
    .name = "add",
    .probes = {""},
    .inputs_min = 2,
    .inputs_max = NN_INPUTS,
    .infer = infer,
    .build = build,
    .bytes = bytes,
};
