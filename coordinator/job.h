/* SPDX-License-Identifier: Apache-2.0
 * What the parts of a job share: JOB.yaml as read and checked (job_config.c), stages (job.c). */
#ifndef ATOLL_COORDINATOR_JOB_H
#define ATOLL_COORDINATOR_JOB_H

#include "internal.h"

/* Keys of a training that a cache is made by, as options of `atoll cache build` too. */
enum { AT_JOB_CACHE_KEYS = 4 };
extern const char *const at_job_cache_keys[AT_JOB_CACHE_KEYS];

typedef struct at_job_config {
    at_node *tree;   /* JOB.yaml */
    at_node *ingest; /* flat settings of data: without source */
    const char *source, *model;
    bool cached; /* the job makes one cache for all its trainings; else each makes its own */
    const char *cache[AT_JOB_CACHE_KEYS]; /* what they all say of it; NULL: nothing */
    at_node *sweep;                       /* the tree of a SWEEP.yaml; NULL: no search */
    int64_t ranks;                        /* of the final training */
} at_job_config;
/* Reads and checks everything that can be known before any work. */
int at_job_config_read(at_job_config *c, const at_job_options *options, at_error *err);
void at_job_config_fini(at_job_config *c);
/* Makes c->sweep: data, model, train and search of the job, over OUT/data and OUT/cache. */
int at_job_config_place(at_job_config *c, const char *out, at_error *err);
/* Flat settings of the final training: train, the best trial's params (best: of at_study_best, or
 * NULL), final.train. batch: of a training that is told none. NULL: *err tells. */
at_node *at_job_final_settings(const at_job_config *c, const char *out, int64_t batch,
                               const at_node *best, at_error *err);

#endif
