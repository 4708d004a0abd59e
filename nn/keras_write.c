/* SPDX-License-Identifier: Apache-2.0
 * Model files. One HDF5 file is two things at once: a whole-model legacy file that Keras 2 and 3
 * load without any code of ours, and atoll's own model, from which predicting, evaluating and
 * serving need nothing else.
 *
 * Layout (format 1):
 *
 *     /                        attributes for Keras:
 *         keras_version        "2.15.0", whose form of JSON model_config has; Keras 3 reads it too
 *         backend              "tensorflow"
 *         model_config         JSON of a Functional model: from raw pixels 0..255 [N,H,W,C] to
 * softmax scores, with rescaling and normalisation as its first layers attributes for atoll:
 *         atoll_format         "1"; a reader refuses what it does not know
 *         atoll_version        of the program that wrote it
 *         atoll_model          "lenet"
 *         atoll_rows           the network's rows, a line a row: name | layer | inputs | attributes
 *         atoll_classes        JSON list of the class names, in the order of the scores
 *         atoll_training       JSON of what it was trained with; missing if unknown
 *         atoll_checksum       CRC-32C over weights, then moving statistics, in the rows' order; a
 * weight changed by hand needs this attribute deleted /model_weights           attributes
 * layer_names (every Keras layer in order), backend, keras_version /model_weights/LAYER attribute
 * weight_names: "LAYER/kernel", ...; an empty list where there are none
 *     /model_weights/LAYER/LAYER/kernel, bias, gamma, beta, moving_mean, moving_variance
 *                              float32, contiguous; kernels of convolutions are HWIO, of dense
 * layers (in, out) with rows in the order of a flattened (h,w,c) map
 *     /model_weights/top_level_model_weights    attribute weight_names: an empty list
 *
 * Text is of fixed length and UTF-8. Nothing carries a time, so equal trainings give equal files.
 */
#include <stdlib.h>
#include <string.h>

#include "h5.h"
#include "keras.h"

#define GROUP "model_weights"

static const char keras_version[] = "2.15.0", backend[] = "tensorflow";

/* ---- weights -----------------------------------------------------------------------------------
 */
static int write_weight(at_h5 *h, const keras_weight *w, at_error *err)
{
    size_t bad;
    if (keras_find_bad_value(w, &bad))
        return at_fail(err, AT_EFAIL,
                       "'%s/%s' has no usable value at %zu (%g): not a model to keep", w->layer,
                       w->name, bad, (double)w->data[bad]);
    float *values = malloc(w->count * sizeof *values);
    char *path = at_format(GROUP "/%s/%s/%s", w->layer, w->layer, w->name);
    int rc = values && path ? AT_OK : at_nomem(err);
    for (size_t i = 0; rc == AT_OK && i < w->count; i++)
        values[keras_index(w, i)] = w->data[i];
    if (rc == AT_OK)
        rc = at_h5_write_floats(h, path, values, w->ndims, w->dims, err);
    free(path);
    free(values);
    return rc;
}

/* The group of one Keras layer, which has the weights of the row of that name, if there is one. */
static int write_layer(at_h5 *h, const at_net *net, const char *layer, at_error *err)
{
    keras_weight weights[KERAS_WEIGHTS];
    char names[KERAS_WEIGHTS][256];
    const char *listed[KERAS_WEIGHTS];
    const nn_row *row = nn_net_row(net, layer);
    int n = row ? keras_row_weights(net, row, weights) : 0;
    char *group = at_format(GROUP "/%s", layer);
    int rc = group ? at_h5_make_group(h, group, err) : at_nomem(err);
    for (int i = 0; i < n && rc == AT_OK; i++) {
        snprintf(names[i], sizeof names[i], "%s/%s", layer, weights[i].name);
        listed[i] = names[i];
        rc = write_weight(h, &weights[i], err);
    }
    if (rc == AT_OK)
        rc = at_h5_attach_list(h, group, "weight_names", listed, (size_t)n, err);
    free(group);
    return rc;
}

static int write_layers(at_h5 *h, const at_net *net, const at_node *config, at_error *err)
{
    size_t n = keras_layer_count(config);
    const char **names = calloc(n, sizeof *names);
    if (!names)
        return at_nomem(err);
    int rc = at_h5_make_group(h, GROUP, err);
    for (size_t i = 0; i < n && rc == AT_OK; i++) {
        names[i] = keras_layer_name(config, i);
        rc = write_layer(h, net, names[i], err);
    }
    if (rc == AT_OK)
        rc = write_layer(h, net, "top_level_model_weights", err);
    if (rc == AT_OK)
        rc = at_h5_attach_list(h, GROUP, "layer_names", names, n, err);
    if (rc == AT_OK)
        rc = at_h5_attach_text(h, GROUP, "backend", backend, err);
    if (rc == AT_OK)
        rc = at_h5_attach_text(h, GROUP, "keras_version", keras_version, err);
    free(names);
    return rc;
}

/* ---- attributes
 * ---------------------------------------------------------------------------------- */
/* Takes text, which may be NULL for want of memory. */
static int write_own_text(at_h5 *h, const char *name, char *text, at_error *err)
{
    int rc = text ? at_h5_write_text(h, name, text, err) : at_nomem(err);
    free(text);
    return rc;
}

static char *print_classes(const at_model_info *info)
{
    at_node *list = at_node_new(AT_LIST);
    for (size_t i = 0; i < info->class_count; i++)
        at_node_add(list, at_node_new_string(info->classes[i]));
    char *text = at_node_count(list) == info->class_count ? at_json_print(list, false) : NULL;
    at_node_free(list);
    return text;
}

static int write_attributes(at_h5 *h, const at_net *net, const at_model_info *info, at_error *err)
{
    char checksum[9];
    keras_checksum(net, checksum);
    const struct {
        const char *name, *text;
    } plain[] = {
        {"keras_version", keras_version},
        {"backend", backend},
        {"atoll_format", "1"},
        {"atoll_version", ATOLL_VERSION},
        {"atoll_model", info->model},
        {"atoll_checksum", checksum},
    };
    int rc = AT_OK;
    for (size_t i = 0; i < sizeof plain / sizeof *plain && rc == AT_OK; i++)
        rc = at_h5_write_text(h, plain[i].name, plain[i].text, err);
    if (rc == AT_OK)
        rc = write_own_text(h, "atoll_rows", at_graph_print(net->graph), err);
    if (rc == AT_OK)
        rc = write_own_text(h, "atoll_classes", print_classes(info), err);
    if (rc == AT_OK && info->training)
        rc = write_own_text(h, "atoll_training", at_json_print(info->training, false), err);
    return rc;
}

/* ---- the file
 * -------------------------------------------------------------------------------------- */
static int write_file(const char *path, const at_net *net, const at_model_info *info,
                      const at_node *config, at_error *err)
{
    at_h5 *h = at_h5_create(path, err);
    if (!h)
        return err ? err->code : AT_EIO;
    int rc = write_attributes(h, net, info, err);
    if (rc == AT_OK)
        rc = write_own_text(h, "model_config", at_json_print(config, false), err);
    if (rc == AT_OK)
        rc = write_layers(h, net, config, err);
    int closed = at_h5_close(h, rc == AT_OK ? err : NULL);
    return rc == AT_OK ? closed : rc;
}

static int save(at_net *net, const at_model_info *info, const char *path, at_error *err)
{
    if (!info->model || (int)info->class_count != at_net_classes(net))
        return at_fail(err, AT_EUSAGE, "model '%s' has %zu class names for %d scores",
                       info->model ? info->model : "", info->class_count, at_net_classes(net));
    at_node *config = keras_config(net, info->model, err);
    if (!config)
        return err->code;
    at_atomic *file = at_atomic_open(path, err);
    int rc = file ? write_file(at_atomic_path(file), net, info, config, err) : err->code;
    at_node_free(config);
    if (file && rc != AT_OK)
        at_atomic_abort(file);
    return rc == AT_OK ? at_atomic_commit(file, err) : rc;
}

int at_model_save(at_net *net, const at_model_info *info, const char *path, at_error *err)
{
    at_error mine = {0};
    int rc = save(net, info, path, &mine);
    return rc == AT_OK ? rc : at_fail(err, rc, "saving %s: %s", path, mine.message);
}
