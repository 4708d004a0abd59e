/* SPDX-License-Identifier: Apache-2.0
 * A whole job: the stages in order, each recorded in OUT/job.json when it is complete.
 *
 * Invariants: a recorded stage is never run again, an unrecorded one may be run twice without harm;
 * one process works in OUT at a time (OUT/lock), and only after the last process of an earlier one,
 * killed perhaps, has ended (OUT/stage.lock, which the stages inherit). */
#include "job.h"
#include "command.h"
#include "launcher.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { COPY_MAX = 1 << 30 };

typedef struct job {
    at_job_options options;
    at_job_config config;
    at_node *record; /* job.json: {job, stages: {name: {seconds, result}}} */
    at_lock *lock, *stage;
    char out[PATH_MAX]; /* absolute */
    bool slurm;         /* within an allocation */
    bool fresh;         /* nothing in OUT is of an earlier run of this job */
} job;

static char *path_in(const job *j, const char *name)
{
    return at_path_join(j->out, name);
}

static bool is_there(const job *j, const char *name)
{
    char *path = path_in(j, name);
    bool there = path && (at_file_exists(path) || at_dir_exists(path));
    free(path);
    return there;
}

static int write_json(const job *j, const char *name, const at_node *tree, at_error *err)
{
    char *path = path_in(j, name), *text = at_json_print(tree, true);
    int rc = path && text ? at_file_write(path, text, strlen(text), err) : at_nomem(err);
    free(path);
    free(text);
    return rc;
}

/* ---- child processes ---- */

/* "--name" and the path of OUT/name. */
static bool add_path(const job *j, at_node *words, const char *option, const char *name)
{
    char *path = path_in(j, name);
    bool added = path && (!*option || at_command_add(words, option)) && at_command_add(words, path);
    free(path);
    return added;
}

static at_node *command(const job *j, const char *name)
{
    return at_command_new(j->options.program, name);
}

/* ---- stages ---- */

static int ingest(job *j, at_node **result, at_error *err)
{
    (void)result;
    if (!j->fresh && is_there(j, "data")) /* it has its name only when it is complete */
        return 0;
    at_node *words = command(j, "ingest");
    bool ok =
        words && at_command_add(words, j->config.source) && add_path(j, words, "--out", "data");
    for (size_t i = 0; i < at_node_count(j->config.ingest) && ok; i++) {
        char *word = at_format("--%s=%s", at_node_key(j->config.ingest, i),
                               at_node_text(at_node_at(j->config.ingest, i)));
        ok = word && at_command_add(words, word);
        free(word);
    }
    if (ok && !j->fresh && is_there(j, "data.partial"))
        ok = at_command_add(words, "--resume");
    int rc = ok ? at_command_run(words, j->stage, err) : at_nomem(err);
    at_node_free(words);
    return rc;
}

/* Once for all trials and ranks, so that each of them starts at once. */
static int fill_cache(job *j, at_node **result, at_error *err)
{
    (void)result;
    if (!j->config.cached)
        return 0;
    at_node *words = command(j, "cache");
    bool ok = words && at_command_add(words, "build") && add_path(j, words, "", "data") &&
              add_path(j, words, "--out", "cache");
    for (size_t i = 0; i < AT_JOB_CACHE_KEYS && ok; i++) {
        if (!j->config.cache[i])
            continue;
        char *word = at_format("--%s=%s", at_job_cache_keys[i], j->config.cache[i]);
        ok = word && at_command_add(words, word);
        free(word);
    }
    int rc = ok ? at_command_run(words, j->stage, err) : at_nomem(err);
    at_node_free(words);
    return rc;
}

static int search(job *j, at_node **result, at_error *err)
{
    if (!j->config.sweep)
        return 0;
    char *out = path_in(j, "study");
    if (!out)
        return at_nomem(err);
    at_tune_options options = {.sweep = j->options.job,
                               .tree = j->config.sweep,
                               .out = out,
                               .workers = j->options.workers,
                               .program = j->options.program,
                               .resume = !j->fresh,
                               .checks = j->options.checks};
    *result = at_tune(&options, err);
    free(out);
    return *result ? 0 : err->code;
}

static const at_node *result_of(const job *j, const char *stage)
{
    return at_node_get(at_node_get(at_node_get(j->record, "stages"), stage), "result");
}

static bool add_launcher(const job *j, at_node *words)
{
    static const char *const srun[] = {"srun", "--mpi=pmix", "--overlap", "-n", NULL};
    char ranks[32];
    snprintf(ranks, sizeof ranks, "%lld", (long long)j->config.ranks);
    const char **mpirun = j->slurm ? NULL : at_mpirun_words(ranks);
    bool ok = j->slurm || mpirun;
    for (const char *const *w = j->slurm ? srun : (const char *const *)mpirun; ok && *w; w++)
        ok = at_command_add(words, *w);
    free(mpirun);
    return ok && (!j->slurm || at_command_add(words, ranks));
}

static bool add_training(const job *j, at_node *words, const at_node *settings, at_error *err)
{
    return at_command_add(words, j->options.program) && at_command_add(words, "train") &&
           add_path(j, words, "--data", "data") && at_command_add(words, "--model") &&
           at_command_add(words, j->config.model) && add_path(j, words, "--out", "train") &&
           (j->fresh || !is_there(j, "train/config.yaml") || at_command_add(words, "--resume")) &&
           (!at_command_quiet() || at_command_add(words, "--quiet")) &&
           at_settings_args(settings, words, err) == 0;
}

/* A job that was killed may have left a training that is still writing its checkpoint. */
static int wait_for_folder(const job *j, at_error *err)
{
    if (!is_there(j, "train/.lock"))
        return 0;
    char *path = path_in(j, "train/.lock");
    if (!path)
        return at_nomem(err);
    at_lock *lock = at_lock_take(path, false, err);
    if (!lock && err->code == AT_EPEER) {
        at_log(AT_LOG_INFO, "waiting for the training that still runs in %s/train", j->options.out);
        lock = at_lock_take(path, true, err);
    }
    int rc = lock ? 0 : err->code;
    at_lock_release(lock);
    free(path);
    return rc;
}

/* A launcher that could not start a single rank may still end with 0. */
static int check_training(const job *j, const char *launcher, at_error *err)
{
    if (is_there(j, "train/summary.json") && is_there(j, "train/model.h5"))
        return 0;
    return at_fail(
        err, AT_EFAIL,
        "%s ended with exit status 0, but left no model in %s/train: see its own message "
        "above; --resume tries again",
        launcher, j->options.out);
}

/* Ranks are interrupted by SIGUSR1, which mpirun and srun hand on; on SIGTERM they would kill. */
static int train(job *j, at_node **result, at_error *err)
{
    (void)result;
    bool launched = j->config.ranks > 1;
    int rc = wait_for_folder(j, err);
    if (rc)
        return rc;
    at_node *words = at_node_new(AT_LIST);
    at_node *settings =
        at_job_final_settings(&j->config, j->out, j->options.batch, result_of(j, "search"), err);
    if (!settings)
        rc = err->code;
    else if (!words || (launched && !add_launcher(j, words)) ||
             !add_training(j, words, settings, err))
        rc = at_nomem(err);
    if (!rc)
        rc = at_command_launch(words, !launched, launched ? SIGUSR1 : SIGTERM, j->stage, err);
    if (!rc)
        rc = check_training(j, at_node_text(at_node_at(words, 0)), err);
    at_node_free(words);
    at_node_free(settings);
    return rc && rc != AT_EINTERRUPTED ? at_fail_in(err, "the final training failed") : rc;
}

/* model.h5 as another name of the training's, or a copy where the file system has no links. */
static int publish_model(job *j, at_node **result, at_error *err)
{
    (void)result;
    char *from = path_in(j, "train/model.h5"), *to = path_in(j, "model.h5"), *data = NULL;
    char *partial = to ? at_format("%s.link.%d", to, (int)getpid()) : NULL;
    size_t bytes;
    int rc = from && partial ? 0 : at_nomem(err);
    if (!rc && link(from, partial) == 0) {
        if (rename(partial, to))
            rc = at_fail_errno(err, errno, "cannot name %s", to);
        unlink(partial); /* rename leaves it where both names are one file already */
    } else if (!rc) {
        rc = at_file_read(from, COPY_MAX, &data, &bytes, err);
        if (!rc)
            rc = at_file_write(to, data, bytes, err);
    }
    free(data);
    free(partial);
    free(to);
    free(from);
    return rc;
}

static int report(job *j, at_node **result, at_error *err)
{
    (void)result;
    at_node *words = command(j, "report");
    bool ok = words && add_path(j, words, "--run", "train") &&
              (!j->config.sweep || add_path(j, words, "--study", "study")) &&
              add_path(j, words, "--data", "data") && at_command_add(words, "--job") &&
              at_command_add(words, j->out) && add_path(j, words, "--out", "report.html");
    int rc = ok ? at_command_run(words, j->stage, err) : at_nomem(err);
    at_node_free(words);
    return rc;
}

static at_node *summarise(const job *j, at_error *err)
{
    char *path = path_in(j, "train/summary.json"), *model = path_in(j, "model.h5");
    at_node *summary = path && model ? at_json_read(path, err) : NULL, *best = at_node_new(AT_MAP);
    const at_node *found = result_of(j, "search");
    static const char *const of_best[] = {"number", "value", "params"};
    static const char *const of_search[] = {"waves", "workers", "trials"};
    for (size_t i = 0; i < 3 && found && summary; i++) {
        at_node_set(best, of_best[i], at_node_copy(at_node_get(found, of_best[i])));
        at_node_set(summary, of_search[i], at_node_copy(at_node_get(found, of_search[i])));
    }
    if (summary) {
        at_node_set(summary, "best_trial", found ? at_node_copy(best) : at_node_new(AT_NULL));
        at_set_string(summary, "model", model);
    }
    at_node_free(best);
    free(path);
    free(model);
    return summary;
}

typedef struct stage {
    const char *name;
    int (*run)(job *j, at_node **result, at_error *err); /* *result is recorded */
    bool final;                                          /* depends on final: */
} stage;
static const stage stages[] = {{"ingest", ingest, false},      {"cache", fill_cache, false},
                               {"search", search, false},      {"train", train, true},
                               {"model", publish_model, true}, {"report", report, true}};
enum { STAGES = sizeof stages / sizeof *stages };

/* ---- the record ---- */

static at_node *without(const at_node *tree, bool final)
{
    at_node *copy = at_node_copy(tree);
    if (copy && final)
        at_node_remove(copy, "final");
    if (copy) /* who works does not decide what comes out */
        at_node_remove((at_node *)at_node_get(copy, "search"), "workers");
    return copy;
}

static char *change_of(const at_node *before, const at_node *now, bool final)
{
    at_node *a = without(before, final), *b = without(now, final);
    char *key = at_settings_change(a, b);
    at_node_free(a);
    at_node_free(b);
    return key;
}

/* Nothing that could differ from the changed job is there yet: it begins anew. */
static bool is_unbegun(const job *j)
{
    return at_node_count(at_node_get(j->record, "stages")) == 0 && !is_there(j, "data");
}

/* The final training begins anew when its part of the job has changed. */
static int forget_final(job *j, at_error *err)
{
    at_node *done = (at_node *)at_node_get(j->record, "stages");
    for (size_t i = 0; i < STAGES; i++)
        if (stages[i].final)
            at_node_remove(done, stages[i].name);
    char *path = path_in(j, "train");
    int rc = path ? at_remove_tree(path, err) : at_nomem(err);
    free(path);
    return rc;
}

static int compare(job *j, at_error *err)
{
    const at_node *before = at_node_get(j->record, "job");
    char *key = change_of(before, j->config.tree, true);
    int rc = 0;
    if (key && is_unbegun(j))
        j->fresh = true;
    else if (key)
        rc = at_fail(err, AT_EINPUT,
                     "%s: %s has changed since %s was begun; put it back or use another --out",
                     j->options.job, key, j->options.out);
    free(key);
    key = rc ? NULL : change_of(before, j->config.tree, false);
    if (key)
        rc = forget_final(j, err);
    free(key);
    return rc;
}

static int save_record(const job *j, at_error *err)
{
    return write_json(j, "job.json", j->record, err);
}

static int open_record(job *j, at_error *err)
{
    j->fresh = !is_there(j, "job.json");
    if (j->fresh) {
        j->record = at_node_new(AT_MAP);
        at_set_string(j->record, "atoll", ATOLL_VERSION);
        at_node_set(j->record, "stages", at_node_new(AT_MAP));
    } else if (!j->options.resume) {
        return at_fail(err, AT_EINPUT,
                       "%s holds a job already; --resume continues it, another --out begins one",
                       j->options.out);
    } else {
        char *path = path_in(j, "job.json");
        j->record = path ? at_json_read(path, err) : NULL;
        free(path);
        int rc = j->record ? compare(j, err) : err->code;
        if (rc)
            return rc;
    }
    if (!at_node_get(j->record, "stages") ||
        !at_node_set(j->record, "job", at_node_copy(j->config.tree)))
        return at_fail(err, AT_EINPUT, "%s/job.json is not the record of a job", j->options.out);
    return save_record(j, err);
}

static int run_stage(job *j, const stage *s, at_error *err)
{
    at_node *done = (at_node *)at_node_get(j->record, "stages"), *result = NULL;
    if (at_node_get(done, s->name))
        return 0;
    double begun = at_now();
    int rc = s->run(j, &result, err);
    at_node *entry = rc ? NULL : at_node_set(done, s->name, at_node_new(AT_MAP));
    if (!rc && !entry)
        rc = at_nomem(err);
    if (!rc) {
        char when[32];
        at_wall_iso(when);
        at_set_string(entry, "ended", when);
        at_set_real(entry, "seconds", at_now() - begun);
        if (result)
            at_node_set(entry, "result", at_node_copy(result));
        rc = save_record(j, err);
    }
    at_node_free(result);
    return rc;
}

/* ---- the job ---- */

/* A job that was killed leaves the process of its stage behind for as long as that needs to end. */
static int take_stage(job *j, at_error *err)
{
    char *path = path_in(j, "stage.lock");
    if (!path)
        return at_nomem(err);
    j->stage = at_lock_take(path, false, err);
    if (!j->stage && err->code == AT_EPEER) {
        at_log(AT_LOG_INFO, "waiting for the end of what an earlier run left in %s",
               j->options.out);
        j->stage = at_lock_take(path, true, err);
    }
    free(path);
    return j->stage ? 0 : err->code;
}

static int open_job(job *j, at_error *err)
{
    int rc = at_make_dirs(j->options.out, err);
    if (!rc && !realpath(j->options.out, j->out))
        rc = at_fail_errno(err, errno, "cannot find folder %s", j->options.out);
    if (!rc)
        rc = at_job_config_place(&j->config, j->out, err);
    if (rc)
        return rc;
    char *lock = path_in(j, "lock");
    j->lock = lock ? at_lock_take(lock, false, err) : NULL;
    free(lock);
    if (!j->lock)
        return err->code == AT_EPEER
                   ? at_fail(err, AT_EPEER, "another job is running in %s", j->options.out)
                   : err->code;
    rc = take_stage(j, err);
    return rc ? rc : open_record(j, err);
}

static int run_all(job *j, at_error *err)
{
    int rc = 0;
    for (size_t i = 0; i < STAGES && !rc; i++)
        rc = run_stage(j, &stages[i], err);
    if (rc == AT_EINTERRUPTED)
        at_fail(err, rc, "interrupted; `atoll run %s --out %s --resume` continues", j->options.job,
                j->options.out);
    return rc;
}

at_node *at_job(const at_job_options *options, at_error *err)
{
    at_error local = {0};
    err = err ? err : &local;
    job *j = calloc(1, sizeof *j);
    if (!j) {
        at_nomem(err);
        return NULL;
    }
    j->options = *options;
    j->slurm = getenv("SLURM_JOB_ID") != NULL;
    at_node *summary = NULL;
    int rc = at_job_config_read(&j->config, options, err);
    if (!rc)
        rc = open_job(j, err);
    if (!rc)
        rc = run_all(j, err);
    if (!rc)
        summary = summarise(j, err);
    if (summary && write_json(j, "summary.json", summary, err)) {
        at_node_free(summary);
        summary = NULL;
    }
    at_node_free(j->record);
    at_lock_release(j->stage);
    at_lock_release(j->lock);
    at_job_config_fini(&j->config);
    free(j);
    return summary;
}
