/* SPDX-License-Identifier: Apache-2.0
 * transfer: the weights in a file of ours or of Keras, as a list that transfer.c matches with rows.
 *
 *     transfer_file *f = transfer_open(path, &err);
 *     const transfer_layer *l = transfer_find(f, "block1_conv1");
 *     transfer_read(f, &l->weights[0], values, count, &err);
 *
 * Whatever the layout of the file, a layer is a name and its weights in Keras's order.
 */
#ifndef NN_TRANSFER_H
#define NN_TRANSFER_H

#include "keras.h"

enum { TRANSFER_DIMS = 4 };
typedef struct transfer_weight {
    char *path; /* of the dataset */
    char *name; /* "kernel"; "" where the file gives only the order */
    int ndims;  /* -1: not float32, or worse: reading it says what */
    int64_t dims[TRANSFER_DIMS];
    keras_weight *own; /* of a model of ours; NULL: it lies in the file */
} transfer_weight;

typedef struct transfer_layer {
    char *name;
    size_t count;
    transfer_weight *weights;
} transfer_layer;

typedef struct transfer_file transfer_file;
/* AT_EINPUT: no file, not HDF5, or none of the layouts. */
transfer_file *transfer_open(const char *path, at_error *err);
void transfer_close(transfer_file *f);
const char *transfer_layout(const transfer_file *f); /* "atoll", "keras legacy", "keras 3" */
/* Whether it was made by atoll, perhaps trained on by Keras: its kernels are in RGB. */
bool transfer_is_rgb(const transfer_file *f);
/* Those with weights, in the file's order. */
size_t transfer_layers(const transfer_file *f);
const transfer_layer *transfer_layer_at(const transfer_file *f, size_t i);
const transfer_layer *transfer_find(const transfer_file *f, const char *name); /* NULL: none */
/* Float values of the dataset in Keras's order; count is its elements. */
int transfer_read(transfer_file *f, const transfer_weight *w, float *values, size_t count,
                  at_error *err);

#endif
