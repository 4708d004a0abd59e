/* SPDX-License-Identifier: Apache-2.0
 * The plan of an epoch: which sample is used in which step by which rank.
 *
 * One order of all samples is drawn from (seed, epoch) and cut into global batches of ranks *
 * batch; rank r takes the r-th part of each. Nothing is sharded, so every rank has equal steps, the
 * order does not depend on the number of ranks, and a run goes on mid-epoch with another number of
 * them. What is missing at the end of the last global batch is padding with weight 0.
 */
#include "atoll/cache.h"

#include <stdlib.h>
#include <string.h>

struct at_sampler {
    at_sampler_spec spec;
    size_t used; /* samples of an epoch */
    size_t steps;
    uint64_t epoch;  /* whose order is drawn */
    uint32_t *order; /* [samples] */
};

static void draw_order(at_sampler *s, uint64_t epoch)
{
    for (size_t i = 0; i < s->spec.samples; i++)
        s->order[i] = (uint32_t)i;
    if (s->spec.shuffle) {
        at_rng rng = at_rng_stream(s->spec.seed, "sampler", epoch);
        at_rng_shuffle(&rng, s->order, s->spec.samples);
    }
    s->epoch = epoch;
}

at_sampler *at_sampler_new(const at_sampler_spec *spec, at_error *err)
{
    size_t global, bytes;
    if (!at_mul(spec->ranks, spec->batch, UINT32_MAX, &global) || global == 0) {
        at_fail(err, AT_EUSAGE, "%zu ranks with a batch of %zu: both must be at least 1",
                spec->ranks, spec->batch);
        return NULL;
    }
    if (!at_mul(spec->samples, sizeof(uint32_t), (size_t)UINT32_MAX * sizeof(uint32_t), &bytes)) {
        at_fail(err, AT_EINPUT, "%zu samples: at most %u can be planned", spec->samples,
                UINT32_MAX);
        return NULL;
    }
    at_sampler *s = calloc(1, sizeof *s);
    if (!s)
        goto fail_alloc;
    s->order = malloc(bytes ? bytes : 1);
    if (!s->order)
        goto fail_order;
    s->spec = *spec;
    s->used = spec->limit && spec->limit < spec->samples ? spec->limit : spec->samples;
    s->steps = s->used / global + (s->used % global != 0);
    draw_order(s, 0);
    return s;
fail_order:
    free(s);
fail_alloc:
    at_nomem(err);
    return NULL;
}

void at_sampler_free(at_sampler *s)
{
    if (!s)
        return;
    free(s->order);
    free(s);
}

size_t at_sampler_steps(const at_sampler *s)
{
    return s->steps;
}

int at_sampler_set_epoch(at_sampler *s, uint64_t epoch)
{
    if (epoch != s->epoch)
        draw_order(s, epoch);
    return 0;
}

size_t at_sampler_batch(const at_sampler *s, size_t step, size_t rank, uint32_t *ids,
                        float *weights)
{
    size_t batch = s->spec.batch, real = 0;
    if (step < s->steps && rank < s->spec.ranks) {
        size_t first = (step * s->spec.ranks + rank) * batch;
        size_t left = first < s->used ? s->used - first : 0;
        real = left < batch ? left : batch;
        memcpy(ids, s->order + (real ? first : 0), real * sizeof *ids);
    }
    for (size_t i = 0; i < real; i++)
        weights[i] = 1;
    for (size_t i = real; i < batch; i++) {
        ids[i] = 0;
        weights[i] = 0;
    }
    return real;
}
