/* SPDX-License-Identifier: Apache-2.0
 * crop: a random part of the picture, enlarged to its size: torchvision's RandomResizedCrop (the
 * "Inception crop" of Szegedy et al. 2014). The part's share of the area is uniform between `crop`
 * and `crop_most`, the logarithm of its width to height between those of 1/crop_ratio and
 * crop_ratio. What does not fit is drawn again; after ten times the largest part in the middle with
 * an allowed ratio is taken.
 */
#include "internal.h"

#include <math.h>

enum { TRIES = 10 };

static double most_of(const at_augment *k)
{
    return k->crop_most > 0 ? k->crop_most : 1;
}

static double ratio_of(const at_augment *k)
{
    return k->crop_ratio > 0 ? k->crop_ratio : 4.0 / 3;
}

static int wanted(const at_augmenter *a, at_error *err)
{
    const at_augment *k = &a->keys;
    if (k->crop == 0)
        return 0;
    if (!(k->crop > 0 && k->crop <= most_of(k) && most_of(k) <= 1))
        return at_fail(
            err, AT_EINPUT,
            "augment.crop: from %g to augment.crop_most=%g is no range of shares in 0..1", k->crop,
            most_of(k));
    if (!(ratio_of(k) >= 1))
        return at_fail(err, AT_EINPUT, "augment.crop_ratio: %g is below 1", ratio_of(k));
    if (k->shift > 0)
        return at_fail(err, AT_EINPUT,
                       "augment.crop and augment.shift both choose what part of the image is seen: "
                       "use one of them");
    return 1;
}

/* The largest box in the middle with an allowed ratio. */
static void place_centre(at_view *v, double ratio)
{
    double own = (double)v->width / v->height;
    v->box_width = own > ratio ? (int)lround(v->height * ratio) : v->width;
    v->box_height = own < 1 / ratio ? (int)lround(v->width * ratio) : v->height;
    v->top = (v->height - v->box_height) / 2;
    v->left = (v->width - v->box_width) / 2;
}

static double between(at_rng *rng, double low, double high)
{
    return low + (high - low) * at_rng_uniform(rng);
}

static void place(at_draw *d, at_view *v)
{
    const at_augment *k = &d->a->keys;
    double whole = (double)v->height * v->width, limit = log(ratio_of(k));
    for (int i = 0; i < TRIES; i++) {
        double area = whole * between(&d->rng, k->crop, most_of(k));
        double ratio = exp(between(&d->rng, -limit, limit));
        long width = lround(sqrt(area * ratio)), height = lround(sqrt(area / ratio));
        if (width < 1 || width > v->width || height < 1 || height > v->height)
            continue;
        v->box_width = (int)width;
        v->box_height = (int)height;
        v->top = (int)at_rng_below(&d->rng, (uint64_t)(v->height - height) + 1);
        v->left = (int)at_rng_below(&d->rng, (uint64_t)(v->width - width) + 1);
        return;
    }
    place_centre(v, ratio_of(k));
}

static size_t scratch(const at_augmenter *a)
{
    return at_view_scratch(a->height, a->width, a->channels);
}

const at_augment_kind at_augment_crop = {
    .name = "crop", .wanted = wanted, .place = place, .scratch = scratch};
