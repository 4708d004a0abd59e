/* SPDX-License-Identifier: Apache-2.0
 * What the files of datasets/ share: buffers, codecs, sources, shards, the catalog and the plan
 * that ends an ingest.
 */
#ifndef ATOLL_DATASETS_INTERNAL_H
#define ATOLL_DATASETS_INTERNAL_H

#include <atoll/datasets.h>

/* ---- reasons: the fixed words of errors(reason) ---------------------------------------------- */
#define AT_REASONS(X)                                                                              \
    X(TRUNCATED, "truncated")                                                                      \
    X(NOT_AN_IMAGE, "not-an-image")                                                                \
    X(TOO_LARGE, "too-large")                                                                      \
    X(CORRUPT, "corrupt")                                                                          \
    X(UNREADABLE, "unreadable")                                                                    \
    X(UNSUPPORTED, "unsupported")                                                                  \
    X(EMPTY, "empty")                                                                              \
    X(TIMEOUT, "timeout")
typedef enum {
#define X(name, text) AT_REASON_##name,
    AT_REASONS(X)
#undef X
        AT_REASON_COUNT
} at_reason;

/* ---- buffers: grow, keep their memory, never shrink by themselves ---------------------------- */
typedef struct at_buffer {
    uint8_t *data;
    size_t size, capacity;
} at_buffer;
bool at_buffer_reserve(at_buffer *b, size_t capacity); /* false: out of memory, b as before */
bool at_buffer_set(at_buffer *b, const void *data, size_t size); /* a copy; data may not lie in b */
void at_buffer_fini(at_buffer *b);

/* ---- codecs (decode.c calls them) ------------------------------------------------------------ */
typedef enum {
    AT_FORMAT_NONE,
    AT_FORMAT_PNG,
    AT_FORMAT_JPEG,
    AT_FORMAT_RAW,
    AT_FORMAT_FOREIGN
} at_format_id;
enum { AT_SNIFF_BYTES = 16 }; /* as many leading bytes tell the format */
/* ---- limits (limits.c) */
extern const char *const at_limit_keys[]; /* of meta; NULL ends them */
enum { AT_LIMIT_TEXT = 32 };
/* The same with the defaults where it has 0. */
at_decode_limits at_limits_resolved(at_decode_limits limits);
at_decode_limits at_limits_before(void); /* of a data set that tells none */
void at_limit_text(const at_decode_limits *limits, int i, char out[AT_LIMIT_TEXT]); /* of key i */
/* Sets what the key, if it is one of a limit, stands for. */
void at_limit_read(at_decode_limits *limits, const char *key, const char *text);
void at_limits_widen(at_decode_limits *limits, const at_decode_limits *other); /* to hold both */
/* AT_FORMAT_FOREIGN: a picture of a kind that we do not read (GIF, BMP, WebP, TIFF, ...). */
at_format_id at_format_sniff(const void *bytes, size_t size);
const char *at_format_text(at_format_id format); /* "png", "jpeg", "raw" */

/* How a file holds its pixels, before they became 8-bit grey or RGB: blobs(mode). */
#define AT_MODES(X)                                                                                \
    X(GREY, "grey")                                                                                \
    X(GREY_ALPHA, "grey-alpha")                                                                    \
    X(PALETTE, "palette")                                                                          \
    X(RGB, "rgb")                                                                                  \
    X(RGBA, "rgba")                                                                                \
    X(CMYK, "cmyk")
typedef enum {
#define X(name, text) AT_MODE_##name,
    AT_MODES(X)
#undef X
} at_mode;
const char *at_mode_text(at_mode mode);
typedef struct at_stored {
    at_mode mode;
    int depth;         /* bits a channel, of a palette bits an index */
    int width, height; /* upright, in full */
    unsigned part; /* of these sides that the pixels have; 0: the codec knows full pictures alone */
} at_stored;

/* One picture on its way through a codec. */
typedef struct at_decoding {
    const uint8_t *bytes;
    size_t size;
    at_decode_limits limits;
    at_reduction reduction;
    at_buffer *pixels; /* of the decoder */
    at_image *image;
    int orientation;  /* EXIF's, 1..8; the codec's pixels are as stored */
    at_stored stored; /* set by the codec */
    at_reason reason; /* set when something fails */
    at_error *err;
} at_decoding;
/* 1, 2, 4 or 8: of a picture of this size, as stored, and .orientation, that part of its sides is
 * wanted, rounded up. */
unsigned at_decoding_part(const at_decoding *d, size_t width, size_t height);
/* Checks the size against the limits and makes room for that part of it; false: reason and err are
 * set. */
bool at_decoding_begin(at_decoding *d, size_t width, size_t height, int channels, unsigned part);
/* Sets reason and err; returns AT_EINPUT. */
int at_decoding_fail(at_decoding *d, at_reason reason, const char *format, ...) AT_PRINTF(3, 4);

/* Of the picture that was decoded last. */
at_stored at_decoder_stored(const at_decoder *d);
/* Whether it would have come out the same with this reduction. */
bool at_decoder_serves(const at_decoder *d, at_reduction reduction);
int at_png_decode(at_decoding *d);
typedef struct at_jpeg at_jpeg; /* libjpeg's state, kept between pictures */
at_jpeg *at_jpeg_new(void);
int at_jpeg_decode(at_jpeg *jpeg, at_decoding *d);
void at_jpeg_free(at_jpeg *jpeg);

/* The orientation that an EXIF block (from its TIFF header on) tells, 1..8; 1 where it tells none
 * or is damaged. */
int at_exif_orientation(const uint8_t *bytes, size_t size);
/* Writes the upright picture to out->pixels, which has room for in's; sets out's shape. */
void at_image_turn(const at_image *in, int orientation, at_image *out);

/* Our raw form: "ATRW", width, height and channels as little-endian u32, then [H,W,C] bytes. */
enum { AT_RAW_HEADER = 16 };
void at_raw_header(uint8_t out[AT_RAW_HEADER], uint32_t width, uint32_t height, uint32_t channels);
int at_raw_decode(at_decoding *d);

static inline size_t at_frame_bytes(const at_frame *f) /* of any picture in it */
{
    return (size_t)f->height * (size_t)f->width * (size_t)(f->channels ? f->channels : 3);
}

/* So many such pictures as fit these bytes, 1 to most; of height 0, which are none: most. */
static inline size_t at_frames_within(const at_frame *f, size_t bytes, size_t most)
{
    size_t n = f->height ? bytes / at_frame_bytes(f) : most;
    return n < 1 ? 1 : n < most ? n : most;
}

uint32_t at_get_u32(const uint8_t *p); /* little-endian */
uint64_t at_get_u64(const uint8_t *p);
void at_put_u32(uint8_t *p, uint32_t v);
void at_put_u64(uint8_t *p, uint64_t v);

/* ---- statistics of a picture's pixels (pixel_stats.c, picture_look.c), in 0..255 ------------- */
enum { AT_HISTOGRAM_BINS = 16, AT_HISTOGRAM_ONE = 65535 };
typedef struct at_pixel_stats {
    double mean[3], deviation[3];
    int minimum[3], maximum[3];
    /* Of a picture over 0.5 Mpixel these look at every k-th row: */
    uint16_t histogram[3][AT_HISTOGRAM_BINS]; /* shares of the pixels in 1/AT_HISTOGRAM_ONE */
    double entropy;   /* of the histograms, bits a value: 0 to 4, mean of the channels */
    double sharpness; /* variance of the Laplacian of the channels' values */
    uint64_t dhash;   /* which of 9 x 8 areas' grey is lighter than its right neighbour's */
} at_pixel_stats;
void at_pixel_stats_of(const at_image *image, at_pixel_stats *out);
enum {
    AT_LOOK_LANES = 48,    /* a multiple of 1 and 3 channels and of a vector */
    AT_LOOK_COLUMNS = 256, /* at a time */
    AT_LOOK_ROWS = 32,     /* at a time: their sums fit 15 bits, and all that is weighed 32 */
    AT_LOOK_SUMS = 3 * AT_LOOK_COLUMNS + 32, /* with room for a vector beyond */
    AT_LOOK_WEIGHTS = 16 + 2,
};
/* Sums of bytes i, i + lanes, i + 2 lanes, ...: lane i is of channel i % channels. */
typedef struct at_moments {
    uint32_t sum[AT_LOOK_LANES], square[AT_LOOK_LANES];
    uint8_t minimum[AT_LOOK_LANES], maximum[AT_LOOK_LANES];
} at_moments;
typedef struct at_look_rows {
    const uint8_t *first;
    size_t count, pitch; /* pitch: bytes from one to the next */
    size_t bytes;        /* of each */
} at_look_rows;
/* The loops, by instruction set (look_kernels.h). */
typedef struct at_look_kernels {
    /* Adds AT_LOOK_LANES * blocks bytes. */
    void (*moments)(const uint8_t *bytes, size_t blocks, at_moments *m);
    /* Adds to reached[b][i % 3] for byte i of bin b or above; bin 0 is left out. */
    void (*count)(const uint8_t *bytes, size_t n, uint32_t reached[][3]);
    /* Adds sum and sum of squares of the Laplacian of rows of AT_LOOK_COLUMNS at most. The rows above
     * and below are `stride` bytes away, the pixels to the sides `channels`. */
    void (*laplacian)(const at_look_rows *rows, size_t stride, size_t channels, int64_t *sum,
                      uint64_t *square);
    /* Sets the sums over AT_LOOK_ROWS rows of AT_LOOK_COLUMNS at most. */
    void (*add_rows)(const at_look_rows *rows, uint16_t sums[AT_LOOK_SUMS]);
    /* Adds the sums of each cell, [edges[i], edges[i + 1]), those of channel c times weights[c], 256 at
     * most; weights go on so. */
    void (*weigh)(const uint16_t sums[AT_LOOK_SUMS], const size_t *edges, size_t cells,
                  const int16_t weights[AT_LOOK_WEIGHTS], uint64_t *out);
    /* The bins' shares of so many pixels; returns the histogram's entropy. */
    double (*spread)(const uint32_t counts[AT_HISTOGRAM_BINS], double pixels,
                     uint16_t shares[AT_HISTOGRAM_BINS]);
} at_look_kernels;
extern const at_look_kernels at_look_kernels_generic, at_look_kernels_avx2;
const at_look_kernels *at_look_kernels_here(void); /* the best that this CPU has */
/* The part of the statistics from the histogram on. */
void at_picture_look_by(const at_look_kernels *kernels, const at_image *image, at_pixel_stats *out);

/* ---- EXIF (exif.c: the only user of libexif) ------------------------------------------------- */
/* The EXIF block of a PNG or JPEG file, from its byte order mark on; NULL: none. */
const uint8_t *at_exif_find(const void *bytes, size_t size, size_t *length);
/* What the block says as a JSON object {tag: value}, appended to json; nothing where it says
 * nothing. */
void at_exif_read(const uint8_t *block, size_t length, at_text *json);

/* ---- keys (keys.c): which contents and paths were seen --------------------------------------- */
typedef struct at_key {
    uint64_t low, high;
} at_key;
typedef struct at_keys at_keys;
at_key at_key_of_digest(const uint8_t digest[32]);
at_key at_key_of_hash(const char *hex); /* of 64 digits */
at_key at_key_of_path(const char *path); /* of this process's tables alone */
at_keys *at_keys_new(void); /* NULL: out of memory */
void at_keys_free(at_keys *k);
bool at_keys_add(at_keys *k, at_key key, int64_t value); /* or replaces; false: out of memory */
int64_t at_keys_get(const at_keys *k, at_key key); /* value >= 0; -1: not there, or k is NULL */
void at_keys_expect(const at_keys *k, at_key key); /* it will be asked for soon */
bool at_keys_has_path(const at_keys *k, const char *path);

/* ---- what a picture is, as its decoding told -------------------------------------------------- */
typedef struct at_seen {
    at_format_id format;
    int width, height, channels;
    at_stored stored;
    at_pixel_stats stats;
} at_seen;

/* ---- items: what a source yields and the pipeline fills -------------------------------------- */
typedef struct at_item {
    at_text path;       /* as recorded in images(path) */
    at_text file;       /* where the bytes are to be read from; empty: they are in .bytes */
    bool remote;        /* file is an http(s) address */
    at_text class_name; /* with the source's own names: the label as a number */
    int coarse;         /* 1 + its coarse label; 0: the source has none */
    at_split split;
    int64_t mtime; /* seconds since 1970 */
    at_buffer bytes;
    bool dropped; /* did not come, for the ingest was interrupted: it and what follows wait */
    bool bad;     /* goes to errors(path, reason, detail) */
    at_reason reason;
    char detail[200];
    /* filled by the decoding threads and their processes */
    at_key path_key, content_key;
    char hash[65];
    uint32_t crc;
    at_seen seen;
    at_text exif; /* a JSON object; empty: none */
    at_buffer frame; /* where it was wanted: the picture in a frame of .frame_channels; these 0: none */
    int frame_channels;
} at_item;
void at_item_reset(at_item *item);
void at_item_fini(at_item *item);
void at_item_fail(at_item *item, at_reason reason, const char *format, ...) AT_PRINTF(3, 4);
void at_item_fail_for_size(at_item *item, size_t bytes, size_t limit);
void at_item_fail_for_time(at_item *item, double limit);
/* Reads .file into .bytes; what is wrong with it is recorded in the item. */
void at_item_load(at_item *item, size_t limit);
/* Whether .bytes, of a file of that size, begin as a picture, so that a film of 10 GB is not read in
 * vain; if not, why is recorded in the item. */
bool at_item_is_promising(at_item *item, size_t size, size_t limit);
/* The same from the address .file; *fetcher is made where it is NULL. A server that is slower than
 * 1 KB/s after so many seconds of patience is given up. */
typedef struct at_fetcher at_fetcher;
void at_item_fetch(at_item *item, at_fetcher **fetcher, size_t limit, double patience);
enum { AT_FETCH_PATIENCE = 30 };
void at_item_hash(at_item *item); /* fills content_key, hash and crc */
/* Decodes .bytes, as at_decoder_decode does; false: what is wrong is recorded in the item. */
bool at_item_decode(at_item *item, at_decoder *decoder, const at_decode_limits *limits,
                    at_reduction reduction, at_image *view);
/* Decodes .bytes, checking them, and fills .seen and .exif; *image is what it looked at. */
void at_item_examine(at_item *item, at_decoder *decoder, const at_decode_limits *limits,
                     at_image *image);
/* out [H,W,C] becomes what at_image_frame makes of .bytes, .frame_channels its C. image: as decoded
 * last, or empty. false: the item is bad. */
bool at_item_fit(at_item *item, at_decoder *decoder, const at_decode_limits *limits,
                 const at_frame *frame, at_image *image, uint8_t *out);

/* ---- label files: class and split of each file of a source ----------------------------------- */
typedef struct at_label_row {
    const char *path, *label, *split; /* split NULL: the file has no such column */
    size_t line;
} at_label_row;
typedef int (*at_label_fn)(void *context, const at_label_row *row, at_error *err);
/* Calls fn for every row of a CSV or JSON-lines file (label_rows.c). AT_EINPUT names file and line.
 */
int at_label_rows(const char *text, size_t bytes, const char *name, at_label_fn fn, void *context,
                  at_error *err);
typedef struct at_label_file at_label_file; /* label_file.c */
/* path: on disk, else in the source, an archive. */
at_label_file *at_label_file_read(const char *path, const char *source, at_error *err);
void at_label_file_free(at_label_file *f);
size_t at_label_file_count(const at_label_file *f);
/* Path, class and split of row i; the item is a fresh one. */
void at_label_file_get(const at_label_file *f, size_t i, at_item *item);
bool at_is_address(const char *text, size_t bytes); /* whether it begins with http:// or https:// */
const char *at_label_file_hash(const at_label_file *f); /* of its content */
/* Gives the item its row's class and split, or sets it aside. false: it is the label file itself. */
bool at_label_file_apply(at_label_file *f, at_item *item);
/* 1: the item, a fresh one, tells of the next row whose file neither came nor is in skip; 0: none is
 * left. */
int at_label_file_missing(at_label_file *f, const at_keys *skip, at_item *item);

/* ---- sources (source.c, source_*.c by sources.def) ------------------------------------------- */
typedef struct at_names {
    char **items;
    size_t count;
} at_names;
typedef struct at_source at_source;
typedef struct at_share at_share;
typedef struct at_source_kind {
    const char *name;
    bool own_labels;                     /* it has no files that a label file could name */
    bool remote;                         /* its items are fetched */
    bool (*recognise)(const char *path); /* by content */
    int (*open)(at_source *s, at_error *err);
    /* 1: *item is filled, 0: the end, negative: error. Items of s->skip are passed over. */
    int (*next)(at_source *s, at_item *item, at_error *err);
    void (*close)(at_source *s);
} at_source_kind;
struct at_source {
    const at_source_kind *kind;
    char *path;
    const at_keys *skip; /* paths to pass over; borrowed, may be NULL */
    /* Where ranks share the work (share.h): */
    int rank, ranks;         /* this rank's share is wanted alone; ranks 0: all */
    uint64_t passed;         /* so many items are done, too */
    at_share *share;         /* what the others tell; borrowed, may be NULL */
    at_decode_limits limits; /* of a file and its picture; the defaults unless set after opening */
    at_label_file *labels;   /* or NULL */
    bool ended;              /* of a source with labels: all files came */
    void *state;             /* the kind's own */
    double total, done;      /* progress in units; total 0: unknown */
    const char *unit;
    /* The names of labels 0, 1, ... where the source defines them; complete at its end. None:
     * classes are the layout's folder names. */
    at_names names;
    at_names coarse; /* the same of its coarse labels, where it has such */
};
/* labels: a label file, or NULL. */
at_source *at_source_open(const char *path, const char *labels, at_error *err);
int at_source_next(at_source *s, at_item *item, at_error *err);
bool at_source_passes(at_source *s, const char *path); /* the item of this path is not wanted */
void at_source_close(at_source *s);
/* A copy of these instead of those that were there; false: out of memory. */
bool at_names_set(at_names *names, const char *const *items, size_t n);
/* "0", "1", ... n-1 */
bool at_names_number(at_names *names, size_t n);
void at_names_fini(at_names *names);
/* Whether it is, or a link leads to, a file that can be read from its beginning to its end: to open a
 * pipe may take for ever. */
bool at_is_regular(const char *path);
extern const char
    at_source_label_file[]; /* "dataset.yaml": written by at_dataset_get, never an image */

/* <split>/<class>/.../file or <class>/.../file, after `skip` leading folders. *name is the class's
 * first character in path, *length its length; false: no class folder. */
bool at_layout_parse(const char *path, size_t skip, at_split *split, const char **name,
                     size_t *length);
/* Split and class name of an item by its path; no class folder: an empty name. */
void at_source_place(at_item *item);
bool at_split_of_folder(const char *name, size_t length, at_split *out);
/* Valid UTF-8 as it is; other bytes become \xNN, so that any client can read the catalog. */
void at_text_add_utf8(at_text *t, const char *s);

/* A tar or zip as a source (source_tar.c). */
int at_members_open(at_source *s, at_error *err);
int at_members_next(at_source *s, at_item *item, at_error *err);
void at_members_close(at_source *s);

/* tar, compressed tar, zip (archive.c: the only user of libarchive) */
typedef struct at_archive at_archive;
/* In place of a member's size. */
enum { AT_MEMBER_LINK = -1, AT_MEMBER_ENCRYPTED = -2, AT_MEMBER_SPECIAL = -3 };
bool at_archive_recognise(const char *path);
bool at_archive_is_zip(const char *path); /* by its first bytes */
at_archive *at_archive_open(const char *path, at_error *err);
/* 1: at the next file, 0: the end, negative: error naming file and offset. */
int at_archive_next(at_archive *a, const char **name, int64_t *size, int64_t *mtime, at_error *err);
/* Reads up to `bytes`; the number read, 0 at the member's end, negative: error. */
int64_t at_archive_read(at_archive *a, void *out, size_t bytes, at_error *err);
at_reason at_archive_reason(const at_archive *a); /* why the last read failed */
/* After a failed read, with its error in err: 0 where the next member can be read all the same, as
 * a zip's can. */
int at_archive_recover(at_archive *a, at_error *err);
double at_archive_position(const at_archive *a); /* bytes of the file that were read */
void at_archive_close(at_archive *a);
/* The path itself if it is an archive; a folder's only archive (beside dataset.yaml and hidden
 * files); else NULL. */
char *at_archive_find(const char *path);

/* ---- the threads of an ingest (pipeline.c) --------------------------------------------------- */
enum { AT_CHUNK_ITEMS = 64 };
typedef struct at_chunk {
    at_item items[AT_CHUNK_ITEMS];
    size_t count;
    double done; /* the source's progress behind it */
    bool examined;
} at_chunk;
typedef struct at_pipeline at_pipeline;
/* Forks, so that it comes before threads, locks and databases, which are no business of the decoding
 * processes. frame: items' .frame is wanted so; or NULL. jobs 0: one a CPU. */
at_pipeline *at_pipeline_new(at_source *source, const at_frame *frame, int jobs, at_error *err);
int at_pipeline_start(at_pipeline *p, at_error *err);
/* The next examined items in the source's order; NULL: the end, see at_pipeline_stop for its
 * reason. */
at_chunk *at_pipeline_next(at_pipeline *p);
void at_pipeline_give_back(at_pipeline *p, at_chunk *chunk);
/* Ends the threads, frees p; what ended the reading: 0, or why the source could not be read to its
 * end. */
int at_pipeline_stop(at_pipeline *p, at_error *err);

/* ---- shards (shard.c) ------------------------------------------------------------------------ */
typedef struct at_shard_record {
    char hash[65];
    uint64_t offset, bytes; /* of the content itself */
    uint32_t crc;
} at_shard_record;
typedef struct at_shard_writer at_shard_writer;
/* Goes on in `folder` at shard number `shard` with its first `bytes` bytes and these records (takes
 * the list); what lies behind is cut off, later shards are removed. shard 0, bytes 0: from the
 * beginning. */
at_shard_writer *at_shard_writer_open(const char *folder, uint64_t limit, int64_t shard,
                                      uint64_t bytes, at_shard_record *records, size_t count,
                                      at_error *err);
/* Where the next content of this size goes. */
int at_shard_place(at_shard_writer *w, size_t bytes, int64_t *shard, uint64_t *offset,
                   at_error *err);
/* Appends there. */
int at_shard_append(at_shard_writer *w, const void *data, size_t bytes, const char *hash,
                    uint32_t crc, at_error *err);
/* The place behind what was appended, to go on from. */
void at_shard_end(const at_shard_writer *w, int64_t *shard, uint64_t *bytes);
int at_shard_sync(at_shard_writer *w, at_error *err); /* everything appended is on disk */
/* Writes the last index, and has the disk begin with it; then nothing is appended any more. Sync and
 * close follow. */
int at_shard_seal(at_shard_writer *w, at_error *err);
void at_shard_writer_close(at_shard_writer *w);
/* Removes shards number, number + 1, ... as far as they are there. */
int at_shard_remove_from(const char *folder, int64_t number, at_error *err);
typedef struct at_shard {
    const uint8_t *data;
    size_t size;
    char *path;
} at_shard;
int at_shard_map(const char *folder, int64_t number, at_shard *out,
                 at_error *err); /* checks the header */
void at_shard_unmap(at_shard *shard);
/* Tells of each damage to the bytes around the contents (shard_check.c). */
typedef void (*at_shard_damage_fn)(void *context, uint64_t offset, const char *what);
void at_shard_check(const at_shard *shard, at_shard_damage_fn fn, void *context);

/* ---- pictures fitted while they are ingested (frames.c) --------------------------------------- */
/* Keeps the item's frame, if it has one, for the content at this place, which lies behind all before;
 * what fails is told once, and then nothing is kept. */
void at_frames_add(at_frames *f, const at_item *item, int64_t shard, uint64_t offset);
void at_frames_seal(at_frames *f); /* nothing is added any more: what is there can be read */

/* ---- the catalog while it is written (catalog.c) --------------------------------------------- */
/* 2: with bit depth, mode, looks, EXIF and views; 1 is still read. meta(format) tells. */
#define AT_CATALOG_FORMAT 2
typedef struct at_catalog at_catalog;
at_catalog *at_catalog_open(const char *folder,
                            at_error *err); /* made if missing; begins a transaction */
void at_catalog_close(at_catalog *c);       /* drops what was not committed */
at_db *at_catalog_db(at_catalog *c);
void at_catalog_keep_frames(at_catalog *c, at_frames *frames); /* of contents that it stores */
/* The item will be added soon: what is known of it is brought from memory meanwhile. */
void at_catalog_expect(const at_catalog *c, const at_item *item);
/* Records an examined item: its image, its content if that is new, or its error. A path that was
 * recorded already is passed over. */
int at_catalog_add(at_catalog *c, at_shard_writer *shards, const at_item *item, at_error *err);
/* The rows of all images, as at_rows_load would read them, if they were kept: where none was there
 * before, and they were not too many. Once. */
typedef struct at_rows at_rows; /* rows.h */
bool at_catalog_take_rows(at_catalog *c, at_rows *rows);
/* Nothing is added any more: what that took goes before the indexes take their memory. */
void at_catalog_forget_seen(at_catalog *c);
/* Tells where the bytes of everything added end: before a commit, when they are on disk. */
int at_catalog_note(at_catalog *c, const at_shard_writer *shards, at_error *err);
int at_catalog_set_meta(at_catalog *c, const char *key, const char *value, at_error *err);
int at_catalog_set_number(at_catalog *c, const char *key, int64_t value, at_error *err);
char *at_catalog_meta(at_catalog *c, const char *key);      /* malloc'd, NULL: none */
uint64_t at_catalog_number(at_catalog *c, const char *key); /* 0: none */
/* The writer that goes on where the catalog's last commit left it (resume.c). */
at_shard_writer *at_catalog_shards(at_catalog *c, const char *folder, uint64_t limit,
                                   at_error *err);
/* Images with a higher id are new in this ingest: 0, or what an append found. */
int64_t at_catalog_after(const at_catalog *c);
int at_catalog_add_tables(at_db *db, at_error *err); /* those that are not there (schema.c) */
/* Views for people, indexes for quick queries (views.c). */
int at_catalog_add_views(at_db *db, at_error *err);
int at_catalog_add_indexes(at_db *db, at_error *err);
/* Paths of all new images and errors (of an append: of new images); *count tells how many. */
at_keys *at_catalog_paths(at_catalog *c, size_t *count, at_error *err);

/* ---- coarse labels, a second class of each image (coarse.c) ----------------------------------- */
/* Of an item with .coarse. *statement is made where it is NULL; the caller's. */
int at_coarse_add(at_db *db, at_stmt **statement, int64_t image, const at_item *item,
                  at_error *err);
/* When all images are added: names the classes. */
int at_coarse_name(at_db *db, const at_source *source, at_error *err);
/* 1: an image of the data set has such a label, 0: none has, negative: error. */
int at_coarse_exists(at_db *db, at_error *err);

/* ---- the end of an ingest: labels and checks (labels.c), splits and identity (finish.c) ------ */
/* Numbers the classes: by the source's own names, else by name. *changed: an image may have another
 * label now. */
int at_labels_assign(at_catalog *c, const at_source *source, bool *changed, at_error *err);
/* A class that is in one split only, or not in train: AT_EINPUT. */
int at_labels_check(at_catalog *c, const at_rows *rows, at_error *err);
/* For people: one class, in whose folder others seem to lie. */
void at_labels_hint(const at_rows *rows);
/* All of it: labels, checks, validation split, identity, meta; syncs the sealed shards and commits them
 * with what was added before, and that alone where something is wrong. rows: what it leaves, sorted by
 * path. */
int at_finish_catalog(at_catalog *c, const at_ingest_options *o, const at_source *source,
                      at_shard_writer *shards, at_rows *rows, at_error *err);
/* Whether a finished catalog tells of this source and these options: 1, 0 or negative. */
int at_finish_matches(at_db *db, const at_ingest_options *o, at_error *err);

/* ---- appending to a data set (append.c) ------------------------------------------------------- */
/* <folder>/catalog.db becomes a copy of the data set's, ready for new rows; there already: it stays. */
int at_append_begin(const char *dataset, const char *folder, at_error *err);
/* The item's path is that of image `id` of before, or, 0, of an error. 1: it is to be added, 0: it
 * is there already, AT_EINPUT: with another content. */
int at_append_meet(at_db *db, const at_item *item, int64_t id, at_error *err);
/* What was split by fraction and seed: a content is not on both sides. */
int at_append_keep_copies_together(at_catalog *c, const at_ingest_options *o, at_error *err);
int at_append_record(at_catalog *c, const at_ingest_options *o, at_error *err);
/* 1: the catalog tells of images or errors that the data set's does not, 0: of none, negative: error.
 */
int at_append_is_news(at_catalog *c, const char *dataset, at_error *err);
/* What tells the catalog from a data set's goes: nothing is left to do but to publish it. */
int at_append_unmark(at_catalog *c, at_error *err);
/* ---- the last step (publish.c) --------------------------------------------------------------- */
/* The folder, whose lock goes, becomes the data set. rows: its rows as at_dataset_write_index takes
 * them, or NULL. */
int at_publish_folder(const char *partial, const char *out, at_rows *rows, at_error *err);
/* The folder's catalog becomes the data set's; the folder goes. */
int at_publish_catalog(const char *partial, const char *dataset, at_rows *rows, at_error *err);
/* The data set's catalog stays; the folder goes. */
int at_publish_nothing(const char *partial, const char *dataset, at_error *err);
/* Makes the bytes of a finished catalog, which nobody has open, independent of the number of runs. */
int at_settle_catalog(const char *path, at_error *err);
int at_sync_path(const char *path, at_error *err); /* a file's or folder's fsync */

/* ---- where every image lies (dataset_index.c, dataset.c) ------------------------------------- */
typedef struct at_entry {
    int64_t id;            /* of images */
    uint64_t offset, path; /* path: in the names */
    uint32_t bytes, crc;
    int32_t label, shard;
} at_entry;
typedef struct at_index {
    const at_entry *entries[AT_SPLITS]; /* in path order */
    size_t counts[AT_SPLITS];
    const char *names; /* paths in any order, one behind another, each with its NUL */
    size_t names_bytes;
    void *map; /* of DATASET/images.idx, in which they lie; or else */
    size_t map_bytes;
    at_entry *owned;
    char *owned_names;
} at_index;
/* False where there is none, or it is damaged, or of another state of the catalog. */
bool at_index_map(const char *folder, const char *hash, at_index *out);
void at_index_fini(at_index *index);
/* There is one, and it is not as it was written. */
bool at_index_is_damaged(const char *folder);

/* Where sample i's content lies, unread, and its label; false: there is no such sample. */
bool at_dataset_place(const at_dataset *d, at_split split, size_t i, int64_t *shard,
                      uint64_t *offset, int32_t *label);

/* ---- downloads (download.c) ------------------------------------------------------------------ */
void at_fetcher_free(at_fetcher *f);
int at_file_sha256(const char *path, char hex[65], uint64_t *bytes, at_error *err);

/* What tests make small. */
typedef struct at_ingest_tuning {
    uint64_t shard_bytes;   /* 256 MiB */
    uint64_t commit_images; /* a transaction's images, 65536 */
} at_ingest_tuning;
int at_ingest_tuned(const at_ingest_options *o, const at_ingest_tuning *tuning,
                    at_ingest_result *result, at_error *err);

#endif
