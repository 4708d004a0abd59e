/* SPDX-License-Identifier: Apache-2.0
 * vgg11, vgg13, vgg16, vgg19: Simonyan and Zisserman, "Very deep convolutional networks for
 * large-scale image recognition", 2015, configurations A, B, D and E; with "-bn" batch
 * normalisation between convolution and ReLU. Rows are named as Keras Applications names its layers.
 *
 * From 64x64 on it is torchvision's network: biases also before batch normalisation, two hidden
 * layers of 4,096 with dropout; 138,357,544 parameters for vgg16 with 1,000 classes on 3x224x224.
 * The five poolings leave 7x7 of 224x224; more is averaged down to that.
 *
 * Smaller images get the form that is usual for CIFAR: one linear layer behind the last pooling, no
 * dropout, no biases where batch normalisation follows. A block that begins with a single row or
 * column of pixels is not pooled, so 16x16 is the least.
 */
#include "models.h"

enum { BLOCKS = 5, LEFT = 7 };

typedef struct vgg {
    int convs[BLOCKS]; /* in each block */
    bool bn;
} vgg;

static bool is_small(const nn_rows *r)
{
    return rows_smaller_side(r) < ROWS_FULL_SIZE;
}

static void add_conv(nn_rows *r, const vgg *v, int i, int out)
{
    char name[16];
    snprintf(name, sizeof name, "conv%d", i);
    rows_add(r, name, "conv", "out=%d k=3 stride=1 pad=1 bias=%d", out, !(v->bn && is_small(r)));
    snprintf(name, sizeof name, "bn%d", i);
    if (v->bn)
        rows_add(r, name, "bn", "eps=1e-5 momentum=0.1");
    snprintf(name, sizeof name, "relu%d", i);
    rows_plain(r, name, "relu");
}

static void add_features(nn_rows *r, const vgg *v)
{
    static const int channels[BLOCKS] = {64, 128, 256, 512, 512};
    for (int block = 0; block < BLOCKS; block++) {
        snprintf(r->prefix, sizeof r->prefix, "block%d_", block + 1);
        for (int i = 1; i <= v->convs[block]; i++)
            add_conv(r, v, i, channels[block]);
        if (rows_smaller_side(r) >> block > 1)
            rows_add(r, "pool", "pool", "kind=max k=2 stride=2 pad=0");
    }
    r->prefix[0] = '\0';
}

static void emit(nn_rows *r, const void *variant)
{
    add_features(r, variant);
    if (!is_small(r))
        rows_shrink(r, r->spec->height >> BLOCKS, r->spec->width >> BLOCKS, LEFT);
    rows_plain(r, "flatten", "flatten");
    if (!is_small(r))
        rows_hidden(r);
    rows_add(r, "predictions", "dense", "out=%d bias=1", r->spec->classes);
}

static const vgg vgg11 = {{1, 1, 2, 2, 2}, false}, vgg11_bn = {{1, 1, 2, 2, 2}, true};
static const vgg vgg13 = {{2, 2, 2, 2, 2}, false}, vgg13_bn = {{2, 2, 2, 2, 2}, true};
static const vgg vgg16 = {{2, 2, 3, 3, 3}, false}, vgg16_bn = {{2, 2, 3, 3, 3}, true};
static const vgg vgg19 = {{2, 2, 4, 4, 4}, false}, vgg19_bn = {{2, 2, 4, 4, 4}, true};

#define VGG(x, text) .summary = text, .smallest = 16, .emit = emit, .variant = &x

const at_model at_models_vgg[] = {
    {.name = "vgg11", VGG(vgg11, "8 3x3 convolutions, 3 dense layers; 132.9 M parameters at 224")},
    {.name = "vgg11-bn", VGG(vgg11_bn, "vgg11 with batch normalisation")},
    {.name = "vgg13", VGG(vgg13, "10 3x3 convolutions, 3 dense layers; 133.0 M at 224")},
    {.name = "vgg13-bn", VGG(vgg13_bn, "vgg13 with batch normalisation")},
    {.name = "vgg16", VGG(vgg16, "13 3x3 convolutions, 3 dense layers; 138.4 M at 224")},
    {.name = "vgg16-bn", VGG(vgg16_bn, "vgg16 with batch normalisation; 14.7 M on 3x32x32")},
    {.name = "vgg19", VGG(vgg19, "16 3x3 convolutions, 3 dense layers; 143.7 M at 224")},
    {.name = "vgg19-bn", VGG(vgg19_bn, "vgg19 with batch normalisation")},
    {0},
};
