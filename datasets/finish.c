/* SPDX-License-Identifier: Apache-2.0
 * The end of an ingest, one transaction: labels, checks, the validation split, the data set's
 * identity. Everything here depends on the catalog's rows alone, not on how many runs it took to
 * read them. */
#include "internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the validation split ---- */

/* Images of a class are ordered by a random number of their content: the choice depends on seed and
 * content alone, and the same picture under two paths is never on both sides. */
struct candidate {
    int64_t label, id;
    uint64_t content, key;
};

static int by_key(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->label != y->label)
        return x->label < y->label ? -1 : 1;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    if (x->content != y->content)
        return x->content < y->content ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int load_candidates(at_db *db, int64_t after, uint64_t seed, struct candidate **out,
                           size_t *count, at_error *err)
{
    at_stmt *s = at_db_prepare(
        db, "SELECT label, id, hash FROM images WHERE split = 'train' AND id > ?", err);
    int code = s ? 1 : AT_EIO;
    size_t capacity = 0;
    if (s)
        at_stmt_bind(s, "i", after);
    while (code == 1 && (code = at_stmt_step(s, err)) == 1) {
        if (*count == capacity) {
            capacity = capacity ? 2 * capacity : 4096;
            struct candidate *more = realloc(*out, capacity * sizeof *more);
            if (!more) {
                code = at_nomem(err);
                break;
            }
            *out = more;
        }
        char prefix[17];
        snprintf(prefix, sizeof prefix, "%s", at_stmt_text(s, 2));
        struct candidate *k = &(*out)[(*count)++];
        *k =
            (struct candidate){at_stmt_int(s, 0), at_stmt_int(s, 1), strtoull(prefix, NULL, 16), 0};
        at_rng rng = at_rng_stream(seed, "val", k->content);
        k->key = at_rng_next(&rng);
    }
    at_stmt_free(s);
    return code;
}

/* How many of a class's n images: rounded, but one at least and never all; then equal contents
 * together. */
static size_t choose(const struct candidate *k, size_t n, double fraction)
{
    size_t take = (size_t)llround((double)n * fraction);
    take = take < 1 ? 1 : take;
    while (take < n && k[take].content == k[take - 1].content)
        take++;
    if (take < n)
        return take;
    for (take = n - 1; take > 0 && k[take].content == k[take - 1].content;)
        take--;
    return take;
}

static int move_to_val(at_db *db, const struct candidate *k, size_t n, double fraction,
                       at_error *err)
{
    at_stmt *s = at_db_prepare(db, "UPDATE images SET split = 'val' WHERE id = ?", err);
    int code = s ? 0 : AT_EIO;
    for (size_t begin = 0, end; code == 0 && begin < n; begin = end) {
        for (end = begin; end < n && k[end].label == k[begin].label;)
            end++;
        size_t take = choose(k + begin, end - begin, fraction);
        for (size_t i = begin; code == 0 && i < begin + take; i++) {
            at_stmt_bind(s, "i", k[i].id);
            code = at_stmt_step(s, err);
        }
    }
    at_stmt_free(s);
    return code;
}

static int count_rows(at_db *db, const char *sql, int64_t after, int64_t *count, at_error *err)
{
    at_stmt *s = at_db_prepare(db, sql, err);
    if (s)
        at_stmt_bind(s, "i", after);
    int code = s ? at_stmt_step(s, err) : AT_EIO;
    if (code == 1)
        *count = at_stmt_int(s, 0);
    at_stmt_free(s);
    return code < 0 ? code : 0;
}

static int split_val(at_db *db, int64_t after, const at_ingest_options *o, at_error *err)
{
    int64_t there = 0;
    int code = count_rows(db, "SELECT count(*) FROM images WHERE split = 'val' AND id > ?", after,
                          &there, err);
    if (code < 0)
        return code;
    if (there > 0)
        return at_fail(err, AT_EINPUT,
                       "%s has a validation split of its own: leave val-fraction away", o->source);
    struct candidate *k = NULL;
    size_t n = 0;
    code = load_candidates(db, after, o->seed, &k, &n, err);
    if (code == 0 && n) {
        qsort(k, n, sizeof *k, by_key);
        code = move_to_val(db, k, n, o->val_fraction, err);
    }
    free(k);
    return code;
}

/* ---- identity and shape ---- */

static int hash_images(at_db *db, at_sha256 *h, at_error *err)
{
    at_stmt *s =
        at_db_prepare(db, "SELECT path, split, label, hash FROM images ORDER BY path", err);
    int code = s ? 1 : AT_EIO;
    while (code == 1 && (code = at_stmt_step(s, err)) == 1)
        for (int i = 0; i < 4; i++) {
            const char *text = at_stmt_kind(s, i) == AT_NULL ? "" : at_stmt_text(s, i);
            at_sha256_add(h, text, strlen(text) + 1);
        }
    at_stmt_free(s);
    return code;
}

int at_catalog_hash(at_db *db, char hex[65], at_error *err)
{
    at_sha256 *h = at_sha256_new();
    if (!h)
        return at_nomem(err);
    int code = hash_images(db, h, err);
    at_sha256_end(h, hex);
    return code;
}

static int set_hash(at_catalog *c, at_error *err)
{
    char hex[65];
    int code = at_catalog_hash(at_catalog_db(c), hex, err);
    return code < 0 ? code : at_catalog_set_meta(c, "dataset_hash", hex, err);
}

/* Where all have one size, as small ones often do, images need not be counted. */
static const char usual_size[] =
    "CREATE TEMP TABLE IF NOT EXISTS usual(height, width, channels); DELETE FROM usual;"
    "INSERT INTO usual SELECT height, width, channels FROM ("
    " SELECT min(height) AS height, min(width) AS width, max(channels) AS channels,"
    "  max(height) AS highest, max(width) AS widest FROM blobs)"
    " WHERE height = highest AND width = widest;"
    "INSERT INTO usual SELECT height, width, (SELECT max(channels) FROM blobs)"
    " FROM images JOIN blobs ON blobs.id = images.blob WHERE NOT EXISTS(SELECT 1 FROM usual)"
    " GROUP BY 1, 2 ORDER BY count(*) DESC, 1 DESC, 2 DESC LIMIT 1;"
    "INSERT OR REPLACE INTO meta SELECT 'height', height FROM usual;"
    "INSERT OR REPLACE INTO meta SELECT 'width', width FROM usual;"
    "INSERT OR REPLACE INTO meta SELECT 'channels', channels FROM usual";

/* The commonest size (the larger of equals), 3 channels if any image has them. */
static int set_shape(at_db *db, at_error *err)
{
    return at_db_exec(db, usual_size, err);
}

/* Only now: sorting once is far cheaper than keeping an index while rows come in. */
static int make_indexes(at_db *db, at_error *err)
{
    return at_db_exec(db,
                      "CREATE UNIQUE INDEX IF NOT EXISTS images_path ON images(path);"
                      "CREATE UNIQUE INDEX IF NOT EXISTS blobs_hash ON blobs(hash)",
                      err);
}

/* What the data set was first made with stays, whatever is appended. */
static int set_origin(at_catalog *c, const at_ingest_options *o, at_error *err)
{
    char fraction[32], seed[24];
    snprintf(fraction, sizeof fraction, "%.9g", o->val_fraction);
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)o->seed);
    int code = at_catalog_set_meta(c, "val_fraction", fraction, err);
    return code < 0 ? code : at_catalog_set_meta(c, "seed", seed, err);
}

/* Where rows lie in the file tells how often they were changed, in how many runs: those of meta are
 * laid anew. */
static int settle_meta(at_db *db, at_error *err)
{
    return at_db_exec(db,
                      "CREATE TEMP TABLE facts AS SELECT * FROM meta;"
                      "DELETE FROM meta;"
                      "INSERT INTO meta SELECT * FROM facts ORDER BY key;"
                      "DROP TABLE facts",
                      err);
}

static int set_facts(at_catalog *c, const at_ingest_options *o, at_error *err)
{
    int code = at_catalog_set_meta(c, "format", AT_STRING_OF(AT_CATALOG_FORMAT), err);
    if (code == 0)
        code = at_catalog_set_meta(c, "atoll", ATOLL_VERSION, err);
    if (code == 0)
        code = at_catalog_after(c) ? at_append_record(c, o, err) : set_origin(c, o, err);
    if (code == 0)
        code = at_db_exec(at_catalog_db(c), "DELETE FROM meta WHERE key LIKE 'resume%'", err);
    if (code == 0)
        code = at_catalog_set_meta(c, "complete", "1", err);
    return code < 0 ? code : settle_meta(at_catalog_db(c), err);
}

/* ---- all of it ---- */

static int expect_images(at_db *db, const at_ingest_options *o, at_error *err)
{
    int64_t images = 0;
    int code = count_rows(db, "SELECT count(*) FROM images WHERE id > ?", 0, &images, err);
    if (code < 0 || images > 0)
        return code;
    at_stmt *s = at_db_prepare(db, "SELECT count(*), min(path), reason, detail FROM errors", err);
    if (s && at_stmt_step(s, err) == 1 && at_stmt_int(s, 0) > 0)
        code = at_fail(err, AT_EINPUT, "%s: no image among its %lld files (e.g. %s: %s, %s)",
                       o->source, (long long)at_stmt_int(s, 0), at_stmt_text(s, 1),
                       at_stmt_text(s, 2), at_stmt_text(s, 3));
    else
        code = at_fail(err, AT_EINPUT, "%s: no image in it", o->source);
    at_stmt_free(s);
    return code;
}

int at_finish_catalog(at_catalog *c, const at_ingest_options *o, const at_source *source,
                      at_error *err)
{
    at_db *db = at_catalog_db(c);
    int code = expect_images(db, o, err);
    if (code == 0)
        code = make_indexes(db, err);
    if (code == 0)
        code = at_labels_assign(c, source, err);
    if (code == 0)
        code = at_coarse_name(db, source, err);
    if (code == 0 && !o->allow_missing_classes)
        code = at_labels_check(c, err);
    if (code == 0 && o->val_fraction > 0)
        code = split_val(db, at_catalog_after(c), o, err);
    if (code == 0 && at_catalog_after(c))
        code = at_append_keep_copies_together(c, o, err);
    if (code == 0)
        code = at_catalog_add_indexes(db, err);
    if (code == 0)
        code = set_shape(db, err);
    if (code == 0)
        code = set_hash(c, err);
    if (code == 0)
        code = set_facts(c, o, err);
    return code < 0 ? code : at_db_exec(db, "COMMIT", err);
}

/* 1 or 0; one that the data set does not tell is taken for the same. */
static int same_limits(at_db *db, at_decode_limits limits, at_error *err)
{
    at_stmt *s = at_db_prepare(db, "SELECT value = ?2 FROM meta WHERE key = ?1", err);
    int code = s ? 0 : err->code;
    bool same = true;
    for (int i = 0; s && at_limit_keys[i] && code >= 0; i++) {
        char text[AT_LIMIT_TEXT];
        at_limit_text(&limits, i, text);
        at_stmt_reset(s);
        at_stmt_bind(s, "ss", at_limit_keys[i], text);
        code = at_stmt_step(s, err);
        same = same && (code != 1 || at_stmt_int(s, 0));
    }
    at_stmt_free(s);
    return code < 0 ? code : same;
}

int at_finish_matches(at_db *db, const at_ingest_options *o, at_error *err)
{
    char *path = realpath(o->source, NULL);
    at_label_file *labels = o->labels ? at_label_file_read(o->labels, o->source, err) : NULL;
    if (o->labels && !labels) {
        free(path);
        return err->code;
    }
    at_stmt *s =
        at_db_prepare(db,
                      "SELECT (SELECT value FROM meta WHERE key = 'source') = ?1"
                      " AND ifnull((SELECT value FROM meta WHERE key = 'labels'), '') = ?2"
                      " AND (SELECT value FROM meta WHERE key = 'seed') = CAST(?3 AS TEXT)"
                      " AND abs((SELECT value FROM meta WHERE key = 'val_fraction') - ?4) < 1e-8",
                      err);
    int code = s ? 0 : err->code;
    if (s) {
        at_stmt_bind(s, "ssir", path, labels ? at_label_file_hash(labels) : "", (int64_t)o->seed,
                     o->val_fraction);
        code = at_stmt_step(s, err);
    }
    if (code == 1)
        code = at_stmt_int(s, 0) ? same_limits(db, at_limits_resolved(o->limits), err) : 0;
    at_stmt_free(s);
    at_label_file_free(labels);
    free(path);
    return code;
}
