/* SPDX-License-Identifier: Apache-2.0
 * What the files of cache share: the file format, a folder being opened, filled and kept.
 */
#ifndef ATOLL_CACHE_INTERNAL_H
#define ATOLL_CACHE_INTERNAL_H

#include "atoll/cache.h"

#include <stdatomic.h>

/* ---- one split's file (cache_file.c, where the format is described) ------------------------ */
enum {
    AT_CACHE_VERSION = 2, /* 1 held photographs as they were stored, not upright */
    AT_CACHE_PAGE = 4096,
    AT_CACHE_KEY = 16,              /* digits of the data set's hash that name a cache */
    AT_CACHE_BATCH = 256,           /* samples of a batch, ... */
    AT_CACHE_BATCH_BYTES = 4 << 20, /* ... halved until their pixels are at most this */
    AT_CACHE_MAX_SIDE = 16384,      /* height and width */
    AT_CACHE_MAX_CHANNELS = 3,
    AT_CACHE_MAX_CLASSES = 1 << 20,
};

/* The header as it lies on disk, little-endian; the rest of its page is zeros and the CRC. */
typedef struct at_cache_header {
    char magic[8];
    uint32_t version, split;
    uint32_t height, width, channels, classes;
    uint64_t samples;
    uint32_t batch_samples;
    uint32_t meta_crc; /* of meta.json */
    uint64_t batches, batch_bytes, data_offset, file_bytes;
    uint32_t table_crc, reserved;
    char dataset_hash[64]; /* hex, zeros after it */
} at_cache_header;

typedef struct at_cache_file {
    at_cache_header header;
    char *path;
    int fd;
    const uint8_t *map;                 /* the whole file */
    size_t sample_bytes, labels_offset; /* labels: in a batch */
    _Atomic uint64_t *checked;          /* a bit a batch: its CRC was right */
} at_cache_file;

/* Fills in magic, version, batch_samples and the layout from split, shape, classes and samples.
 * AT_EINPUT where they are out of bounds; path is for the message. */
int at_cache_header_layout(at_cache_header *h, const char *path, at_error *err);
size_t at_cache_sample_bytes(const at_cache_header *h);
size_t at_cache_labels_offset(const at_cache_header *h); /* in a batch */
/* Writes header and table (a CRC a batch) in front of the batches; sets table_crc. */
int at_cache_file_finish(int fd, const char *path, at_cache_header *h, const uint32_t *crcs,
                         at_error *err);
int at_cache_write(int fd, const char *path, const void *data, size_t bytes, uint64_t offset,
                   at_error *err);
/* Opens, checks everything but the batches, maps, and locks against eviction until closed.
 * AT_ENOENT where the file is missing or just being removed. */
int at_cache_file_open(at_cache_file *f, const char *folder, at_split split, at_error *err);
void at_cache_file_close(at_cache_file *f);
/* Checks a batch's CRC and its labels; the second time it is known. */
int at_cache_file_check(at_cache_file *f, size_t batch, at_error *err);

/* ---- augmentation (augment.c; one file augment_<name>.c and one row AUGMENT(name) each) ------ */
/* Where the pixels of an augmented picture come from: a box of the (mirrored) picture, which may
 * reach over its edges, where it is reflected about the outermost pixel; enlarged to the picture's
 * size where it is smaller. */
typedef struct at_view {
    int height, width, channels; /* of the pictures */
    bool mirrored;
    int top, left, box_height, box_width; /* a smaller box lies inside */
} at_view;
/* How rows move for every `left` in [-reach, reach], mirrored or not, worked out beforehand. *out is
 * NULL where that is of no use: rows too long, or no instructions for it. */
typedef struct at_row_moves at_row_moves;
int at_row_moves_new(int width, int channels, int reach, at_row_moves **out, at_error *err);
void at_row_moves_free(at_row_moves *m);
/* [H,W,C] to [H,W,C]; moves: of this width and channels, or NULL; scratch: at_view_scratch() bytes
 * for a smaller box, else unused. */
void at_view_move(const at_view *v, const at_row_moves *moves, const uint8_t *in, uint8_t *out,
                  void *scratch);
size_t at_view_scratch(int height, int width, int channels);
/* view_scaled.c: bilinear between centres of pixels, as torchvision's resize. */
void at_view_enlarge(const at_view *v, const uint8_t *in, uint8_t *out, void *scratch);

struct at_augmenter {
    at_augment keys;
    uint64_t seed;
    int height, width, channels;
    uint8_t mean[AT_CACHE_MAX_CHANNELS];
    const struct at_augment_kind **kinds; /* that are wanted, in the table's order; NULL ends */
    size_t mixers;                        /* of these */
    at_row_moves *moves;                  /* for flip and shift */
};
/* One sample on its way: what an augmentation draws from. */
typedef struct at_draw {
    const at_augmenter *a;
    uint64_t epoch;
    uint32_t key;
    at_rng rng; /* of (seed, the augmentation's name, epoch, key) */
} at_draw;
typedef struct at_augment_kind {
    const char *name;
    /* 1: the keys ask for it, 0: they do not; AT_EINPUT: it cannot be. */
    int (*wanted)(const at_augmenter *a, at_error *err);
    /* One of these: places the view, paints over pixels [H,W,C], or mixes another sample's into
     * them and returns the share that they keep. */
    void (*place)(at_draw *d, at_view *view);
    void (*paint)(at_draw *d, uint8_t *pixels, void *scratch);
    float (*mix)(at_draw *d, uint8_t *pixels, const uint8_t *other);
    size_t (*scratch)(const at_augmenter *a); /* bytes for place or paint; NULL: none */
} at_augment_kind;
/* augment_colour.c: what the steps do, and in which order. */
enum { AT_BRIGHTNESS, AT_CONTRAST, AT_SATURATION, AT_HUE, AT_COLOUR_STEPS };
typedef struct at_colour {
    float amount[AT_COLOUR_STEPS]; /* factors; of hue a part of the circle */
    uint32_t order[AT_COLOUR_STEPS];
} at_colour;
void at_colour_draw(const at_augment *keys, at_rng *rng, at_colour *out);
/* n pixels of 1 or 3 channels; scratch [3][n]. */
void at_colour_paint(const at_colour *c, uint8_t *pixels, int channels, size_t n, float *scratch);
/* Beta(a, a) in [0, 1]. */
double at_draw_beta(at_rng *rng, double a);

/* ---- a folder (cache.c) -------------------------------------------------------------------- */
/* As at_cache_open_at; AT_ENOENT only where there is no such folder. */
at_cache *at_cache_open_folder(const char *path, const char *dataset_hash, at_error *err);
bool at_cache_has_shape(const at_cache *c, int height, int width, int channels);
/* Notes that a batch of the cache at path is damaged; it still opens by its path. */
void at_cache_mark(const char *path);
bool at_cache_is_marked(const char *path);

/* ---- filling (fill.c) ---------------------------------------------------------------------- */
typedef struct at_cache_plan {
    const at_dataset *dataset;
    int height, width, channels;
    int threads;
    at_cache_header header[AT_SPLITS]; /* laid out */
    uint64_t bytes;                    /* of all files, meta.json aside */
} at_cache_plan;
int at_cache_plan_init(at_cache_plan *p, const at_dataset *dataset, const at_cache_spec *spec,
                       at_error *err);
/* Fills the new folder `path` completely and syncs it; what it leaves on failure the caller
 * removes. */
int at_cache_fill(at_cache_plan *p, const char *path, at_error *err);

/* ---- folders coming and going (site.c, evict.c) -------------------------------------------- */
/* Where a folder is made: CACHE -> <parent>/.<name>.lock, <parent>/<name>.partial.<pid>. */
typedef struct at_cache_site {
    char *path, *parent, *name; /* path = parent/name */
    char *partial, *outdated;   /* where it is filled; where the one that it replaces goes */
    at_lock *lock;
} at_cache_site;
int at_cache_site_init(at_cache_site *s, const char *path, at_error *err); /* makes the parent */
void at_cache_site_fini(at_cache_site *s);                                 /* unlocks */
int at_cache_site_lock(at_cache_site *s, bool wait, at_error *err);
/* With the lock held: removes what killed fillers left; fills and moves the folder to its name,
 * replacing what is there; removes it. */
int at_cache_site_sweep(const at_cache_site *s, at_error *err);
int at_cache_site_fill(const at_cache_site *s, at_cache_plan *p, at_error *err);
int at_cache_site_remove(const at_cache_site *s, at_error *err);

/* Removes caches under dir, least recently used first, until `needed` more bytes fit the limit;
 * never one that is open. Not being able to is no error. */
int at_cache_evict(const char *dir, const char *keep, uint64_t needed, uint64_t limit,
                   at_error *err);
void at_cache_touch(const char *path); /* notes its use for eviction */
#endif
