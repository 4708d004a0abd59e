/* SPDX-License-Identifier: Apache-2.0
 * kernels_lrn: local response normalisation. All channels of a pixel are one line of floats in the
 * first-level cache; where lanes are pixels (NCHW) or samples (grouped), of VF pixels or samples
 * side by side. So a channel's neighbours lie a fixed step before and behind it in every layout,
 * and memory is read once and written once.
 *
 *     s = k + share * sum of x*x,  y = x * s^-beta
 *     dx = dy * s^-beta - 2*share*beta * x * sum of dy*x*s^-beta/s, the window turned round
 */
#ifndef NN_KERNELS_LRN_H
#define NN_KERNELS_LRN_H

#include "kernels_math.h"

typedef struct lrn_line {
    int64_t blocks, width; /* elements: blocks of width, one behind the other */
    int64_t stride;        /* of blocks in memory */
    int64_t at, n;         /* the first element; n of a block's width are there */
    int64_t step;          /* from a channel to the next in the line */
} lrn_line;

/* Line `index` of a view whose lines are as many as its pixels; n is 0 for a pixel that another
 * line has. */
INLINE lrn_line line_of(const nn_view *v, int64_t index)
{
    int64_t pixel = index % v->pixels, image = index / v->pixels * v->blocks * v->pixels * v->lanes;
    lrn_line l = {.blocks = v->blocks,
                  .width = v->lanes,
                  .stride = v->pixels * v->lanes,
                  .at = image + pixel * v->lanes,
                  .n = v->lanes,
                  .step = v->grouped ? VF : 1};
    if (v->lanes == 1) {
        int64_t left = v->pixels - pixel;
        l.width = l.step = VF;
        l.n = pixel % VF ? 0 : left < VF ? left : VF;
    }
    return l;
}

static void get_line(const lrn_line *l, bool bf16, const void *x, float *line)
{
    for (int64_t b = 0; b < l->blocks; b++) {
        for (int64_t i = 0; i < l->width; i += VF) {
            int64_t n = l->n - i < VF ? l->n - i : VF;
            int64_t room = l->width - i < VF ? l->width - i : VF;
            store(line, false, b * l->width + i, room, load(x, bf16, l->at + b * l->stride + i, n));
        }
    }
}

static void put_line(const lrn_line *l, bool bf16, const float *line, void *y)
{
    for (int64_t b = 0; b < l->blocks; b++) {
        for (int64_t i = 0; i < l->n; i += VF) {
            int64_t n = l->n - i < VF ? l->n - i : VF;
            store(y, bf16, l->at + b * l->stride + i, n, load(line, false, b * l->width + i, n));
        }
    }
}

/* The sum of line[i - before*step] to line[i + behind*step]. */
INLINE vf neighbours(const float *line, int64_t i, int64_t step, int64_t before, int64_t behind)
{
    vf sum = {0};
    for (int64_t j = -before; j <= behind; j++)
        sum += load(line, false, i + j * step, VF);
    return sum;
}

typedef struct lrn_lines {
    float *x, *dy, *square, *product; /* zeros lie around the last two */
    int64_t room;
} lrn_lines;

static lrn_lines split(const nn_lrn_shape *s, float *memory, const lrn_line *l)
{
    int64_t size = (l->blocks * l->width + VF - 1) / VF * VF;
    int64_t border = (s->before + s->behind) * l->step + VF, room = size + border;
    lrn_lines lines = {.x = memory, .dy = memory + room, .room = size};
    memset(memory, 0, (size_t)(NN_LRN_LINES * (room + border)) * sizeof *memory);
    lines.square = memory + 2 * room + border;
    lines.product = lines.square + room + border;
    return lines;
}

static void lrn(const nn_view *v, const nn_lrn_shape *s, const void *x, void *y, float *memory,
                int64_t begin, int64_t end)
{
    lrn_line first = line_of(v, 0);
    lrn_lines lines = split(s, memory, &first);
    for (int64_t index = begin; index < end; index++) {
        lrn_line l = line_of(v, index);
        if (!l.n)
            continue;
        get_line(&l, v->bf16, x, lines.x);
        for (int64_t i = 0; i < l.blocks * l.width; i += VF) {
            vf value = load(lines.x, false, i, VF);
            store(lines.square, false, i, VF, value * value);
        }
        for (int64_t i = 0; i < l.blocks * l.width; i += VF) {
            vf sum = neighbours(lines.square, i, l.step, s->before, s->behind);
            vf scale = power(s->k + s->share * sum, -s->beta);
            store(lines.x, false, i, VF, load(lines.x, false, i, VF) * scale);
        }
        put_line(&l, v->bf16, lines.x, y);
    }
}

static void lrn_back(const nn_view *v, const nn_lrn_shape *s, const void *x, const void *dy,
                     void *dx, float *memory, int64_t begin, int64_t end)
{
    lrn_line first = line_of(v, 0);
    lrn_lines lines = split(s, memory, &first);
    float slope = 2 * s->share * s->beta;
    for (int64_t index = begin; index < end; index++) {
        lrn_line l = line_of(v, index);
        int64_t size = l.blocks * l.width;
        if (!l.n)
            continue;
        get_line(&l, v->bf16, x, lines.x);
        get_line(&l, v->bf16, dy, lines.dy);
        for (int64_t i = 0; i < size; i += VF) {
            vf value = load(lines.x, false, i, VF);
            store(lines.square, false, i, VF, value * value);
        }
        for (int64_t i = 0; i < size; i += VF) {
            vf base = s->k + s->share * neighbours(lines.square, i, l.step, s->before, s->behind);
            vf g = load(lines.dy, false, i, VF) * power(base, -s->beta);
            store(lines.product, false, i, VF, g * load(lines.x, false, i, VF) / base);
            store(lines.dy, false, i, VF, g);
        }
        for (int64_t i = 0; i < size; i += VF) {
            vf sum = neighbours(lines.product, i, l.step, s->behind, s->before);
            vf g = load(lines.dy, false, i, VF) - slope * load(lines.x, false, i, VF) * sum;
            store(lines.dy, false, i, VF, g);
        }
        put_line(&l, v->bf16, lines.dy, dx);
    }
}

#endif
