/* SPDX-License-Identifier: Apache-2.0
 * kernels_data: what moves or masks values: pixels to numbers, planes to vectors, dropout.
 */
#ifndef NN_KERNELS_DATA_H
#define NN_KERNELS_DATA_H

#include "kernels_math.h"

/* A number of 32 random bits for an element under a key; "lowbias32" by Chris Wellons, keyed. */
INLINE uint32_t element_hash(uint64_t key, uint32_t element)
{
    uint32_t x = element * 0x9e3779b9u + (uint32_t)key;
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= (x >> 15) ^ (uint32_t)(key >> 32);
    x *= 0x846ca68bu;
    return x ^ (x >> 16);
}

/* Elements are counted in NCHW order, so the mask does not depend on the layout. */
INLINE float keep_or_drop(const nn_view *v, const nn_dropout_keys *keys, int64_t plane, int64_t at,
                          float x)
{
    int64_t lane = at % v->lanes, pixel = at / v->lanes, block = plane % v->blocks;
    int64_t sample = v->grouped ? plane / v->blocks * v->lanes + lane : plane / v->blocks;
    int64_t channel = v->grouped ? block : block * v->lanes + lane;
    if (sample >= v->samples)
        return 0;
    uint32_t element = (uint32_t)(channel * v->pixels + pixel);
    return element_hash(keys->keys[sample], element) >= keys->bar ? x * keys->scale : 0;
}

static void dropout(const nn_view *v, const nn_dropout_keys *keys, const void *x, void *y,
                    int64_t begin, int64_t end)
{
    int64_t total = v->pixels * v->lanes;
    for (int64_t plane = begin; plane < end; plane++) {
        for (int64_t i = 0; i < total; i += VF) {
            int64_t n = total - i < VF ? total - i : VF;
            vf values = load(x, v->bf16, plane * total + i, n);
            for (int64_t k = 0; k < n; k++)
                values[k] = keep_or_drop(v, keys, plane, i + k, values[k]);
            store(y, v->bf16, plane * total + i, n, values);
        }
    }
}

/* Where channel c of a sample begins, and how far apart its pixels are. */
typedef struct run {
    int64_t at, step;
} run;

INLINE run run_of(const nn_view *v, int64_t sample, int64_t c)
{
    int64_t plane = v->pixels * v->lanes;
    if (v->grouped)
        return (run){(sample / VF * v->blocks + c) * plane + sample % VF, VF};
    return (run){(sample * v->blocks + c / v->lanes) * plane + c % v->lanes, v->lanes};
}

/* Lanes beside the real channels and samples: zeros. Samples [begin, end) of n*lanes where grouped.
 */
static void clear_padding(const nn_view *v, void *out, int64_t begin, int64_t end)
{
    int64_t channels = v->grouped ? v->channels : v->blocks * v->lanes;
    for (int64_t n = begin; n < end; n++) {
        for (int64_t c = n < v->samples ? v->channels : 0; c < channels; c++) {
            run l = run_of(v, n, c);
            for (int64_t p = 0; p < v->pixels; p++) {
                if (v->bf16)
                    ((uint16_t *)out)[l.at + p * l.step] = 0;
                else
                    ((float *)out)[l.at + p * l.step] = 0;
            }
        }
    }
}

/* n <= VF bytes as numbers, zeros behind. GCC 12 takes a dozen instructions for the conversion in
 * one step from bytes, some for each quarter; so what it has to be is named where it is known. */
INLINE vf numbers(const uint8_t *from, int64_t n)
{
    vb bytes = {0};
    memcpy(&bytes, from, (size_t)n);
#if VF == 16
    return (vf)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32((__m128i)bytes));
#elif VF == 8
    __m128i low = {0};
    memcpy(&low, &bytes, sizeof bytes);
    return (vf)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(low));
#else
    vh halves = __builtin_convertvector(bytes, vh);
    return __builtin_convertvector(__builtin_convertvector(halves, vi), vf);
#endif
}

/* A group's samples, a vector a pixel and channel: `chunk` elements at a time are brought together
 * as bytes. Lanes beyond the last sample are zeros. */
static void pixels_group(const nn_view *v, const uint8_t *in, const float *scale,
                         const float *offset, void *out, int64_t group)
{
    enum { chunk = 64 };
    uint8_t bytes[chunk][VF];
    int64_t size = v->pixels * v->channels, real = v->samples - group * VF;
    vf there = {0};
    for (int64_t k = 0; k < VF; k++)
        there[k] = k < real ? 1 : 0;
    memset(bytes, 0, sizeof bytes);
    for (int64_t i = 0; i < size; i += chunk) {
        int64_t n = size - i < chunk ? size - i : chunk;
        for (int64_t k = 0; k < VF && k < real; k++)
            for (int64_t j = 0; j < n; j++)
                bytes[j][k] = in[(group * VF + k) * size + i + j];
        for (int64_t j = 0; j < n; j++) {
            int64_t c = (i + j) % v->channels, p = (i + j) / v->channels;
            vf x = numbers(bytes[j], VF) * scale[c] + offset[c];
            store(out, v->bf16, ((group * v->channels + c) * v->pixels + p) * VF, VF, x * there);
        }
    }
}

enum { FEW_CHANNELS = 4 };

/* NHWC of few channels, bytes [at, until) of a batch. Whose turn it is comes round with as many
 * vectors as there are channels. */
INLINE void pixels_in_order(const uint8_t *in, int64_t channels, bool bf16, const float *scale,
                            const float *offset, void *out, int64_t at, int64_t until)
{
    int64_t round = channels * VF;
    vf by[FEW_CHANNELS], plus[FEW_CHANNELS];
    for (int64_t i = 0; i < round; i++) {
        by[i / VF][i % VF] = scale[i % channels];
        plus[i / VF][i % VF] = offset[i % channels];
    }
    for (; at + round <= until; at += round)
        for (int64_t k = 0; k < channels; k++)
            store(out, bf16, at + k * VF, VF, numbers(in + at + k * VF, VF) * by[k] + plus[k]);
    for (int64_t k = 0; at < until; k++, at += VF) {
        int64_t n = until - at < VF ? until - at : VF;
        store(out, bf16, at, n, numbers(in + at, n) * by[k] + plus[k]);
    }
}

static void pixels(const nn_view *v, const uint8_t *in, const float *scale, const float *offset,
                   void *out, int64_t begin, int64_t end)
{
    if (v->grouped) {
        for (int64_t group = begin; group < end; group++)
            pixels_group(v, in, scale, offset, out, group);
        return;
    }
    if (v->lanes == v->channels && v->channels <= FEW_CHANNELS) {
        int64_t sample = v->pixels * v->channels, at = begin * sample, until = end * sample;
        if (v->channels == 3 && !v->bf16)
            pixels_in_order(in, 3, false, scale, offset, out, at, until);
        else
            pixels_in_order(in, v->channels, v->bf16, scale, offset, out, at, until);
        return;
    }
    clear_padding(v, out, begin, end);
    for (int64_t n = begin; n < end; n++) {
        const uint8_t *sample = in + n * v->pixels * v->channels;
        for (int64_t c = 0; c < v->channels; c++) {
            run l = run_of(v, n, c);
            for (int64_t p = 0; p < v->pixels; p++) {
                float value = (float)sample[p * v->channels + c] * scale[c] + offset[c];
                if (v->bf16)
                    ((uint16_t *)out)[l.at + p * l.step] = narrow(value);
                else
                    ((float *)out)[l.at + p * l.step] = value;
            }
        }
    }
}

/* size 2 or 4: the bits are only moved. */
INLINE void move_planes(const nn_view *v, const char *from, char *to, bool back, size_t size,
                        int64_t begin, int64_t end)
{
    for (int64_t n = begin; n < end && n < v->samples; n++) {
        for (int64_t c = 0; c < v->channels; c++) {
            run l = run_of(v, n, c);
            int64_t straight = (n * v->channels + c) * v->pixels;
            for (int64_t p = 0; p < v->pixels; p++) {
                int64_t a = l.at + p * l.step, b = straight + p;
                memcpy(to + (size_t)(back ? a : b) * size, from + (size_t)(back ? b : a) * size,
                       size);
            }
        }
    }
}

static void flatten(const nn_view *v, const void *x, void *y, int64_t begin, int64_t end)
{
    if (v->bf16)
        move_planes(v, x, y, false, 2, begin, end);
    else
        move_planes(v, x, y, false, 4, begin, end);
}

static void unflatten(const nn_view *v, const void *y, void *x, int64_t begin, int64_t end)
{
    clear_padding(v, x, begin, end);
    if (v->bf16)
        move_planes(v, y, x, true, 2, begin, end);
    else
        move_planes(v, y, x, true, 4, begin, end);
}

static void convert(const nn_view *from, const void *x, const nn_view *to, void *y, bool adds,
                    int64_t begin, int64_t end)
{
    if (!adds)
        clear_padding(to, y, begin, end);
    for (int64_t n = begin; n < end && n < to->samples; n++) {
        for (int64_t c = 0; c < to->channels; c++) {
            run a = run_of(from, n, c), b = run_of(to, n, c);
            for (int64_t p = 0; p < to->pixels; p++) {
                int64_t at = b.at + p * b.step;
                vf value = load(x, from->bf16, a.at + p * a.step, 1);
                store(y, to->bf16, at, 1, adds ? value + load(y, to->bf16, at, 1) : value);
            }
        }
    }
}

/* ---- channels of one tensor to others of another ---- */

INLINE void copy_pixels(const char *from, size_t from_step, char *to, size_t to_step, int64_t n,
                        size_t bytes)
{
    for (int64_t p = 0; p < n; p++, from += from_step, to += to_step)
        memcpy(to, from, bytes);
}

/* n channels side by side in both, of all pixels; usual sizes are constants for the compiler. */
INLINE void copy_run(const run *a, const char *x, const run *b, char *y, int64_t pixels, int64_t n,
                     size_t size)
{
    size_t from_step = (size_t)a->step * size, to_step = (size_t)b->step * size;
    const char *from = x + (size_t)a->at * size;
    char *to = y + (size_t)b->at * size;
    if (from_step == to_step && n == a->step)
        memcpy(to, from, (size_t)pixels * from_step);
    else if (n == 16)
        copy_pixels(from, from_step, to, to_step, pixels, 16 * size);
    else if (n == 8)
        copy_pixels(from, from_step, to, to_step, pixels, 8 * size);
    else if (n == 1)
        copy_pixels(from, from_step, to, to_step, pixels, size);
    else
        copy_pixels(from, from_step, to, to_step, pixels, (size_t)n * size);
}

/* How many channels from c on lie side by side in every pixel. */
INLINE int64_t together(const nn_view *v, int64_t c)
{
    return v->grouped ? 1 : v->lanes - c % v->lanes;
}

INLINE void copy_sample(const nn_channels *from, const char *x, const nn_channels *to, char *y,
                        int64_t sample, size_t size)
{
    int64_t c = 0;
    while (c < from->count) {
        int64_t n = from->count - c, a = together(&from->view, from->first + c),
                b = together(&to->view, to->first + c);
        n = n < a ? n : a;
        n = n < b ? n : b;
        run source = run_of(&from->view, sample, from->first + c);
        run target = run_of(&to->view, sample, to->first + c);
        copy_run(&source, x, &target, y, to->view.pixels, n, size);
        c += n;
    }
}

/* A group is copied as a whole with its first sample. */
static void copy_group(const nn_channels *from, const char *x, const nn_channels *to, char *y,
                       int64_t sample, size_t size)
{
    size_t plane = (size_t)(from->view.pixels * VF) * size;
    int64_t group = sample / VF;
    if (sample % VF == 0)
        memcpy(y + (size_t)(group * to->view.blocks + to->first) * plane,
               x + (size_t)(group * from->view.blocks + from->first) * plane,
               (size_t)from->count * plane);
}

static void copy_channels(const nn_channels *from, const void *x, const nn_channels *to, void *y,
                          int64_t begin, int64_t end)
{
    bool grouped = from->view.grouped && to->view.grouped;
    size_t size = to->view.bf16 ? 2 : 4;
    if (!grouped && to->first + to->count == to->view.channels)
        clear_padding(&to->view, y, begin, end);
    for (int64_t n = begin; n < end && n < to->view.samples; n++) {
        if (grouped)
            copy_group(from, x, to, y, n, size);
        else if (size == 4)
            copy_sample(from, x, to, y, n, 4);
        else
            copy_sample(from, x, to, y, n, 2);
    }
}

#endif
