/* SPDX-License-Identifier: Apache-2.0
 * keras: how a net of ours looks to Keras. Writing (keras_write.c) and reading (keras_read.c) go by
 * the same two lists, layers and weights, so they cannot disagree.
 */
#ifndef NN_KERAS_H
#define NN_KERAS_H

#include "internal.h"

/* A weight as both sides see it. */
typedef struct keras_weight {
    const char *layer, *name; /* ours and Keras's: dataset model_weights/LAYER/LAYER/NAME */
    float *data;              /* ours, in the net; NULL while that has no buffers */
    size_t count;
    int ndims;       /* Keras's shape: convolution HWIO, dense (in, out), vectors */
    int64_t dims[4]; /* same; of depthwise convolution [KH,KW,I,O/I] */
    size_t inputs;   /* of a convolution: the channels that one output reads */
    /* Where the input axis runs over a flattened map, the map: Keras flattens it (h,w,c), we
     * (c,h,w). A vector otherwise: [n,1,1], which both flatten alike. */
    nn_shape map;
} keras_weight;

/* The index in Keras's order of our i-th value. */
size_t keras_index(const keras_weight *w, size_t i);
/* All w->count of them in Keras's order, values, into w->data, and back. */
void keras_take(const keras_weight *w, const float *values);
void keras_give(const keras_weight *w, float *values);
/* A row's weights, in Keras's order: kernel, bias or gamma, beta, moving_mean, moving_variance.
 * Their number, at most KERAS_WEIGHTS. */
enum { KERAS_WEIGHTS = NN_PARAMS + NN_STATES };
int keras_row_weights(const at_net *net, const nn_row *row, keras_weight out[KERAS_WEIGHTS]);
/* The first value that is not a finite number, or no variance; false: all are well. */
bool keras_find_bad_value(const keras_weight *w, size_t *at);

/* Whether Keras's DepthwiseConv2D is the layer for it. */
bool keras_is_depthwise(const nn_row *row);
/* Whether the row's k-th input, a vector, has the same order in Keras. */
bool keras_is_plain(const at_net *net, const nn_row *row, int k);
/* The rows that lead to the last one; the others are auxiliary classifiers. used: [rows], false. */
void keras_mark_used(const at_net *net, bool *used);

at_graph *keras_used_rows(const at_net *net, const bool *used); /* NULL: out of memory */

/* The model as Keras's JSON: {"class_name": "Functional", "config": {...}}. AT_EINPUT names a row
 * that Keras has no layer for. Takes nothing. */
at_node *keras_config(const at_net *net, const char *model, at_error *err);
/* keras_order.c: puts its layers into the order that Keras has them in; config is the inner one. */
int keras_sort_layers(at_node *config, at_error *err);
/* The file's training_config, with which Keras compiles the model; training as in at_model_info. */
at_node *keras_training(const at_node *training);
/* How many layers that has, and the i-th one's name. */
size_t keras_layer_count(const at_node *config);
const char *keras_layer_name(const at_node *config, size_t i);
/* Its group in Keras 3's files, "layers/conv2d_1"; malloc'd. */
char *keras_layer_group(const at_node *config, size_t i);

/* ---- keras_write.c -------------------------------------------------------------------------- */
#define KERAS_AUXILIARY "atoll_auxiliary"
/* Where a file keeps the weights: under model_weights, at its root, or by class and number. */
typedef enum { KERAS_WHOLE, KERAS_LEGACY_WEIGHTS, KERAS_VARS } keras_layout;
int keras_write_weights(at_h5 *h, const at_net *net, const at_node *config, keras_layout layout,
                        at_error *err);
/* Attributes of "/": what atoll needs to read the file back. */
int keras_write_own(at_h5 *h, const at_net *net, const at_model_info *info, at_error *err);
/* The same as a tree, for a .keras file's metadata.json. */
at_node *keras_own(const at_net *net, const at_model_info *info);
/* The rows of formats.c. */
int keras_weights_save(at_net *net, const at_model_info *info, const char *path, at_error *err);
int keras_vars_save(at_net *net, const at_model_info *info, const char *path, at_error *err);
int keras_archive_save(at_net *net, const at_model_info *info, const char *path, at_error *err);

/* Of the weights and moving statistics; eight hexadecimal digits. */
void keras_checksum(const at_net *net, char out[9]);

#endif
