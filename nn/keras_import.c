/* SPDX-License-Identifier: Apache-2.0
 * Keras's configuration of a model, Sequential or Functional, of Keras 2 or 3, as rows.
 *
 * A layer becomes a row of its name (with "_" for what a row's name may not hold), and another for
 * the activation that it carries. Padding layers leave no row: they widen the window behind them.
 * Shapes are followed, since Keras's "same" depends on them. Where it pads unevenly, a convolution
 * gets a larger window with zeros in it, and a maximum is cut off at the border.
 */
#include <stdlib.h>
#include <string.h>

#include "keras_import.h"

/* ---- configurations ------------------------------------------------------------------------- */
int import_refuse(const import_layer *l, at_error *err, const char *format, ...)
{
    char what[300];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return at_fail(err, AT_EINPUT, "layer '%.100s' (%.60s): %s", l->name, l->class, what);
}

/* The name of a function, written as such or as an object. */
static const char *function_name(const at_node *f)
{
    if (at_node_kind(f) != AT_MAP)
        return at_node_string(f, "linear");
    const at_node *config = at_node_get(f, "config");
    if (at_node_kind(config) == AT_STRING)
        return at_node_string(config, "");
    return at_node_string(at_node_get(f, "class_name"), "");
}

static int import_pair(const import_layer *l, const char *key, int64_t otherwise, int64_t out[2],
                       at_error *err)
{
    const at_node *item = at_node_get(l->config, key);
    bool list = at_node_kind(item) == AT_LIST;
    for (int i = 0; i < 2; i++) {
        out[i] = at_node_int(list ? at_node_at(item, (size_t)i) : item, otherwise);
        if (out[i] < 1 || out[i] > 65535)
            return import_refuse(l, err, "%s of %lld", key, (long long)out[i]);
    }
    return AT_OK;
}

/* ---- rows ----------------------------------------------------------------------------------- */
/* A name that a row may have. */
static void row_name(const char *keras, const char *suffix, char out[IMPORT_NAME])
{
    snprintf(out, IMPORT_NAME, "%.90s%s", keras, suffix);
    for (char *c = out; *c; c++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-", *c))
            *c = '_';
}

int import_row(importer *m, import_layer *l, const char *suffix, const char *layer,
               const keras_source *source, at_error *err, const char *attrs, ...)
{
    char text[IMPORT_TEXT], inputs[IMPORT_TEXT];
    va_list args;
    va_start(args, attrs);
    int bytes = vsnprintf(text, sizeof text, attrs, args);
    va_end(args);
    snprintf(inputs, sizeof inputs, "%s", l->row); /* it goes on behind the layer's first row */
    for (size_t i = 0, at = 0; i < l->from_count && !*l->row && at < sizeof inputs; i++)
        at += (size_t)snprintf(inputs + at, sizeof inputs - at, "%s ", m->layers[l->from[i]].row);
    size_t n = at_graph_rows(m->graph);
    if (bytes >= IMPORT_TEXT || strlen(inputs) + 1 >= sizeof inputs || n >= m->most_rows)
        return import_refuse(l, err, "more of it than atoll takes");
    row_name(l->name, suffix, l->row);
    at_graph_add(m->graph, l->row, layer, inputs, "%s", text);
    if (source) {
        m->sources[n] = *source;
        m->sources[n].layer -= m->ahead;
    }
    return at_graph_rows(m->graph) > n ? AT_OK : nn_graph_check(m->graph, err);
}

/* The row of an activation by Keras's name; none for "linear". */
int import_activation(importer *m, import_layer *l, const at_node *function, const char *suffix,
                      at_error *err)
{
    static const struct {
        const char *keras, *layer;
        bool nonnegative;
    } known[] = {{"relu", "relu", true},  {"gelu", "gelu", false},  {"tanh", "tanh", false},
                 {"silu", "silu", false}, {"swish", "silu", false}, {"sigmoid", "sigmoid", true}};
    const char *name = function_name(function);
    if (strcmp(name, "linear") == 0)
        return AT_OK;
    if (strcmp(name, "softmax") == 0) {
        l->softmax = true;
        return AT_OK;
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i].keras, name) != 0)
            continue;
        l->nonnegative = known[i].nonnegative;
        l->activation = known[i].keras;
        return import_row(m, l, suffix, known[i].layer, NULL, err, "%s", "");
    }
    return import_refuse(l, err, "atoll has no activation '%.60s'", name);
}

/* ---- windows -------------------------------------------------------------------------------- */
int import_window_of(const import_layer *l, const char *size_key, import_window *w, at_error *err)
{
    const char *padding = at_node_string(at_node_get(l->config, "padding"), "valid");
    bool same = strcmp(padding, "same") == 0, pool = strcmp(size_key, "pool_size") == 0;
    int64_t size[2] = {l->in.h, l->in.w};
    if (!same && strcmp(padding, "valid") != 0)
        return import_refuse(l, err, "padding '%.40s'", padding);
    if (l->in.vector)
        return import_refuse(l, err, "its input is no map");
    int rc = import_pair(l, size_key, 2, w->k, err);
    for (int i = 0; i < 2; i++)
        w->stride[i] = pool ? w->k[i] : 1; /* unless told */
    bool told = at_node_kind(at_node_get(l->config, "strides")) > AT_NULL;
    if (rc == AT_OK && told)
        rc = import_pair(l, "strides", 1, w->stride, err);
    if (rc == AT_OK)
        rc = import_pair(l, "dilation_rate", 1, w->dilation, err);
    for (int i = 0; i < 2 && rc == AT_OK; i++) {
        int64_t wide = (w->k[i] - 1) * w->dilation[i] + 1;
        int64_t padded = size[i] + l->pad[i][0] + l->pad[i][1];
        int64_t steps = (padded + w->stride[i] - 1) / w->stride[i];
        int64_t needed = same ? (steps - 1) * w->stride[i] + wide - padded : 0;
        needed = needed > 0 ? needed : 0;
        w->before[i] = l->pad[i][0] + needed / 2;
        w->behind[i] = l->pad[i][1] + needed - needed / 2;
        int64_t room = size[i] + w->before[i] + w->behind[i] - wide;
        if (room < 0)
            return import_refuse(l, err, "its window is larger than its input");
        w->out[i] = room / w->stride[i] + 1;
    }
    w->same = same;
    return rc;
}

/* ---- the layers, in order ------------------------------------------------------------------- */
/* Every tensor that the node reads, however deep in it. */
static int add_inputs(importer *m, import_layer *l, const at_node *node, int depth, at_error *err)
{
    const at_node *history = at_node_path(node, "config.keras_history");
    const at_node *legacy = at_node_kind(at_node_at(node, 0)) == AT_STRING ? node : NULL;
    const at_node *from = at_node_at(at_node_kind(node) == AT_MAP ? history : legacy, 0);
    if (at_node_kind(from) == AT_STRING) {
        const char *name = at_node_string(from, "");
        size_t i = 0;
        while (i < m->done && strcmp(m->layers[i].name, name) != 0)
            i++;
        if (i == m->done)
            return import_refuse(l, err, "its input '%.60s' is no earlier layer", name);
        if (l->from_count == NN_INPUTS)
            return import_refuse(l, err, "more than %d inputs", NN_INPUTS);
        l->from[l->from_count++] = i;
        return AT_OK;
    }
    int rc = AT_OK;
    for (size_t i = 0; i < at_node_count(node) && rc == AT_OK && depth < 8; i++)
        rc = add_inputs(m, l, at_node_at(node, i), depth + 1, err);
    return rc;
}

static int find_inputs(importer *m, import_layer *l, const at_node *layer, at_error *err)
{
    if (m->sequential) {
        l->from_count = m->done > 0;
        l->from[0] = m->done - 1;
        return AT_OK;
    }
    const at_node *nodes = at_node_get(layer, "inbound_nodes");
    if (at_node_count(nodes) > 1)
        return import_refuse(l, err, "it is used more than once, which a row cannot be");
    const at_node *node = at_node_at(nodes, 0);
    const at_node *args = at_node_get(node, "args"); /* Keras 3 */
    return node ? add_inputs(m, l, args ? args : node, 0, err) : AT_OK;
}

/* What comes in: its first input's shape; others are looked at by those that merge. */
static int follow_inputs(const importer *m, import_layer *l, at_error *err)
{
    if (l->from_count == 0)
        return l->rule->source ? AT_OK : import_refuse(l, err, "it has no input");
    if (l->from_count > 1 && !l->rule->merges)
        return import_refuse(l, err, "it has %zu inputs", l->from_count);
    l->nonnegative = true;
    for (size_t i = 0; i < l->from_count; i++) {
        const import_layer *from = &m->layers[l->from[i]];
        l->scrambled |= from->scrambled;
        l->nonnegative &= from->nonnegative;
        if (from->softmax)
            return import_refuse(l, err, "a layer behind the softmax '%.60s'", from->name);
        if (from->padded && !l->rule->window)
            return import_refuse(l, err, "padding ('%.60s') before a layer without a window",
                                 from->name);
    }
    const import_layer *first = &m->layers[l->from[0]];
    l->in = l->out = first->out;
    l->padded = first->padded;
    memcpy(l->pad, first->pad, sizeof l->pad);
    return AT_OK;
}

static int import_one(importer *m, const at_node *layer, at_error *err)
{
    import_layer *l = &m->layers[m->done];
    l->index = m->done;
    l->class = at_node_string(at_node_get(layer, "class_name"), "");
    l->config = at_node_get(layer, "config");
    l->name = at_node_string(at_node_get(l->config, "name"), "");
    l->rule = import_rule_for(l->class);
    if (!*l->name || !l->rule)
        return import_refuse(l, err, "atoll has no rows for such a layer");
    const char *format = at_node_string(at_node_get(l->config, "data_format"), "channels_last");
    if (strcmp(format, "channels_last") != 0)
        return import_refuse(l, err, "data_format '%.40s'", format);
    int rc = find_inputs(m, l, layer, err);
    if (rc == AT_OK)
        rc = follow_inputs(m, l, err);
    if (rc == AT_OK)
        rc = l->rule->import(m, l, err);
    if (rc == AT_OK && !*l->row && l->from_count > 0) { /* it left no row: its input's stands */
        memcpy(l->row, m->layers[l->from[0]].row, sizeof l->row);
        l->activation = m->layers[l->from[0]].activation;
    }
    m->done++;
    return rc;
}

/* A Sequential model may begin without an input layer: its shape lies with the first, or beside. */
static int begin_sequential(importer *m, const at_node *config, const at_node *first, at_error *err)
{
    const at_node *shape = at_node_path(first, "config.batch_input_shape");
    if (!m->sequential ||
        strcmp(at_node_string(at_node_get(first, "class_name"), ""), "InputLayer") == 0)
        return AT_OK;
    shape = shape ? shape : at_node_path(first, "config.batch_shape");
    shape = shape ? shape : at_node_get(config, "build_input_shape");
    import_layer *l = &m->layers[m->done++];
    *l = (import_layer){.name = "input", .class = "InputLayer"};
    return import_pixels(m, l, shape, err);
}

/* The one output, through softmax or as logits. */
static int finish(importer *m, const at_node *config, at_error *err)
{
    const at_node *outputs = at_node_get(config, "output_layers");
    const import_layer *last = m->done ? &m->layers[m->done - 1] : NULL;
    if (!m->sequential) {
        const at_node *one =
            at_node_kind(at_node_at(outputs, 0)) == AT_LIST && at_node_count(outputs) == 1
                ? at_node_at(outputs, 0)
                : outputs;
        const char *name = at_node_string(at_node_at(one, 0), NULL);
        last = NULL;
        for (size_t i = 0; name && i < m->done; i++)
            if (strcmp(m->layers[i].name, name) == 0)
                last = &m->layers[i];
    }
    if (!last)
        return at_fail(err, AT_EINPUT, "a model without one output, which atoll's have");
    if (!last->softmax && (last->activation || last->out.c == 1))
        return import_refuse(last, err,
                             "its output is %s: atoll's models end in a softmax or its "
                             "logits, a score a class",
                             last->activation ? last->activation : "one number");
    char name[IMPORT_NAME];
    row_name(last->name, "_loss", name);
    at_graph_add(m->graph, name, "softmax_loss", last->row, "%s", "");
    return nn_graph_check(m->graph, err);
}

static int import_model(importer *m, const at_node *root, at_error *err)
{
    const char *class = at_node_string(at_node_get(root, "class_name"), "");
    const at_node *config = at_node_get(root, "config"), *layers = at_node_get(config, "layers");
    m->sequential = strcmp(class, "Sequential") == 0;
    if (!m->sequential && strcmp(class, "Functional") != 0 && strcmp(class, "Model") != 0)
        return at_fail(err, AT_EINPUT,
                       "a model of class '%.60s', neither Sequential nor Functional", class);
    size_t n = at_node_count(layers);
    m->most_rows = 2 * n + 2;
    m->layers = calloc(n + 1, sizeof *m->layers);
    m->sources = calloc(m->most_rows + 1, sizeof *m->sources);
    m->graph = at_graph_new();
    if (!m->layers || !m->sources || !m->graph)
        return at_nomem(err);
    int rc = n ? begin_sequential(m, config, at_node_at(layers, 0), err) : AT_OK;
    m->ahead = m->done;
    for (size_t i = 0; i < n && rc == AT_OK; i++)
        rc = import_one(m, at_node_at(layers, i), err);
    return rc == AT_OK ? finish(m, config, err) : rc;
}

at_graph *keras_import(keras_file *f, keras_source **sources, at_error *err)
{
    importer m = {.file = f, .root = f->config};
    int rc = import_model(&m, f->config, err);
    free(m.layers);
    *sources = m.sources;
    if (rc == AT_OK)
        return m.graph;
    at_fail_in(err, "%s: Keras's model", f->path);
    at_graph_free(m.graph);
    return NULL;
}
