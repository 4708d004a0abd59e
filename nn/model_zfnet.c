/* SPDX-License-Identifier: Apache-2.0
 * zfnet: Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2014, figure 3:
 * AlexNet with 7x7 windows of stride 2 in front; 62,357,608 parameters for 1,000 classes on
 * 3x224x224. The first two poolings round up, and contrast is normalised behind them (LRN with
 * AlexNet's constants), which gives the paper's 110, 55, 26, 13 and 6 rows. More than 6x6 is
 * averaged down to that.
 *
 * Images smaller than 64x64 keep their size in both first convolutions, which have stride 1, and get
 * one linear layer behind.
 */
#include "models.h"

enum { LEFT = 6 };

static void add_pool_norm(nn_rows *r, int i)
{
    char name[8];
    snprintf(name, sizeof name, "pool%d", i);
    rows_add(r, name, "pool", "kind=max k=3 stride=2 ceil=1");
    snprintf(name, sizeof name, "norm%d", i);
    rows_add(r, name, "lrn", "size=5 alpha=1e-4 beta=0.75 k=2");
}

/* Of so many rows or columns, behind the last pooling. */
static int left_of(int pixels, bool small)
{
    int left = (small ? pixels : rows_behind(pixels + 2, 7, 2)) / 2; /* a pooling that rounds up */
    left = (small ? left : rows_behind(left, 5, 2)) / 2;
    return rows_behind(left, 3, 2);
}

static void emit(nn_rows *r, const void *variant)
{
    (void)variant;
    bool small = rows_smaller_side(r) < ROWS_FULL_SIZE;
    rows_conv_relu(r, 1, 96, 7, small ? 1 : 2, small ? 3 : 1);
    add_pool_norm(r, 1);
    rows_conv_relu(r, 2, 256, 5, small ? 1 : 2, small ? 2 : 0);
    add_pool_norm(r, 2);
    rows_conv_relu(r, 3, 384, 3, 1, 1);
    rows_conv_relu(r, 4, 384, 3, 1, 1);
    rows_conv_relu(r, 5, 256, 3, 1, 1);
    rows_add(r, "pool5", "pool", "kind=max k=3 stride=2 pad=0");
    rows_shrink(r, left_of(r->spec->height, small), left_of(r->spec->width, small), LEFT);
    rows_plain(r, "flatten", "flatten");
    if (!small)
        rows_hidden(r);
    rows_add(r, "predictions", "dense", "out=%d bias=1", r->spec->classes);
}

const at_model at_models_zfnet[] = {
    {.name = "zfnet", .summary = "ZF Net; 62.4 M parameters at 224", .smallest = 16, .emit = emit},
    {0},
};
