/* SPDX-License-Identifier: Apache-2.0
 * Appending: new images for a data set that is there.
 *
 * The new rows go into a copy of the catalog, DATASET/append.partial/catalog.db, the new contents
 * into shards with numbers that the data set does not have yet. The last step renames the copy over
 * DATASET/catalog.db. So at every moment the catalog that readers find is whole, and all that it
 * counts is there; what a killed run leaves is the folder append.partial, with which `resume` goes
 * on, and shards that nobody counts, which the next run overwrites.
 *
 * meta(append_after) of the copy is the last image that was there before: rows of images with a
 * higher id are new. The classes of before wait in append_classes, since the new images are numbered
 * in the order of their appearance until the end. */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the beginning ---- */

static int copy_catalog(const char *from, const char *to, at_error *err)
{
    at_db *db = at_db_open(from, AT_DB_READ, err);
    int code = db ? at_db_run(db, err, "VACUUM INTO ?", "s", to) : err->code;
    at_db_close(db);
    return code;
}

static int mark_copy(const char *path, at_error *err)
{
    static const char sql[] =
        "BEGIN;"
        "DELETE FROM meta WHERE key = 'complete';"
        "INSERT INTO meta SELECT 'append_after', ifnull(max(id), 0) FROM images;"
        "INSERT INTO meta SELECT 'resume_shard', ifnull(max(shard), -1) + 1 FROM blobs;"
        "CREATE TABLE append_classes(label INTEGER PRIMARY KEY, name TEXT NOT NULL);"
        "INSERT INTO append_classes SELECT label, name FROM classes;"
        "DELETE FROM classes;"
        "COMMIT";
    at_db *db = at_db_open(path, AT_DB_WRITE, err);
    int code = db ? at_db_exec(db, sql, err) : err->code;
    if (code == 0) /* one file, so that it can be renamed */
        code = at_db_exec(db, "PRAGMA journal_mode = DELETE", err);
    at_db_close(db);
    return code;
}

/* Under its name the copy is whole and marked. */
static int make_copy(const char *from, const char *draft, const char *to, at_error *err)
{
    if (unlink(draft) && errno != ENOENT)
        return at_fail_errno(err, errno, "cannot remove %s", draft);
    int code = copy_catalog(from, draft, err);
    if (code == 0)
        code = mark_copy(draft, err);
    if (code == 0)
        code = at_sync_path(draft, err);
    if (code == 0 && rename(draft, to))
        code = at_fail_errno(err, errno, "cannot rename %s to %s", draft, to);
    return code;
}

/* Killed between the last change to the copy and its renaming: nothing was left to do but this. */
static int publish_ready(const char *copy, const char *catalog, at_error *err)
{
    at_db *db = at_db_open(copy, AT_DB_WRITE, err);
    int code = db ? at_db_exec(db, "PRAGMA journal_mode = DELETE", err) : err->code;
    at_stmt *s =
        code == 0 ? at_db_prepare(db, "SELECT count(*) FROM meta WHERE key = 'append_after'", err)
                  : NULL;
    bool marked = s && at_stmt_step(s, err) == 1 && at_stmt_int(s, 0) > 0;
    code = code < 0 ? code : s ? 0 : err->code;
    at_stmt_free(s);
    at_db_close(db);
    if (code == 0 && !marked)
        code = at_settle_catalog(copy, err);
    if (code == 0 && !marked && rename(copy, catalog))
        code = at_fail_errno(err, errno, "cannot rename %s to %s", copy, catalog);
    return code;
}

int at_append_begin(const char *dataset, const char *folder, at_error *err)
{
    char *from = at_path_join(dataset, "catalog.db"), *to = at_path_join(folder, "catalog.db"),
         *draft = at_path_join(folder, "catalog.draft");
    int code = from && to && draft ? 0 : at_nomem(err);
    if (code == 0 && at_file_exists(to))
        code = publish_ready(to, from, err);
    if (code == 0 && !at_file_exists(to))
        code = make_copy(from, draft, to, err);
    free(from);
    free(to);
    free(draft);
    return code;
}

/* ---- an image whose path is there ---- */

static int forget_error(at_db *db, const char *path, at_error *err)
{
    int code = at_db_run(db, err, "DELETE FROM errors WHERE path = ?", "s", path);
    return code < 0 ? code : 1;
}

int at_append_meet(at_db *db, const at_item *item, int64_t id, at_error *err)
{
    if (item->bad)
        return 0;
    if (id == 0)
        return forget_error(db, item->path.data, err);
    at_stmt *s = at_db_prepare(db, "SELECT hash FROM images WHERE id = ?", err);
    if (!s)
        return err->code;
    at_stmt_bind(s, "i", id);
    int code = at_stmt_step(s, err);
    if (code == 1)
        code = strcmp(at_stmt_word(s, 0), item->hash)
                   ? at_fail(err, AT_EINPUT,
                             "%s: the data set has another picture under this path: rename the new "
                             "one, or put the new ones into a folder of their own, like new-1/%s",
                             item->path.data, item->path.data)
                   : 0;
    at_stmt_free(s);
    return code;
}

/* ---- the end ---- */

/* New images of split `from` whose content lies in the old images' split `to` go there. */
static int follow_copies(at_db *db, int64_t after, at_split from, at_split to, at_error *err)
{
    return at_db_run(db, err,
                     "UPDATE images SET split = ?1 WHERE split = ?2 AND id > ?3"
                     " AND blob IN (SELECT blob FROM images WHERE split = ?1 AND id <= ?3)",
                     "ssi", at_split_name(to), at_split_name(from), after);
}

int at_append_keep_copies_together(at_catalog *c, const at_ingest_options *o, at_error *err)
{
    char *fraction = at_catalog_meta(c, "val_fraction");
    bool chosen_before = fraction && strtod(fraction, NULL) > 0;
    free(fraction);
    int code = 0;
    if (chosen_before)
        code = follow_copies(at_catalog_db(c), at_catalog_after(c), AT_TRAIN, AT_VAL, err);
    if (code == 0 && o->val_fraction > 0)
        code = follow_copies(at_catalog_db(c), at_catalog_after(c), AT_VAL, AT_TRAIN, err);
    return code;
}

/* Readers decode all of it, old and new. */
static int widen_limits(at_catalog *c, const at_ingest_options *o, at_error *err)
{
    at_decode_limits all = at_limits_before(), added = at_limits_resolved(o->limits);
    for (int i = 0; at_limit_keys[i]; i++) {
        char *told = at_catalog_meta(c, at_limit_keys[i]);
        if (told)
            at_limit_read(&all, at_limit_keys[i], told);
        free(told);
    }
    at_limits_widen(&all, &added);
    int code = 0;
    for (int i = 0; at_limit_keys[i] && code == 0; i++) {
        char text[AT_LIMIT_TEXT];
        at_limit_text(&all, i, text);
        code = at_catalog_set_meta(c, at_limit_keys[i], text, err);
    }
    return code;
}

static int add_record(at_catalog *c, const at_ingest_options *o, at_error *err)
{
    static const char table[] =
        "CREATE TABLE IF NOT EXISTS appends( -- one row a time that images were appended\n"
        "  id INTEGER PRIMARY KEY,\n"
        "  source TEXT NOT NULL, source_kind TEXT NOT NULL,\n"
        "  first INTEGER NOT NULL, -- of images(id)\n"
        "  images INTEGER NOT NULL,\n"
        "  val_fraction REAL NOT NULL, seed INTEGER NOT NULL)";
    static const char row[] =
        "INSERT INTO appends SELECT NULL, (SELECT value FROM meta WHERE key = 'append_source'),"
        " (SELECT value FROM meta WHERE key = 'append_source_kind'), min(id), count(*), ?, ?"
        " FROM images WHERE id > ?";
    int code = at_db_exec(at_catalog_db(c), table, err);
    if (code == 0)
        code = widen_limits(c, o, err);
    return code < 0 ? code
                    : at_db_run(at_catalog_db(c), err, row, "rii", o->val_fraction,
                                (int64_t)o->seed, at_catalog_after(c));
}

int at_append_record(at_catalog *c, const at_ingest_options *o, at_error *err)
{
    at_stmt *s = at_db_prepare(at_catalog_db(c), "SELECT max(id) FROM images", err);
    int code = s ? at_stmt_step(s, err) : err->code;
    bool any = code == 1 && at_stmt_int(s, 0) > at_catalog_after(c);
    at_stmt_free(s);
    if (code >= 0 && any)
        code = add_record(c, o, err);
    return code < 0 ? code : 0;
}

/* Errors count: they may have come, or have been mended. */
int at_append_is_news(at_catalog *c, const char *dataset, at_error *err)
{
    static const char sql[] =
        "SELECT EXISTS(SELECT 1 FROM images WHERE id > ?)"
        " OR EXISTS(SELECT * FROM main.errors EXCEPT SELECT * FROM before.errors)"
        " OR EXISTS(SELECT * FROM before.errors EXCEPT SELECT * FROM main.errors)";
    at_db *db = at_catalog_db(c);
    char *path = at_path_join(dataset, "catalog.db");
    int code = path ? at_db_run(db, err, "ATTACH ? AS before", "s", path) : at_nomem(err);
    free(path);
    if (code < 0)
        return code;
    at_stmt *s = at_db_prepare(db, sql, err);
    if (s)
        at_stmt_bind(s, "i", at_catalog_after(c));
    code = s ? at_stmt_step(s, err) : err->code;
    if (code == 1)
        code = (int)at_stmt_int(s, 0);
    at_stmt_free(s);
    int detached = at_db_exec(db, "DETACH before", code < 0 ? NULL : err);
    return code < 0 ? code : detached < 0 ? detached : code;
}

int at_append_unmark(at_catalog *c, at_error *err)
{
    return at_db_exec(at_catalog_db(c),
                      "BEGIN; DROP TABLE append_classes;"
                      "DELETE FROM meta WHERE key LIKE 'append\\_%' ESCAPE '\\'; COMMIT",
                      err);
}
