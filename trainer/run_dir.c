/* SPDX-License-Identifier: Apache-2.0
 * RUN/: config.yaml, metrics.jsonl and summary.json. Rank 0 alone writes them.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool holds(const char *out, const char *name)
{
    char *path = at_path_join(out, name);
    bool there = path && (at_file_exists(path) || at_dir_exists(path));
    free(path);
    return there;
}

int at_run_prepare(const at_train_job *job, at_error *err)
{
    if (!job->resume && (holds(job->out, "config.yaml") || holds(job->out, "checkpoints")))
        return at_fail(err, AT_EINPUT, "%s already holds a training: continue it with --resume, or choose another --out",
                       job->out);
    if (at_file_exists(job->out))
        return at_fail(err, AT_EINPUT, "%s is a file; --out needs a folder", job->out);
    return at_make_dirs(job->out, err);
}

int at_run_write_node(const char *out, const char *name, const at_node *tree, at_error *err)
{
    bool yaml = strstr(name, ".yaml") != NULL;
    char *path = at_path_join(out, name), *text = yaml ? at_yaml_print(tree) : at_json_print(tree, true);
    int code = path && text ? at_file_write(path, text, strlen(text), err) : at_nomem(err);
    free(path);
    free(text);
    return code;
}

int at_run_write_config(const at_train_job *job, const at_comm *comm, const at_cache *cache, at_error *err)
{
    at_node *tree = at_node_new(AT_MAP);
    at_set_string(tree, "atoll", ATOLL_VERSION);
    at_set_string(tree, "data", job->data);
    at_set_string(tree, "model", job->model);
    at_set_int(tree, "ranks", at_comm_size(comm));
    at_set_string(tree, "cache_path", at_cache_path(cache));
    at_node_set(tree, "train", at_options_to_node(at_train_options, job->config));
    int code = at_run_write_node(job->out, "config.yaml", tree, err);
    at_node_free(tree);
    return code;
}

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

/* A step's line is of the epoch that it is in (1-based), an epoch's line of the epoch that it ends. */
static bool is_before(const at_node *line, const at_progress_point *at)
{
    uint64_t epoch = (uint64_t)at_node_int(at_node_get(line, "epoch"), 0);
    const at_node *step = at_node_get(line, "epoch_step");
    if (!step)
        return epoch <= at->epoch;
    return epoch <= at->epoch || (epoch == at->epoch + 1 && (uint64_t)at_node_int(step, 0) <= at->step);
}

int at_run_trim_metrics(const char *out, const at_progress_point *at, at_error *err)
{
    char *path = at_path_join(out, "metrics.jsonl"), *data = NULL;
    size_t bytes;
    if (!path)
        return at_nomem(err);
    int code = 0;
    at_text kept = {0};
    if (at_file_exists(path))
        code = at_file_read(path, (size_t)1 << 30, &data, &bytes, err);
    char *rest = NULL;
    for (char *line = data ? strtok_r(data, "\n", &rest) : NULL; line; line = strtok_r(NULL, "\n", &rest)) {
        at_node *n = at_json_parse(line, strlen(line), path, NULL);
        if (n && is_before(n, at))
            at_text_add(&kept, "%s\n", line);
        at_node_free(n);
    }
    if (code == 0)
        code = kept.failed ? at_nomem(err) : at_file_write(path, kept.data ? kept.data : "", kept.length, err);
    at_text_fini(&kept);
    free(data);
    free(path);
    return code;
}
