/* SPDX-License-Identifier: Apache-2.0
 * JOB.yaml: what is in it, whether it can work, and what follows from it for sweep and training. */
#include "job.h"
#include "launcher.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { RANKS_MAX = 65536 };

static const char *const job_names[] = {"data", "model", "train", "search", "final", NULL};
static const char *const final_names[] = {"ranks", "train", NULL};

static const char *place_of(const at_node *n)
{
    const char *where = at_node_where(n);
    return *where ? where : "the job";
}

static int read_data(at_job_config *c, const at_job_options *o, at_error *err)
{
    const at_node *data = at_node_get(c->tree, "data");
    if (at_node_kind(data) != AT_MAP)
        return at_fail(err, AT_EINPUT, "%s: data: expected \"source: PATH\" and options of ingest",
                       place_of(data ? data : c->tree));
    int rc = at_string_get(data, "source", &c->source, err);
    c->ingest = rc ? NULL : at_node_copy(data);
    if (!rc && !c->ingest)
        rc = at_nomem(err);
    if (rc)
        return rc;
    at_node_remove(c->ingest, "source");
    return o->checks.ingest ? o->checks.ingest(c->ingest, err) : 0;
}

static int read_final(at_job_config *c, const at_job_options *o, at_error *err)
{
    const at_node *final = at_node_get(c->tree, "final"), *ranks = at_node_get(final, "ranks");
    c->ranks = 1;
    int rc = final && at_node_kind(final) != AT_NULL ? at_keys_check(final, final_names, err) : 0;
    if (rc)
        return rc;
    if (ranks)
        c->ranks = at_node_int(ranks, 0);
    if (c->ranks < 1 || c->ranks > RANKS_MAX)
        return at_fail(err, AT_EINPUT, "%s: ranks: expected a whole number from 1 to %d",
                       place_of(ranks), RANKS_MAX);
    if (o->ranks > 0)
        c->ranks = o->ranks;
    const at_node *train = at_node_get(final, "train");
    return o->checks.train ? o->checks.train(c->model, train, err) : 0;
}

const char *const at_job_cache_keys[AT_JOB_CACHE_KEYS] = {"size", "channels", "fit", "form"};

/* What all trainings say of a key: *value, NULL where none says anything. False where they differ. */
static bool common_value(const at_node *tree, const char *key, const char **value)
{
    static const char *const maps[] = {"train", "search.train", "final.train"};
    *value = NULL;
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) {
        const at_node *here = at_node_get(at_node_path(tree, maps[i]), key);
        if ((here && *value && strcmp(*value, at_node_text(here)) != 0) ||
            (here && !*value && i > 0))
            return false;
        *value = here ? at_node_text(here) : *value;
    }
    return !at_node_get(at_node_path(tree, "search.space"), key);
}

/* Whether one cache does for all trainings, and none of them names its own. */
static bool plan_cache(at_job_config *c)
{
    const char *own;
    bool common = common_value(c->tree, "cache", &own) && !own;
    for (size_t i = 0; i < AT_JOB_CACHE_KEYS; i++)
        common = common_value(c->tree, at_job_cache_keys[i], &c->cache[i]) && common;
    return common;
}

static int set_path(at_node *map, const char *key, const char *dir, const char *name, at_error *err)
{
    char *path = at_path_join(dir, name);
    bool set = path && at_set_string(map, key, path);
    free(path);
    return set ? 0 : at_nomem(err);
}

int at_job_config_place(at_job_config *c, const char *out, at_error *err)
{
    if (!at_node_get(c->tree, "search"))
        return 0;
    at_node_free(c->sweep);
    c->sweep = at_node_copy(c->tree);
    if (!c->sweep)
        return at_nomem(err);
    at_node_remove(c->sweep, "final");
    int rc = set_path(c->sweep, "data", out, "data", err);
    if (rc || !c->cached)
        return rc;
    at_node *train = (at_node *)at_node_get(c->sweep, "train");
    if (at_node_kind(train) != AT_MAP)
        train = at_node_set(c->sweep, "train", at_node_new(AT_MAP));
    return train ? set_path(train, "cache", out, "cache", err) : at_nomem(err);
}

static int check_sweep(const at_job_config *c, const at_job_options *o, at_error *err)
{
    at_workers workers;
    if (!c->sweep)
        return o->workers ? at_workers_parse(o->workers, &workers, err) : 0;
    at_sweep *s = at_sweep_read(c->sweep, o->job, &o->checks, err);
    if (!s)
        return err->code;
    const char *text = o->workers ? o->workers : s->search.workers;
    int rc = at_workers_parse(text, &workers, err);
    if (rc && !o->workers)
        rc = at_fail(err, AT_EINPUT, "%s: search.%s", o->job, err->message);
    at_sweep_free(s);
    return rc;
}

/* Everything but the sweep, whose reader checks what is in search and, with it, in train. */
static int read_all(at_job_config *c, const at_job_options *o, at_error *err)
{
    int rc = at_keys_check(c->tree, job_names, err);
    if (!rc)
        rc = at_string_get(c->tree, "model", &c->model, err);
    if (!rc)
        rc = read_data(c, o, err);
    if (!rc && o->checks.train)
        rc = o->checks.train(c->model, at_node_get(c->tree, "train"), err);
    if (!rc)
        rc = read_final(c, o, err);
    if (rc)
        return rc;
    c->cached = plan_cache(c);
    rc = at_job_config_place(c, o->out, err);
    return rc ? rc : check_sweep(c, o, err);
}

int at_job_config_read(at_job_config *c, const at_job_options *options, at_error *err)
{
    *c = (at_job_config){.tree = at_yaml_read(options->job, err)};
    if (!c->tree)
        return err->code;
    int rc = read_all(c, options, err);
    if (rc)
        at_job_config_fini(c);
    return rc;
}

void at_job_config_fini(at_job_config *c)
{
    at_node_free(c->tree);
    at_node_free(c->ingest);
    at_node_free(c->sweep);
    *c = (at_job_config){0};
}

/* `batch` is a rank's: the ranks share the batch that the trials were good with. */
static int share_batch(at_node *flat, const at_job_config *c, int64_t otherwise, at_error *err)
{
    int64_t batch = at_node_int(at_node_get(flat, "batch"), otherwise);
    if (batch < 1 || c->ranks == 1 || at_node_path(c->tree, "final.train.batch"))
        return 0;
    int64_t share = batch / c->ranks > 0 ? batch / c->ranks : 1;
    if (share * c->ranks != batch)
        at_log(AT_LOG_WARN,
               "batch %" PRId64 " does not divide among %" PRId64 " ranks: %" PRId64 " each", batch,
               c->ranks, share);
    return at_set_int(flat, "batch", share) ? 0 : at_nomem(err);
}

at_node *at_job_final_settings(const at_job_config *c, const char *out, int64_t batch,
                               const at_node *best, at_error *err)
{
    at_node *flat = at_node_new(AT_MAP);
    int rc = flat ? at_settings_overlay(flat, at_node_get(c->tree, "train"), err) : at_nomem(err);
    if (!rc)
        rc = at_settings_overlay(flat, at_node_get(best, "params"), err);
    if (!rc)
        rc = at_settings_overlay(flat, at_node_path(c->tree, "final.train"), err);
    if (!rc && c->cached)
        rc = set_path(flat, "cache", out, "cache", err);
    if (!rc)
        rc = share_batch(flat, c, batch, err);
    if (!rc)
        return flat;
    at_node_free(flat);
    return NULL;
}
