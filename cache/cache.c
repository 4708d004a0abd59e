/* SPDX-License-Identifier: Apache-2.0
 * A cache that is open: three mapped files and meta.json, all checked against each other. After
 * opening, everything is read only, apart from the bits that tell which batches were checked, so
 * that any number of threads may take samples.
 */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { META_LIMIT = 64 << 20 };

struct at_cache {
    char *path;
    at_cache_file file[AT_SPLITS];
    at_node *meta;
    const char **class_names; /* in meta */
    float mean[AT_CACHE_MAX_CHANNELS], deviation[AT_CACHE_MAX_CHANNELS];
};

/* ---- opening ------------------------------------------------------------------------------- */

/* The three files are of one data set, shape and meta.json. */
static int check_agreement(const at_cache *c, at_error *err)
{
    const at_cache_header *train = &c->file[AT_TRAIN].header;
    for (int split = 0; split < AT_SPLITS; split++) {
        const at_cache_header *h = &c->file[split].header;
        bool same = h->height == train->height && h->width == train->width &&
                    h->channels == train->channels && h->classes == train->classes &&
                    h->meta_crc == train->meta_crc &&
                    memcmp(h->dataset_hash, train->dataset_hash, sizeof h->dataset_hash) == 0;
        if (!same)
            return at_fail(err, AT_EINPUT, "%s and %s are not of one cache", c->file[split].path,
                           c->file[AT_TRAIN].path);
    }
    return 0;
}

static int check_dataset(const at_cache *c, const char *wanted, at_error *err)
{
    const char *made_from = c->file[AT_TRAIN].header.dataset_hash;
    size_t size = sizeof c->file[AT_TRAIN].header.dataset_hash;
    if (wanted && strncmp(made_from, wanted, size) != 0)
        return at_fail(err, AT_EINPUT,
                       "%s was made from another data set: its hash is %.16s..., not %.16s...",
                       c->path, made_from, wanted);
    return 0;
}

static int read_class_names(at_cache *c, at_error *err)
{
    const at_node *names = at_node_get(c->meta, "classes");
    size_t n = c->file[AT_TRAIN].header.classes;
    c->class_names = calloc(n + 1, sizeof *c->class_names);
    if (!c->class_names)
        return at_nomem(err);
    for (size_t i = 0; i < n; i++) {
        c->class_names[i] = at_node_string(at_node_at(names, i), NULL);
        if (!c->class_names[i] || at_node_count(names) != n)
            return at_fail(err, AT_EINPUT, "%s/meta.json: classes: %zu names expected", c->path, n);
    }
    return 0;
}

static int read_statistics(at_cache *c, at_error *err)
{
    const at_node *means = at_node_get(c->meta, "mean");
    const at_node *deviations = at_node_get(c->meta, "deviation");
    for (size_t i = 0; i < c->file[AT_TRAIN].header.channels; i++) {
        c->mean[i] = (float)at_node_real(at_node_at(means, i), -1);
        c->deviation[i] = (float)at_node_real(at_node_at(deviations, i), -1);
        if (!(c->mean[i] >= 0 && c->mean[i] <= 1 && c->deviation[i] > 0 && c->deviation[i] <= 1))
            return at_fail(err, AT_EINPUT,
                           "%s/meta.json: mean and deviation: %u numbers in 0..1 "
                           "expected",
                           c->path, c->file[AT_TRAIN].header.channels);
    }
    return 0;
}

static int read_meta(at_cache *c, at_error *err)
{
    char *text = NULL, *path = at_path_join(c->path, "meta.json");
    size_t bytes;
    if (!path)
        return at_nomem(err);
    int rc = at_file_read(path, META_LIMIT, &text, &bytes, err);
    if (rc == AT_ENOENT)
        rc = at_fail(err, AT_EINPUT, "%s is not a whole cache: it has no meta.json", c->path);
    if (!rc && at_crc32c(0, text, bytes) != c->file[AT_TRAIN].header.meta_crc)
        rc = at_fail(err, AT_EINPUT, "%s is damaged: wrong CRC32C", path);
    if (!rc) {
        c->meta = at_json_parse(text, bytes, path, err);
        rc = c->meta ? 0 : AT_EINPUT;
    }
    free(text);
    free(path);
    if (!rc)
        rc = read_class_names(c, err);
    return rc ? rc : read_statistics(c, err);
}

/* Missing is only the folder; a file that is missing in it is a broken cache. */
static int open_files(at_cache *c, at_error *err)
{
    for (int split = 0; split < AT_SPLITS; split++) {
        int rc = at_cache_file_open(&c->file[split], c->path, (at_split)split, err);
        if (rc == AT_ENOENT && at_dir_exists(c->path))
            rc = at_fail(err, AT_EINPUT, "%s is not a whole cache: %s", c->path, err->message);
        if (rc)
            return rc;
    }
    return 0;
}

at_cache *at_cache_open_folder(const char *path, const char *dataset_hash, at_error *err)
{
    at_cache *c = calloc(1, sizeof *c);
    if (!c) {
        at_nomem(err);
        return NULL;
    }
    c->path = strdup(path);
    if (!c->path) {
        at_nomem(err);
        goto fail;
    }
    if (!at_dir_exists(path)) {
        bool there = at_file_exists(path);
        at_fail(err, there ? AT_EINPUT : AT_ENOENT,
                there ? "%s is no cache, but a file" : "there is no cache %s", path);
        goto fail;
    }
    if (open_files(c, err) || check_agreement(c, err) || check_dataset(c, dataset_hash, err) ||
        read_meta(c, err))
        goto fail;
    at_cache_touch(path);
    return c;
fail:
    at_cache_close(c);
    return NULL;
}

void at_cache_close(at_cache *c)
{
    if (!c)
        return;
    for (int split = 0; split < AT_SPLITS; split++)
        at_cache_file_close(&c->file[split]);
    at_node_free(c->meta);
    free(c->class_names);
    free(c->path);
    free(c);
}

at_cache *at_cache_open_at(const char *path, const char *dataset_hash, at_error *err)
{
    at_error local;
    return at_cache_open_folder(path, dataset_hash, err ? err : &local);
}

/* ---- what it says -------------------------------------------------------------------------- */

const char *at_cache_path(const at_cache *c)
{
    return c->path;
}

void at_cache_shape(const at_cache *c, int *height, int *width, int *channels)
{
    const at_cache_header *h = &c->file[AT_TRAIN].header;
    *height = (int)h->height;
    *width = (int)h->width;
    *channels = (int)h->channels;
}

bool at_cache_has_shape(const at_cache *c, int height, int width, int channels)
{
    int h, w, k;
    at_cache_shape(c, &h, &w, &k);
    return h == height && w == width && k == channels;
}

size_t at_cache_count(const at_cache *c, at_split split)
{
    return c->file[split].header.samples;
}

size_t at_cache_classes(const at_cache *c)
{
    return c->file[AT_TRAIN].header.classes;
}

const char *at_cache_class_name(const at_cache *c, size_t label)
{
    return label < at_cache_classes(c) ? c->class_names[label] : NULL;
}

void at_cache_statistics(const at_cache *c, float *mean, float *deviation)
{
    size_t bytes = c->file[AT_TRAIN].header.channels * sizeof *mean;
    memcpy(mean, c->mean, bytes);
    memcpy(deviation, c->deviation, bytes);
}

void at_cache_dataset(const at_cache *c, char hash[65])
{
    const at_cache_header *h = &c->file[AT_TRAIN].header;
    snprintf(hash, 65, "%.*s", (int)sizeof h->dataset_hash, h->dataset_hash);
}

at_node *at_cache_describe(const at_cache *c)
{
    at_node *n = at_node_copy(c->meta);
    const at_cache_header *h = &c->file[AT_TRAIN].header;
    uint64_t bytes = 0, batches = 0;
    for (int split = 0; split < AT_SPLITS; split++) {
        bytes += c->file[split].header.file_bytes;
        batches += c->file[split].header.batches;
    }
    at_set_string(n, "path", c->path);
    at_set_int(n, "height", h->height);
    at_set_int(n, "width", h->width);
    at_set_int(n, "channels", h->channels);
    at_set_int(n, "batch_samples", h->batch_samples);
    at_set_int(n, "batches", (int64_t)batches);
    at_set_int(n, "bytes", (int64_t)bytes);
    return n;
}

/* ---- damage: found on use, repaired by the next opening that may make the cache ------------ */

static const char mark_name[] = "damaged";

void at_cache_mark(const char *path)
{
    char *mark = at_path_join(path, mark_name);
    if (mark && !at_file_exists(mark))
        at_file_write(mark, "", 0, NULL);
    free(mark);
}

bool at_cache_is_marked(const char *path)
{
    char *mark = at_path_join(path, mark_name);
    bool marked = mark && at_file_exists(mark);
    free(mark);
    return marked;
}

/* ---- samples ------------------------------------------------------------------------------- */

int at_cache_sample(at_cache *c, at_split split, size_t i, const uint8_t **pixels, int32_t *label,
                    at_error *err)
{
    at_cache_file *f = &c->file[split];
    const at_cache_header *h = &f->header;
    if (i >= h->samples)
        return at_fail(err, AT_EUSAGE, "%s: sample %zu of %llu", f->path, i,
                       (unsigned long long)h->samples);
    size_t batch = i / h->batch_samples, place = i % h->batch_samples;
    int rc = at_cache_file_check(f, batch, err);
    if (rc) {
        at_cache_mark(c->path);
        return rc;
    }
    const uint8_t *at = f->map + h->data_offset + batch * h->batch_bytes;
    *pixels = at + place * f->sample_bytes;
    memcpy(label, at + f->labels_offset + place * sizeof *label, sizeof *label);
    return 0;
}

int at_cache_labels(at_cache *c, at_split split, int32_t *labels, at_error *err)
{
    at_cache_file *f = &c->file[split];
    const at_cache_header *h = &f->header;
    for (size_t batch = 0, i = 0; i < h->samples; batch++) {
        size_t left = h->samples - i, n = left < h->batch_samples ? left : h->batch_samples;
        const uint8_t *at = f->map + h->data_offset + batch * h->batch_bytes + f->labels_offset;
        memcpy(labels + i, at, n * sizeof *labels);
        for (size_t end = i + n; i < end; i++)
            if (labels[i] < 0 || (uint32_t)labels[i] >= h->classes) {
                at_cache_mark(c->path);
                return at_cache_file_check(f, batch, err);
            }
    }
    return 0;
}

int at_cache_verify(const char *path, uint64_t *batches, uint64_t *bad_batches, at_error *err)
{
    at_error first = {0}, each = {0};
    *batches = *bad_batches = 0;
    at_cache *c = at_cache_open_folder(path, NULL, &first);
    if (!c)
        return at_fail(err, first.code, "%s", first.message);
    for (int split = 0; split < AT_SPLITS; split++)
        for (size_t b = 0; b < c->file[split].header.batches && !at_interrupted(); b++) {
            ++*batches;
            if (at_cache_file_check(&c->file[split], b, &each) && !(*bad_batches)++)
                first = each;
        }
    at_cache_close(c);
    if (*bad_batches)
        at_cache_mark(path);
    if (first.code)
        return at_fail(err, first.code, "%s", first.message);
    return at_interrupted() ? at_fail(err, AT_EINTERRUPTED, "interrupted: %s", path) : 0;
}
