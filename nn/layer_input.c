/* SPDX-License-Identifier: Apache-2.0
 * input: the first row: uint8 pixels [N,H,W,C] as at_plan_input gives them, 0..255.
 */
#include "plan.h"

static const at_option attributes[] = {
    {"channels", AT_OPT_INT, offsetof(nn_input_attrs, channels), "1", "channels of an image", "N",
     .min = 1, .max = NN_CHANNELS},
    {"height", AT_OPT_INT, offsetof(nn_input_attrs, height), "28", "rows of an image", "N",
     .min = 1, .max = 65535},
    {"width", AT_OPT_INT, offsetof(nn_input_attrs, width), "28", "columns of an image", "N",
     .min = 1, .max = 65535},
    {0},
};

static int infer(nn_row *row, at_error *err)
{
    const nn_input_attrs *a = row->attrs;
    (void)err;
    row->out = (nn_shape){.c = a->channels, .h = a->height, .w = a->width};
    return 0;
}

static void pixel(const nn_row *row, int64_t c, float *scale, float *offset)
{
    (void)row;
    (void)c;
    *scale = 1;
    *offset = 0;
}

const at_layer at_layer_input = {
    .name = "input",
    .probes = {"channels=3 height=5 width=6"},
    .attributes = attributes,
    .attributes_bytes = sizeof(nn_input_attrs),
    .pixels = true,
    .infer = infer,
    .pixel = pixel,
    .build = plan_pixels_build,
};
