/* SPDX-License-Identifier: Apache-2.0
 * airnet: the small, fast CIFAR network of Keller Jordan's "airbench" (94 % on CIFAR-10): a 2x2
 * whitening convolution, three blocks of convolution, pooling, batch normalisation and GELU, and a
 * linear head without bias. 1.97 M parameters for ten classes on 3x32x32; batch normalisation
 * follows pooling, so it reads a quarter as much.
 */
#include "models.h"

static void add_block(nn_rows *r, int block, int out)
{
    snprintf(r->prefix, sizeof r->prefix, "b%d_", block);
    rows_add(r, "c1", "conv", "out=%d k=3 stride=1 pad=1 bias=0", out);
    rows_add(r, "pool", "pool", "kind=max k=2 stride=2 pad=0");
    rows_add(r, "n1", "bn", "eps=1e-5 momentum=0.1");
    rows_plain(r, "g1", "gelu");
    rows_add(r, "c2", "conv", "out=%d k=3 stride=1 pad=1 bias=0", out);
    rows_add(r, "n2", "bn", "eps=1e-5 momentum=0.1");
    rows_plain(r, "g2", "gelu");
    r->prefix[0] = '\0';
}

static void emit(nn_rows *r, const void *variant)
{
    (void)variant;
    int left = (rows_smaller_side(r) - 1) / 8; /* after whitening and three poolings */
    int last = left < 3 ? left : 3;
    rows_add(r, "white", "conv", "out=24 k=2 stride=1 pad=0 bias=1");
    rows_plain(r, "g0", "gelu");
    add_block(r, 1, 64);
    add_block(r, 2, 256);
    add_block(r, 3, 256);
    rows_add(r, "pool", "pool", "kind=max k=%d stride=%d pad=0", last, last);
    rows_plain(r, "flat", "flatten");
    rows_add(r, "logits", "dense", "out=%d bias=0", r->spec->classes);
}

const at_model at_models_airnet[] = {
    {.name = "airnet",
     .summary =
         "six 3x3 convolutions with batch normalisation and GELU; 1.97 M parameters on 3x32x32",
     .published = {.classes = 10, .channels = 3, .height = 32, .width = 32},
     .smallest = 9,
     .emit = emit},
    {0},
};
