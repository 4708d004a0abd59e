/* SPDX-License-Identifier: Apache-2.0
 * Mean, deviation, minimum and maximum of each channel, of all pixels.
 *
 * Interleaved channels defeat vectorisation; so sums are kept in 48 lanes, a multiple of 1, 3 and
 * the vector width, and lane i belongs to channel i % channels (look_kernels.h). All sums are exact
 * integers. */
#include "internal.h"

#include <math.h>
#include <string.h>

enum { LANES = AT_LOOK_LANES, BLOCKS = 1 << 15 }; /* 255*255*BLOCKS fits 32 bits */

struct totals {
    uint64_t sum[3], square[3];
    int minimum[3], maximum[3];
};

static void fold(struct totals *t, const at_moments *l, int channels)
{
    for (int i = 0, c = 0; i < LANES; i++, c = c + 1 < channels ? c + 1 : 0) {
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
    const at_look_kernels *kernels = at_look_kernels_here();
    for (size_t b = 0; b < blocks; b += BLOCKS) {
        size_t n = blocks - b < BLOCKS ? blocks - b : BLOCKS;
        at_moments l = {0};
        memset(l.minimum, 255, sizeof l.minimum);
        kernels->moments(p + b * LANES, n, &l);
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
    at_picture_look_by(kernels, image, out);
}
