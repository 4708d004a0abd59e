/* SPDX-License-Identifier: Apache-2.0
 * shift: crops at up to `shift` pixels aside each way, every place alike; beyond the edges the
 * picture is reflected about its outermost pixels (numpy.pad's "reflect").
 */
#include "internal.h"

static int wanted(const at_augmenter *a, at_error *err)
{
    if (a->keys.shift < 0)
        return at_fail(err, AT_EINPUT, "augment.shift: %lld is below 0", (long long)a->keys.shift);
    return a->keys.shift > 0;
}

/* Uniform in [-shift, shift]; a shift of the whole picture has nothing left to reflect. */
static int draw_shift(at_rng *rng, int64_t shift, int size)
{
    int64_t most = shift < size ? shift : size - 1;
    return (int)((int64_t)at_rng_below(rng, 2 * (uint64_t)most + 1) - most);
}

static void place(at_draw *d, at_view *view)
{
    view->top = draw_shift(&d->rng, d->a->keys.shift, view->height);
    view->left = draw_shift(&d->rng, d->a->keys.shift, view->width);
}

const at_augment_kind at_augment_shift = {.name = "shift", .wanted = wanted, .place = place};
