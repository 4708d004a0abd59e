/* SPDX-License-Identifier: Apache-2.0
 * What the files of cache share: the file format, a folder being opened, filled and kept.
 */
#ifndef ATOLL_CACHE_INTERNAL_H
#define ATOLL_CACHE_INTERNAL_H

#include "atoll/cache.h"

#include <pthread.h>
#include <stdatomic.h>

/* ---- one split's file (cache_file.c, where the format is described) ------------------------ */
enum {
    /* 1 held photographs as they were stored, not upright; 2 knew one form and one way to fit */
    AT_CACHE_VERSION = 3,
    AT_CACHE_PAGE = 4096,
    AT_CACHE_KEY = 16,              /* digits of the data set's hash that name a cache */
    AT_CACHE_BATCH = 256,           /* decoded samples of a batch, ... */
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
    uint64_t batches, data_bytes, data_offset, file_bytes;
    uint32_t table_crc;
    uint16_t fit, form;    /* at_fit, at_form */
    char dataset_hash[64]; /* hex, zeros after it */
} at_cache_header;

/* The part between header and batches. */
typedef struct at_cache_table {
    uint32_t *crcs;  /* [batches] */
    int32_t *labels; /* [samples] */
    uint64_t *ends;  /* [samples] of encoded ones, counted from data_offset; else NULL */
} at_cache_table;

typedef struct at_cache_file {
    at_cache_header header;
    char *path;
    int fd;
    const uint8_t *map;   /* the whole file */
    const uint32_t *crcs; /* in it, as the next two: see at_cache_table */
    const int32_t *labels;
    const uint64_t *ends;
    size_t sample_bytes;       /* decoded */
    _Atomic uint64_t *checked; /* a bit a batch: its CRC was right */
} at_cache_file;

/* Fills in magic, version, batch_samples and the layout from split, frame, form, classes, samples
 * and, of encoded samples, data_bytes. AT_EINPUT where they are out of bounds; path is for the
 * message. */
int at_cache_header_layout(at_cache_header *h, const char *path, at_error *err);
at_frame at_cache_header_frame(const at_cache_header *h);
size_t at_cache_sample_bytes(const at_cache_header *h);
size_t at_cache_batch_bytes(const at_cache_header *h); /* of decoded samples */
/* Writes header and table in front of the batches; sets table_crc. */
int at_cache_file_finish(int fd, const char *path, at_cache_header *h, const at_cache_table *table,
                         at_error *err);
int at_cache_write(int fd, const char *path, const void *data, size_t bytes, uint64_t offset,
                   at_error *err);
/* Opens, checks everything but the batches, maps, and locks against eviction until closed.
 * AT_ENOENT where the file is missing or just being removed. */
int at_cache_file_open(at_cache_file *f, const char *folder, at_split split, at_error *err);
void at_cache_file_close(at_cache_file *f);
/* Reads and checks the header alone; false: there is none of this version. */
bool at_cache_header_read(const char *folder, at_split split, at_cache_header *out);
/* Where batch b lies. */
void at_cache_file_batch(const at_cache_file *f, size_t b, uint64_t *offset, size_t *bytes);
/* Checks a batch's CRC; the second time it is known. */
int at_cache_file_check(at_cache_file *f, size_t batch, at_error *err);

/* ---- augmentation (augment.c; one file augment_<name>.c and one row AUGMENT(name) each) ------ */
/* Where the pixels of an augmented picture come from: a box of the (mirrored) picture, which may
 * reach over its edges, where it is reflected about the outermost pixel; enlarged to the picture's
 * size where it is smaller. */
typedef struct at_view {
    int height, width, channels; /* of the pictures */
    bool mirrored;
    int top, left, box_height, box_width; /* a smaller box lies inside */
    const uint8_t *next; /* picture, or NULL: its beginning is brought into the processor's cache */
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

/* ---- a folder (cache.c, reader.c) ----------------------------------------------------------- */
struct at_cache {
    char *path;
    char *source; /* the data set that damaged batches are made from; NULL: not told */
    at_cache_file file[AT_SPLITS];
    at_node *meta;
    const char **class_names; /* in meta */
    float mean[AT_CACHE_MAX_CHANNELS], deviation[AT_CACHE_MAX_CHANNELS];
    pthread_mutex_t mending; /* one thread mends */
};
/* As at_cache_open_at; AT_ENOENT only where there is no such folder. */
at_cache *at_cache_open_folder(const char *path, const char *dataset_hash, at_error *err);
/* Notes that a batch of the cache at path is damaged, or no longer; it still opens by its path. */
void at_cache_mark(const char *path, bool damaged);
bool at_cache_is_marked(const char *path);
/* Nothing is there, or a folder that holds at most a cache's files (open.c). */
bool at_cache_may_replace(const char *path);
/* Where caches are made, malloc'd (folder.c): remote tells whether a folder is another machine's. */
char *at_cache_folder(const at_cache_spec *spec, bool (*remote)(const char *path), at_error *err);
bool at_folder_is_remote(const char *path); /* or its nearest parent that is there */

/* ---- filling (fill.c), batch by batch (make.c) ---------------------------------------------- */
typedef struct at_cache_plan {
    const at_dataset *dataset;
    at_frame frame;
    at_form form;
    int threads;
    at_frames *frames;                 /* or NULL */
    at_cache_header header[AT_SPLITS]; /* laid out */
    uint64_t bytes;                    /* of all files, meta.json aside */
} at_cache_plan;
int at_cache_plan_init(at_cache_plan *p, const at_dataset *dataset, const at_cache_spec *spec,
                       at_error *err);
/* Whether the disk of this folder has room for all of it, or that is not known. */
bool at_cache_fits(const at_cache_plan *p, const char *path);
/* Fills the new folder `path` completely and syncs it; what it leaves on failure the caller
 * removes. */
int at_cache_fill(at_cache_plan *p, const char *path, at_error *err);

/* Sums of the train split's pixels and of their squares; they add in any order. */
typedef struct at_cache_sums {
    uint64_t pixels; /* of a channel */
    uint64_t value[AT_CACHE_MAX_CHANNELS], square[AT_CACHE_MAX_CHANNELS];
} at_cache_sums;
void at_cache_sums_add(at_cache_sums *to, const at_cache_sums *from);
/* meta.json, malloc'd: it depends on the plan and these alone. */
char *at_cache_meta(const at_cache_plan *p, const at_cache_sums *train);

/* A thread that makes batches as they lie on disk. */
typedef struct at_cache_maker {
    const at_cache_plan *plan;
    const atomic_bool *stop; /* another thread has failed; or NULL */
    at_decoder *decoder;
    uint8_t *room;      /* a batch of decoded samples, or one */
    at_cache_sums sums; /* of all that it made of the train split */
    /* The batch: */
    const uint8_t *data; /* in room, or in the data set */
    size_t bytes, samples;
    int32_t labels[AT_CACHE_BATCH];
} at_cache_maker;
int at_cache_maker_init(at_cache_maker *m, const at_cache_plan *p, const atomic_bool *stop,
                        at_error *err);
void at_cache_maker_fini(at_cache_maker *m);
/* Stopped or interrupted: AT_EINTERRUPTED. */
int at_cache_maker_make(at_cache_maker *m, at_split split, size_t batch, at_error *err);
/* Makes a batch that is damaged again from c->source, in its place. */
int at_cache_mend(at_cache *c, at_split split, size_t batch, at_error *err);

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
/* That may be written under dir; all there are where that is not known. */
uint64_t at_cache_free_bytes(const char *dir);
#endif
