/* SPDX-License-Identifier: Apache-2.0
 * Whether a data set is as its ingest left it.
 *
 * The catalog: SQLite's own check, every image with its content and class (and coarse class, where the
 * source has such), and the data set's hash,
 * which is of every image's path, split, label and content. The shards: each content against its
 * CRC-32C and its hash, by several threads, and all bytes around the contents. images.idx against
 * its CRC. What people derived (statistics, EXIF) is not made again. */
#include "rows.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 1024 }; /* contents at once in memory, as rows */

typedef struct content {
    int64_t id, shard, offset, bytes;
    uint32_t crc;
    char hash[65];
    const char *what; /* is wrong with it, or NULL */
} content;

typedef struct verification {
    const char *path;
    at_db *db;
    at_damage_fn fn;
    void *context;
    at_dataset_checked *checked;
    at_error first; /* damage */
    at_shard *shards;
    size_t shard_count;
    at_progress *progress;
    content *chunk;
} verification;

static void tell(verification *v, const char *file, int64_t offset, const char *image,
                 const char *what)
{
    char *path = at_path_join(v->path, file);
    char place[32] = "";
    if (offset >= 0)
        snprintf(place, sizeof place, " at %" PRId64, offset);
    at_damage d = {.file = file, .offset = offset, .image = image, .what = what};
    if (v->checked->damaged++ == 0)
        at_fail(&v->first, AT_EINPUT, "%s%s: %s%s%s", path ? path : file, place, image ? image : "",
                image ? ": " : "", what);
    if (v->fn)
        v->fn(v->context, &d);
    free(path);
}

/* ---- the catalog ---- */

/* Tells of each row of a query, which finds nothing in a whole catalog. */
static int tell_rows(verification *v, const char *sql, at_error *err)
{
    at_stmt *s = at_db_prepare(v->db, sql, err);
    int code = s ? 1 : err->code;
    while (code == 1 && (code = at_stmt_step(s, err)) == 1) {
        const char *image = at_stmt_word(s, 0), *what = at_stmt_word(s, 1);
        if (strcmp(what, "ok") != 0)
            tell(v, "catalog.db", -1, image, what);
    }
    at_stmt_free(s);
    return code;
}

static int check_identity(verification *v, at_error *err)
{
    char told[65] = "", now[65];
    at_stmt *s = at_db_prepare(v->db, "SELECT value FROM meta WHERE key = 'dataset_hash'", err);
    int code = s ? at_stmt_step(s, err) : err->code;
    if (code == 1)
        snprintf(told, sizeof told, "%s", at_stmt_kind(s, 0) ? at_stmt_text(s, 0) : "");
    at_stmt_free(s);
    if (code >= 0)
        code = at_catalog_hash(v->db, now, err);
    if (code == 0 && strcmp(told, now) != 0)
        tell(v, "catalog.db", -1, NULL,
             "its images are not those of the data set's hash: a path, split, label or content is "
             "another");
    return code < 0 ? code : 0;
}

static int tell_rows_of_all(verification *v, const char *const *queries, at_error *err)
{
    int code = 0;
    for (; *queries && code == 0; queries++)
        code = tell_rows(v, *queries, err);
    return code;
}

static int check_coarse(verification *v, at_error *err)
{
    static const char *const queries[] = {
        "SELECT i.path, 'its coarse label ' || l.label || ' is no coarse class' FROM coarse_labels "
        "l"
        " JOIN images i ON i.id = l.image LEFT JOIN coarse_classes c ON c.label = l.label"
        " WHERE c.label IS NULL",
        "SELECT NULL, 'coarse label ' || l.label || ' is of image ' || l.image || ', which is not"
        " there' FROM coarse_labels l LEFT JOIN images i ON i.id = l.image WHERE i.id IS NULL",
        NULL};
    int code = at_coarse_exists(v->db, err);
    return code == 1 ? tell_rows_of_all(v, queries, err) : code;
}

static int check_catalog(verification *v, at_error *err)
{
    static const char *const queries[] = {
        "SELECT NULL, CASE integrity_check WHEN 'ok' THEN 'ok' ELSE 'SQLite finds it damaged: '"
        " || replace(substr(integrity_check, 1, 200), char(10), '; ') END"
        " FROM pragma_integrity_check(1)",
        "SELECT i.path, 'its content is not in the catalog' FROM images i LEFT JOIN blobs b"
        " ON b.id = i.blob WHERE b.hash IS NOT i.hash",
        "SELECT i.path, 'its label ' || i.label || ' is no class' FROM images i LEFT JOIN classes c"
        " ON c.label = i.label WHERE c.label IS NULL",
        NULL};
    int code = tell_rows_of_all(v, queries, err);
    if (code == 0)
        code = check_coarse(v, err);
    return code < 0 ? code : check_identity(v, err);
}

/* ---- contents ---- */

static void check_content(void *context, size_t i)
{
    verification *v = context;
    content *c = &v->chunk[i];
    const at_shard *s =
        c->shard >= 0 && (size_t)c->shard < v->shard_count ? &v->shards[c->shard] : NULL;
    char hash[65];
    if (!s || !s->data) /* of a shard that cannot be read it is told once */
        return;
    if (c->offset < 0 || c->bytes < 0 || (uint64_t)c->offset > s->size ||
        (uint64_t)c->bytes > s->size - (uint64_t)c->offset)
        c->what = "its content lies beyond the shard's end";
    else if (at_crc32c(0, s->data + c->offset, (size_t)c->bytes) != c->crc)
        c->what = "its content is damaged (the CRC-32C is wrong)";
    else {
        at_content_hash(s->data + c->offset, (size_t)c->bytes, hash);
        c->what = strcmp(hash, c->hash) ? "its content is damaged (the hash is wrong)" : NULL;
    }
}

/* Names the first of the images that have this content. */
static int tell_content(verification *v, const content *c, at_error *err)
{
    char file[64], *image = NULL;
    at_stmt *s =
        at_db_prepare(v->db, "SELECT min(path), count(*) - 1 FROM images WHERE blob = ?", err);
    if (!s)
        return err->code;
    at_stmt_bind(s, "i", c->id);
    int code = at_stmt_step(s, err);
    if (code == 1 && at_stmt_text(s, 0))
        image = at_stmt_int(s, 1) > 0
                    ? at_format("%s (and %" PRId64 " more)", at_stmt_word(s, 0), at_stmt_int(s, 1))
                    : at_format("%s", at_stmt_word(s, 0));
    snprintf(file, sizeof file, "shards/%05" PRId64 ".atb", c->shard);
    tell(v, file, c->offset, image, c->what);
    free(image);
    at_stmt_free(s);
    return code < 0 ? code : 0;
}

static int check_chunk(verification *v, at_pool *pool, size_t n, at_error *err)
{
    at_pool_run(pool, n, check_content, v);
    int code = 0;
    for (size_t i = 0; i < n && code == 0; i++) {
        v->checked->contents++;
        v->checked->bytes += (uint64_t)v->chunk[i].bytes;
        if (v->chunk[i].what)
            code = tell_content(v, &v->chunk[i], err);
    }
    at_progress_update(v->progress, (double)v->checked->contents, NULL);
    return code == 0 && at_interrupted() ? at_fail(err, AT_EINTERRUPTED, "interrupted: %s", v->path)
                                         : code;
}

static int check_contents(verification *v, at_pool *pool, at_error *err)
{
    at_stmt *s = at_db_prepare(
        v->db, "SELECT id, shard, offset, bytes, crc32c, hash FROM blobs ORDER BY shard, offset",
        err);
    size_t n = 0;
    int code = s ? 1 : err->code;
    while (code == 1 && (code = at_stmt_step(s, err)) == 1) {
        content *c = &v->chunk[n++];
        *c = (content){.id = at_stmt_int(s, 0),
                       .shard = at_stmt_int(s, 1),
                       .offset = at_stmt_int(s, 2),
                       .bytes = at_stmt_int(s, 3),
                       .crc = (uint32_t)at_stmt_int(s, 4)};
        if (at_stmt_kind(s, 5) != AT_NULL)
            snprintf(c->hash, sizeof c->hash, "%s", at_stmt_word(s, 5));
        if (n == CHUNK) {
            int failed = check_chunk(v, pool, n, err);
            code = failed < 0 ? failed : 1;
            n = 0;
        }
    }
    at_stmt_free(s);
    return code == 0 && n ? check_chunk(v, pool, n, err) : code;
}

/* ---- shards ---- */

typedef struct telling {
    verification *v;
    const char *file;
} telling;

static void tell_shard(void *context, uint64_t offset, const char *what)
{
    const telling *t = context;
    tell(t->v, t->file, (int64_t)offset, NULL, what);
}

static int check_shard(verification *v, const char *folder, size_t number, at_error *err)
{
    char file[64];
    at_error why = {0};
    snprintf(file, sizeof file, "shards/%05zu.atb", number);
    int code = at_shard_map(folder, (int64_t)number, &v->shards[number], &why);
    if (code == AT_ENOMEM)
        return at_nomem(err);
    v->checked->shards++;
    if (code < 0) {
        at_shard_unmap(&v->shards[number]);
        tell(v, file, -1, NULL, why.message);
    } else {
        at_shard_check(&v->shards[number], tell_shard, &(telling){v, file});
    }
    return 0;
}

static int check_shards(verification *v, at_error *err)
{
    int64_t last = -1;
    char *folder = at_path_join(v->path, "shards");
    at_stmt *s = at_db_prepare(
        v->db, "SELECT max(shard), (SELECT count(*) FROM images), count(*) FROM blobs", err);
    int code = s && folder ? at_stmt_step(s, err) : AT_ENOMEM;
    double contents = 0;
    if (code == 1 && at_stmt_kind(s, 0) != AT_NULL)
        last = at_stmt_int(s, 0);
    if (code == 1) {
        v->checked->images = (uint64_t)at_stmt_int(s, 1);
        contents = (double)at_stmt_int(s, 2);
    }
    at_stmt_free(s);
    v->shard_count = last >= 0 && last < 1 << 24 ? (size_t)last + 1 : 0;
    v->shards = calloc(v->shard_count + 1, sizeof *v->shards);
    v->progress = at_progress_new("verify", contents, "contents");
    code = code < 0 ? code : v->shards ? 0 : at_nomem(err);
    for (size_t i = 0; i < v->shard_count && code == 0; i++)
        code = check_shard(v, folder, i, err);
    free(folder);
    return code;
}

/* ---- all of it ---- */

static int verify(verification *v, int threads, at_error *err)
{
    at_pool *pool = at_pool_new(threads, err);
    v->chunk = calloc(CHUNK, sizeof *v->chunk);
    int code = !pool ? err->code : v->chunk ? 0 : at_nomem(err);
    if (code == 0)
        code = check_catalog(v, err);
    if (code == 0)
        code = check_shards(v, err);
    if (code == 0)
        code = check_contents(v, pool, err);
    if (code == 0 && at_index_is_damaged(v->path))
        tell(v, "images.idx", -1, NULL,
             "it is damaged: remove it, the data set only opens slower without");
    at_progress_end(v->progress, code ? "stopped" : "done");
    for (size_t i = 0; i < v->shard_count && v->shards; i++)
        at_shard_unmap(&v->shards[i]);
    free(v->shards);
    free(v->chunk);
    at_pool_free(pool);
    return code;
}

int at_dataset_verify(const char *path, int threads, at_damage_fn fn, void *context,
                      at_dataset_checked *out, at_error *err)
{
    at_error local = {0};
    *out = (at_dataset_checked){0};
    verification v = {.path = path, .fn = fn, .context = context, .checked = out};
    at_dataset *head = at_dataset_open_head(path, &local); /* refuses what is no data set */
    at_dataset_close(head);
    char *catalog = at_path_join(path, "catalog.db");
    v.db = head && catalog ? at_db_open(catalog, AT_DB_READ, &local) : NULL;
    int code = v.db ? verify(&v, threads, &local) : local.code ? local.code : at_nomem(&local);
    at_db_close(v.db);
    free(catalog);
    bool ended = code != AT_EINTERRUPTED && code != AT_ENOMEM;
    if (out->damaged && ended) /* which may be why it could not be read on */
        return at_fail(err, AT_EINPUT, "%s", v.first.message);
    return code < 0 ? at_fail(err, code, "%s", local.message) : 0;
}
