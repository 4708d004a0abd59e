/* SPDX-License-Identifier: Apache-2.0
 * Model files in HDF5. One is two things at once: a file that Keras loads without any code of ours,
 * and atoll's own model, from which predicting, evaluating and serving need nothing else.
 *
 * The whole model (format keras-h5; RUN/model.h5), format 1:
 *
 *     /                        attributes for Keras:
 *         keras_version        "2.15.0", whose form of JSON model_config has; Keras 3 reads it too
 *         backend              "tensorflow"
 *         model_config         JSON of a Functional model: from raw pixels 0..255 [N,H,W,C] to
 *                              softmax scores, with rescaling and normalisation as first layers
 *         training_config      JSON: cross-entropy, accuracy and SGD, so that it loads compiled
 *                              attributes for atoll:
 *         atoll_format         "1"; a reader refuses what it does not know
 *         atoll_version        of the program that wrote it
 *         atoll_model          "lenet"
 *         atoll_rows           the network's rows, a line a row: name | layer | inputs | attributes
 *         atoll_classes        JSON list of the class names, in the order of the scores
 *         atoll_training       JSON of what it was trained with; missing if unknown
 *         atoll_fit            how pictures come to its size; missing if unknown: stretched
 *         atoll_checksum       CRC-32C over weights, then moving statistics, in the rows' order; a
 *                              weight changed by hand needs this attribute deleted
 *     /model_weights           attributes layer_names (every Keras layer in order), backend,
 *                              keras_version
 *     /model_weights/LAYER     attribute weight_names: "LAYER/kernel", ...; an empty list where
 *                              there are none
 *     /model_weights/LAYER/LAYER/kernel, bias, gamma, beta, moving_mean, moving_variance
 *                              float32, contiguous; kernels of convolutions are HWIO, of dense
 *                              layers (in, out) with rows in the order of a flattened (h,w,c) map
 *     /model_weights/top_level_model_weights    attribute weight_names: an empty list
 *     /atoll_auxiliary/ROW/kernel, ...          of auxiliary classifiers, which Keras's model is
 *                              written without; missing where there are none
 *
 * Weights alone carry atoll's attributes too. weights-h5 has the groups of /model_weights at the
 * root; keras-weights has, as Keras 3 names them by class and number,
 *
 *     /layers/conv2d_1/vars/0, 1, ...      attribute name of vars: the layer's
 *
 * Text is of fixed length and UTF-8. Nothing carries a time, so equal trainings give equal files.
 */
#include <stdlib.h>
#include <string.h>

#include "h5.h"
#include "keras.h"

#define GROUP "model_weights"

static const char keras_version[] = "2.15.0", backend[] = "tensorflow";

/* ---- weights -------------------------------------------------------------------------------- */
/* Takes path, which may be NULL for want of memory. */
static int write_weight(at_h5 *h, const keras_weight *w, char *path, at_error *err)
{
    size_t bad;
    float *values = malloc(w->count * sizeof *values);
    int rc = values && path ? AT_OK : at_nomem(err);
    if (rc == AT_OK && keras_find_bad_value(w, &bad))
        rc = at_fail(err, AT_EFAIL, "'%s/%s' has no usable value at %zu (%g): not a model to keep",
                     w->layer, w->name, bad, (double)w->data[bad]);
    if (rc == AT_OK)
        keras_give(w, values);
    if (rc == AT_OK)
        rc = at_h5_write_floats(h, path, values, w->ndims, w->dims, err);
    free(path);
    free(values);
    return rc;
}

/* The group of one Keras layer, which has the weights of the row of that name, if there is one. */
static int write_legacy_layer(at_h5 *h, const at_net *net, const char *prefix, const char *layer,
                              at_error *err)
{
    keras_weight weights[KERAS_WEIGHTS];
    char names[KERAS_WEIGHTS][256];
    const char *listed[KERAS_WEIGHTS];
    const nn_row *row = nn_net_row(net, layer);
    int n = row ? keras_row_weights(net, row, weights) : 0;
    char *group = at_format("%s%s", prefix, layer);
    int rc = group ? at_h5_make_group(h, group, err) : at_nomem(err);
    for (int i = 0; i < n && rc == AT_OK; i++) {
        snprintf(names[i], sizeof names[i], "%s/%s", layer, weights[i].name);
        listed[i] = names[i];
        rc = write_weight(h, &weights[i], at_format("%s/%s", group, names[i]), err);
    }
    if (rc == AT_OK)
        rc = at_h5_attach_list(h, group, "weight_names", listed, (size_t)n, err);
    free(group);
    return rc;
}

static int write_legacy(at_h5 *h, const at_net *net, const at_node *config, const char *top,
                        at_error *err)
{
    size_t n = keras_layer_count(config);
    const char **names = calloc(n + 1, sizeof *names);
    const char *prefix = strcmp(top, "/") == 0 ? "" : GROUP "/";
    if (!names)
        return at_nomem(err);
    int rc = *prefix ? at_h5_make_group(h, top, err) : AT_OK;
    for (size_t i = 0; i < n && rc == AT_OK; i++) {
        names[i] = keras_layer_name(config, i);
        rc = write_legacy_layer(h, net, prefix, names[i], err);
    }
    if (rc == AT_OK)
        rc = write_legacy_layer(h, net, prefix, "top_level_model_weights", err);
    if (rc == AT_OK)
        rc = at_h5_attach_list(h, top, "layer_names", names, n, err);
    if (rc == AT_OK)
        rc = at_h5_attach_text(h, top, "backend", backend, err);
    if (rc == AT_OK)
        rc = at_h5_attach_text(h, top, "keras_version", keras_version, err);
    free(names);
    return rc;
}

static int write_vars(at_h5 *h, const at_net *net, const at_node *config, size_t layer,
                      at_error *err)
{
    keras_weight weights[KERAS_WEIGHTS];
    const char *name = keras_layer_name(config, layer);
    const nn_row *row = nn_net_row(net, name);
    int n = row ? keras_row_weights(net, row, weights) : 0;
    char *group = keras_layer_group(config, layer),
         *vars = at_format("%s/vars", group ? group : "");
    int rc = group && vars ? at_h5_make_group(h, vars, err) : at_nomem(err);
    if (rc == AT_OK)
        rc = at_h5_attach_text(h, vars, "name", name, err);
    for (int i = 0; i < n && rc == AT_OK; i++)
        rc = write_weight(h, &weights[i], at_format("%s/%d", vars, i), err);
    free(vars);
    free(group);
    return rc;
}

/* Where Keras's model does not have them: rows that do not lead to the scores. */
static int write_auxiliary(at_h5 *h, const at_net *net, at_error *err)
{
    bool *used = calloc(net->row_count, sizeof *used);
    int rc = used ? AT_OK : at_nomem(err);
    if (used)
        keras_mark_used(net, used);
    for (size_t i = 0; i < net->row_count && rc == AT_OK; i++) {
        keras_weight weights[KERAS_WEIGHTS];
        int n = used[i] ? 0 : keras_row_weights(net, &net->rows[i], weights);
        for (int k = 0; k < n && rc == AT_OK; k++)
            rc = write_weight(
                h, &weights[k],
                at_format(KERAS_AUXILIARY "/%s/%s", weights[k].layer, weights[k].name), err);
    }
    free(used);
    return rc;
}

int keras_write_weights(at_h5 *h, const at_net *net, const at_node *config, keras_layout layout,
                        at_error *err)
{
    if (layout != KERAS_VARS)
        return write_legacy(h, net, config, layout == KERAS_WHOLE ? GROUP : "/", err);
    int rc = at_h5_make_group(h, "vars", err);
    for (size_t i = 0; i < keras_layer_count(config) && rc == AT_OK; i++)
        rc = write_vars(h, net, config, i, err);
    return rc;
}

/* ---- attributes ----------------------------------------------------------------------------- */
/* Takes text, which may be NULL for want of memory. */
static int write_text(at_h5 *h, const char *name, char *text, at_error *err)
{
    int rc = text ? at_h5_write_text(h, name, text, err) : at_nomem(err);
    free(text);
    return rc;
}

at_node *keras_own(const at_net *net, const at_model_info *info)
{
    char checksum[9], *rows = at_graph_print(net->graph);
    at_node *own = at_node_new(AT_MAP), *classes = at_node_new(AT_LIST);
    keras_checksum(net, checksum);
    at_set_string(own, "atoll_format", "1");
    at_set_string(own, "atoll_version", ATOLL_VERSION);
    at_set_string(own, "atoll_model", info->model);
    at_set_string(own, "atoll_checksum", checksum);
    at_set_string(own, "atoll_rows", rows);
    for (size_t i = 0; i < info->class_count; i++)
        at_node_add(classes, at_node_new_string(info->classes[i]));
    at_node_set(own, "atoll_classes", classes);
    if (info->training)
        at_node_set(own, "atoll_training", at_node_copy(info->training));
    if (info->fit)
        at_set_string(own, "atoll_fit", info->fit);
    size_t items = 6 + (info->training ? 1u : 0u) + (info->fit ? 1u : 0u);
    bool whole = rows && at_node_count(own) == items && at_node_count(classes) == info->class_count;
    free(rows);
    if (whole)
        return own;
    at_node_free(own);
    return NULL;
}

int keras_write_own(at_h5 *h, const at_net *net, const at_model_info *info, at_error *err)
{
    at_node *own = keras_own(net, info);
    int rc = own ? AT_OK : at_nomem(err);
    for (size_t i = 0; i < at_node_count(own) && rc == AT_OK; i++) {
        const at_node *item = at_node_at(own, i);
        bool text = at_node_kind(item) == AT_STRING;
        rc = write_text(h, at_node_key(own, i),
                        text ? strdup(at_node_string(item, "")) : at_json_print(item, false), err);
    }
    at_node_free(own);
    return rc;
}

/* ---- files ---------------------------------------------------------------------------------- */
static int write_head(at_h5 *h, const at_model_info *info, const at_node *config, at_error *err)
{
    at_node *training = keras_training(info->training);
    int rc = at_h5_write_text(h, "keras_version", keras_version, err);
    if (rc == AT_OK)
        rc = at_h5_write_text(h, "backend", backend, err);
    if (rc == AT_OK)
        rc = write_text(h, "model_config", at_json_print(config, false), err);
    if (rc == AT_OK)
        rc = write_text(h, "training_config", at_json_print(training, false), err);
    at_node_free(training);
    return rc;
}

static int write_file(const char *path, const at_net *net, const at_model_info *info,
                      const at_node *config, keras_layout layout, at_error *err)
{
    at_h5 *h = at_h5_create(path, err);
    if (!h)
        return err->code;
    int rc = keras_write_own(h, net, info, err);
    if (rc == AT_OK && layout == KERAS_WHOLE)
        rc = write_head(h, info, config, err);
    if (rc == AT_OK)
        rc = keras_write_weights(h, net, config, layout, err);
    if (rc == AT_OK && layout == KERAS_WHOLE)
        rc = write_auxiliary(h, net, err);
    int closed = at_h5_close(h, rc == AT_OK ? err : NULL);
    return rc == AT_OK ? closed : rc;
}

static int save(const at_net *net, const at_model_info *info, const char *path, keras_layout layout,
                at_error *err)
{
    if (!info->model || (int)info->class_count != at_net_classes(net))
        return at_fail(err, AT_EUSAGE, "model '%s' has %zu class names for %d scores",
                       info->model ? info->model : "", info->class_count, at_net_classes(net));
    at_node *config = keras_config(net, info->model, err);
    if (!config)
        return err->code;
    at_atomic *file = at_atomic_open(path, err);
    int rc = file ? write_file(at_atomic_path(file), net, info, config, layout, err) : err->code;
    at_node_free(config);
    if (file && rc != AT_OK)
        at_atomic_abort(file);
    return rc == AT_OK ? at_atomic_commit(file, err) : rc;
}

static int save_as(const at_net *net, const at_model_info *info, const char *path,
                   keras_layout layout, at_error *err)
{
    at_error mine = {0};
    int rc = save(net, info, path, layout, &mine);
    return rc == AT_OK ? rc : at_fail(err, rc, "saving %s: %s", path, mine.message);
}

int at_model_savable(const at_net *net, at_error *err)
{
    at_node *config = keras_config(net, "", err);
    at_node_free(config);
    return config ? AT_OK : AT_EINPUT;
}

int at_model_save(at_net *net, const at_model_info *info, const char *path, at_error *err)
{
    return save_as(net, info, path, KERAS_WHOLE, err);
}

int keras_weights_save(at_net *net, const at_model_info *info, const char *path, at_error *err)
{
    return save_as(net, info, path, KERAS_LEGACY_WEIGHTS, err);
}

int keras_vars_save(at_net *net, const at_model_info *info, const char *path, at_error *err)
{
    return save_as(net, info, path, KERAS_VARS, err);
}
