/* SPDX-License-Identifier: Apache-2.0
 * init: the first values of parameters and state. Each parameter has a random stream of its own, by
 * the seed and its row's name, so rows do not change each other's.
 *
 *     uniform   in ±1/sqrt(fan_in), kernel and bias: PyTorch's default
 *     kaiming   normal, deviation sqrt(2/fan_out), as torchvision's ResNet (He et al. 2015)
 *     xavier    uniform in ±sqrt(6/(fan_in + fan_out)) (Glorot and Bengio 2010)
 *     dirac     an identity in the kernel's middle for the first channels, zero for the others
 *     whitening uniform, until at_net_whiten (whiten.c) has seen pixels
 *
 * The bias beside kaiming, xavier, dirac and zeros is zero.
 */
#include "internal.h"

#include <math.h>
#include <string.h>

static const struct {
    const char *name;
    nn_init kernel, bias;
} names[] = {
    {"uniform", NN_UNIFORM, NN_UNIFORM},     {"kaiming", NN_KAIMING, NN_ZEROS},
    {"xavier", NN_XAVIER, NN_ZEROS},         {"dirac", NN_DIRAC, NN_ZEROS},
    {"whitening", NN_WHITENING, NN_UNIFORM}, {"zeros", NN_ZEROS, NN_ZEROS},
};

nn_init nn_init_named(const char *name)
{
    size_t i = 0;
    while (strcmp(names[i].name, name)) /* the row's table of options has no other */
        i++;
    return names[i].kernel;
}

nn_init nn_init_of_bias(nn_init kernel)
{
    size_t i = 0;
    while (names[i].kernel != kernel)
        i++;
    return names[i].bias;
}

static void fill(float *to, size_t n, float value)
{
    for (size_t i = 0; i < n; i++)
        to[i] = value;
}

static void fill_uniform(float *to, size_t n, at_rng rng, double bound)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (float)(bound * (2 * at_rng_uniform(&rng) - 1));
}

static void fill_normal(float *to, size_t n, at_rng rng, double deviation)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (float)(deviation * at_rng_normal(&rng));
}

/* Kernel [O,I/g,KH,KW]: each group passes its first channels on. */
static void fill_dirac(float *to, const nn_row *row, const int64_t dims[4])
{
    const nn_conv_attrs *a = row->attrs;
    int64_t outs = dims[0] / a->groups, same = outs < dims[1] ? outs : dims[1];
    int64_t plane = dims[2] * dims[3], middle = dims[2] / 2 * dims[3] + dims[3] / 2;
    fill(to, (size_t)(dims[0] * dims[1] * plane), 0);
    for (int64_t g = 0; g < a->groups; g++)
        for (int64_t c = 0; c < same; c++)
            to[((g * outs + c) * dims[1] + c) * plane + middle] = 1;
}

static void fill_param(float *to, const nn_row *row, const nn_param *p, at_rng rng)
{
    const int64_t *dims = p->info.dims;
    double plane = p->info.ndims == 4 ? (double)(dims[2] * dims[3]) : 1;
    double fan_out = (double)dims[0] * plane;
    size_t n = p->info.count;
    switch (p->init) {
    case NN_ZEROS:
        fill(to, n, 0);
        break;
    case NN_ONES:
        fill(to, n, 1);
        break;
    case NN_UNIFORM:
    case NN_WHITENING:
        fill_uniform(to, n, rng, 1 / sqrt(p->fan_in));
        break;
    case NN_KAIMING:
        fill_normal(to, n, rng, sqrt(2 / fan_out));
        break;
    case NN_XAVIER:
        fill_uniform(to, n, rng, sqrt(6 / (p->fan_in + fan_out)));
        break;
    case NN_DIRAC:
        fill_dirac(to, row, dims);
        break;
    }
}

void nn_initialise(const nn_row *row, uint64_t seed, float *params, float *state)
{
    for (int k = 0; k < row->param_count; k++) {
        const nn_param *p = &row->params[k];
        fill_param(params + p->info.offset, row, p,
                   at_rng_stream(seed, row->row.name, (uint64_t)k));
    }
    for (int k = 0; k < row->state_count; k++)
        fill(state + row->states[k].offset, row->states[k].count, row->states[k].initial);
}
