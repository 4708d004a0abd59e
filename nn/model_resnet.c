/* SPDX-License-Identifier: Apache-2.0
 * Residual networks: He et al., "Deep residual learning for image recognition", 2016, with
 * projections where the shape changes (option B). Rows are named as Keras Applications names its
 * layers.
 *
 * resnet18, resnet34, resnet50: torchvision's, with the stride in the 3x3 convolution: 11,689,512,
 * 21,797,672 and 25,557,032 parameters for 1,000 classes. Images smaller than 64x64 get the stem
 * that is usual for CIFAR: a 3x3 convolution of stride 1, no pooling.
 *
 * resnet50-v1: Keras Applications' ResNet50, weight for weight: the stride in the first 1x1
 * convolution, biases everywhere, its epsilon; the same small stem.
 *
 * resnet20, resnet56: the paper's networks for CIFAR, three stages of 16, 32 and 64 channels.
 */
#include "models.h"

enum { STAGES = 4 };

typedef struct resnet {
    int blocks[STAGES]; /* in each stage; 0: none */
    int width;          /* channels of the first stage; each next has twice as many */
    bool bottleneck;    /* 1x1, 3x3, 1x1 with four times the channels; else two 3x3 */
    bool keras;         /* resnet50-v1 */
    bool cifar;         /* the small stem for images of any size */
} resnet;

/* Convolution PREFIX<i>_conv and its normalisation. */
static void add_conv(nn_rows *r, const resnet *v, const char *i, int out, int k, int stride)
{
    char name[16];
    snprintf(name, sizeof name, "%s_conv", i);
    rows_add(r, name, "conv", "out=%d k=%d stride=%d pad=%d bias=%d", out, k, stride, k / 2,
             v->keras);
    snprintf(name, sizeof name, "%s_bn", i);
    if (v->keras)
        rows_add(r, name, "bn", "eps=1.001e-5 momentum=0.01");
    else
        rows_add(r, name, "bn", "eps=1e-5 momentum=0.1");
}

static void add_branch(nn_rows *r, const resnet *v, int width, int stride)
{
    if (!v->bottleneck) {
        add_conv(r, v, "1", width, 3, stride);
        rows_plain(r, "1_relu", "relu");
        add_conv(r, v, "2", width, 3, 1);
        return;
    }
    add_conv(r, v, "1", width, 1, v->keras ? stride : 1);
    rows_plain(r, "1_relu", "relu");
    add_conv(r, v, "2", width, 3, v->keras ? 1 : stride);
    rows_plain(r, "2_relu", "relu");
    add_conv(r, v, "3", 4 * width, 1, 1);
}

static void add_block(nn_rows *r, const resnet *v, int width, int stride, bool project)
{
    row_name data = r->last;
    if (project)
        add_conv(r, v, "0", v->bottleneck ? 4 * width : width, 1, stride);
    row_name shortcut = r->last;
    r->last = data;
    add_branch(r, v, width, stride);
    char both[2 * ROW_NAME];
    snprintf(both, sizeof both, "%s %s", shortcut.text, r->last.text);
    rows_join(r, "add", "add", both);
    rows_plain(r, "out", "relu");
}

static void add_stem(nn_rows *r, const resnet *v, bool small)
{
    add_conv(r, v, "conv1", v->width, small ? 3 : 7, small ? 1 : 2);
    rows_plain(r, "conv1_relu", "relu");
    if (!small)
        rows_add(r, "pool1_pool", "pool", "kind=max k=3 stride=2 pad=1");
}

static void emit(nn_rows *r, const void *variant)
{
    const resnet *v = variant;
    bool small = v->cifar || rows_smaller_side(r) < ROWS_FULL_SIZE;
    add_stem(r, v, small);
    for (int stage = 0; stage < STAGES && v->blocks[stage]; stage++) {
        for (int block = 0; block < v->blocks[stage]; block++) {
            bool first = block == 0;
            snprintf(r->prefix, sizeof r->prefix, "conv%d_block%d_", stage + 2, block + 1);
            add_block(r, v, v->width << stage, first && stage ? 2 : 1,
                      first && (stage || v->bottleneck));
        }
    }
    r->prefix[0] = '\0';
    rows_add(r, "avg_pool", "pool", "kind=avg k=global");
    rows_plain(r, "flatten", "flatten");
    rows_add(r, "predictions", "dense", "out=%d bias=1", r->spec->classes);
}

static const resnet resnet18 = {.blocks = {2, 2, 2, 2}, .width = 64};
static const resnet resnet34 = {.blocks = {3, 4, 6, 3}, .width = 64};
static const resnet resnet50 = {.blocks = {3, 4, 6, 3}, .width = 64, .bottleneck = true};
static const resnet resnet50_v1 = {
    .blocks = {3, 4, 6, 3}, .width = 64, .bottleneck = true, .keras = true};
static const resnet resnet20 = {.blocks = {3, 3, 3}, .width = 16, .cifar = true};
static const resnet resnet56 = {.blocks = {9, 9, 9}, .width = 16, .cifar = true};

#define CIFAR                                                                                      \
    {                                                                                              \
        .classes = 10, .channels = 3, .height = 32, .width = 32                                    \
    }
#define RESNET(x, text) .summary = text, .smallest = 4, .emit = emit, .variant = &x

const at_model at_models_resnet[] = {
    {.name = "resnet18", RESNET(resnet18, "8 residual blocks; 11.7 M parameters")},
    {.name = "resnet34", RESNET(resnet34, "16 residual blocks; 21.8 M parameters")},
    {.name = "resnet50", RESNET(resnet50, "16 residual bottlenecks; 25.6 M parameters")},
    {.name = "resnet50-v1", RESNET(resnet50_v1, "Keras Applications' ResNet50; 25.6 M parameters")},
    {.name = "resnet20",
     RESNET(resnet20, "the CIFAR network of 9 residual blocks; 0.27 M parameters"),
     .published = CIFAR},
    {.name = "resnet56",
     RESNET(resnet56, "the CIFAR network of 27 residual blocks; 0.86 M parameters"),
     .published = CIFAR},
    {0},
};
