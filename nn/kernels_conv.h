/* SPDX-License-Identifier: Apache-2.0
 * kernels_conv: convolution where the lanes of a vector are samples, for networks with so
 * few channels that lanes of channels would be mostly padding. Planes are [pixels][VF samples];
 * columns are padded before, rows are not: a window that begins above the plane or ends below it is
 * cut.
 *
 * A block of outputs is kept in registers: `oc` channels by `ox` pixels forward, `oc` channels by
 * `kx` columns of the kernel for the weights' gradient. All block sizes are constants where they
 * are used.
 */
#ifndef NN_KERNELS_CONV_H
#define NN_KERNELS_CONV_H

#include "kernels_math.h"

/* At most; so many that the sums fit into 32 registers or 16. */
enum {
    OC_BLOCK = 6,
    X_BLOCK = VF == 16 ? 4 : 2,
    FILTER_BLOCK = VF == 16 ? 4 : 2, /* channels, in the weights' gradient */
    KX_BLOCK = 5,
};

/* ---- forward ---- */

typedef struct conv_row { /* of one group of samples */
    const nn_conv_shape *s;
    const float *weights, *bias, *x;
    void *y;
    int64_t oy, k0, k1; /* the kernel's rows that lie in the plane */
} conv_row;

INLINE void conv_block(const conv_row *r, int64_t oc, int64_t ox, int64_t ocs, int64_t oxs)
{
    const nn_conv_shape *s = r->s;
    int64_t kernel = s->kh * s->kw, filter = s->ic * kernel, n = ocs * oxs;
    int64_t kx0 = s->x0 - (ox + oxs - 1) * s->sw, kx1 = s->x1 - ox * s->sw;
    kx0 = kx0 > 0 ? kx0 : 0;
    kx1 = kx1 < s->kw ? kx1 : s->kw;
    vf sum[OC_BLOCK * X_BLOCK]; /* [ocs][oxs] */
#pragma GCC unroll 24
    for (int64_t i = 0; i < n; i++)
        sum[i] = all(r->bias ? r->bias[oc + i / oxs] : 0);
    for (int64_t ic = 0; ic < s->ic; ic++) {
        for (int64_t ky = r->k0; ky < r->k1; ky++) {
            const float *w = r->weights + oc * filter + ic * kernel + ky * s->kw + kx0;
            int64_t row = ic * s->ih + r->oy * s->sh + ky - s->top;
            const float *x = r->x + (row * s->iw + ox * s->sw + kx0) * VF;
            for (int64_t kx = kx0; kx < kx1; kx++, w++, x += VF) {
                vf in[X_BLOCK];
#pragma GCC unroll 24
                for (int64_t j = 0; j < oxs; j++)
                    in[j] = load(x, false, j * s->sw * VF, VF);
#pragma GCC unroll 24
                for (int64_t i = 0; i < n; i++)
                    sum[i] += in[i % oxs] * w[i / oxs * filter];
            }
        }
    }
#pragma GCC unroll 24
    for (int64_t i = 0; i < n; i++) {
        int64_t to = ((oc + i / oxs) * s->oh + r->oy) * s->ow + ox + i % oxs;
        store(r->y, s->bf16, to * VF, VF, sum[i]);
    }
}

INLINE void conv_channels(const conv_row *r, int64_t oc, int64_t ocs)
{
    int64_t ox = 0;
    for (; ox + X_BLOCK <= r->s->ow; ox += X_BLOCK)
        conv_block(r, oc, ox, ocs, X_BLOCK);
    if (ox + 2 <= r->s->ow) {
        conv_block(r, oc, ox, ocs, 2);
        ox += 2;
    }
    if (ox < r->s->ow)
        conv_block(r, oc, ox, ocs, 1);
}

static void conv_group(const nn_conv_shape *s, const float *weights, const float *bias,
                       const float *x, void *y)
{
    conv_row r = {.s = s, .weights = weights, .bias = bias, .x = x, .y = y};
    for (r.oy = 0; r.oy < s->oh; r.oy++) {
        int64_t first = r.oy * s->sh - s->top, oc = 0;
        r.k0 = first < 0 ? -first : 0;
        r.k1 = s->ih - first < s->kh ? s->ih - first : s->kh;
        for (; oc + 6 <= s->oc; oc += 6)
            conv_channels(&r, oc, 6);
        if (oc + 4 <= s->oc) {
            conv_channels(&r, oc, 4);
            oc += 4;
        }
        if (oc + 2 <= s->oc) {
            conv_channels(&r, oc, 2);
            oc += 2;
        }
        if (oc < s->oc)
            conv_channels(&r, oc, 1);
    }
}

/* ---- the weights' gradient ---- */

typedef struct conv_filter { /* of one group of samples, for one row of the kernel */
    const nn_conv_shape *s;
    const float *x, *dy;
    float *sums;            /* [oc][ic][kh][kw][VF] */
    int64_t ic, ky, y0, y1; /* the outputs whose windows have that row */
} conv_filter;

INLINE void filter_block(const conv_filter *f, int64_t oc, int64_t kx, int64_t ocs, int64_t kxs)
{
    const nn_conv_shape *s = f->s;
    int64_t filter = s->ic * s->kh * s->kw, pixels = s->oh * s->ow, n = ocs * kxs;
    float *to = f->sums + (oc * filter + (f->ic * s->kh + f->ky) * s->kw + kx) * VF;
    vf sum[FILTER_BLOCK * KX_BLOCK]; /* [ocs][kxs] */
#pragma GCC unroll 24
    for (int64_t i = 0; i < n; i++)
        sum[i] = load(to, false, (i / kxs * filter + i % kxs) * VF, VF);
    for (int64_t oy = f->y0; oy < f->y1; oy++) {
        const float *dy = f->dy + (oc * s->oh + oy) * s->ow * VF;
        int64_t row = f->ic * s->ih + oy * s->sh + f->ky - s->top;
        const float *x = f->x + (row * s->iw + kx) * VF;
        for (int64_t ox = 0; ox < s->ow; ox++, dy += VF, x += s->sw * VF) {
            vf in[KX_BLOCK];
#pragma GCC unroll 24
            for (int64_t k = 0; k < kxs; k++)
                in[k] = load(x, false, k * VF, VF);
#pragma GCC unroll 24
            for (int64_t i = 0; i < n; i++)
                sum[i] += in[i % kxs] * load(dy, false, i / kxs * pixels * VF, VF);
        }
    }
#pragma GCC unroll 24
    for (int64_t i = 0; i < n; i++)
        store(to, false, (i / kxs * filter + i % kxs) * VF, VF, sum[i]);
}

INLINE void filter_columns(const conv_filter *f, int64_t oc, int64_t ocs)
{
    int64_t kx = 0;
    for (; kx + 5 <= f->s->kw; kx += 5)
        filter_block(f, oc, kx, ocs, 5);
    if (kx + 3 <= f->s->kw) {
        filter_block(f, oc, kx, ocs, 3);
        kx += 3;
    }
    for (; kx < f->s->kw; kx++)
        filter_block(f, oc, kx, ocs, 1);
}

static void add_plane(float *to, const float *dy, int64_t pixels)
{
    vf sum = load(to, false, 0, VF);
    for (int64_t p = 0; p < pixels; p++)
        sum += load(dy, false, p * VF, VF);
    store(to, false, 0, VF, sum);
}

/* Channels [begin, end) of the output; sums are added to. */
static void conv_weights_group(const nn_conv_shape *s, const float *x, const float *dy, float *sums,
                               float *bias, int64_t begin, int64_t end)
{
    conv_filter f = {.s = s, .x = x, .dy = dy, .sums = sums};
    int64_t pixels = s->oh * s->ow;
    for (int64_t oc = begin; bias && oc < end; oc++)
        add_plane(bias + oc * VF, dy + oc * pixels * VF, pixels);
    for (f.ic = 0; f.ic < s->ic; f.ic++) {
        for (f.ky = 0; f.ky < s->kh; f.ky++) {
            int64_t oc = begin;
            f.y0 = f.ky < s->top ? (s->top - f.ky + s->sh - 1) / s->sh : 0;
            f.y1 = (s->ih - 1 + s->top - f.ky) / s->sh + 1;
            f.y1 = f.y1 < s->oh ? f.y1 : s->oh;
            for (; oc + FILTER_BLOCK <= end; oc += FILTER_BLOCK)
                filter_columns(&f, oc, FILTER_BLOCK);
            if (oc + 2 <= end) {
                filter_columns(&f, oc, 2);
                oc += 2;
            }
            if (oc < end)
                filter_columns(&f, oc, 1);
        }
    }
}

/* ---- around them ---- */

/* Lanes added up: n vectors to n numbers. */
static void sum_lanes(const float *vectors, float *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float parts[VF];
        memcpy(parts, vectors + i * VF, sizeof parts);
        for (int k = VF / 2; k > 0; k /= 2)
            for (int l = 0; l < k; l++)
                parts[l] += parts[l + k];
        out[i] = parts[0];
    }
}

/* Each of `planes` planes of h*w pixels into a zeroed one of oh*ow: pixel (y,x) goes to
 * (y*sh, left + x*sw). */
static void spread(const nn_spread *s, bool bf16, const void *x, float *out)
{
    memset(out, 0, (size_t)(s->planes * s->oh * s->ow * VF) * sizeof *out);
    for (int64_t p = 0; p < s->planes; p++)
        for (int64_t iy = 0; iy < s->h; iy++)
            for (int64_t ix = 0; ix < s->w; ix++)
                store(out, false, ((p * s->oh + iy * s->sh) * s->ow + s->left + ix * s->sw) * VF,
                      VF, load(x, bf16, ((p * s->h + iy) * s->w + ix) * VF, VF));
}

#endif
