/* SPDX-License-Identifier: Apache-2.0
 * Fills a cache: decodes every picture of a data set, fits it to the cache's frame and writes it, or
 * in the encoded form its file's bytes.
 *
 * A task of the pool makes one batch (make.c), or a run of encoded ones, and writes it at its
 * place, so that memory is one batch a thread. meta.json and then the headers come last.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ENCODED_TASK = 64 /* batches */, META_ROOM = 1 << 16 };

typedef struct output {
    char *path;
    int fd;
    at_cache_table table; /* each task writes what is its own */
} output;

typedef struct filling {
    const at_cache_plan *plan;
    at_split split; /* at work */
    output output[AT_SPLITS];
    atomic_bool stop;

    pthread_mutex_t mutex; /* guards what follows */
    at_progress *progress;
    double done; /* samples of all splits */
    at_cache_sums train;
    at_error err; /* the first */
} filling;

/* ---- tasks --------------------------------------------------------------------------------- */

static size_t task_batches(const at_cache_plan *p)
{
    return p->form == AT_FORM_ENCODED ? ENCODED_TASK : 1;
}

static int write_batch(filling *f, at_cache_maker *m, size_t b, at_error *err)
{
    const at_cache_header *h = &f->plan->header[f->split];
    const output *to = &f->output[f->split];
    const at_cache_table *table = &to->table;
    int rc = at_cache_maker_make(m, f->split, b, err);
    if (rc)
        return rc;
    uint64_t place = !table->ends ? b * m->bytes : b ? table->ends[b - 1] : 0;
    table->crcs[b] = at_crc32c(0, m->data, m->bytes);
    memcpy(table->labels + b * h->batch_samples, m->labels, m->samples * sizeof *m->labels);
    return at_cache_write(to->fd, to->path, m->data, m->bytes, h->data_offset + place, err);
}

static void note_batches(filling *f, size_t samples, const at_cache_sums *sums)
{
    pthread_mutex_lock(&f->mutex);
    at_cache_sums_add(&f->train, sums);
    f->done += (double)samples;
    at_progress_update(f->progress, f->done, at_split_name(f->split));
    pthread_mutex_unlock(&f->mutex);
}

static int fill_batches(filling *f, size_t task, at_error *err)
{
    size_t begin = task * task_batches(f->plan), end = begin + task_batches(f->plan);
    size_t samples = 0, batches = f->plan->header[f->split].batches;
    at_cache_maker m;
    int rc = at_cache_maker_init(&m, f->plan, &f->stop, err);
    if (rc)
        return rc;
    for (size_t b = begin; b < end && b < batches && !rc; b++) {
        rc = write_batch(f, &m, b, err);
        samples += m.samples;
    }
    note_batches(f, samples, &m.sums);
    at_cache_maker_fini(&m);
    return rc;
}

static void fill_task(void *context, size_t task)
{
    filling *f = context;
    at_error err = {0};
    if (atomic_load(&f->stop) || fill_batches(f, task, &err) == 0)
        return;
    pthread_mutex_lock(&f->mutex);
    if (!f->err.code)
        f->err = err;
    atomic_store(&f->stop, true);
    pthread_mutex_unlock(&f->mutex);
}

/* ---- meta.json ----------------------------------------------------------------------------- */

/* A deviation is at least a grey level, so that one may divide by it. */
static void add_statistics(at_node *meta, const at_cache_sums *s, size_t channels)
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

char *at_cache_meta(const at_cache_plan *p, const at_cache_sums *train)
{
    at_node *meta = at_node_new(AT_MAP);
    at_set_string(meta, "format", "atoll batch cache");
    at_set_int(meta, "version", AT_CACHE_VERSION);
    at_set_string(meta, "dataset_hash", at_dataset_hash(p->dataset));
    at_node *transform = at_node_set(meta, "transform", at_node_new(AT_MAP));
    at_set_string(transform, "fit", at_fit_name(p->frame.fit));
    at_set_int(transform, "height", p->frame.height);
    at_set_int(transform, "width", p->frame.width);
    at_set_int(transform, "channels", p->frame.channels);
    at_set_string(meta, "form", at_form_name(p->form));
    at_node *samples = at_node_set(meta, "samples", at_node_new(AT_MAP));
    for (int split = 0; split < AT_SPLITS; split++)
        at_set_int(samples, at_split_name((at_split)split), (int64_t)p->header[split].samples);
    at_node *classes = at_node_set(meta, "classes", at_node_new(AT_LIST));
    for (size_t i = 0; i < at_dataset_classes(p->dataset); i++)
        at_node_add(classes, at_node_new_string(at_dataset_class_name(p->dataset, i)));
    add_statistics(meta, train, (size_t)p->frame.channels);
    at_set_string(meta, "atoll", ATOLL_VERSION);
    char *text = at_json_print(meta, true);
    at_node_free(meta);
    return text;
}

static int write_meta(const filling *f, const char *folder, uint32_t *crc, at_error *err)
{
    int rc = AT_ENOMEM;
    char *text = at_cache_meta(f->plan, &f->train);
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

/* The bytes of the split's files, one behind another; ends NULL: only their sum. */
static uint64_t add_up_contents(const at_dataset *d, at_split split, uint64_t *ends)
{
    uint64_t end = 0;
    for (size_t i = 0; i < at_dataset_count(d, split); i++) {
        end += at_dataset_sample_bytes(d, split, i);
        if (ends)
            ends[i] = end;
    }
    return end;
}

static int plan_header(at_cache_plan *p, at_split split, at_error *err)
{
    const char *hash = at_dataset_hash(p->dataset);
    at_cache_header *h = &p->header[split];
    *h = (at_cache_header){.split = (uint32_t)split,
                           .height = (uint32_t)p->frame.height,
                           .width = (uint32_t)p->frame.width,
                           .channels = (uint32_t)p->frame.channels,
                           .fit = (uint16_t)p->frame.fit,
                           .form = (uint16_t)p->form,
                           .classes = (uint32_t)at_dataset_classes(p->dataset),
                           .samples = at_dataset_count(p->dataset, split)};
    if (p->form == AT_FORM_ENCODED)
        h->data_bytes = add_up_contents(p->dataset, split, NULL);
    memcpy(h->dataset_hash, hash, strnlen(hash, sizeof h->dataset_hash));
    return at_cache_header_layout(h, at_split_name(split), err);
}

static bool are_of_this_cache(const at_frames *frames, const at_cache_plan *p)
{
    const at_frame *have = at_frames_frame(frames), *want = &p->frame;
    return have && p->form == AT_FORM_UINT8 && have->height == want->height &&
           have->width == want->width && have->fit == want->fit &&
           (!have->channels || have->channels == want->channels);
}

int at_cache_plan_init(at_cache_plan *p, const at_dataset *dataset, const at_cache_spec *spec,
                       at_error *err)
{
    const at_frame *f = &spec->frame;
    if (f->height < 0 || f->width < 0 || f->channels < 0)
        return at_fail(err, AT_EUSAGE, "a cache of %dx%dx%d", f->height, f->width, f->channels);
    *p = (at_cache_plan){.dataset = dataset, .form = spec->form, .threads = spec->threads};
    at_dataset_shape(dataset, &p->frame.height, &p->frame.width, &p->frame.channels);
    p->frame = (at_frame){.height = f->height ? f->height : p->frame.height,
                          .width = f->width ? f->width : p->frame.width,
                          .channels = f->channels ? f->channels : p->frame.channels,
                          .fit = f->fit};
    p->frames = are_of_this_cache(spec->frames, p) ? spec->frames : NULL;
    for (int split = 0; split < AT_SPLITS; split++) {
        int rc = plan_header(p, (at_split)split, err);
        if (rc)
            return rc;
        p->bytes += p->header[split].file_bytes;
    }
    return 0;
}

static const char too_small[] =
    "choose a smaller size or another folder (--cache.dir, ATOLL_CACHE_DIR), or make room";

bool at_cache_fits(const at_cache_plan *p, const char *path)
{
    return at_cache_free_bytes(path) >= p->bytes + META_ROOM;
}

static int check_space(const at_cache_plan *p, const char *path, at_error *err)
{
    return at_cache_fits(p, path)
               ? 0
               : at_fail(err, AT_EIO, "%s: the cache needs %llu MiB, but %llu MiB are free: %s",
                         path, (unsigned long long)(p->bytes >> 20) + 1,
                         (unsigned long long)(at_cache_free_bytes(path) >> 20), too_small);
}

/* The file gets its blocks now, where the file system can do that: a disk that others fill meanwhile
 * is an error at the beginning. */
static int reserve(const output *to, uint64_t bytes, at_error *err)
{
    if (fallocate(to->fd, 0, 0, (off_t)bytes) && (errno == ENOSPC || errno == EDQUOT))
        return at_fail_errno(err, errno, "cannot make %s of %llu MiB (%s)", to->path,
                             (unsigned long long)(bytes >> 20) + 1, too_small);
    return 0;
}

static int open_output(filling *f, const char *folder, at_split split)
{
    const at_cache_header *h = &f->plan->header[split];
    output *to = &f->output[split];
    to->path = at_format("%s/%s.atc", folder, at_split_name(split));
    to->table.crcs = calloc(h->batches + 1, sizeof *to->table.crcs);
    to->table.labels = calloc(h->samples + 1, sizeof *to->table.labels);
    if (f->plan->form == AT_FORM_ENCODED)
        to->table.ends = calloc(h->samples + 1, sizeof *to->table.ends);
    if (!to->path || !to->table.crcs || !to->table.labels ||
        (f->plan->form == AT_FORM_ENCODED && !to->table.ends))
        return at_nomem(&f->err);
    if (to->table.ends)
        add_up_contents(f->plan->dataset, split, to->table.ends);
    to->fd = open(to->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (to->fd < 0)
        return at_fail_errno(&f->err, errno, "cannot make %s", to->path);
    return reserve(to, h->file_bytes, &f->err);
}

static int open_outputs(filling *f, const char *folder)
{
    int rc = 0;
    for (int split = 0; split < AT_SPLITS && !rc; split++)
        rc = open_output(f, folder, (at_split)split);
    return rc;
}

static void close_outputs(filling *f)
{
    for (int split = 0; split < AT_SPLITS; split++) {
        output *to = &f->output[split];
        if (to->fd >= 0)
            close(to->fd);
        free(to->table.crcs);
        free(to->table.labels);
        free(to->table.ends);
        free(to->path);
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
        size_t each = task_batches(f->plan), batches = f->plan->header[split].batches;
        at_pool_run(pool, batches / each + (batches % each != 0), fill_task, f);
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
        rc = at_cache_file_finish(to->fd, to->path, &p->header[split], &to->table, &f->err);
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
