/* SPDX-License-Identifier: Apache-2.0
 * Reading a data set: where every image lies is known once, in path order, by a mapped index or else
 * by the catalog's rows; the bytes stay in the mapped shards. After opening nothing changes, so any number of threads may read. */
#include "rows.h"

#include <stdlib.h>
#include <string.h>

enum { OLDEST_FORMAT = 1 };

struct at_dataset {
    char *path, *shards_folder;
    char hash[65];
    int height, width, channels;
    at_decode_limits limits;
    char **classes;
    size_t class_count;
    at_index index;
    at_shard *shards;
    size_t shard_count;
};

static const char *const split_names[AT_SPLITS] = {"train", "val", "test"};

const char *at_split_name(at_split split)
{
    return split_names[split];
}

int at_split_parse(const char *name, at_split *out, at_error *err)
{
    for (int i = 0; i < AT_SPLITS; i++)
        if (!strcmp(split_names[i], name)) {
            *out = (at_split)i;
            return 0;
        }
    return at_fail(err, AT_EINPUT, "\"%s\" is no split: train, val or test", name);
}

/* ---- loading ---- */

static int set_meta(at_dataset *d, const char *key, const char *value, at_error *err)
{
    if (!strcmp(key, "dataset_hash"))
        snprintf(d->hash, sizeof d->hash, "%s", value);
    else if (!strcmp(key, "height"))
        d->height = atoi(value);
    else if (!strcmp(key, "width"))
        d->width = atoi(value);
    else if (!strcmp(key, "channels"))
        d->channels = atoi(value);
    else if (!strcmp(key, "format") &&
             (atoi(value) < OLDEST_FORMAT || atoi(value) > AT_CATALOG_FORMAT))
        return at_fail(err, AT_EINPUT, "%s: its format is %s, this program reads %d to %d", d->path,
                       value, OLDEST_FORMAT, AT_CATALOG_FORMAT);
    at_limit_read(&d->limits, key, value);
    return 0;
}

static int load_meta(at_dataset *d, at_db *db, at_error *err)
{
    at_stmt *s = at_db_prepare(db, "SELECT key, value FROM meta", err);
    int code = s ? 1 : err->code;
    d->limits = at_limits_before();
    while (code == 1 && (code = at_stmt_step(s, err)) == 1) {
        int failed = set_meta(d, at_stmt_word(s, 0), at_stmt_word(s, 1), err);
        code = failed < 0 ? failed : 1;
    }
    at_stmt_free(s);
    if (code == 0 && (strlen(d->hash) != 64 || d->height < 1 || d->width < 1 || d->channels < 1))
        return at_fail(err, AT_EINPUT, "%s: catalog.db is not that of a complete data set",
                       d->path);
    return code;
}

static int load_classes(at_dataset *d, at_db *db, at_error *err)
{
    at_stmt *s = at_db_prepare(db, "SELECT label, name FROM classes ORDER BY label", err);
    int code = s ? 1 : err->code;
    while (code == 1 && (code = at_stmt_step(s, err)) == 1) {
        char **classes = realloc(d->classes, (d->class_count + 1) * sizeof *classes);
        if (classes)
            d->classes = classes;
        char *name = classes ? strdup(at_stmt_word(s, 1)) : NULL;
        if (!name)
            code = at_nomem(err);
        else
            d->classes[d->class_count++] = name;
        if (code == 1 && at_stmt_int(s, 0) != (int64_t)d->class_count - 1)
            code =
                at_fail(err, AT_EINPUT, "%s: the labels of classes are not 0, 1, 2, ...", d->path);
    }
    at_stmt_free(s);
    return code;
}

static int load_images(at_dataset *d, at_db *db, at_error *err)
{
    if (at_index_map(d->path, d->hash, &d->index))
        return 0;
    at_rows rows = {0};
    int code = at_rows_load(&rows, db, d->path, err);
    at_rows_sort(&rows);
    if (code == 0)
        code = at_rows_to_index(&rows, &d->index, err);
    at_rows_fini(&rows);
    return code;
}

static const char *path_of(const at_dataset *d, const at_entry *e)
{
    return d->index.names + e->path;
}

static int refuse_entry(const at_dataset *d, const at_entry *e, at_error *err)
{
    if (d->index.map)
        return at_fail(err, AT_EINPUT, "%s/images.idx is damaged: remove it", d->path);
    return at_fail(err, AT_EINPUT, "%s: image %s: its %s is out of range", d->path, path_of(d, e),
                   (size_t)e->label >= d->class_count ? "label" : "shard");
}

/* How many shards the entries name, each of which has an image at least; what lies beyond, or
 * beyond the classes or the names, was not written by us. */
static int count_shards(at_dataset *d, at_error *err)
{
    size_t images = 0;
    for (int split = 0; split < AT_SPLITS; split++)
        images += d->index.counts[split];
    for (int split = 0; split < AT_SPLITS; split++)
        for (size_t i = 0; i < d->index.counts[split]; i++) {
            const at_entry *e = &d->index.entries[split][i];
            if (e->label < 0 || (size_t)e->label >= d->class_count || e->shard < 0 ||
                (size_t)e->shard >= images || e->path >= d->index.names_bytes)
                return refuse_entry(d, e, err);
            if ((size_t)e->shard >= d->shard_count)
                d->shard_count = (size_t)e->shard + 1;
        }
    return 0;
}

static int map_shards(at_dataset *d, at_error *err)
{
    int counted = count_shards(d, err);
    if (counted < 0)
        return counted;
    d->shards = calloc(d->shard_count ? d->shard_count : 1, sizeof *d->shards);
    if (!d->shards)
        return at_nomem(err);
    for (size_t i = 0; i < d->shard_count; i++) {
        int code = at_shard_map(d->shards_folder, (int64_t)i, &d->shards[i], err);
        if (code < 0)
            return code;
    }
    for (int split = 0; split < AT_SPLITS; split++)
        for (size_t i = 0; i < d->index.counts[split]; i++) {
            const at_entry *e = &d->index.entries[split][i];
            const at_shard *shard = &d->shards[e->shard];
            if (e->offset > shard->size || e->bytes > shard->size - e->offset)
                return at_fail(err, AT_EINPUT, "%s: %s lies beyond its end: the shard is cut off",
                               shard->path, path_of(d, e));
        }
    return 0;
}

static int load(at_dataset *d, bool images, at_error *err)
{
    char *catalog = at_path_join(d->path, "catalog.db");
    if (!catalog)
        return at_nomem(err);
    at_db *db = at_file_exists(catalog) ? at_db_open(catalog, AT_DB_READ, err) : NULL;
    if (!db && !at_file_exists(catalog))
        at_fail(err, AT_ENOENT,
                "%s is no data set (it has no catalog.db): atoll ingest makes one of images",
                d->path);
    free(catalog);
    if (!db)
        return err->code;
    int code = at_db_exec(db, "PRAGMA cache_size = -131072; PRAGMA mmap_size = 1073741824", err);
    if (code == 0)
        code = load_meta(d, db, err);
    if (code == 0)
        code = load_classes(d, db, err);
    if (code == 0 && images)
        code = load_images(d, db, err);
    at_db_close(db);
    return code < 0 ? code : map_shards(d, err);
}

static at_dataset *open_dataset(const char *path, bool images, at_error *err)
{
    at_error local = {0};
    err = err ? err : &local;
    at_dataset *d = calloc(1, sizeof *d);
    if (!d || !(d->path = strdup(path)) || !(d->shards_folder = at_path_join(path, "shards"))) {
        at_nomem(err);
        goto fail_open;
    }
    if (load(d, images, err) == 0)
        return d;
fail_open:
    at_dataset_close(d);
    return NULL;
}

at_dataset *at_dataset_open(const char *path, at_error *err)
{
    return open_dataset(path, true, err);
}

at_dataset *at_dataset_open_head(const char *path, at_error *err)
{
    return open_dataset(path, false, err);
}

void at_dataset_close(at_dataset *d)
{
    if (!d)
        return;
    for (size_t i = 0; d->shards && i < d->shard_count; i++)
        at_shard_unmap(&d->shards[i]);
    free(d->shards);
    at_index_fini(&d->index);
    for (size_t i = 0; i < d->class_count; i++)
        free(d->classes[i]);
    free(d->classes);
    free(d->shards_folder);
    free(d->path);
    free(d);
}

/* ---- reading ---- */

const char *at_dataset_hash(const at_dataset *d)
{
    return d->hash;
}

size_t at_dataset_count(const at_dataset *d, at_split split)
{
    return d->index.counts[split];
}

size_t at_dataset_classes(const at_dataset *d)
{
    return d->class_count;
}

const char *at_dataset_class_name(const at_dataset *d, size_t label)
{
    return label < d->class_count ? d->classes[label] : NULL;
}

void at_dataset_shape(const at_dataset *d, int *height, int *width, int *channels)
{
    *height = d->height;
    *width = d->width;
    *channels = d->channels;
}

const at_decode_limits *at_dataset_limits(const at_dataset *d)
{
    return &d->limits;
}

int at_dataset_sample(const at_dataset *d, at_split split, size_t i, at_sample *out, at_error *err)
{
    if (i >= d->index.counts[split])
        return at_fail(err, AT_EINPUT, "%s: there is no image %zu in split %s", d->path, i,
                       split_names[split]);
    const at_entry *e = &d->index.entries[split][i];
    const at_shard *shard = &d->shards[e->shard];
    const uint8_t *bytes = shard->data + e->offset;
    if (at_crc32c(0, bytes, e->bytes) != e->crc)
        return at_fail(err, AT_EINPUT, "%s: offset %llu: %s is damaged (its CRC is wrong)",
                       shard->path, (unsigned long long)e->offset, path_of(d, e));
    *out = (at_sample){.bytes = bytes, .size = e->bytes, .label = e->label, .image_id = e->id};
    return 0;
}

bool at_dataset_place(const at_dataset *d, at_split split, size_t i, int64_t *shard,
                      uint64_t *offset, int32_t *label)
{
    if (i >= d->index.counts[split])
        return false;
    const at_entry *e = &d->index.entries[split][i];
    *shard = e->shard;
    *offset = e->offset;
    *label = e->label;
    return true;
}

const char *at_dataset_sample_path(const at_dataset *d, at_split split, size_t i)
{
    return i < d->index.counts[split] ? path_of(d, &d->index.entries[split][i]) : NULL;
}

size_t at_dataset_sample_bytes(const at_dataset *d, at_split split, size_t i)
{
    return i < d->index.counts[split] ? d->index.entries[split][i].bytes : 0;
}
