/* SPDX-License-Identifier: Apache-2.0
 * A second, coarser label of each image, where a source has one beside its class (CIFAR-100's twenty
 * superclasses). It lies in two tables of its own, which other data sets do not have: neither the
 * class nor the data set's identity depends on it. Both follow images(id), so that a resumed ingest
 * and an append have nothing to do about it. */
#include "internal.h"

#include <string.h>

static const char tables[] =
    "CREATE TABLE IF NOT EXISTS coarse_labels( -- of images, where the source has such\n"
    "  image INTEGER PRIMARY KEY, -- id of images\n"
    "  label INTEGER NOT NULL);   -- of coarse_classes\n"
    "CREATE TABLE IF NOT EXISTS coarse_classes(label INTEGER PRIMARY KEY, name TEXT NOT NULL);";

int at_coarse_add(at_db *db, at_stmt **statement, int64_t image, const at_item *item, at_error *err)
{
    int code = *statement ? 0 : at_db_exec(db, tables, err);
    if (!*statement && code == 0)
        *statement = at_db_prepare(db, "INSERT INTO coarse_labels VALUES(?,?)", err);
    if (!*statement)
        return code < 0 ? code : AT_EIO;
    at_stmt_bind(*statement, "ii", image, (int64_t)item->coarse - 1);
    return at_stmt_step(*statement, err);
}

int at_coarse_exists(at_db *db, at_error *err)
{
    at_stmt *s =
        at_db_prepare(db, "SELECT count(*) FROM sqlite_master WHERE name = 'coarse_labels'", err);
    int code = s ? at_stmt_step(s, err) : AT_EIO;
    if (code == 1)
        code = at_stmt_int(s, 0) > 0;
    at_stmt_free(s);
    return code;
}

/* An append must not give a label that is there another meaning. */
static int check_name(at_db *db, int64_t label, const char *name, const char *source, at_error *err)
{
    at_stmt *s = at_db_prepare(db, "SELECT name FROM coarse_classes WHERE label = ?", err);
    int code = s && at_stmt_bind(s, "i", label) == 0 ? at_stmt_step(s, err) : AT_EIO;
    if (code == 1)
        code = strcmp(at_stmt_text(s, 0), name) == 0
                   ? 0
                   : at_fail(err, AT_EINPUT,
                             "%s: coarse label %d is \"%s\", in the data set it is \"%s\"", source,
                             (int)label, name, at_stmt_text(s, 0));
    at_stmt_free(s);
    return code;
}

int at_coarse_name(at_db *db, const at_source *source, at_error *err)
{
    int code = at_coarse_exists(db, err);
    if (code <= 0)
        return code;
    code = 0;
    for (size_t i = 0; code == 0 && i < source->coarse.count; i++) {
        const char *name = source->coarse.items[i];
        code = check_name(db, (int64_t)i, name, source->path, err);
        if (code == 0)
            code = at_db_run(db, err, "INSERT OR IGNORE INTO coarse_classes VALUES(?,?)", "is",
                             (int64_t)i, name);
    }
    if (code == 0) /* what the source does not name */
        code = at_db_exec(db,
                          "INSERT OR IGNORE INTO coarse_classes"
                          " SELECT DISTINCT label, label FROM coarse_labels",
                          err);
    return code;
}
