/* SPDX-License-Identifier: Apache-2.0
 * The plan of an epoch: which sample is used in which step by which rank.
 *
 * One order of all samples is drawn from (seed, epoch) and cut into global batches of ranks *
 * batch; rank r takes the r-th part of each. Nothing is sharded, so every rank has equal steps, the
 * order does not depend on the number of ranks, and a run goes on mid-epoch with another number of
 * them. What is missing at the end of the last global batch is padding with weight 0.
 *
 * Where classes have weights, the order is one of draws instead. Class c has the draws
 * [start[c], start[c+1]): systematic sampling, which from one random number gives each class its
 * expected number rounded up or down. They go round its members, which are shuffled anew each
 * epoch, so each of them comes up equally often, or once more.
 */
#include "atoll/cache.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct at_sampler {
    at_sampler_spec spec; /* its class_weights and labels are not used behind _new */
    size_t used;          /* places of an epoch */
    size_t steps;
    uint64_t epoch;  /* whose order is drawn */
    uint32_t *order; /* [samples] of samples, or [used] of draws */
    /* Where classes have weights, else NULL: */
    double *until;                /* [classes + 1] draws expected before each class */
    uint32_t *first;              /* [classes + 1] the place of a class's members */
    uint32_t *start;              /* [classes + 1] of its draws in this epoch */
    uint32_t *ascending, *member; /* [samples] by class: in order, and shuffled within each */
};

/* ---- draws by class ------------------------------------------------------------------------ */

/* The members of each class in ascending order: a counting sort. */
static int sort_members(at_sampler *s, at_error *err)
{
    const at_sampler_spec *spec = &s->spec;
    for (size_t i = 0; i < spec->samples; i++) {
        int32_t label = spec->labels[i];
        if (label < 0 || (size_t)label >= spec->classes)
            return at_fail(err, AT_EUSAGE, "sample %zu has label %d, but there are %zu classes", i,
                           label, spec->classes);
        s->first[label + 1]++;
    }
    for (size_t c = 0; c < spec->classes; c++)
        s->first[c + 1] += s->first[c];
    memcpy(s->start, s->first, (spec->classes + 1) * sizeof *s->start);
    for (size_t i = 0; i < spec->samples; i++)
        s->ascending[s->start[spec->labels[i]]++] = (uint32_t)i;
    return 0;
}

static int expect_draws(at_sampler *s, at_error *err)
{
    size_t classes = s->spec.classes;
    for (size_t c = 0; c < classes; c++) {
        double weight = s->spec.class_weights[c];
        if (!(weight >= 0 && isfinite(weight)))
            return at_fail(err, AT_EINPUT, "the weight of class %zu is %g: 0 or more is needed", c,
                           weight);
        s->until[c + 1] = s->until[c] + weight * (double)(s->first[c + 1] - s->first[c]);
    }
    double all = s->until[classes];
    if (s->used > 0 && !(all > 0 && isfinite(all)))
        return at_fail(err, AT_EINPUT, "no sample is of a class with a weight above 0");
    for (size_t c = 0; c <= classes && s->used > 0; c++)
        s->until[c] = (double)s->used * (s->until[c] / all);
    return 0;
}

/* The fields of draws by class; what it leaves on failure at_sampler_free frees. */
static int plan_classes(at_sampler *s, at_error *err)
{
    size_t ends = s->spec.classes + 1, samples = s->spec.samples;
    s->until = calloc(ends, sizeof *s->until);
    s->first = calloc(ends, sizeof *s->first);
    s->start = calloc(ends, sizeof *s->start);
    s->ascending = calloc(samples + 1, sizeof *s->ascending);
    s->member = calloc(samples + 1, sizeof *s->member);
    if (!s->until || !s->first || !s->start || !s->ascending || !s->member)
        return at_nomem(err);
    int rc = sort_members(s, err);
    return rc ? rc : expect_draws(s, err);
}

/* Draw k lies at k + offset on a line on which class c has [until[c], until[c+1]). An offset of 20
 * bits is exact beside 32 bits of draws: the last class ends with the last draw. */
static void share_draws(at_sampler *s, at_rng *rng)
{
    double offset = (double)(at_rng_next(rng) >> 44) * 0x1p-20;
    for (size_t c = 1; c <= s->spec.classes; c++) {
        double before = ceil(s->until[c] - offset);
        s->start[c] = before > 0 ? (uint32_t)before : 0;
    }
    s->start[0] = 0;
    memcpy(s->member, s->ascending, s->spec.samples * sizeof *s->member);
    for (size_t c = 0; c < s->spec.classes; c++)
        at_rng_shuffle(rng, s->member + s->first[c], s->first[c + 1] - s->first[c]);
}

static size_t class_of_draw(const at_sampler *s, uint32_t draw)
{
    size_t low = 0, high = s->spec.classes;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (s->start[middle] <= draw)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* ---- a sampler ----------------------------------------------------------------------------- */

static void draw_order(at_sampler *s, uint64_t epoch)
{
    at_rng rng = at_rng_stream(s->spec.seed, "sampler", epoch);
    size_t n = s->until ? s->used : s->spec.samples;
    if (s->until)
        share_draws(s, &rng);
    for (size_t i = 0; i < n; i++)
        s->order[i] = (uint32_t)i;
    if (s->spec.shuffle || s->until)
        at_rng_shuffle(&rng, s->order, n);
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
    if (!s) {
        at_nomem(err);
        return NULL;
    }
    s->spec = *spec;
    s->used = spec->limit && spec->limit < spec->samples ? spec->limit : spec->samples;
    s->steps = s->used / global + (s->used % global != 0);
    s->order = malloc(bytes ? bytes : 1);
    if (!s->order) {
        at_nomem(err);
        goto fail;
    }
    if (spec->class_weights && plan_classes(s, err))
        goto fail;
    draw_order(s, 0);
    return s;
fail:
    at_sampler_free(s);
    return NULL;
}

void at_sampler_free(at_sampler *s)
{
    if (!s)
        return;
    free(s->order);
    free(s->until);
    free(s->first);
    free(s->start);
    free(s->ascending);
    free(s->member);
    free(s);
}

size_t at_sampler_steps(const at_sampler *s)
{
    return s->steps;
}

size_t at_sampler_used(const at_sampler *s)
{
    return s->used;
}

int at_sampler_set_epoch(at_sampler *s, uint64_t epoch)
{
    if (epoch != s->epoch)
        draw_order(s, epoch);
    return 0;
}

void at_sampler_place(const at_sampler *s, size_t place, uint32_t *id, uint32_t *key)
{
    uint32_t draw = s->order[place];
    *id = *key = draw;
    if (!s->until)
        return;
    size_t c = class_of_draw(s, draw);
    uint32_t members = s->first[c + 1] - s->first[c], turn = draw - s->start[c];
    *id = s->member[s->first[c] + turn % members];
    *key = *id + turn / members * (uint32_t)s->spec.samples;
}

size_t at_sampler_batch(const at_sampler *s, size_t step, size_t rank, uint32_t *ids,
                        uint32_t *keys, float *weights)
{
    size_t batch = s->spec.batch, real = 0;
    if (step < s->steps && rank < s->spec.ranks) {
        size_t first = (step * s->spec.ranks + rank) * batch;
        size_t left = first < s->used ? s->used - first : 0;
        real = left < batch ? left : batch;
        for (size_t i = 0; i < real; i++)
            at_sampler_place(s, first + i, &ids[i], &keys[i]);
    }
    for (size_t i = 0; i < batch; i++)
        weights[i] = i < real;
    memset(ids + real, 0, (batch - real) * sizeof *ids);
    memset(keys + real, 0, (batch - real) * sizeof *keys);
    return real;
}
