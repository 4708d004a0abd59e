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
    for (int i = 0; i < p->op_count; i++)
        p->ops[i].forward_seconds = p->ops[i].backward_seconds = 0;
}

static at_node *add_item(at_node *list, const plan_op *op, const char *direction, double seconds)
{
    at_node *item = at_node_add(list, at_node_new(AT_MAP));
    at_set_string(item, "name", op->row->row.name);
    at_set_string(item, "layer", op->row->row.layer);
    at_set_string(item, "direction", direction);
    at_set_real(item, "seconds", seconds);
    return item;
}

void plan_note_time(double *least, double start)
{
    double seconds = at_now() - start;
    if (*least == 0 || seconds < *least)
        *least = seconds;
}

/* The floor of a layer covers both directions; it stands beside its forward. */
static void add_floor(at_node *item, const plan_op *op)
{
    if (op->floor_seconds > 0)
        at_set_real(item, "floor_seconds", op->floor_seconds);
    if (op->floor_bytes > 0)
        at_set_real(item, "floor_bytes", op->floor_bytes);
}

at_node *at_plan_profile_result(const at_plan *p)
{
    at_node *list = at_node_new(AT_LIST);
    for (int i = 0; i < p->op_count; i++) {
        const plan_op *op = &p->ops[i];
        if (op->forward)
            add_floor(add_item(list, op, "forward", op->forward_seconds), op);
        if (op->backward && p->options.training)
            add_item(list, op, "backward", op->backward_seconds);
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
        op->floor_seconds = op->floor_bytes = 0;
        if (op->measure)
            status = op->measure(op, &op->floor_seconds, err);
        if (op->row->layer->bytes && !op->absorbed)
            op->floor_bytes = op->row->layer->bytes(op);
        out->conv_seconds += op->floor_seconds;
        out->other_bytes += op->floor_bytes;
    }
    omp_set_num_threads(before);
    return status;
}
