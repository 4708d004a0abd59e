/* SPDX-License-Identifier: Apache-2.0
 * What the files of coordinator/ share. */
#ifndef ATOLL_COORDINATOR_INTERNAL_H
#define ATOLL_COORDINATOR_INTERNAL_H

#include <atoll/coordinator.h>

/* ---- distributions (space.c, sampler_random.c) ---- */
double at_dist_clip(const at_dist *d, double value); /* to the nearest value that d has */
double at_dist_draw(const at_dist *d, at_rng *rng);
char *at_dist_json(const at_dist *d); /* Optuna's distribution_json; malloc'd, NULL without memory */
int at_suggest_random(const at_ask *ask, double *values, at_error *err);

/* ---- Parzen estimator (parzen.c) ---- */
typedef struct at_parzen at_parzen;
/* Over the parameters `columns` [dims] of the observations rows[n][space->count], oldest first.
 * NULL without memory. */
at_parzen *at_parzen_new(const at_space *space, const size_t *columns, size_t dims,
                         const double *const *rows, size_t n);
void at_parzen_draw(const at_parzen *p, at_rng *rng, double *point);        /* [dims] */
double at_parzen_log_density(const at_parzen *p, const double *point);      /* up to a constant */
void at_parzen_free(at_parzen *p);

#endif
