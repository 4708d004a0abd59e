/* SPDX-License-Identifier: Apache-2.0
 * coordinator: waves of trials over worker processes, and the whole job.
 *
 *     at_tune_options how = {.sweep = "sweep.yaml", .out = "study", .program = "/usr/bin/atoll"};
 *     at_node *best = at_tune(&how, &err);          // {number, value, params, waves, workers, ...}
 *
 * It links none of the other stages: a trial is `atoll train` as a child process of a worker. One
 * libuv loop each in coordinator and worker; frames are length-prefixed JSON in an encrypted,
 * authenticated stream (libsodium secretstream, key file of mode 0600). A lease has an epoch; a
 * result with an old epoch is refused. Proposals depend on seed and on results in trial order, not
 * on who finished first.
 */
#ifndef ATOLL_COORDINATOR_H
#define ATOLL_COORDINATOR_H

#include <atoll/base.h>

/* ---- search spaces (space.c) ------------------------------------------------------------------
 *   space:
 *     lr: {loguniform: [0.001, 0.3]}
 *     batch: {choice: [32, 64, 128]}
 *     momentum: {uniform: [0.8, 0.99]}
 *     train_limit: {quniform: [1000, 9000, 500]}
 *     epochs: {int: [1, 5]}
 *     optimizer:
 *       choice:
 *         - sgd: {nesterov: {choice: [true, false]}}   # nested: exists only under this choice
 *         - adam: {beta2: {uniform: [0.9, 0.9999]}}
 * A name may occur more than once where no two can be active together. */
typedef enum {
    AT_DIST_UNIFORM,
    AT_DIST_LOGUNIFORM,
    AT_DIST_QUNIFORM, /* low, low + step, ...; high is the last of these */
    AT_DIST_INT,
    AT_DIST_CHOICE
} at_dist_kind;
typedef struct at_dist {
    char *name, *where; /* where: file:line:column of the name, or "" */
    at_dist_kind kind;
    double low, high, step; /* step 0: continuous */
    size_t choice_count;
    at_node **choices; /* scalars */
    int parent;        /* index of the choice it hangs on, always a smaller one; -1: none */
    size_t parent_choice;
} at_dist;
typedef struct at_space {
    at_dist *dists;
    size_t count;
} at_space;
at_space *at_space_parse(const at_node *map, at_error *err); /* errors with file:line:column */
void at_space_free(at_space *s);
/* Values are Optuna's internal representation, [count]: a choice is its index; NaN: inactive.
 * Whether i exists in these values; those of its ancestors must be set. */
bool at_space_active(const at_space *s, const double *values, size_t i);
/* {"lr": 0.03, "optimizer": "sgd"} of what is active. */
at_node *at_space_params(const at_space *s, const double *values);

/* ---- samplers (sampler_*.c by samplers.def): random, tpe ----------------------------------- */
typedef struct at_trial_result {
    const double *values; /* [space->count] */
    double value;         /* the objective; NaN: failed */
    bool running;         /* proposed in this wave, no result yet */
} at_trial_result;
typedef struct at_ask {
    const at_space *space;
    const at_trial_result *history; /* [n] in trial order */
    size_t n;
    size_t startup; /* trials with a result before a model is trusted; until then random */
    bool maximize;
    uint64_t seed, number; /* of the trial to propose */
    uint64_t attempt;      /* 0, then 1, ...: another proposal for the same trial */
} at_ask;
typedef struct at_sampler_kind {
    const char *name, *summary;
    /* Proposes values [space->count], NaN where inactive. Pure in its arguments. */
    int (*suggest)(const at_ask *ask, double *values, at_error *err);
} at_sampler_kind;
const at_sampler_kind *at_sampler_find(const char *name, at_error *err);
const at_sampler_kind *at_sampler_at(size_t i); /* NULL past the last */

/* ---- the study (study.c): STUDY/study.db is an Optuna RDB storage, schema 12 --------------- */
/* {name, direction, metric, trials, waiting, running, complete, fail, waves, best_trial} */
at_node *at_study_show(const char *study, at_error *err);
/* {number, value, params}; AT_ENOENT where no trial has completed */
at_node *at_study_best(const char *study, at_error *err);
/* {trials: [{number, wave, state, value, params, worker, start_delay_ms, seconds, error}]} */
at_node *at_study_trials(const char *study, at_error *err);

/* ---- a sweep (tune.c), a worker (worker.c), a job (job.c) ---------------------------------- */
/* What the other stages would refuse, asked before hours are spent on it. Any may be NULL. */
typedef struct at_checks {
    int (*train)(const char *model, const at_node *settings, at_error *err); /* keys of training */
    int (*ingest)(const at_node *settings, at_error *err);                   /* data: but source */
} at_checks;
typedef struct at_tune_options {
    const char *sweep;   /* SWEEP.yaml */
    const at_node *tree; /* or its tree, already read; sweep then only names it */
    const char *out;
    const char *workers; /* local:N, mpi:N, slurm:N, listen:HOST:PORT; NULL: as in the file */
    const char *program; /* path of atoll itself */
    bool resume;
    at_checks checks;
} at_tune_options;
/* Runs waves until the trials are done; returns at_study_best's object with waves, workers, trials.
 * AT_EINTERRUPTED: every result that came is kept, resume continues. */
at_node *at_tune(const at_tune_options *options, at_error *err);
typedef struct at_worker_options {
    const char *join;           /* HOST:PORT */
    const char *key;            /* key file */
    const char *program, *name; /* name NULL: host and process id */
} at_worker_options;
/* Runs trials as they are leased until the coordinator has no more. A wrong key: AT_EINPUT. */
int at_worker(const at_worker_options *options, at_error *err);
typedef struct at_job_options {
    const char *job, *out, *program;
    const char *workers; /* NULL: as in the file */
    int64_t ranks;       /* of the final training; 0: as in the file */
    int64_t batch;       /* of a training that is told none: ranks share it */
    bool resume;         /* also where there is nothing yet */
    at_checks checks;
} at_job_options;
/* Ingest, cache, waves, MPI training, report; each but the waves a child process, each skipped if
 * complete. OUT gets data/ cache/ study/ train/ model.h5 report.html summary.json job.json. Returns
 * the content of summary.json. */
at_node *at_job(const at_job_options *options, at_error *err);

#endif
