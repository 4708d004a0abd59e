/* SPDX-License-Identifier: Apache-2.0
 * atoll bench catalog: how long a data set of N images takes to be opened and asked.
 *
 * Unless one is given, the data set is made first, in $TMPDIR, by an ingest of idx files of N pictures of 4 x 4 random
 * pixels in 256 classes: what counts here is the number of images, not their size. */
#include "timing.h"

#include <atoll/datasets.h>

#include <stdlib.h>
#include <string.h>

enum { PIXELS = 16, CLASSES = 256, QUERIES = 200, OPENINGS = 5 };

struct place {
    char folder[BENCH_FOLDER];
    char *source, *dataset;
};

/* ---- the data set ---- */

static void put_big_endian(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (24 - 8 * i));
}

/* An idx file of n records of `bytes` bytes behind these numbers. */
static int write_idx(const char *folder, const char *name, const uint32_t *numbers, size_t count,
                     size_t n, size_t bytes, bool labels, at_error *err)
{
    size_t head = 4 * count;
    uint8_t *data = malloc(head + n * bytes);
    char *path = at_path_join(folder, name);
    at_rng rng = at_rng_stream(1, name, 0);
    int code = data && path ? 0 : at_nomem(err);
    for (size_t i = 0; code == 0 && i < count; i++)
        put_big_endian(data + 4 * i, numbers[i]);
    for (size_t i = 0; code == 0 && i < n * bytes; i++)
        data[head + i] = (uint8_t)(labels ? i % CLASSES : at_rng_next(&rng));
    if (code == 0)
        code = at_file_write(path, data, head + n * bytes, err);
    free(path);
    free(data);
    return code;
}

static int make_dataset(struct place *p, size_t images, at_ingest_result *made, at_error *err)
{
    int code = bench_make_folder(p->folder, err);
    if (code < 0)
        return code;
    p->source = at_path_join(p->folder, "source");
    p->dataset = at_path_join(p->folder, "dataset");
    if (!p->source || !p->dataset)
        return at_nomem(err);
    uint32_t n = (uint32_t)images;
    code = at_make_dirs(p->source, err);
    if (code == 0)
        code = write_idx(p->source, "train-images-idx3-ubyte", (uint32_t[]){0x803, n, 4, 4}, 4,
                         images, PIXELS, false, err);
    if (code == 0)
        code = write_idx(p->source, "train-labels-idx1-ubyte", (uint32_t[]){0x801, n}, 2, images, 1,
                         true, err);
    return code < 0
               ? code
               : at_ingest(&(at_ingest_options){.source = p->source, .out = p->dataset}, made, err);
}

/* ---- questions ---- */

static double open_seconds(const char *dataset, at_error *err)
{
    double best = -1;
    for (int i = 0; i < OPENINGS; i++) {
        double start = at_now();
        at_dataset *d = at_dataset_open(dataset, err);
        double seconds = at_now() - start;
        if (!d)
            return -1;
        at_dataset_close(d);
        best = best < 0 || seconds < best ? seconds : best;
    }
    return best;
}

/* Mean seconds of the query, prepared anew each time, all of its rows read; negative: it failed. */
static double query_seconds(at_db *db, const char *sql, const char *keys, at_error *err)
{
    at_stmt *key = at_db_prepare(db, keys, err);
    double seconds = 0;
    int code = key ? 0 : AT_EFAIL;
    for (int64_t i = 0; i < QUERIES && code == 0; i++) {
        at_stmt_bind(key, "i", i);
        code = at_stmt_step(key, err);
        if (code != 1)
            break;
        double start = at_now();
        at_stmt *s = at_db_prepare(db, sql, err);
        code = s ? 1 : AT_EFAIL;
        if (s)
            at_stmt_bind(s, "s", at_stmt_text(key, 0));
        while (code == 1)
            code = at_stmt_step(s, err);
        at_stmt_free(s);
        seconds += at_now() - start;
        at_stmt_reset(key);
    }
    at_stmt_free(key);
    return code < 0 ? -1 : seconds / QUERIES;
}

static const struct {
    const char *name, *sql, *keys;
} questions[] = {
    {"label_count_seconds", "SELECT count(*) FROM images WHERE label = ?",
     "SELECT ? % (SELECT count(*) FROM classes)"},
    {"label_rows_seconds", "SELECT path, hash FROM images WHERE label = ? LIMIT 1000",
     "SELECT ? % (SELECT count(*) FROM classes)"},
    {"hash_seconds", "SELECT path, split, label FROM images WHERE hash = ?",
     "SELECT hash FROM images WHERE id = 1 + ? * 4999 % (SELECT max(id) FROM images)"},
    {"content_seconds", "SELECT * FROM blobs WHERE hash = ?",
     "SELECT hash FROM images WHERE id = 1 + ? * 4999 % (SELECT max(id) FROM images)"},
};

static int ask(const char *dataset, at_node *result, at_error *err)
{
    char *catalog = at_path_join(dataset, "catalog.db");
    at_db *db = catalog ? at_db_open(catalog, AT_DB_READ, err) : NULL;
    double seconds = db ? 0 : -1;
    for (size_t i = 0; i < sizeof questions / sizeof *questions && seconds >= 0; i++) {
        seconds = query_seconds(db, questions[i].sql, questions[i].keys, err);
        at_set_real(result, questions[i].name, seconds);
    }
    at_db_close(db);
    free(catalog);
    return seconds < 0 ? AT_EFAIL : 0;
}

static int64_t images_of(const char *dataset)
{
    at_dataset *d = at_dataset_open(dataset, NULL);
    size_t images = 0;
    for (int split = 0; d && split < AT_SPLITS; split++)
        images += at_dataset_count(d, (at_split)split);
    at_dataset_close(d);
    return (int64_t)images;
}

at_node *at_bench_catalog(const char *dataset, size_t images, at_error *err)
{
    struct place p = {0};
    at_ingest_result made = {0};
    at_node *result = NULL;
    int code = dataset ? 0 : make_dataset(&p, images, &made, err);
    dataset = dataset ? dataset : p.dataset;
    double opening = code < 0 ? -1 : open_seconds(dataset, err);
    if (opening >= 0 && (result = at_node_new(AT_MAP))) {
        at_set_int(result, "images", images_of(dataset));
        at_set_real(result, "seconds", opening);
        code = ask(dataset, result, err);
        if (made.seconds > 0)
            at_set_real(result, "ingest_images_per_second", (double)images / made.seconds);
        at_set_int(result, "peak_rss_bytes", (int64_t)at_peak_rss());
    }
    if (code < 0) {
        at_node_free(result);
        result = NULL;
    }
    bench_remove_folder(p.folder);
    free(p.source);
    free(p.dataset);
    return result;
}
