/* SPDX-License-Identifier: Apache-2.0
 * Waves: the trials of a wave are proposed together, when all before have ended, from the results
 * in trial order. So a proposal does not depend on which worker was quick.
 *
 * Invariants: every change is in the study before it is in memory; a trial that is RUNNING has one
 * lease, known by its epoch; only the current wave has trials that have not ended. */
#include "internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LOSSES_MAX = 3, MISFITS_MAX = 3, ATTEMPTS_MAX = 50 };
enum { STATUS_USAGE = 2, STATUS_INPUT = 3 }; /* of the program: at_error_exit_status */

struct at_schedule {
    const at_sweep *sweep;
    at_study *study;
    at_trial *trials; /* [sweep->search.trials], the first `count` proposed */
    double *values;   /* of all of them */
    size_t count;
    int64_t wave; /* the latest proposed; 0: none */
    bool wave_open;
    int misfits;   /* failures in a row that blame the sweep */
    char *failure; /* of the latest failed trial */
};

static bool has_ended(const at_trial *t)
{
    return t->state == AT_TRIAL_COMPLETE || t->state == AT_TRIAL_FAIL;
}

static bool all_ended(const at_schedule *s)
{
    for (size_t i = 0; i < s->count; i++)
        if (!has_ended(&s->trials[i]))
            return false;
    return true;
}

/* ---- making ---- */

/* The leases of a coordinator that died are void. */
static int load(at_schedule *s, at_error *err)
{
    size_t capacity = (size_t)s->sweep->search.trials;
    int rc = at_study_load(s->study, s->trials, capacity, &s->count, err);
    for (size_t i = 0; i < s->count && !rc; i++) {
        at_trial *t = &s->trials[i];
        s->wave = t->wave;
        if (t->state == AT_TRIAL_RUNNING && !(rc = at_study_return(s->study, t, "ended", err)))
            t->state = AT_TRIAL_WAITING;
    }
    s->wave_open = !all_ended(s);
    return rc;
}

at_schedule *at_schedule_new(const at_sweep *sweep, at_study *study, at_error *err)
{
    size_t n = (size_t)sweep->search.trials, width = sweep->space->count;
    at_schedule *s = calloc(1, sizeof *s);
    if (!s || !(s->trials = calloc(n, sizeof *s->trials)) ||
        !(s->values = calloc(n * width, sizeof *s->values))) {
        at_nomem(err);
        goto fail;
    }
    s->sweep = sweep;
    s->study = study;
    for (size_t i = 0; i < n * width; i++)
        s->values[i] = NAN;
    for (size_t i = 0; i < n; i++) {
        s->trials[i].values = s->values + i * width;
        s->trials[i].value = s->trials[i].latest = NAN;
    }
    if (load(s, err))
        goto fail;
    return s;
fail:
    at_schedule_free(s);
    return NULL;
}

void at_schedule_free(at_schedule *s)
{
    if (!s)
        return;
    free(s->trials);
    free(s->values);
    free(s->failure);
    free(s);
}

/* ---- proposing ---- */

static bool is_repeated(const at_schedule *s, size_t i)
{
    size_t width = s->sweep->space->count;
    const double *values = s->trials[i].values;
    for (size_t k = 0; k < i; k++) {
        size_t same = 0;
        while (same < width && (values[same] == s->trials[k].values[same] ||
                                (isnan(values[same]) && isnan(s->trials[k].values[same]))))
            same++;
        if (same == width)
            return true;
    }
    return false;
}

/* Trials that were run already are proposed again only where there are hardly any others. */
static int suggest_one(at_schedule *s, size_t i, const at_trial_result *history, at_error *err)
{
    const at_sweep *sweep = s->sweep;
    at_ask ask = {.space = sweep->space,
                  .history = history,
                  .n = i,
                  .startup = sweep->startup,
                  .maximize = sweep->maximize,
                  .seed = (uint64_t)sweep->search.seed,
                  .number = i};
    int rc = sweep->sampler->suggest(&ask, s->trials[i].values, err);
    while (!rc && is_repeated(s, i) && ++ask.attempt < ATTEMPTS_MAX)
        rc = ask.attempt < ATTEMPTS_MAX / 5
                 ? sweep->sampler->suggest(&ask, s->trials[i].values, err)
                 : at_suggest_random(&ask, s->trials[i].values, err);
    return rc;
}

static int suggest_wave(at_schedule *s, size_t n, at_trial_result *history, at_error *err)
{
    for (size_t i = 0; i < s->count; i++)
        history[i] = (at_trial_result){s->trials[i].values, s->trials[i].value, false};
    for (size_t i = s->count; i < s->count + n; i++) {
        at_trial *t = &s->trials[i];
        int rc = suggest_one(s, i, history, err);
        if (rc)
            return rc;
        history[i] = (at_trial_result){t->values, NAN, true};
        t->number = (int64_t)i;
        t->wave = s->wave + 1;
    }
    return 0;
}

static int propose(at_schedule *s, at_error *err)
{
    size_t left = (size_t)s->sweep->search.trials - s->count, wave = (size_t)s->sweep->search.wave;
    size_t n = left < wave ? left : wave;
    at_trial_result *history = calloc(s->count + n, sizeof *history);
    if (!history)
        return at_nomem(err);
    int rc = suggest_wave(s, n, history, err);
    free(history);
    if (!rc)
        rc = at_study_propose(s->study, s->wave + 1, &s->trials[s->count], n, err);
    if (rc)
        return rc;
    s->count += n;
    s->wave++;
    s->wave_open = true;
    return 0;
}

static int close_wave(at_schedule *s, at_error *err)
{
    if (!s->wave_open || !all_ended(s))
        return 0;
    s->wave_open = false;
    return at_study_end_wave(s->study, s->wave, err);
}

int at_schedule_next(at_schedule *s, at_trial **out, at_error *err)
{
    *out = NULL;
    int rc = 0;
    if (!s->wave_open && s->count < (size_t)s->sweep->search.trials)
        rc = propose(s, err);
    for (size_t i = 0; i < s->count && !rc && !*out; i++)
        if (s->trials[i].state == AT_TRIAL_WAITING)
            *out = &s->trials[i];
    return rc;
}

bool at_schedule_ended(const at_schedule *s)
{
    return s->count == (size_t)s->sweep->search.trials && all_ended(s);
}

/* ---- leases ---- */

int at_schedule_lease(at_schedule *s, at_trial *t, const char *worker, at_error *err)
{
    t->epoch++;
    int rc = at_study_lease(s->study, t, worker, err);
    if (!rc)
        t->state = AT_TRIAL_RUNNING;
    return rc;
}

at_trial *at_schedule_leased(at_schedule *s, int64_t number, int64_t epoch)
{
    if (number < 0 || number >= (int64_t)s->count)
        return NULL;
    at_trial *t = &s->trials[number];
    return t->state == AT_TRIAL_RUNNING && t->epoch == epoch ? t : NULL;
}

int at_schedule_event(at_schedule *s, at_trial *t, const at_node *event, double delay_ms,
                      at_error *err)
{
    const char *kind = at_node_string(at_node_get(event, "event"), "");
    if (strcmp(kind, "start") == 0)
        return at_study_started(s->study, t, delay_ms, err);
    const at_node *value = at_node_get(event, s->sweep->search.metric);
    if (strcmp(kind, "epoch") != 0 || !value)
        return 0;
    t->latest = at_node_real(value, NAN);
    t->measured = true;
    return at_study_step(s->study, t, at_node_int(at_node_get(event, "epoch"), 0), t->latest, err);
}

/* What to say of a child that ended so; NULL: it succeeded. malloc'd. */
static char *failure_of(const at_schedule *s, const at_trial *t, const at_outcome *o)
{
    const char *tail = o->tail ? o->tail : "";
    if (o->signal)
        return at_format("killed by signal %d (%s)%s%s", o->signal, strsignal(o->signal),
                         *tail ? ": " : "", tail);
    if (o->status)
        return at_format("exit status %d%s%s", o->status, *tail ? ": " : "", tail);
    if (!isfinite(t->latest))
        return at_format("its epochs reported no finite %s%s", s->sweep->search.metric,
                         !t->measured && strncmp(s->sweep->search.metric, "val_", 4) == 0
                             ? "; has the data set a val split (ingest's val-fraction makes one)?"
                             : "");
    return NULL;
}

/* A sweep that is itself wrong must not burn the night: three such failures in a row end it. */
static int judge(at_schedule *s, const at_trial *t, const at_outcome *o, at_error *err)
{
    bool misfit = !o->signal && (o->status == STATUS_USAGE || o->status == STATUS_INPUT);
    if (t->state == AT_TRIAL_FAIL && !o->signal && !o->status && !t->measured) /* nor will others */
        return at_fail(err, AT_EINPUT, "trial %" PRId64 ": %s", t->number, s->failure);
    if (t->state == AT_TRIAL_COMPLETE || !misfit) {
        s->misfits = 0;
        return 0;
    }
    if (++s->misfits < MISFITS_MAX)
        return 0;
    return at_fail(err, o->status == STATUS_USAGE ? AT_EUSAGE : AT_EINPUT,
                   "%d trials in a row failed, so the sweep ends; trial %" PRId64 ": %s",
                   s->misfits, t->number, s->failure);
}

static int finish(at_schedule *s, at_trial *t, double seconds, const char *failure, at_error *err)
{
    at_trial ended = *t;
    ended.state = failure ? AT_TRIAL_FAIL : AT_TRIAL_COMPLETE;
    ended.value = failure ? NAN : t->latest;
    int rc = at_study_finish(s->study, &ended, seconds, failure, err);
    if (rc)
        return rc;
    *t = ended;
    return close_wave(s, err);
}

int at_schedule_result(at_schedule *s, at_trial *t, const at_outcome *outcome, at_error *err)
{
    char *failure = failure_of(s, t, outcome);
    int rc = finish(s, t, outcome->seconds, failure, err);
    if (failure) {
        free(s->failure);
        s->failure = failure;
    }
    return rc ? rc : judge(s, t, outcome, err);
}

int at_schedule_return(at_schedule *s, at_trial *t, bool lost, at_error *err)
{
    if (lost && ++t->losses >= LOSSES_MAX) {
        char *failure = at_format("%d workers died with it", t->losses);
        int rc = failure ? finish(s, t, 0, failure, err) : at_nomem(err);
        free(s->failure);
        s->failure = failure;
        return rc;
    }
    int rc = at_study_return(s->study, t, lost ? "lost" : "returned", err);
    if (!rc)
        t->state = AT_TRIAL_WAITING;
    return rc;
}

/* ---- looking ---- */

at_schedule_state at_schedule_look(const at_schedule *s)
{
    at_schedule_state now = {
        .trials = s->sweep->search.trials, .waves = s->wave, .failure = s->failure};
    for (size_t i = 0; i < s->count; i++) {
        const at_trial *t = &s->trials[i];
        now.done += has_ended(t);
        now.failed += t->state == AT_TRIAL_FAIL;
        if (t->state != AT_TRIAL_COMPLETE)
            continue;
        if (!now.best ||
            (s->sweep->maximize ? t->value > now.best->value : t->value < now.best->value))
            now.best = t;
    }
    return now;
}

void at_trial_describe(const at_sweep *sweep, const at_trial *t, at_text *out)
{
    at_node *params = at_space_params(sweep->space, t->values);
    at_text_add(out, "%.4g (", t->value);
    for (size_t i = 0; i < at_node_count(params); i++) {
        const at_node *value = at_node_at(params, i);
        at_text_add(out, "%s%s=", i ? ", " : "", at_node_key(params, i));
        if (at_node_kind(value) == AT_REAL)
            at_text_add(out, "%.4g", at_node_real(value, 0));
        else
            at_text_add(out, "%s", at_node_text(value));
    }
    at_text_add(out, ")");
    at_node_free(params);
}

at_node *at_trial_settings(const at_sweep *sweep, const at_trial *t, int64_t threads, at_error *err)
{
    at_node *flat = at_node_copy(sweep->train), *params = at_space_params(sweep->space, t->values);
    int rc = flat && params ? at_settings_overlay(flat, params, err) : at_nomem(err);
    if (!rc && !at_node_get(flat, "threads") && !at_set_int(flat, "threads", threads))
        rc = at_nomem(err);
    at_node_free(params);
    if (!rc)
        return flat;
    at_node_free(flat);
    return NULL;
}
