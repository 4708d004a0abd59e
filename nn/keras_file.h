/* SPDX-License-Identifier: Apache-2.0
 * keras_file: a model file of any form, opened: what it says of itself, and where each Keras
 * layer's weights lie in it. The form is found in the bytes, never in the name.
 *
 *     keras_file f;
 *     if (keras_file_open(&f, path, err) == AT_OK)
 *         ... f.own, f.config, keras_file_take() ...
 *     keras_file_close(&f);
 */
#ifndef NN_KERAS_FILE_H
#define NN_KERAS_FILE_H

#include "h5.h"
#include "keras.h"

typedef struct keras_file {
    const char *path; /* borrowed */
    at_h5 *h;
    keras_layout layout;
    at_node *own;    /* as keras_own() made it; NULL: not of atoll */
    at_node *config; /* Keras's JSON of the model; NULL: weights alone */
    char *image;     /* what a .keras file keeps the weights in; NULL: the file itself */
    h5_names order;  /* of weights alone: the layers that have any */
} keras_file;

/* AT_EINPUT or AT_ENOENT, naming the path; close it even then. */
int keras_file_open(keras_file *f, const char *path, at_error *err);
void keras_file_close(keras_file *f);

/* Where a row's weights come from. */
typedef struct keras_source {
    size_t layer;               /* of the configuration */
    bool absent[KERAS_WEIGHTS]; /* Keras's layer is without it: its first value stands */
    /* A convolution padded unevenly is one with a larger window: its kernel begins at shift, and
     * `grown` rows and columns of the window are zero. */
    int64_t shift[2], grown[2];
    bool hwio; /* a convolution's kernel is never in the form of DepthwiseConv2D */
} keras_source;

/* Takes the weights of a row from the layer: each must be there, none beside, in its shape. While
 * the net has no buffers, only looks. config: the model's, as keras_config() or the file has it. */
int keras_file_take(keras_file *f, const at_node *config, const at_net *net, const nn_row *row,
                    const keras_source *source, at_error *err);
/* A weight at this place. */
int keras_file_read(keras_file *f, const char *place, const keras_weight *w,
                    const keras_source *source, at_error *err);

/* The k-th weight of a layer, a vector. */
int keras_file_statistic(keras_file *f, const at_node *config, size_t layer, size_t k, float *out,
                         size_t count, at_error *err);

/* ---- keras_zip.c -------------------------------------------------------------------------------- */
/* Whether the file begins as a zip archive does, and how many bytes its weights may unpack to. */
bool keras_is_zip(const char *path, size_t *limit);
/* Reads a member of a .keras file; NUL-terminated, malloc'd. AT_EINPUT: missing, damaged, or more
 * than limit bytes. */
int keras_zip_read(const char *path, const char *member, size_t limit, char **data, size_t *bytes,
                   at_error *err);

/* ---- keras_import.c ----------------------------------------------------------------------------- */
/* The rows of Keras's model, and where each one's weights come from ([rows], malloc'd). AT_EINPUT
 * names the layer that atoll has no rows for. */
at_graph *keras_import(keras_file *f, keras_source **sources, at_error *err);

#endif
