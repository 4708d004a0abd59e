/* SPDX-License-Identifier: Apache-2.0
 * RUN/: config.yaml, metrics.jsonl and summary.json. Rank 0 alone writes them, holding RUN/.lock,
 * so two trainings never mix in one folder.
 */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the folder ------------------------------------------------------------------------------ */

static bool holds(const char *out, const char *name)
{
    char *path = at_path_join(out, name);
    bool there = path && (at_file_exists(path) || at_dir_exists(path));
    free(path);
    return there;
}

int at_run_check(const at_train_job *job, at_error *err)
{
    if (at_file_exists(job->out))
        return at_fail(err, AT_EINPUT, "%s is a file; --out needs a folder", job->out);
    if (!job->resume && (holds(job->out, "config.yaml") || holds(job->out, "checkpoints")))
        return at_fail(
            err, AT_EINPUT,
            "%s already holds a training: continue it with --resume, or choose another --out",
            job->out);
    return 0;
}

/* What at_atomic left under a temporary name when its process was killed. */
static void remove_leftovers(const char *dir)
{
    DIR *d = opendir(dir);
    for (const struct dirent *entry; d && (entry = readdir(d));) {
        char *path = strstr(entry->d_name, ".tmp.") ? at_path_join(dir, entry->d_name) : NULL;
        if (path)
            unlink(path);
        free(path);
    }
    if (d)
        closedir(d);
}

int at_run_begin(const at_train_job *job, at_lock **lock, at_error *err)
{
    int code = at_make_dirs(job->out, err);
    if (code < 0)
        return code;
    char *path = at_path_join(job->out, ".lock"),
         *checkpoints = at_path_join(job->out, "checkpoints");
    at_error why = {0};
    if (!path || !checkpoints)
        code = at_nomem(err);
    else if (!(*lock = at_lock_take(path, false, &why)))
        code = why.code == AT_EPEER
                   ? at_fail(err, AT_EINPUT, "%s: another process trains there", job->out)
                   : at_fail(err, why.code, "%s", why.message);
    if (code == 0)
        code = at_run_check(job, err); /* again: another training may just have begun and ended */
    if (code == 0) {
        remove_leftovers(job->out);
        remove_leftovers(checkpoints);
    }
    free(path);
    free(checkpoints);
    return code;
}

/* ---- trees ----------------------------------------------------------------------------------- */

int at_run_write_node(const char *out, const char *name, const at_node *tree, at_error *err)
{
    bool yaml = strstr(name, ".yaml") != NULL;
    char *path = at_path_join(out, name);
    char *text = yaml ? at_yaml_print(tree) : at_json_print(tree, true);
    int code = path && text ? at_file_write(path, text, strlen(text), err) : at_nomem(err);
    free(path);
    free(text);
    return code;
}

at_node *at_run_keys(const at_train_config *config)
{
    at_node *keys = at_options_to_node(at_train_options, config);
    char *init = realpath(config->init, NULL);
    if (keys && init)
        at_set_string(keys, "init", init);
    free(init);
    return keys;
}

int at_run_write_config(const at_train_job *job, const at_comm *comm, const at_cache *cache,
                        at_error *err)
{
    char *data = realpath(job->data, NULL); /* a training is resumed from any folder */
    char *model = strchr(job->model, '.') ? realpath(job->model, NULL) : NULL; /* a file of rows */
    at_node *tree = at_node_new(AT_MAP);
    at_set_string(tree, "atoll", ATOLL_VERSION);
    at_set_string(tree, "data", data ? data : job->data);
    at_set_string(tree, "model", model ? model : job->model);
    at_set_int(tree, "ranks", at_comm_size(comm));
    at_set_string(tree, "cache_path", at_cache_path(cache));
    at_node_set(tree, "train", at_run_keys(job->config));
    int code = at_run_write_node(job->out, "config.yaml", tree, err);
    at_node_free(tree);
    free(data);
    free(model);
    return code;
}

/* ---- metrics.jsonl --------------------------------------------------------------------------- */

int at_run_log(const char *out, at_node *line, at_error *err)
{
    char *path = at_path_join(out, "metrics.jsonl"), *text = at_json_print(line, false);
    at_node_free(line);
    int code = path && text ? 0 : at_nomem(err);
    FILE *f = code == 0 ? fopen(path, "a") : NULL;
    if (code == 0 && !f)
        code = at_fail(err, AT_EIO, "%s: %s", path, strerror(errno));
    bool written = f && fprintf(f, "%s\n", text) > 0;
    if (f && (fclose(f) != 0 || !written))
        code = at_fail(err, AT_EIO, "%s: %s", path, strerror(errno));
    free(path);
    free(text);
    return code;
}

static bool is_epoch_line(const at_node *line)
{
    return !at_node_get(line, "epoch_step");
}

/* A step's line is of the epoch that it is in (1-based), an epoch's line of the epoch that it ends.
 */
static bool is_before(const at_node *line, const at_progress_point *at)
{
    uint64_t epoch = (uint64_t)at_node_int(at_node_get(line, "epoch"), INT64_MAX);
    uint64_t step = (uint64_t)at_node_int(at_node_get(line, "epoch_step"), 0);
    return epoch <= at->epoch ||
           (epoch == at->epoch + 1 && !is_epoch_line(line) && step <= at->step);
}

/* Takes text apart. A line that a killed process left unfinished is no JSON and goes. */
static void keep_lines(char *text, const at_progress_point *at, at_text *kept, at_node **last_epoch)
{
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        at_node *n = at_json_parse(line, strlen(line), "metrics.jsonl", NULL);
        if (n && is_before(n, at)) {
            at_text_add(kept, "%s\n", line);
            if (is_epoch_line(n)) {
                at_node_free(*last_epoch);
                *last_epoch = n;
                continue;
            }
        }
        at_node_free(n);
    }
}

int at_run_trim_metrics(const char *out, const at_progress_point *at, at_node **last_epoch,
                        at_error *err)
{
    char *path = at_path_join(out, "metrics.jsonl"), *data = NULL;
    size_t bytes;
    at_text kept = {0};
    *last_epoch = NULL;
    int code = path ? 0 : at_nomem(err);
    if (code == 0 && at_file_exists(path))
        code = at_file_read(path, (size_t)1 << 30, &data, &bytes, err);
    if (data)
        keep_lines(data, at, &kept, last_epoch);
    if (code == 0)
        code = kept.failed ? at_nomem(err)
                           : at_file_write(path, kept.data ? kept.data : "", kept.length, err);
    at_text_fini(&kept);
    free(data);
    free(path);
    return code;
}
