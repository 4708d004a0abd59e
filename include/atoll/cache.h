/* SPDX-License-Identifier: Apache-2.0
 * cache: decoded pictures on node-local disk, mapped, and the loader that turns them into batches.
 *
 *     at_cache_spec size = {.frame = {.height = 32, .width = 32, .channels = 3}};
 *     at_cache *c = at_cache_open("data/photos", &size, &err);
 *     at_loader_spec how = {.cache = c, .split = AT_TRAIN, .sampler = {.ranks = 1, .batch = 64}};
 *     at_loader *l = at_loader_new(&how, &err);
 *     while (at_loader_next(l, &batch, &err) == 1) ...
 *
 * The plan of samples: for N samples and R ranks every rank has equal steps, each sample is used
 * exactly once an epoch (padding has weight 0), or as often as its class says; the order depends on
 * seed and epoch alone, augmentation on (seed, epoch, sample id). Global step t takes
 * order[t*R*B .. (t+1)*R*B); rank r the r-th B of these: 1 x 256 and 4 x 64 see the same.
 */
#ifndef ATOLL_CACHE_H
#define ATOLL_CACHE_H

#include <atoll/datasets.h>

/* ---- the batch cache (open.c, folder.c, cache.c, cache_file.c, fill.c, mend.c, site.c, evict.c) */
/* How pictures lie in a cache: decoded and fitted, or as their files' bytes, which are decoded when
 * they are read, for data sets that decoded do not fit the disk. */
#define AT_FORM_WORDS(X)                                                                           \
    X(UINT8, "uint8")                                                                              \
    X(ENCODED, "encoded")
typedef enum {
#define X(name, text) AT_FORM_##name,
    AT_FORM_WORDS(X)
#undef X
        AT_FORMS
} at_form;
#define AT_FORM_CHOICES "uint8|encoded"
const char *at_form_name(at_form form);
int at_form_parse(const char *name, at_form *out, at_error *err);

/* What of a cache people choose, for training and for `atoll cache build`: X(type, field, kind of
 * option, default, help, ...); fields of at_cache_keys. */
#define AT_CACHE_KEYS(X)                                                                           \
    X(char *, size, AT_OPT_STRING, "auto",                                                         \
      "height and width of the network's input; auto: the data set's usual picture", "HxW")        \
    X(int64_t, channels, AT_OPT_INT, "0", "1: grey, 3: RGB; 0: 1 where every picture is grey",     \
      "N", .min = 0, .max = 3)                                                                     \
    X(char *, fit, AT_OPT_CHOICE, "auto",                                                          \
      "how pictures come to that size: stretch (auto); crop: their middle; letterbox: all of "     \
      "them, with black bars",                                                                     \
      .choices = "auto|" AT_FIT_CHOICES)                                                           \
    X(char *, form, AT_OPT_CHOICE, "auto",                                                         \
      "of the cache: uint8 (auto): decoded; encoded: as the files have them, decoded when read",   \
      .choices = "auto|" AT_FORM_CHOICES)
typedef struct at_cache_keys {
#define X(type, field, ...) type field;
    AT_CACHE_KEYS(X)
#undef X
} at_cache_keys;

typedef struct at_cache_spec {
    at_frame frame; /* height, width, channels 0: at_dataset_shape */
    at_form form;
    const char *dir;      /* where caches are made; NULL: by the environment, see folder.c */
    uint64_t limit_bytes; /* of all caches under dir: least recently used ones go; 0: 20 GiB */
    int threads;          /* for filling; 0: one a CPU */
    at_frames *frames; /* of this frame, from the data set's ingest, or NULL: what is there is
                              * not decoded again */
} at_cache_spec;
/* Sets frame and form, auto as 0; AT_EINPUT names the key. */
int at_cache_spec_read(const at_cache_keys *keys, at_cache_spec *out, at_error *err);
typedef struct at_cache at_cache;
/* Opens the cache of (data set's hash, spec) under dir, filling it first if it is not there (one
 * filler a node, others wait); a broken one is made again. Interrupted: AT_EINTERRUPTED. */
at_cache *at_cache_open(const char *dataset, const at_cache_spec *spec, at_error *err);
/* For an ingest whose data set's cache at_cache_open is to fill, with the same spec, which has height
 * and width: on the disk where that cache will lie. The caller's; NULL: why in err. */
at_frames *at_cache_frames(const at_cache_spec *spec, at_error *err);
/* Fills an explicit folder. A cache that is there stays if it is this one; what is there is
 * replaced only if nothing but a cache lies in it, otherwise AT_EINPUT. */
int at_cache_build(const char *dataset, const at_cache_spec *spec, const char *out, at_error *err);
/* Opens an explicit folder; AT_EINPUT where it is of another data set (hash NULL: any). */
at_cache *at_cache_open_at(const char *path, const char *dataset_hash, at_error *err);
/* From now on a batch that is damaged is made again from this data set when it is met, as it is
 * for caches of at_cache_open. Before any reader. */
int at_cache_set_source(at_cache *c, const char *dataset, at_error *err);
typedef struct at_cache_damage {
    uint64_t batches, bad; /* looked at, damaged */
    uint64_t mended;       /* of the damaged ones: by repair */
    bool rebuilt;          /* repair made the whole cache again */
} at_cache_damage;
/* Checks every byte against its CRC32C, and with a data set (or NULL) every batch against making it
 * anew. AT_EINPUT: err names the first that is damaged. */
int at_cache_verify(const char *path, const char *dataset, int threads, at_cache_damage *found,
                    at_error *err);
/* Makes damaged batches again from the data set, or the whole cache where more than that is
 * broken. What comes out is byte for byte what at_cache_build makes. */
int at_cache_repair(const char *path, const char *dataset, int threads, at_cache_damage *found,
                    at_error *err);
void at_cache_close(at_cache *c);
at_node *at_cache_describe(const at_cache *c); /* for `atoll cache info` */
const char *at_cache_path(const at_cache *c);
void at_cache_dataset(const at_cache *c,
                      char hash[65]); /* at_dataset_hash of what it was made from */
at_frame at_cache_frame(const at_cache *c);
at_form at_cache_form(const at_cache *c);
void at_cache_shape(const at_cache *c, int *height, int *width, int *channels);
size_t at_cache_count(const at_cache *c, at_split split);
size_t at_cache_classes(const at_cache *c);
const char *at_cache_class_name(const at_cache *c, size_t label);
/* Per-channel mean and deviation (at least 1/255) of the train split in 0..1; [channels]. */
void at_cache_statistics(const at_cache *c, float *mean, float *deviation);
/* How many of a rank's threads its loader takes: one, or all of them where it decodes. */
int at_cache_loader_threads(const at_cache *c, int threads);
/* All labels of a split, [count], checked when the cache was opened. */
const int32_t *at_cache_labels(const at_cache *c, at_split split);

/* A thread's own way to a cache's samples (reader.c): it has a decoder where they are kept encoded. */
typedef struct at_reader at_reader;
at_reader *at_reader_new(at_cache *c, at_error *err);
void at_reader_free(at_reader *r);
enum { AT_READER_KEPT = 8 };
/* [H,W,C] pixels, which stay as long as they are of the last AT_READER_KEPT calls, and label of sample
 * i. A batch's CRC is checked on its first use: what is damaged is made again from the data set, or
 * AT_EINPUT. */
int at_reader_sample(at_reader *r, at_split split, size_t i, const uint8_t **pixels, int32_t *label,
                     at_error *err);

/* ---- the plan (sampler.c) ------------------------------------------------------------------ */
typedef struct at_sampler_spec {
    size_t samples;      /* N */
    size_t limit;        /* only the first of each epoch's plan; 0: all */
    size_t ranks, batch; /* batch: a rank's */
    uint64_t seed;
    bool shuffle; /* false: 0, 1, 2, ... */
    /* Where class_weights is set, an image of class c is drawn class_weights[c] times as often as
     * one of weight 1, in epochs of the same length. With n_c of N images in class c, class c gets
     * N * n_c*w_c / sum(n*w) places of the plan, and each of its images the n_c-th part of these,
     * both rounded up or down anew each epoch. Always shuffled. */
    const double *class_weights; /* [classes]; NULL: each sample once; _new alone reads both */
    const int32_t *labels;       /* [samples], 0 <= label < classes */
    size_t classes;
} at_sampler_spec;
typedef struct at_sampler at_sampler;
at_sampler *at_sampler_new(const at_sampler_spec *spec, at_error *err);
size_t at_sampler_steps(const at_sampler *s);            /* of an epoch, the same for every rank */
int at_sampler_set_epoch(at_sampler *s, uint64_t epoch); /* 0: it cannot fail */
size_t at_sampler_used(const at_sampler *s); /* places of an epoch's plan: real samples */
/* A place of the epoch's plan: the sample, and the key of what is random about it, which is the id
 * + N * how many times the id came before in the epoch (modulo 2^32): equal samples differ. */
void at_sampler_place(const at_sampler *s, size_t place, uint32_t *id, uint32_t *key);
/* ids, keys and weights of `rank` in `step`, [batch] each; weight 0 marks padding (id and key 0).
 * Returns how many are real. */
size_t at_sampler_batch(const at_sampler *s, size_t step, size_t rank, uint32_t *ids,
                        uint32_t *keys, float *weights);
void at_sampler_free(at_sampler *s);

/* ---- augmentation (augment.c, augment_*.c by augments.def): pure in (seed, epoch, key) -------
 * Its keys, X(type, field, kind of option, default, help, ...): fields of at_augment, and as
 * augment.<field> keys of training. All 0 or "false": nothing is done. */
#define AT_AUGMENT_KEYS(X)                                                                         \
    X(char *, flip, AT_OPT_CHOICE, "false",                                                        \
      "mirror left-right: true or random: half of the images; alternate: each in every other "     \
      "epoch",                                                                                     \
      .choices = "false|true|random|alternate")                                                    \
    X(int64_t, shift, AT_OPT_INT, "0", "crop at up to this many pixels aside, edges reflected",    \
      "PIXELS", .max = 1024)                                                                       \
    X(double, crop, AT_OPT_REAL, "0",                                                              \
      "enlarge a random part of at least this share of the area, such as 0.25; 0: off", "SHARE",   \
      .max = 1)                                                                                    \
    X(double, crop_most, AT_OPT_REAL, "1", "crop: and at most this share of the area", "SHARE",    \
      .max = 1)                                                                                    \
    X(double, crop_ratio, AT_OPT_REAL, "1.3333", "crop: its width to height is between 1/R and R", \
      "R", .min = 1, .max = 100)                                                                   \
    X(int64_t, cutout, AT_OPT_INT, "0", "paint over a square of this side, with the mean colour",  \
      "PIXELS", .max = 16384)                                                                      \
    X(double, brightness, AT_OPT_REAL, "0", "times a factor between 1-X and 1+X", "X", .max = 100) \
    X(double, contrast, AT_OPT_REAL, "0", "away from the mean grey, by a factor in 1-X..1+X", "X", \
      .max = 100)                                                                                  \
    X(double, saturation, AT_OPT_REAL, "0", "away from grey, by a factor in 1-X..1+X", "X",        \
      .max = 100)                                                                                  \
    X(double, hue, AT_OPT_REAL, "0", "turn colours by up to this part of the circle", "X",         \
      .max = 0.5)                                                                                  \
    X(double, mixup, AT_OPT_REAL, "0",                                                             \
      "blend with another image, and the labels likewise, by Beta(A, A); 0: off", "A", .max = 100) \
    X(double, cutmix, AT_OPT_REAL, "0",                                                            \
      "put in a rectangle of another image, labels by area of Beta(A, A); 0: off", "A",            \
      .max = 100)
typedef struct at_augment {
#define X(type, field, ...) type field;
    AT_AUGMENT_KEYS(X)
#undef X
} at_augment;
typedef struct at_augmenter at_augmenter;
/* For pictures [H,W,C] whose mean colour is `mean`, 0..1 a channel. Strings of keys are borrowed.
 * AT_EINPUT where keys contradict each other or the pictures. */
at_augmenter *at_augmenter_new(const at_augment *keys, uint64_t seed, int height, int width,
                               int channels, const float *mean, at_error *err);
void at_augmenter_free(at_augmenter *a);
size_t at_augmenter_scratch(const at_augmenter *a); /* bytes that a thread gives to apply() */
/* in and out are [H,W,C] and do not overlap. next: the picture that will come after this one, whose
 * beginning is brought into the processor's cache meanwhile; or NULL. */
void at_augmenter_apply(const at_augmenter *a, uint64_t epoch, uint32_t key, const uint8_t *in,
                        uint8_t *out, void *scratch, const uint8_t *next);
bool at_augmenter_mixes(const at_augmenter *a); /* whether samples are mixed with others */
/* Mixes the other one, augmented too, into pixels; returns the share that pixels keep: the loss is
 * share * loss(own label) + (1 - share) * loss(the other's label). */
float at_augmenter_mix(const at_augmenter *a, uint64_t epoch, uint32_t key, uint8_t *pixels,
                       const uint8_t *other);

/* ---- the loader (loader.c): threads fill a bounded ring of batches ahead of the trainer ---- */
typedef struct at_batch {
    const uint8_t *pixels; /* [B,H,W,C]; padding is zeros */
    const int32_t *labels; /* [B] */
    const float *weights;  /* [B] 1 or 0 */
    const uint32_t *ids;   /* [B] */
    const uint32_t *keys;  /* [B] at_sampler_place */
    /* Where samples are mixed with others, else NULL: their labels, and what the own ones keep. */
    const int32_t *other_labels; /* [B] */
    const float *shares;         /* [B] */
    size_t real;                 /* how many have weight 1 */
    uint64_t epoch, step;
} at_batch;
typedef struct at_loader_spec {
    at_cache *cache; /* borrowed */
    at_split split;
    at_sampler_spec sampler; /* .samples 0: the split's; labels are the cache's */
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
