/* SPDX-License-Identifier: Apache-2.0
 * add: the sum of two or more inputs of one shape. Its output has the first input's layout; others
 * are read in theirs. Every input's gradient is the output's. A relu behind it is done in the same
 * passes; its derivative is found from the output.
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

/* Inputs in the output's layout go through the first-level cache piece by piece, so that every
 * tensor is moved once however many there are; inputs in other layouts are converted one by one. */
enum { PIECE = 4096 }; /* elements */

static bool same_layout(const plan_op *op, int k)
{
    nn_view from = plan_view(op->plan, op->in[k]), to = plan_view(op->plan, op->out);
    return from.lanes == to.lanes && from.grouped == to.grouped;
}

static void for_elements(plan_op *op, plan_part part)
{
    plan_parallel_bytes(op->plan, plan_tensor_elements(op->plan, op->out),
                        plan_tensor_bytes(op->plan, op->out), part, op);
}

/* ---- pieces ---- */

static void *element(const plan_op *op, void *data, int64_t at)
{
    return (char *)data + (size_t)at * (op->out->precision == AT_BF16 ? 2 : 4);
}

static void move(const plan_op *op, void *from, void *to, int64_t begin, int64_t end)
{
    size_t bytes = (size_t)(end - begin) * (op->out->precision == AT_BF16 ? 2 : 4);
    if (from != to)
        memcpy(element(op, to, begin), element(op, from, begin), bytes);
}

static void sum_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const plan_op *op = context;
    const nn_kernels *k = op->plan->kernels;
    bool bf16 = op->out->precision == AT_BF16, whole = true;
    for (int i = 0; i < op->input_count; i++)
        whole &= same_layout(op, i);
    for (int64_t at = begin; at < end; at += PIECE) {
        int64_t until = at + PIECE < end ? at + PIECE : end;
        move(op, op->in[0]->data, op->out->data, at, until);
        for (int i = 1; i < op->input_count; i++)
            if (same_layout(op, i))
                k->add(bf16, op->in[i]->data, op->out->data, at, until);
        if (whole && op->activation)
            k->activate(op->activation, bf16, op->out->data, op->out->data, at, until);
    }
}

static void activate_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const plan_op *op = context;
    op->plan->kernels->activate(op->activation, op->out->precision == AT_BF16, op->out->data,
                                op->out->data, begin, end);
}

static int forward(plan_op *op, at_error *err)
{
    (void)err;
    bool whole = true;
    for_elements(op, sum_part);
    for (int k = 1; k < op->input_count; k++) {
        if (same_layout(op, k))
            continue;
        plan_convert(op->plan, op->in[k], op->in[k]->data, op->out, op->out->data, true);
        whole = false;
    }
    if (!whole && op->activation)
        for_elements(op, activate_part);
    return 0;
}

/* The gradient before the relu is put where the first input wants it, or over the output's. */
static void *gradient_place(const plan_op *op)
{
    for (int k = 0; k < op->input_count; k++)
        if (op->in_grad[k] && same_layout(op, k))
            return op->in_grad[k];
    return op->out->grad;
}

static void back_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const plan_op *op = context;
    void *place = gradient_place(op);
    for (int64_t at = begin; at < end; at += PIECE) {
        int64_t until = at + PIECE < end ? at + PIECE : end;
        if (op->activation)
            op->plan->kernels->activate_back(op->activation, op->out->precision == AT_BF16,
                                             op->out->data, op->out->grad, place, at, until);
        else
            move(op, op->out->grad, place, at, until);
        for (int k = 0; k < op->input_count; k++)
            if (op->in_grad[k] && same_layout(op, k))
                move(op, place, op->in_grad[k], at, until);
    }
}

static int backward(plan_op *op, at_error *err)
{
    (void)err;
    for_elements(op, back_part);
    for (int k = 0; k < op->input_count; k++)
        if (op->in_grad[k] && !same_layout(op, k))
            plan_convert(op->plan, op->out, gradient_place(op), op->in[k], op->in_grad[k], false);
    return 0;
}

static bool absorbs(const plan_op *op, const plan_op *next)
{
    (void)op;
    return next->row->layer->activation == NN_RELU;
}

static int build(plan_op *op, at_error *err)
{
    (void)err;
    plan_follow(op);
    op->forward = forward;
    op->backward = op->out->wants_grad ? backward : NULL;
    op->value_in_place = op->grad_in_place = true;
    op->keeps_output = op->activation != NN_IDENTITY;
    return 0;
}

static double bytes(const plan_op *op)
{
    double passes = (op->out->wants_grad ? 2 : 1) * (op->input_count + 1.0);
    return passes * (double)plan_tensor_bytes(op->plan, op->out);
}

const at_layer at_layer_add = {
    .name = "add",
    .probes = {""},
    .inputs_min = 2,
    .inputs_max = NN_INPUTS,
    .infer = infer,
    .absorbs = absorbs,
    .build = build,
    .bytes = bytes,
};
