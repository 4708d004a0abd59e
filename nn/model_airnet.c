/* SPDX-License-Identifier: Apache-2.0
 * airnet: the small, fast CIFAR network of Keller Jordan's "airbench" (94 % on CIFAR-10): a 2x2
 * whitening convolution, three blocks of convolution, pooling, batch normalisation and GELU, and a
 * linear head without bias. 1.97 M parameters for ten classes on 3x32x32; batch normalisation
 * follows pooling, so it reads a quarter as much.
 */
#include "models.h"

/* A row named "<block>_<part>". */
static void add_part(at_graph *g, const char *block, const char *part, const char *layer,
                     const char *input, const char *attrs)
{
    char name[32], from[32];
    snprintf(name, sizeof name, "%s_%s", block, part);
    snprintf(from, sizeof from, "%s_%s", block, input);
    at_graph_add(g, name, layer, from, "%s", attrs);
}

static void add_block(at_graph *g, const char *block, const char *data, int out)
{
    char conv[48], first[32];
    snprintf(conv, sizeof conv, "out=%d k=3 stride=1 pad=1 bias=0", out);
    snprintf(first, sizeof first, "%s_c1", block);
    at_graph_add(g, first, "conv", data, "%s", conv);
    add_part(g, block, "pool", "pool", "c1", "kind=max k=2 stride=2 pad=0");
    add_part(g, block, "n1", "bn", "pool", "eps=1e-5 momentum=0.1");
    add_part(g, block, "g1", "gelu", "n1", "");
    add_part(g, block, "c2", "conv", "g1", conv);
    add_part(g, block, "n2", "bn", "c2", "eps=1e-5 momentum=0.1");
    add_part(g, block, "g2", "gelu", "n2", "");
}

static const char *emit(at_graph *g, const at_model_spec *spec, const char *data, at_error *err)
{
    int smaller = spec->height < spec->width ? spec->height : spec->width;
    int left = (smaller - 1) / 2 / 2 / 2; /* after the whitening convolution and three poolings */
    if (left < 1) {
        at_fail(err, AT_EINPUT, "model airnet: images of %dx%d are too small, 9x9 is the least",
                spec->height, spec->width);
        return NULL;
    }
    int last = left < 3 ? left : 3;
    at_graph_add(g, "white", "conv", data, "out=24 k=2 stride=1 pad=0 bias=1");
    at_graph_add(g, "g0", "gelu", "white", "%s", "");
    add_block(g, "b1", "g0", 64);
    add_block(g, "b2", "b1_g2", 256);
    add_block(g, "b3", "b2_g2", 256);
    at_graph_add(g, "pool", "pool", "b3_g2", "kind=max k=%d stride=%d pad=0", last, last);
    at_graph_add(g, "flat", "flatten", "pool", "%s", "");
    at_graph_add(g, "logits", "dense", "flat", "out=%d bias=0", spec->classes);
    return "logits";
}

const at_model at_model_airnet = {
    .name = "airnet",
    .summary =
        "six 3x3 convolutions with batch normalisation and GELU; 1.97 M parameters on 3x32x32",
    .emit = emit,
};
