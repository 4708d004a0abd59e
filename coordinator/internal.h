/* SPDX-License-Identifier: Apache-2.0
 * What the files of coordinator/ share. */
#ifndef ATOLL_COORDINATOR_INTERNAL_H
#define ATOLL_COORDINATOR_INTERNAL_H

#include <atoll/coordinator.h>

/* ---- distributions (space.c, sampler_random.c) ---- */
double at_dist_clip(const at_dist *d, double value); /* to the nearest value that d has */
double at_dist_draw(const at_dist *d, at_rng *rng);
at_node *at_dist_external(const at_dist *d, double value); /* as people write it: 3, 0.1, adam */
char *
at_dist_json(const at_dist *d); /* Optuna's distribution_json; malloc'd, NULL without memory */
int at_suggest_random(const at_ask *ask, double *values, at_error *err);

/* ---- Parzen estimator (parzen.c) ---- */
typedef struct at_parzen at_parzen;
/* Over the parameters `columns` [dims] of the observations rows[n][space->count], oldest first.
 * NULL without memory. */
at_parzen *at_parzen_new(const at_space *space, const size_t *columns, size_t dims,
                         const double *const *rows, size_t n);
void at_parzen_draw(const at_parzen *p, at_rng *rng, double *point);   /* [dims] */
double at_parzen_log_density(const at_parzen *p, const double *point); /* up to a constant */
void at_parzen_free(at_parzen *p);

/* ---- settings (settings.c): maps of JOB.yaml and SWEEP.yaml ---- */
/* Unknown keys: AT_EINPUT with place and nearest name. names ends with NULL. */
int at_keys_check(const at_node *map, const char *const *names, at_error *err);
int at_string_get(const at_node *map, const char *key, const char **out, at_error *err);
/* Lays map, nested or dotted, over flat ({"augment.flip": true}). */
int at_settings_overlay(at_node *flat, const at_node *map, at_error *err);
/* Adds "-s", "key=value" for each to the list args. */
int at_settings_args(const at_node *flat, at_node *args, at_error *err);
/* The first key, dotted, whose values differ; malloc'd, NULL where there is none. */
char *at_settings_change(const at_node *a, const at_node *b);

/* ---- the sweep (sweep.c): SWEEP.yaml, checked ---- */
typedef struct at_search {
    int64_t trials, wave, seed;
    char *workers, *sampler, *metric, *direction;
} at_search;
typedef struct at_sweep {
    char *data, *model;
    at_node *train; /* flat settings of every trial: train: with search.train: over it */
    at_search search;
    bool maximize;
    size_t startup; /* trials before TPE trusts its model */
    const at_sampler_kind *sampler;
    at_space *space;
} at_sweep;
/* name: of the file, for messages. */
at_sweep *at_sweep_read(const at_node *tree, const char *name, const at_checks *checks,
                        at_error *err);
void at_sweep_free(at_sweep *s);
/* Everything that decides the results, resolved; tree is what the sweep was read from. */
at_node *at_sweep_node(const at_sweep *s, const at_node *tree);

/* ---- the study (study.c, study_read.c) ---- */
typedef enum {
    AT_TRIAL_WAITING,
    AT_TRIAL_RUNNING,
    AT_TRIAL_COMPLETE,
    AT_TRIAL_FAIL
} at_trial_state;
typedef struct at_trial {
    int64_t id, number, wave; /* waves count from 1 */
    int64_t epoch;            /* of the latest lease; 0: never leased */
    at_trial_state state;
    double *values; /* [space->count] */
    double value;   /* NaN unless complete */
    double latest;  /* the metric of the latest epoch, also of an earlier lease: a trial that is
                     * resumed at its end reports none again; NaN: none */
    bool measured;  /* an epoch has reported the metric, be it NaN */
    int losses;     /* leases lost in this run because a worker died */
} at_trial;
typedef struct at_study at_study;
const char *at_trial_state_name(at_trial_state state);
/* Creates or continues DIR/study.db; a changed sweep or another coordinator is an error. tree:
 * at_sweep_node's. Borrows the sweep's space. */
at_study *at_study_open(const char *dir, const at_sweep *sweep, const at_node *tree, bool resume,
                        at_error *err);
void at_study_close(at_study *s);
/* Trials in order of number into trials[capacity], whose values are allocated. */
int at_study_load(at_study *s, at_trial *trials, size_t capacity, size_t *n, at_error *err);
/* Each of these is one transaction. propose sets the ids; lease and the rest go by t->epoch. */
int at_study_propose(at_study *s, int64_t wave, at_trial *trials, size_t n, at_error *err);
int at_study_end_wave(at_study *s, int64_t wave, at_error *err);
int at_study_lease(at_study *s, const at_trial *t, const char *worker, at_error *err);
int at_study_started(at_study *s, const at_trial *t, double delay_ms, at_error *err);
int at_study_step(at_study *s, const at_trial *t, int64_t step, double value, at_error *err);
int at_study_finish(at_study *s, const at_trial *t, double seconds, const char *failure,
                    at_error *err);
int at_study_return(at_study *s, const at_trial *t, const char *why, at_error *err);

/* ---- waves (wave.c): which trial is next, what a result means; no network, no clock ---- */
typedef struct at_schedule at_schedule;
typedef struct at_outcome {
    int status, signal; /* of the child */
    double seconds;
    const char *tail; /* its last lines on stderr */
} at_outcome;
at_schedule *at_schedule_new(const at_sweep *sweep, at_study *study, at_error *err);
void at_schedule_free(at_schedule *s);
/* The next trial to lease, after proposing a wave where one is due; *out NULL: none now. */
int at_schedule_next(at_schedule *s, at_trial **out, at_error *err);
int at_schedule_lease(at_schedule *s, at_trial *t, const char *worker, at_error *err);
/* The trial under this lease; NULL: the lease is over, or never was. */
at_trial *at_schedule_leased(at_schedule *s, int64_t number, int64_t epoch);
int at_schedule_event(at_schedule *s, at_trial *t, const at_node *event, double delay_ms,
                      at_error *err);
/* Ends the trial: complete or failed. AT_EINPUT or AT_EUSAGE where the sweep itself is wrong. */
int at_schedule_result(at_schedule *s, at_trial *t, const at_outcome *outcome, at_error *err);
/* The trial waits again. lost: its worker died; after three of these the trial fails. */
int at_schedule_return(at_schedule *s, at_trial *t, bool lost, at_error *err);
bool at_schedule_ended(const at_schedule *s);
typedef struct at_schedule_state {
    int64_t trials, done, failed, waves;
    const at_trial *best; /* NULL: none has completed */
    const char *failure;  /* of the latest failed trial, NULL */
} at_schedule_state;
at_schedule_state at_schedule_look(const at_schedule *s);
void at_trial_describe(const at_sweep *sweep, const at_trial *t,
                       at_text *out); /* "0.87 (lr=0.03)" */
/* Flat settings of the trial's training; threads: where the sweep does not say. NULL: *err tells. */
at_node *at_trial_settings(const at_sweep *sweep, const at_trial *t, int64_t threads,
                           at_error *err);

#endif
