/* SPDX-License-Identifier: Apache-2.0
 * dnn_v2: oneDNN 2.x behind dnn_version.h.
 */
#include "dnn_version.h"

#include <stdint.h>
#include <stdlib.h>

dnn_layout dnn_layout_new(int ndims, const dnnl_dims_t dims, dnnl_data_type_t type,
                          dnnl_format_tag_t tag)
{
    dnnl_memory_desc_t *layout = malloc(sizeof *layout);
    if (layout && dnnl_memory_desc_init_by_tag(layout, ndims, dims, type, tag)) {
        free(layout);
        return NULL;
    }
    return layout;
}

void dnn_layout_free(dnn_layout layout)
{
    free((void *)(uintptr_t)layout);
}

dnnl_status_t dnn_append_sum(dnnl_post_ops_t to)
{
    return dnnl_post_ops_append_sum(to, 1);
}

dnnl_status_t dnn_append_eltwise(dnnl_post_ops_t to, dnnl_alg_kind_t algorithm, float alpha)
{
    return dnnl_post_ops_append_eltwise(to, 1, algorithm, alpha, 0);
}

dnnl_status_t dnn_conv_desc(dnnl_primitive_desc_t *out, dnnl_engine_t engine,
                            dnn_direction direction, const dnn_layouts *l, const dnn_conv_window *w,
                            const_dnnl_primitive_attr_t attr, const_dnnl_primitive_desc_t hint)
{
    dnnl_convolution_desc_t op;
    dnnl_status_t status = dnnl_success;
    if (direction == DNN_BACKWARD_DATA)
        status = dnnl_dilated_convolution_backward_data_desc_init(
            &op, w->algorithm, l->src, l->weights, l->dst, w->strides, w->dilation, w->padding,
            w->padding);
    else if (direction == DNN_BACKWARD_WEIGHTS)
        status = dnnl_dilated_convolution_backward_weights_desc_init(
            &op, w->algorithm, l->src, l->weights, l->bias, l->dst, w->strides, w->dilation,
            w->padding, w->padding);
    else
        status = dnnl_dilated_convolution_forward_desc_init(
            &op, dnnl_forward_training, w->algorithm, l->src, l->weights, l->bias, l->dst,
            w->strides, w->dilation, w->padding, w->padding);
    return status ? status : dnnl_primitive_desc_create(out, &op, attr, engine, hint);
}

dnnl_status_t dnn_dense_desc(dnnl_primitive_desc_t *out, dnnl_engine_t engine,
                             dnn_direction direction, const dnn_layouts *l,
                             const_dnnl_primitive_attr_t attr, const_dnnl_primitive_desc_t hint)
{
    dnnl_inner_product_desc_t op;
    dnnl_status_t status = dnnl_success;
    if (direction == DNN_BACKWARD_DATA)
        status = dnnl_inner_product_backward_data_desc_init(&op, l->src, l->weights, l->dst);
    else if (direction == DNN_BACKWARD_WEIGHTS)
        status =
            dnnl_inner_product_backward_weights_desc_init(&op, l->src, l->weights, l->bias, l->dst);
    else
        status = dnnl_inner_product_forward_desc_init(&op, dnnl_forward_training, l->src,
                                                      l->weights, l->bias, l->dst);
    return status ? status : dnnl_primitive_desc_create(out, &op, attr, engine, hint);
}
