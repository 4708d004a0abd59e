/* SPDX-License-Identifier: Apache-2.0
 * cutout: paints over a square whose centre is any pixel, the rest of it cut off by the border
 * (DeVries and Taylor 2017); with the data set's mean colour, which normalisation makes 0.
 */
#include "internal.h"

#include <string.h>

static int wanted(const at_augmenter *a, at_error *err)
{
    int64_t side = a->keys.cutout, most = a->height > a->width ? a->height : a->width;
    if (side < 0 || side >= 2 * most)
        return at_fail(err, AT_EINPUT,
                       "augment.cutout: a square of %lld would hide every %dx%d image whole",
                       (long long)side, a->height, a->width);
    return side > 0;
}

/* The part of a side of n pixels that is hidden: [*begin, *end). */
static void draw_span(at_rng *rng, int side, int n, int *begin, int *end)
{
    int from = (int)at_rng_below(rng, (uint64_t)n) - side / 2;
    *begin = from > 0 ? from : 0;
    *end = from + side < n ? from + side : n;
}

static void paint(at_draw *d, uint8_t *pixels, void *scratch)
{
    (void)scratch;
    const at_augmenter *a = d->a;
    size_t channels = (size_t)a->channels;
    int top, bottom, left, right;
    draw_span(&d->rng, (int)a->keys.cutout, a->height, &top, &bottom);
    draw_span(&d->rng, (int)a->keys.cutout, a->width, &left, &right);
    for (int y = top; y < bottom; y++) {
        uint8_t *row = pixels + ((size_t)y * (size_t)a->width + (size_t)left) * channels;
        for (int x = left; x < right; x++, row += channels)
            memcpy(row, a->mean, channels);
    }
}

const at_augment_kind at_augment_cutout = {.name = "cutout", .wanted = wanted, .paint = paint};
