/* SPDX-License-Identifier: Apache-2.0
 * SWEEP.yaml: what to search, how, and with which settings a trial trains. */
#include "internal.h"

#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { STARTUP_MAX = 10 };

#define AT(field) offsetof(at_search, field)
static const at_option search_keys[] = {
    {"trials", AT_OPT_INT, AT(trials), "20", "trainings in all", "N", .min = 1, .max = 1000000},
    {"wave", AT_OPT_INT, AT(wave), "4", "trials proposed together", "N", .min = 1, .max = 10000},
    {"workers", AT_OPT_STRING, AT(workers), "local:1", "local:N, mpi:N, slurm:N, listen:HOST:PORT"},
    {"sampler", AT_OPT_STRING, AT(sampler), "tpe", "what proposes: samplers.def"},
    {"metric", AT_OPT_CHOICE, AT(metric), "val_accuracy", "key of a trial's epoch events",
     .choices = "val_accuracy|val_loss|train_accuracy|train_loss"},
    {"direction", AT_OPT_CHOICE, AT(direction), "auto", "what is better; auto: as the metric says",
     .choices = "auto|maximize|minimize"},
    {"seed", AT_OPT_INT, AT(seed), "1", "of the proposals", "N", .min = 0, .max = -1},
    {0}};
#undef AT

static const char *const sweep_names[] = {"data", "model", "train", "search", NULL};
static const char *const search_names[] = {"trials",    "wave", "workers", "sampler", "metric",
                                           "direction", "seed", "train",   "space",   NULL};

/* Of a loss less is better, unless the file says otherwise. */
static int resolve_direction(at_search *search, at_error *err)
{
    if (strcmp(search->direction, "auto") != 0)
        return 0;
    free(search->direction);
    search->direction = strdup(strstr(search->metric, "_loss") ? "minimize" : "maximize");
    return search->direction ? 0 : at_nomem(err);
}

/* The scalar keys of search: by the table. */
static int read_search(at_sweep *s, const at_node *search, at_error *err)
{
    int rc = at_keys_check(search, search_names, err);
    if (rc)
        return rc;
    at_node *scalars = at_node_copy(search);
    if (!scalars)
        return at_nomem(err);
    at_node_remove(scalars, "train");
    at_node_remove(scalars, "space");
    rc = at_options_from_node(search_keys, &s->search, scalars, err);
    at_node_free(scalars);
    if (!rc)
        rc = resolve_direction(&s->search, err);
    if (rc)
        return rc;
    s->maximize = strcmp(s->search.direction, "maximize") == 0;
    s->sampler = at_sampler_find(s->search.sampler, err);
    const char *where = at_node_where(at_node_get(search, "sampler"));
    return s->sampler ? 0 : *where ? at_fail_in(err, "%s", where) : err->code;
}

/* A choice has a place of its own, which the message then names. */
static int check_example(const at_sweep *s, const at_dist *d, const at_node *flat,
                         const at_checks *checks, at_error *err)
{
    int rc = checks->train(s->model, flat, err);
    const char *where = at_node_where(at_node_get(flat, d->name));
    if (rc && (!*where || !strstr(err->message, where)))
        at_fail_in(err, "%s", *d->where ? d->where : "search.space");
    return rc;
}

/* An example of every parameter: a misspelled or impossible one is found before any trial. */
static int check_params(const at_sweep *s, const at_checks *checks, at_error *err)
{
    at_node *flat = at_node_copy(s->train);
    int rc = flat ? 0 : at_nomem(err);
    for (size_t i = 0; i < s->space->count && !rc; i++) {
        const at_dist *d = &s->space->dists[i];
        size_t examples = d->kind == AT_DIST_CHOICE ? d->choice_count : 2;
        for (size_t k = 0; k < examples && !rc; k++) {
            double value = d->kind == AT_DIST_CHOICE ? (double)k : k ? d->high : d->low;
            if (!at_node_set(flat, d->name, at_dist_external(d, value)))
                rc = at_nomem(err);
            else
                rc = check_example(s, d, flat, checks, err);
        }
        at_node_remove(flat, d->name);
        const at_node *fixed = at_node_get(s->train, d->name);
        if (fixed && !rc && !at_node_set(flat, d->name, at_node_copy(fixed)))
            rc = at_nomem(err);
    }
    at_node_free(flat);
    return rc;
}

static int read_settings(at_sweep *s, const at_node *tree, const at_checks *checks, at_error *err)
{
    const at_node *train = at_node_get(tree, "train");
    const at_node *over = at_node_path(tree, "search.train");
    int rc = at_settings_overlay(s->train, train, err);
    if (!rc)
        rc = at_settings_overlay(s->train, over, err);
    if (rc || !checks->train)
        return rc;
    if (!(rc = checks->train(s->model, train, err)) && !(rc = checks->train(s->model, over, err)))
        rc = check_params(s, checks, err);
    return rc;
}

/* Few trials must not all be random: a quarter of them, or the first wave, starts the model. */
static size_t startup_of(const at_search *search)
{
    int64_t start = search->trials / 4 > search->wave ? search->trials / 4 : search->wave;
    return (size_t)(start < STARTUP_MAX ? start : STARTUP_MAX);
}

static int read_all(at_sweep *s, const at_node *tree, const at_checks *checks, at_error *err)
{
    const char *data, *model;
    int rc = at_keys_check(tree, sweep_names, err);
    if (!rc)
        rc = at_string_get(tree, "data", &data, err);
    if (!rc)
        rc = at_string_get(tree, "model", &model, err);
    if (rc)
        return rc;
    const at_node *search = at_node_get(tree, "search");
    if (!search)
        return at_fail(err, AT_EINPUT, "search: this key is needed");
    char real[PATH_MAX];
    /* Workers may start elsewhere. A model that is a file has a dot, a built-in one none. */
    s->data = strdup(realpath(data, real) ? real : data);
    s->model = strdup(strchr(model, '.') && realpath(model, real) ? real : model);
    s->train = at_node_new(AT_MAP);
    if (!s->data || !s->model || !s->train)
        return at_nomem(err);
    if ((rc = read_search(s, search, err)))
        return rc;
    s->startup = startup_of(&s->search);
    s->space = at_space_parse(at_node_get(search, "space"), err);
    return s->space ? read_settings(s, tree, checks, err) : err->code;
}

at_sweep *at_sweep_read(const at_node *tree, const char *name, const at_checks *checks,
                        at_error *err)
{
    at_error local = {0};
    err = err ? err : &local;
    at_sweep *s = calloc(1, sizeof *s);
    if (!s) {
        at_nomem(err);
        return NULL;
    }
    int rc = at_options_init(search_keys, &s->search, err);
    if (!rc && (rc = read_all(s, tree, checks, err)) && !strstr(err->message, name))
        at_fail_in(err, "%s", name);
    if (!rc)
        return s;
    at_sweep_free(s);
    return NULL;
}

void at_sweep_free(at_sweep *s)
{
    if (!s)
        return;
    at_options_fini(search_keys, &s->search);
    at_space_free(s->space);
    at_node_free(s->train);
    free(s->data);
    free(s->model);
    free(s);
}

at_node *at_sweep_node(const at_sweep *s, const at_node *tree)
{
    at_node *out = at_node_new(AT_MAP);
    at_node *search = out ? at_options_to_node(search_keys, &s->search) : NULL;
    if (search) {
        at_node_remove(search, "workers"); /* who trains does not decide what comes out */
        at_node_set(search, "space", at_node_copy(at_node_path(tree, "search.space")));
    }
    if (at_node_set(out, "search", search) && at_set_string(out, "data", s->data) &&
        at_set_string(out, "model", s->model) && at_node_set(out, "train", at_node_copy(s->train)))
        return out;
    at_node_free(out);
    return NULL;
}
