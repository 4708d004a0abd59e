/* SPDX-License-Identifier: Apache-2.0
 * A network for people and scripts: its rows with shapes, and how much they hold and compute.
 */
#include "internal.h"

static at_node *describe_row(const nn_row *row)
{
    at_node *item = at_node_new(AT_MAP), *shape = at_node_new(AT_LIST);
    int64_t params = 0;
    for (int k = 0; k < row->param_count; k++)
        params += (int64_t)row->params[k].info.count;
    at_node_add(shape, at_node_new_int(row->out.c));
    at_node_add(shape, at_node_new_int(row->out.h));
    at_node_add(shape, at_node_new_int(row->out.w));
    at_set_string(item, "name", row->row.name);
    at_set_string(item, "layer", row->row.layer);
    at_set_string(item, "inputs", row->row.inputs);
    at_set_string(item, "attrs", row->row.attrs);
    at_node_set(item, "shape", shape);
    at_set_int(item, "parameters", params);
    at_set_int(item, "flops", (int64_t)(row->layer->flops ? row->layer->flops(row) : 0));
    return item;
}

at_node *at_net_describe(const at_net *net)
{
    at_node *out = at_node_new(AT_MAP), *layers = at_node_new(AT_LIST);
    double flops = 0;
    for (size_t i = 0; i < net->row_count; i++) {
        const nn_row *row = &net->rows[i];
        at_node_add(layers, describe_row(row));
        flops += row->layer->flops ? row->layer->flops(row) : 0;
    }
    at_node_set(out, "layers", layers);
    at_set_int(out, "parameters", (int64_t)net->param_count);
    at_set_int(out, "state", (int64_t)net->state_count);
    at_set_int(out, "flops", (int64_t)flops);
    return out;
}

at_node *at_graph_describe(const at_graph *g, at_error *err)
{
    at_net *net = nn_net_resolve(g, err);
    at_node *out = net ? at_net_describe(net) : NULL;
    at_net_free(net);
    return out;
}
