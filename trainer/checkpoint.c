/* SPDX-License-Identifier: Apache-2.0
 * Checkpoints: everything that a training needs to go on, in one H5 file, written atomically by
 * rank 0.
 *
 *   epoch-000003-step-000000120.h5   after 3 whole epochs and 120 steps of the fourth
 *     params, state, slot0, slot1   flat fp32 in the network's order, for any number of ranks
 *     attribute "progress"   JSON: epoch, step, consumed, sums, seconds, dataset, fit, optimizer,
 *                              updates
 *     attribute "rows"       the network's rows: a checkpoint of another network is refused
 *     attribute "crc32c"     of progress and all floats: a damaged file is passed over
 */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct part {
    const char *name;
    float *data;
    size_t count;
} part;
enum { MAX_PARTS = 2 + AT_OPTIMIZER_SLOTS };

static size_t list_parts(at_net *net, at_optimizer *o, part *parts)
{
    static const char *const slots[AT_OPTIMIZER_SLOTS] = {"slot0", "slot1"};
    size_t n = 0;
    parts[n++] = (part){"params", at_net_params(net), at_net_param_count(net)};
    if (at_net_state_count(net))
        parts[n++] = (part){"state", at_net_state(net), at_net_state_count(net)};
    for (size_t i = 0; i < at_optimizer_slots(o); i++)
        parts[n++] = (part){slots[i], at_optimizer_slot(o, i), at_net_param_count(net)};
    return n;
}

static void crc_text(const part *parts, size_t n, const char *progress, char out[16])
{
    uint32_t crc = at_crc32c(0, progress, strlen(progress));
    for (size_t i = 0; i < n; i++)
        crc = at_crc32c(crc, parts[i].data, parts[i].count * sizeof(float));
    snprintf(out, 16, "%08" PRIx32, crc);
}

static char *progress_text(const at_progress_point *at, const at_optimizer *o)
{
    at_node *n = at_node_new(AT_MAP);
    at_set_int(n, "epoch", (int64_t)at->epoch);
    at_set_int(n, "step", (int64_t)at->step);
    at_set_int(n, "consumed", (int64_t)at->consumed);
    at_set_real(n, "loss_sum", at->loss_sum);
    at_set_real(n, "correct", at->correct);
    at_set_real(n, "samples", at->samples);
    at_set_real(n, "seconds", at->seconds);
    at_set_real(n, "step_seconds", at->step_seconds);
    at_set_string(n, "dataset", at->dataset);
    at_set_string(n, "fit", at->fit);
    at_set_string(n, "optimizer", at_optimizer_name(o));
    at_set_int(n, "updates", (int64_t)at_optimizer_steps(o));
    char *text = at_json_print(n, false);
    at_node_free(n);
    return text;
}

/* ---- writing --------------------------------------------------------------------------------- */

static int write_all(at_h5 *h, at_net *net, at_optimizer *o, const at_progress_point *at,
                     at_error *err)
{
    part parts[MAX_PARTS];
    size_t n = list_parts(net, o, parts);
    char *progress = progress_text(at, o), *rows = at_graph_print(at_net_graph(net));
    char crc[16];
    int code = progress && rows ? 0 : at_nomem(err);
    for (size_t i = 0; i < n && code == 0; i++) {
        int64_t dims[1] = {(int64_t)parts[i].count};
        code = at_h5_write_floats(h, parts[i].name, parts[i].data, 1, dims, err);
    }
    if (code == 0) {
        crc_text(parts, n, progress, crc);
        code = at_h5_write_text(h, "progress", progress, err);
        code = code < 0 ? code : at_h5_write_text(h, "rows", rows, err);
        code = code < 0 ? code : at_h5_write_text(h, "crc32c", crc, err);
    }
    free(progress);
    free(rows);
    return code;
}

/* The digits are as many for every epoch and step, so this is their order. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_checkpoint(const struct dirent *entry)
{
    unsigned epoch, step;
    int end = 0;
    return sscanf(entry->d_name, "epoch-%6u-step-%9u.h5%n", &epoch, &step, &end) == 2 &&
           end == sizeof "epoch-000000-step-000000000.h5" - 1 && !entry->d_name[end];
}

static int remove_old(const char *dir, int64_t keep, at_error *err)
{
    struct dirent **entries;
    int n = scandir(dir, &entries, is_checkpoint, by_name);
    if (n < 0)
        return at_fail_errno(err, errno, "cannot list %s", dir);
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

/* The atomic file under its temporary name. */
static int write_file(const char *path, at_net *net, at_optimizer *o, const at_progress_point *at,
                      at_error *err)
{
    at_h5 *h = at_h5_create(path, err);
    if (!h)
        return err->code;
    int code = write_all(h, net, o, at, err);
    int closed = at_h5_close(h, code < 0 ? NULL : err);
    return code < 0 ? code : closed;
}

int at_checkpoint_save(const char *dir, at_net *net, at_optimizer *o, const at_progress_point *at,
                       int64_t keep, at_error *err)
{
    at_error local = {0};
    err = err ? err : &local;
    int code = at_make_dirs(dir, err);
    if (code < 0)
        return code;
    char *path =
        at_format("%s/epoch-%06" PRIu64 "-step-%09" PRIu64 ".h5", dir, at->epoch, at->step);
    if (!path)
        return at_nomem(err);
    at_atomic *file = at_atomic_open(path, err);
    free(path);
    if (!file)
        return err->code;
    code = write_file(at_atomic_path(file), net, o, at, err);
    if (code < 0) {
        at_atomic_abort(file);
        return code;
    }
    code = at_atomic_commit(file, err);
    return code < 0 ? code : remove_old(dir, keep, err);
}

/* ---- reading --------------------------------------------------------------------------------- */

static uint64_t count_of(const at_node *n, const char *key)
{
    int64_t v = at_node_int(at_node_get(n, key), 0);
    return v > 0 ? (uint64_t)v : 0;
}

static double sum_of(const at_node *n, const char *key)
{
    return at_node_real(at_node_get(n, key), 0);
}

static int parse_progress(const char *text, at_progress_point *at, at_optimizer *o, at_error *err)
{
    at_node *n = at_json_parse(text, strlen(text), "progress", err);
    if (!n)
        return AT_EINPUT;
    int code = 0;
    const char *optimizer = at_node_string(at_node_get(n, "optimizer"), "");
    if (strcmp(optimizer, at_optimizer_name(o)) != 0)
        code = at_fail(err, AT_EINPUT, "it is of optimizer \"%s\", not \"%s\"", optimizer,
                       at_optimizer_name(o));
    *at = (at_progress_point){.epoch = count_of(n, "epoch"),
                              .step = count_of(n, "step"),
                              .consumed = count_of(n, "consumed"),
                              .loss_sum = sum_of(n, "loss_sum"),
                              .correct = sum_of(n, "correct"),
                              .samples = sum_of(n, "samples"),
                              .seconds = sum_of(n, "seconds"),
                              .step_seconds = sum_of(n, "step_seconds")};
    snprintf(at->dataset, sizeof at->dataset, "%s", at_node_string(at_node_get(n, "dataset"), ""));
    snprintf(at->fit, sizeof at->fit, "%s", at_node_string(at_node_get(n, "fit"), ""));
    at_optimizer_set_steps(o, count_of(n, "updates"));
    at_node_free(n);
    return code;
}

static int check_rows(at_h5 *h, at_net *net, at_error *err)
{
    char *theirs = at_h5_read_text(h, "rows", err), *ours = at_graph_print(at_net_graph(net));
    int code = !theirs ? AT_EINPUT : !ours ? at_nomem(err) : 0;
    if (code == 0 && strcmp(theirs, ours) != 0)
        code = at_fail(err, AT_EINPUT,
                       "it is of another network than the one to be trained: resume with the same "
                       "model, size and data set");
    free(theirs);
    free(ours);
    return code;
}

static int read_parts(at_h5 *h, const part *parts, size_t n, at_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (at_h5_read_floats(h, parts[i].name, parts[i].data, parts[i].count, err) < 0)
            return AT_EINPUT;
    return 0;
}

static int read_all(at_h5 *h, at_net *net, at_optimizer *o, at_progress_point *at, at_error *err)
{
    part parts[MAX_PARTS];
    size_t n = list_parts(net, o, parts);
    char *progress = at_h5_read_text(h, "progress", err);
    char *stored = progress ? at_h5_read_text(h, "crc32c", err) : NULL;
    int code = stored ? check_rows(h, net, err) : AT_EINPUT;
    code = code < 0 ? code : parse_progress(progress, at, o, err); /* before slots are looked for */
    code = code < 0 ? code : read_parts(h, parts, n, err);
    if (code == 0) {
        char crc[16];
        crc_text(parts, n, progress, crc);
        code = strcmp(stored, crc) ? at_fail(err, AT_EINPUT, "its checksum is wrong") : 0;
    }
    free(stored);
    free(progress);
    return code;
}

static int load_one(const char *path, at_net *net, at_optimizer *o, at_progress_point *at,
                    at_error *err)
{
    at_h5 *h = at_h5_open(path, err);
    if (!h)
        return AT_EINPUT;
    int code = read_all(h, net, o, at, err);
    at_h5_close(h, NULL);
    return code;
}

int at_checkpoint_load(const char *dir, at_net *net, at_optimizer *o, at_progress_point *at,
                       at_error *err)
{
    struct dirent **entries;
    int n = scandir(dir, &entries, is_checkpoint, by_name);
    if (n < 0)
        return errno == ENOENT ? 0 : at_fail_errno(err, errno, "cannot list %s", dir);
    bool found = false;
    at_error newest = {0};
    for (int i = n - 1; i >= 0; i--) {
        char *path = found ? NULL : at_path_join(dir, entries[i]->d_name);
        at_error why = {0};
        found = found || (path && load_one(path, net, o, at, &why) == 0);
        if (path && found)
            at_log(AT_LOG_INFO, "resuming from %s", path);
        if (path && !found)
            at_log(AT_LOG_WARN, "%s cannot be used: %s", path, why.message);
        if (i == n - 1)
            newest = why;
        free(path);
        free(entries[i]);
    }
    free(entries);
    if (!found && n > 0)
        return at_fail(err, AT_EINPUT, "%s: none of its %d checkpoints can be used; the newest: %s",
                       dir, n, newest.message);
    return found;
}
