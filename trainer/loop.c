/* SPDX-License-Identifier: Apache-2.0
 * The training loop: load, step, sum over ranks, update; epoch ends; checkpoints.
 *
 * Every decision that ranks must take together (an epoch's sums, an interruption, a failure of one)
 * comes from values that travelled behind the gradients (AT_TAIL_...), so all ranks see the same
 * numbers in the same step and no extra message is sent. A rank that failed still takes part in its
 * step, saying so. Moving statistics travel there too and are averaged each step: all ranks hold
 * the same, so a checkpoint is rank 0's alone and a resumed training goes on bit by bit.
 */
#include "internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Of this session's part of an epoch. */
typedef struct epoch_clock {
    double begin;        /* at_now() */
    double counted;      /* at_now() up to which t->at.seconds has been counted */
    double stepping;     /* seconds of steps */
    double data, reduce; /* what loader and reducer had waited when it began */
    uint64_t samples;
    double lr; /* of the newest step */
} epoch_clock;

static bool is_root(const at_training *t)
{
    return at_comm_rank(t->comm) == 0;
}

static size_t global_batch(const at_training *t)
{
    return (size_t)t->job->config->batch * (size_t)at_comm_size(t->comm);
}

size_t at_training_samples(const at_training *t)
{
    size_t all = at_cache_count(t->cache, AT_TRAIN), limit = (size_t)t->job->config->train_limit;
    return limit && limit < all ? limit : all;
}

size_t at_training_steps(const at_training *t)
{
    return (at_training_samples(t) + global_batch(t) - 1) / global_batch(t);
}

/* ---- a step ---------------------------------------------------------------------------------- */

static void on_ready(void *context, size_t done)
{
    at_reducer_ready(context, done);
}

static int load(at_loader *loader, at_batch *batch, at_error *err)
{
    int more = at_loader_next(loader, batch, err);
    if (more <= 0)
        return more < 0 ? more : at_fail(err, AT_EFAIL, "the loader ended early");
    return 0;
}

/* What sample i counts in the loss. */
static double weight_of(const at_training *t, const at_batch *batch, size_t i)
{
    const float *weights = t->class_weights;
    double share = batch->shares ? (double)batch->shares[i] : 1;
    double sum = share * (double)weights[batch->labels[i]];
    if (batch->shares)
        sum += (1 - share) * (double)weights[batch->other_labels[i]];
    return (double)batch->weights[i] * sum;
}

/* What the step's loss is divided by: its samples, or their classes' weights over all ranks. Where
 * ranks meet within the step to normalise batches, none begins it without the others. */
static int divisor(at_training *t, const at_batch *batch, size_t real, int code, double *sum,
                   at_error *err)
{
    double values[2] = {0, code < 0};
    *sum = (double)real;
    if (!t->class_weights && !t->job->config->sync_bn)
        return code;
    for (size_t i = 0; i < (size_t)t->job->config->batch && t->class_weights && code == 0; i++)
        values[0] += weight_of(t, batch, i);
    at_error broken = {0};
    if (at_comm_sum_doubles(t->comm, values, 2, &broken) < 0)
        return at_fail(err, broken.code, "%s", broken.message);
    if (t->class_weights)
        *sum = values[0];
    return values[1] > 0 ? at_agree(t->comm, code, err) : 0;
}

/* This rank's part: its gradients and sums. */
static int compute(at_training *t, const at_batch *batch, double sum, at_plan_stats *stats,
                   at_error *err)
{
    at_plan_input in = {.pixels = batch->pixels,
                        .labels = batch->labels,
                        .weights = batch->weights,
                        .other_labels = batch->other_labels,
                        .shares = batch->shares,
                        .ids = batch->keys,
                        .epoch = batch->epoch,
                        .scale = (float)(1 / sum),
                        .ready = on_ready,
                        .context = t->reducer};
    int code = at_plan_train(t->plan, &in, stats, err);
    if (code < 0 && t->job->config->sync_bn) { /* the others wait for it within the step */
        at_log(AT_LOG_ERROR, "%s", err->message);
        at_comm_abort(t->comm, 1);
    }
    return code;
}

static void put_tail(at_training *t, const at_plan_stats *stats, bool failed)
{
    size_t states = at_net_state_count(t->net);
    float *state = t->grads + at_net_trained_count(t->net), *tail = state + states;
    memcpy(state, at_net_state(t->net), states * sizeof *state);
    tail[AT_TAIL_INTERRUPTED] = at_interrupted();
    tail[AT_TAIL_FAILED] = failed;
    tail[AT_TAIL_LOSS] = (float)stats->loss_sum;
    tail[AT_TAIL_CORRECT] = (float)stats->correct;
    tail[AT_TAIL_SAMPLES] = (float)stats->samples;
}

static void take_tail(at_training *t, float tail[AT_TAIL])
{
    size_t states = at_net_state_count(t->net);
    const float *sum = t->grads + at_net_trained_count(t->net), size = (float)at_comm_size(t->comm);
    float *state = at_net_state(t->net);
    for (size_t begin = 0, end = 0; at_net_next_moving(t->net, &begin, &end);)
        for (size_t i = begin; i < end; i++)
            state[i] = sum[i] / size;
    memcpy(tail, sum + states, AT_TAIL * sizeof *tail);
}

/* The sum of gradients over ranks ends in t->grads. code: whether this rank is well until here;
 * where one is not, all fail. */
static int step(at_training *t, at_loader *loader, size_t real, int code, float tail[AT_TAIL],
                at_error *err)
{
    at_plan_stats stats = {0};
    at_error broken = {0};
    at_batch batch = {0};
    double sum = 0;
    code = code == 0 ? load(loader, &batch, err) : code;
    code = divisor(t, &batch, real, code, &sum, err);
    at_reducer_begin(t->reducer);
    if (code == 0)
        code = compute(t, &batch, sum, &stats, err);
    stats.loss_sum *=
        code == 0 ? (double)real / sum : 0; /* its mean, as often as there are samples */
    put_tail(t, &stats, code < 0);
    if (at_reducer_finish(t->reducer, &broken) < 0)
        return at_fail(err, broken.code, "%s", broken.message);
    take_tail(t, tail);
    return tail[AT_TAIL_FAILED] > 0 ? at_agree(t->comm, code, err) : 0;
}

static int diverged(const at_training *t, const char *what, float value, at_error *err)
{
    return at_fail(err, AT_EFAIL,
                   "%s became %s in epoch %" PRIu64 " after %" PRIu64
                   " steps: try a lower lr (now %g) or a warm-up",
                   what, isnan(value) ? "not a number" : "infinite", t->at.epoch + 1, t->at.step,
                   t->job->config->lr);
}

/* Adds one step's sums to the epoch's. All ranks have the same, so all fail where the loss is no
 * number any more. */
static int account(at_training *t, const float tail[AT_TAIL], size_t real, at_error *err)
{
    if (!isfinite(tail[AT_TAIL_LOSS]))
        return diverged(t, "the loss", tail[AT_TAIL_LOSS], err);
    t->at.step++;
    t->at.consumed += real;
    t->at.loss_sum += (double)tail[AT_TAIL_LOSS];
    t->at.correct += (double)tail[AT_TAIL_CORRECT];
    t->at.samples += (double)tail[AT_TAIL_SAMPLES];
    return 0;
}

static void show(const at_training *t, at_progress *bar)
{
    if (!bar)
        return;
    char note[96];
    snprintf(note, sizeof note, "epoch %" PRIu64 "/%" PRId64 " loss %.4f", t->at.epoch + 1,
             t->job->config->epochs, t->at.samples > 0 ? t->at.loss_sum / t->at.samples : 0.0);
    at_progress_update(bar, (double)(t->at.epoch * at_training_samples(t) + t->at.consumed), note);
}

/* ---- checkpoints ----------------------------------------------------------------------------- */

static void count_seconds(at_training *t, epoch_clock *clock)
{
    double now = at_now();
    t->at.seconds += now - clock->counted;
    clock->counted = now;
}

static int save_checkpoint(at_training *t, epoch_clock *clock, at_error *err)
{
    count_seconds(t, clock);
    int code = 0;
    if (is_root(t)) {
        char *dir = at_path_join(t->job->out, "checkpoints");
        at_cache_dataset(t->cache, t->at.dataset);
        snprintf(t->at.fit, sizeof t->at.fit, "%s", at_fit_name(at_cache_frame(t->cache).fit));
        code = dir ? at_checkpoint_save(dir, t->net, t->optimizer, &t->at,
                                        t->job->config->checkpoint_keep, err)
                   : at_nomem(err);
        free(dir);
        if (code < 0)
            at_fail_in(err, "the checkpoint could not be written");
    }
    return at_agree(t->comm, code, err);
}

/* Whether a multiple of checkpoint.every was passed when this epoch had come to `step`. A whole
 * training ends with one, so that it can be finished again; a trial's last is nobody's. */
static bool checkpoint_due(const at_training *t, uint64_t epoch, size_t step)
{
    const at_train_config *c = t->job->config;
    double steps = (double)at_training_steps(t), every = c->checkpoint_every;
    double after = (double)epoch + (double)step / steps;
    double before = (double)epoch + (double)(step - 1) / steps;
    if (after >= (double)c->epochs)
        return !t->job->trial;
    return every > 0 && floor(after / every) > floor(before / every);
}

static int stop_interrupted(at_training *t, epoch_clock *clock, at_error *err)
{
    int code = save_checkpoint(t, clock, err);
    if (code < 0)
        return code;
    return at_fail(err, AT_EINTERRUPTED,
                   "interrupted in epoch %" PRIu64 " after %" PRIu64
                   " steps; a checkpoint is in %s/checkpoints: continue with --resume",
                   t->at.epoch + 1, t->at.step, t->job->out);
}

/* ---- an epoch -------------------------------------------------------------------------------- */

/* Steps until the epoch's end. AT_EINTERRUPTED: every rank stops after the same step. */
static int run_epoch(at_training *t, at_loader *loader, at_progress *bar, epoch_clock *clock,
                     at_error *err)
{
    size_t steps = at_training_steps(t), samples = at_training_samples(t);
    int code = 0; /* of what rank 0 does alone; the others learn it in the next step */
    while (t->at.step < steps) {
        double began = at_now();
        double epoch = (double)t->at.epoch + ((double)t->at.step + 0.5) / (double)steps;
        size_t left = samples - t->at.consumed;
        size_t real = left < global_batch(t) ? left : global_batch(t);
        float tail[AT_TAIL];
        int together = step(t, loader, real, code, tail, err);
        together = together < 0 ? together : account(t, tail, real, err);
        if (together < 0)
            return together;
        clock->lr = at_schedule_lr(t->job->config, epoch);
        at_optimizer_step(t->optimizer, t->grads, clock->lr);
        clock->samples += real;
        clock->stepping += at_now() - began;
        t->at.step_seconds += at_now() - began;
        double loss = (double)tail[AT_TAIL_LOSS] / (double)tail[AT_TAIL_SAMPLES];
        code = is_root(t) ? at_announce_step(t, loss, clock->lr, err) : 0;
        show(t, bar);
        if (tail[AT_TAIL_INTERRUPTED] > 0)
            return AT_EINTERRUPTED;
        if (t->at.step < steps && checkpoint_due(t, t->at.epoch, t->at.step))
            together = save_checkpoint(t, clock, err);
        if (together < 0)
            return together;
    }
    return at_agree(t->comm, code, err);
}

static at_node *epoch_line(const at_training *t, const epoch_clock *clock, at_loader *loader,
                           const at_node *val)
{
    at_node *line = at_node_new(AT_MAP);
    at_set_int(line, "epoch", (int64_t)t->at.epoch + 1);
    at_set_real(line, "train_loss", t->at.loss_sum / t->at.samples);
    at_set_real(line, "train_accuracy", t->at.correct / t->at.samples);
    if (val) {
        at_set_real(line, "val_loss", at_node_real(at_node_get(val, "loss"), NAN));
        at_set_real(line, "val_accuracy", at_node_real(at_node_get(val, "accuracy"), NAN));
    }
    at_set_real(line, "lr", clock->lr);
    at_set_real(line, "images_per_second", (double)clock->samples / clock->stepping);
    at_set_real(line, "seconds", at_now() - clock->begin);
    at_set_real(line, "waited_data", at_loader_waited(loader) - clock->data);
    at_set_real(line, "waited_allreduce", at_reducer_waited(t->reducer) - clock->reduce);
    return line;
}

/* A rectifier turns what is no number into 0, so the loss alone does not show it. */
static int check_weights(const at_training *t, at_error *err)
{
    const float *params = at_net_params(t->net);
    for (size_t i = 0; i < at_net_param_count(t->net); i++)
        if (!isfinite(params[i]))
            return diverged(t, "a weight", params[i], err);
    return 0;
}

/* Validates, tells, and steps over to the next epoch. */
static int end_epoch(at_training *t, epoch_clock *clock, at_loader *loader, at_error *err)
{
    at_node *val = NULL;
    if (check_weights(t, err) < 0)
        return err->code;
    if (at_cache_count(t->cache, AT_VAL) > 0) {
        val = at_evaluate(t->net, t->cache, AT_VAL, "none", t->threads, t->comm, err);
        if (!val)
            return err->code;
    }
    at_node *line = epoch_line(t, clock, loader, val);
    at_node_free(val);
    at_node_free(t->last_epoch);
    t->last_epoch = line;
    int code = is_root(t) ? at_announce_epoch(t, line, err) : 0;
    count_seconds(t, clock);
    t->at = (at_progress_point){
        .epoch = t->at.epoch + 1, .seconds = t->at.seconds, .step_seconds = t->at.step_seconds};
    return at_agree(t->comm, code, err);
}

static int run_epochs(at_training *t, at_loader *loader, at_progress *bar, at_error *err)
{
    while (t->at.epoch < (uint64_t)t->job->config->epochs) {
        double now = at_now();
        epoch_clock clock = {.begin = now,
                             .counted = now,
                             .data = at_loader_waited(loader),
                             .reduce = at_reducer_waited(t->reducer)};
        int code = run_epoch(t, loader, bar, &clock, err);
        if (code == AT_EINTERRUPTED)
            return stop_interrupted(t, &clock, err);
        code = code < 0 ? code : end_epoch(t, &clock, loader, err);
        if (code == 0 && checkpoint_due(t, t->at.epoch - 1, at_training_steps(t)))
            code = save_checkpoint(t, &clock, err);
        if (code < 0)
            return code;
    }
    return 0;
}

static at_loader *new_loader(const at_training *t, at_error *err)
{
    const at_train_config *c = t->job->config;
    at_loader_spec spec = {.cache = t->cache,
                           .split = AT_TRAIN,
                           .sampler = {.limit = (size_t)c->train_limit,
                                       .ranks = (size_t)at_comm_size(t->comm),
                                       .batch = (size_t)c->batch,
                                       .seed = (uint64_t)c->seed,
                                       .shuffle = true,
                                       .class_weights = t->draw_weights},
                           .rank = (size_t)at_comm_rank(t->comm),
                           .augment = c->augment,
                           .first_epoch = t->at.epoch,
                           .first_step = t->at.step,
                           .epochs = (uint64_t)c->epochs,
                           .threads = at_cache_loader_threads(t->cache, t->threads)};
    return at_loader_new(&spec, err);
}

int at_training_run(at_training *t, at_error *err)
{
    at_loader *loader = new_loader(t, err);
    int code = loader ? 0 : err->code;
    if (code == 0 && is_root(t))
        code = at_announce_start(t, err);
    code = at_agree(t->comm, code, err);
    bool visible = code == 0 && is_root(t) && !t->job->trial;
    double total = (double)at_training_samples(t) * (double)t->job->config->epochs;
    at_progress *bar = visible ? at_progress_new("train", total, "images") : NULL;
    code = code < 0 ? code : run_epochs(t, loader, bar, err);
    if (bar)
        at_progress_end(bar, code == 0 ? "trained" : "stopped");
    if (is_root(t))
        at_announce_end(t, code == 0);
    at_loader_free(loader);
    return code;
}
