/* SPDX-License-Identifier: Apache-2.0
 * The threads of an ingest.
 *
 *     reader ──chunks──▶ decoding threads ──▶ the writer (the caller)
 *        └────────── the same chunks, in order ─────▲
 *
 * The reader lists (and, for archives, reads); the threads load and hash, and have a process each
 * decode (sandbox.h); the writer takes the chunks in the source's order. Chunks are reused: memory is
 * bounded, and a picture costs no allocation. */
#include "sandbox.h"
#include "share.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK_FILES = 8, /* of items that a thread must load, for these may be large */
    CHUNK_BYTES = 1 << 20,
    CHUNKS_BESIDE = 4,      /* of files, besides one a thread */
    CHUNKS_AHEAD = 14,      /* of what the reader reads: so long the writer may wait for the disk */
    CHUNK_FRAMES = 2 << 20, /* bytes of them */
    MAX_JOBS = 1024,
};

/* A thread with its process. */
struct hand {
    struct at_pipeline *pipeline;
    at_sandbox *sandbox;
    at_fetcher *fetcher;
    pthread_t thread;
    at_error err; /* why it cannot go on; read after joining */
};

struct at_pipeline {
    at_source *source;
    at_queue *empty, *todo, *ordered; /* of chunks */
    at_chunk *chunks;
    size_t chunk_count, chunk_items; /* how many there are; what one holds at most */
    size_t lent;                     /* chunks that are in use, or empty */
    pthread_t reader;
    struct hand *hands;
    int hand_count;        /* with a process */
    int thread_count;      /* of them started */
    bool reading;          /* the reader was started */
    pthread_mutex_t mutex; /* guards every chunk's .examined */
    pthread_cond_t examined;
    atomic_bool stop;
    at_error reader_err; /* read after joining it */
};

/* ---- the reader's and the decoders' threads ---- */

static bool chunk_is_full(const at_pipeline *p, const at_chunk *k, size_t bytes, bool files)
{
    return k->count >= p->chunk_items || (files && k->count >= CHUNK_FILES) || bytes >= CHUNK_BYTES;
}

/* 1: full, 0: the source has ended (and the chunk may hold its last items), negative: error. */
static int fill_chunk(at_pipeline *p, at_chunk *k)
{
    size_t bytes = 0;
    bool files = false;
    k->count = 0;
    k->examined = false;
    while (!chunk_is_full(p, k, bytes, files)) {
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

/* Until so many are in use or empty. */
static void lend(at_pipeline *p, size_t count)
{
    for (; p->lent < count; p->lent++)
        at_queue_push(p->empty, &p->chunks[p->lent]);
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
        bool small = k->count == AT_CHUNK_ITEMS && !k->items[0].file.length;
        if (k->count && (!at_queue_push(p->ordered, k) || !at_queue_push(p->todo, k)))
            break;
        if (small) /* and read here: a chunk's bytes are few */
            lend(p, p->chunk_count);
    }
    at_queue_close(p->todo);
    at_queue_close(p->ordered);
    return NULL;
}

static void bring(struct hand *h, at_item *item)
{
    size_t limit = h->pipeline->source->limits.bytes;
    if (item->remote && !item->bad)
        at_item_fetch(item, &h->fetcher, limit, AT_FETCH_PATIENCE);
    else if (item->file.length && !item->bad)
        at_item_load(item, limit);
}

/* What could not be examined waits for the next run, as if it had not come. */
static void examine(struct hand *h, at_item *const items[], size_t count)
{
    if (h->err.code == 0)
        at_sandbox_examine(h->sandbox, items, count, &h->err);
    for (size_t i = 0; i < count && h->err.code < 0; i++)
        items[i]->dropped = true;
}

/* Whether another rank has decoded the same bytes. */
static bool was_told(struct hand *h, at_item *item)
{
    at_share *share = h->pipeline->source->share;
    if (share)
        at_item_hash(item);
    return share && at_share_take(share, item);
}

static void examine_chunk(struct hand *h, at_chunk *k)
{
    at_item *items[AT_CHUNK_ITEMS];
    size_t count = 0, bytes = 0;
    for (size_t i = 0; i < k->count; i++) {
        at_item *item = &k->items[i];
        bring(h, item);
        if (item->bad || item->dropped || was_told(h, item))
            continue;
        if (count && bytes + item->bytes.size > CHUNK_BYTES) {
            examine(h, items, count);
            count = bytes = 0;
        }
        items[count++] = item;
        bytes += item->bytes.size;
    }
    examine(h, items, count);
    for (size_t i = 0; i < k->count; i++) {
        at_item *item = &k->items[i];
        item->path_key = at_key_of_path(item->path.data);
        if (!item->bad && !item->dropped && item->class_name.length == 0)
            at_item_fail(item, AT_REASON_UNSUPPORTED,
                         "a picture outside of any class folder, which tells its class where no "
                         "--labels FILE does");
    }
}

static void *hand_main(void *context)
{
    struct hand *h = context;
    at_pipeline *p = h->pipeline;
    at_chunk *k;
    while ((k = at_queue_pop(p->todo))) {
        examine_chunk(h, k);
        pthread_mutex_lock(&p->mutex);
        k->examined = true;
        pthread_cond_signal(&p->examined); /* the writer alone waits */
        pthread_mutex_unlock(&p->mutex);
    }
    return NULL;
}

/* ---- the pipeline ---- */

static void pipeline_free(at_pipeline *p)
{
    for (size_t c = 0; p->chunks && c < p->chunk_count; c++)
        for (size_t i = 0; i < AT_CHUNK_ITEMS; i++)
            at_item_fini(&p->chunks[c].items[i]);
    free(p->chunks);
    for (int i = 0; i < p->hand_count; i++) {
        at_sandbox_free(p->hands[i].sandbox);
        at_fetcher_free(p->hands[i].fetcher);
    }
    free(p->hands);
    at_queue_free(p->empty);
    at_queue_free(p->todo);
    at_queue_free(p->ordered);
    pthread_mutex_destroy(&p->mutex);
    pthread_cond_destroy(&p->examined);
    free(p);
}

static at_pipeline *allocate(at_source *source, const at_frame *frame, int jobs)
{
    at_pipeline *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->source = source;
    p->chunk_count = (size_t)jobs + CHUNKS_AHEAD;
    p->chunk_items = at_frames_within(frame, CHUNK_FRAMES, AT_CHUNK_ITEMS);
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->examined, NULL);
    p->chunks = calloc(p->chunk_count, sizeof *p->chunks);
    p->hands = calloc((size_t)jobs, sizeof *p->hands);
    p->empty = at_queue_new(p->chunk_count);
    p->todo = at_queue_new(p->chunk_count);
    p->ordered = at_queue_new(p->chunk_count);
    if (!p->chunks || !p->hands || !p->empty || !p->todo || !p->ordered) {
        pipeline_free(p);
        return NULL;
    }
    lend(p, (size_t)jobs + CHUNKS_BESIDE);
    return p;
}

/* Fewer than wanted do, too. */
static int fork_sandboxes(at_pipeline *p, const at_wish *wish, int jobs, at_error *err)
{
    at_error local = {0};
    while (p->hand_count < jobs) {
        struct hand *h = &p->hands[p->hand_count];
        h->pipeline = p;
        h->sandbox = at_sandbox_new(&p->source->limits, wish, &local);
        if (!h->sandbox)
            break;
        p->hand_count++;
    }
    return p->hand_count ? 0 : at_fail(err, local.code, "%s", local.message);
}

at_pipeline *at_pipeline_new(at_source *source, const at_frame *frame, int jobs, at_error *err)
{
    const at_wish wish = {.facts = true, .frame = frame ? *frame : (at_frame){0}};
    jobs = jobs <= 0 ? at_cpu_count() : jobs > MAX_JOBS ? MAX_JOBS : jobs;
    at_pipeline *p = allocate(source, &wish.frame, jobs);
    if (!p)
        at_nomem(err);
    else if (fork_sandboxes(p, &wish, jobs, err) == 0)
        return p;
    at_pipeline_stop(p, NULL);
    return NULL;
}

static int await_sandboxes(at_pipeline *p, at_error *err)
{
    bool filtered = true;
    int code = 0;
    for (int i = 0; i < p->hand_count && code == 0; i++)
        code = at_sandbox_await(p->hands[i].sandbox, &filtered, err);
    if (code == 0 && !filtered)
        at_sandbox_warn();
    return code;
}

int at_pipeline_start(at_pipeline *p, at_error *err)
{
    int code = await_sandboxes(p, err);
    if (code < 0)
        return code;
    int failed = pthread_create(&p->reader, NULL, reader_main, p);
    p->reading = !failed;
    while (p->thread_count < p->hand_count && !failed) {
        struct hand *h = &p->hands[p->thread_count];
        failed = pthread_create(&h->thread, NULL, hand_main, h);
        p->thread_count += !failed;
    }
    return p->thread_count ? 0
                           : at_fail(err, AT_EFAIL, "cannot start a thread: %s", strerror(failed));
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
    if (!p)
        return 0;
    atomic_store(&p->stop, true);
    at_queue_close(p->empty);
    at_queue_close(p->ordered);
    at_queue_close(p->todo);
    if (p->reading)
        pthread_join(p->reader, NULL);
    const at_error *why = &p->reader_err;
    for (int i = 0; i < p->thread_count; i++) {
        pthread_join(p->hands[i].thread, NULL);
        why = p->hands[i].err.code < 0 ? &p->hands[i].err : why;
    }
    int code = why->code;
    if (code < 0)
        at_fail(err, code, "%s", why->message);
    pipeline_free(p);
    return code;
}
