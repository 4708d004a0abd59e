/* SPDX-License-Identifier: Apache-2.0
 * mixup: share * picture + (1 - share) * another one, the share from Beta(mixup, mixup) (Zhang et
 * al. 2017). It is one of 256 steps, as pixels are, and the labels get exactly that share.
 */
#include "internal.h"

#include <math.h>

enum { STEPS = 256 };

static int wanted(const at_augmenter *a, at_error *err)
{
    if (!(a->keys.mixup >= 0))
        return at_fail(err, AT_EINPUT, "augment.mixup: %g is below 0", a->keys.mixup);
    return a->keys.mixup > 0;
}

static float mix(at_draw *d, uint8_t *pixels, const uint8_t *other)
{
    size_t n = (size_t)d->a->height * (size_t)d->a->width * (size_t)d->a->channels;
    unsigned own = (unsigned)lround(STEPS * at_draw_beta(&d->rng, d->a->keys.mixup));
    for (size_t i = 0; i < n; i++)
        pixels[i] = (uint8_t)((pixels[i] * own + other[i] * (STEPS - own) + STEPS / 2) / STEPS);
    return (float)own / STEPS;
}

const at_augment_kind at_augment_mixup = {.name = "mixup", .wanted = wanted, .mix = mix};
