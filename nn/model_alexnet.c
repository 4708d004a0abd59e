/* SPDX-License-Identifier: Apache-2.0
 * alexnet: Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural
 * networks", 2012, as one tower (Krizhevsky, "One weird trick for parallelizing convolutional neural
 * networks", 2014), which is torchvision's: 61,100,840 parameters for 1,000 classes on 3x224x224.
 * More than the 6x6 that are left of 224x224 is averaged down to that.
 *
 * Images smaller than 64x64 get a 5x5 convolution of stride 1 in front and one linear layer behind.
 */
#include "models.h"

enum { LEFT = 6 };

static void add_pool(nn_rows *r, const char *name)
{
    rows_add(r, name, "pool", "kind=max k=3 stride=2 pad=0");
}

/* Of so many rows or columns, behind the last pooling. */
static int left_of(int pixels, bool small)
{
    int left = small ? pixels : rows_behind(pixels + 4, 11, 4);
    for (int pool = 0; pool < 3; pool++)
        left = rows_behind(left, 3, 2);
    return left;
}

static void emit(nn_rows *r, const void *variant)
{
    (void)variant;
    bool small = rows_smaller_side(r) < ROWS_FULL_SIZE;
    rows_conv_relu(r, 1, 64, small ? 5 : 11, small ? 1 : 4, 2);
    add_pool(r, "pool1");
    rows_conv_relu(r, 2, 192, 5, 1, 2);
    add_pool(r, "pool2");
    rows_conv_relu(r, 3, 384, 3, 1, 1);
    rows_conv_relu(r, 4, 256, 3, 1, 1);
    rows_conv_relu(r, 5, 256, 3, 1, 1);
    add_pool(r, "pool5");
    rows_shrink(r, left_of(r->spec->height, small), left_of(r->spec->width, small), LEFT);
    rows_plain(r, "flatten", "flatten");
    if (!small)
        rows_hidden(r);
    rows_add(r, "predictions", "dense", "out=%d bias=1", r->spec->classes);
}

const at_model at_models_alexnet[] = {
    {.name = "alexnet",
     .summary = "AlexNet as one tower; 61.1 M parameters at 224",
     .smallest = 16,
     .emit = emit},
    {0},
};
