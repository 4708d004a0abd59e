/* SPDX-License-Identifier: Apache-2.0
 * onnx: building an ONNX graph (opset 17) out of protobuf-c's structs. onnx_write.c has the model
 * and the file, onnx_nodes.c what each layer becomes.
 *
 *     Onnx__NodeProto *node = onnx_node(x, "Conv", out, 2, (const char *[]){in, kernel});
 *     onnx_ints(x, node, "strides", 2, (int64_t[]){2, 2});
 *
 * What is built lives in blocks that onnx_fini frees together; tensors borrow the net's memory.
 * Nothing here fails one by one: want of memory sets x->failed, and a NULL node is let pass.
 */
#ifndef NN_ONNX_H
#define NN_ONNX_H

#include "internal.h"

#include <onnx.pb-c.h>

enum { ONNX_OPSET = 17, ONNX_IR_VERSION = 8 };

typedef struct onnx {
    Onnx__ModelProto model;
    Onnx__GraphProto graph;
    void **blocks;
    size_t block_count, block_capacity;
    bool failed;
} onnx;

/* ---- onnx_build.c ---------------------------------------------------------------------------- */
void onnx_init(onnx *x);
void onnx_fini(onnx *x);
void *onnx_alloc(onnx *x, size_t bytes);                           /* zeroed; NULL: failed */
char *onnx_text(onnx *x, const char *format, ...) AT_PRINTF(2, 3); /* NULL: failed */
/* A node with one output, which has the node's name. */
Onnx__NodeProto *onnx_node(onnx *x, const char *op, const char *out, int inputs,
                           const char *const *in);
void onnx_int(onnx *x, Onnx__NodeProto *node, const char *name, int64_t value);
void onnx_ints(onnx *x, Onnx__NodeProto *node, const char *name, size_t n, const int64_t *values);
void onnx_float(onnx *x, Onnx__NodeProto *node, const char *name, double value);
/* A constant by that name; borrows the data. Returns the name. */
const char *onnx_floats(onnx *x, const char *name, size_t ndims, const int64_t *dims,
                        const float *data);
const char *onnx_int64s(onnx *x, const char *name, size_t n, const int64_t *values); /* copies */
const char *onnx_number(onnx *x, const char *name, double value); /* a constant without dims */
/* A value of the graph's, fp32 [N,...]: the first dimension is free. */
Onnx__ValueInfoProto *onnx_value(onnx *x, const char *name, size_t ndims, const int64_t *dims);
void onnx_metadata(onnx *x, const char *key, const char *value); /* copies */

/* ---- onnx_nodes.c ---------------------------------------------------------------------------- */
/* The nodes of one row, from the tensors in[] to `out`. AT_EINPUT: ONNX has no form for it. */
int onnx_row(onnx *x, const at_net *net, const nn_row *row, const char *const *in, const char *out,
             at_error *err);
bool onnx_knows(const at_layer *layer);

#endif
