/* SPDX-License-Identifier: Apache-2.0
 * plan_profile: where a step's time goes, and the floor under it.
 */
#include "plan.h"

#include <omp.h>

void at_plan_profile(at_plan *p, bool on)
{
    p->profiling = on;
    if (!on)
        return;
    p->profiled_steps = 0;
    for (int i = 0; i < p->op_count; i++)
        p->ops[i].forward_seconds = p->ops[i].backward_seconds = 0;
}

static void add_item(at_node *list, const plan_op *op, const char *direction, double seconds)
{
    at_node *item = at_node_add(list, at_node_new(AT_MAP));
    at_set_string(item, "name", op->row->row.name);
    at_set_string(item, "layer", op->row->row.layer);
    at_set_string(item, "direction", direction);
    at_set_real(item, "seconds", seconds);
}

at_node *at_plan_profile_result(const at_plan *p)
{
    at_node *list = at_node_new(AT_LIST);
    double steps = p->profiled_steps ? (double)p->profiled_steps : 1;
    for (int i = 0; i < p->op_count; i++) {
        const plan_op *op = &p->ops[i];
        if (op->forward)
            add_item(list, op, "forward", op->forward_seconds / steps);
        if (op->backward && p->options.training)
            add_item(list, op, "backward", op->backward_seconds / steps);
    }
    return list;
}

int at_plan_measure_floor(at_plan *p, at_plan_floor *out, at_error *err)
{
    int before = omp_get_max_threads(), status = 0;
    omp_set_num_threads(p->options.threads);
    *out = (at_plan_floor){0};
    for (int i = 0; i < p->op_count && !status; i++) {
        plan_op *op = &p->ops[i];
        double seconds = 0;
        if (op->measure)
            status = op->measure(op, &seconds, err);
        out->conv_seconds += seconds;
        if (op->row->layer->bytes && !op->absorbed)
            out->other_bytes += op->row->layer->bytes(op);
    }
    omp_set_num_threads(before);
    return status;
}
