/* SPDX-License-Identifier: Apache-2.0
 * googlenet: Szegedy et al., "Going deeper with convolutions", 2015, table 1 and figure 3: nine
 * inception modules with true 5x5 branches (torchvision has 3x3 there), local response normalisation
 * in the stem, no batch normalisation, and both auxiliary classifiers, whose losses count 0.3 and
 * which inference leaves out. 13,378,280 parameters for 1,000 classes on 3x224x224, of which
 * 6,998,552 are the main branch's.
 *
 * An auxiliary classifier averages the paper's 14x14 over 5x5 windows of stride 3, any other plane
 * that is larger than 4x4 over as many windows as make 4x4.
 *
 * Images smaller than 64x64 get a stem of 3x3 convolutions of stride 1 without pooling.
 */
#include "models.h"

typedef struct inception {
    const char *name;
    int one, three_reduce, three, five_reduce, five, pool; /* channels */
    int pooled;                                            /* a pooling comes before */
    const char *auxiliary;                                 /* a classifier branches off behind */
} inception;

static const inception modules[] = {
    {"3a", 64, 96, 128, 16, 32, 32, 0, NULL},     {"3b", 128, 128, 192, 32, 96, 64, 0, NULL},
    {"4a", 192, 96, 208, 16, 48, 64, 1, "aux1_"}, {"4b", 160, 112, 224, 24, 64, 64, 0, NULL},
    {"4c", 128, 128, 256, 24, 64, 64, 0, NULL},   {"4d", 112, 144, 288, 32, 64, 64, 0, "aux2_"},
    {"4e", 256, 160, 320, 32, 128, 128, 0, NULL}, {"5a", 256, 160, 320, 32, 128, 128, 1, NULL},
    {"5b", 384, 192, 384, 48, 128, 128, 0, NULL},
};

/* Halves the plane, rounding down: a last window may be cut off. */
static void add_pool(nn_rows *r, const char *name)
{
    rows_add(r, name, "pool", "kind=max k=3 stride=2 ceil=1");
}

/* Convolution PREFIX+name and its ReLU. */
static void add_conv(nn_rows *r, const char *name, int out, int k, int stride)
{
    char relu[32];
    rows_add(r, name, "conv", "out=%d k=%d stride=%d pad=%d bias=1", out, k, stride, k / 2);
    snprintf(relu, sizeof relu, "%s_relu", name);
    rows_plain(r, relu, "relu");
}

static void add_norm(nn_rows *r, const char *name)
{
    rows_add(r, name, "lrn", "size=5 alpha=1e-4 beta=0.75 k=1");
}

static void add_stem(nn_rows *r, bool small)
{
    add_conv(r, "conv1", 64, small ? 3 : 7, small ? 1 : 2);
    if (!small)
        add_pool(r, "pool1");
    add_norm(r, "norm1");
    add_conv(r, "conv2_reduce", 64, 1, 1);
    add_conv(r, "conv2", 192, 3, 1);
    add_norm(r, "norm2");
    if (!small)
        add_pool(r, "pool2");
}

static void add_inception(nn_rows *r, const inception *m)
{
    row_name data = r->last, ends[4];
    snprintf(r->prefix, sizeof r->prefix, "inception%s_", m->name);
    add_conv(r, "1x1", m->one, 1, 1);
    ends[0] = r->last;
    r->last = data;
    add_conv(r, "3x3_reduce", m->three_reduce, 1, 1);
    add_conv(r, "3x3", m->three, 3, 1);
    ends[1] = r->last;
    r->last = data;
    add_conv(r, "5x5_reduce", m->five_reduce, 1, 1);
    add_conv(r, "5x5", m->five, 5, 1);
    ends[2] = r->last;
    r->last = data;
    rows_add(r, "pool", "pool", "kind=max k=3 stride=1 pad=1");
    add_conv(r, "pool_proj", m->pool, 1, 1);
    ends[3] = r->last;
    char all[4 * ROW_NAME];
    snprintf(all, sizeof all, "%s %s %s %s", ends[0].text, ends[1].text, ends[2].text,
             ends[3].text);
    rows_join(r, "output", "concat", all);
    r->prefix[0] = '\0';
}

/* Beside the main branch, which goes on where it was. */
static void add_auxiliary(nn_rows *r, const char *prefix, int height, int width)
{
    row_name main_branch = r->last;
    snprintf(r->prefix, sizeof r->prefix, "%s", prefix);
    if (height == 14 && width == 14)
        rows_add(r, "pool", "pool", "kind=avg k=5 stride=3");
    else
        rows_shrink(r, height, width, 4);
    add_conv(r, "conv", 128, 1, 1);
    rows_plain(r, "flatten", "flatten");
    rows_add(r, "fc", "dense", "out=1024 bias=1");
    rows_plain(r, "fc_relu", "relu");
    rows_add(r, "drop", "dropout", "p=0.7");
    rows_add(r, "predictions", "dense", "out=%d bias=1", r->spec->classes);
    rows_add(r, "loss", "softmax_loss", "weight=0.3");
    r->prefix[0] = '\0';
    r->last = main_branch;
}

/* Of so many rows or columns, before the inception modules. */
static int behind_stem(int pixels, bool small)
{
    return small ? pixels : (pixels + 1) / 2 / 2 / 2;
}

static void emit(nn_rows *r, const void *variant)
{
    (void)variant;
    bool small = rows_smaller_side(r) < ROWS_FULL_SIZE;
    int height = behind_stem(r->spec->height, small), width = behind_stem(r->spec->width, small);
    add_stem(r, small);
    for (size_t i = 0; i < sizeof modules / sizeof *modules; i++) {
        const inception *m = &modules[i];
        char pool[] = "pool_";
        pool[4] = (char)(m->name[0] - 1);
        if (m->pooled)
            add_pool(r, pool);
        height >>= m->pooled;
        width >>= m->pooled;
        add_inception(r, m);
        if (m->auxiliary)
            add_auxiliary(r, m->auxiliary, height, width);
    }
    rows_add(r, "avg_pool", "pool", "kind=avg k=global");
    rows_plain(r, "flatten", "flatten");
    rows_add(r, "drop", "dropout", "p=0.4");
    rows_add(r, "predictions", "dense", "out=%d bias=1", r->spec->classes);
}

const at_model at_models_googlenet[] = {
    {.name = "googlenet",
     .summary = "nine inception modules, two auxiliary classifiers; 13.4 M parameters at 224",
     .smallest = 12,
     .emit = emit},
    {0},
};
