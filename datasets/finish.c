/* SPDX-License-Identifier: Apache-2.0
 * The end of an ingest, in its last transaction: labels, checks, the validation split, the data set's
 * identity. Everything here depends on the catalog's rows alone, not on how many runs it took to
 * read them; so they are kept or loaded once, and most of it is done in memory. */
#include "rows.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- the validation split ---- */

/* Images of a class are ordered by a random number of their content: the choice depends on seed and
 * content alone, and the same picture under two paths is never on both sides. */
struct candidate {
    int64_t label, id;
    uint64_t content, key;
    size_t row;
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

/* The training images behind `after`. NULL: out of memory. */
static struct candidate *list_candidates(const at_rows *rows, int64_t after, uint64_t seed,
                                         size_t *count)
{
    struct candidate *list = malloc((rows->count ? rows->count : 1) * sizeof *list);
    *count = 0;
    for (size_t i = 0; list && i < rows->count; i++) {
        const at_row *row = &rows->items[i];
        if (row->split != AT_TRAIN || row->entry.id <= after)
            continue;
        struct candidate *k = &list[(*count)++];
        *k = (struct candidate){.label = row->entry.label, .id = row->entry.id, .row = i};
        for (int byte = 0; byte < 8; byte++)
            k->content = k->content << 8 | row->hash[byte];
        at_rng rng = at_rng_stream(seed, "val", k->content);
        k->key = at_rng_next(&rng);
    }
    return list;
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

static void choose_all(at_rows *rows, const struct candidate *k, size_t n, double fraction)
{
    for (size_t begin = 0, end; begin < n; begin = end) {
        for (end = begin; end < n && k[end].label == k[begin].label;)
            end++;
        size_t take = choose(k + begin, end - begin, fraction);
        for (size_t i = begin; i < begin + take; i++)
            rows->items[k[i].row].split = AT_VAL;
    }
}

/* In the order of the catalog: each page is changed once. */
static int move_to_val(at_db *db, const at_rows *rows, int64_t after, at_error *err)
{
    at_stmt *s = at_db_prepare(db, "UPDATE images SET split = 'val' WHERE id = ?", err);
    int code = s ? 0 : AT_EIO;
    for (size_t i = 0; code == 0 && i < rows->count; i++) {
        const at_row *row = &rows->items[i];
        if (row->split != AT_VAL || row->entry.id <= after)
            continue;
        at_stmt_bind(s, "i", row->entry.id);
        code = at_stmt_step(s, err);
    }
    at_stmt_free(s);
    return code;
}

static int split_val(at_catalog *c, at_rows *rows, const at_ingest_options *o, at_error *err)
{
    int64_t after = at_catalog_after(c);
    for (size_t i = 0; i < rows->count; i++)
        if (rows->items[i].split == AT_VAL && rows->items[i].entry.id > after)
            return at_fail(err, AT_EINPUT,
                           "%s has a validation split of its own: leave val-fraction away",
                           o->source);
    size_t n;
    struct candidate *k = list_candidates(rows, after, o->seed, &n);
    if (!k)
        return at_nomem(err);
    qsort(k, n, sizeof *k, by_key);
    choose_all(rows, k, n, o->val_fraction);
    free(k);
    return move_to_val(at_catalog_db(c), rows, after, err);
}

/* ---- identity and shape ---- */

/* The commonest size, the larger of equals. */
static int commonest_size(at_db *db, at_rows *rows, at_error *err)
{
    at_stmt *s = at_db_prepare(db,
                               "SELECT height, width FROM images JOIN blobs"
                               " ON blobs.id = images.blob GROUP BY 1, 2"
                               " ORDER BY count(*) DESC, 1 DESC, 2 DESC LIMIT 1",
                               err);
    int code = s ? at_stmt_step(s, err) : err->code;
    if (code == 1) {
        rows->height = at_stmt_int(s, 0);
        rows->width = at_stmt_int(s, 1);
    }
    at_stmt_free(s);
    return code < 0 ? code : 0;
}

/* 3 channels if any image has them. */
static int set_shape(at_catalog *c, at_rows *rows, at_error *err)
{
    int code = rows->height ? 0 : commonest_size(at_catalog_db(c), rows, err);
    if (code == 0)
        code = at_catalog_set_number(c, "height", rows->height, err);
    if (code == 0)
        code = at_catalog_set_number(c, "width", rows->width, err);
    return code < 0 ? code : at_catalog_set_number(c, "channels", rows->channels, err);
}

struct identification {
    at_rows *rows;
    int code;
    at_error err;
};

static void *identify(void *context)
{
    struct identification *k = context;
    at_rows_sort(k->rows);
    k->code = at_rows_identify(k->rows, &k->err);
    return NULL;
}

/* Indexes are made only now: sorting once is far cheaper than keeping them while rows come in. What
 * the rows in memory tell is reckoned meanwhile. */
static int index_and_identify(at_catalog *c, at_rows *rows, at_error *err)
{
    struct identification k = {.rows = rows};
    pthread_t thread;
    bool beside = pthread_create(&thread, NULL, identify, &k) == 0;
    if (!beside)
        identify(&k);
    int code = at_catalog_add_indexes(at_catalog_db(c), err);
    if (beside)
        pthread_join(thread, NULL);
    if (code == 0 && k.code < 0)
        code = at_fail(err, k.code, "%s", k.err.message);
    return code < 0 ? code : at_catalog_set_meta(c, "dataset_hash", rows->dataset_hash, err);
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

static int refuse_empty(at_db *db, const at_ingest_options *o, at_error *err)
{
    int code;
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

/* Of an append, images may follow their copies, so that the rows are read once more. */
static int settle_splits(at_catalog *c, const at_ingest_options *o, at_rows *rows, at_error *err)
{
    int code = o->val_fraction > 0 ? split_val(c, rows, o, err) : 0;
    if (code < 0 || !at_catalog_after(c))
        return code;
    code = at_append_keep_copies_together(c, o, err);
    return code < 0 ? code : at_rows_load(rows, at_catalog_db(c), o->out, err);
}

static int finish(at_catalog *c, const at_ingest_options *o, const at_source *source, at_rows *rows,
                  at_error *err)
{
    at_db *db = at_catalog_db(c);
    bool relabelled;
    int code = at_labels_assign(c, source, &relabelled, err);
    if (code == 0)
        code = at_coarse_name(db, source, err);
    if (code == 0 && (relabelled || !at_catalog_take_rows(c, rows)))
        code = at_rows_load(rows, db, o->out, err);
    if (code == 0 && rows->count == 0)
        code = refuse_empty(db, o, err);
    if (code == 0 && !o->labels)
        at_labels_hint(rows);
    if (code == 0 && !o->allow_missing_classes)
        code = at_labels_check(c, rows, err);
    if (code == 0)
        code = settle_splits(c, o, rows, err);
    if (code == 0)
        code = index_and_identify(c, rows, err);
    if (code == 0)
        code = set_shape(c, rows, err);
    return code < 0 ? code : set_facts(c, o, err);
}

/* The disk writes the shards while this reckons. */
int at_finish_catalog(at_catalog *c, const at_ingest_options *o, const at_source *source,
                      at_shard_writer *shards, at_rows *rows, at_error *err)
{
    at_db *db = at_catalog_db(c);
    int code = at_db_exec(db, "SAVEPOINT added", err);
    if (code == 0)
        code = finish(c, o, source, rows, err);
    int synced = at_shard_sync(shards, code == 0 ? err : NULL);
    if (code == 0)
        return synced < 0 ? synced : at_db_exec(db, "COMMIT", err);
    if (synced == 0)
        at_db_exec(db, "ROLLBACK TO added; COMMIT", NULL);
    return code;
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
