/* SPDX-License-Identifier: Apache-2.0
 * keras_import, inside: what the functions that read one Keras layer share.
 *
 *     static int import_flatten(importer *m, import_layer *l, at_error *err)
 *     {
 *         l->out = (nn_shape){.c = nn_elements(l->in), .h = 1, .w = 1, .vector = true};
 *         return import_row(m, l, "", "flatten", NULL, err, "%s", "");
 *     }
 *
 * A class of Keras is one such function and one row of the table in keras_import_layers.c.
 */
#ifndef NN_KERAS_IMPORT_H
#define NN_KERAS_IMPORT_H

#include "keras_file.h"

enum { IMPORT_NAME = 101, IMPORT_TEXT = 6000 };

typedef struct importer importer;
typedef struct import_layer import_layer;

typedef struct import_rule {
    const char *class;
    int (*import)(importer *m, import_layer *l, at_error *err);
    bool source; /* has no input */
    bool merges; /* may have several */
    bool window; /* may have a padding layer before it */
} import_rule;

/* A layer as it is read, and what those behind it need to know. */
struct import_layer {
    const char *name, *class; /* borrowed from the configuration */
    const at_node *config;
    const import_rule *rule;
    size_t index; /* in the importer's list */
    size_t from_count, from[NN_INPUTS];
    nn_shape in, out;
    char row[IMPORT_NAME];  /* the last row so far; "": none */
    const char *activation; /* that its last row is; NULL: none */
    bool nonnegative, softmax;
    bool
        scrambled; /* a map of more than a pixel, flattened: Keras has its values in another order */
    bool padded;   /* zeros of `pad` are still to come around what is read */
    int64_t pad[2][2]; /* of height and width: before, behind */
};

struct importer {
    keras_file *file;
    const at_node *root; /* its configuration */
    size_t ahead;        /* layers in the list below that the configuration is without */
    at_graph *graph;
    keras_source *sources; /* [most_rows] */
    size_t most_rows;
    import_layer *layers;
    size_t done;
    bool sequential;
};

/* Of height and width each. */
typedef struct import_window {
    int64_t k[2], stride[2], dilation[2], before[2], behind[2], out[2];
    bool same;
} import_window;

/* ---- keras_import.c ---------------------------------------------------------------------------- */
int import_refuse(const import_layer *l, at_error *err, const char *format, ...) AT_PRINTF(3, 4);
/* A row named after the layer; it reads the layer's rows so far, or else what the layer reads. */
int import_row(importer *m, import_layer *l, const char *suffix, const char *layer,
               const keras_source *source, at_error *err, const char *attrs, ...) AT_PRINTF(7, 8);
int import_activation(importer *m, import_layer *l, const at_node *function, const char *suffix,
                      at_error *err);
/* The window of a convolution or pooling, with the padding that "same" or a layer before means. */
int import_window_of(const import_layer *l, const char *size_key, import_window *w, at_error *err);

/* ---- keras_import_layers.c --------------------------------------------------------------------- */
const import_rule *import_rule_for(const char *class); /* NULL: no such layer here */
/* The first row, for pixels of [batch,height,width,channels]. */
int import_pixels(importer *m, import_layer *l, const at_node *shape, at_error *err);

#endif
