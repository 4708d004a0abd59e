/* SPDX-License-Identifier: Apache-2.0
 * Fills a cache: decodes every picture of a data set, fits it to the cache's size and writes it.
 *
 * A batch is one task of the pool: decoded into a buffer of its own, summed for its CRC and written
 * at its place, so that memory is one batch a thread. Sums of pixels and of their squares are
 * integers and add in any order to the same statistics. meta.json and then the headers come last.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

typedef struct sums {
    uint64_t pixels; /* of a channel */
    uint64_t value[AT_CACHE_MAX_CHANNELS], square[AT_CACHE_MAX_CHANNELS];
} sums;

typedef struct output {
    char *path;
    int fd;
    uint32_t *crcs; /* a batch; each task writes its own */
} output;

typedef struct filling {
    const at_cache_plan *plan;
    at_split split; /* at work */
    output output[AT_SPLITS];
    atomic_bool stop;

    pthread_mutex_t mutex; /* guards what follows */
    at_progress *progress;
    double done; /* samples of all splits */
    sums train;
    at_error err; /* the first */
} filling;

/* ---- a batch ------------------------------------------------------------------------------- */

static int fit_sample(const filling *f, at_decoder *decoder, size_t i, uint8_t *pixels,
                      int32_t *label, at_error *err)
{
    const at_cache_plan *p = f->plan;
    at_sample sample;
    at_image view;
    int rc = at_dataset_sample(p->dataset, f->split, i, &sample, err);
    if (rc)
        return rc;
    *label = sample.label;
    rc = at_decoder_decode(decoder, sample.bytes, sample.size, at_dataset_limits(p->dataset), &view,
                           NULL, err);
    if (!rc)
        rc = at_image_fit(&view, p->height, p->width, p->channels, pixels, err);
    return rc ? at_fail_in(err, "%s", at_dataset_sample_path(p->dataset, f->split, i)) : 0;
}

static void add_pixels(sums *s, const uint8_t *pixels, size_t n, size_t channels)
{
    s->pixels += n;
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < channels; c++) {
            uint64_t v = pixels[i * channels + c];
            s->value[c] += v;
            s->square[c] += v * v;
        }
}

static void add_sums(sums *to, const sums *from)
{
    to->pixels += from->pixels;
    for (size_t c = 0; c < AT_CACHE_MAX_CHANNELS; c++) {
        to->value[c] += from->value[c];
        to->square[c] += from->square[c];
    }
}

/* Decodes the n samples of batch b into `batch`; stops early when another task has failed. */
static int fit_batch(const filling *f, size_t b, size_t n, uint8_t *batch, at_error *err)
{
    const at_cache_header *h = &f->plan->header[f->split];
    size_t sample_bytes = at_cache_sample_bytes(h);
    int32_t *labels = (void *)(batch + at_cache_labels_offset(h));
    at_decoder *decoder = at_decoder_new();
    if (!decoder)
        return at_nomem(err);
    at_decoder_reduce(decoder, (at_reduction){f->plan->height, f->plan->width, 0});
    int rc = 0;
    for (size_t i = 0; i < n && !rc && !atomic_load(&f->stop); i++) {
        if (at_interrupted())
            rc = at_fail(err, AT_EINTERRUPTED, "interrupted while filling %s",
                         f->output[f->split].path);
        else
            rc = fit_sample(f, decoder, b * h->batch_samples + i, batch + i * sample_bytes,
                            &labels[i], err);
    }
    at_decoder_free(decoder);
    return rc;
}

static void note_batch(filling *f, size_t n, const sums *mine)
{
    pthread_mutex_lock(&f->mutex);
    add_sums(&f->train, mine);
    f->done += (double)n;
    at_progress_update(f->progress, f->done, at_split_name(f->split));
    pthread_mutex_unlock(&f->mutex);
}

static int fill_batch(filling *f, size_t b, at_error *err)
{
    const at_cache_header *h = &f->plan->header[f->split];
    const output *to = &f->output[f->split];
    size_t left = h->samples - b * h->batch_samples;
    size_t n = left < h->batch_samples ? left : h->batch_samples;
    uint8_t *batch = at_alloc_aligned(h->batch_bytes);
    if (!batch)
        return at_nomem(err);
    sums mine = {0};
    int rc = fit_batch(f, b, n, batch, err);
    if (!rc) {
        to->crcs[b] = at_crc32c(0, batch, h->batch_bytes);
        rc = at_cache_write(to->fd, to->path, batch, h->batch_bytes,
                            h->data_offset + b * h->batch_bytes, err);
    }
    if (f->split == AT_TRAIN && !rc)
        add_pixels(&mine, batch, n * (size_t)h->height * h->width, h->channels);
    at_free_aligned(batch);
    note_batch(f, n, &mine);
    return rc;
}

static void fill_task(void *context, size_t b)
{
    filling *f = context;
    at_error err = {0};
    if (atomic_load(&f->stop) || fill_batch(f, b, &err) == 0)
        return;
    pthread_mutex_lock(&f->mutex);
    if (!f->err.code)
        f->err = err;
    atomic_store(&f->stop, true);
    pthread_mutex_unlock(&f->mutex);
}

/* ---- meta.json ----------------------------------------------------------------------------- */

/* A deviation is at least a grey level, so that one may divide by it. */
static void add_statistics(at_node *meta, const sums *s, size_t channels)
{
    at_node *means = at_node_set(meta, "mean", at_node_new(AT_LIST));
    at_node *deviations = at_node_set(meta, "deviation", at_node_new(AT_LIST));
    for (size_t c = 0; c < channels; c++) {
        double n = s->pixels ? (double)s->pixels : 1;
        double mean = (double)s->value[c] / n;
        double variance = (double)s->square[c] / n - mean * mean;
        double deviation = sqrt(variance > 1 ? variance : 1);
        at_node_add(means, at_node_new_real(mean / 255));
        at_node_add(deviations, at_node_new_real(deviation / 255));
    }
}

static char *meta_text(const at_cache_plan *p, const sums *train)
{
    char now[32];
    at_wall_iso(now);
    at_node *meta = at_node_new(AT_MAP);
    at_set_string(meta, "format", "atoll batch cache");
    at_set_int(meta, "version", AT_CACHE_VERSION);
    at_set_string(meta, "dataset_hash", at_dataset_hash(p->dataset));
    at_node *transform = at_node_set(meta, "transform", at_node_new(AT_MAP));
    at_set_string(transform, "kind", "fit");
    at_set_int(transform, "height", p->height);
    at_set_int(transform, "width", p->width);
    at_set_int(transform, "channels", p->channels);
    at_node *samples = at_node_set(meta, "samples", at_node_new(AT_MAP));
    for (int split = 0; split < AT_SPLITS; split++)
        at_set_int(samples, at_split_name((at_split)split), (int64_t)p->header[split].samples);
    at_node *classes = at_node_set(meta, "classes", at_node_new(AT_LIST));
    for (size_t i = 0; i < at_dataset_classes(p->dataset); i++)
        at_node_add(classes, at_node_new_string(at_dataset_class_name(p->dataset, i)));
    add_statistics(meta, train, (size_t)p->channels);
    at_set_string(meta, "created", now);
    at_set_string(meta, "atoll", ATOLL_VERSION);
    char *text = at_json_print(meta, true);
    at_node_free(meta);
    return text;
}

static int write_meta(const filling *f, const char *folder, uint32_t *crc, at_error *err)
{
    int rc = AT_ENOMEM;
    char *text = meta_text(f->plan, &f->train);
    char *path = at_path_join(folder, "meta.json");
    if (text && path) {
        *crc = at_crc32c(0, text, strlen(text));
        rc = at_file_write(path, text, strlen(text), err);
    } else {
        at_nomem(err);
    }
    free(path);
    free(text);
    return rc;
}

/* ---- a folder ------------------------------------------------------------------------------ */

int at_cache_plan_init(at_cache_plan *p, const at_dataset *dataset, const at_cache_spec *spec,
                       at_error *err)
{
    const char *hash = at_dataset_hash(dataset);
    int height, width, channels;
    at_dataset_shape(dataset, &height, &width, &channels);
    if (spec->height < 0 || spec->width < 0 || spec->channels < 0)
        return at_fail(err, AT_EUSAGE, "a cache of %dx%dx%d", spec->height, spec->width,
                       spec->channels);
    *p = (at_cache_plan){
        .dataset = dataset,
        .height = spec->height ? spec->height : height,
        .width = spec->width ? spec->width : width,
        .channels = spec->channels ? spec->channels : channels,
        .threads = spec->threads,
    };
    for (int split = 0; split < AT_SPLITS; split++) {
        at_cache_header *h = &p->header[split];
        h->split = (uint32_t)split;
        h->height = (uint32_t)p->height;
        h->width = (uint32_t)p->width;
        h->channels = (uint32_t)p->channels;
        h->classes = (uint32_t)at_dataset_classes(dataset);
        h->samples = at_dataset_count(dataset, (at_split)split);
        memcpy(h->dataset_hash, hash, strnlen(hash, sizeof h->dataset_hash));
        int rc = at_cache_header_layout(h, at_split_name((at_split)split), err);
        if (rc)
            return rc;
        p->bytes += h->file_bytes;
    }
    return 0;
}

static int check_space(const at_cache_plan *p, const char *path, at_error *err)
{
    struct statvfs fs;
    if (statvfs(path, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < p->bytes)
        return at_fail(err, AT_EIO, "%s: the cache needs %llu MiB, but %llu MiB are free", path,
                       (unsigned long long)(p->bytes >> 20),
                       (unsigned long long)((uint64_t)fs.f_bavail * fs.f_frsize >> 20));
    return 0;
}

static int open_outputs(filling *f, const char *folder)
{
    for (int split = 0; split < AT_SPLITS; split++) {
        output *to = &f->output[split];
        to->path = at_format("%s/%s.atc", folder, at_split_name((at_split)split));
        to->crcs = calloc(f->plan->header[split].batches + 1, sizeof *to->crcs);
        if (!to->path || !to->crcs)
            return at_nomem(&f->err);
        to->fd = open(to->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (to->fd < 0)
            return at_fail_errno(&f->err, errno, "cannot make %s", to->path);
    }
    return 0;
}

static void close_outputs(filling *f)
{
    for (int split = 0; split < AT_SPLITS; split++) {
        if (f->output[split].fd >= 0)
            close(f->output[split].fd);
        free(f->output[split].crcs);
        free(f->output[split].path);
    }
}

static int fill_splits(filling *f)
{
    double total = 0;
    for (int split = 0; split < AT_SPLITS; split++)
        total += (double)f->plan->header[split].samples;
    at_pool *pool = at_pool_new(f->plan->threads, &f->err);
    if (!pool)
        return f->err.code;
    f->progress = at_progress_new("cache", total, "images");
    for (int split = 0; split < AT_SPLITS; split++) {
        f->split = (at_split)split;
        at_pool_run(pool, f->plan->header[split].batches, fill_task, f);
    }
    at_progress_end(f->progress, f->err.code ? "stopped" : "done");
    at_pool_free(pool);
    return f->err.code;
}

/* meta.json, then the headers, which need its CRC. */
static int finish(filling *f, at_cache_plan *p, const char *folder)
{
    uint32_t meta_crc;
    int rc = write_meta(f, folder, &meta_crc, &f->err);
    for (int split = 0; split < AT_SPLITS && !rc; split++) {
        const output *to = &f->output[split];
        p->header[split].meta_crc = meta_crc;
        rc = at_cache_file_finish(to->fd, to->path, &p->header[split], to->crcs, &f->err);
    }
    return rc;
}

int at_cache_fill(at_cache_plan *p, const char *path, at_error *err)
{
    int rc = at_make_dirs(path, err);
    if (!rc)
        rc = check_space(p, path, err);
    if (rc)
        return rc;
    filling f = {.plan = p};
    for (int split = 0; split < AT_SPLITS; split++)
        f.output[split].fd = -1;
    pthread_mutex_init(&f.mutex, NULL);
    rc = open_outputs(&f, path);
    if (!rc)
        rc = fill_splits(&f);
    if (!rc)
        rc = finish(&f, p, path);
    close_outputs(&f);
    pthread_mutex_destroy(&f.mutex);
    if (rc)
        return at_fail(err, rc, "%s", f.err.message);
    at_cache_touch(path);
    return 0;
}
