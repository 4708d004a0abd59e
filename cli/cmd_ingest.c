/* SPDX-License-Identifier: Apache-2.0
 * atoll ingest: reads a pile of images into a data set.
 */
#include "cli.h"

#include <atoll/cache.h>

#include <stdlib.h>
#include <string.h>

typedef struct args {
    char *out, *labels, *size, *fit, *cache_dir;
    double val_fraction;
    double max_seconds;
    int64_t seed, jobs, channels, max_pixels, max_bytes, max_scans;
    bool resume, append, allow_missing_classes, json;
} args;

static const at_option options[] = {
    {"out", AT_OPT_STRING, offsetof(args, out), NULL,
     "the data set to make, which may not exist yet; with --append, to add to", "DATASET"},
    {"labels", AT_OPT_STRING, offsetof(args, labels), NULL,
     "CSV (path,label or path,label,split) or JSON-lines: class and split of each file", "FILE"},
    {"append", AT_OPT_BOOL, offsetof(args, append), "false",
     "add the images of SRC that DATASET does not have yet"},
    {"val-fraction", AT_OPT_REAL, offsetof(args, val_fraction), "0",
     "part of the training images that becomes the validation split, the same of each class", "F",
     .min = 0, .max = 0.99},
    {"seed", AT_OPT_INT, offsetof(args, seed), "0", "of the choice of validation images", "N",
     .min = 0, .max = -1},
    {"jobs", AT_OPT_INT, offsetof(args, jobs), "0", "decoding threads; 0: one a CPU", "N", .min = 0,
     .max = 1024},
    {"resume", AT_OPT_BOOL, offsetof(args, resume), "false",
     "go on with what an earlier run left behind"},
    {"allow-missing-classes", AT_OPT_BOOL, offsetof(args, allow_missing_classes), "false",
     "take a source in which a split lacks a class"},
    {"max-pixels", AT_OPT_INT, offsetof(args, max_pixels), AT_STRING_OF(AT_MAX_PIXELS),
     "a picture of more is set aside as too-large", "N", .min = 1, .max = -1},
    {"max-bytes", AT_OPT_INT, offsetof(args, max_bytes), AT_STRING_OF(AT_MAX_BYTES),
     "a file of more is set aside as too-large", "N", .min = 1, .max = -1},
    {"max-scans", AT_OPT_INT, offsetof(args, max_scans), AT_STRING_OF(AT_MAX_SCANS),
     "a progressive JPEG of more is set aside as too-large", "N", .min = 1, .max = -1},
    {"max-seconds", AT_OPT_REAL, offsetof(args, max_seconds), AT_STRING_OF(AT_MAX_SECONDS),
     "a picture whose decoding takes more of a CPU's time is set aside as timeout", "S",
     .min = 0.01, .max = 86400},
    {"size", AT_OPT_STRING, offsetof(args, size), NULL,
     "also fill the cache that training at this size reads, from the same decoding", "HxW"},
    {"fit", AT_OPT_CHOICE, offsetof(args, fit), "auto",
     "of that cache: stretch (auto); crop: pictures' middle; letterbox: all, with black bars",
     .choices = "auto|" AT_FIT_CHOICES},
    {"channels", AT_OPT_INT, offsetof(args, channels), "0",
     "of that cache: 1: grey, 3: RGB; 0: 1 where every picture is grey", "N", .min = 0, .max = 3},
    {"cache.dir", AT_OPT_STRING, offsetof(args, cache_dir), NULL,
     "where caches are; empty: $ATOLL_CACHE_DIR, else ~/.cache/atoll", "DIR"},
    {"json", AT_OPT_BOOL, offsetof(args, json), "false", "print one JSON object"},
    {0}};

/* The cache that is filled beside the data set. */
typedef struct filling {
    at_cache_spec spec;
    char *path;
    double seconds;
} filling;

static void print_json(const at_ingest_result *r, double rate, const filling *f)
{
    at_node *n = at_node_new(AT_MAP);
    at_set_int(n, "images", (int64_t)r->images);
    at_set_int(n, "errors", (int64_t)r->errors);
    at_set_int(n, "bytes", (int64_t)r->bytes);
    at_set_int(n, "resumed", (int64_t)r->resumed);
    at_set_int(n, "added", (int64_t)r->added);
    at_set_int(n, "shared", (int64_t)r->shared);
    at_set_real(n, "seconds", r->seconds);
    at_set_real(n, "images_per_second", rate);
    at_set_int(n, "peak_rss_bytes", (int64_t)at_peak_rss());
    if (f->path) {
        at_set_string(n, "cache", f->path);
        at_set_real(n, "cache_seconds", f->seconds);
    }
    cli_print_json(n);
}

static void print_text(const at_ingest_result *r, double rate, const filling *f, const char *out)
{
    bool small = r->bytes < 1000000;
    printf("%s, %.*f %s, in %.1f s (%.0f images/s): %s\n", cli_number(r->images, "image").text,
           small ? 0 : 1, (double)r->bytes / (small ? 1e3 : 1e6), small ? "KB" : "MB", r->seconds,
           rate, out);
    if (r->resumed)
        printf("done already: %s\n", cli_number(r->resumed, "file").text);
    if (r->errors)
        printf("%s set aside: atoll sql %s 'SELECT * FROM errors'\n",
               cli_number(r->errors, "file").text, out);
    if (f->path)
        printf("cache, in %.1f s: %s\n", f->seconds, f->path);
}

/* ---- the cache ---- */

static int plan_cache(const args *a, filling *f, at_error *err)
{
    const at_cache_keys keys = {
        .size = a->size, .channels = a->channels, .fit = a->fit, .form = "auto"};
    f->spec =
        (at_cache_spec){.dir = a->cache_dir[0] ? a->cache_dir : NULL, .threads = (int)a->jobs};
    if (!a->size[0])
        return !a->cache_dir[0] && !a->channels && !strcmp(a->fit, "auto")
                   ? 0
                   : at_fail(err, AT_EUSAGE,
                             "--fit, --channels and --cache.dir go with --size HxW");
    if (at_cache_spec_read(&keys, &f->spec, err) < 0)
        return err->code = AT_EUSAGE;
    if (f->spec.frame.height) /* not auto: that is known when all pictures were seen */
        f->spec.frames = at_cache_frames(&f->spec, err);
    return f->spec.frame.height && !f->spec.frames ? err->code : 0;
}

static int fill_cache(const args *a, filling *f, at_error *err)
{
    if (!a->size[0])
        return 0;
    double begin = at_now();
    at_cache *c = at_cache_open(a->out, &f->spec, err);
    if (!c)
        return at_fail_in(err, "%s is made, but not its cache", a->out);
    f->seconds = at_now() - begin;
    f->path = strdup(at_cache_path(c));
    at_cache_close(c);
    return 0;
}

/* ---- the whole ---- */

static int ingest(const char *source, const args *a, filling *f, at_error *err)
{
    at_ingest_result r;
    at_ingest_options o = {.source = source,
                           .out = a->out,
                           .limits = {.pixels = (size_t)a->max_pixels,
                                      .bytes = (size_t)a->max_bytes,
                                      .seconds = a->max_seconds,
                                      .scans = a->max_scans},
                           .labels = a->labels[0] ? a->labels : NULL,
                           .append = a->append,
                           .val_fraction = a->val_fraction,
                           .seed = (uint64_t)a->seed,
                           .jobs = (int)a->jobs,
                           .resume = a->resume,
                           .together = cli_is_one_of_many(),
                           .rank = cli_rank(),
                           .ranks = cli_ranks(),
                           .allow_missing_classes = a->allow_missing_classes,
                           .frames = f->spec.frames};
    int code = at_ingest(&o, &r, err);
    if (code == 0 && o.together && r.found) /* who made it has the pictures, and tells */
        return 0;
    if (code == 0)
        code = fill_cache(a, f, err);
    if (code < 0)
        return code;
    uint64_t done = a->append ? r.added : r.images + r.errors - r.resumed;
    double rate = r.seconds > 0 ? (double)done / r.seconds : 0;
    if (a->append && !a->json)
        printf("new: %s\n", cli_number(r.added, "image").text);
    a->json ? print_json(&r, rate, f) : print_text(&r, rate, f, a->out);
    return 0;
}

static int run(int argc, char **argv, at_error *err)
{
    args a = {0};
    filling f = {0};
    int code = cli_parse(options, &a, argc, argv, 1, 1, err);
    if (code > 0 && !a.out[0])
        code = at_fail(err, AT_EUSAGE, "--out DATASET is missing");
    if (code > 0 && (code = plan_cache(&a, &f, err)) == 0)
        code = ingest(argv[0], &a, &f, err);
    at_frames_free(f.spec.frames);
    free(f.path);
    at_options_fini(options, &a);
    return code;
}

const cli_command cmd_ingest = {
    .name = "ingest",
    .usage = "SRC --out DATASET [--labels FILE] [--append] [--val-fraction F] [--size HxW] [--jobs "
             "N] [--resume]",
    .summary = "read a pile of images into a data set",
    .help =
        "SRC is recognised by what is in it:\n"
        "  a folder, zip or tar (gzip, bzip2, xz, zstd) of PNG and JPEG files as "
        "<split>/<class>/... or <class>/...,\n"
        "    where a split is train, val, valid, validation or test\n"
        "  MNIST's idx files; CIFAR-10's and CIFAR-100's binary files\n"
        "  a list of http(s) addresses: CSV with a header url,label[,split], the same as "
        "JSON-lines, or one\n"
        "    address a line, http://host/train/cat/1.jpg\n"
        "DATASET holds catalog.db, which any SQLite client reads, and the original bytes in "
        "shards/. A broken file\n"
        "goes to the table errors with its reason, the rest is taken. Photographs are turned "
        "upright by their EXIF\n"
        "orientation wherever they are decoded. Decoding happens in processes that can do nothing "
        "else; a picture that\n"
        "makes one crash or hang, or is over a limit (--max-pixels of a camera beyond 16 Mpixel: "
        "raise it), is set aside.\n"
        "With --labels the folders do not matter: a line \"IMG_7.jpg,cat,train\" below the "
        "header path,label,split\n"
        "(or {\"path\": ..., \"label\": ..., \"split\": ...}) tells what a file is; without the "
        "column split it is train\n"
        "or what a folder's name says. A file without a line, and a line without its file, "
        "are errors. FILE may be\n"
        "a member of the archive SRC, --labels meta/train.csv, with paths as in the archive.\n"
        "With --append classes keep their labels and new ones come behind them. Until its "
        "last step DATASET is the\n"
        "old one; a path that is there already is passed over if the picture is the same, "
        "else nothing is added.\n"
        "Under mpirun or srun all processes decode, each a part, and one writes the data set; "
        "where "
        "they do not see\n"
        "the same folders, each node makes its own.\n"
        "With --size the process that makes DATASET also fills the cache that training at that "
        "size would make on\n"
        "its first use. What it decodes for DATASET it does not decode again for the cache, which "
        "of large photographs\n"
        "saves half of the time; pictures of an earlier run or of before an --append, of other "
        "ranks, and with --size\n"
        "auto are. Fitted pictures wait where caches lie, unless that disk is nearly full.\n"
        "\n"
        "  atoll ingest photos/ --out data/photos --val-fraction 0.1\n"
        "  atoll ingest photos/ --out data/photos --resume     goes on after Ctrl-C, a "
        "crash, a time limit\n"
        "  atoll ingest photos/ --out data/photos --size 224x224 --fit crop\n"
        "  atoll ingest monday.zip --labels monday.csv --out data/line-7\n"
        "  atoll ingest tuesday.zip --labels tuesday.csv --out data/line-7 --append\n"
        "  atoll sql data/photos 'SELECT reason, count(*) FROM errors GROUP BY reason'",
    .options = options,
    .run = run};
