/* SPDX-License-Identifier: Apache-2.0
 * whiten: first kernels that decorrelate pixels, as in Keller Jordan's airbench: the eigenvectors
 * of the second moments of k x k patches, each divided by the root of its eigenvalue (plus a small
 * number), and behind them their negatives. Depends on the pixels alone.
 */
#include "internal.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_PATCH = 512 };
static const double least = 5e-4; /* added to eigenvalues, as in airbench */

/* One row's patches: value d of a patch is a channel's pixel at a place of the kernel. */
typedef struct patches {
    const nn_row *row;
    const float *scale, *offset; /* [channels] of pixels, by the rows before */
    int64_t size;                /* channels * kh * kw */
    double *moments;             /* [size][size] */
    double *patch;               /* [size] */
} patches;

static bool whitens(const nn_row *row)
{
    return row->layer == &at_layer_conv && row->params[0].init == NN_WHITENING;
}

bool at_net_wants_whitening(const at_net *net)
{
    bool wants = false;
    for (size_t i = 0; i < net->row_count; i++)
        wants |= whitens(&net->rows[i]);
    return wants;
}

/* As the layers from "input" to here turn a pixel into a number. */
static void pixel_line(const at_net *net, const nn_row *row, float *scale, float *offset)
{
    if (row->input_count)
        pixel_line(net, &net->rows[row->inputs[0]], scale, offset);
    for (int64_t c = 0; c < row->out.c; c++) {
        float s = 1, o = 0;
        row->layer->pixel(row, c, &s, &o);
        scale[c] = row->input_count ? scale[c] * s : s;
        offset[c] = row->input_count ? offset[c] * s + o : o;
    }
}

static void add_patch(const patches *p, const uint8_t *corner)
{
    const nn_window *w = &((const nn_conv_attrs *)p->row->attrs)->window;
    nn_shape in = p->row->in[0];
    int64_t plane = w->kh * w->kw, row = in.w * in.c;
    for (int64_t d = 0; d < p->size; d++) {
        int64_t c = d / plane, y = d % plane / w->kw, x = d % w->kw;
        uint8_t pixel = corner[y * w->dh * row + x * w->dw * in.c + c];
        p->patch[d] = (double)(p->scale[c] * (float)pixel + p->offset[c]);
    }
    for (int64_t a = 0; a < p->size; a++)
        for (int64_t b = a; b < p->size; b++)
            p->moments[a * p->size + b] += p->patch[a] * p->patch[b];
}

/* Patches are taken a window's stride apart; their mean moments, both halves. */
static int add_patches(const patches *p, const uint8_t *pixels, size_t n, at_error *err)
{
    const nn_window *w = &((const nn_conv_attrs *)p->row->attrs)->window;
    nn_shape in = p->row->in[0];
    double count = 0;
    int64_t high = (w->kh - 1) * w->dh + 1, wide = (w->kw - 1) * w->dw + 1;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *image = pixels + i * (size_t)nn_elements(in);
        for (int64_t y = 0; y + high <= in.h; y += w->sh)
            for (int64_t x = 0; x + wide <= in.w; x += w->sw, count++)
                add_patch(p, image + (y * in.w + x) * in.c);
    }
    if (count == 0)
        return nn_misfit(p->row, err, "pixels of at least one window for init=whitening");
    for (int64_t a = 0; a < p->size; a++)
        for (int64_t b = a; b < p->size; b++)
            p->moments[b * p->size + a] = p->moments[a * p->size + b] /= count;
    return 0;
}

static void put_filters(const patches *p, float *kernel, int64_t filters, const double *values,
                        const double *vectors)
{
    int64_t half = filters / 2 < p->size ? (filters + 1) / 2 : p->size;
    for (int64_t o = 0; o < filters; o++) {
        int64_t e = o % half;
        double factor = (o < half ? 1 : -1) / sqrt(fmax(values[e], 0) + least);
        for (int64_t d = 0; d < p->size; d++)
            kernel[o * p->size + d] = (float)(factor * vectors[e * p->size + d]);
    }
}

static int whiten_row(at_net *net, const nn_row *row, const uint8_t *pixels, size_t n,
                      at_error *err)
{
    float scale[NN_CHANNELS], offset[NN_CHANNELS];
    const at_param *kernel = &row->params[0].info;
    int64_t size = kernel->dims[1] * kernel->dims[2] * kernel->dims[3];
    size_t square = (size_t)(size * size);
    double *moments = calloc(2 * square + 2 * (size_t)size, sizeof *moments);
    if (!moments)
        return at_nomem(err);
    double *vectors = moments + square, *values = vectors + square;
    patches p = {row, scale, offset, size, moments, values + size};
    pixel_line(net, &net->rows[row->inputs[0]], scale, offset);
    int status = add_patches(&p, pixels, n, err);
    if (!status)
        status = at_eigen_symmetric(moments, (size_t)size, values, vectors, err);
    if (!status)
        put_filters(&p, net->params + kernel->offset, kernel->dims[0], values, vectors);
    free(moments);
    return status;
}

int nn_whitening_check(const nn_row *row, at_error *err)
{
    const nn_conv_attrs *a = row->attrs;
    int64_t size = row->in[0].c * a->window.kh * a->window.kw;
    if (!row->of_pixels || a->groups != 1)
        return nn_misfit(row, err, "pixels before it and groups=1 for init=whitening");
    if (size > MOST_PATCH || a->out > 2 * size)
        return nn_misfit(row, err,
                         "patches of at most %d values and out of at most twice as many as a patch "
                         "has, %lld, for init=whitening",
                         MOST_PATCH, (long long)(2 * size));
    return 0;
}

int at_net_whiten(at_net *net, const uint8_t *pixels, size_t n, at_error *err)
{
    int status = 0;
    for (size_t i = 0; i < net->row_count && !status; i++)
        if (whitens(&net->rows[i]))
            status = whiten_row(net, &net->rows[i], pixels, n, err);
    return status;
}
