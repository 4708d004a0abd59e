/* SPDX-License-Identifier: Apache-2.0
 * The threads of an ingest.
 *
 *     reader ──chunks──▶ decoding threads ──▶ the writer (the caller)
 *        └────────── the same chunks, in order ─────▲
 *
 * The reader lists (and, for archives, reads); the threads load, decode, hash and count; the writer
 * takes the chunks in the source's order. Chunks are reused: memory is bounded, and a picture costs
 * no allocation. */
#include "internal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK_FILES = 8, /* of items that a thread must load, for these may be large */
    CHUNK_BYTES = 1 << 20,
    MAX_JOBS = 1024,
};

struct at_pipeline {
    at_source *source;
    at_queue *empty, *todo, *ordered; /* of chunks */
    at_chunk *chunks;
    size_t chunk_count;
    pthread_t reader, *workers;
    bool reading;          /* the reader was started */
    int worker_count;      /* started */
    pthread_mutex_t mutex; /* guards every chunk's .examined */
    pthread_cond_t examined;
    atomic_bool stop;
    int reader_code; /* read after joining it */
    at_error reader_err;
};

/* ---- the reader's and the decoders' threads ---- */

static bool chunk_is_full(const at_chunk *k, size_t bytes, bool files)
{
    return k->count >= (files ? CHUNK_FILES : AT_CHUNK_ITEMS) || bytes >= CHUNK_BYTES;
}

/* 1: full, 0: the source has ended (and the chunk may hold its last items), negative: error. */
static int fill_chunk(at_pipeline *p, at_chunk *k)
{
    size_t bytes = 0;
    bool files = false;
    k->count = 0;
    k->examined = false;
    while (!chunk_is_full(k, bytes, files)) {
        if (at_interrupted())
            return at_fail(&p->reader_err, AT_EINTERRUPTED, "interrupted");
        at_item *item = &k->items[k->count];
        int code = at_source_next(p->source, item, &p->reader_err);
        k->done = p->source->done;
        if (code <= 0)
            return code;
        bytes += item->bytes.size;
        files = files || item->file.length;
        k->count++;
    }
    return 1;
}

static void *reader_main(void *context)
{
    at_pipeline *p = context;
    int code = 1;
    while (code == 1 && !atomic_load(&p->stop)) {
        at_chunk *k = at_queue_pop(p->empty);
        if (!k)
            break;
        code = fill_chunk(p, k);
        if (k->count && (!at_queue_push(p->ordered, k) || !at_queue_push(p->todo, k)))
            break;
    }
    p->reader_code = code < 0 ? code : 0;
    at_queue_close(p->todo);
    at_queue_close(p->ordered);
    return NULL;
}

static void examine(at_item *item, at_decoder *decoder, at_fetcher **fetcher,
                    const at_decode_limits *limits)
{
    if (item->remote && !item->bad)
        at_item_fetch(item, fetcher, limits->bytes);
    else if (item->file.length && !item->bad)
        at_item_load(item, limits->bytes);
    if (!item->bad && !item->dropped)
        at_item_examine(item, decoder, limits);
    if (!item->bad && !item->dropped && item->class_name.length == 0)
        at_item_fail(item, AT_REASON_UNSUPPORTED, "a picture outside of any class folder");
}

static void *worker_main(void *context)
{
    at_pipeline *p = context;
    at_decoder *decoder = at_decoder_new();
    at_fetcher *fetcher = NULL;
    at_chunk *k;
    while ((k = at_queue_pop(p->todo))) {
        for (size_t i = 0; i < k->count; i++)
            if (decoder)
                examine(&k->items[i], decoder, &fetcher, &p->source->limits);
            else
                at_item_fail(&k->items[i], AT_REASON_UNREADABLE, "out of memory");
        pthread_mutex_lock(&p->mutex);
        k->examined = true;
        pthread_cond_signal(&p->examined); /* the writer alone waits */
        pthread_mutex_unlock(&p->mutex);
    }
    at_decoder_free(decoder);
    at_fetcher_free(fetcher);
    return NULL;
}

/* ---- the pipeline ---- */

static void pipeline_free(at_pipeline *p)
{
    for (size_t c = 0; p->chunks && c < p->chunk_count; c++)
        for (size_t i = 0; i < AT_CHUNK_ITEMS; i++)
            at_item_fini(&p->chunks[c].items[i]);
    free(p->chunks);
    free(p->workers);
    at_queue_free(p->empty);
    at_queue_free(p->todo);
    at_queue_free(p->ordered);
    pthread_mutex_destroy(&p->mutex);
    pthread_cond_destroy(&p->examined);
    free(p);
}

static at_pipeline *pipeline_new(at_source *source, int jobs)
{
    at_pipeline *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->source = source;
    p->chunk_count = (size_t)jobs + 4;
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->examined, NULL);
    p->chunks = calloc(p->chunk_count, sizeof *p->chunks);
    p->workers = calloc((size_t)jobs, sizeof *p->workers);
    p->empty = at_queue_new(p->chunk_count);
    p->todo = at_queue_new(p->chunk_count);
    p->ordered = at_queue_new(p->chunk_count);
    if (!p->chunks || !p->workers || !p->empty || !p->todo || !p->ordered) {
        pipeline_free(p);
        return NULL;
    }
    for (size_t i = 0; i < p->chunk_count; i++)
        at_queue_push(p->empty, &p->chunks[i]);
    return p;
}

at_pipeline *at_pipeline_start(at_source *source, int jobs, at_error *err)
{
    jobs = jobs <= 0 ? at_cpu_count() : jobs > MAX_JOBS ? MAX_JOBS : jobs;
    at_pipeline *p = pipeline_new(source, jobs);
    if (!p) {
        at_nomem(err);
        return NULL;
    }
    int failed = pthread_create(&p->reader, NULL, reader_main, p);
    p->reading = !failed;
    while (p->worker_count < jobs && !failed) {
        failed = pthread_create(&p->workers[p->worker_count], NULL, worker_main, p);
        p->worker_count += !failed;
    }
    if (p->worker_count)
        return p; /* fewer than wanted do, too */
    at_pipeline_stop(p, NULL);
    at_fail(err, AT_EFAIL, "cannot start a thread: %s", strerror(failed));
    return NULL;
}

at_chunk *at_pipeline_next(at_pipeline *p)
{
    at_chunk *k = at_queue_pop(p->ordered);
    if (!k)
        return NULL;
    pthread_mutex_lock(&p->mutex);
    while (!k->examined)
        pthread_cond_wait(&p->examined, &p->mutex);
    pthread_mutex_unlock(&p->mutex);
    return k;
}

void at_pipeline_give_back(at_pipeline *p, at_chunk *chunk)
{
    at_queue_push(p->empty, chunk);
}

int at_pipeline_stop(at_pipeline *p, at_error *err)
{
    atomic_store(&p->stop, true);
    at_queue_close(p->empty);
    at_queue_close(p->ordered);
    at_queue_close(p->todo);
    if (p->reading)
        pthread_join(p->reader, NULL);
    for (int i = 0; i < p->worker_count; i++)
        pthread_join(p->workers[i], NULL);
    int code = p->reader_code;
    if (code < 0)
        at_fail(err, code, "%s", p->reader_err.message);
    pipeline_free(p);
    return code;
}
