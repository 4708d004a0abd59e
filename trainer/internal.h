/* SPDX-License-Identifier: Apache-2.0
 * Shared inside trainer/: optimizers, schedules, checkpoints, the run's folder.
 */
#ifndef ATOLL_TRAINER_INTERNAL_H
#define ATOLL_TRAINER_INTERNAL_H

#include <atoll/trainer.h>

#include "tensorboard.h"

/* ---- optimizers (optimizer.c; one file optimizer_<name>.c and one row OPTIMIZER(name) each) -------- */
enum { AT_OPTIMIZER_SLOTS = 2 };
typedef struct at_update {
    float *params;
    const float *grads;
    float *slots[AT_OPTIMIZER_SLOTS]; /* momentum, second moment, ... */
    const at_train_config *config;
    float lr;
    uint64_t step; /* 1 at the first update */
} at_update;
typedef struct at_optimizer_kind {
    const char *name;
    size_t slots;
    /* Updates the parameters [begin, end) in one pass; decay is 0 where weight decay does not apply. */
    void (*update)(const at_update *u, size_t begin, size_t end, float decay);
} at_optimizer_kind;
typedef struct at_optimizer at_optimizer;
at_optimizer *at_optimizer_new(at_net *net, const at_train_config *config, int threads, at_error *err);
void at_optimizer_free(at_optimizer *o);
/* One step from grads (summed over ranks and scaled) at this learning rate. */
void at_optimizer_step(at_optimizer *o, const float *grads, double lr);
size_t at_optimizer_slots(const at_optimizer *o);
float *at_optimizer_slot(at_optimizer *o, size_t i); /* [param_count] */
uint64_t at_optimizer_steps(const at_optimizer *o);
void at_optimizer_set_steps(at_optimizer *o, uint64_t steps);

/* ---- schedules (schedule.c) ------------------------------------------------------------------------ */
/* The learning rate after `epoch` epochs (2.5: half through the third). */
double at_schedule_lr(const at_train_config *c, double epoch);

/* ---- where a training stands, and its checkpoints (checkpoint.c) ------------------------------------- */
typedef struct at_progress_point {
    uint64_t epoch, step;        /* completed epochs; steps of the one begun */
    uint64_t consumed;           /* samples of the epoch begun, over all ranks */
    double loss_sum, correct, samples; /* of the epoch begun, over all ranks */
    double seconds;              /* of training, over all sessions */
} at_progress_point;
/* CHECKPOINTS/epoch-000003-step-000000120.h5, atomic; then removes all but the newest `keep`. */
int at_checkpoint_save(const char *dir, at_net *net, at_optimizer *o, const at_progress_point *at, int64_t keep,
                       at_error *err);
/* Loads the newest whole one (a broken one is reported and the one before is taken). 1: loaded, 0: there is none. */
int at_checkpoint_load(const char *dir, at_net *net, at_optimizer *o, at_progress_point *at, at_error *err);

/* ---- the run's folder (run_dir.c) -------------------------------------------------------------------- */
/* Makes RUN/ or, with resume, accepts one that is there; refuses one that already holds a training. */
int at_run_prepare(const at_train_job *job, at_error *err);
int at_run_write_config(const at_train_job *job, const at_comm *comm, const at_cache *cache, at_error *err);
/* Keeps the lines of metrics.jsonl up to (epoch, step): what a resumed training repeats is not there twice. */
int at_run_trim_metrics(const char *out, const at_progress_point *at, at_error *err);
int at_run_log(const char *out, at_node *line, at_error *err); /* appends a line to metrics.jsonl; frees it */
int at_run_write_node(const char *out, const char *name, const at_node *tree, at_error *err);

/* ---- the loop (loop.c) -------------------------------------------------------------------------------- */
typedef struct at_training {
    const at_train_job *job;
    at_comm *comm;
    at_cache *cache;
    at_net *net;
    at_plan *plan;
    float *grads; /* [param_count + AT_TAIL] in the node's shared window */
    at_reducer *reducer;
    at_optimizer *optimizer;
    at_progress_point at;
    int threads;
    double started; /* at_now() at the first step */
    uint64_t trained; /* samples of this session, over all ranks */
    at_node *last_epoch; /* the newest epoch's line */
    at_tensorboard *board; /* rank 0's, NULL in a trial */
} at_training;
/* Behind the gradients travel sums that every rank needs after a step: no message of their own. */
enum { AT_TAIL_INTERRUPTED, AT_TAIL_LOSS, AT_TAIL_CORRECT, AT_TAIL_SAMPLES, AT_TAIL };
/* From t->at to the last epoch. AT_EINTERRUPTED after a checkpoint. */
int at_training_run(at_training *t, at_error *err);

#endif
