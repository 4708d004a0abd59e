/* SPDX-License-Identifier: Apache-2.0
 * kernels_watch: what our own convolutions do for batch normalisation beside them (kernels.h): its
 * sums, as they write (nn_watch), and its values, as they read (nn_affine). Kinds and `bf16` are
 * constants where these are used.
 */
#ifndef NN_KERNELS_WATCH_H
#define NN_KERNELS_WATCH_H

#include "kernels_math.h"

/* Sums of one block of channels, of a run of pixels: in fp32 of a few, then of the run, then in double
 * precision. Values are taken less the run's first one: nothing cancels out where the mean is large. */
typedef struct watch_tally {
    vf a, b, mean, shift, sum, product;
    int64_t n;
} watch_tally;

INLINE watch_tally watch_begin(nn_watch_kind kind, const nn_watch *w, int64_t block, vf first)
{
    watch_tally t = {.n = 0};
    if (kind == NN_WATCH_VALUES)
        t.shift = first;
    if (kind >= NN_WATCH_GRADIENT)
        t.mean = load(w->mean, false, block * VF, VF);
    if (kind == NN_WATCH_RELU) {
        t.a = load(w->a, false, block * VF, VF);
        t.b = load(w->b, false, block * VF, VF);
    }
    return t;
}

/* What is written instead of the value at `at`, elements from the tensor's beginning. */
INLINE vf watch_value(nn_watch_kind kind, const nn_watch *w, bool bf16, const watch_tally *t,
                      int64_t at, vf value, vf *sum, vf *product)
{
    vf factor = value - t->shift;
    vf x = kind >= NN_WATCH_GRADIENT ? load(w->x, bf16, at, VF) : (vf){0};
    if (kind == NN_WATCH_RELU)
        value = act_back(NN_RELU, x * t->a + t->b, value);
    if (kind == NN_WATCH_RELU_OUTPUT)
        value = act_back_output(NN_RELU, load(w->y, bf16, at, VF), value);
    *sum += kind == NN_WATCH_VALUES ? factor : value;
    *product += kind == NN_WATCH_VALUES ? factor * factor : value * (x - t->mean);
    return value;
}

INLINE void watch_end(nn_watch_kind kind, const nn_watch *w, const watch_tally *t, int64_t block)
{
    double n = kind == NN_WATCH_VALUES ? (double)t->n : 0;
    double *to_sum = w->sum + block * VF, *to_product = w->product + block * VF;
    for (int64_t l = 0; l < VF; l++) {
        double shift = (double)t->shift[l], sum = (double)t->sum[l];
        to_sum[l] += sum + n * shift;
        to_product[l] += (double)t->product[l] + shift * (2 * sum + n * shift);
    }
}

/* A block's part of nn_affine. */
typedef struct watch_affine {
    nn_affine_kind kind;
    vf a, b;
} watch_affine;

INLINE watch_affine watch_affine_of(nn_affine_kind kind, const nn_affine *in, int64_t block)
{
    watch_affine f = {.kind = kind};
    if (kind != NN_AFFINE_NONE) {
        f.a = load(in->a, false, block * VF, VF);
        f.b = load(in->b, false, block * VF, VF);
    }
    return f;
}

#endif
