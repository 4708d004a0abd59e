/* SPDX-License-Identifier: Apache-2.0
 * bn, inside: what batch normalisation (layer_bn.c) and the sum that it does at the end of a
 * residual block (bn_sum.c) share.
 */
#ifndef NN_BN_H
#define NN_BN_H

#include "plan.h"

typedef struct bn_state {
    int64_t padded;                    /* channels, in whole blocks of any layout */
    float *a, *b, *mean, *inv, *m, *c; /* [padded] */
    double *sums;                      /* [threads][2][padded], and one for the count */
    double count;                      /* values a channel, of all ranks where synchronised */
    nn_view view;                      /* of x */
    void *y;                           /* what it writes: the output, or that once more */
    nn_watch values, gradients;        /* sums that other ops take for it, where they can */
    nn_affine affine;                  /* for who makes y itself */
    /* Of a sum whose addend has another layout: the addend, then its gradient, in x's layout. */
    void *addend, *gradient;
} bn_state;

static inline double *bn_sums_of(const bn_state *s, int thread)
{
    return s->sums + 2 * s->padded * thread;
}

/* Shares the planes of x out; part() gets the op as its context. */
static inline void bn_for_planes(const plan_op *op, plan_part part)
{
    const bn_state *s = op->state;
    plan_parallel_bytes(op->plan, s->view.n * s->view.blocks,
                        plan_tensor_bytes(op->plan, op->in[0]), part, (void *)(uintptr_t)op);
}

/* y = x*a + b with the moving statistics, of a row "bn": a[c], b[c]. */
void bn_affine(const at_net *net, const nn_row *row, float *a, float *b);

/* ---- bn_sum.c: y = act(x*a + b + addend), of ops with adds_input ---- */
int bn_sum_build(plan_op *op, at_error *err);
/* Whether the output's gradient, behind the activation, can be the addend's as it lies there. */
bool bn_sum_passes_on(const plan_op *op);
void bn_sum_forward(plan_op *op);
/* g = dy * act'(y), which is the addend's gradient, and its sums. */
void bn_sum_backward(plan_op *op);
/* What backward's second pass reads as the gradient: dy, or g. */
const void *bn_gradient(const plan_op *op);

#endif
