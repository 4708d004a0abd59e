/* SPDX-License-Identifier: Apache-2.0
 * Reading a model file back (its layout: keras_write.c). The rows say what must be in it; the file
 * must have exactly that, in those shapes, before any buffer is made for it, so what a hostile file
 * can make us allocate is bounded by its own size. model_config, which is for Keras, is not read.
 */
#include <stdlib.h>
#include <string.h>

#include "h5.h"
#include "keras.h"

#define GROUP "model_weights"

/* Values of one row's output for one sample; more is no image classifier. */
enum { MOST_VALUES = 1 << 26 };

void at_model_info_fini(at_model_info *info)
{
    for (size_t i = 0; i < info->class_count; i++)
        free(info->classes[i]);
    free(info->classes);
    free(info->model);
    at_node_free(info->training);
    *info = (at_model_info){0};
}

/* ---- attributes
 * ------------------------------------------------------------------------------------ */
static int check_format(at_h5 *h, const char *path, at_error *err)
{
    char *format = at_h5_read_text(h, "atoll_format", err);
    if (!format)
        return at_fail_in(err, "not a model that atoll wrote");
    int rc = strcmp(format, "1") == 0
                 ? AT_OK
                 : at_fail(err, AT_EINPUT, "%s: a model of format '%.20s'; this program knows 1",
                           path, format);
    free(format);
    return rc;
}

/* The rows with their shapes; no buffers yet. */
static at_net *read_rows(at_h5 *h, const char *path, at_error *err)
{
    char *text = at_h5_read_text(h, "atoll_rows", err);
    if (!text)
        return NULL;
    at_graph *graph = at_graph_parse(text, err);
    at_net *net = graph ? nn_net_resolve(graph, err) : NULL;
    for (size_t i = 0; net && i < net->row_count; i++) {
        if (nn_elements(net->rows[i].out) <= MOST_VALUES)
            continue;
        at_fail(err, AT_EINPUT, "row \"%s\" has more than %d values", net->rows[i].row.name,
                MOST_VALUES);
        at_net_free(net);
        net = NULL;
    }
    if (!net)
        at_fail_in(err, "%s: attribute 'atoll_rows'", path);
    at_graph_free(graph);
    free(text);
    return net;
}

static at_node *read_json(at_h5 *h, const char *path, const char *name, at_error *err)
{
    char *text = at_h5_read_text(h, name, err);
    at_node *node = text ? at_json_parse(text, strlen(text), name, err) : NULL;
    if (text && !node)
        at_fail_in(err, "%s: attribute", path);
    free(text);
    return node;
}

static int read_classes(at_h5 *h, const char *path, int expected, at_model_info *info,
                        at_error *err)
{
    at_node *list = read_json(h, path, "atoll_classes", err);
    if (!list)
        return err->code;
    size_t n = at_node_count(list);
    int rc = AT_OK;
    if (at_node_kind(list) != AT_LIST || n != (size_t)expected)
        rc = at_fail(err, AT_EINPUT, "%s: attribute 'atoll_classes' is not a list of %d names",
                     path, expected);
    else if (!(info->classes = calloc(n, sizeof *info->classes)))
        rc = at_nomem(err);
    for (size_t i = 0; i < n && rc == AT_OK; i++) {
        const char *name = at_node_string(at_node_at(list, i), NULL);
        if (!name)
            rc = at_fail(err, AT_EINPUT, "%s: attribute 'atoll_classes': item %zu is no text", path,
                         i);
        else if (!(info->classes[i] = strdup(name)))
            rc = at_nomem(err);
        else
            info->class_count = i + 1;
    }
    at_node_free(list);
    return rc;
}

static int read_info(at_h5 *h, const char *path, const at_net *net, at_model_info *info,
                     at_error *err)
{
    info->model = at_h5_read_text(h, "atoll_model", err);
    if (!info->model)
        return err->code;
    int rc = read_classes(h, path, at_net_classes(net), info, err);
    if (rc != AT_OK || !at_h5_has_text(h, "atoll_training"))
        return rc;
    info->training = read_json(h, path, "atoll_training", err);
    return info->training ? AT_OK : err->code;
}

/* ---- weights
 * --------------------------------------------------------------------------------------- */
/* The group of one Keras layer: exactly the row's weights, each in its shape. */
static int check_layer(at_h5 *h, const at_net *net, const char *layer, at_error *err)
{
    keras_weight weights[KERAS_WEIGHTS];
    const char *names[KERAS_WEIGHTS];
    const nn_row *row = nn_net_row(net, layer);
    int n = row ? keras_row_weights(net, row, weights) : 0, rc;
    char group[512];
    snprintf(group, sizeof group, GROUP "/%s", layer);
    rc = at_h5_expect_members(h, group, &layer, n > 0, err);
    snprintf(group, sizeof group, GROUP "/%s/%s", layer, layer);
    for (int i = 0; i < n; i++)
        names[i] = weights[i].name;
    if (n > 0 && rc == AT_OK)
        rc = at_h5_expect_members(h, group, names, (size_t)n, err);
    for (int i = 0; i < n && rc == AT_OK; i++) {
        snprintf(group, sizeof group, GROUP "/%s/%s/%s", layer, layer, names[i]);
        rc = at_h5_expect_shape(h, group, weights[i].ndims, weights[i].dims, err);
    }
    return rc;
}

/* Everything in the file that is not an attribute. */
static int check_objects(at_h5 *h, const char *path, const at_net *net, at_error *err)
{
    at_node *config = keras_config(net, "", err);
    if (!config)
        return at_fail_in(err, "%s", path);
    static const char *const top = GROUP;
    size_t n = keras_layer_count(config);
    const char **names = calloc(n + 1, sizeof *names);
    int rc = names ? at_h5_expect_members(h, "/", &top, 1, err) : at_nomem(err);
    if (rc == AT_OK) {
        for (size_t i = 0; i < n; i++)
            names[i] = keras_layer_name(config, i);
        names[n] = "top_level_model_weights";
        rc = at_h5_expect_members(h, GROUP, names, n + 1, err);
    }
    for (size_t i = 0; i <= n && rc == AT_OK; i++)
        rc = check_layer(h, net, names[i], err);
    free(names);
    at_node_free(config);
    return rc;
}

static int read_weight(at_h5 *h, const char *path, const keras_weight *w, at_error *err)
{
    size_t bad;
    float *values = malloc(w->count * sizeof *values);
    char *name = at_format(GROUP "/%s/%s/%s", w->layer, w->layer, w->name);
    int rc = values && name ? at_h5_read_floats(h, name, values, w->count, err) : at_nomem(err);
    for (size_t i = 0; rc == AT_OK && i < w->count; i++)
        w->data[i] = values[keras_index(w, i)];
    if (rc == AT_OK && keras_find_bad_value(w, &bad))
        rc = at_fail(err, AT_EINPUT, "%s: dataset '%s' has no usable value at %zu (%g)", path, name,
                     keras_index(w, bad), (double)w->data[bad]);
    free(name);
    free(values);
    return rc;
}

static int read_weights(at_h5 *h, const char *path, at_net *net, at_error *err)
{
    int rc = AT_OK;
    for (size_t i = 0; i < net->row_count && rc == AT_OK; i++) {
        keras_weight weights[KERAS_WEIGHTS];
        int n = keras_row_weights(net, &net->rows[i], weights);
        for (int k = 0; k < n && rc == AT_OK; k++)
            rc = read_weight(h, path, &weights[k], err);
    }
    if (rc != AT_OK || !at_h5_has_text(h, "atoll_checksum"))
        return rc;
    char *expected = at_h5_read_text(h, "atoll_checksum", err), actual[9];
    if (!expected)
        return err->code;
    keras_checksum(net, actual);
    if (strcmp(expected, actual) != 0)
        rc = at_fail(err, AT_EINPUT,
                     "%s: the weights are not those that were saved (checksum %s, not %.20s)", path,
                     actual, expected);
    free(expected);
    return rc;
}

/* ---- the file
 * -------------------------------------------------------------------------------------- */
static at_net *load(at_h5 *h, const char *path, at_model_info *info, at_error *err)
{
    at_net *net = NULL;
    if (check_format(h, path, err) != AT_OK || !(net = read_rows(h, path, err)))
        return NULL;
    if (read_info(h, path, net, info, err) == AT_OK && check_objects(h, path, net, err) == AT_OK &&
        nn_net_allocate(net, err) == AT_OK && read_weights(h, path, net, err) == AT_OK)
        return net;
    at_net_free(net);
    return NULL;
}

at_net *at_model_load(const char *path, at_model_info *info, at_error *err)
{
    at_error mine = {0};
    at_model_info read = {0};
    at_h5 *h = at_h5_open(path, &mine);
    at_net *net = h ? load(h, path, &read, &mine) : NULL;
    at_h5_close(h, NULL);
    if (!net)
        at_fail(err, mine.code, "%s", mine.message);
    if (net && info)
        *info = read;
    else
        at_model_info_fini(&read);
    return net;
}
