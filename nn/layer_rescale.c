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

static void pixel(const nn_row *row, int64_t c, float *scale, float *offset)
{
    const nn_rescale_attrs *a = row->attrs;
    (void)c;
    *scale = (float)a->scale;
    *offset = (float)a->offset;
}

const at_layer at_layer_rescale = {
    .name = "rescale",
    .probes = {"scale=0.01 offset=-0.5"},
    .attributes = attributes,
    .attributes_bytes = sizeof(nn_rescale_attrs),
    .pixels = true,
    .infer = nn_same_shape,
    .pixel = pixel,
    .build = plan_pixels_build,
};
