/* SPDX-License-Identifier: Apache-2.0
 * dnn_version: what oneDNN 2.x and 3.x spell differently, in one form for dnn.c. CMake compiles
 * dnn_v2.c or dnn_v3.c, after the version that it found.
 *
 * 2.x has memory descriptors as values and makes a primitive's description in two steps, through a
 * description of the operation; 3.x has opaque memory descriptors and one step. The functions that
 * take a dnn_layout themselves (dnnl_memory_desc_equal, dnnl_memory_create, ...) are written alike
 * in both.
 */
#ifndef NN_DNN_VERSION_H
#define NN_DNN_VERSION_H

#include "dnn.h"

#include <oneapi/dnnl/dnnl.h>
#include <oneapi/dnnl/dnnl_debug.h>

#if DNNL_VERSION_MAJOR == 2
typedef const dnnl_memory_desc_t *dnn_layout;
#elif DNNL_VERSION_MAJOR == 3
typedef const_dnnl_memory_desc_t dnn_layout;
#else
#error "nn/ speaks oneDNN 2.x and 3.x"
#endif

/* A tensor's or a filter's dimensions, type and order in memory. NULL: out of memory. */
dnn_layout dnn_layout_new(int ndims, const dnnl_dims_t dims, dnnl_data_type_t type,
                          dnnl_format_tag_t tag);
void dnn_layout_free(dnn_layout layout); /* takes NULL */

/* What a convolution or a fully connected layer works on. */
typedef struct dnn_layouts {
    dnn_layout src, weights, bias, dst; /* bias NULL: none */
} dnn_layouts;

typedef struct dnn_conv_window {
    dnnl_alg_kind_t algorithm;
    dnnl_dims_t strides, dilation, padding; /* dilation 0: neighbours */
} dnn_conv_window;

/* What forward does with its result before it writes it: adds dst to it; an activation. */
dnnl_status_t dnn_append_sum(dnnl_post_ops_t to);
dnnl_status_t dnn_append_eltwise(dnnl_post_ops_t to, dnnl_alg_kind_t algorithm, float alpha);

/* The descriptions of primitives; `hint` is the forward one, NULL where that is the direction. */
dnnl_status_t dnn_conv_desc(dnnl_primitive_desc_t *out, dnnl_engine_t engine,
                            dnn_direction direction, const dnn_layouts *layouts,
                            const dnn_conv_window *window, const_dnnl_primitive_attr_t attr,
                            const_dnnl_primitive_desc_t hint);
dnnl_status_t dnn_dense_desc(dnnl_primitive_desc_t *out, dnnl_engine_t engine,
                             dnn_direction direction, const dnn_layouts *layouts,
                             const_dnnl_primitive_attr_t attr, const_dnnl_primitive_desc_t hint);

#endif
