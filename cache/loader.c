/* SPDX-License-Identifier: Apache-2.0
 * The loader: threads fill a bounded ring of batches ahead of the trainer.
 *
 * Batches are numbered in the order of the plan: number t lies in slot t % slots. A thread takes
 * the next number with its plan (ids and weights) under the mutex, fills the slot without it, and
 * marks it ready; next() hands slots out by number, so the order never depends on the threads. A
 * slot is filled again only after next() has taken the one behind it: [given, taken) are in use, at
 * most all slots. Everything is allocated before the first batch. An error stays in its slot: the
 * batches before it are still delivered, then every next() returns it.
 */
#include "internal.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH = 4, MOST_THREADS = 256, MOST_DEPTH = 4096, AHEAD = 3, RING = AHEAD + 1 };
_Static_assert(2 * AHEAD + 1 <= AT_READER_KEPT, "samples and those that they are mixed with stay");

typedef struct slot {
    uint8_t *pixels; /* [B,H,W,C] */
    int32_t *labels; /* [B], as all that follow */
    float *weights;
    uint32_t *ids, *keys;
    /* Where samples are mixed with others, else NULL: */
    int32_t *other_labels;
    float *shares;
    uint32_t *other_ids, *other_keys;
    size_t real;
    uint64_t epoch, step;
    bool ready; /* guarded by the mutex */
    at_error err;
} slot;

/* A thread's own memory. */
typedef struct worker {
    struct at_loader *loader;
    pthread_t thread;
    at_reader *reader;
    uint8_t *other; /* a sample that another is mixed with */
    void *scratch;  /* of the augmenter */
} worker;

struct at_loader {
    at_loader_spec spec;
    at_augmenter *augmenter;
    size_t sample_bytes, slots;
    slot *slot;
    double waited;
    bool held; /* the caller of next() uses slot `given` */

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t space;  /* a slot became free, or stop */
    pthread_cond_t ready;  /* a slot became ready */
    at_sampler *sampler;
    uint64_t epoch, step;  /* of the next number to take */
    uint64_t given, taken; /* numbers */
    bool stop;             /* no more numbers are taken */

    int threads; /* that run */
    worker worker[];
};

/* ---- the threads --------------------------------------------------------------------------- */

static bool at_end(const at_loader *l)
{
    return l->epoch >= l->spec.epochs;
}

/* Whom each sample is mixed with: a place of the epoch's plan that depends on its key alone. */
static void choose_others(const at_loader *l, slot *s)
{
    for (size_t i = 0; i < s->real; i++) {
        at_rng rng = at_rng_stream(l->spec.sampler.seed, "other", s->epoch << 32 | s->keys[i]);
        size_t place = at_rng_below(&rng, at_sampler_used(l->sampler));
        at_sampler_place(l->sampler, place, &s->other_ids[i], &s->other_keys[i]);
    }
}

static bool is_full(const at_loader *l)
{
    return !l->stop && !at_end(l) && l->taken - l->given == l->slots;
}

/* The next slot with its plan, or NULL when there is nothing more to do. */
static slot *take(at_loader *l)
{
    slot *s = NULL;
    pthread_mutex_lock(&l->mutex);
    for (int i = 0; i < AT_YIELDS && is_full(l); i++)
        at_give_way(&l->mutex);
    while (is_full(l))
        pthread_cond_wait(&l->space, &l->mutex);
    if (l->stop || at_end(l))
        goto done;
    s = &l->slot[l->taken++ % l->slots];
    s->ready = false;
    at_sampler_set_epoch(l->sampler, l->epoch);
    s->epoch = l->epoch;
    s->step = l->step;
    s->real = at_sampler_batch(l->sampler, l->step, l->spec.rank, s->ids, s->keys, s->weights);
    if (s->shares)
        choose_others(l, s);
    if (++l->step == at_sampler_steps(l->sampler)) {
        l->step = 0;
        l->epoch++;
    }
done:
    pthread_mutex_unlock(&l->mutex);
    return s;
}

static int find(const worker *w, slot *s, uint32_t id, const uint8_t **pixels, int32_t *label)
{
    return at_reader_sample(w->reader, w->loader->spec.split, id, pixels, label, &s->err);
}

/* Mixes the other one into sample i, which is augmented already. */
static int mix(const worker *w, slot *s, size_t i, uint8_t *pixels)
{
    const at_loader *l = w->loader;
    const uint8_t *other;
    int rc = find(w, s, s->other_ids[i], &other, &s->other_labels[i]);
    if (rc)
        return rc;
    at_augmenter_apply(l->augmenter, s->epoch, s->other_keys[i], other, w->other, w->scratch, NULL);
    s->shares[i] = at_augmenter_mix(l->augmenter, s->epoch, s->keys[i], pixels, w->other);
    return 0;
}

static void pad(const at_loader *l, slot *s)
{
    size_t padding = l->spec.sampler.batch - s->real;
    memset(s->pixels + s->real * l->sample_bytes, 0, padding * l->sample_bytes);
    memset(s->labels + s->real, 0, padding * sizeof *s->labels);
    for (size_t i = s->real; i < s->real + padding && s->shares; i++) {
        s->other_labels[i] = 0;
        s->shares[i] = 1;
    }
}

/* Has the processor look up where a sample lies, at both ends, before all of it is fetched (view.c):
 * samples lie in any order, on pages of their own. */
static void announce(const worker *w, const uint8_t *pixels)
{
    __builtin_prefetch(pixels);
    __builtin_prefetch(pixels + w->loader->sample_bytes - 1);
}

/* Finds the samples up to the AHEADth behind i. */
static int find_ahead(const worker *w, slot *s, size_t i, size_t *found,
                      const uint8_t *pixels[RING])
{
    int rc = 0;
    for (; *found < s->real && *found <= i + AHEAD && !rc; ++*found) {
        const uint8_t **place = &pixels[*found % RING];
        rc = find(w, s, s->ids[*found], place, &s->labels[*found]);
        if (!rc)
            announce(w, *place);
    }
    return rc;
}

static int fill(const worker *w, slot *s)
{
    const at_loader *l = w->loader;
    uint8_t *out = s->pixels;
    const uint8_t *pixels[RING];
    size_t found = 0;
    for (size_t i = 0; i < s->real; i++, out += l->sample_bytes) {
        int rc = find_ahead(w, s, i, &found, pixels);
        if (rc)
            return rc;
        at_augmenter_apply(l->augmenter, s->epoch, s->keys[i], pixels[i % RING], out, w->scratch,
                           i + 1 < s->real ? pixels[(i + 1) % RING] : NULL);
        if (s->shares && (rc = mix(w, s, i, out)))
            return rc;
    }
    pad(l, s);
    return 0;
}

static void *work(void *argument)
{
    const worker *w = argument;
    at_loader *l = w->loader;
    for (slot *s; (s = take(l));) {
        int rc = fill(w, s);
        pthread_mutex_lock(&l->mutex);
        s->ready = true;
        l->stop |= rc != 0;
        pthread_cond_signal(&l->ready);
        pthread_mutex_unlock(&l->mutex);
    }
    return NULL;
}

/* Signals belong to the main thread. */
static int start_threads(at_loader *l, at_error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = 0;
    while (!rc && l->threads < l->spec.threads) {
        worker *w = &l->worker[l->threads];
        rc = pthread_create(&w->thread, NULL, work, w);
        l->threads += rc == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc ? at_fail_errno(err, rc, "cannot start a loader thread") : 0;
}

/* ---- making one ---------------------------------------------------------------------------- */

static int resolve_spec(at_loader_spec *spec, at_error *err)
{
    size_t there = at_cache_count(spec->cache, spec->split);
    if (!spec->sampler.samples)
        spec->sampler.samples = there;
    if (spec->sampler.samples > there)
        return at_fail(err, AT_EUSAGE, "a plan for %zu samples, but %s of %s has %zu",
                       spec->sampler.samples, at_split_name(spec->split),
                       at_cache_path(spec->cache), there);
    if (spec->rank >= spec->sampler.ranks)
        return at_fail(err, AT_EUSAGE, "rank %zu of %zu ranks", spec->rank, spec->sampler.ranks);
    if (spec->threads <= 0)
        spec->threads = 1;
    if (spec->depth <= 0)
        spec->depth = DEPTH;
    if (spec->threads > MOST_THREADS || spec->depth > MOST_DEPTH)
        return at_fail(err, AT_EUSAGE, "%d loader threads, %d batches ahead: at most %d and %d",
                       spec->threads, spec->depth, MOST_THREADS, MOST_DEPTH);
    return 0;
}

static int new_augmenter(at_loader *l, at_error *err)
{
    int height, width, channels;
    float mean[AT_CACHE_MAX_CHANNELS], deviation[AT_CACHE_MAX_CHANNELS];
    at_cache_shape(l->spec.cache, &height, &width, &channels);
    at_cache_statistics(l->spec.cache, mean, deviation);
    l->sample_bytes = (size_t)height * (size_t)width * (size_t)channels;
    l->augmenter = at_augmenter_new(&l->spec.augment, l->spec.sampler.seed, height, width, channels,
                                    mean, err);
    return l->augmenter ? 0 : AT_EINPUT;
}

static int new_sampler(at_loader *l, at_error *err)
{
    at_sampler_spec spec = l->spec.sampler;
    spec.labels = at_cache_labels(l->spec.cache, l->spec.split);
    spec.classes = at_cache_classes(l->spec.cache);
    l->sampler = at_sampler_new(&spec, err);
    return l->sampler ? 0 : AT_EINPUT;
}

/* n numbers of four bytes; on failure NULL, and *failed is set. */
static void *numbers(size_t n, bool *failed)
{
    void *all = at_alloc_aligned(n * sizeof(uint32_t));
    *failed |= !all;
    return all;
}

static bool alloc_slot(slot *s, size_t batch, size_t bytes, bool mixes)
{
    bool failed = false;
    s->pixels = at_alloc_aligned(bytes);
    s->labels = numbers(batch, &failed);
    s->weights = numbers(batch, &failed);
    s->ids = numbers(batch, &failed);
    s->keys = numbers(batch, &failed);
    if (mixes) {
        s->other_labels = numbers(batch, &failed);
        s->shares = numbers(batch, &failed);
        s->other_ids = numbers(batch, &failed);
        s->other_keys = numbers(batch, &failed);
    }
    return s->pixels && !failed;
}

static void free_slot(slot *s)
{
    void *const all[] = {s->pixels, s->labels,       s->weights,   s->ids,       s->keys,
                         s->shares, s->other_labels, s->other_ids, s->other_keys};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        at_free_aligned(all[i]);
}

static int alloc_slots(at_loader *l, at_error *err)
{
    size_t batch = l->spec.sampler.batch, bytes;
    bool mixes = at_augmenter_mixes(l->augmenter);
    if (!at_mul(batch, l->sample_bytes, SIZE_MAX / 2, &bytes))
        return at_nomem(err);
    l->slot = calloc(l->slots, sizeof *l->slot);
    if (!l->slot)
        return at_nomem(err);
    for (size_t i = 0; i < l->slots; i++)
        if (!alloc_slot(&l->slot[i], batch, bytes, mixes))
            return at_nomem(err);
    size_t scratch = at_augmenter_scratch(l->augmenter);
    for (int i = 0; i < l->spec.threads; i++) {
        worker *w = &l->worker[i];
        w->loader = l;
        w->reader = at_reader_new(l->spec.cache, err);
        w->scratch = at_alloc_aligned(scratch ? scratch : 1);
        w->other = at_alloc_aligned(mixes ? l->sample_bytes : 1);
        if (!w->reader || !w->scratch || !w->other)
            return at_nomem(err);
    }
    return 0;
}

/* Where to begin; a step past the epoch's last is the next epoch's first. */
static void set_start(at_loader *l)
{
    l->epoch = l->spec.first_epoch;
    l->step = l->spec.first_step;
    if (at_sampler_steps(l->sampler) == 0) {
        l->epoch = l->spec.epochs;
    } else if (l->step >= at_sampler_steps(l->sampler)) {
        l->epoch++;
        l->step = 0;
    }
}

at_loader *at_loader_new(const at_loader_spec *spec, at_error *err)
{
    at_loader_spec resolved = *spec;
    if (resolve_spec(&resolved, err))
        return NULL;
    size_t threads = (size_t)resolved.threads;
    at_loader *l = calloc(1, sizeof *l + threads * sizeof l->worker[0]);
    if (!l) {
        at_nomem(err);
        return NULL;
    }
    l->spec = resolved;
    size_t ahead = (size_t)resolved.depth;
    l->slots = (ahead > threads ? ahead : threads) + 1; /* and the one that the caller has */
    pthread_mutex_init(&l->mutex, NULL);
    pthread_cond_init(&l->space, NULL);
    pthread_cond_init(&l->ready, NULL);
    if (new_augmenter(l, err) || new_sampler(l, err) || alloc_slots(l, err))
        goto fail;
    set_start(l);
    if (start_threads(l, err))
        goto fail;
    return l;
fail:
    at_loader_free(l);
    return NULL;
}

void at_loader_free(at_loader *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->mutex);
    l->stop = true;
    pthread_cond_broadcast(&l->space);
    pthread_mutex_unlock(&l->mutex);
    for (int i = 0; i < l->threads; i++)
        pthread_join(l->worker[i].thread, NULL);
    for (int i = 0; i < l->spec.threads; i++) {
        at_reader_free(l->worker[i].reader);
        at_free_aligned(l->worker[i].scratch);
        at_free_aligned(l->worker[i].other);
    }
    for (size_t i = 0; l->slot && i < l->slots; i++)
        free_slot(&l->slot[i]);
    free(l->slot);
    at_sampler_free(l->sampler);
    at_augmenter_free(l->augmenter);
    pthread_cond_destroy(&l->ready);
    pthread_cond_destroy(&l->space);
    pthread_mutex_destroy(&l->mutex);
    free(l);
}

/* ---- using one ----------------------------------------------------------------------------- */

size_t at_loader_steps(const at_loader *l)
{
    return at_sampler_steps(l->sampler);
}

double at_loader_waited(const at_loader *l)
{
    return l->waited;
}

/* Slot `given` when it is ready, NULL at the end; called with the mutex held. */
static const slot *await_slot(at_loader *l)
{
    const slot *s = &l->slot[l->given % l->slots];
    if (l->given < l->taken && s->ready)
        return s;
    double begin = at_now();
    while (!(l->given < l->taken && s->ready) && !(l->given == l->taken && at_end(l)))
        pthread_cond_wait(&l->ready, &l->mutex);
    l->waited += at_now() - begin;
    return l->given < l->taken ? s : NULL;
}

int at_loader_next(at_loader *l, at_batch *out, at_error *err)
{
    pthread_mutex_lock(&l->mutex);
    if (l->held) {
        l->given++;
        l->held = false;
        /* not for each slot: to wake a thread costs as much as to load some pictures */
        if (l->taken - l->given <= l->slots / 2)
            pthread_cond_broadcast(&l->space);
    }
    const slot *s = await_slot(l);
    pthread_mutex_unlock(&l->mutex);
    if (!s)
        return 0;
    if (s->err.code)
        return at_fail(err, s->err.code, "%s", s->err.message);
    l->held = true;
    *out = (at_batch){
        .pixels = s->pixels,
        .labels = s->labels,
        .weights = s->weights,
        .ids = s->ids,
        .keys = s->keys,
        .other_labels = s->other_labels,
        .shares = s->shares,
        .real = s->real,
        .epoch = s->epoch,
        .step = s->step,
    };
    return 1;
}
