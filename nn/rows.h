/* SPDX-License-Identifier: Apache-2.0
 * rows: a model written down row by row, each reading the one before unless told otherwise.
 *
 *     snprintf(r->prefix, sizeof r->prefix, "block%d_", block);
 *     rows_add(r, "conv1", "conv", "out=%d k=3 pad=1", out);    // block1_conv1 reads r->last
 *     rows_plain(r, "relu1", "relu");                           // block1_relu1 reads block1_conv1
 *
 * A bad row is kept by the graph and reported by at_net_new, so nothing here fails.
 */
#ifndef NN_ROWS_H
#define NN_ROWS_H

#include <atoll/nn.h>

enum { ROW_NAME = 104 };

typedef struct row_name {
    char text[ROW_NAME];
} row_name;

typedef struct nn_rows {
    at_graph *graph;
    const at_model_spec *spec;
    char prefix[32]; /* of the names of rows that are added; "" at first */
    row_name last;   /* what the next row reads: at first the normalised pixels */
} nn_rows;

/* Adds PREFIX+name behind the last row, and is the last from now on. */
void rows_add(nn_rows *r, const char *name, const char *layer, const char *attrs, ...)
    AT_PRINTF(4, 5);
void rows_plain(nn_rows *r, const char *name, const char *layer); /* without attributes */
/* The same of several inputs, by their full names with blanks between. */
void rows_join(nn_rows *r, const char *name, const char *layer, const char *inputs);
int rows_smaller_side(const nn_rows *r); /* of the images */

/* ---- what several families do ------------------------------------------------------------------ */
enum { ROWS_FULL_SIZE = 64 }; /* smaller images get stems that keep more of their pixels */
/* Convolution PREFIX+convI of k x k with bias, reluI. */
void rows_conv_relu(nn_rows *r, int i, int out, int k, int stride, int pad);
/* Averages what is left of a plane down to most x most where it is more than that. */
void rows_shrink(nn_rows *r, int height, int width, int most);
/* fc1 and fc2: two layers of 4,096 with ReLU and dropout, as AlexNet and its heirs have them. */
void rows_hidden(nn_rows *r);
/* So many rows or columns give whole windows of k. */
int rows_behind(int pixels, int k, int stride);

#endif
