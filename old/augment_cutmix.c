/* SPDX-License-Identifier: Apache-2.0
 * cutmix: a rectangle of the picture is that of another one at the same place (Yun et al. 2019).
 * Its share of the area is 1 - Beta(cutmix, cutmix), its centre any pixel; what the border cuts off
 * does not count for the labels.
 */
#include "internal.h"

#include <math.h>
#include <string.h>

static int wanted(const at_augmenter *a, at_error *err)
{
    if (!(a->keys.cutmix >= 0))
        return at_fail(err, AT_EINPUT, "augment.cutmix: %g is below 0", a->keys.cutmix);
    return a->keys.cutmix > 0;
}

/* [*begin, *end) of a side of n pixels, around a random centre. */
static void draw_span(at_rng *rng, double share, int n, int *begin, int *end)
{
    int centre = (int)at_rng_below(rng, (uint64_t)n), half = (int)(0.5 * share * n);
    *begin = centre > half ? centre - half : 0;
    *end = centre + half < n ? centre + half : n;
}

static float mix(at_draw *d, uint8_t *pixels, const uint8_t *other)
{
    const at_augmenter *a = d->a;
    double side = sqrt(1 - at_draw_beta(&d->rng, a->keys.cutmix));
    int top, bottom, left, right;
    draw_span(&d->rng, side, a->height, &top, &bottom);
    draw_span(&d->rng, side, a->width, &left, &right);
    size_t channels = (size_t)a->channels, bytes = (size_t)(right - left) * channels;
    for (int y = top; y < bottom; y++) {
        size_t at = ((size_t)y * (size_t)a->width + (size_t)left) * channels;
        memcpy(pixels + at, other + at, bytes);
    }
    double gone = (double)(bottom - top) * (right - left);
    return (float)(1 - gone / ((double)a->height * a->width));
}

const at_augment_kind at_augment_cutmix = {.name = "cutmix", .wanted = wanted, .mix = mix};
