/* SPDX-License-Identifier: Apache-2.0
 * atoll bench loader: pictures a second through cache, plan, flip and shift-crop, and then
 * normalised to fp32 as the first layer of a network does it, on as many threads as load.
 *
 * The floor is what memory allows: as many threads copy the same samples, one after another, into
 * buffers of a batch. A first pass over the cache checks its CRCs and brings it into memory; what
 * is timed is every pass after it. Memory besides the mapped cache is told after the first pass and
 * at the end: they are the same however many epochs lie between. */
#include "atoll/bench.h"
#include "atoll/cache.h"
#include "atoll/nn.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { SHIFT = 4, PARTS = 4 };
static const double floor_seconds = 1;

typedef struct bench {
    const at_bench_loader_options *options;
    at_cache *cache;
    int batch, threads;
    int height, width, channels;
    size_t samples, sample_bytes;
    float *values; /* [batch,H,W,C] */
    at_pool *pool;
} bench;

typedef struct result {
    double rate, floor_rate, waited; /* waited: share of the time */
    uint64_t epochs;
    size_t anonymous_first, anonymous; /* bytes, after the first epoch and the last */
} result;

/* ---- the loader ---------------------------------------------------------------------------- */

typedef struct normalising {
    const bench *bench;
    const at_batch *batch;
    float mean[4], deviation[4];
} normalising;

/* Several a thread: who comes late, for another works on its core, has less to do. */
static void normalise_part(void *context, size_t part)
{
    const normalising *n = context;
    const bench *b = n->bench;
    size_t parts = PARTS * (size_t)b->threads, area = (size_t)b->height * (size_t)b->width;
    size_t begin = n->batch->real * part / parts;
    size_t end = n->batch->real * (part + 1) / parts;
    at_pixels_normalize(n->batch->pixels + begin * b->sample_bytes, end - begin, area, b->channels,
                        n->mean, n->deviation, b->values + begin * b->sample_bytes);
}

static int consume(const bench *b, at_loader *loader, uint64_t *images, double *took, at_error *err)
{
    const at_bench_loader_options *o = b->options;
    uint64_t least = (uint64_t)at_loader_steps(loader) * (uint64_t)o->epochs, steps = 0;
    at_batch batch;
    normalising n = {.bench = b, .batch = &batch};
    at_cache_statistics(b->cache, n.mean, n.deviation);
    double begin = at_now();
    *images = 0;
    do {
        int rc = at_loader_next(loader, &batch, err);
        if (rc < 0)
            return rc;
        at_pool_run(b->pool, PARTS * (size_t)b->threads, normalise_part, &n);
        *images += batch.real;
        steps++;
    } while ((at_now() - begin < o->seconds || steps < least) && !at_interrupted());
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

static int time_loader(const bench *b, result *r, at_error *err)
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
    r->anonymous_first = at_anonymous_rss();
    double before = at_loader_waited(loader);
    if (!rc)
        rc = consume(b, loader, &images, &took, err);
    if (!rc) {
        r->rate = (double)images / took;
        r->waited = (at_loader_waited(loader) - before) / took;
        r->epochs = images / b->samples;
        r->anonymous = at_anonymous_rss();
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
    at_reader *reader = at_reader_new(b->cache, NULL);
    int code = buffer && reader ? 0 : AT_ENOMEM;
    for (size_t at = thread; !code && at_now() < k->end; at += (size_t)b->threads) {
        for (size_t i = 0; i < per_batch && !code; i++) {
            const uint8_t *pixels;
            int32_t label;
            code =
                at_reader_sample(reader, AT_TRAIN, at % all * per_batch + i, &pixels, &label, NULL);
            if (!code)
                memcpy(buffer + i * b->sample_bytes, pixels, b->sample_bytes);
        }
        atomic_fetch_add(&k->batches, 1);
    }
    if (code)
        atomic_store(&k->code, code);
    at_reader_free(reader);
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

static at_node *describe(const bench *b, const result *r)
{
    double rate = r->rate, floor_rate = r->floor_rate;
    at_node *n = at_node_new(AT_MAP);
    at_set_string(n, "bench", "loader");
    at_set_real(n, "images_per_second", rate);
    at_set_real(n, "floor_images_per_second", floor_rate);
    at_set_real(n, "of_floor", rate / floor_rate);
    at_set_real(n, "gigabytes_per_second", rate * (double)b->sample_bytes * 1e-9);
    at_set_real(n, "floor_gigabytes_per_second", floor_rate * (double)b->sample_bytes * 1e-9);
    at_set_real(n, "waited", r->waited);
    at_set_int(n, "batch", b->batch);
    at_set_int(n, "threads", b->threads);
    at_set_int(n, "samples", (int64_t)b->samples);
    at_set_int(n, "sample_bytes", (int64_t)b->sample_bytes);
    at_set_int(n, "epochs", (int64_t)r->epochs);
    at_set_int(n, "anonymous_bytes_first_epoch", (int64_t)r->anonymous_first);
    at_set_int(n, "anonymous_bytes", (int64_t)r->anonymous);
    at_set_int(n, "peak_rss_bytes", (int64_t)at_peak_rss());
    return n;
}

at_node *at_bench_loader(const at_bench_loader_options *o, at_error *err)
{
    at_error local;
    result r = {0};
    at_node *described = NULL;
    if (!err)
        err = &local;
    bench b = {
        .options = o, .batch = o->batch, .threads = o->threads > 0 ? o->threads : at_cpu_count()};
    b.cache = at_cache_open_at(o->cache, NULL, err);
    if (!b.cache)
        return NULL;
    at_cache_shape(b.cache, &b.height, &b.width, &b.channels);
    b.sample_bytes = (size_t)b.height * (size_t)b.width * (size_t)b.channels;
    b.samples = at_cache_count(b.cache, AT_TRAIN);
    b.values = at_alloc_aligned((size_t)b.batch * b.sample_bytes * sizeof *b.values);
    if (b.samples == 0)
        at_fail(err, AT_EINPUT, "%s has no training samples", o->cache);
    else if (!b.values)
        at_nomem(err);
    else if ((b.pool = at_pool_new(b.threads, err)) && time_loader(&b, &r, err) == 0 &&
             time_copies(&b, &r.floor_rate, err) == 0)
        described = describe(&b, &r);
    at_pool_free(b.pool);
    at_free_aligned(b.values);
    at_cache_close(b.cache);
    return described;
}
