/* SPDX-License-Identifier: Apache-2.0
 * plan_absorb: rows that another op does in passes over memory that it makes anyway: an activation
 * behind batch normalisation, a relu behind a sum, the sum at the end of a residual block, a relu
 * before a maximum.
 */
#include "plan.h"

/* The activation behind op: its output becomes op's own. */
static void absorb_behind(plan_op *op)
{
    plan_op *next = op->out->consumer;
    op->activation = next->row->layer->activation;
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

/* The tensor that the row behind op adds to op's output, if op can do that: the row is a sum of two,
 * and the other one is made before op runs. */
static plan_tensor *addend(const plan_op *op)
{
    const plan_op *sum = op->out->consumer;
    if (!op->row->layer->absorbs_sum || !op->trains || sum->row->layer != &at_layer_add ||
        sum->input_count != 2)
        return NULL;
    plan_tensor *other = sum->in[0] == op->out ? sum->in[1] : sum->in[0];
    bool usable = other != op->out && other->producer && other->wants_grad;
    return usable && other->producer->index < op->index ? other : NULL;
}

static void absorb_sum(at_plan *p, plan_op *op, plan_tensor *other)
{
    plan_op *sum = op->out->consumer;
    sum->absorbed = op->adds_input = true;
    op->in[1] = other;
    op->input_count = 2;
    op->out->producer = NULL;
    op->out = sum->out;
    op->out->producer = op;
    find_consumer(p, other);
    bool relu = op->out->consumers == 1 && op->out->consumer->row->layer->activation == NN_RELU;
    if (relu)
        absorb_behind(op);
}

static bool can_do(const at_layer *layer, nn_activation behind)
{
    return (layer->absorbs && behind) || (layer->absorbs_relu && behind == NN_RELU);
}

void plan_absorb(at_plan *p)
{
    for (int i = 0; i < p->op_count; i++) {
        plan_op *op = &p->ops[i], *next = op->out->consumer;
        if (op->absorbed || op->out->consumers != 1)
            continue;
        plan_tensor *other = addend(op);
        if (other)
            absorb_sum(p, op, other);
        else if (can_do(op->row->layer, next->row->layer->activation))
            absorb_behind(op);
        else if (op->row->layer->activation == NN_RELU && plan_is_max_pool(next->row) &&
                 op->in[0]->consumers == 1)
            absorb_before(next);
    }
}
