/* SPDX-License-Identifier: Apache-2.0
 * atoll bench loader: pictures a second through cache, plan, flip and shift-crop, and then
 * normalised to fp32 as the first layer of a network does it, on as many threads as load.
 *
 * The floor is what memory allows: as many threads copy the same samples, one after another, into
 * buffers of a batch. A first pass over the cache checks its CRCs and brings it into memory; what
 * is timed is every pass after it. */
#include "atoll/bench.h"
#include "atoll/cache.h"
#include "atoll/nn.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { SHIFT = 4 };
static const double floor_seconds = 1;

typedef struct bench {
    at_cache *cache;
    int batch, threads;
    int height, width, channels;
    size_t samples, sample_bytes;
    float *values; /* [batch,H,W,C] */
    at_pool *pool;
} bench;

/* ---- the loader ---------------------------------------------------------------------------- */

typedef struct normalising {
    const bench *bench;
    const at_batch *batch;
    float mean[4], deviation[4];
} normalising;

/* A thread's part of a batch. */
static void normalise_part(void *context, size_t thread)
{
    const normalising *n = context;
    const bench *b = n->bench;
    size_t threads = (size_t)b->threads, area = (size_t)b->height * (size_t)b->width;
    size_t begin = n->batch->real * thread / threads;
    size_t end = n->batch->real * (thread + 1) / threads;
    at_pixels_normalize(n->batch->pixels + begin * b->sample_bytes, end - begin, area, b->channels,
                        n->mean, n->deviation, b->values + begin * b->sample_bytes);
}

static int consume(const bench *b, at_loader *loader, double seconds, uint64_t *images,
                   double *took, at_error *err)
{
    at_batch batch;
    normalising n = {.bench = b, .batch = &batch};
    at_cache_statistics(b->cache, n.mean, n.deviation);
    double begin = at_now();
    *images = 0;
    do {
        int rc = at_loader_next(loader, &batch, err);
        if (rc < 0)
            return rc;
        at_pool_run(b->pool, (size_t)b->threads, normalise_part, &n);
        *images += batch.real;
    } while (at_now() - begin < seconds && !at_interrupted());
    *took = at_now() - begin;
    return at_interrupted() ? at_fail(err, AT_EINTERRUPTED, "interrupted") : 0;
}

static int pass_over(at_loader *loader, at_error *err)
{
    at_batch batch;
    for (size_t step = 0; step < at_loader_steps(loader); step++) {
        int rc = at_loader_next(loader, &batch, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int time_loader(const bench *b, double seconds, double *rate, double *waited, at_error *err)
{
    at_loader_spec spec = {
        .cache = b->cache,
        .split = AT_TRAIN,
        .sampler = {.ranks = 1, .batch = (size_t)b->batch, .seed = 1, .shuffle = true},
        .augment = {.flip = "random", .shift = SHIFT},
        .epochs = UINT64_MAX,
        .threads = b->threads,
        .depth = b->threads + 1,
    };
    at_loader *loader = at_loader_new(&spec, err);
    if (!loader)
        return err->code;
    uint64_t images;
    double took;
    int rc = pass_over(loader, err);
    double before = at_loader_waited(loader);
    if (!rc)
        rc = consume(b, loader, seconds, &images, &took, err);
    if (!rc) {
        *rate = (double)images / took;
        *waited = (at_loader_waited(loader) - before) / took;
    }
    at_loader_free(loader);
    return rc;
}

/* ---- the floor ----------------------------------------------------------------------------- */

typedef struct copying {
    const bench *bench;
    atomic_size_t batches; /* copied by all threads */
    atomic_int code;
    double end;
} copying;

/* A thread's share: every threads-th batch, round and round until the time is over. */
static void copy_share(void *context, size_t thread)
{
    copying *k = context;
    const bench *b = k->bench;
    size_t per_batch = (size_t)b->batch < b->samples ? (size_t)b->batch : b->samples;
    size_t all = b->samples / per_batch;
    uint8_t *buffer = at_alloc_aligned(per_batch * b->sample_bytes);
    int code = buffer ? 0 : AT_ENOMEM;
    for (size_t at = thread; !code && at_now() < k->end; at += (size_t)b->threads) {
        for (size_t i = 0; i < per_batch && !code; i++) {
            const uint8_t *pixels;
            int32_t label;
            code = at_cache_sample(b->cache, AT_TRAIN, at % all * per_batch + i, &pixels, &label,
                                   NULL);
            if (!code)
                memcpy(buffer + i * b->sample_bytes, pixels, b->sample_bytes);
        }
        atomic_fetch_add(&k->batches, 1);
    }
    if (code)
        atomic_store(&k->code, code);
    at_free_aligned(buffer);
}

static int time_copies(const bench *b, double *rate, at_error *err)
{
    double begin = at_now();
    copying k = {.bench = b, .end = begin + floor_seconds};
    at_pool_run(b->pool, (size_t)b->threads, copy_share, &k);
    size_t per_batch = (size_t)b->batch < b->samples ? (size_t)b->batch : b->samples;
    *rate = (double)(k.batches * per_batch) / (at_now() - begin);
    return k.code ? at_fail(err, k.code, "%s: cannot copy its samples", at_cache_path(b->cache))
                  : 0;
}

/* ---- the whole ----------------------------------------------------------------------------- */

static at_node *describe(const bench *b, double rate, double floor_rate, double waited)
{
    at_node *n = at_node_new(AT_MAP);
    at_set_string(n, "bench", "loader");
    at_set_real(n, "images_per_second", rate);
    at_set_real(n, "floor_images_per_second", floor_rate);
    at_set_real(n, "of_floor", rate / floor_rate);
    at_set_real(n, "gigabytes_per_second", rate * (double)b->sample_bytes * 1e-9);
    at_set_real(n, "floor_gigabytes_per_second", floor_rate * (double)b->sample_bytes * 1e-9);
    at_set_real(n, "waited", waited);
    at_set_int(n, "batch", b->batch);
    at_set_int(n, "threads", b->threads);
    at_set_int(n, "samples", (int64_t)b->samples);
    at_set_int(n, "sample_bytes", (int64_t)b->sample_bytes);
    at_set_int(n, "peak_rss_bytes", (int64_t)at_peak_rss());
    return n;
}

at_node *at_bench_loader(const char *cache, int batch, int threads, double seconds, at_error *err)
{
    at_error local;
    double rate = 0, floor_rate = 0, waited = 0;
    at_node *result = NULL;
    if (!err)
        err = &local;
    bench b = {.batch = batch, .threads = threads > 0 ? threads : at_cpu_count()};
    b.cache = at_cache_open_at(cache, NULL, err);
    if (!b.cache)
        return NULL;
    at_cache_shape(b.cache, &b.height, &b.width, &b.channels);
    b.sample_bytes = (size_t)b.height * (size_t)b.width * (size_t)b.channels;
    b.samples = at_cache_count(b.cache, AT_TRAIN);
    b.values = at_alloc_aligned((size_t)batch * b.sample_bytes * sizeof *b.values);
    if (b.samples == 0)
        at_fail(err, AT_EINPUT, "%s has no training samples", cache);
    else if (!b.values)
        at_nomem(err);
    else if ((b.pool = at_pool_new(b.threads, err)) &&
             time_loader(&b, seconds, &rate, &waited, err) == 0 &&
             time_copies(&b, &floor_rate, err) == 0)
        result = describe(&b, rate, floor_rate, waited);
    at_pool_free(b.pool);
    at_free_aligned(b.values);
    at_cache_close(b.cache);
    return result;
}
