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
    int64_t dims[4]; /* same */
    /* Where the input axis runs over a flattened map, the map: Keras flattens it (h,w,c), we
     * (c,h,w). A vector otherwise: [n,1,1], which both flatten alike. */
    nn_shape map;
} keras_weight;

/* The index in Keras's order of our i-th value. */
size_t keras_index(const keras_weight *w, size_t i);
/* A row's weights, in Keras's order: kernel, bias or gamma, beta, moving_mean, moving_variance.
 * Their number, at most KERAS_WEIGHTS. */
enum { KERAS_WEIGHTS = NN_PARAMS + NN_STATES };
int keras_row_weights(const at_net *net, const nn_row *row, keras_weight out[KERAS_WEIGHTS]);
/* The first value that is not a finite number, or no variance; false: all are well. */
bool keras_find_bad_value(const keras_weight *w, size_t *at);

/* The model as Keras's JSON: {"class_name": "Functional", "config": {...}}. AT_EINPUT names a row
 * that Keras has no layer for. Takes nothing. */
at_node *keras_config(const at_net *net, const char *model, at_error *err);
/* How many layers that has, and the i-th one's name. */
size_t keras_layer_count(const at_node *config);
const char *keras_layer_name(const at_node *config, size_t i);

/* Of the weights and moving statistics; eight hexadecimal digits. */
void keras_checksum(const at_net *net, char out[9]);

#endif
