/* SPDX-License-Identifier: Apache-2.0
 * keras_export: what the functions that write a row as Keras layers share.
 *
 *     at_node *config = export_config("c1");
 *     at_set_int(config, "filters", 64);
 *     export_layer(e, "Conv2D", config, "rescale");      // a layer "c1" that reads "rescale"
 *
 * Most rows become one layer of their name. A row that Keras has no layer for becomes several, of
 * which the one with weights has the row's name; the others are called ROW_something.
 */
#ifndef NN_KERAS_EXPORT_H
#define NN_KERAS_EXPORT_H

#include "keras.h"

typedef struct exporter {
    const at_net *net;
    at_node *layers;
    const char **output; /* [rows] the Keras layer that gives the row's output; NULL: none yet */
    bool *nonnegative;   /* [rows] no value below zero comes out */
} exporter;

/* ---- keras_config.c ---------------------------------------------------------------------------- */
at_node *export_config(const char *name); /* a layer's configuration, to be filled and added */
at_node *export_config_of(const nn_row *row, const char *suffix); /* of the layer ROW_suffix */
/* Adds a layer that reads the layer `from`, or several; takes config and returns its name. */
const char *export_layer(exporter *e, const char *class, at_node *config, const char *from);
const char *export_layer_of(exporter *e, const char *class, at_node *config,
                            const char *const *from, size_t n);
/* The layer that gives the row its k-th input. */
const char *export_input(const exporter *e, const nn_row *row, int k);
at_node *export_list(const int64_t *values, size_t n);
at_node *export_pair(int64_t a, int64_t b);
at_node *export_reals(const double *values, size_t n);
/* ROW_pad: zeros around the maps that `from` gives. */
const char *export_padding(exporter *e, const nn_row *row, const char *from, int64_t top,
                           int64_t bottom, int64_t left, int64_t right);

/* ---- a function a layer; returns the name of the Keras layer that gives its output ------------ */
const char *export_pool(exporter *e, const nn_row *row, at_error *err); /* keras_pool.c */
const char *export_lrn(exporter *e, const nn_row *row, at_error *err);  /* keras_lrn.c */

#endif
