/* SPDX-License-Identifier: Apache-2.0
 * catalog.db while an ingest writes it.
 *
 * A row of images is a file of the source, a row of blobs a content: the same picture under two
 * paths is stored once. A commit first syncs the shard, then commits the rows together with the
 * shard's length: whatever the catalog counts is on disk, and what a killed ingest wrote beyond is cut
 * off by the next. No page keeps bytes of rows that are gone (secure_delete): the file's bytes depend
 * on what was put in, not on how often that was stopped. Until the end images(label) counts classes in
 * the order of their appearance (labels.c renumbers). */
#include "rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Of more images the rows are loaded at the end: keys and pages take enough memory till then. */
enum { KEPT_ROWS = 1 << 18 };

struct class_row {
    char *name;
    int64_t label;
};

struct at_catalog {
    at_db *db;
    at_stmt *image, *blob, *place, *exif, *error, *class_row;
    at_stmt *coarse;           /* NULL: no image of this ingest has had such a label */
    at_keys *contents, *paths; /* hash to id of blobs; path to id of images (errors: 0) */
    int64_t after;             /* images of before an append */
    at_frames *frames;         /* or NULL */
    bool keeps_rows;           /* of all images, in .rows */
    at_rows rows;
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
    c->place = at_db_prepare(c->db, "SELECT shard, offset FROM blobs WHERE id = ?", err);
    c->exif = at_db_prepare(c->db, "INSERT INTO exif SELECT ?, key, value FROM json_each(?)", err);
    c->error = at_db_prepare(c->db, "INSERT INTO errors VALUES(?,?,?)", err);
    c->class_row = at_db_prepare(c->db, "INSERT INTO classes(label, name) VALUES(?,?)", err);
    return c->image && c->blob && c->place && c->exif && c->error && c->class_row;
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
    if (code == 0)
        code = load_keys(c->db, all_paths, false, c->paths, &count, err);
    c->keeps_rows = count == 0;
    return code;
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

uint64_t at_catalog_number(at_catalog *c, const char *key)
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
        at_db_exec(c->db, "PRAGMA cache_size = -4096; PRAGMA secure_delete = ON; BEGIN", err) < 0 ||
        at_catalog_add_tables(c->db, err) < 0 || at_catalog_add_views(c->db, err) < 0 ||
        !prepare(c, err) || load_classes(c, err) < 0 || load_seen(c, err) < 0)
        goto fail_open;
    c->after = (int64_t)at_catalog_number(c, "append_after");
    free(path);
    return c;
fail_open:
    free(path);
    at_catalog_close(c);
    return NULL;
}

static void forget_rows(at_catalog *c)
{
    c->keeps_rows = false;
    at_rows_fini(&c->rows);
}

void at_catalog_close(at_catalog *c)
{
    if (!c)
        return;
    at_stmt_free(c->image);
    at_stmt_free(c->blob);
    at_stmt_free(c->place);
    at_stmt_free(c->exif);
    at_stmt_free(c->error);
    at_stmt_free(c->class_row);
    at_stmt_free(c->coarse);
    at_db_close(c->db);
    at_catalog_forget_seen(c);
    forget_rows(c);
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

bool at_catalog_take_rows(at_catalog *c, at_rows *rows)
{
    if (!c->keeps_rows)
        return false;
    at_rows_fini(rows);
    *rows = c->rows;
    c->rows = (at_rows){0};
    c->keeps_rows = false;
    return true;
}

at_db *at_catalog_db(at_catalog *c)
{
    return c->db;
}

void at_catalog_keep_frames(at_catalog *c, at_frames *frames)
{
    c->frames = frames;
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

/* A content's row of blobs. */
struct blob {
    int64_t id, shard;
    uint64_t offset;
};

static int store(at_catalog *c, at_shard_writer *shards, const at_item *item, struct blob *out,
                 at_error *err)
{
    int code = at_shard_place(shards, item->bytes.size, &out->shard, &out->offset, err);
    if (code == 0)
        code =
            at_shard_append(shards, item->bytes.data, item->bytes.size, item->hash, item->crc, err);
    if (code == 0)
        code = add_row(c, item, out->shard, out->offset, err);
    if (code == 0 && c->frames)
        at_frames_add(c->frames, item, out->shard, out->offset);
    out->id = at_db_last_id(c->db);
    return code < 0 ? code : add_exif(c, item, err);
}

static int find_place(at_catalog *c, struct blob *out, at_error *err)
{
    at_stmt_bind(c->place, "i", out->id);
    int code = at_stmt_step(c->place, err);
    if (code == 1) {
        out->shard = at_stmt_int(c->place, 0);
        out->offset = (uint64_t)at_stmt_int(c->place, 1);
    }
    at_stmt_reset(c->place);
    return code < 0 ? code : 0;
}

/* Stores the content if it is new. The place of one that was there is told where rows are kept. */
static int add_blob(at_catalog *c, at_shard_writer *shards, const at_item *item, struct blob *out,
                    at_error *err)
{
    at_key key = item->content_key;
    out->id = at_keys_get(c->contents, key);
    if (out->id >= 0)
        return c->keeps_rows ? find_place(c, out, err) : 0;
    int code = store(c, shards, item, out, err);
    return code < 0 || at_keys_add(c->contents, key, out->id) ? code : at_nomem(err);
}

/* Of the image that was added last. */
static int keep_row(at_catalog *c, const at_item *item, int64_t label, const struct blob *blob,
                    at_error *err)
{
    at_row row = {.entry = {.id = at_db_last_id(c->db),
                            .offset = blob->offset,
                            .bytes = (uint32_t)item->bytes.size,
                            .crc = item->crc,
                            .label = (int32_t)label,
                            .shard = (int32_t)blob->shard},
                  .split = item->split};
    at_digest_of_hex(item->hash, row.hash);
    if (c->rows.count == KEPT_ROWS || item->bytes.size > UINT32_MAX)
        forget_rows(c);
    return c->keeps_rows ? at_rows_add(&c->rows, &row, item->path.data, item->seen.height,
                                       item->seen.width, item->seen.channels, err)
                         : 0;
}

static int add_image(at_catalog *c, at_shard_writer *shards, const at_item *item, at_error *err)
{
    int64_t label;
    int code = label_of(c, item->class_name.data, &label, err);
    if (code < 0)
        return code;
    struct blob blob;
    code = add_blob(c, shards, item, &blob, err);
    if (code < 0)
        return code;
    at_stmt_bind(c->image, "SSiSii", item->path.data, at_split_name(item->split), label, item->hash,
                 item->mtime, blob.id);
    code = at_stmt_step(c->image, err);
    if (code == 0)
        code = keep_row(c, item, label, &blob, err);
    if (code == 0 && item->coarse)
        code = at_coarse_add(c->db, &c->coarse, at_db_last_id(c->db), item, err);
    return code;
}

void at_catalog_expect(const at_catalog *c, const at_item *item)
{
    at_keys_expect(c->paths, item->path_key);
    if (!item->bad)
        at_keys_expect(c->contents, item->content_key);
}

int at_catalog_add(at_catalog *c, at_shard_writer *shards, const at_item *item, at_error *err)
{
    at_key key = item->path_key;
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
