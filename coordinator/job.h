/* SPDX-License-Identifier: Apache-2.0
 * What the parts of a job share: JOB.yaml as read and checked (job_config.c), stages (job.c). */
#ifndef ATOLL_COORDINATOR_JOB_H
#define ATOLL_COORDINATOR_JOB_H

#include "internal.h"

typedef struct at_job_config {
    at_node *tree;   /* JOB.yaml */
    at_node *ingest; /* flat settings of data: without source */
    const char *source, *model;
    const char *size; /* of the pictures in the job's cache; NULL: trainings make their own */
    at_node *sweep;   /* the tree of a SWEEP.yaml; NULL: no search */
    int64_t ranks;    /* of the final training */
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
