/* SPDX-License-Identifier: Apache-2.0
 * rescale: pixel * scale + offset, as Keras' Rescaling.
 */
#include "plan.h"

static const at_option attributes[] = {
    {"scale", AT_OPT_REAL, offsetof(nn_rescale_attrs, scale), "0.0039215686274509803",
     "what pixels are multiplied by", "X"},
    {"offset", AT_OPT_REAL, offsetof(nn_rescale_attrs, offset), "0", "what is added then", "X"},
    {0},
};

static int build(plan_op *op, at_error *err)
{
    const nn_rescale_attrs *a = op->row->attrs;
    float scale[NN_CHANNELS], offset[NN_CHANNELS];
    for (int c = 0; c < NN_CHANNELS; c++) {
        scale[c] = (float)a->scale;
        offset[c] = (float)a->offset;
    }
    return plan_pixels_build(op, scale, offset, err);
}

const at_layer at_layer_rescale = {
    .name = "rescale",
    .probes = {"scale=0.01 offset=-0.5"},
    .attributes = attributes,
    .attributes_bytes = sizeof(nn_rescale_attrs),
    .pixels = true,
    .infer = nn_same_shape,
    .build = build,
};
