/* SPDX-License-Identifier: Apache-2.0
 * cache: decoded pictures on node-local disk, mapped, and the loader that turns them into batches.
 *
 *     at_cache_spec size = {.height = 32, .width = 32, .channels = 3};
 *     at_cache *c = at_cache_open("data/photos", &size, &err);
 *     at_loader_spec how = {.cache = c, .split = AT_TRAIN, .sampler = {.ranks = 1, .batch = 64}};
 *     at_loader *l = at_loader_new(&how, &err);
 *     while (at_loader_next(l, &batch, &err) == 1) ...
 *
 * The plan of samples: for N samples and R ranks every rank has equal steps, each sample is used
 * exactly once an epoch (padding has weight 0), the order depends on seed and epoch alone,
 * augmentation on (seed, epoch, sample id). Global step t takes order[t*R*B .. (t+1)*R*B); rank r
 * the r-th B of these: 1 x 256 and 4 x 64 see the same.
 */
#ifndef ATOLL_CACHE_H
#define ATOLL_CACHE_H

#include <atoll/datasets.h>

/* ---- the batch cache (open.c, cache.c, cache_file.c, fill.c, site.c, evict.c) -------------- */
typedef struct at_cache_spec {
    int height, width, channels; /* 0: at_dataset_shape */
    const char *dir; /* NULL: $ATOLL_CACHE_DIR, else $XDG_CACHE_HOME/atoll, else ~/.cache/atoll */
    uint64_t limit_bytes; /* of all caches under dir: least recently used ones go; 0: 20 GiB */
    int threads;          /* for filling; 0: one a CPU */
} at_cache_spec;
typedef struct at_cache at_cache;
/* Opens the cache of (data set's hash, spec) under dir, filling it first if it is not there (one
 * filler a node, others wait); a broken one is made again. Interrupted: AT_EINTERRUPTED. */
at_cache *at_cache_open(const char *dataset, const at_cache_spec *spec, at_error *err);
/* Fills an explicit folder. A cache that is there stays if it is this one; what is there is
 * replaced only if nothing but a cache lies in it, otherwise AT_EINPUT. */
int at_cache_build(const char *dataset, const at_cache_spec *spec, const char *out, at_error *err);
/* Opens an explicit folder; AT_EINPUT where it is of another data set (hash NULL: any). */
at_cache *at_cache_open_at(const char *path, const char *dataset_hash, at_error *err);
/* Checks every batch's CRC32C; bad_batches counts them, err names the first. */
int at_cache_verify(const char *path, uint64_t *batches, uint64_t *bad_batches, at_error *err);
void at_cache_close(at_cache *c);
at_node *at_cache_describe(const at_cache *c); /* for `atoll cache info` */
const char *at_cache_path(const at_cache *c);
void at_cache_shape(const at_cache *c, int *height, int *width, int *channels);
size_t at_cache_count(const at_cache *c, at_split split);
size_t at_cache_classes(const at_cache *c);
const char *at_cache_class_name(const at_cache *c, size_t label);
/* Per-channel mean and deviation (at least 1/255) of the train split in 0..1; [channels]. */
void at_cache_statistics(const at_cache *c, float *mean, float *deviation);
/* [H,W,C] pixels and label of sample i, from any number of threads. A batch's CRC is checked on its
 * first use: a wrong one is AT_EINPUT, and the next at_cache_open makes the cache again. */
int at_cache_sample(at_cache *c, at_split split, size_t i, const uint8_t **pixels, int32_t *label,
                    at_error *err);

/* ---- the plan (sampler.c) ------------------------------------------------------------------ */
typedef struct at_sampler_spec {
    size_t samples;      /* N */
    size_t limit;        /* only the first of each epoch's plan; 0: all */
    size_t ranks, batch; /* batch: a rank's */
    uint64_t seed;
    bool shuffle; /* false: 0, 1, 2, ... */
} at_sampler_spec;
typedef struct at_sampler at_sampler;
at_sampler *at_sampler_new(const at_sampler_spec *spec, at_error *err);
size_t at_sampler_steps(const at_sampler *s); /* of an epoch, the same for every rank */
int at_sampler_set_epoch(at_sampler *s, uint64_t epoch); /* 0: it cannot fail */
/* ids and weights of `rank` in `step`, [batch] each; weight 0 marks padding (id 0). Returns how
 * many are real. */
size_t at_sampler_batch(const at_sampler *s, size_t step, size_t rank, uint32_t *ids,
                        float *weights);
void at_sampler_free(at_sampler *s);

/* ---- augmentation (augment.c): pure in (seed, epoch, id) ----------------------------------- */
typedef struct at_augment {
    bool flip; /* mirror left-right with probability 1/2 */
    int shift; /* crop at up to this many pixels aside, edges reflected */
} at_augment;
/* in and out are [H,W,C] and do not overlap. */
void at_augment_apply(const at_augment *a, uint64_t seed, uint64_t epoch, uint32_t id,
                      const uint8_t *in, int height, int width, int channels, uint8_t *out);

/* ---- the loader (loader.c): threads fill a bounded ring of batches ahead of the trainer ---- */
typedef struct at_batch {
    const uint8_t *pixels; /* [B,H,W,C]; padding is zeros */
    const int32_t *labels; /* [B] */
    const float *weights;  /* [B] 1 or 0 */
    const uint32_t *ids;   /* [B] */
    size_t real;           /* how many have weight 1 */
    uint64_t epoch, step;
} at_batch;
typedef struct at_loader_spec {
    at_cache *cache; /* borrowed */
    at_split split;
    at_sampler_spec sampler; /* .samples 0: the split's */
    size_t rank;
    at_augment augment;
    uint64_t first_epoch, first_step, epochs; /* from here, until epoch `epochs` */
    int threads, depth;                       /* 0: 1 thread, 4 batches ahead */
} at_loader_spec;
typedef struct at_loader at_loader;
at_loader *at_loader_new(const at_loader_spec *spec, at_error *err);
size_t at_loader_steps(const at_loader *l);
/* 1: *out is valid until the next call; 0: the end; negative: error, again on every later call. */
int at_loader_next(at_loader *l, at_batch *out, at_error *err);
double at_loader_waited(const at_loader *l); /* seconds that next() has waited in all */
void at_loader_free(at_loader *l);

#endif
