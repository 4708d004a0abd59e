/* SPDX-License-Identifier: Apache-2.0
 * A cache that is open: three mapped files and meta.json, all checked against each other. After
 * opening, everything is read only, apart from the bits that tell which batches were checked and
 * from batches that are mended, so that any number of threads may read, each with its reader.
 */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { META_LIMIT = 64 << 20 };

/* ---- opening ------------------------------------------------------------------------------- */

/* The three files are of one data set, shape and meta.json. */
static int check_agreement(const at_cache *c, at_error *err)
{
    const at_cache_header *train = &c->file[AT_TRAIN].header;
    for (int split = 0; split < AT_SPLITS; split++) {
        const at_cache_header *h = &c->file[split].header;
        bool same = h->height == train->height && h->width == train->width &&
                    h->channels == train->channels && h->classes == train->classes &&
                    h->fit == train->fit && h->form == train->form &&
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
    struct stat st;
    if (!path)
        return at_nomem(err);
    bool pipe = stat(path, &st) == 0 && S_ISFIFO(st.st_mode); /* nobody may ever write to it */
    int rc = pipe ? at_fail(err, AT_EINPUT, "%s is not a file", path)
                  : at_file_read(path, META_LIMIT, &text, &bytes, err);
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
    pthread_mutex_init(&c->mending, NULL);
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
    free(c->source);
    free(c->path);
    pthread_mutex_destroy(&c->mending);
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

at_frame at_cache_frame(const at_cache *c)
{
    return at_cache_header_frame(&c->file[AT_TRAIN].header);
}

at_form at_cache_form(const at_cache *c)
{
    return (at_form)c->file[AT_TRAIN].header.form;
}

int at_cache_loader_threads(const at_cache *c, int threads)
{
    return at_cache_form(c) == AT_FORM_ENCODED && threads > 1 ? threads : 1;
}

const int32_t *at_cache_labels(const at_cache *c, at_split split)
{
    return c->file[split].labels;
}

const char *at_form_name(at_form form)
{
    static const char *const names[AT_FORMS] = {
#define X(name, text) text,
        AT_FORM_WORDS(X)
#undef X
    };
    return names[form];
}

int at_form_parse(const char *name, at_form *out, at_error *err)
{
    int form = at_choice_parse(AT_FORM_CHOICES, "form", name, err);
    if (form < 0)
        return form;
    *out = (at_form)form;
    return 0;
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

/* When the header was written, the last thing of a build. */
static void describe_age(const at_cache *c, at_node *n)
{
    struct stat st;
    struct tm tm;
    char text[32];
    if (fstat(c->file[AT_TRAIN].fd, &st) == 0 && gmtime_r(&st.st_mtime, &tm) &&
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm))
        at_set_string(n, "written", text);
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
    at_set_string(n, "fit", at_fit_name((at_fit)h->fit));
    at_set_int(n, "batch_samples", h->batch_samples);
    at_set_int(n, "batches", (int64_t)batches);
    at_set_int(n, "bytes", (int64_t)bytes);
    at_set_bool(n, "damaged", at_cache_is_marked(c->path));
    describe_age(c, n);
    return n;
}

/* ---- what people ask for -------------------------------------------------------------------- */

static int read_size(const char *text, at_frame *out, at_error *err)
{
    int end = 0;
    if (!strcmp(text, "auto"))
        return 0;
    if (sscanf(text, "%5dx%5d%n", &out->height, &out->width, &end) != 2 || text[end] ||
        out->height < 1 || out->width < 1)
        return at_fail(err, AT_EINPUT,
                       "size: expected HEIGHTxWIDTH such as 32x32, or auto; got \"%s\"", text);
    if (out->height > AT_CACHE_MAX_SIDE || out->width > AT_CACHE_MAX_SIDE)
        return at_fail(err, AT_EINPUT, "size: %s is over %d", text, AT_CACHE_MAX_SIDE);
    return 0;
}

int at_cache_spec_read(const at_cache_keys *keys, at_cache_spec *out, at_error *err)
{
    out->frame = (at_frame){.channels = (int)keys->channels};
    out->form = AT_FORM_UINT8;
    int rc = read_size(keys->size, &out->frame, err);
    if (!rc && keys->channels == 2)
        rc = at_fail(err, AT_EINPUT, "channels: 1 for grey or 3 for RGB; got 2");
    if (!rc && strcmp(keys->fit, "auto"))
        rc = at_fit_parse(keys->fit, &out->frame.fit, err);
    if (!rc && strcmp(keys->form, "auto"))
        rc = at_form_parse(keys->form, &out->form, err);
    return rc;
}

/* ---- damage that could not be mended: the next opening that may make the cache makes it again  */

static const char mark_name[] = "damaged";

void at_cache_mark(const char *path, bool damaged)
{
    char *mark = at_path_join(path, mark_name);
    if (mark && damaged && !at_file_exists(mark))
        at_file_write(mark, "", 0, NULL);
    if (mark && !damaged)
        unlink(mark);
    free(mark);
}

bool at_cache_is_marked(const char *path)
{
    char *mark = at_path_join(path, mark_name);
    bool marked = mark && at_file_exists(mark);
    free(mark);
    return marked;
}
