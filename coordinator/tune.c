/* SPDX-License-Identifier: Apache-2.0
 * A sweep from SWEEP.yaml to the best trial: reads, opens or makes STUDY/, runs the hub. */
#include "hub.h"
#include "rehearsal.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

typedef struct tune {
    const at_tune_options *options;
    at_node *tree; /* owned; options->tree else */
    at_node *resolved;
    at_sweep *sweep;
    at_study *study;
    at_schedule *schedule;
    at_workers workers;
    char out[PATH_MAX]; /* absolute: workers may start elsewhere */
    char *key_path;
} tune;

static const at_node *tree_of(const tune *t)
{
    return t->options->tree ? t->options->tree : t->tree;
}

static int read_sweep(tune *t, at_error *err)
{
    const at_tune_options *o = t->options;
    const char *name = o->sweep ? o->sweep : "the sweep";
    if (!o->tree && !(t->tree = at_yaml_read(o->sweep, err)))
        return err->code;
    t->sweep = at_sweep_read(tree_of(t), name, &o->checks, err);
    if (!t->sweep)
        return err->code;
    t->resolved = at_sweep_node(t->sweep, tree_of(t));
    if (!t->resolved)
        return at_nomem(err);
    int rc = at_workers_parse(o->workers ? o->workers : t->sweep->search.workers, &t->workers, err);
    if (rc && !o->workers)
        return at_fail(err, AT_EINPUT, "%s: search.%s", name, err->message);
    if (!rc && !at_dir_exists(t->sweep->data))
        rc = at_fail(err, AT_ENOENT, "there is no data set at %s", t->sweep->data);
    return rc;
}

/* Nothing of an old study is touched before it is known to be the same sweep. */
static int open_study(tune *t, at_error *err)
{
    int rc = at_make_dirs(t->options->out, err);
    if (rc)
        return rc;
    if (!realpath(t->options->out, t->out))
        return at_fail(err, AT_EIO, "cannot find folder %s", t->options->out);
    t->study = at_study_open(t->out, t->sweep, t->resolved, t->options->resume, err);
    if (!t->study)
        return err->code;
    char *path = at_path_join(t->out, "sweep.yaml"), *text = at_yaml_print(t->resolved);
    rc = path && text ? at_file_write(path, text, strlen(text), err) : at_nomem(err);
    free(path);
    free(text);
    if (rc)
        return rc;
    t->schedule = at_schedule_new(t->sweep, t->study, err);
    return t->schedule ? 0 : err->code;
}

static int rehearse(tune *t, at_error *err)
{
    at_trial *next;
    int rc = at_schedule_next(t->schedule, &next, err);
    return rc || !next ? rc
                       : at_rehearse(&(at_rehearsal){.sweep = t->sweep,
                                                     .trial = next,
                                                     .workers = &t->workers,
                                                     .program = t->options->program,
                                                     .out = t->out},
                                     err);
}

static int run_hub(tune *t, int64_t *most, at_error *err)
{
    at_hub_options hub = {.sweep = t->sweep,
                          .schedule = t->schedule,
                          .workers = &t->workers,
                          .out = t->out,
                          .program = t->options->program};
    hub.key_path = t->key_path = at_path_join(t->out, "worker.key");
    int rc = t->key_path ? at_key_load(t->key_path, true, &hub.key, err) : at_nomem(err);
    if (!rc)
        rc = rehearse(t, err);
    if (!rc)
        rc = at_hub_run(&hub, most, err);
    at_key_wipe(&hub.key);
    if (rc == AT_EINTERRUPTED)
        at_fail(err, rc, "interrupted; `atoll tune %s --out %s --resume` continues",
                t->options->sweep ? t->options->sweep : "SWEEP.yaml", t->options->out);
    return rc;
}

static at_node *summary(tune *t, int64_t most, at_error *err)
{
    at_schedule_state end = at_schedule_look(t->schedule);
    if (!end.best) {
        at_fail(err, AT_EFAIL, "all %lld trials failed; the latest: %s", (long long)end.trials,
                end.failure ? end.failure : "see `atoll study trials`");
        return NULL;
    }
    at_node *best = at_study_best(t->out, err);
    if (best) {
        at_set_int(best, "waves", end.waves);
        at_set_int(best, "workers", most ? most : t->workers.count); /* 0: nothing was left to do */
        at_set_int(best, "trials", end.trials);
        at_set_int(best, "failed", end.failed);
    }
    return best;
}

static void tune_fini(tune *t)
{
    at_schedule_free(t->schedule);
    at_study_close(t->study);
    at_sweep_free(t->sweep);
    at_node_free(t->resolved);
    at_node_free(t->tree);
    free(t->key_path);
}

at_node *at_tune(const at_tune_options *options, at_error *err)
{
    at_error local = {0};
    err = err ? err : &local;
    tune t = {.options = options};
    int64_t most = 0;
    int rc = read_sweep(&t, err);
    if (!rc)
        rc = open_study(&t, err);
    if (!rc)
        rc = run_hub(&t, &most, err);
    at_node *best = rc ? NULL : summary(&t, most, err);
    tune_fini(&t);
    return best;
}
