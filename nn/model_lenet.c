/* SPDX-License-Identifier: Apache-2.0
 * lenet: LeNet-5 (LeCun et al., "Gradient-based learning applied to document recognition", 1998)
 * with ReLU and max pooling: 61,706 parameters for ten classes on 1x32x32. A smaller image is
 * padded by 2 in the first convolution, as the paper pads its 28x28 digits to 32x32, which leaves
 * the number of parameters as it is.
 *
 * lenet-wide: the same plan with 32 and 64 channels, padding in both convolutions and one hidden
 * layer of 512, as frameworks' first examples have it.
 */
#include "models.h"

static void add_stage(nn_rows *r, int i, int out, int pad)
{
    char name[8];
    snprintf(name, sizeof name, "c%d", i);
    rows_add(r, name, "conv", "out=%d k=5 stride=1 pad=%d bias=1", out, pad);
    name[0] = 'r';
    rows_plain(r, name, "relu");
    name[0] = 'p';
    rows_add(r, name, "pool", "kind=max k=2 stride=2 pad=0");
}

static void add_hidden(nn_rows *r, int i, int out)
{
    char name[8];
    snprintf(name, sizeof name, "d%d", i);
    rows_add(r, name, "dense", "out=%d bias=1", out);
    snprintf(name, sizeof name, "r%d", i + 2);
    rows_plain(r, name, "relu");
}

static void emit_lenet(nn_rows *r, const void *variant)
{
    (void)variant;
    add_stage(r, 1, 6, rows_smaller_side(r) < 32 ? 2 : 0);
    add_stage(r, 2, 16, 0);
    rows_plain(r, "flat", "flatten");
    add_hidden(r, 1, 120);
    add_hidden(r, 2, 84);
    rows_add(r, "logits", "dense", "out=%d bias=1", r->spec->classes);
}

static void emit_wide(nn_rows *r, const void *variant)
{
    (void)variant;
    add_stage(r, 1, 32, 2);
    add_stage(r, 2, 64, 2);
    rows_plain(r, "flat", "flatten");
    add_hidden(r, 1, 512);
    rows_add(r, "logits", "dense", "out=%d bias=1", r->spec->classes);
}

const at_model at_models_lenet[] = {
    {.name = "lenet",
     .summary = "LeNet-5 with ReLU and max pooling; 61,706 parameters on 1x32x32 and 1x28x28",
     .published = {.classes = 10, .channels = 1, .height = 28, .width = 28},
     .smallest = 12,
     .emit = emit_lenet},
    {.name = "lenet-wide",
     .summary =
         "two 5x5 convolutions of 32 and 64 channels, 512 hidden; 2.2 M parameters on 3x32x32",
     .published = {.classes = 10, .channels = 3, .height = 32, .width = 32},
     .smallest = 4,
     .emit = emit_wide},
    {0},
};
