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

at_node *at_net_describe_memory(at_net *net, int batch, at_error *err)
{
    at_plan_options options = {.batch = batch};
    size_t weights = (net->param_count + net->state_count) * sizeof(float);
    size_t inference = at_plan_size(net, &options, err);
    options.training = true;
    size_t training = inference ? at_plan_size(net, &options, err) : 0;
    if (!training)
        return NULL;
    at_node *out = at_node_new(AT_MAP);
    at_set_int(out, "batch", batch);
    at_set_int(out, "weights_bytes", (int64_t)weights);
    at_set_int(out, "inference_bytes", (int64_t)(weights + inference));
    at_set_int(out, "training_bytes",
               (int64_t)(weights + 2 * net->param_count * sizeof(float) + training));
    return out;
}

size_t at_graph_param_count(const at_graph *g, at_error *err)
{
    at_net *net = nn_net_resolve(g, err);
    size_t count = net ? at_net_param_count(net) : 0;
    at_net_free(net);
    return count;
}

at_node *at_graph_describe(const at_graph *g, int batch, at_error *err)
{
    at_net *net = nn_net_resolve(g, err);
    at_node *memory = net ? at_net_describe_memory(net, batch, err) : NULL;
    at_node *out = memory ? at_net_describe(net) : NULL;
    if (out)
        at_node_set(out, "memory", memory);
    else
        at_node_free(memory);
    at_net_free(net);
    return out;
}
