/* SPDX-License-Identifier: Apache-2.0
 * bn_sum: the end of a residual block (He et al. 2016) in the passes of its last batch
 * normalisation: y = act(x*a + b + addend). Backward finds g = dy*act'(y) while it adds up g's sums,
 * and writes it once, where the addend's gradient belongs; its second pass reads it there. Where the
 * next block's convolution writes g and takes the sums, y's gradient and the addend's share memory.
 */
#include "bn.h"

static bool same_layout(const plan_op *op)
{
    return plan_lanes(op->in[0]) == plan_lanes(op->in[1]);
}

/* Layouts that nobody has chosen yet become equal; others that differ need memory in between. */
int bn_sum_build(plan_op *op, at_error *err)
{
    bn_state *s = op->state;
    plan_tensor *x = op->in[0], *addend = op->in[1];
    if (!plan_lanes(x))
        plan_set_lanes(x, plan_lanes(addend) ? plan_lanes(addend) : x->shape.c);
    if (!plan_lanes(addend))
        plan_set_lanes(addend, plan_lanes(x));
    op->keeps_output = op->activation != NN_IDENTITY;
    if (same_layout(op))
        return 0;
    size_t bytes = plan_tensor_bytes(op->plan, x);
    int status = plan_want(op, &s->addend, bytes, LIVES_FORWARD, err);
    return status ? status : plan_want(op, &s->gradient, bytes, LIVES_BACKWARD, err);
}

bool bn_sum_passes_on(const plan_op *op)
{
    return same_layout(op) && op->in[0] != op->in[1] && op->in[1]->wants_grad &&
           !plan_grad_is_there(op, 1);
}

static void forward_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const plan_op *op = context;
    const bn_state *s = op->state;
    const void *addend = s->addend ? s->addend : op->in[1]->data;
    op->plan->kernels->affine_sum(&s->view, op->in[0]->data, addend, op->out->data, s->a, s->b,
                                  op->activation, begin, end);
}

void bn_sum_forward(plan_op *op)
{
    const bn_state *s = op->state;
    if (s->addend)
        plan_convert(op->plan, op->in[1], op->in[1]->data, op->in[0], s->addend, false);
    bn_for_planes(op, forward_part);
}

const void *bn_gradient(const plan_op *op)
{
    const bn_state *s = op->state;
    if (!op->adds_input)
        return op->out->grad;
    return s->gradient ? s->gradient : op->in_grad[1];
}

static void backward_part(void *context, int64_t begin, int64_t end, int thread)
{
    const plan_op *op = context;
    const bn_state *s = op->state;
    double *sums = bn_sums_of(s, thread);
    op->plan->kernels->affine_sum_back(&s->view, op->in[0]->data, op->out->data, op->out->grad,
                                       (void *)(uintptr_t)bn_gradient(op), s->mean, op->activation,
                                       sums, sums + s->padded, begin, end);
}

void bn_sum_backward(plan_op *op)
{
    const bn_state *s = op->state;
    bn_for_planes(op, backward_part);
    if (s->gradient)
        plan_convert(op->plan, op->in[0], s->gradient, op->in[1], op->in_grad[1], false);
}
