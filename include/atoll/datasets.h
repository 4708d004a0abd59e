/* SPDX-License-Identifier: Apache-2.0
 * datasets: from a pile of images to a data set on disk: catalog.db (SQLite) + shards/ (original
 * bytes).
 *
 *     at_ingest_options how = {.source = "photos/", .out = "data/photos", .val_fraction = 0.1};
 *     at_ingest_result got;
 *     at_ingest(&how, &got, &err);
 *     at_dataset *d = at_dataset_open("data/photos", &err);
 *     at_sample s;
 *     at_dataset_sample(d, AT_TRAIN, 0, &s, &err);
 *     at_image_decode(s.bytes, s.size, NULL, &image, &err);
 */
#ifndef ATOLL_DATASETS_H
#define ATOLL_DATASETS_H

#include <atoll/base.h>

/* ---- pictures (decode.c, decode_png.c, decode_jpeg.c, resize.c) ------------------------------ */
typedef struct at_image {
    int width, height, channels; /* 1: grey, 3: RGB */
    uint8_t *pixels;             /* [H,W,C], malloc'd; at_image_fini */
} at_image;
#define AT_STRING_OF(macro)  AT_STRING_OF_(macro)
#define AT_STRING_OF_(value) #value
/* What is decoded unless told otherwise; a picture of more is refused as too-large or timeout. */
#define AT_MAX_PIXELS  16777216
#define AT_MAX_BYTES   67108864
#define AT_MAX_SECONDS 2
#define AT_MAX_SCANS   100
typedef struct at_decode_limits { /* 0: the default */
    size_t pixels, bytes;
    double seconds; /* of a CPU's time; only an ingest, where others decode, has a hold on it */
    int64_t scans;  /* of a progressive JPEG */
} at_decode_limits;
/* Why a picture was refused, as in errors(reason): truncated, not-an-image, too-large, corrupt,
 * unreadable, unsupported, empty, timeout. NULL ends the list. */
extern const char *const at_error_reasons[];

/* Decodes PNG (any depth, palette, alpha over black), JPEG (baseline, progressive, grey, CMYK), both
 * turned upright by their EXIF orientation, or our raw form ("ATRW", from idx and CIFAR binary). AT_EINPUT with a reason of at_error_reasons[].
 * limits NULL: defaults. */
int at_image_decode(const void *bytes, size_t size, const at_decode_limits *limits, at_image *out,
                    const char **reason, at_error *err);
void at_image_fini(at_image *image);
/* The same for many pictures: keeps its codec and its memory. One thread at a time. NULL: out of
 * memory. */
typedef struct at_decoder at_decoder;
at_decoder *at_decoder_new(void);
void at_decoder_free(at_decoder *d);
/* view->pixels belongs to d and lasts until its next call. */
int at_decoder_decode(at_decoder *d, const void *bytes, size_t size, const at_decode_limits *limits,
                      at_image *view, const char **reason, at_error *err);
/* A JPEG of more than `over` pixels may come at a half, a quarter or an eighth of its sides, the least
 * of them that leaves height x width: each of its pixels is then the mean of those that it stands
 * for, or nearly so (the decoder leaves out high frequencies), in half the time. All of the file is
 * read and checked the same. {0}: in full, as at first. */
typedef struct at_reduction {
    int height, width; /* upright */
    size_t over;
} at_reduction;
void at_decoder_reduce(at_decoder *d, at_reduction reduction);
/* Writes PNG bytes (reports embed pictures); *out is malloc'd. */
int at_image_encode_png(const at_image *image, void **out, size_t *size, at_error *err);
/* How a picture comes to the size that a network takes. */
#define AT_FIT_WORDS(X)                                                                            \
    X(STRETCH, "stretch")                                                                          \
    X(CROP, "crop")                                                                                \
    X(LETTERBOX, "letterbox")
typedef enum {
#define X(name, text) AT_FIT_##name,
    AT_FIT_WORDS(X)
#undef X
        AT_FITS
} at_fit;
#define AT_FIT_CHOICES "stretch|crop|letterbox"
const char *at_fit_name(at_fit fit);
int at_fit_parse(const char *name, at_fit *out, at_error *err); /* AT_EINPUT names the word */
typedef struct at_frame {
    int height, width, channels; /* 1: grey, 3: RGB */
    at_fit fit;
} at_frame;
/* Fits the picture into [height,width,channels]: area average for shrinking, bicubic for growing,
 * per axis; grey <-> RGB by ITU-R BT.601. The one resize of training, evaluation, prediction and
 * serving. */
int at_image_frame(const at_image *image, const at_frame *frame, uint8_t *out, at_error *err);
/* The same, stretched. */
int at_image_fit(const at_image *image, int height, int width, int channels, uint8_t *out,
                 at_error *err);

/* ---- pictures of strangers (viewer.c) -------------------------------------------------------- */
/* Decodes files, and fits them into one frame, in a process that can do nothing else (sandbox.h): a
 * decoder's crash or hang costs one picture. */
typedef struct at_viewer at_viewer;
/* Forks: best while the process is small and has few threads. limits NULL: defaults; its seconds
 * count. NULL: no process could be started. */
at_viewer *at_viewer_new(const at_frame *frame, const at_decode_limits *limits, at_error *err);
/* path: a file, a pipe (awaited for the limit of seconds), or "-", standard input. out [H,W,C].
 * AT_EINPUT: a bad picture, why in err as "reason: detail"; the next ones can be seen all the same. Any
 * other error: no more can be seen. One thread at a time. */
int at_viewer_see(at_viewer *v, const char *path, uint8_t *out, at_error *err);
/* Nothing is to be seen any more: its process ends while the caller goes on; free follows. */
void at_viewer_finish(at_viewer *v);
void at_viewer_free(at_viewer *v);

/* ---- pictures fitted while they are ingested (frames.c) --------------------------------------- */
/* What an ingest decodes, fitted to one frame, in a file without a name: at_cache_spec takes it, and
 * the cache of what was ingested is filled without decoding that again. */
typedef struct at_frames at_frames;
/* channels 0: each picture's own. folder: where there is room. */
at_frames *at_frames_new(const at_frame *frame, const char *folder, at_error *err);
void at_frames_free(at_frames *f);
void at_frames_drop(at_frames *f); /* gives their room back: none is there any more */
const at_frame *at_frames_frame(const at_frames *f); /* NULL of NULL */

/* ---- ingest (ingest.c, append.c, source_*.c by sources.def, catalog.c, shard.c) -------------- */
typedef struct at_ingest_options {
    const char *source; /* folder, tar(.gz), zip, idx folder, CIFAR binary, list of addresses:
                         * recognised by content */
    const char *out;
    const char *labels; /* CSV or JSON-lines that tells class and split of each file, or NULL: the
                         * folders tell */
    bool append;        /* to the data set that is there, instead of making one */
    at_decode_limits limits; /* what is larger is set aside */
    double val_fraction; /* of train, stratified by class, by seed; 0: the source's own splits */
    uint64_t seed;
    int jobs; /* decoding threads; 0: one a CPU */
    bool resume;
    bool allow_missing_classes; /* a class that is in one split only is an error otherwise */
    bool together; /* with others at the same ingest: the first makes the data set, the others wait
                    * for it and take what it made */
    int rank, ranks; /* of those; ranks > 1: while they wait, they decode their share for it */
    at_frames *frames; /* gets the new pictures that this process decodes; or NULL */
} at_ingest_options;
typedef struct at_ingest_result {
    uint64_t images, errors, bytes; /* of the whole data set; bytes: of contents, each once */
    uint64_t added;                 /* images that an append, or else the data set, brought */
    uint64_t resumed;               /* of images + errors, found done by an earlier run */
    uint64_t shared;                /* of this run's pictures, decoded by other ranks */
    bool found;                     /* it was there, whole, before this process had its turn */
    double seconds;                 /* of this run */
} at_ingest_result;
/* Works in <out>.partial and renames it when complete; interrupted: AT_EINTERRUPTED and resume
 * continues. An append works in <out>/append.partial, and the data set is the old one until a last
 * step that is one renaming; its classes keep their labels, new ones come behind them. */
int at_ingest(const at_ingest_options *options, at_ingest_result *result, at_error *err);

/* ---- well-known data sets (known.c, download.c) ---------------------------------------------- */
typedef struct at_known_file {
    const char *name, *sha256;
    uint64_t bytes;
} at_known_file;
typedef struct at_known_dataset {
    const char *name, *title, *url,
        *system_path;       /* system_path: where a Debian package puts it, or NULL */
    at_known_file files[4]; /* found at url + name; a NULL name ends them */
    uint64_t bytes;         /* of all files */
} at_known_dataset;
const at_known_dataset *at_known_datasets(size_t *n);
/* Puts the data set's source under <out> from a local file or folder, the system path or its
 * address, with a dataset.yaml that says where it came from. Checked: a file or folder by reading
 * it to its end as a source, a download against the pinned SHA-256s. url NULL: the official folder;
 * else "http://host/folder/". */
int at_dataset_get(const char *name, const char *from, const char *url, const char *out,
                   at_error *err);
/* Downloads an http(s) address to <path>, going on from <path>.part where the server can; a file
 * whose SHA-256 is another than the given one is removed again (AT_EINPUT). Interrupted or broken
 * off: <path>.part stays. */
int at_download(const char *url, const char *sha256, const char *path, at_error *err);

/* ---- reading a data set (dataset.c); safe from many threads after opening -------------------- */
typedef enum { AT_TRAIN, AT_VAL, AT_TEST, AT_SPLITS } at_split;
typedef struct at_dataset at_dataset;
typedef struct at_sample {
    const void *bytes; /* into the mapped shard, as ingested */
    size_t size;
    int32_t label;
    int64_t image_id; /* row of images */
} at_sample;
const char *at_split_name(at_split split); /* "train", "val", "test" */
int at_split_parse(const char *name, at_split *out, at_error *err);
at_dataset *at_dataset_open(const char *path, at_error *err);
/* The same without its images: hash, classes and shape, in a moment however many there are. */
at_dataset *at_dataset_open_head(const char *path, at_error *err);
void at_dataset_close(at_dataset *d);
const char *
at_dataset_hash(const at_dataset *d); /* identity: hash over (path, split, label, content), hex */
size_t at_dataset_count(const at_dataset *d, at_split split);
size_t at_dataset_classes(const at_dataset *d);
const char *at_dataset_class_name(const at_dataset *d, size_t label);
/* The usual picture: the commonest height and width, 1 channel if every image is grey, else 3. */
void at_dataset_shape(const at_dataset *d, int *height, int *width, int *channels);
/* Its pictures were decoded within these, and can be again. */
const at_decode_limits *at_dataset_limits(const at_dataset *d);
/* i-th sample of a split in path order; the bytes are checked against the shard's CRC: AT_EINPUT
 * names the shard. */
int at_dataset_sample(const at_dataset *d, at_split split, size_t i, at_sample *out, at_error *err);
/* The frame, [H,W,*channels], and the label of sample i of what was ingested with f, after the ingest.
 * *channels: at first as many as out has room for. false: it is not there, or has more. */
bool at_frames_read(const at_frames *f, const at_dataset *d, at_split split, size_t i, uint8_t *out,
                    int *channels, int32_t *label);
const char *at_dataset_sample_path(const at_dataset *d, at_split split,
                                   size_t i); /* as in the source */
size_t at_dataset_sample_bytes(const at_dataset *d, at_split split, size_t i); /* unread */
/* What is damaged, and what was looked at. */
typedef struct at_damage {
    const char *file;         /* in the data set's folder */
    int64_t offset;           /* in it; -1: not known */
    const char *image, *what; /* image: whose content it is, or NULL */
} at_damage;
typedef void (*at_damage_fn)(void *context, const at_damage *damage);
typedef struct at_dataset_checked {
    uint64_t images, contents, shards, bytes, damaged;
} at_dataset_checked;
/* Checks the catalog, every content's CRC and hash, all other bytes of the shards, and images.idx.
 * fn (or NULL) is told of each damage, from the calling thread. AT_EINPUT: err names the first. */
int at_dataset_verify(const char *path, int threads, at_damage_fn fn, void *context,
                      at_dataset_checked *out, at_error *err);
/* Writes a page of what the data set holds: classes, pictures, sizes, light, duplicates, suspects,
 * errors. A data set of an older format: AT_EINPUT. */
int at_dataset_report(const char *path, const char *out, at_error *err);

#endif
