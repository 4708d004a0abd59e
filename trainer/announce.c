/* SPDX-License-Identifier: Apache-2.0
 * Who is told how a training goes, by rank 0: metrics.jsonl, TensorBoard, and a coordinator that
 * listens on events_fd. A trial has nobody who would open TensorBoard on it.
 */
#include "internal.h"
#include "tensorboard.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A reader that is gone ends this process by SIGPIPE: nobody wants its result any more. */
static void emit(const at_training *t, const at_node *line)
{
    if (t->job->events_fd <= 0)
        return;
    char *text = at_json_print(line, false);
    if (text && dprintf(t->job->events_fd, "%s\n", text) < 0)
        at_log(AT_LOG_DEBUG, "nobody reads the events any more");
    free(text);
}

static void emit_moment(const at_training *t, const char *event)
{
    at_node *line = at_node_new(AT_MAP);
    at_set_string(line, "event", event);
    at_set_int(line, "wall_ms", at_wall_ms());
    at_set_real(line, "seconds", t->at.seconds);
    emit(t, line);
    at_node_free(line);
}

int at_announce_start(at_training *t, at_error *err)
{
    if (!t->job->trial && !(t->board = at_tensorboard_open(t->job->out, err)))
        return err->code;
    emit_moment(t, "start");
    return 0;
}

void at_announce_end(at_training *t, bool whole)
{
    if (whole)
        emit_moment(t, "end");
    at_tensorboard_close(t->board);
    t->board = NULL;
}

/* At TensorBoard's step: how many steps all epochs have taken. */
static int show_scalar(at_training *t, const char *tag, const at_node *value, at_error *err)
{
    int64_t step = (int64_t)(t->at.epoch * at_training_steps(t) + t->at.step);
    return t->board ? at_tensorboard_scalar(t->board, step, tag, at_node_real(value, NAN), err) : 0;
}

int at_announce_step(at_training *t, double loss, double lr, at_error *err)
{
    int64_t every = t->job->config->log_every;
    if (every == 0 || t->at.step % (uint64_t)every != 0)
        return 0;
    at_node *line = at_node_new(AT_MAP);
    at_set_int(line, "epoch", (int64_t)t->at.epoch + 1);
    at_set_int(line, "epoch_step", (int64_t)t->at.step);
    at_set_real(line, "loss", loss);
    at_set_real(line, "lr", lr);
    int code = show_scalar(t, "step/loss", at_node_get(line, "loss"), err);
    code = code < 0 ? code : show_scalar(t, "step/lr", at_node_get(line, "lr"), err);
    int logged = at_run_log(t->job->out, line, err);
    return code < 0 ? code : logged;
}

int at_announce_epoch(at_training *t, const at_node *line, at_error *err)
{
    static const struct {
        const char *key, *tag;
    } scalars[] = {{"train_loss", "loss/train"},
                   {"val_loss", "loss/validation"},
                   {"train_accuracy", "accuracy/train"},
                   {"val_accuracy", "accuracy/validation"},
                   {"images_per_second", "speed/images_per_second"}};
    at_node *event = at_node_new(AT_MAP);
    at_set_string(event, "event", "epoch");
    for (size_t i = 0; i < at_node_count(line); i++)
        at_node_set(event, at_node_key(line, i), at_node_copy(at_node_at(line, i)));
    emit(t, event);
    at_node_free(event);
    int code = 0;
    for (size_t i = 0; i < sizeof scalars / sizeof *scalars && code == 0; i++)
        code = show_scalar(t, scalars[i].tag, at_node_get(line, scalars[i].key), err);
    return code < 0 ? code : at_run_log(t->job->out, at_node_copy(line), err);
}
