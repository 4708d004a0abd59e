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
static void dropout(const nn_view *v, const nn_dropout_keys *keys, const void *x, void *y,
                    int64_t begin, int64_t end)
{
    for (int64_t plane = begin; plane < end; plane++) {
        uint64_t key = keys->keys[plane / v->blocks];
        int64_t channel = plane % v->blocks * v->lanes, total = v->pixels * v->lanes;
        for (int64_t i = 0; i < total; i += VF) {
            int64_t n = total - i < VF ? total - i : VF;
            vf values = load(x, v->bf16, plane * total + i, n) * keys->scale;
            for (int64_t k = 0; k < n; k++) {
                int64_t l = (i + k) % v->lanes, p = (i + k) / v->lanes;
                uint32_t element = (uint32_t)((channel + l) * v->pixels + p);
                values[k] = element_hash(key, element) >= keys->bar ? values[k] : 0.0f;
            }
            store(y, v->bf16, plane * total + i, n, values);
        }
    }
}

static void pixels(const nn_view *v, const uint8_t *in, const float *scale, const float *offset,
                   void *out, int64_t begin, int64_t end)
{
    int64_t per_sample = v->blocks * v->pixels * v->lanes;
    for (int64_t n = begin; n < end; n++) {
        const uint8_t *sample = in + n * v->pixels * v->channels;
        for (int64_t c = 0; c < v->blocks * v->lanes; c++) {
            int64_t at = n * per_sample + c / v->lanes * v->pixels * v->lanes + c % v->lanes;
            bool real = c < v->channels;
            for (int64_t p = 0; p < v->pixels; p++) {
                float value =
                    real ? (float)sample[p * v->channels + c] * scale[c] + offset[c] : 0.0f;
                if (v->bf16)
                    ((uint16_t *)out)[at + p * v->lanes] = narrow(value);
                else
                    ((float *)out)[at + p * v->lanes] = value;
            }
        }
    }
}

/* size 2 or 4: the bits are only moved. */
INLINE void move_planes(const nn_view *v, const char *from, char *to, bool back, size_t size,
                        int64_t begin, int64_t end)
{
    int64_t plane = v->pixels * v->lanes, flat = v->channels * v->pixels;
    for (int64_t n = begin; n < end; n++) {
        if (back && v->blocks * v->lanes > v->channels) /* the padding of the last plane */
            memset(to + (size_t)((n + 1) * v->blocks - 1) * (size_t)plane * size, 0,
                   (size_t)plane * size);
        for (int64_t c = 0; c < v->channels; c++) {
            int64_t blocked = (n * v->blocks + c / v->lanes) * plane + c % v->lanes;
            int64_t straight = n * flat + c * v->pixels;
            for (int64_t p = 0; p < v->pixels; p++) {
                int64_t a = blocked + p * v->lanes, b = straight + p;
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
    if (v->bf16)
        move_planes(v, y, x, true, 2, begin, end);
    else
        move_planes(v, y, x, true, 4, begin, end);
}

#endif
