/* SPDX-License-Identifier: Apache-2.0
 * net: a graph's rows resolved: layers, attributes, shapes; and the flat buffers.
 *
 * Weights and gradients lie in the order in which backward finishes them: the last row's parameters
 * first. So gradients become final from offset 0 upward, and a bucket of them can leave while
 * backward still runs. A parameter's first values depend on the seed and its row's name alone.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

const nn_row *nn_net_row(const at_net *net, const char *name)
{
    for (size_t i = 0; i < net->row_count; i++)
        if (!strcmp(net->rows[i].row.name, name))
            return &net->rows[i];
    return NULL;
}

static int find_inputs(at_net *net, nn_row *row, at_error *err)
{
    for (const char *s = row->row.inputs; *(s += strspn(s, " "));) {
        size_t length = strcspn(s, " ");
        if (row->input_count == NN_INPUTS)
            return at_fail(err, AT_EINPUT, "row \"%s\" (%s): more than %d inputs", row->row.name,
                           row->row.layer, NN_INPUTS);
        const nn_row *from = net->rows;
        while (strncmp(from->row.name, s, length) || from->row.name[length])
            from++; /* nn_graph_check has seen that it is there */
        if (from->layer == &at_layer_softmax_loss)
            return at_fail(err, AT_EINPUT,
                           "row \"%s\" (%s): its input \"%s\" is a loss, which no row can read",
                           row->row.name, row->row.layer, from->row.name);
        row->of_pixels |= row->input_count == 0 && from->layer->pixels;
        row->inputs[row->input_count] = (int)(from - net->rows);
        row->in[row->input_count++] = from->out;
        s += length;
    }
    int least = row->layer->inputs_max ? row->layer->inputs_min : 1;
    int most = row->layer->inputs_max ? row->layer->inputs_max : 1;
    if (row->layer == &at_layer_input)
        least = most = 0;
    if (row->input_count >= least && row->input_count <= most)
        return 0;
    return at_fail(err, AT_EINPUT, "row \"%s\" (%s) has %d inputs, it takes %d%s", row->row.name,
                   row->row.layer, row->input_count, least, most > least ? " or more" : "");
}

static int parse_attributes(nn_row *row, at_error *err)
{
    static const at_option none[] = {{0}};
    const at_option *table = row->layer->attributes ? row->layer->attributes : none;
    char where[200], *copy = strdup(row->row.attrs);
    snprintf(where, sizeof where, "row \"%s\" (%s)", row->row.name, row->row.layer);
    row->attrs = calloc(1, row->layer->attributes_bytes + 1);
    int status = copy && row->attrs ? at_options_init(table, row->attrs, err) : at_nomem(err);
    for (char *rest = copy, *word; !status && (word = strsep(&rest, " \t"));) {
        char *value = strchr(word, '=');
        if (!*word)
            continue;
        if (!value) {
            status = at_fail(err, AT_EINPUT, "%s: \"%s\" is not key=value", where, word);
            break;
        }
        *value++ = '\0';
        status = at_options_set(table, row->attrs, word, value, where, err);
    }
    free(copy);
    return status;
}

static int resolve_row(at_net *net, size_t i, at_error *err)
{
    nn_row *row = &net->rows[i];
    row->row = at_graph_row(net->graph, i);
    row->layer = nn_layer_find(row->row.layer, err);
    if (!row->layer)
        return at_fail_in(err, "row \"%s\"", row->row.name);
    net->row_count = i + 1;
    int status = parse_attributes(row, err);
    if (!status)
        status = find_inputs(net, row, err);
    if (!status && (i == 0) != (row->layer == &at_layer_input))
        status = at_fail(err, AT_EINPUT,
                         "row \"%s\" (%s): the first row, and no other, is of the layer \"input\"",
                         row->row.name, row->row.layer);
    bool last = i + 1 == at_graph_rows(net->graph);
    if (!status && last && row->layer != &at_layer_softmax_loss)
        status = at_fail(err, AT_EINPUT,
                         "row \"%s\" (%s): the last row must be of the layer \"softmax_loss\"",
                         row->row.name, row->row.layer);
    for (int k = 0; !status && row->layer->pixels && k < row->input_count; k++)
        if (!net->rows[row->inputs[k]].layer->pixels)
            status = nn_misfit(row, err, "pixels: a row of its kind or \"input\" before it");
    if (!status)
        status = row->layer->infer(row, err);
    size_t elements = 0;
    if (!status && (!at_mul((size_t)row->out.c, (size_t)row->out.h, NN_LIMIT, &elements) ||
                    !at_mul(elements, (size_t)row->out.w, NN_LIMIT, &elements)))
        status = nn_misfit(row, err, "a smaller output");
    return status;
}

/* The last row is the main loss; losses before it are auxiliary: they share its labels. */
static int check_losses(const at_net *net, at_error *err)
{
    const nn_row *last = &net->rows[net->row_count - 1];
    for (const nn_row *row = net->rows; row < last; row++)
        if (row->layer == &at_layer_softmax_loss && row->out.c != last->out.c)
            return nn_misfit(row, err, "as many classes as the last row \"%s\" has: %lld",
                             last->row.name, (long long)last->out.c);
    if (((const nn_loss_attrs *)last->attrs)->weight != 1)
        return nn_misfit(last, err, "weight=1 as the last row: others are weighed against it");
    return 0;
}

/* Every row but losses feeds another one. */
static int check_consumers(const at_net *net, at_error *err)
{
    for (size_t i = 0; i + 1 < net->row_count; i++) {
        bool used = net->rows[i].layer == &at_layer_softmax_loss;
        for (size_t j = i + 1; j < net->row_count && !used; j++)
            for (int k = 0; k < net->rows[j].input_count; k++)
                used |= net->rows[j].inputs[k] == (int)i;
        if (used)
            continue;
        at_fail(err, AT_EINPUT, "row \"%s\" (%s): no row uses its output", net->rows[i].row.name,
                net->rows[i].row.layer);
        return nn_graph_blame(net->graph, i, err);
    }
    return 0;
}

/* Offsets, from the last row's parameters up; states from the first row's. */
static int place(at_net *net, at_error *err)
{
    for (size_t i = 0; i < net->row_count; i++) {
        net->params_listed += (size_t)net->rows[i].param_count;
        for (int k = 0; k < net->rows[i].state_count; k++) {
            net->rows[i].states[k].offset = net->state_count;
            net->state_count += net->rows[i].states[k].count;
        }
    }
    net->listed = calloc(net->params_listed + 1, sizeof *net->listed);
    if (!net->listed)
        return at_nomem(err);
    const at_param **next = net->listed;
    for (size_t i = net->row_count; i-- > 0;) {
        for (int k = 0; k < net->rows[i].param_count; k++) {
            at_param *p = &net->rows[i].params[k].info;
            p->offset = net->param_count;
            net->param_count += p->count;
            *next++ = p;
            if (net->param_count > NN_LIMIT / sizeof(float))
                return at_fail(err, AT_EINPUT, "row \"%s\": the network is too large", p->layer);
        }
    }
    return 0;
}

int nn_net_allocate(at_net *net, at_error *err)
{
    net->params = at_alloc_aligned((net->param_count + 1) * sizeof(float));
    net->own_grads = at_alloc_aligned((net->param_count + 1) * sizeof(float));
    net->state = at_alloc_aligned((net->state_count + 1) * sizeof(float));
    net->grads = net->own_grads;
    return net->params && net->grads && net->state ? 0 : at_nomem(err);
}

at_net *nn_net_resolve(const at_graph *g, at_error *err)
{
    at_net *net = NULL;
    if (nn_graph_check(g, err))
        return NULL;
    size_t n = at_graph_rows(g);
    net = calloc(1, sizeof *net);
    if (!net || !(net->graph = nn_graph_copy(g)) || !(net->rows = calloc(n, sizeof *net->rows))) {
        at_nomem(err);
        goto fail_net;
    }
    for (size_t i = 0; i < n; i++)
        if (resolve_row(net, i, err)) {
            nn_graph_blame(net->graph, i, err);
            goto fail_net;
        }
    if (check_losses(net, err) || check_consumers(net, err) || place(net, err))
        goto fail_net;
    return net;

fail_net:
    at_net_free(net);
    return NULL;
}

at_net *at_net_new(const at_graph *g, uint64_t seed, at_error *err)
{
    at_net *net = nn_net_resolve(g, err);
    if (!net)
        return NULL;
    if (nn_net_allocate(net, err)) {
        at_net_free(net);
        return NULL;
    }
    for (size_t i = 0; i < net->row_count; i++)
        nn_initialise(&net->rows[i], seed, net->params, net->state);
    return net;
}

void at_net_free(at_net *net)
{
    if (!net)
        return;
    for (size_t i = 0; i < net->row_count; i++) {
        nn_row *row = &net->rows[i];
        if (row->attrs && row->layer->attributes)
            at_options_fini(row->layer->attributes, row->attrs);
        free(row->attrs);
    }
    free(net->rows);
    free(net->listed);
    at_free_aligned(net->params);
    at_free_aligned(net->own_grads);
    at_free_aligned(net->state);
    at_graph_free(net->graph);
    free(net);
}

const at_graph *at_net_graph(const at_net *net)
{
    return net->graph;
}

void at_net_input_shape(const at_net *net, int *channels, int *height, int *width)
{
    *channels = (int)net->rows[0].out.c;
    *height = (int)net->rows[0].out.h;
    *width = (int)net->rows[0].out.w;
}

int at_net_classes(const at_net *net)
{
    return (int)net->rows[net->row_count - 1].out.c;
}

size_t at_net_param_count(const at_net *net)
{
    return net->param_count;
}

float *at_net_params(at_net *net)
{
    return net->params;
}

float *at_net_grads(at_net *net)
{
    return net->grads;
}

void at_net_use_grads(at_net *net, float *grads)
{
    net->grads = grads ? grads : net->own_grads;
}

size_t at_net_params_listed(const at_net *net)
{
    return net->params_listed;
}

const at_param *at_net_param(const at_net *net, size_t i)
{
    return net->listed[i];
}

const at_param *at_net_find_param(const at_net *net, const char *layer, const char *name)
{
    for (size_t i = 0; i < net->params_listed; i++)
        if (!strcmp(net->listed[i]->layer, layer) && !strcmp(net->listed[i]->name, name))
            return net->listed[i];
    return NULL;
}

size_t at_net_state_count(const at_net *net)
{
    return net->state_count;
}

float *at_net_state(at_net *net)
{
    return net->state;
}

const nn_state *nn_net_state(const at_net *net, const char *layer, const char *name)
{
    const nn_row *row = nn_net_row(net, layer);
    for (int k = 0; row && k < row->state_count; k++)
        if (!strcmp(row->states[k].name, name))
            return &row->states[k];
    return NULL;
}
