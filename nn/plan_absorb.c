/* SPDX-License-Identifier: Apache-2.0
 * plan_absorb: rows that another op does in passes over memory that it makes anyway: an activation
 * behind a convolution or batch normalisation, a relu behind a sum, the sum at the end of a residual
 * block, batch normalisation with fixed statistics, a relu before a maximum. What an op can take is
 * its layer's to say (at_layer.absorbs).
 */
#include "plan.h"

/* op does next's work: next's output becomes op's own. */
static void take_over(plan_op *op, plan_op *next)
{
    next->absorbed = true;
    op->out->producer = NULL;
    op->out = next->out;
    op->out->producer = op;
}

/* A relu in front of a maximum: op reads the relu's input. */
static void absorb_before(plan_op *op)
{
    plan_op *relu = op->in[0]->producer;
    op->activation = NN_RELU;
    relu->absorbed = true;
    relu->out->producer = NULL;
    relu->out->consumers = 0;
    op->in[0] = relu->in[0];
    op->in[0]->consumer = op;
}

/* The last op that reads t. */
static void find_consumer(at_plan *p, plan_tensor *t)
{
    for (int i = 0; i < p->op_count; i++)
        for (int k = 0; k < p->ops[i].input_count && !p->ops[i].absorbed; k++)
            if (p->ops[i].in[k] == t)
                t->consumer = &p->ops[i];
}

/* The tensor that the row `sum` adds to op's output, if op can do that: it is a sum of two, and the
 * other one is made before op runs. */
static plan_tensor *addend(const plan_op *op, const plan_op *sum)
{
    if (sum->input_count != 2)
        return NULL;
    plan_tensor *other = sum->in[0] == op->out ? sum->in[1] : sum->in[0];
    bool usable =
        other != op->out && other->producer && (other->wants_grad || !op->plan->options.training);
    return usable && other->producer->index < op->index ? other : NULL;
}

static bool absorb_sum(plan_op *op, plan_op *sum)
{
    plan_tensor *other = addend(op, sum);
    if (!other)
        return false;
    op->adds_input = true;
    op->in[1] = other;
    op->input_count = 2;
    take_over(op, sum);
    find_consumer(op->plan, other);
    return true;
}

/* The row behind op, if op can do it. */
static bool absorb_behind(plan_op *op)
{
    plan_op *next = op->out->consumer;
    const at_layer *layer = op->row->layer;
    if (op->out->consumers != 1 || op->activation || !layer->absorbs || !layer->absorbs(op, next))
        return false;
    if (next->row->layer == &at_layer_add)
        return absorb_sum(op, next);
    if (next->row->layer == &at_layer_bn)
        op->norm = next->row;
    op->activation = next->row->layer->activation;
    take_over(op, next);
    return true;
}

static bool is_relu_before_maximum(const plan_op *op)
{
    return op->row->layer->activation == NN_RELU && op->out->consumers == 1 &&
           plan_is_max_pool(op->out->consumer->row) && op->in[0]->consumers == 1;
}

void plan_absorb(at_plan *p)
{
    for (int i = 0; i < p->op_count; i++) {
        plan_op *op = &p->ops[i];
        if (op->absorbed)
            continue;
        while (absorb_behind(op))
            ;
        if (is_relu_before_maximum(op))
            absorb_before(op->out->consumer);
    }
}
