/* SPDX-License-Identifier: Apache-2.0
 * Loading a model of any form. The rows, atoll's own or made of Keras's configuration, say which
 * weights there must be; the file must have exactly these, in their shapes, before any buffer is
 * made for them, so what a hostile file can make us allocate is bounded by its own size.
 */
#include <stdlib.h>
#include <string.h>

#include "keras_file.h"

#define GROUP "model_weights"

/* Values of one row's output for one sample; more is no image classifier. */
enum { MOST_VALUES = 1 << 26 };

void at_model_info_fini(at_model_info *info)
{
    for (size_t i = 0; i < info->class_count; i++)
        free(info->classes[i]);
    free(info->classes);
    free(info->model);
    free(info->fit);
    at_node_free(info->training);
    *info = (at_model_info){0};
}

/* ---- what atoll wrote beside the weights ---------------------------------------------------- */
static const char *own_text(const keras_file *f, const char *name, at_error *err)
{
    const at_node *item = at_node_get(f->own, name);
    if (at_node_kind(item) == AT_STRING)
        return at_node_string(item, "");
    at_fail(err, AT_EINPUT, "%s: '%s' is missing", f->path, name);
    return NULL;
}

static int check_format(const keras_file *f, at_error *err)
{
    const char *format = own_text(f, "atoll_format", err);
    if (!format)
        return err->code;
    return strcmp(format, "1") == 0
               ? AT_OK
               : at_fail(err, AT_EINPUT, "%s: a model of format '%.20s'; this program knows 1",
                         f->path, format);
}

/* The rows with their shapes; no buffers yet. */
static at_net *resolve(const at_graph *graph, at_error *err)
{
    at_net *net = graph ? nn_net_resolve(graph, err) : NULL;
    for (size_t i = 0; net && i < net->row_count; i++) {
        if (nn_elements(net->rows[i].out) <= MOST_VALUES)
            continue;
        at_fail(err, AT_EINPUT, "row \"%s\" has more than %d values", net->rows[i].row.name,
                MOST_VALUES);
        at_net_free(net);
        net = NULL;
    }
    return net;
}

static at_net *read_rows(const keras_file *f, at_error *err)
{
    const char *text = own_text(f, "atoll_rows", err);
    if (!text)
        return NULL;
    at_graph *graph = at_graph_parse(text, err);
    at_net *net = graph ? resolve(graph, err) : NULL;
    if (!net)
        at_fail_in(err, "%s: 'atoll_rows'", f->path);
    at_graph_free(graph);
    return net;
}

static int add_class(at_model_info *info, const char *name, at_error *err)
{
    info->classes[info->class_count] = name ? strdup(name) : NULL;
    if (!info->classes[info->class_count])
        return at_nomem(err);
    info->class_count++;
    return AT_OK;
}

static int read_classes(const keras_file *f, int expected, at_model_info *info, at_error *err)
{
    const at_node *list = at_node_get(f->own, "atoll_classes");
    size_t n = at_node_count(list);
    if (at_node_kind(list) != AT_LIST || n != (size_t)expected)
        return at_fail(err, AT_EINPUT, "%s: 'atoll_classes' is not a list of %d names", f->path,
                       expected);
    info->classes = calloc(n, sizeof *info->classes);
    int rc = info->classes ? AT_OK : at_nomem(err);
    for (size_t i = 0; i < n && rc == AT_OK; i++) {
        const char *name = at_node_string(at_node_at(list, i), NULL);
        rc = name ? add_class(info, name, err)
                  : at_fail(err, AT_EINPUT, "%s: 'atoll_classes': item %zu is no text", f->path, i);
    }
    return rc;
}

static int read_info(const keras_file *f, const at_net *net, at_model_info *info, at_error *err)
{
    const char *model = own_text(f, "atoll_model", err);
    const at_node *training = at_node_get(f->own, "atoll_training");
    const char *fit = at_node_string(at_node_get(f->own, "atoll_fit"), NULL);
    if (!model)
        return err->code;
    if (!(info->model = strdup(model)) || (fit && !(info->fit = strdup(fit))) ||
        (training && !(info->training = at_node_copy(training))))
        return at_nomem(err);
    return read_classes(f, at_net_classes(net), info, err);
}

/* A model that nobody named: classes are their numbers. */
static int number_classes(const at_net *net, const char *model, at_model_info *info, at_error *err)
{
    int n = at_net_classes(net), rc = AT_OK;
    info->classes = calloc((size_t)n, sizeof *info->classes);
    if (!info->classes || !(info->model = strdup(model)))
        return at_nomem(err);
    for (int i = 0; i < n && rc == AT_OK; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        rc = add_class(info, name, err);
    }
    return rc;
}

/* ---- weights of our own --------------------------------------------------------------------- */
/* The group of one Keras layer holds exactly the row's weights. */
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
    return rc;
}

/* Nothing that does not belong into a whole model of ours. */
static int check_objects(at_h5 *h, const at_net *net, const at_node *config, bool auxiliary,
                         at_error *err)
{
    static const char *const top[] = {GROUP, KERAS_AUXILIARY};
    size_t n = keras_layer_count(config);
    const char **names = calloc(n + 1, sizeof *names);
    int rc = names ? at_h5_expect_members(h, "/", top, 1 + auxiliary, err) : at_nomem(err);
    if (rc == AT_OK) {
        for (size_t i = 0; i < n; i++)
            names[i] = keras_layer_name(config, i);
        names[n] = "top_level_model_weights";
        rc = at_h5_expect_members(h, GROUP, names, n + 1, err);
    }
    for (size_t i = 0; i <= n && rc == AT_OK; i++)
        rc = check_layer(h, net, names[i], err);
    free(names);
    return rc;
}

static int take_auxiliary(keras_file *f, const at_net *net, const nn_row *row, at_error *err)
{
    keras_weight weights[KERAS_WEIGHTS];
    int n = keras_row_weights(net, row, weights), rc = AT_OK;
    for (int i = 0; i < n && rc == AT_OK; i++) {
        char *place = at_format(KERAS_AUXILIARY "/%s/%s", row->row.name, weights[i].name);
        rc =
            place ? keras_file_read(f, place, &weights[i], &(keras_source){0}, err) : at_nomem(err);
        free(place);
    }
    return rc;
}

/* Takes, or while the net has no buffers looks for, the weights of every row; those of rows that
 * Keras's model is without lie by themselves. */
static int take_own(keras_file *f, const at_net *net, const at_node *config, const bool *used,
                    at_error *err)
{
    int rc = AT_OK;
    for (size_t i = 0; i < net->row_count && rc == AT_OK; i++) {
        const nn_row *row = &net->rows[i];
        keras_source source = {0};
        if (row->param_count + row->state_count == 0)
            continue;
        while (used[i] && strcmp(keras_layer_name(config, source.layer), row->row.name) != 0)
            source.layer++;
        rc = used[i] ? keras_file_take(f, config, net, row, &source, err)
                     : take_auxiliary(f, net, row, err);
    }
    return rc;
}

static bool has_auxiliary(const at_net *net, const bool *used)
{
    bool any = false;
    for (size_t i = 0; i < net->row_count; i++)
        any |= !used[i] && net->rows[i].param_count > 0;
    return any;
}

/* Weights by the net's own layers, checked and then read. */
static int read_weights(keras_file *f, at_net *net, at_error *err)
{
    at_node *config = keras_config(net, "", err);
    bool *used = calloc(net->row_count, sizeof *used);
    int rc = !config ? at_fail_in(err, "%s", f->path) : used ? AT_OK : at_nomem(err);
    if (used)
        keras_mark_used(net, used);
    if (rc == AT_OK && f->own && f->layout == KERAS_WHOLE)
        rc = check_objects(f->h, net, config, has_auxiliary(net, used), err);
    if (rc == AT_OK)
        rc = take_own(f, net, config, used, err);
    if (rc == AT_OK)
        rc = nn_net_allocate(net, err);
    if (rc == AT_OK)
        rc = take_own(f, net, config, used, err);
    at_node_free(config);
    free(used);
    return rc;
}

/* An edit with other tools deletes the attribute; damage does not. */
static int check_checksum(const keras_file *f, const at_net *net, at_error *err)
{
    char actual[9];
    const char *expected = at_node_string(at_node_get(f->own, "atoll_checksum"), NULL);
    if (!expected)
        return AT_OK;
    keras_checksum(net, actual);
    return strcmp(expected, actual) == 0
               ? AT_OK
               : at_fail(err, AT_EINPUT,
                         "%s: the weights are not those that were saved (checksum %s, not %.20s)",
                         f->path, actual, expected);
}

static at_net *load_own(keras_file *f, at_model_info *info, at_error *err)
{
    at_net *net = NULL;
    if (check_format(f, err) != AT_OK || !(net = read_rows(f, err)))
        return NULL;
    if (read_info(f, net, info, err) == AT_OK && read_weights(f, net, err) == AT_OK &&
        check_checksum(f, net, err) == AT_OK)
        return net;
    at_net_free(net);
    return NULL;
}

/* ---- Keras's own files ---------------------------------------------------------------------- */
static int take_foreign(keras_file *f, const at_net *net, const keras_source *sources,
                        at_error *err)
{
    int rc = AT_OK;
    for (size_t i = 0; i < net->row_count && rc == AT_OK; i++)
        if (net->rows[i].param_count + net->rows[i].state_count > 0)
            rc = keras_file_take(f, f->config, net, &net->rows[i], &sources[i], err);
    return rc;
}

static at_net *load_foreign(keras_file *f, at_model_info *info, at_error *err)
{
    keras_source *sources = NULL;
    at_graph *graph = keras_import(f, &sources, err);
    at_net *net = graph ? resolve(graph, err) : NULL;
    if (graph && !net)
        at_fail_in(err, "%s", f->path);
    const char *name = at_node_string(at_node_path(f->config, "config.name"), "keras");
    if (net && (take_foreign(f, net, sources, err) != AT_OK || nn_net_allocate(net, err) != AT_OK ||
                take_foreign(f, net, sources, err) != AT_OK ||
                number_classes(net, name, info, err) != AT_OK)) {
        at_net_free(net);
        net = NULL;
    }
    at_graph_free(graph);
    free(sources);
    return net;
}

/* ---- the file ----------------------------------------------------------------------------------- */
static at_net *load(keras_file *f, at_model_info *info, at_error *err)
{
    if (f->own)
        return load_own(f, info, err);
    if (f->config)
        return load_foreign(f, info, err);
    at_fail(err, AT_EINPUT,
            "%s: weights alone: 'atoll export %s --model NAME' makes a model of them", f->path,
            f->path);
    return NULL;
}

/* Hands over what was read, or the reason why not. */
static at_net *finish(keras_file *f, at_net *net, at_model_info *read, at_model_info *info,
                      at_error *mine, at_error *err)
{
    keras_file_close(f);
    if (!net)
        at_fail(err, mine->code, "%s", mine->message);
    if (net && info)
        *info = *read;
    else
        at_model_info_fini(read);
    return net;
}

at_net *at_model_load(const char *path, at_model_info *info, at_error *err)
{
    keras_file f;
    at_error mine = {0};
    at_model_info read = {0};
    at_net *net = keras_file_open(&f, path, &mine) == AT_OK ? load(&f, &read, &mine) : NULL;
    return finish(&f, net, &read, info, &mine, err);
}

/* The named model without auxiliary classifiers, of which Keras's files know nothing. */
static at_net *plain_model(const char *model, const at_model_spec *spec, at_error *err)
{
    at_graph *graph = at_model_graph(model, spec, err), *plain = NULL;
    at_net *whole = graph ? resolve(graph, err) : NULL, *net = NULL;
    bool *used = whole ? calloc(whole->row_count, sizeof *used) : NULL;
    if (used) {
        keras_mark_used(whole, used);
        plain = keras_used_rows(whole, used);
        net = plain ? resolve(plain, err) : NULL;
    }
    if (whole && !plain)
        at_nomem(err);
    at_graph_free(plain);
    free(used);
    at_net_free(whole);
    at_graph_free(graph);
    return net;
}

at_net *at_model_load_weights(const char *path, const char *model, const at_model_spec *spec,
                              at_model_info *info, at_error *err)
{
    keras_file f = {0};
    at_error mine = {0};
    at_model_info read = {0};
    at_net *net = plain_model(model, spec, &mine);
    if (net &&
        (keras_file_open(&f, path, &mine) != AT_OK || read_weights(&f, net, &mine) != AT_OK ||
         number_classes(net, model, &read, &mine) != AT_OK)) {
        at_net_free(net);
        net = NULL;
    }
    return finish(&f, net, &read, info, &mine, err);
}
