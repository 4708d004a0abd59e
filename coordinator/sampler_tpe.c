/* SPDX-License-Identifier: Apache-2.0
 * Tree-structured Parzen estimator (Bergstra et al. 2011): splits the trials into the best tenth
 * and the rest, models where each lies, and proposes the candidate that is likely among the best
 * and unlikely among the rest.
 *
 * Parameters that exist under the same condition are modelled jointly, from the trials in which
 * they existed. Trials without a result yet count among the rest (constant liar), so that the
 * trials of one wave spread out; so do failed ones. */
#include "internal.h"

#include <math.h>
#include <stdlib.h>

enum { CANDIDATES = 24, BEST_MAX = 25 };

typedef struct scored {
    double value;
    size_t index;
} scored;

typedef struct work {
    scored *ranked;      /* [n] */
    bool *good;          /* [n] */
    const double **rows; /* [n] */
    size_t *columns;     /* [space->count] */
    double *point;       /* [space->count] */
} work;

static int by_value(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    if (x->value != y->value)
        return x->value < y->value ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static bool has_result(const at_trial_result *t)
{
    return !t->running && !isnan(t->value);
}

/* Marks the best tenth of the trials in which `column` was active. */
static void split(const at_ask *ask, size_t column, work *w)
{
    size_t n = 0;
    for (size_t i = 0; i < ask->n; i++) {
        const at_trial_result *t = &ask->history[i];
        w->good[i] = false;
        if (has_result(t) && !isnan(t->values[column]))
            w->ranked[n++] = (scored){ask->maximize ? -t->value : t->value, i};
    }
    qsort(w->ranked, n, sizeof *w->ranked, by_value);
    size_t best = (n + 9) / 10 < BEST_MAX ? (n + 9) / 10 : BEST_MAX;
    for (size_t i = 0; i < best; i++)
        w->good[w->ranked[i].index] = true;
}

static at_parzen *model(const at_ask *ask, work *w, size_t dims, bool good)
{
    size_t n = 0;
    for (size_t i = 0; i < ask->n; i++)
        if (w->good[i] == good && !isnan(ask->history[i].values[w->columns[0]]))
            w->rows[n++] = ask->history[i].values;
    return at_parzen_new(ask->space, w->columns, dims, w->rows, n);
}

/* The parameters that exist exactly when `first` does; it is the first of them. */
static size_t gather(const at_space *space, size_t first, size_t *columns)
{
    size_t dims = 0;
    for (size_t i = first; i < space->count; i++)
        if (space->dists[i].parent == space->dists[first].parent &&
            space->dists[i].parent_choice == space->dists[first].parent_choice)
            columns[dims++] = i;
    return dims;
}

static bool is_first(const at_space *space, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (space->dists[i].parent == space->dists[index].parent &&
            space->dists[i].parent_choice == space->dists[index].parent_choice)
            return false;
    return true;
}

static int suggest_group(const at_ask *ask, size_t first, work *w, at_rng *rng, double *values,
                         at_error *err)
{
    size_t dims = gather(ask->space, first, w->columns);
    split(ask, first, w);
    at_parzen *good = model(ask, w, dims, true);
    at_parzen *rest = model(ask, w, dims, false);
    int rc = good && rest ? 0 : at_nomem(err);
    double most = -INFINITY;
    for (int c = 0; c < CANDIDATES && !rc; c++) {
        at_parzen_draw(good, rng, w->point);
        double score =
            at_parzen_log_density(good, w->point) - at_parzen_log_density(rest, w->point);
        if (c > 0 && !(score > most))
            continue;
        most = score;
        for (size_t i = 0; i < dims; i++)
            values[w->columns[i]] = w->point[i];
    }
    at_parzen_free(good);
    at_parzen_free(rest);
    return rc;
}

static void work_fini(work *w)
{
    free(w->ranked);
    free(w->good);
    free(w->rows);
    free(w->columns);
    free(w->point);
}

static int work_init(work *w, size_t n, size_t dims, at_error *err)
{
    w->ranked = calloc(n + 1, sizeof *w->ranked);
    w->good = calloc(n + 1, sizeof *w->good);
    w->rows = calloc(n + 1, sizeof *w->rows);
    w->columns = calloc(dims, sizeof *w->columns);
    w->point = calloc(dims, sizeof *w->point);
    if (w->ranked && w->good && w->rows && w->columns && w->point)
        return 0;
    work_fini(w);
    return at_nomem(err);
}

static int suggest(const at_ask *ask, double *values, at_error *err)
{
    const at_space *space = ask->space;
    size_t results = 0;
    for (size_t i = 0; i < ask->n; i++)
        results += has_result(&ask->history[i]);
    if (results < ask->startup || results == 0)
        return at_suggest_random(ask, values, err);
    work w = {0};
    int rc = work_init(&w, ask->n, space->count, err);
    if (rc)
        return rc;
    at_rng rng = at_rng_stream(ask->seed, "sampler.tpe", ask->number + (ask->attempt << 32));
    for (size_t i = 0; i < space->count; i++)
        values[i] = NAN;
    for (size_t i = 0; i < space->count && !rc; i++)
        if (is_first(space, i) && at_space_active(space, values, i))
            rc = suggest_group(ask, i, &w, &rng, values, err);
    work_fini(&w);
    return rc;
}

const at_sampler_kind at_sampler_kind_tpe = {
    .name = "tpe",
    .summary = "tree-structured Parzen estimator: learns from each wave",
    .suggest = suggest,
};
