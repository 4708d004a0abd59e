/* SPDX-License-Identifier: Apache-2.0
 * dnn_v3: oneDNN 3.x behind dnn_version.h.
 */
#include "dnn_version.h"

#include <stdint.h>

dnn_layout dnn_layout_new(int ndims, const dnnl_dims_t dims, dnnl_data_type_t type,
                          dnnl_format_tag_t tag)
{
    dnnl_memory_desc_t layout = NULL;
    return dnnl_memory_desc_create_with_tag(&layout, ndims, dims, type, tag) ? NULL : layout;
}

void dnn_layout_free(dnn_layout layout)
{
    if (layout)
        dnnl_memory_desc_destroy((dnnl_memory_desc_t)(uintptr_t)layout);
}

dnnl_status_t dnn_append_sum(dnnl_post_ops_t to)
{
    return dnnl_post_ops_append_sum(to, 1, 0, dnnl_data_type_undef);
}

dnnl_status_t dnn_append_eltwise(dnnl_post_ops_t to, dnnl_alg_kind_t algorithm, float alpha)
{
    return dnnl_post_ops_append_eltwise(to, algorithm, alpha, 0);
}

dnnl_status_t dnn_conv_desc(dnnl_primitive_desc_t *out, dnnl_engine_t engine,
                            dnn_direction direction, const dnn_layouts *l, const dnn_conv_window *w,
                            const_dnnl_primitive_attr_t attr, const_dnnl_primitive_desc_t hint)
{
    if (direction == DNN_BACKWARD_DATA)
        return dnnl_convolution_backward_data_primitive_desc_create(
            out, engine, w->algorithm, l->src, l->weights, l->dst, w->strides, w->dilation,
            w->padding, w->padding, hint, attr);
    if (direction == DNN_BACKWARD_WEIGHTS)
        return dnnl_convolution_backward_weights_primitive_desc_create(
            out, engine, w->algorithm, l->src, l->weights, l->bias, l->dst, w->strides, w->dilation,
            w->padding, w->padding, hint, attr);
    return dnnl_convolution_forward_primitive_desc_create(
        out, engine, dnnl_forward_training, w->algorithm, l->src, l->weights, l->bias, l->dst,
        w->strides, w->dilation, w->padding, w->padding, attr);
}

dnnl_status_t dnn_dense_desc(dnnl_primitive_desc_t *out, dnnl_engine_t engine,
                             dnn_direction direction, const dnn_layouts *l,
                             const_dnnl_primitive_attr_t attr, const_dnnl_primitive_desc_t hint)
{
    if (direction == DNN_BACKWARD_DATA)
        return dnnl_inner_product_backward_data_primitive_desc_create(
            out, engine, l->src, l->weights, l->dst, hint, attr);
    if (direction == DNN_BACKWARD_WEIGHTS)
        return dnnl_inner_product_backward_weights_primitive_desc_create(
            out, engine, l->src, l->weights, l->bias, l->dst, hint, attr);
    return dnnl_inner_product_forward_primitive_desc_create(
        out, engine, dnnl_forward_training, l->src, l->weights, l->bias, l->dst, attr);
}
