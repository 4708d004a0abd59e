/* SPDX-License-Identifier: Apache-2.0
 * coordinator: waves of trials over worker processes, and the whole job.
 *
 * It links none of the other stages: a trial is `atoll train` as a child process of a worker. One libuv loop each in
 * coordinator and worker; frames are length-prefixed JSON in an encrypted, authenticated stream (libsodium secretstream,
 * key file of mode 0600). A lease has an epoch; a result with an old epoch is refused. Proposals depend on seed and on
 * results in trial order, not on who finished first.
 */
#ifndef ATOLL_COORDINATOR_H
#define ATOLL_COORDINATOR_H

#include <atoll/base.h>

/* ---- search spaces (space.c) ----------------------------------------------------------------------
 *   space:
 *     lr: {loguniform: [0.001, 0.3]}
 *     batch: {choice: [32, 64, 128]}
 *     momentum: {uniform: [0.8, 0.99]}
 *     train_limit: {quniform: [1000, 9000, 500]}
 *     epochs: {int: [1, 5]}
 *     optimizer:
 *       choice:
 *         - sgd: {nesterov: {choice: [true, false]}}      # nested: these parameters exist only under this choice
 *         - adam: {beta2: {uniform: [0.9, 0.9999]}}
 */
typedef enum { AT_DIST_UNIFORM, AT_DIST_LOGUNIFORM, AT_DIST_QUNIFORM, AT_DIST_INT, AT_DIST_CHOICE } at_dist_kind;
typedef struct at_dist {
    char *name;
    at_dist_kind kind;
    double low, high, step;
    size_t choice_count;
    at_node **choices; /* scalars */
    int parent;        /* index of the choice it hangs on, -1: none */
    size_t parent_choice;
} at_dist;
typedef struct at_space {
    at_dist *dists;
    size_t count;
} at_space;
at_space *at_space_parse(const at_node *map, at_error *err); /* errors with file:line:column */
void at_space_free(at_space *s);
/* Values in the space: internal representation as Optuna's param_value (a choice is its index); NaN: inactive. */
bool at_space_active(const at_space *s, const double *values, size_t i);
at_node *at_space_params(const at_space *s, const double *values); /* {"lr": 0.03, "optimizer": "sgd"} */

/* ---- samplers (sampler_*.c by samplers.def): random, tpe ------------------------------------------- */
typedef struct at_trial_result {
    const double *values; /* [space->count] */
    double value;         /* the objective; NaN: failed */
    bool running;         /* proposed in this wave, no result yet */
} at_trial_result;
typedef struct at_sampler_kind {
    const char *name, *summary;
    /* Proposes values [count] for trial `number` from the history in trial order. Pure in its arguments. */
    int (*suggest)(const at_space *space, const at_trial_result *history, size_t n, bool maximize, uint64_t seed,
                   uint64_t number, double *values, at_error *err);
} at_sampler_kind;
const at_sampler_kind *at_sampler_find(const char *name, at_error *err);

/* ---- the study (study.c): STUDY/study.db is an Optuna RDB storage, schema 12 ------------------------- */
at_node *at_study_show(const char *study, at_error *err);   /* name, direction, counts by state, best_trial */
at_node *at_study_best(const char *study, at_error *err);   /* {number, value, params} */
at_node *at_study_trials(const char *study, at_error *err); /* {trials: [{number, wave, state, value, params, worker, start_delay_ms, seconds}]} */

/* ---- a sweep (tune.c), a worker (worker.c), a job (job.c) -------------------------------------------- */
typedef struct at_tune_options {
    const char *sweep; /* SWEEP.yaml */
    const at_node *tree; /* or its tree, already read; sweep then only names it */
    const char *out;
    const char *workers; /* local:N, mpi:N, slurm:N, listen:HOST:PORT; NULL: as in the file, else local:1 */
    const char *program; /* path of atoll itself */
    bool resume;
} at_tune_options;
/* Runs waves until the trials are done; returns at_study_best's object with waves, workers, trials. */
at_node *at_tune(const at_tune_options *options, at_error *err);
typedef struct at_worker_options {
    const char *join; /* HOST:PORT */
    const char *key;  /* key file */
    const char *program, *name;
} at_worker_options;
int at_worker(const at_worker_options *options, at_error *err);
typedef struct at_job_options {
    const char *job, *out, *program;
    const char *workers; /* NULL: as in the file */
    bool resume, quiet;
} at_job_options;
/* Ingest, cache, waves, MPI training, evaluation, report; each stage a child process, each skipped if complete.
 * Returns the content of OUT/summary.json. */
at_node *at_job(const at_job_options *options, at_error *err);

#endif
