/* SPDX-License-Identifier: Apache-2.0
 * catalog.db while an ingest writes it.
 *
 * A row of images is a file of the source, a row of blobs a content: the same picture under two
 * paths is stored once. The tables are plain enough for any SQLite client; their comments lie in
 * the file. A commit first syncs the shard, then commits the rows together with the shard's length:
 * whatever the catalog counts is on disk, and what a killed ingest wrote beyond is cut off by the
 * next. No page keeps bytes of rows that are gone (secure_delete): the file's bytes depend on what was
 * put in, not on how often that was stopped. Until the end images(label) counts classes in the order of their appearance (labels.c
 * renumbers). */
#include "internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char schema[] = "PRAGMA user_version = " AT_STRING_OF(
    AT_CATALOG_FORMAT) ";"
                       "CREATE TABLE IF NOT EXISTS meta( -- one row a fact: format, dataset_hash, "
                       "source, seed, ...\n"
                       "  key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
                       "CREATE TABLE IF NOT EXISTS classes(label INTEGER PRIMARY KEY, name TEXT "
                       "NOT NULL UNIQUE);"
                       "CREATE TABLE IF NOT EXISTS images( -- one row a file of the source\n"
                       "  id INTEGER PRIMARY KEY,\n"
                       "  path TEXT NOT NULL,     -- as in the source; unique\n"
                       "  split TEXT NOT NULL,    -- train, val or test\n"
                       "  label INTEGER NOT NULL, -- of classes\n"
                       "  hash TEXT NOT NULL,     -- of blobs: BLAKE2b-256 of the content\n"
                       "  mtime INTEGER NOT NULL, -- seconds since 1970\n"
                       "  blob INTEGER NOT NULL   -- id of blobs, for joins faster than by hash\n"
                       ");"
                       "CREATE TABLE IF NOT EXISTS blobs( -- one row a content\n"
                       "  id INTEGER PRIMARY KEY,\n"
                       "  hash TEXT NOT NULL,     -- unique\n"
                       "  shard INTEGER NOT NULL, -- file shards/<shard>.atb, five digits\n"
                       "  offset INTEGER NOT NULL, -- of the content in it\n"
                       "  bytes INTEGER NOT NULL,\n"
                       "  crc32c INTEGER NOT NULL,\n"
                       "  format TEXT NOT NULL,   -- png, jpeg or raw\n"
                       "  width INTEGER NOT NULL, height INTEGER NOT NULL,\n"
                       "  channels INTEGER NOT NULL, -- as decoded: 1 grey, 3 RGB\n"
                       "  bit_depth INTEGER NOT NULL, -- in the file, of a channel or a palette's "
                       "index\n"
                       "  mode TEXT NOT NULL,     -- in the file: grey, grey-alpha, palette, rgb, "
                       "rgba or cmyk\n"
                       "  -- of the pixels, 0..255; _0 is grey or red, _1 green, _2 blue:\n"
                       "  mean_0 REAL, mean_1 REAL, mean_2 REAL,\n"
                       "  deviation_0 REAL, deviation_1 REAL, deviation_2 REAL,\n"
                       "  min_0 INTEGER, min_1 INTEGER, min_2 INTEGER, max_0 INTEGER, max_1 "
                       "INTEGER, max_2 INTEGER,\n"
                       "  sharpness REAL NOT NULL, -- variance of the values' Laplacian\n"
                       "  entropy REAL NOT NULL,  -- of the histograms, 0 to 4 bits\n"
                       "  dhash INTEGER NOT NULL, -- 64 bits; of pictures that look alike few "
                       "differ\n"
                       "  histogram BLOB NOT NULL, -- a channel's 16 shares of the pixels, 65535 "
                       "is all; u16, low byte\n"
                       "                          -- first\n"
                       "  exif TEXT);             -- as JSON {tag: value}; NULL: none\n"
                       "CREATE TABLE IF NOT EXISTS exif( -- the same, a row a tag\n"
                       "  hash TEXT NOT NULL, tag TEXT NOT NULL, value NOT NULL);"
                       "CREATE TABLE IF NOT EXISTS errors( -- files that are no images\n"
                       "  path TEXT PRIMARY KEY,\n"
                       "  reason TEXT NOT NULL, -- truncated, not-an-image, too-large, corrupt, "
                       "unreadable,\n"
                       "                        -- unsupported, empty or timeout\n"
                       "  detail TEXT NOT NULL) WITHOUT ROWID;";

struct class_row {
    char *name;
    int64_t label;
};

struct at_catalog {
    at_db *db;
    at_stmt *image, *blob, *exif, *error, *class_row;
    at_stmt *coarse;           /* NULL: no image of this ingest has had such a label */
    at_keys *contents, *paths; /* hash to id of blobs; path to id of images (errors: 0) */
    int64_t after;             /* images of before an append */
    struct class_row *classes; /* sorted by name */
    size_t class_count, class_capacity;
    size_t last_class; /* files of a class come together */
};

/* ---- classes ---- */

/* Where the name is or belongs. */
static size_t find_class(const at_catalog *c, const char *name, bool *found)
{
    size_t low = 0, high = c->class_count;
    *found = false;
    while (low < high && !*found) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, c->classes[middle].name);
        *found = order == 0;
        if (*found)
            low = middle;
        else if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static int insert_class(at_catalog *c, size_t at, const char *name, int64_t label, at_error *err)
{
    if (c->class_count == c->class_capacity) {
        size_t capacity = c->class_capacity ? 2 * c->class_capacity : 64;
        struct class_row *rows = realloc(c->classes, capacity * sizeof *rows);
        if (!rows)
            return at_nomem(err);
        c->classes = rows;
        c->class_capacity = capacity;
    }
    char *copy = strdup(name);
    if (!copy)
        return at_nomem(err);
    memmove(c->classes + at + 1, c->classes + at, (c->class_count - at) * sizeof *c->classes);
    c->classes[at] = (struct class_row){copy, label};
    c->class_count++;
    return 0;
}

static int label_of(at_catalog *c, const char *name, int64_t *label, at_error *err)
{
    if (c->last_class < c->class_count && !strcmp(c->classes[c->last_class].name, name)) {
        *label = c->classes[c->last_class].label;
        return 0;
    }
    bool found;
    size_t at = find_class(c, name, &found);
    if (!found) {
        int64_t next = (int64_t)c->class_count;
        int code = insert_class(c, at, name, next, err);
        if (code == 0) {
            at_stmt_bind(c->class_row, "is", next, name);
            code = at_stmt_step(c->class_row, err);
        }
        if (code < 0)
            return code;
    }
    c->last_class = at;
    *label = c->classes[at].label;
    return 0;
}

static int load_classes(at_catalog *c, at_error *err)
{
    at_stmt *s = at_db_prepare(c->db, "SELECT name, label FROM classes", err);
    if (!s)
        return AT_EIO;
    int code;
    while ((code = at_stmt_step(s, err)) == 1) {
        bool found;
        size_t at = find_class(c, at_stmt_text(s, 0), &found);
        int failed = insert_class(c, at, at_stmt_text(s, 0), at_stmt_int(s, 1), err);
        if (failed < 0) {
            code = failed;
            break;
        }
    }
    at_stmt_free(s);
    return code;
}

/* ---- opening and committing ---- */

static bool prepare(at_catalog *c, at_error *err)
{
    c->image = at_db_prepare(
        c->db, "INSERT INTO images(path, split, label, hash, mtime, blob) VALUES(?,?,?,?,?,?)",
        err);
    c->blob = at_db_prepare(c->db,
                            "INSERT INTO blobs VALUES(NULL,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,"
                            "?,?,?,?,?,?,?,?)",
                            err);
    c->exif = at_db_prepare(c->db, "INSERT INTO exif SELECT ?, key, value FROM json_each(?)", err);
    c->error = at_db_prepare(c->db, "INSERT INTO errors VALUES(?,?,?)", err);
    c->class_row = at_db_prepare(c->db, "INSERT INTO classes(label, name) VALUES(?,?)", err);
    return c->image && c->blob && c->exif && c->error && c->class_row;
}

/* Adds every (text, number) row of the query to the keys. */
static int load_keys(at_db *db, const char *sql, bool hashes, at_keys *keys, size_t *count,
                     at_error *err)
{
    at_stmt *s = at_db_prepare(db, sql, err);
    int code = s ? 1 : AT_EIO;
    while (code == 1 && (code = at_stmt_step(s, err)) == 1) {
        const char *text = at_stmt_word(s, 0);
        if (hashes && strlen(text) != 64)
            code = at_fail(err, AT_EINPUT, "the catalog is damaged: \"%s\" is no content's hash",
                           text);
        else if (!at_keys_add(keys, hashes ? at_key_of_hash(text) : at_key_of_path(text),
                              at_stmt_int(s, 1)))
            code = at_nomem(err);
        ++*count;
    }
    at_stmt_free(s);
    return code;
}

static const char all_paths[] = "SELECT path, id FROM images UNION ALL SELECT path, 0 FROM errors";
static const char new_paths[] = "SELECT path, id FROM images WHERE id > "
                                "(SELECT value + 0 FROM meta WHERE key = 'append_after')";

static int load_seen(at_catalog *c, at_error *err)
{
    size_t count = 0;
    c->contents = at_keys_new();
    c->paths = at_keys_new();
    if (!c->contents || !c->paths)
        return at_nomem(err);
    int code = load_keys(c->db, "SELECT hash, id FROM blobs", true, c->contents, &count, err);
    return code < 0 ? code : load_keys(c->db, all_paths, false, c->paths, &count, err);
}

at_keys *at_catalog_paths(at_catalog *c, size_t *count, at_error *err)
{
    *count = 0;
    at_keys *keys = at_keys_new();
    if (!keys)
        at_nomem(err);
    else if (load_keys(c->db, c->after ? new_paths : all_paths, false, keys, count, err) == 0)
        return keys;
    at_keys_free(keys);
    return NULL;
}

static uint64_t number_of(at_catalog *c, const char *key)
{
    char *text = at_catalog_meta(c, key);
    uint64_t value = text ? strtoull(text, NULL, 10) : 0;
    free(text);
    return value;
}

/* An ingest may only go on with a catalog of this format. */
static int check_format(at_catalog *c, const char *path, at_error *err)
{
    at_stmt *s = at_db_prepare(
        c->db, "SELECT user_version, (SELECT count(*) FROM sqlite_master) FROM pragma_user_version",
        err);
    int code = s ? at_stmt_step(s, err) : err->code;
    if (code == 1 && at_stmt_int(s, 1) > 0 && at_stmt_int(s, 0) != AT_CATALOG_FORMAT)
        code = at_fail(err, AT_EINPUT,
                       "%s is of another version of atoll: ingest its source anew (without "
                       "--resume or --append)",
                       path);
    at_stmt_free(s);
    return code < 0 ? code : 0;
}

at_catalog *at_catalog_open(const char *folder, at_error *err)
{
    at_catalog *c = calloc(1, sizeof *c);
    char *path = at_path_join(folder, "catalog.db");
    if (!c || !path) {
        at_nomem(err);
        goto fail_open;
    }
    c->db = at_db_open(path, AT_DB_FILL, err);
    if (!c->db || check_format(c, path, err) < 0 ||
        at_db_exec(c->db, "PRAGMA cache_size = -32768; PRAGMA secure_delete = ON; BEGIN", err) <
            0 ||
        at_db_exec(c->db, schema, err) < 0 || at_catalog_add_views(c->db, err) < 0 ||
        !prepare(c, err) || load_classes(c, err) < 0 || load_seen(c, err) < 0)
        goto fail_open;
    c->after = (int64_t)number_of(c, "append_after");
    free(path);
    return c;
fail_open:
    free(path);
    at_catalog_close(c);
    return NULL;
}

void at_catalog_close(at_catalog *c)
{
    if (!c)
        return;
    at_stmt_free(c->image);
    at_stmt_free(c->blob);
    at_stmt_free(c->exif);
    at_stmt_free(c->error);
    at_stmt_free(c->class_row);
    at_stmt_free(c->coarse);
    at_db_close(c->db);
    at_catalog_forget_seen(c);
    for (size_t i = 0; i < c->class_count; i++)
        free(c->classes[i].name);
    free(c->classes);
    free(c);
}

void at_catalog_forget_seen(at_catalog *c)
{
    at_keys_free(c->contents);
    at_keys_free(c->paths);
    c->contents = c->paths = NULL;
}

at_db *at_catalog_db(at_catalog *c)
{
    return c->db;
}

int64_t at_catalog_after(const at_catalog *c)
{
    return c->after;
}

int at_catalog_set_meta(at_catalog *c, const char *key, const char *value, at_error *err)
{
    return at_db_run(c->db, err, "INSERT OR REPLACE INTO meta VALUES(?,?)", "ss", key, value);
}

char *at_catalog_meta(at_catalog *c, const char *key)
{
    at_stmt *s = at_db_prepare(c->db, "SELECT value FROM meta WHERE key = ?", NULL);
    char *value = NULL;
    if (s && at_stmt_bind(s, "s", key) == 0 && at_stmt_step(s, NULL) == 1)
        value = strdup(at_stmt_text(s, 0));
    at_stmt_free(s);
    return value;
}

int at_catalog_set_number(at_catalog *c, const char *key, int64_t value, at_error *err)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)value);
    return at_catalog_set_meta(c, key, text, err);
}

int at_catalog_note(at_catalog *c, const at_shard_writer *shards, at_error *err)
{
    int64_t shard;
    uint64_t bytes;
    at_shard_end(shards, &shard, &bytes);
    int code = at_catalog_set_number(c, "resume_shard", shard, err);
    return code < 0 ? code : at_catalog_set_number(c, "resume_bytes", (int64_t)bytes, err);
}

/* ---- adding ---- */

static int add_error(at_catalog *c, const at_item *item, at_error *err)
{
    at_stmt_bind(c->error, "sss", item->path.data, at_error_reasons[item->reason], item->detail);
    return at_stmt_step(c->error, err);
}

/* As in blobs(histogram); returns the number of bytes. */
static size_t pack_histogram(const at_item *item, uint8_t out[2 * 3 * AT_HISTOGRAM_BINS])
{
    size_t n = (size_t)item->seen.channels * AT_HISTOGRAM_BINS;
    for (size_t i = 0; i < n; i++) {
        uint16_t share = item->seen.stats.histogram[i / AT_HISTOGRAM_BINS][i % AT_HISTOGRAM_BINS];
        out[2 * i] = (uint8_t)(share & 0xFF);
        out[2 * i + 1] = (uint8_t)(share >> 8);
    }
    return 2 * n;
}

static int add_exif(at_catalog *c, const at_item *item, at_error *err)
{
    if (!item->exif.length)
        return 0;
    at_stmt_bind(c->exif, "ss", item->hash, item->exif.data);
    return at_stmt_step(c->exif, err);
}

/* A channel that is not there is NaN, which SQLite takes for NULL. */
static int add_row(at_catalog *c, const at_item *item, int64_t shard, uint64_t offset,
                   at_error *err)
{
    const at_pixel_stats *p = &item->seen.stats;
    double low[3], high[3], mean[3], deviation[3];
    for (int i = 0; i < 3; i++) {
        bool there = i < item->seen.channels;
        low[i] = there ? (double)p->minimum[i] : (double)NAN;
        high[i] = there ? (double)p->maximum[i] : (double)NAN;
        mean[i] = there ? p->mean[i] : (double)NAN;
        deviation[i] = there ? p->deviation[i] : (double)NAN;
    }
    uint8_t histogram[2 * 3 * AT_HISTOGRAM_BINS];
    at_stmt_bind(c->blob, "SiiiiSiiiiSrrrrrrrrrrrrrriBS", item->hash, shard, (int64_t)offset,
                 (int64_t)item->bytes.size, (int64_t)item->crc, at_format_text(item->seen.format),
                 (int64_t)item->seen.width, (int64_t)item->seen.height,
                 (int64_t)item->seen.channels, (int64_t)item->seen.stored.depth,
                 at_mode_text(item->seen.stored.mode), mean[0], mean[1], mean[2], deviation[0],
                 deviation[1], deviation[2], low[0], low[1], low[2], high[0], high[1], high[2],
                 p->sharpness, p->entropy, (int64_t)p->dhash, histogram,
                 pack_histogram(item, histogram), item->exif.length ? item->exif.data : NULL);
    return at_stmt_step(c->blob, err);
}

/* The content's id in blobs; stores it if it is new. Negative: error. */
static int64_t add_blob(at_catalog *c, at_shard_writer *shards, const at_item *item, at_error *err)
{
    at_key key = at_key_of_hash(item->hash);
    int64_t id = at_keys_get(c->contents, key);
    if (id >= 0)
        return id;
    int64_t shard;
    uint64_t offset;
    int code = at_shard_place(shards, item->bytes.size, &shard, &offset, err);
    if (code == 0)
        code =
            at_shard_append(shards, item->bytes.data, item->bytes.size, item->hash, item->crc, err);
    if (code == 0)
        code = add_row(c, item, shard, offset, err);
    if (code < 0)
        return code;
    id = at_db_last_id(c->db);
    code = add_exif(c, item, err);
    if (code < 0)
        return code;
    return at_keys_add(c->contents, key, id) ? id : at_nomem(err);
}

static int add_image(at_catalog *c, at_shard_writer *shards, const at_item *item, at_error *err)
{
    int64_t label;
    int code = label_of(c, item->class_name.data, &label, err);
    if (code < 0)
        return code;
    int64_t blob = add_blob(c, shards, item, err);
    if (blob < 0)
        return (int)blob;
    at_stmt_bind(c->image, "SSiSii", item->path.data, at_split_name(item->split), label, item->hash,
                 item->mtime, blob);
    code = at_stmt_step(c->image, err);
    if (code == 0 && item->coarse)
        code = at_coarse_add(c->db, &c->coarse, at_db_last_id(c->db), item, err);
    return code;
}

int at_catalog_add(at_catalog *c, at_shard_writer *shards, const at_item *item, at_error *err)
{
    at_key key = at_key_of_path(item->path.data);
    int64_t before = at_keys_get(c->paths, key);
    if (before >= 0 && (before > c->after || c->after == 0)) {
        at_log(AT_LOG_WARN, "%s comes twice: the first is kept", item->path.data);
        return 0;
    }
    int code = before >= 0 ? at_append_meet(c->db, item, before, err) : 1;
    if (code <= 0)
        return code;
    code = item->bad ? add_error(c, item, err) : add_image(c, shards, item, err);
    if (code == 0 && !at_keys_add(c->paths, key, item->bad ? 0 : at_db_last_id(c->db)))
        code = at_nomem(err);
    return code;
}

/* ---- resuming ---- */

static int load_records(at_catalog *c, int64_t shard, at_shard_record **records, size_t *count,
                        at_error *err)
{
    at_stmt *s = at_db_prepare(
        c->db, "SELECT hash, offset, bytes, crc32c FROM blobs WHERE shard = ? ORDER BY offset",
        err);
    if (!s)
        return AT_EIO;
    at_stmt_bind(s, "i", shard);
    size_t capacity = 0;
    int code;
    while ((code = at_stmt_step(s, err)) == 1) {
        if (*count == capacity) {
            capacity = capacity ? 2 * capacity : 1024;
            at_shard_record *more = realloc(*records, capacity * sizeof *more);
            if (!more) {
                code = at_nomem(err);
                break;
            }
            *records = more;
        }
        at_shard_record *r = &(*records)[(*count)++];
        snprintf(r->hash, sizeof r->hash, "%s", at_stmt_text(s, 0));
        r->offset = (uint64_t)at_stmt_int(s, 1);
        r->bytes = (uint64_t)at_stmt_int(s, 2);
        r->crc = (uint32_t)at_stmt_int(s, 3);
    }
    at_stmt_free(s);
    return code;
}

at_shard_writer *at_catalog_shards(at_catalog *c, const char *folder, uint64_t limit, at_error *err)
{
    int64_t shard = (int64_t)number_of(c, "resume_shard");
    uint64_t bytes = number_of(c, "resume_bytes");
    at_shard_record *records = NULL;
    size_t count = 0;
    if (load_records(c, shard, &records, &count, err) < 0) {
        free(records);
        return NULL;
    }
    return at_shard_writer_open(folder, limit, shard, bytes, records, count, err);
}
