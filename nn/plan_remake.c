/* SPDX-License-Identifier: Apache-2.0
 * plan_remake: values that backward makes again instead of finding them kept through the whole step
 * (Chen et al. 2016, "Training deep nets with sublinear memory cost").
 *
 * Only where it costs next to nothing: the output of batch normalisation, whose input is kept in any
 * case, in front of a convolution that computes long for each byte of it. Such a value takes memory
 * of its own only while it passes from one op to the next, and while that op's parameters get their
 * gradients. The bits are the same.
 */
#include "plan.h"

/* Making a value again moves two bytes for each of its own, which takes a machine as long as some 20
 * to 50 operations: at most a twentieth of the three passes of such a convolution. */
enum { OPERATIONS_A_BYTE = 256 };

static bool is_worth_it(const at_plan *p, const plan_tensor *t)
{
    const nn_row *reader = t->consumer->row;
    double operations = reader->layer->flops(reader) * p->options.batch;
    return operations >= OPERATIONS_A_BYTE * (double)plan_tensor_bytes(p, t);
}

static bool can_be_remade(const plan_tensor *t)
{
    const plan_op *maker = t->producer, *reader = t->consumer;
    return maker && maker->remake && maker->keeps_input && t->consumers == 1 && !t->read_through &&
           reader->reads_again && reader->keeps_input;
}

void plan_remake(at_plan *p)
{
    for (int i = 0; i < p->op_count; i++) {
        plan_tensor *t = &p->tensors[i];
        t->remade = can_be_remade(t) && is_worth_it(p, t);
    }
}

const void *plan_kept(const plan_op *op)
{
    return op->in[0]->remade ? op->in[0]->again : op->in[0]->data;
}
