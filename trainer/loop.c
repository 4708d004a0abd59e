/* SPDX-License-Identifier: Apache-2.0
 * The training loop: load, step, sum over ranks, update; epoch ends; checkpoints.
 *
 * Every decision that ranks must take together (an epoch's sums, an interruption) comes from values that travelled
 * behind the gradients (AT_TAIL_...), so all ranks see the same numbers in the same step and no extra message is sent.
 */
#include "internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct epoch_clock {
    double begin, data, reduce;
    uint64_t samples;
} epoch_clock;

static bool is_root(const at_training *t)
{
    return at_comm_rank(t->comm) == 0;
}

static void emit(const at_training *t, const at_node *line)
{
    if (t->job->events_fd <= 0 || !is_root(t))
        return;
    char *text = at_json_print(line, false);
    if (text && dprintf(t->job->events_fd, "%s\n", text) < 0)
        at_log(AT_LOG_DEBUG, "nobody reads the events any more");
    free(text);
}

static void emit_simple(const at_training *t, const char *event, double seconds)
{
    at_node *line = at_node_new(AT_MAP);
    at_set_string(line, "event", event);
    at_set_int(line, "wall_ms", at_wall_ms());
    at_set_real(line, "seconds", seconds);
    emit(t, line);
    at_node_free(line);
}

static size_t planned_samples(const at_training *t)
{
    size_t all = at_cache_count(t->cache, AT_TRAIN), limit = (size_t)t->job->config->train_limit;
    return limit && limit < all ? limit : all;
}

static size_t global_batch(const at_training *t)
{
    return (size_t)t->job->config->batch * (size_t)at_comm_size(t->comm);
}

static void on_ready(void *context, size_t done)
{
    at_reducer_ready(context, done);
}

/* One step: the sum of gradients over ranks ends in t->grads, the sums in tail. */
static int step(at_training *t, const at_batch *batch, size_t real, float tail[AT_TAIL], at_error *err)
{
    size_t params = at_net_param_count(t->net);
    at_plan_stats stats = {0};
    at_plan_input in = {.pixels = batch->pixels,
                        .labels = batch->labels,
                        .weights = batch->weights,
                        .ids = batch->ids,
                        .epoch = batch->epoch,
                        .scale = 1.0f / (float)real,
                        .ready = on_ready,
                        .context = t->reducer};
    at_reducer_begin(t->reducer);
    int code = at_plan_train(t->plan, &in, &stats, err);
    if (code < 0)
        return code;
    float *mine = t->grads + params;
    mine[AT_TAIL_INTERRUPTED] = at_interrupted();
    mine[AT_TAIL_LOSS] = (float)stats.loss_sum;
    mine[AT_TAIL_CORRECT] = (float)stats.correct;
    mine[AT_TAIL_SAMPLES] = (float)stats.samples;
    at_reducer_ready(t->reducer, params + AT_TAIL);
    code = at_reducer_finish(t->reducer, err);
    memcpy(tail, mine, AT_TAIL * sizeof *tail);
    return code;
}

static int log_step(at_training *t, const float *tail, double lr, at_error *err)
{
    int64_t every = t->job->config->log_every;
    if (!is_root(t) || every == 0 || t->at.step % (uint64_t)every != 0)
        return 0;
    at_node *line = at_node_new(AT_MAP);
    at_set_int(line, "epoch", (int64_t)t->at.epoch + 1);
    at_set_int(line, "epoch_step", (int64_t)t->at.step);
    at_set_real(line, "loss", (double)tail[AT_TAIL_LOSS] / (double)tail[AT_TAIL_SAMPLES]);
    at_set_real(line, "lr", lr);
    return at_run_log(t->job->out, line, err);
}

/* Moving statistics are each rank's own until they are needed: then all ranks take their mean. */
static int average_state(at_training *t, at_error *err)
{
    size_t n = at_net_state_count(t->net);
    int size = at_comm_size(t->comm);
    if (n == 0 || size == 1)
        return 0;
    float *state = at_net_state(t->net);
    int code = at_comm_allreduce(t->comm, state, n, err);
    for (size_t i = 0; i < n && code == 0; i++)
        state[i] /= (float)size;
    return code;
}

static int save_checkpoint(at_training *t, at_error *err)
{
    int code = average_state(t, err);
    if (code < 0)
        return code;
    int64_t failed = 0;
    at_error why = {0};
    if (is_root(t)) {
        char *dir = at_path_join(t->job->out, "checkpoints");
        failed = !dir || at_checkpoint_save(dir, t->net, t->optimizer, &t->at, t->job->config->checkpoint_keep, &why) < 0;
        free(dir);
    }
    code = at_comm_max_int(t->comm, &failed, err);
    if (code == 0 && failed)
        return is_root(t) ? at_fail(err, AT_EIO, "the checkpoint could not be written: %s", why.message)
                          : at_fail(err, AT_EPEER, "rank 0 could not write the checkpoint");
    return code;
}

/* Adds one step's sums to the epoch's. A loss that is no number any more ends the training, saying so. */
static int account(at_training *t, const float *tail, size_t real, at_error *err)
{
    if (!isfinite(tail[AT_TAIL_LOSS]))
        return at_fail(err, AT_EFAIL, "the loss became %f in epoch %" PRIu64 ", step %" PRIu64
                       ": try a lower lr (now %g) or a warm-up", (double)tail[AT_TAIL_LOSS], t->at.epoch + 1,
                       t->at.step + 1, t->job->config->lr);
    t->at.step++;
    t->at.consumed += real;
    t->at.loss_sum += (double)tail[AT_TAIL_LOSS];
    t->at.correct += (double)tail[AT_TAIL_CORRECT];
    t->at.samples += (double)tail[AT_TAIL_SAMPLES];
    t->trained += real;
    return 0;
}

static void show(const at_training *t, at_progress *bar)
{
    if (!bar)
        return;
    char note[96];
    snprintf(note, sizeof note, "epoch %" PRIu64 "/%" PRId64 " loss %.4f", t->at.epoch + 1, t->job->config->epochs,
             t->at.samples > 0 ? t->at.loss_sum / t->at.samples : 0.0);
    at_progress_update(bar, (double)(t->at.epoch * planned_samples(t) + t->at.consumed), note);
}

/* Steps until the epoch's end. AT_EINTERRUPTED: every rank stops after the same step. */
static int run_epoch(at_training *t, at_loader *loader, at_progress *bar, epoch_clock *clock, at_error *err)
{
    size_t steps = at_loader_steps(loader), samples = planned_samples(t), batch_size = global_batch(t);
    double waited = at_loader_waited(loader);
    while (t->at.step < steps) {
        at_batch batch;
        int more = at_loader_next(loader, &batch, err);
        if (more <= 0)
            return more < 0 ? more : at_fail(err, AT_EFAIL, "the loader ended early");
        size_t left = samples - (size_t)t->at.step * batch_size, real = left < batch_size ? left : batch_size;
        double lr = at_schedule_lr(t->job->config, (double)t->at.epoch + ((double)t->at.step + 0.5) / (double)steps);
        float tail[AT_TAIL];
        int code = step(t, &batch, real, tail, err);
        code = code < 0 ? code : account(t, tail, real, err);
        if (code < 0)
            return code;
        at_optimizer_step(t->optimizer, t->grads, lr);
        code = log_step(t, tail, lr, err);
        if (code < 0)
            return code;
        clock->samples += real;
        show(t, bar);
        if (tail[AT_TAIL_INTERRUPTED] > 0)
            return AT_EINTERRUPTED;
    }
    clock->data = at_loader_waited(loader) - waited;
    return 0;
}

static at_node *epoch_line(at_training *t, const epoch_clock *clock, const at_node *val)
{
    double seconds = at_now() - clock->begin;
    at_node *line = at_node_new(AT_MAP);
    at_set_int(line, "epoch", (int64_t)t->at.epoch + 1);
    at_set_real(line, "train_loss", t->at.loss_sum / t->at.samples);
    at_set_real(line, "train_accuracy", t->at.correct / t->at.samples);
    if (val) {
        at_set_real(line, "val_loss", at_node_real(at_node_get(val, "loss"), NAN));
        at_set_real(line, "val_accuracy", at_node_real(at_node_get(val, "accuracy"), NAN));
    }
    at_set_real(line, "lr", at_schedule_lr(t->job->config, (double)t->at.epoch + 1));
    at_set_real(line, "images_per_second", (double)clock->samples / seconds);
    at_set_real(line, "seconds", seconds);
    at_set_real(line, "waited_data", clock->data);
    at_set_real(line, "waited_allreduce", at_reducer_waited(t->reducer) - clock->reduce);
    return line;
}

/* The epoch's numbers for TensorBoard, under the tags that group its charts. */
static int show_on_board(const at_training *t, const at_node *line, at_error *err)
{
    static const struct {
        const char *key, *tag;
    } scalars[] = {{"train_loss", "loss/train"},         {"val_loss", "loss/validation"},
                   {"train_accuracy", "accuracy/train"}, {"val_accuracy", "accuracy/validation"},
                   {"lr", "lr"},                         {"images_per_second", "images_per_second"}};
    int code = 0;
    for (size_t i = 0; i < sizeof scalars / sizeof *scalars && t->board && code == 0; i++)
        code = at_tensorboard_scalar(t->board, at_node_int(at_node_get(line, "epoch"), 0), scalars[i].tag,
                                     at_node_real(at_node_get(line, scalars[i].key), NAN), err);
    return code;
}

static int end_epoch(at_training *t, const epoch_clock *clock, at_error *err)
{
    at_node *val = NULL;
    int code = average_state(t, err);
    if (code < 0)
        return code;
    if (at_cache_count(t->cache, AT_VAL) > 0) {
        val = at_evaluate(t->net, t->cache, AT_VAL, "none", t->threads, t->comm, err);
        if (!val)
            return err && err->code ? err->code : AT_EFAIL;
    }
    at_node *line = epoch_line(t, clock, val);
    at_node_free(val);
    at_node_free(t->last_epoch);
    t->last_epoch = at_node_copy(line);
    at_set_string(line, "event", "epoch");
    emit(t, line);
    at_node_remove(line, "event");
    t->at = (at_progress_point){.epoch = t->at.epoch + 1, .seconds = t->at.seconds + at_now() - clock->begin};
    code = show_on_board(t, line, err);
    if (code == 0 && is_root(t))
        return at_run_log(t->job->out, line, err);
    at_node_free(line);
    return code;
}

static bool checkpoint_due(const at_training *t)
{
    double every = t->job->config->checkpoint_every, epoch = (double)t->at.epoch;
    if (t->at.epoch == (uint64_t)t->job->config->epochs)
        return !t->job->trial;
    return every > 0 && floor(epoch / every) > floor((epoch - 1) / every);
}

static int interrupted(at_training *t, const epoch_clock *clock, at_error *err)
{
    t->at.seconds += at_now() - clock->begin;
    int code = save_checkpoint(t, err);
    return code < 0 ? code
                    : at_fail(err, AT_EINTERRUPTED, "interrupted in epoch %" PRIu64
                              " after %" PRIu64 " steps; a checkpoint is in %s/checkpoints: continue with --resume",
                              t->at.epoch + 1, t->at.step, t->job->out);
}

static int run_epochs(at_training *t, at_loader *loader, at_progress *bar, at_error *err)
{
    while (t->at.epoch < (uint64_t)t->job->config->epochs) {
        epoch_clock clock = {.begin = at_now(), .reduce = at_reducer_waited(t->reducer)};
        int code = run_epoch(t, loader, bar, &clock, err);
        if (code == AT_EINTERRUPTED)
            return interrupted(t, &clock, err);
        code = code < 0 ? code : end_epoch(t, &clock, err);
        code = code < 0 || !checkpoint_due(t) ? code : save_checkpoint(t, err);
        if (code < 0)
            return code;
    }
    return 0;
}

int at_training_run(at_training *t, at_error *err)
{
    const at_train_config *c = t->job->config;
    at_loader_spec spec = {.cache = t->cache,
                           .split = AT_TRAIN,
                           .sampler = {.limit = (size_t)c->train_limit,
                                       .ranks = (size_t)at_comm_size(t->comm),
                                       .batch = (size_t)c->batch,
                                       .seed = (uint64_t)c->seed,
                                       .shuffle = true},
                           .rank = (size_t)at_comm_rank(t->comm),
                           .augment = {.flip = c->augment_flip, .shift = (int)c->augment_shift},
                           .first_epoch = t->at.epoch,
                           .first_step = t->at.step,
                           .epochs = (uint64_t)c->epochs};
    at_loader *loader = at_loader_new(&spec, err);
    if (!loader)
        return err && err->code ? err->code : AT_EFAIL;
    bool visible = is_root(t) && !t->job->trial;
    if (visible && !(t->board = at_tensorboard_open(t->job->out, err))) {
        at_loader_free(loader);
        return err && err->code ? err->code : AT_EIO;
    }
    double total = (double)(planned_samples(t) * (size_t)c->epochs);
    at_progress *bar = visible ? at_progress_new("train", total, "images") : NULL;
    t->started = at_now();
    emit_simple(t, "start", 0);
    int code = run_epochs(t, loader, bar, err);
    if (bar)
        at_progress_end(bar, code == 0 ? "trained" : "stopped");
    emit_simple(t, "end", at_now() - t->started);
    at_tensorboard_close(t->board);
    at_loader_free(loader);
    return code;
}
