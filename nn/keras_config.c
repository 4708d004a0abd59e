/* SPDX-License-Identifier: Apache-2.0
 * A net as the JSON of a Keras Functional model, in the legacy form (layers' nodes as
 * [[["input", 0, 0, {}]]]) that both Keras 2 and Keras 3 read.
 *
 * Only the rows that lead to the last one are written: auxiliary classifiers are for training here.
 * Pixels stay in Keras's (h,w,c) order. Nothing needs custom objects or unsafe loading.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keras_export.h"

/* ---- pieces of JSON ---------------------------------------------------------------------------- */
at_node *export_list(const int64_t *values, size_t n)
{
    at_node *list = at_node_new(AT_LIST);
    for (size_t i = 0; i < n; i++)
        at_node_add(list, at_node_new_int(values[i]));
    return list;
}

at_node *export_pair(int64_t a, int64_t b)
{
    return export_list((int64_t[]){a, b}, 2);
}

at_node *export_reals(const double *values, size_t n)
{
    at_node *list = at_node_new(AT_LIST);
    for (size_t i = 0; i < n; i++)
        at_node_add(list, at_node_new_real(values[i]));
    return list;
}

at_node *export_config(const char *name)
{
    at_node *config = at_node_new(AT_MAP);
    at_set_string(config, "name", name);
    at_set_bool(config, "trainable", true);
    at_set_string(config, "dtype", "float32");
    return config;
}

at_node *export_config_of(const nn_row *row, const char *suffix)
{
    char name[256];
    snprintf(name, sizeof name, "%s_%s", row->row.name, suffix);
    return export_config(name);
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

const char *export_layer_of(exporter *e, const char *class, at_node *config,
                            const char *const *from, size_t n)
{
    at_node *layer = at_node_add(e->layers, at_node_new(AT_MAP));
    const char *name = at_node_string(at_node_get(config, "name"), "");
    at_set_string(layer, "class_name", class);
    at_set_string(layer, "name", name);
    at_node_set(layer, "config", config);
    at_node *nodes = at_node_set(layer, "inbound_nodes", at_node_new(AT_LIST));
    at_node *node = n ? at_node_add(nodes, at_node_new(AT_LIST)) : NULL;
    for (size_t i = 0; i < n; i++)
        at_node_add(node, tensor(from[i], true));
    return at_node_string(at_node_get(layer, "name"), "");
}

const char *export_layer(exporter *e, const char *class, at_node *config, const char *from)
{
    return export_layer_of(e, class, config, &from, 1);
}

const char *export_input(const exporter *e, const nn_row *row, int k)
{
    return e->output[row->inputs[k]];
}

const char *export_padding(exporter *e, const nn_row *row, const char *from, int64_t top,
                           int64_t bottom, int64_t left, int64_t right)
{
    at_node *config = export_config_of(row, "pad");
    at_node *padding = at_node_set(config, "padding", at_node_new(AT_LIST));
    at_node_add(padding, export_pair(top, bottom));
    at_node_add(padding, export_pair(left, right));
    at_set_string(config, "data_format", "channels_last");
    return export_layer(e, "ZeroPadding2D", config, from);
}

/* ---- a function a layer ------------------------------------------------------------------------ */
static const char *export_pixels(exporter *e, const nn_row *row, at_error *err)
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
    return export_layer_of(e, "InputLayer", config, NULL, 0);
}

static const char *export_rescale(exporter *e, const nn_row *row, at_error *err)
{
    (void)err;
    const nn_rescale_attrs *a = row->attrs;
    at_node *config = export_config(row->row.name);
    at_set_real(config, "scale", a->scale);
    at_set_real(config, "offset", a->offset);
    return export_layer(e, "Rescaling", config, export_input(e, row, 0));
}

static const char *export_normalize(exporter *e, const nn_row *row, at_error *err)
{
    (void)err;
    const nn_normalize_attrs *a = row->attrs;
    double mean[NN_CHANNELS], variance[NN_CHANNELS];
    size_t n = (size_t)row->out.c;
    for (size_t i = 0; i < n; i++) {
        mean[i] = (double)a->mean[i];
        variance[i] = (double)a->deviation[i] * (double)a->deviation[i];
    }
    at_node *config = export_config(row->row.name);
    at_node_set(config, "axis", export_list((int64_t[]){-1}, 1));
    at_node_set(config, "mean", export_reals(mean, n));
    at_node_set(config, "variance", export_reals(variance, n));
    return export_layer(e, "Normalization", config, export_input(e, row, 0));
}

/* Keras's "same" pads as we do where the output is as large as the input and the window odd. */
static bool is_same(const nn_window *w)
{
    return w->sh == 1 && w->sw == 1 && 2 * w->ph == (w->kh - 1) * w->dh &&
           2 * w->pw == (w->kw - 1) * w->dw;
}

static const char *add_convolution(exporter *e, const nn_row *row, const char *from, int64_t sh,
                                   int64_t sw, bool same)
{
    const nn_conv_attrs *a = row->attrs;
    const nn_window *w = &a->window;
    bool depthwise = keras_is_depthwise(row);
    at_node *config = export_config(row->row.name);
    if (depthwise)
        at_set_int(config, "depth_multiplier", a->out / a->groups);
    else
        at_set_int(config, "filters", a->out);
    at_node_set(config, "kernel_size", export_pair(w->kh, w->kw));
    at_node_set(config, "strides", export_pair(sh, sw));
    at_set_string(config, "padding", same ? "same" : "valid");
    at_set_string(config, "data_format", "channels_last");
    at_node_set(config, "dilation_rate", export_pair(w->dh, w->dw));
    if (!depthwise)
        at_set_int(config, "groups", a->groups);
    at_set_string(config, "activation", "linear");
    at_set_bool(config, "use_bias", a->bias);
    return export_layer(e, depthwise ? "DepthwiseConv2D" : "Conv2D", config, from);
}

/* Keras has no window that is both dilated and moved by more than a pixel: every pixel's value is
 * computed, and thinned out. */
static const char *export_conv(exporter *e, const nn_row *row, at_error *err)
{
    (void)err;
    const nn_window *w = &((const nn_conv_attrs *)row->attrs)->window;
    const char *from = export_input(e, row, 0);
    bool same = is_same(w), thinned = (w->dh > 1 || w->dw > 1) && (w->sh > 1 || w->sw > 1);
    if ((w->ph || w->pw) && !same)
        from = export_padding(e, row, from, w->ph, w->ph, w->pw, w->pw);
    from = add_convolution(e, row, from, thinned ? 1 : w->sh, thinned ? 1 : w->sw, same);
    if (!thinned)
        return from;
    at_node *config = export_config_of(row, "stride");
    at_node_set(config, "pool_size", export_pair(1, 1));
    at_node_set(config, "strides", export_pair(w->sh, w->sw));
    at_set_string(config, "padding", "valid");
    at_set_string(config, "data_format", "channels_last");
    return export_layer(e, "MaxPooling2D", config, from);
}

static const char *export_bn(exporter *e, const nn_row *row, at_error *err)
{
    (void)err;
    const nn_bn_attrs *a = row->attrs;
    at_node *config = export_config(row->row.name);
    at_set_int(config, "axis", -1);
    at_set_real(config, "momentum", 1 - a->momentum); /* Keras's is the share of the past */
    at_set_real(config, "epsilon", a->eps);
    at_set_bool(config, "center", true);
    at_set_bool(config, "scale", true);
    return export_layer(e, "BatchNormalization", config, export_input(e, row, 0));
}

static const char *export_dropout(exporter *e, const nn_row *row, at_error *err)
{
    (void)err;
    const nn_dropout_attrs *a = row->attrs;
    at_node *config = export_config(row->row.name);
    at_set_real(config, "rate", a->p);
    return export_layer(e, "Dropout", config, export_input(e, row, 0));
}

static const char *export_flatten(exporter *e, const nn_row *row, at_error *err)
{
    (void)err;
    at_node *config = export_config(row->row.name);
    at_set_string(config, "data_format", "channels_last");
    return export_layer(e, "Flatten", config, export_input(e, row, 0));
}

static const char *export_dense(exporter *e, const nn_row *row, at_error *err)
{
    (void)err;
    const nn_dense_attrs *a = row->attrs;
    at_node *config = export_config(row->row.name);
    at_set_int(config, "units", a->out);
    at_set_string(config, "activation", "linear");
    at_set_bool(config, "use_bias", a->bias);
    return export_layer(e, "Dense", config, export_input(e, row, 0));
}

/* Of several inputs: sums, and channels behind one another. */
static const char *export_merge(exporter *e, const nn_row *row, at_error *err)
{
    const char *from[NN_INPUTS];
    bool concat = row->layer == &at_layer_concat;
    for (int k = 0; k < row->input_count; k++) {
        from[k] = export_input(e, row, k);
        if (concat && row->in[k].vector && !keras_is_plain(e->net, row, k)) {
            at_fail(err, AT_EINPUT,
                    "row '%s': maps that were flattened before they are joined "
                    "have another order in Keras",
                    row->row.name);
            return NULL;
        }
    }
    at_node *config = export_config(row->row.name);
    if (row->input_count == 1) { /* Keras merges at least two */
        at_set_string(config, "activation", "linear");
        return export_layer(e, "Activation", config, from[0]);
    }
    if (concat)
        at_set_int(config, "axis", -1);
    return export_layer_of(e, concat ? "Concatenate" : "Add", config, from,
                           (size_t)row->input_count);
}

static const char *export_activation(exporter *e, const nn_row *row, at_error *err)
{
    (void)err;
    const char *name = row->layer->name; /* gelu: exact in both */
    if (row->layer == &at_layer_softmax_loss)
        name = "softmax";
    else if (row->layer == &at_layer_silu)
        name = "swish"; /* Keras 2's name for it, which Keras 3 knows */
    at_node *config = export_config(row->row.name);
    at_set_string(config, "activation", name);
    return export_layer(e, "Activation", config, export_input(e, row, 0));
}

/* A layer that Keras has no word for stands under its own name, with the row's attributes as text:
 * such a file is read here as any other, and by Keras with custom_objects={"<layer>": <class>}. */
static const char *export_own(exporter *e, const nn_row *row, at_error *err)
{
    (void)err;
    const char *from[NN_INPUTS];
    for (int k = 0; k < row->input_count; k++)
        from[k] = export_input(e, row, k);
    at_node *config = export_config(row->row.name);
    at_set_string(config, "attributes", row->row.attrs);
    return export_layer_of(e, row->layer->name, config, from, (size_t)row->input_count);
}

/* ---- rows ----------------------------------------------------------------------------------- */
typedef enum { SIGNED, NEVER_NEGATIVE, AS_INPUTS } sign;

typedef struct export_rule {
    const at_layer *layer;
    const char *(*export)(exporter *, const nn_row *, at_error *);
    sign sign; /* of what comes out */
} export_rule;

static const export_rule rules[] = {
    {&at_layer_input, export_pixels, NEVER_NEGATIVE},
    {&at_layer_rescale, export_rescale, SIGNED},
    {&at_layer_normalize, export_normalize, SIGNED},
    {&at_layer_conv, export_conv, SIGNED},
    {&at_layer_pool, export_pool, AS_INPUTS},
    {&at_layer_lrn, export_lrn, AS_INPUTS},
    {&at_layer_bn, export_bn, SIGNED},
    {&at_layer_dropout, export_dropout, AS_INPUTS},
    {&at_layer_flatten, export_flatten, AS_INPUTS},
    {&at_layer_dense, export_dense, SIGNED},
    {&at_layer_add, export_merge, AS_INPUTS},
    {&at_layer_concat, export_merge, AS_INPUTS},
    {&at_layer_relu, export_activation, NEVER_NEGATIVE},
    {&at_layer_sigmoid, export_activation, NEVER_NEGATIVE},
    {&at_layer_tanh, export_activation, SIGNED},
    {&at_layer_gelu, export_activation, SIGNED},
    {&at_layer_silu, export_activation, SIGNED},
    {&at_layer_softmax_loss, export_activation, NEVER_NEGATIVE},
};

static int export_row(exporter *e, size_t i, at_error *err)
{
    const nn_row *row = &e->net->rows[i];
    static const export_rule own = {NULL, export_own, SIGNED};
    const export_rule *rule = &own;
    for (size_t k = 0; k < sizeof rules / sizeof *rules; k++)
        if (rules[k].layer == row->layer)
            rule = &rules[k];
    e->nonnegative[i] = rule->sign != SIGNED;
    for (int k = 0; k < row->input_count && rule->sign == AS_INPUTS; k++)
        e->nonnegative[i] &= e->nonnegative[row->inputs[k]];
    e->output[i] = rule->export(e, row, err);
    return e->output[i] ? AT_OK : err->code;
}

/* ---- the model ---------------------------------------------------------------------------------- */
static int check_names(const at_node *config, at_error *err)
{
    for (size_t i = 0; i < keras_layer_count(config); i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(keras_layer_name(config, i), keras_layer_name(config, j)) == 0)
                return at_fail(err, AT_EINPUT, "two Keras layers would be named '%s'",
                               keras_layer_name(config, i));
    return AT_OK;
}

static int export_rows(exporter *e, at_error *err)
{
    size_t n = e->net->row_count;
    bool *used = calloc(n, sizeof *used);
    e->output = calloc(n, sizeof *e->output);
    e->nonnegative = calloc(n, sizeof *e->nonnegative);
    int rc = e->layers && used && e->output && e->nonnegative ? AT_OK : at_nomem(err);
    if (rc == AT_OK)
        keras_mark_used(e->net, used);
    for (size_t i = 0; i < n && rc == AT_OK; i++)
        if (used[i])
            rc = export_row(e, i, err);
    free(e->nonnegative);
    free(e->output);
    free(used);
    return rc;
}

/* A model's name may be the path of its rows' file; Keras takes letters, digits, and _.- behind one. */
static void set_model_name(at_node *config, const char *model)
{
    char name[100];
    const char *base = strrchr(model, '/');
    base = base ? base + 1 : model;
    const char *suffix = strrchr(base, '.');
    int bytes = suffix && suffix > base ? (int)(suffix - base) : (int)strlen(base);
    snprintf(name, sizeof name, "%.*s", bytes, base);
    for (char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c) && (c == name || !strchr("_.-", *c)))
            *c = c == name ? 'm' : '_';
    at_set_string(config, "name", *name ? name : "model");
}

at_node *keras_config(const at_net *net, const char *model, at_error *err)
{
    at_node *root = at_node_new(AT_MAP), *config = NULL;
    at_set_string(root, "class_name", "Functional");
    config = at_node_set(root, "config", at_node_new(AT_MAP));
    set_model_name(config, model);
    at_set_bool(config, "trainable", true);
    exporter e = {.net = net, .layers = at_node_set(config, "layers", at_node_new(AT_LIST))};
    int rc = export_rows(&e, err);
    const nn_row *first = net->rows, *last = net->rows + net->row_count - 1;
    at_node_set(config, "input_layers", tensor(first->row.name, false));
    at_node_set(config, "output_layers", tensor(last->row.name, false));
    if (rc == AT_OK)
        rc = check_names(root, err);
    if (rc == AT_OK)
        rc = keras_sort_layers(config, err);
    if (rc == AT_OK)
        return root;
    at_node_free(root);
    return NULL;
}

/* A number of the training's configuration, wherever in it. */
static double trained_with(const at_node *training, const char *key, double otherwise)
{
    double value = at_node_real(at_node_get(training, key), otherwise);
    return value >= 0 ? value : otherwise;
}

at_node *keras_training(const at_node *training)
{
    at_node *root = at_node_new(AT_MAP);
    at_node *loss = at_node_set(root, "loss", at_node_new(AT_MAP));
    at_set_string(loss, "class_name", "SparseCategoricalCrossentropy");
    at_node *config = at_node_set(loss, "config", at_node_new(AT_MAP));
    at_set_string(config, "name", "sparse_categorical_crossentropy");
    at_set_bool(config, "from_logits", false);
    at_node *metrics = at_node_set(root, "metrics", at_node_new(AT_LIST));
    at_node_add(metrics, at_node_new_string("accuracy"));
    at_node_set(root, "weighted_metrics", at_node_new(AT_NULL));
    at_node_set(root, "loss_weights", at_node_new(AT_NULL));
    at_node *optimizer = at_node_set(root, "optimizer_config", at_node_new(AT_MAP));
    at_set_string(optimizer, "class_name", "SGD");
    config = at_node_set(optimizer, "config", at_node_new(AT_MAP));
    at_set_string(config, "name", "SGD");
    at_set_real(config, "learning_rate", trained_with(training, "lr", 0.01));
    at_set_real(config, "momentum", trained_with(training, "momentum", 0.9));
    at_set_bool(config, "nesterov", false);
    return root;
}

size_t keras_layer_count(const at_node *config)
{
    return at_node_count(at_node_path(config, "config.layers"));
}

const char *keras_layer_name(const at_node *config, size_t i)
{
    const at_node *layer = at_node_at(at_node_path(config, "config.layers"), i);
    return at_node_string(at_node_path(layer, "config.name"), "");
}
