/* SPDX-License-Identifier: Apache-2.0
 * Mean, deviation, minimum and maximum of each channel, of all pixels.
 *
 * Interleaved channels defeat vectorisation; so sums are kept in 48 lanes, a multiple of 1, 3 and
 * the vector width, and lane i belongs to channel i % channels. All sums are exact integers. */
#include "internal.h"

#include <math.h>

enum { LANES = 48, BLOCKS = 1 << 15 }; /* 255*255*BLOCKS fits 32 bits */

struct lanes {
    uint32_t sum[LANES], square[LANES];
    uint8_t minimum[LANES], maximum[LANES];
};

struct totals {
    uint64_t sum[3], square[3];
    int minimum[3], maximum[3];
};

static void add_blocks(struct lanes *l, const uint8_t *restrict p, size_t blocks)
{
    for (size_t b = 0; b < blocks; b++, p += LANES)
        for (int i = 0; i < LANES; i++) {
            l->sum[i] += p[i];
            l->square[i] += (uint32_t)p[i] * p[i];
            l->minimum[i] = p[i] < l->minimum[i] ? p[i] : l->minimum[i];
            l->maximum[i] = p[i] > l->maximum[i] ? p[i] : l->maximum[i];
        }
}

static void fold(struct totals *t, const struct lanes *l, int channels)
{
    for (int i = 0; i < LANES; i++) {
        int c = i % channels;
        t->sum[c] += l->sum[i];
        t->square[c] += l->square[i];
        t->minimum[c] = l->minimum[i] < t->minimum[c] ? l->minimum[i] : t->minimum[c];
        t->maximum[c] = l->maximum[i] > t->maximum[c] ? l->maximum[i] : t->maximum[c];
    }
}

static void add_rest(struct totals *t, const uint8_t *p, size_t n, int channels)
{
    for (size_t i = 0; i < n; i++) {
        int c = (int)(i % (size_t)channels);
        t->sum[c] += p[i];
        t->square[c] += (uint32_t)p[i] * p[i];
        t->minimum[c] = p[i] < t->minimum[c] ? p[i] : t->minimum[c];
        t->maximum[c] = p[i] > t->maximum[c] ? p[i] : t->maximum[c];
    }
}

void at_pixel_stats_of(const at_image *image, at_pixel_stats *out)
{
    struct totals t = {.minimum = {255, 255, 255}};
    size_t pixels = (size_t)image->width * (size_t)image->height;
    size_t bytes = pixels * (size_t)image->channels, blocks = bytes / LANES;
    const uint8_t *p = image->pixels;
    for (size_t b = 0; b < blocks; b += BLOCKS) {
        size_t n = blocks - b < BLOCKS ? blocks - b : BLOCKS;
        struct lanes l = {0};
        for (int i = 0; i < LANES; i++)
            l.minimum[i] = 255;
        add_blocks(&l, p + b * LANES, n);
        fold(&t, &l, image->channels);
    }
    add_rest(&t, p + blocks * LANES, bytes - blocks * LANES, image->channels);
    *out = (at_pixel_stats){0};
    for (int c = 0; c < image->channels; c++) {
        double mean = (double)t.sum[c] / (double)pixels;
        double variance = (double)t.square[c] / (double)pixels - mean * mean;
        out->mean[c] = mean;
        out->deviation[c] = variance > 0 ? sqrt(variance) : 0;
        out->minimum[c] = t.minimum[c];
        out->maximum[c] = t.maximum[c];
    }
    at_picture_look(image, out);
}
