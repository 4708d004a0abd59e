/* SPDX-License-Identifier: Apache-2.0
 * Random search: each parameter uniform in its own scale. Also what TPE starts with. */
#include "internal.h"

#include <math.h>

double at_dist_draw(const at_dist *d, at_rng *rng)
{
    if (d->kind == AT_DIST_CHOICE)
        return (double)at_rng_below(rng, d->choice_count);
    if (d->step > 0) {
        uint64_t steps = (uint64_t)llround((d->high - d->low) / d->step);
        return at_dist_clip(d, d->low + d->step * (double)at_rng_below(rng, steps + 1));
    }
    double u = at_rng_uniform(rng);
    if (d->kind == AT_DIST_LOGUNIFORM)
        return at_dist_clip(d, exp(log(d->low) + u * (log(d->high) - log(d->low))));
    return at_dist_clip(d, d->low + u * (d->high - d->low));
}

int at_suggest_random(const at_ask *ask, double *values, at_error *err)
{
    (void)err;
    at_rng rng = at_rng_stream(ask->seed, "sampler.random", ask->number + (ask->attempt << 32));
    for (size_t i = 0; i < ask->space->count; i++) {
        double drawn = at_dist_draw(&ask->space->dists[i], &rng);
        values[i] = at_space_active(ask->space, values, i) ? drawn : NAN;
    }
    return 0;
}

const at_sampler_kind at_sampler_kind_random = {
    .name = "random",
    .summary = "independent draws; a baseline",
    .suggest = at_suggest_random,
};
