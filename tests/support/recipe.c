/* SPDX-License-Identifier: Apache-2.0
 * The recipe: FNV-1a of the name seeds murmur3's finaliser over the index. */
#include "recipe.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

uint32_t recipe_noise(const char *name, size_t i)
{
    uint32_t seed = 0x811C9DC5u;
    for (; *name; name++)
        seed = (seed ^ (uint8_t)*name) * 0x01000193u;
    uint32_t x = (uint32_t)i * 0x9E3779B1u + seed;
    x = (x ^ (x >> 16)) * 0x85EBCA6Bu;
    x = (x ^ (x >> 13)) * 0xC2B2AE35u;
    return x ^ (x >> 16);
}

/* Uniform in [-1, 1), a multiple of 2^-15. */
static double uniform(const char *name, size_t i)
{
    return (recipe_noise(name, i) >> 16) / 32768.0 - 1;
}

static void fill(const at_param *p, float *out)
{
    char name[128];
    snprintf(name, sizeof name, "%s/%s", p->layer, p->name);
    double middle = strcmp(p->name, "gamma") == 0 ? 1 : 0, scale = 0.25;
    if (strcmp(p->name, "kernel") == 0) {
        double fan_in = 1;
        for (int i = 1; i < p->ndims; i++)
            fan_in *= (double)p->dims[i];
        scale = exp2(rint(log2(6 / fan_in) / 2));
    }
    for (size_t i = 0; i < p->count; i++)
        out[i] = (float)(middle + scale * uniform(name, i));
}

void recipe_weights(at_net *net)
{
    for (size_t i = 0; i < at_net_params_listed(net); i++) {
        const at_param *p = at_net_param(net, i);
        fill(p, at_net_params(net) + p->offset);
    }
}

void recipe_state(at_net *net)
{
    for (size_t i = 0; i < at_net_state_count(net); i++)
        at_net_state(net)[i] = (float)(1 + uniform("state", i) / 2);
}

uint8_t *recipe_pixels(size_t count)
{
    uint8_t *pixels = malloc(count);
    assert(pixels);
    for (size_t i = 0; i < count; i++)
        pixels[i] = (uint8_t)(recipe_noise("pixels", i) & 255);
    return pixels;
}

int32_t *recipe_labels(size_t count, int classes)
{
    int32_t *labels = malloc(count * sizeof *labels);
    assert(labels);
    for (size_t i = 0; i < count; i++)
        labels[i] = (int32_t)(recipe_noise("labels", i) % (uint32_t)classes);
    return labels;
}
