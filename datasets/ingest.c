/* SPDX-License-Identifier: Apache-2.0
 * Ingest: from a source to a data set on disk.
 *
 * The pipeline (pipeline.c) reads and examines; the caller's thread writes shards and catalog in
 * the source's order, so that both depend on the source alone, not on the number of threads.
 *
 * All happens in <out>.partial, which a lock protects against a second ingest, and which is renamed
 * to <out> when it is complete. Stopped at any point, killed even, the next ingest with `resume`
 * goes on behind the last commit. An append works in <out>/append.partial (append.c). */
#include "rows.h"
#include "share.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A transaction ends with whatever comes first: few where much comes, and little is lost where not. */
enum { COMMIT_BYTES = 64 << 20, COMMIT_SECONDS = 5, AHEAD = 4 /* items */ };
static const at_ingest_tuning usual = {.shard_bytes = 256 << 20, .commit_images = 65536};

struct ingest {
    const at_ingest_options *options;
    const at_ingest_tuning *tuning;
    char *out, *partial, *shards_folder;
    at_lock *lock, *turn; /* turn: among the processes of `together` */
    bool waited;          /* for another of them, which has done it */
    bool cut_short;       /* by an item that an interruption kept from coming */
    at_source *source;
    at_pipeline *pipeline;
    at_catalog *catalog;
    at_shard_writer *shards;
    at_keys *done;
    at_rows rows; /* of the finished catalog */
    size_t resumed;
    uint64_t shared; /* pictures that other ranks decoded */
    uint64_t images, errors, pending, pending_bytes;
    double committed; /* when */
};

/* ---- the writer ---- */

static int commit(struct ingest *g, at_error *err)
{
    g->pending = g->pending_bytes = 0;
    g->committed = at_now();
    int code = at_shard_sync(g->shards, err);
    if (code == 0)
        code = at_catalog_note(g->catalog, g->shards, err);
    return code < 0 ? code : at_db_exec(at_catalog_db(g->catalog), "COMMIT; BEGIN", err);
}

static bool is_due(const struct ingest *g)
{
    return g->pending >= g->tuning->commit_images || g->pending_bytes >= COMMIT_BYTES ||
           at_now() - g->committed >= COMMIT_SECONDS;
}

static int write_chunk(struct ingest *g, const at_chunk *k, at_error *err)
{
    for (size_t i = 0; i < k->count; i++) {
        g->cut_short = g->cut_short || k->items[i].dropped;
        if (g->cut_short)
            return 0;
        if (i + AHEAD < k->count)
            at_catalog_expect(g->catalog, &k->items[i + AHEAD]);
        int code = at_catalog_add(g->catalog, g->shards, &k->items[i], err);
        if (code < 0)
            return code;
        g->images += !k->items[i].bad;
        g->errors += k->items[i].bad;
        g->pending++;
        g->pending_bytes += k->items[i].bytes.size;
        if (is_due(g) && (code = commit(g, err)) < 0)
            return code;
    }
    return 0;
}

static void describe(const struct ingest *g, char note[80])
{
    int n = snprintf(note, 80, "%llu images", (unsigned long long)g->images);
    if (g->errors)
        snprintf(note + n, 80 - (size_t)n, ", %llu set aside", (unsigned long long)g->errors);
}

/* Takes what the pipeline has examined, to its end. */
static int write_all(struct ingest *g, at_error *err)
{
    at_progress *progress = at_progress_new("ingest", g->source->total, g->source->unit);
    char note[80] = "";
    at_chunk *k;
    int code = 0;
    while (code == 0 && (k = at_pipeline_next(g->pipeline))) {
        code = write_chunk(g, k, err);
        describe(g, note);
        at_progress_update(progress, k->done, note);
        at_pipeline_give_back(g->pipeline, k);
    }
    at_progress_end(progress, note);
    return code;
}

static int run_pipeline(struct ingest *g, at_error *err)
{
    int code = at_pipeline_start(g->pipeline, err);
    if (code == 0)
        code = write_all(g, err);
    at_error reader = {0};
    int stopped = at_pipeline_stop(g->pipeline, &reader);
    g->pipeline = NULL;
    if (code == 0 && (stopped < 0 || g->cut_short))
        code = commit(g, err); /* what was read stays, whatever ended the reading */
    if (code == 0 && stopped < 0)
        return at_fail(err, stopped, "%s", reader.message);
    return code == 0 && g->cut_short ? at_fail(err, AT_EINTERRUPTED, "interrupted") : code;
}

/* ---- folders ---- */

static int clear_partial(const struct ingest *g, at_error *err)
{
    static const char *const files[] = {"catalog.db", "catalog.db-wal", "catalog.db-shm",
                                        "catalog.db-journal"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *path = at_path_join(g->partial, files[i]);
        if (!path)
            return at_nomem(err);
        int code = unlink(path) && errno != ENOENT
                       ? at_fail_errno(err, errno, "cannot remove %s", path)
                       : 0;
        free(path);
        if (code < 0)
            return code;
    }
    return g->options->append ? 0 : at_remove_tree(g->shards_folder, err);
}

static int take_partial(struct ingest *g, at_error *err)
{
    int code = at_make_dirs(g->partial, err);
    if (code < 0)
        return code;
    char *path = at_path_join(g->partial, ".lock");
    if (!path)
        return at_nomem(err);
    at_error local = {0};
    g->lock = at_lock_take(path, false, &local);
    if (g->lock && !at_lock_is_named(g->lock, path)) {
        at_lock_release(g->lock);
        g->lock = NULL;
        local.code = AT_EPEER;
    }
    free(path);
    if (!g->lock && local.code == AT_EPEER)
        return at_fail(err, AT_EPEER, "another ingest is writing %s", g->partial);
    if (!g->lock)
        return at_fail(err, local.code, "%s", local.message);
    return g->options->resume ? 0 : clear_partial(g, err);
}

/* Notes what was begun with, or holds it against what is given now. */
static int same_fact(struct ingest *g, const char *key, const char *value, at_error *err)
{
    char *name = at_format("%s%s", g->options->append ? "append_" : "", key);
    char *begun = name ? at_catalog_meta(g->catalog, name) : NULL;
    int code = name ? 0 : at_nomem(err);
    if (begun && strcmp(begun, value))
        code = at_fail(err, AT_EINPUT,
                       "%s was begun from %s %s, not from %s: leave --resume away to begin anew",
                       g->partial, key, begun, value);
    else if (code == 0 && !begun)
        code = at_catalog_set_meta(g->catalog, name, value, err);
    free(begun);
    free(name);
    return code;
}

static int same_limits(struct ingest *g, at_error *err)
{
    int code = 0;
    for (int i = 0; at_limit_keys[i] && code == 0; i++) {
        char text[AT_LIMIT_TEXT];
        at_limit_text(&g->source->limits, i, text);
        code = same_fact(g, at_limit_keys[i], text, err);
    }
    return code;
}

/* The source that a half-made data set was begun from must be this one. */
static int same_source(struct ingest *g, at_error *err)
{
    char *path = realpath(g->options->source, NULL);
    int code = path ? same_fact(g, "source", path, err)
                    : at_fail_errno(err, errno, "cannot read source %s", g->options->source);
    free(path);
    if (code == 0)
        code = same_fact(g, "source_kind", g->source->kind->name, err);
    if (code == 0)
        code = same_limits(g, err);
    if (code == 0)
        code = same_fact(g, "labels",
                         g->source->labels ? at_label_file_hash(g->source->labels) : "", err);
    return code;
}

/* A data set within its own source would be read while it is written. */
static int outside_source(const struct ingest *g, at_error *err)
{
    char *source = realpath(g->options->source, NULL), *partial = realpath(g->partial, NULL);
    size_t n = source ? strlen(source) : 0;
    bool inside = partial && n && !strncmp(source, partial, n) && partial[n] == '/';
    free(source);
    free(partial);
    return inside ? at_fail(err, AT_EINPUT, "%s lies within its source %s: choose another place",
                            g->out, g->options->source)
                  : 0;
}

static int open_all(struct ingest *g, at_error *err)
{
    g->source = at_source_open(g->options->source, g->options->labels, err);
    if (!g->source)
        return err->code;
    g->source->limits = at_limits_resolved(g->options->limits);
    g->pipeline =
        at_pipeline_new(g->source, at_frames_frame(g->options->frames), g->options->jobs, err);
    if (!g->pipeline || take_partial(g, err) < 0 || outside_source(g, err) < 0)
        return err->code;
    if (g->options->append && at_append_begin(g->out, g->partial, err) < 0)
        return err->code;
    g->catalog = at_catalog_open(g->partial, err);
    if (!g->catalog || same_source(g, err) < 0)
        return err->code;
    at_catalog_keep_frames(g->catalog, g->options->frames);
    g->done = at_catalog_paths(g->catalog, &g->resumed, err);
    g->source->skip = g->done;
    return g->done ? 0 : err->code;
}

/* Killed between its last commit and the renaming: then nothing may be written any more. */
static bool is_complete(struct ingest *g)
{
    char *complete = at_catalog_meta(g->catalog, "complete");
    free(complete);
    return complete != NULL;
}

/* An append that had no new content to store leaves a shard of none. Shards grow with ids. */
static int drop_empty_shard(const struct ingest *g, at_error *err)
{
    at_stmt *s = at_db_prepare(at_catalog_db(g->catalog),
                               "SELECT shard FROM blobs ORDER BY id DESC LIMIT 1", err);
    int code = s ? at_stmt_step(s, err) : err->code;
    if (code == 1)
        code = at_shard_remove_from(g->shards_folder, at_stmt_int(s, 0) + 1, err);
    at_stmt_free(s);
    return code;
}

/* From <out>.partial to <out>. An append that brought nothing, e.g. that was killed behind its last
 * step and is run again, leaves the data set's catalog as it is. */
static int publish(struct ingest *g, at_error *err)
{
    int code = drop_empty_shard(g, err);
    int news = code < 0 || !g->options->append ? 1 : at_append_is_news(g->catalog, g->out, err);
    code = news < 0 ? news : code;
    if (code == 0 && g->options->append && news)
        code = at_append_unmark(g->catalog, err);
    at_catalog_close(g->catalog);
    g->catalog = NULL;
    if (code == 0)
        code = at_sync_path(g->shards_folder, err);
    if (code < 0)
        return code;
    at_rows *rows = g->rows.count ? &g->rows : NULL; /* none: it was complete already */
    return !news                ? at_publish_nothing(g->partial, g->out, err)
           : g->options->append ? at_publish_catalog(g->partial, g->out, rows, err)
                                : at_publish_folder(g->partial, g->out, rows, err);
}

/* ---- the whole ---- */

/* after: images with a higher id are new. */
static int count_all(at_db *db, int64_t after, at_ingest_result *result, at_error *err)
{
    at_stmt *s =
        at_db_prepare(db,
                      "SELECT (SELECT count(*) FROM images), (SELECT count(*) FROM errors),"
                      " (SELECT sum(bytes) FROM blobs), (SELECT count(*) FROM images WHERE id > ?)",
                      err);
    if (s)
        at_stmt_bind(s, "i", after);
    int code = s ? at_stmt_step(s, err) : err->code;
    if (code == 1) {
        result->images = (uint64_t)at_stmt_int(s, 0);
        result->errors = (uint64_t)at_stmt_int(s, 1);
        result->bytes = (uint64_t)at_stmt_int(s, 2);
        result->added = (uint64_t)at_stmt_int(s, 3);
    }
    at_stmt_free(s);
    return code < 0 ? code : 0;
}

/* The same by the rows of the catalog that was just finished. */
static int count_rows(const struct ingest *g, at_ingest_result *result, at_error *err)
{
    at_stmt *s = at_db_prepare(at_catalog_db(g->catalog), "SELECT count(*) FROM errors", err);
    int code = s ? at_stmt_step(s, err) : err->code;
    if (code == 1)
        result->errors = (uint64_t)at_stmt_int(s, 0);
    at_stmt_free(s);
    int64_t after = at_catalog_after(g->catalog);
    for (size_t i = 0; i < g->rows.count; i++)
        result->added += g->rows.items[i].entry.id > after;
    result->images = g->rows.count;
    result->bytes = g->rows.bytes;
    return code < 0 ? code : 0;
}

static int begin_share(struct ingest *g, at_error *err)
{
    const at_ingest_options *o = g->options;
    if (o->ranks < 2 || g->source->kind->remote)
        return 0;
    g->source->share = at_share_new(g->out, o->rank, o->ranks, g->resumed, err);
    return g->source->share ? 0 : err->code;
}

static void end_share(struct ingest *g)
{
    g->shared = at_share_taken(g->source->share);
    at_share_free(g->source->share);
    g->source->share = NULL;
}

static int fill(struct ingest *g, at_error *err)
{
    g->shards = at_catalog_shards(g->catalog, g->shards_folder, g->tuning->shard_bytes, err);
    if (!g->shards)
        return err->code;
    g->committed = at_now();
    if (begin_share(g, err) < 0)
        return err->code;
    int code = run_pipeline(g, err);
    end_share(g);
    at_catalog_forget_seen(g->catalog);
    at_keys_free(g->done);
    g->done = NULL;
    g->source->skip = NULL;
    if (code == 0)
        code = at_catalog_note(g->catalog, g->shards, err);
    if (code == 0)
        code = at_shard_seal(g->shards, err);
    if (code == 0)
        code = at_finish_catalog(g->catalog, g->options, g->source, g->shards, &g->rows, err);
    at_shard_writer_close(g->shards);
    g->shards = NULL;
    if (code == 0 && g->options->frames)
        at_frames_seal(g->options->frames);
    return code;
}

static int ingest(struct ingest *g, at_ingest_result *result, at_error *err)
{
    int code = open_all(g, err);
    if (code == 0)
        code = is_complete(g) ? at_db_exec(at_catalog_db(g->catalog), "COMMIT", err) : fill(g, err);
    if (code == 0)
        code = g->rows.count ? count_rows(g, result, err)
                             : count_all(at_catalog_db(g->catalog), at_catalog_after(g->catalog),
                                         result, err);
    result->resumed = g->resumed;
    result->shared = g->shared;
    return code < 0 ? code : publish(g, err);
}

/* Says what remains of a failed ingest, or leaves nothing. */
static void explain(struct ingest *g, at_error *err)
{
    if (!g->lock)
        return;
    if (g->images + g->resumed == 0 && err->code != AT_EINTERRUPTED) {
        at_remove_tree(g->partial, NULL);
        return;
    }
    char message[sizeof err->message];
    snprintf(message, sizeof message, "%s", err->message);
    at_fail(err, err->code, "%.700s (%llu images are in %s: the same with --resume goes on there)",
            message, (unsigned long long)(g->images + g->resumed), g->partial);
}

static bool is_made(const struct ingest *g)
{
    return at_file_exists(g->out) || at_dir_exists(g->out);
}

/* What was waited for is there: an append's folder goes with its end. */
static int take_turn(struct ingest *g, at_error *err)
{
    int code = at_turn_take(g->options, g->out, &g->turn, err);
    g->waited = code == 0 && !g->turn;
    bool done = g->options->append ? !at_dir_exists(g->partial) : is_made(g);
    return g->waited && !done
               ? at_fail(err, AT_EPEER, "another process was making %s and failed", g->out)
               : code;
}

static void ingest_fini(struct ingest *g)
{
    at_pipeline_stop(g->pipeline, NULL);
    at_shard_writer_close(g->shards);
    at_catalog_close(g->catalog);
    at_source_close(g->source);
    at_keys_free(g->done);
    at_rows_fini(&g->rows);
    at_lock_release(g->lock);
    at_turn_end(g->out, g->turn);
    free(g->shards_folder);
    free(g->partial);
    free(g->out);
}

static bool name_folders(struct ingest *g, const char *out)
{
    size_t length = strlen(out);
    while (length > 1 && out[length - 1] == '/')
        length--;
    g->out = strndup(out, length);
    bool append = g->options->append;
    g->partial = g->out ? at_format(append ? "%s/append.partial" : "%s.partial", g->out) : NULL;
    g->shards_folder = g->partial ? at_path_join(append ? g->out : g->partial, "shards") : NULL;
    return g->shards_folder != NULL;
}

/* With `resume`, a job that is run again finds the finished data set and has nothing to do; so does
 * one of several processes together. */
static int accept_finished(const struct ingest *g, at_ingest_result *result, at_error *err)
{
    bool may = g->options->resume || g->options->together;
    at_dataset *d = may ? at_dataset_open(g->out, NULL) : NULL;
    at_dataset_close(d);
    if (!d)
        return at_fail(
            err, AT_EINPUT,
            "%s exists already: remove it, choose another name, or add to it with --append",
            g->out);
    char *catalog = at_path_join(g->out, "catalog.db");
    at_db *db = catalog ? at_db_open(catalog, AT_DB_READ, err) : NULL;
    int code = !db ? AT_EINPUT : g->options->append ? 1 : at_finish_matches(db, g->options, err);
    if (code == 1)
        code = count_all(db, 0, result, err);
    else if (code == 0)
        code = at_fail(err, AT_EINPUT,
                       "%s exists already, made from another source or with other options", g->out);
    result->resumed = result->images + result->errors;
    result->found = code >= 0;
    at_db_close(db);
    free(catalog);
    return code;
}

/* What there is to append to; a data set of another format is refused here. */
static int expect_dataset(const struct ingest *g, at_error *err)
{
    at_dataset *d = at_dataset_open_head(g->out, err);
    at_dataset_close(d);
    return d ? 0 : at_fail_in(err, "nothing to append to");
}

static int check_options(const at_ingest_options *o, at_error *err)
{
    if (!o->source || !o->source[0] || !o->out || !o->out[0])
        return at_fail(err, AT_EUSAGE, "ingest takes a source and a place for the data set");
    struct stat st;
    if (lstat(o->out, &st) == 0 && stat(o->out, &st) != 0)
        return at_fail(err, AT_EINPUT, "%s is a link to nothing: remove it or choose another name",
                       o->out);
    if (!(o->val_fraction >= 0 && o->val_fraction < 1))
        return at_fail(err, AT_EUSAGE, "val-fraction is %g: it lies in 0 <= f < 1",
                       o->val_fraction);
    return 0;
}

int at_ingest_tuned(const at_ingest_options *o, const at_ingest_tuning *tuning,
                    at_ingest_result *result, at_error *err)
{
    at_error local = {0};
    at_ingest_result unused;
    err = err ? err : &local;
    result = result ? result : &unused;
    *result = (at_ingest_result){0};
    double start = at_now();
    int code = check_options(o, err);
    if (code < 0)
        return code;
    struct ingest g = {.options = o, .tuning = tuning};
    if (!name_folders(&g, o->out))
        code = at_nomem(err);
    else if (o->together && (code = take_turn(&g, err)) < 0)
        ;
    else if (o->append && (code = expect_dataset(&g, err)) < 0)
        ;
    else if (o->append ? g.waited : is_made(&g))
        code = accept_finished(&g, result, err);
    else if ((code = ingest(&g, result, err)) < 0)
        explain(&g, err);
    ingest_fini(&g);
    result->seconds = at_now() - start;
    return code;
}

int at_ingest(const at_ingest_options *options, at_ingest_result *result, at_error *err)
{
    return at_ingest_tuned(options, &usual, result, err);
}
