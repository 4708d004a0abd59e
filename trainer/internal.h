/* SPDX-License-Identifier: Apache-2.0
 * Shared inside trainer/: optimizers, schedules, checkpoints, the run's folder, the loop.
 */
#ifndef ATOLL_TRAINER_INTERNAL_H
#define ATOLL_TRAINER_INTERNAL_H

#include <atoll/trainer.h>

/* ---- ranks fail together (agree.c) ----------------------------------------------------------- */
/* Collective. 0 where every rank's code is, else on every rank the code and message of the lowest
 * rank that failed. comm NULL: alone. */
int at_agree(at_comm *comm, int code, at_error *err);

/* at_plan_new on every rank, or a failure on every rank (build_plan.c). Collective; comm NULL:
 * alone. */
at_plan *at_build_plan(at_comm *comm, at_net *net, const at_plan_options *options, at_error *err);

/* ---- first filters from pixels (whiten.c) ----------------------------------------------------- */
/* For rows with init=whitening, by the first training images. */
int at_whiten(at_net *net, at_cache *cache, at_error *err);

/* ---- weights of classes (class_weights.c) ------------------------------------------------------ */
/* samples / (classes * the class's samples) in the train split of a data set, as scikit-learn's
 * "balanced"; [classes], 0 where a class has none. */
int at_balanced_weights(const char *data, float *weights, size_t classes, at_error *err);

/* ---- how often images are drawn (draw_weights.c) ----------------------------------------------- */
/* By the key `sampler`: how often an image of each class is drawn, relative to the others',
 * [classes] to free; NULL: each image once. AT_EINPUT where the keys do not fit the data. */
int at_draw_weights(const at_train_config *config, at_cache *cache, double **weights,
                    at_error *err);

/* ---- optimizers (optimizer.c; one file optimizer_<name>.c and one row OPTIMIZER(name) each) -- */
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
    /* Updates the parameters [begin, end) in one pass; decay is 0 where weight decay does not
     * apply. */
    void (*update)(const at_update *u, size_t begin, size_t end, float decay);
} at_optimizer_kind;
typedef struct at_optimizer at_optimizer;
at_optimizer *at_optimizer_new(at_net *net, const at_train_config *config, int threads,
                               at_error *err);
void at_optimizer_free(at_optimizer *o);
/* One step from grads (summed over ranks and scaled) at this learning rate. */
void at_optimizer_step(at_optimizer *o, const float *grads, double lr);
const char *at_optimizer_name(const at_optimizer *o);
size_t at_optimizer_slots(const at_optimizer *o);
float *at_optimizer_slot(at_optimizer *o, size_t i); /* [param_count] */
uint64_t at_optimizer_steps(const at_optimizer *o);
void at_optimizer_set_steps(at_optimizer *o, uint64_t steps);

/* ---- schedules (schedule.c) ------------------------------------------------------------------ */
/* The learning rate after `epoch` epochs (2.5: half through the third). */
double at_schedule_lr(const at_train_config *c, double epoch);

/* ---- where a training stands, and its checkpoints (checkpoint.c) ----------------------------- */
typedef struct at_progress_point {
    uint64_t epoch, step;              /* completed epochs; steps of the one begun */
    uint64_t consumed;                 /* samples of the epoch begun, over all ranks */
    double loss_sum, correct, samples; /* of the epoch begun, over all ranks */
    double seconds;                    /* of training with its validation, over all sessions */
    double step_seconds;               /* of these, in training steps */
    char dataset[65];                  /* at_dataset_hash of its images; "": of an older checkpoint */
    char fit[16];                      /* how they come to the network's size; "" as well */
} at_progress_point;
/* CHECKPOINTS/epoch-000003-step-000000120.h5, atomic; then removes all but the newest `keep`. */
int at_checkpoint_save(const char *dir, at_net *net, at_optimizer *o, const at_progress_point *at,
                       int64_t keep, at_error *err);
/* Loads the newest whole one (a broken one is reported and the one before is taken). 1: loaded,
 * 0: there is none, AT_EINPUT: there are, but none can be used; net and o are undefined then. */
int at_checkpoint_load(const char *dir, at_net *net, at_optimizer *o, at_progress_point *at,
                       at_error *err);

/* ---- the run's folder (run_dir.c) ------------------------------------------------------------ */
/* Refuses an unusable RUN and, without resume, one that holds a training. Writes nothing. */
int at_run_check(const at_train_job *job, at_error *err);
/* Makes RUN/ and takes it for this process until *lock is released: AT_EINPUT where another trains
 * there. Removes temporary files of a process that was killed. */
int at_run_begin(const at_train_job *job, at_lock **lock, at_error *err);
/* Every key as it was resolved, the file of `init` by its absolute name. */
at_node *at_run_keys(const at_train_config *config);
int at_run_write_config(const at_train_job *job, const at_comm *comm, const at_cache *cache,
                        at_error *err);
/* Keeps the lines of metrics.jsonl up to (epoch, step): what a resumed training repeats is not
 * there twice. *last_epoch gets the newest epoch's line, NULL where there is none. */
int at_run_trim_metrics(const char *out, const at_progress_point *at, at_node **last_epoch,
                        at_error *err);
int at_run_log(const char *out, at_node *line, at_error *err); /* appends to metrics.jsonl; takes */
/* RUN/name, as YAML where the name says so, else as JSON. */
int at_run_write_node(const char *out, const char *name, const at_node *tree, at_error *err);

/* ---- the loop (loop.c) ----------------------------------------------------------------------- */
typedef struct at_training {
    const at_train_job *job;
    at_comm *comm;
    at_lock *lock; /* of RUN/, rank 0 */
    at_cache *cache;
    at_net *net;
    at_plan *plan;
    float *grads; /* [trained_count + state_count + AT_TAIL] in the node's shared window */
    at_reducer *reducer;
    float *class_weights; /* [classes]; NULL: all 1 */
    double *draw_weights; /* [classes]; NULL: each image once an epoch */
    at_optimizer *optimizer;
    at_progress_point at;
    int threads;
    at_node *last_epoch;          /* the newest epoch's line */
    at_node *init;                /* what was taken of the file that it began with; NULL: nothing */
    struct at_tensorboard *board; /* rank 0, not of a trial */
} at_training;
/* Behind the gradients travel the moving statistics and sums that every rank needs after a step: no
 * message of their own. */
enum {
    AT_TAIL_INTERRUPTED, /* how many ranks were */
    AT_TAIL_FAILED,      /* how many ranks could not take the step */
    AT_TAIL_LOSS,
    AT_TAIL_CORRECT,
    AT_TAIL_SAMPLES,
    AT_TAIL
};
size_t at_training_samples(const at_training *t); /* of an epoch */
size_t at_training_steps(const at_training *t);   /* of an epoch */
/* From t->at to the last epoch; fails on all ranks alike. AT_EINTERRUPTED after a checkpoint. */
int at_training_run(at_training *t, at_error *err);

/* ---- weights to begin with (init.c); rank 0 alone calls these --------------------------------- */
/* Takes what the key `init` names into the network, if anything, and says what. */
int at_init_read(at_training *t, at_error *err);
int at_init_write(const at_training *t, at_error *err); /* RUN/init.json */
/* What was taken, in this session or the first one; NULL: nothing. */
at_node *at_init_report(const at_training *t);

/* ---- who is told (announce.c); rank 0 alone calls these -------------------------------------- */
int at_announce_start(at_training *t, at_error *err);
/* After the step that t->at counts. */
int at_announce_step(at_training *t, double loss, double lr, at_error *err);
/* Before t->at goes on to the next epoch. */
int at_announce_epoch(at_training *t, const at_node *line, at_error *err);
void at_announce_end(at_training *t, bool whole);

/* ---- compute threads (threads.c) ------------------------------------------------------------- */
/* How many this rank should have: as configured, or an equal share of the CPUs that it may run on.
 * Collective. More than the CPUs: AT_EINPUT. */
int at_thread_share(const at_train_config *c, at_comm *comm, int *threads, at_error *err);

/* ---- memory (memory.c): AT_EINPUT with what fits ----------------------------------------------- */
int at_check_weights_fit(const at_training *t, const at_graph *graph, at_error *err);
/* Before the plan is made, beside weights and optimizer that are there; and when it is, before it is
 * used: what timing chose may need more. */
int at_check_batch_fits(const at_training *t, const at_plan_options *options, at_error *err);
int at_check_plan_fits(const at_training *t, at_error *err);

#endif
