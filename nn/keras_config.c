/* SPDX-License-Identifier: Apache-2.0
 * A net as the JSON of a Keras Functional model, in the legacy form (layers' nodes as
 * [[["input", 0, 0, {}]]]) that both Keras 2 and Keras 3 read.
 *
 * A row becomes one layer of the same name; padding that Keras has no word for becomes a layer
 * "ROW_pad" before it. Pixels stay in Keras's (h,w,c) order.
 */
#include <string.h>

#include "keras.h"

typedef struct exporter {
    const at_net *net;
    at_node *layers;
    const char *from; /* the Keras layer that feeds the row at hand, where that is no row */
    char pad[128];    /* its name's storage */
} exporter;

/* ---- pieces of JSON
 * -------------------------------------------------------------------------------- */
static at_node *list_of(const int64_t *values, size_t n)
{
    at_node *list = at_node_new(AT_LIST);
    for (size_t i = 0; i < n; i++)
        at_node_add(list, at_node_new_int(values[i]));
    return list;
}

static at_node *pair(int64_t a, int64_t b)
{
    return list_of((int64_t[]){a, b}, 2);
}

static at_node *list_of_reals(const double *values, size_t n)
{
    at_node *list = at_node_new(AT_LIST);
    for (size_t i = 0; i < n; i++)
        at_node_add(list, at_node_new_real(values[i]));
    return list;
}

static at_node *layer_config(const char *name)
{
    at_node *config = at_node_new(AT_MAP);
    at_set_string(config, "name", name);
    at_set_bool(config, "trainable", true);
    at_set_string(config, "dtype", "float32");
    return config;
}

/* ["name", 0, 0] and, in a node, its empty keyword arguments. */
static at_node *tensor(const char *layer, bool in_node)
{
    at_node *item = at_node_new(AT_LIST);
    at_node_add(item, at_node_new_string(layer));
    at_node_add(item, at_node_new_int(0));
    at_node_add(item, at_node_new_int(0));
    if (in_node)
        at_node_add(item, at_node_new(AT_MAP));
    return item;
}

/* [] for the input, else one node of all the row's inputs. */
static at_node *inbound_nodes(const exporter *e, const nn_row *row)
{
    at_node *nodes = at_node_new(AT_LIST);
    if (row->input_count == 0)
        return nodes;
    at_node *node = at_node_add(nodes, at_node_new(AT_LIST));
    for (int i = 0; i < row->input_count; i++)
        at_node_add(node, tensor(e->from ? e->from : e->net->rows[row->inputs[i]].row.name, true));
    return nodes;
}

/* Takes config. */
static void add_layer(exporter *e, const nn_row *row, const char *class, at_node *config)
{
    at_node *layer = at_node_add(e->layers, at_node_new(AT_MAP));
    const char *name = at_node_string(at_node_get(config, "name"), "");
    at_set_string(layer, "class_name", class);
    at_set_string(layer, "name", name);
    at_node_set(layer, "config", config);
    at_node_set(layer, "inbound_nodes", inbound_nodes(e, row));
}

/* A ZeroPadding2D before the row, from which it then reads. */
static void add_padding(exporter *e, const nn_row *row, const nn_window *w)
{
    snprintf(e->pad, sizeof e->pad, "%s_pad", row->row.name);
    at_node *config = layer_config(e->pad);
    at_node *padding = at_node_set(config, "padding", at_node_new(AT_LIST));
    at_node_add(padding, pair(w->ph, w->ph));
    at_node_add(padding, pair(w->pw, w->pw));
    at_set_string(config, "data_format", "channels_last");
    add_layer(e, row, "ZeroPadding2D", config);
    e->from = e->pad;
}

/* ---- a function a layer
 * ---------------------------------------------------------------------------- */
static int export_input(exporter *e, const nn_row *row, at_error *err)
{
    (void)err;
    at_node *config = at_node_new(AT_MAP);
    at_node *shape = at_node_set(config, "batch_input_shape", at_node_new(AT_LIST));
    at_node_add(shape, at_node_new(AT_NULL));
    at_node_add(shape, at_node_new_int(row->out.h));
    at_node_add(shape, at_node_new_int(row->out.w));
    at_node_add(shape, at_node_new_int(row->out.c));
    at_set_string(config, "dtype", "float32");
    at_set_bool(config, "sparse", false);
    at_set_bool(config, "ragged", false);
    at_set_string(config, "name", row->row.name);
    add_layer(e, row, "InputLayer", config);
    return AT_OK;
}

static int export_rescale(exporter *e, const nn_row *row, at_error *err)
{
    (void)err;
    const nn_rescale_attrs *a = row->attrs;
    at_node *config = layer_config(row->row.name);
    at_set_real(config, "scale", a->scale);
    at_set_real(config, "offset", a->offset);
    add_layer(e, row, "Rescaling", config);
    return AT_OK;
}

static int export_normalize(exporter *e, const nn_row *row, at_error *err)
{
    (void)err;
    const nn_normalize_attrs *a = row->attrs;
    double mean[NN_CHANNELS], variance[NN_CHANNELS];
    size_t n = (size_t)row->out.c;
    for (size_t i = 0; i < n; i++) {
        mean[i] = (double)a->mean[i];
        variance[i] = (double)a->deviation[i] * (double)a->deviation[i];
    }
    at_node *config = layer_config(row->row.name);
    at_node_set(config, "axis", list_of((int64_t[]){-1}, 1));
    at_node_set(config, "mean", list_of_reals(mean, n));
    at_node_set(config, "variance", list_of_reals(variance, n));
    add_layer(e, row, "Normalization", config);
    return AT_OK;
}

/* Keras's "same" pads as we do where the output is as large as the input and the window odd. */
static bool is_same(const nn_window *w)
{
    return w->sh == 1 && w->sw == 1 && 2 * w->ph + 1 == w->kh && 2 * w->pw + 1 == w->kw;
}

static int export_conv(exporter *e, const nn_row *row, at_error *err)
{
    (void)err;
    const nn_conv_attrs *a = row->attrs;
    const nn_window *w = &a->window;
    if ((w->ph || w->pw) && !is_same(w))
        add_padding(e, row, w);
    at_node *config = layer_config(row->row.name);
    at_set_int(config, "filters", a->out);
    at_node_set(config, "kernel_size", pair(w->kh, w->kw));
    at_node_set(config, "strides", pair(w->sh, w->sw));
    at_set_string(config, "padding", is_same(w) ? "same" : "valid");
    at_set_string(config, "data_format", "channels_last");
    at_set_string(config, "activation", "linear");
    at_set_bool(config, "use_bias", a->bias);
    add_layer(e, row, "Conv2D", config);
    return AT_OK;
}

static int export_pool(exporter *e, const nn_row *row, at_error *err)
{
    const nn_pool_attrs *a = row->attrs;
    const nn_window *w = &a->window;
    bool max = strcmp(a->kind, "max") == 0, padded = w->ph || w->pw, same = max && is_same(w);
    /* Zeros do for a maximum only of what is never negative; for an average they are what we count.
     */
    if (padded && !same && max && e->net->rows[row->inputs[0]].layer != &at_layer_relu)
        return at_fail(
            err, AT_EINPUT,
            "row '%s': Keras has no maximum over a window of %lldx%lld padded by %lldx%lld",
            row->row.name, (long long)w->kh, (long long)w->kw, (long long)w->ph, (long long)w->pw);
    if (padded && !same)
        add_padding(e, row, w);
    at_node *config = layer_config(row->row.name);
    at_node_set(config, "pool_size", pair(w->kh, w->kw));
    at_node_set(config, "strides", pair(w->sh, w->sw));
    at_set_string(config, "padding", same ? "same" : "valid");
    at_set_string(config, "data_format", "channels_last");
    add_layer(e, row, max ? "MaxPooling2D" : "AveragePooling2D", config);
    return AT_OK;
}

static int export_bn(exporter *e, const nn_row *row, at_error *err)
{
    (void)err;
    const nn_bn_attrs *a = row->attrs;
    at_node *config = layer_config(row->row.name);
    at_set_int(config, "axis", -1);
    at_set_real(config, "momentum", 1 - a->momentum); /* Keras's is the share of the past */
    at_set_real(config, "epsilon", a->eps);
    at_set_bool(config, "center", true);
    at_set_bool(config, "scale", true);
    add_layer(e, row, "BatchNormalization", config);
    return AT_OK;
}

static int export_dropout(exporter *e, const nn_row *row, at_error *err)
{
    (void)err;
    const nn_dropout_attrs *a = row->attrs;
    at_node *config = layer_config(row->row.name);
    at_set_real(config, "rate", a->p);
    add_layer(e, row, "Dropout", config);
    return AT_OK;
}

static int export_flatten(exporter *e, const nn_row *row, at_error *err)
{
    (void)err;
    at_node *config = layer_config(row->row.name);
    at_set_string(config, "data_format", "channels_last");
    add_layer(e, row, "Flatten", config);
    return AT_OK;
}

static int export_dense(exporter *e, const nn_row *row, at_error *err)
{
    (void)err;
    const nn_dense_attrs *a = row->attrs;
    at_node *config = layer_config(row->row.name);
    at_set_int(config, "units", a->out);
    at_set_string(config, "activation", "linear");
    at_set_bool(config, "use_bias", a->bias);
    add_layer(e, row, "Dense", config);
    return AT_OK;
}

static int export_activation(exporter *e, const nn_row *row, at_error *err)
{
    (void)err;
    bool loss = row->layer == &at_layer_softmax_loss;
    at_node *config = layer_config(row->row.name);
    at_set_string(config, "activation", loss ? "softmax" : row->layer->name); /* gelu: exact */
    add_layer(e, row, "Activation", config);
    return AT_OK;
}

static int export_row(exporter *e, const nn_row *row, at_error *err)
{
    static const struct {
        const at_layer *layer;
        int (*export)(exporter *, const nn_row *, at_error *);
    } table[] = {
        {&at_layer_input, export_input},     {&at_layer_rescale, export_rescale},
        {&at_layer_conv, export_conv},       {&at_layer_normalize, export_normalize},
        {&at_layer_pool, export_pool},       {&at_layer_bn, export_bn},
        {&at_layer_dropout, export_dropout}, {&at_layer_flatten, export_flatten},
        {&at_layer_dense, export_dense},     {&at_layer_softmax_loss, export_activation},
        {&at_layer_relu, export_activation}, {&at_layer_gelu, export_activation},
    };
    e->from = NULL;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].layer == row->layer)
            return table[i].export(e, row, err);
    return at_fail(err, AT_EINPUT, "row '%s': Keras has no layer '%s'", row->row.name,
                   row->layer->name);
}

/* ---- the model
 * ------------------------------------------------------------------------------------- */
static int check_names(const at_node *config, at_error *err)
{
    for (size_t i = 0; i < keras_layer_count(config); i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(keras_layer_name(config, i), keras_layer_name(config, j)) == 0)
                return at_fail(err, AT_EINPUT, "two Keras layers would be named '%s'",
                               keras_layer_name(config, i));
    return AT_OK;
}

at_node *keras_config(const at_net *net, const char *model, at_error *err)
{
    at_node *root = at_node_new(AT_MAP), *config = NULL;
    at_set_string(root, "class_name", "Functional");
    config = at_node_set(root, "config", at_node_new(AT_MAP));
    at_set_string(config, "name", model);
    at_set_bool(config, "trainable", true);
    exporter e = {.net = net, .layers = at_node_set(config, "layers", at_node_new(AT_LIST))};
    int rc = e.layers ? AT_OK : at_nomem(err);
    for (size_t i = 0; i < net->row_count && rc == AT_OK; i++)
        rc = export_row(&e, &net->rows[i], err);
    const nn_row *first = net->rows, *last = net->rows + net->row_count - 1;
    at_node_set(config, "input_layers", tensor(first->row.name, false));
    at_node_set(config, "output_layers", tensor(last->row.name, false));
    if (rc == AT_OK)
        rc = check_names(root, err);
    if (rc == AT_OK)
        return root;
    at_node_free(root);
    return NULL;
}

size_t keras_layer_count(const at_node *config)
{
    return at_node_count(at_node_path(config, "config.layers"));
}

const char *keras_layer_name(const at_node *config, size_t i)
{
    const at_node *layer = at_node_at(at_node_path(config, "config.layers"), i);
    return at_node_string(at_node_get(layer, "name"), "");
}
