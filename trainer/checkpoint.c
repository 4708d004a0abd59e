/* SPDX-License-Identifier: Apache-2.0
 * Checkpoints: everything that a training needs to go on, in one H5 file, written atomically by rank 0.
 *
 *   epoch-000003-step-000000120.h5   after 3 whole epochs and 120 steps of the fourth
 *     params, state, slot0, slot1   flat fp32, in the network's order: the number of ranks does not matter
 *     attribute "progress"          JSON: epoch, step, consumed, loss_sum, correct, samples, seconds, updates
 *     attribute "rows"              the network's rows: a checkpoint of another network is refused
 *     attribute "crc32c"            of params, state and slots: a file that was damaged is passed over
 */
#include "internal.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct part {
    char name[16];
    float *data;
    size_t count;
} part;
enum { MAX_PARTS = 2 + AT_OPTIMIZER_SLOTS };

static size_t list_parts(at_net *net, at_optimizer *o, part *parts)
{
    size_t n = 0;
    parts[n++] = (part){"params", at_net_params(net), at_net_param_count(net)};
    if (at_net_state_count(net))
        parts[n++] = (part){"state", at_net_state(net), at_net_state_count(net)};
    for (size_t i = 0; i < at_optimizer_slots(o); i++) {
        parts[n] = (part){"", at_optimizer_slot(o, i), at_net_param_count(net)};
        snprintf(parts[n].name, sizeof parts[n].name, "slot%zu", i);
        n++;
    }
    return n;
}

static void crc_text(const part *parts, size_t n, char out[16])
{
    uint32_t crc = 0;
    for (size_t i = 0; i < n; i++)
        crc = at_crc32c(crc, parts[i].data, parts[i].count * sizeof(float));
    snprintf(out, 16, "%08" PRIx32, crc);
}

static char *progress_text(const at_progress_point *at, uint64_t updates)
{
    at_node *n = at_node_new(AT_MAP);
    at_set_int(n, "epoch", (int64_t)at->epoch);
    at_set_int(n, "step", (int64_t)at->step);
    at_set_int(n, "consumed", (int64_t)at->consumed);
    at_set_real(n, "loss_sum", at->loss_sum);
    at_set_real(n, "correct", at->correct);
    at_set_real(n, "samples", at->samples);
    at_set_real(n, "seconds", at->seconds);
    at_set_int(n, "updates", (int64_t)updates);
    char *text = at_json_print(n, false);
    at_node_free(n);
    return text;
}

static int write_all(at_h5 *h, at_net *net, at_optimizer *o, const at_progress_point *at, at_error *err)
{
    part parts[MAX_PARTS];
    size_t n = list_parts(net, o, parts);
    int code = 0;
    for (size_t i = 0; i < n && code == 0; i++) {
        int64_t dims[1] = {(int64_t)parts[i].count};
        code = at_h5_write_floats(h, parts[i].name, parts[i].data, 1, dims, err);
    }
    char crc[16];
    crc_text(parts, n, crc);
    char *progress = progress_text(at, at_optimizer_steps(o)), *rows = at_graph_print(at_net_graph(net));
    if (!progress || !rows)
        code = at_nomem(err);
    code = code < 0 ? code : at_h5_write_text(h, "progress", progress, err);
    code = code < 0 ? code : at_h5_write_text(h, "rows", rows, err);
    code = code < 0 ? code : at_h5_write_text(h, "crc32c", crc, err);
    free(progress);
    free(rows);
    return code;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_checkpoint(const struct dirent *entry)
{
    unsigned epoch, step;
    int end = 0;
    return sscanf(entry->d_name, "epoch-%u-step-%u.h5%n", &epoch, &step, &end) == 2 && end > 0 &&
           entry->d_name[end] == 0;
}

static int remove_old(const char *dir, int64_t keep, at_error *err)
{
    struct dirent **entries;
    int n = scandir(dir, &entries, is_checkpoint, by_name);
    if (n < 0)
        return at_fail(err, AT_EIO, "%s: cannot be listed", dir);
    for (int i = 0; i < n; i++) {
        char *path = i < n - keep ? at_path_join(dir, entries[i]->d_name) : NULL;
        if (path)
            unlink(path);
        free(path);
        free(entries[i]);
    }
    free(entries);
    return 0;
}

int at_checkpoint_save(const char *dir, at_net *net, at_optimizer *o, const at_progress_point *at, int64_t keep,
                       at_error *err)
{
    int code = at_make_dirs(dir, err);
    if (code < 0)
        return code;
    char *path = at_format("%s/epoch-%06" PRIu64 "-step-%09" PRIu64 ".h5", dir, at->epoch, at->step);
    at_atomic *file = path ? at_atomic_open(path, err) : NULL;
    free(path);
    if (!file)
        return err && err->code ? err->code : at_nomem(err);
    at_h5 *h = at_h5_create(at_atomic_path(file), err);
    if (!h)
        goto fail_file;
    code = write_all(h, net, o, at, err);
    if (at_h5_close(h, code < 0 ? NULL : err) < 0 || code < 0)
        goto fail_file;
    code = at_atomic_commit(file, err);
    return code < 0 ? code : remove_old(dir, keep, err);
fail_file:
    at_atomic_abort(file);
    return err && err->code ? err->code : AT_EIO;
}

static int read_progress(at_h5 *h, at_progress_point *at, at_optimizer *o, at_error *err)
{
    char *text = at_h5_read_text(h, "progress", err);
    at_node *n = text ? at_json_parse(text, strlen(text), "progress", err) : NULL;
    free(text);
    if (!n)
        return AT_EINPUT;
    *at = (at_progress_point){.epoch = (uint64_t)at_node_int(at_node_get(n, "epoch"), 0),
                              .step = (uint64_t)at_node_int(at_node_get(n, "step"), 0),
                              .consumed = (uint64_t)at_node_int(at_node_get(n, "consumed"), 0),
                              .loss_sum = at_node_real(at_node_get(n, "loss_sum"), 0),
                              .correct = at_node_real(at_node_get(n, "correct"), 0),
                              .samples = at_node_real(at_node_get(n, "samples"), 0),
                              .seconds = at_node_real(at_node_get(n, "seconds"), 0)};
    at_optimizer_set_steps(o, (uint64_t)at_node_int(at_node_get(n, "updates"), 0));
    at_node_free(n);
    return 0;
}

static int check_rows(at_h5 *h, at_net *net, at_error *err)
{
    char *theirs = at_h5_read_text(h, "rows", err), *ours = at_graph_print(at_net_graph(net));
    int code = theirs && ours ? 0 : AT_EINPUT;
    if (code == 0 && strcmp(theirs, ours) != 0)
        code = at_fail(err, AT_EINPUT, "it is of another network than the one to be trained");
    free(theirs);
    free(ours);
    return code;
}

static int read_parts(at_h5 *h, at_net *net, at_optimizer *o, at_error *err)
{
    part parts[MAX_PARTS];
    size_t n = list_parts(net, o, parts);
    for (size_t i = 0; i < n; i++)
        if (at_h5_read_floats(h, parts[i].name, parts[i].data, parts[i].count, err) < 0)
            return AT_EINPUT;
    char crc[16];
    crc_text(parts, n, crc);
    char *stored = at_h5_read_text(h, "crc32c", err);
    int code = stored && !strcmp(stored, crc) ? 0 : at_fail(err, AT_EINPUT, "its checksum is wrong");
    free(stored);
    return code;
}

static int load_one(const char *path, at_net *net, at_optimizer *o, at_progress_point *at, at_error *err)
{
    at_h5 *h = at_h5_open(path, err);
    if (!h)
        return AT_EINPUT;
    int code = check_rows(h, net, err);
    code = code < 0 ? code : read_parts(h, net, o, err);
    code = code < 0 ? code : read_progress(h, at, o, err);
    at_h5_close(h, NULL);
    return code;
}

int at_checkpoint_load(const char *dir, at_net *net, at_optimizer *o, at_progress_point *at, at_error *err)
{
    struct dirent **entries;
    int n = scandir(dir, &entries, is_checkpoint, by_name);
    if (n < 0)
        return 0;
    int found = 0, bad = 0;
    for (int i = n - 1; i >= 0; i--) {
        char *path = at_path_join(dir, entries[i]->d_name);
        at_error why = {0};
        if (path && !found && load_one(path, net, o, at, &why) == 0) {
            found = 1;
            at_log(AT_LOG_INFO, "resuming from %s", path);
        } else if (path && !found) {
            at_log(AT_LOG_WARN, "%s cannot be used: %s", path, why.message);
            bad++;
        }
        free(path);
        free(entries[i]);
    }
    free(entries);
    if (!found && bad)
        return at_fail(err, AT_EINPUT, "%s: none of its %d checkpoints can be used", dir, bad);
    return found;
}
