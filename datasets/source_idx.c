/* SPDX-License-Identifier: Apache-2.0
 * Source: a folder with MNIST's files, plain or gzipped (http://yann.lecun.com/exdb/mnist/):
 *     train-images-idx3-ubyte  u32 0x00000803, count, rows, columns (big-endian), then the pixels
 *     train-labels-idx1-ubyte  u32 0x00000801, count, then the labels
 * and the same of t10k, which is the test split. Either pair may be missing, not half a pair.
 * Offsets in messages count in the uncompressed file. Pictures become our raw form, named
 * "train/00000". Classes have their numbers as names, those of Fashion-MNIST (recognised by its
 * labels) their own. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

enum {
    MAGIC_IMAGES = 0x803,
    MAGIC_LABELS = 0x801,
    MAX_SIDE = 1 << 14,
    MAX_COUNT = 1 << 28,
    CHUNK = 1 << 16
};

struct file {
    gzFile stream;
    char *path;
    size_t offset;
};

struct part { /* train or t10k */
    struct file images;
    uint8_t *labels;
    size_t count, next, width, height;
    int64_t mtime;
};

struct idx {
    struct part parts[2];
    size_t current;
};

static const struct {
    const char *prefix;
    at_split split;
} part_kinds[2] = {{"train", AT_TRAIN}, {"t10k", AT_TEST}};

static const char fashion_labels[] =
    "ece7694bd3017f027418d59f715e71c5f460f95418ecb4ced1a98bdd8165c672";
static const char *const fashion_names[] = {"T-shirt/top", "Trouser",   "Pullover", "Dress",
                                            "Coat",        "Sandal",    "Shirt",    "Sneaker",
                                            "Bag",         "Ankle boot"};

/* ---- files ---- */

/* The path of the pair's "images-idx3" or "labels-idx1" file, malloc'd; NULL: not there. */
static char *find(const char *folder, const char *prefix, const char *what)
{
    char kaggle[32];
    snprintf(kaggle, sizeof kaggle, "%s", what);
    *strchr(kaggle, '-') = '.'; /* images.idx3, as some mirrors have it */
    for (int k = 0; k < 4; k++) {
        const char *name = k < 2 ? what : kaggle;
        char *path = k % 2 ? at_format("%s/%s-%s-ubyte", folder, prefix, name)
                           : at_format("%s/%s-%s-ubyte.gz", folder, prefix, name);
        if (path && at_is_regular(path))
            return path;
        free(path);
    }
    return NULL;
}

static bool recognise(const char *path)
{
    bool found = false;
    for (int i = 0; i < 2 && !found; i++) {
        char *images = find(path, part_kinds[i].prefix, "images-idx3");
        char *labels = find(path, part_kinds[i].prefix, "labels-idx1");
        found = images || labels;
        free(images);
        free(labels);
    }
    return found;
}

static int file_open(struct file *f, char *path, at_error *err) /* takes path */
{
    *f = (struct file){.path = path, .stream = gzopen(path, "rb")};
    if (!f->stream)
        return at_fail(err, AT_EINPUT, "cannot open %s", path);
    gzbuffer(f->stream, CHUNK);
    return 0;
}

static void file_close(struct file *f)
{
    if (f->stream)
        gzclose(f->stream);
    free(f->path);
    *f = (struct file){0};
}

/* Exactly `bytes`, or AT_EINPUT. */
static int file_read(struct file *f, void *out, size_t bytes, at_error *err)
{
    uint8_t *p = out;
    size_t got = 0;
    while (got < bytes) {
        unsigned want = bytes - got > INT32_MAX ? INT32_MAX : (unsigned)(bytes - got);
        int n = gzread(f->stream, p + got, want);
        if (n <= 0)
            break;
        got += (size_t)n;
    }
    f->offset += got;
    if (got == bytes)
        return 0;
    int status;
    const char *text = gzerror(f->stream, &status);
    return at_fail(err, AT_EINPUT, "%s: offset %zu: %s", f->path, f->offset,
                   status < 0 && text[0] ? text : "the file ends early");
}

static int file_expect_end(struct file *f, at_error *err)
{
    uint8_t byte;
    int n = gzread(f->stream, &byte, 1);
    if (n > 0)
        return at_fail(err, AT_EINPUT, "%s: offset %zu: more data than its header counts", f->path,
                       f->offset);
    int status;
    const char *text = gzerror(f->stream, &status);
    if (n < 0)
        return at_fail(err, AT_EINPUT, "%s: offset %zu: %s", f->path, f->offset, text);
    return 0;
}

static uint32_t big_endian(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Reads magic and `n` numbers. */
static int read_header(struct file *f, uint32_t magic, uint32_t *numbers, size_t n, at_error *err)
{
    uint8_t bytes[16];
    int code = file_read(f, bytes, 4 + 4 * n, err);
    if (code < 0)
        return code;
    if (big_endian(bytes) != magic)
        return at_fail(err, AT_EINPUT, "%s: offset 0: magic 0x%08x where 0x%08x belongs", f->path,
                       big_endian(bytes), magic);
    for (size_t i = 0; i < n; i++)
        numbers[i] = big_endian(bytes + 4 + 4 * i);
    return 0;
}

/* ---- a pair of files ---- */

static int read_labels(struct part *p, char *path, at_error *err) /* takes path */
{
    struct file f;
    uint32_t count = 0;
    int code = file_open(&f, path, err);
    if (code == 0)
        code = read_header(&f, MAGIC_LABELS, &count, 1, err);
    if (code == 0 && count > MAX_COUNT)
        code = at_fail(err, AT_EINPUT, "%s: offset 4: %u labels", path, count);
    if (code == 0 && !(p->labels = malloc(count ? count : 1)))
        code = at_nomem(err);
    if (code == 0)
        code = file_read(&f, p->labels, count, err);
    if (code == 0)
        code = file_expect_end(&f, err);
    if (code == 0)
        p->count = count;
    file_close(&f);
    return code;
}

static int open_images(struct part *p, char *path, const char *labels,
                       at_error *err) /* takes path */
{
    uint32_t n[3] = {0};
    int code = file_open(&p->images, path, err);
    if (code == 0)
        code = read_header(&p->images, MAGIC_IMAGES, n, 3, err);
    if (code < 0)
        return code;
    if (n[0] != p->count)
        return at_fail(err, AT_EINPUT, "%s: offset 4: %u images, but %s has %zu labels", path, n[0],
                       labels, p->count);
    if (n[1] < 1 || n[2] < 1 || n[1] > MAX_SIDE || n[2] > MAX_SIDE)
        return at_fail(err, AT_EINPUT, "%s: offset 8: images of %u x %u", path, n[1], n[2]);
    p->height = n[1];
    p->width = n[2];
    struct stat st;
    p->mtime = stat(path, &st) ? 0 : st.st_mtime;
    return 0;
}

static int open_part(struct part *p, const char *folder, const char *prefix, at_error *err)
{
    char *images = find(folder, prefix, "images-idx3"),
         *labels = find(folder, prefix, "labels-idx1");
    if (!images && !labels)
        return 0;
    if (!images || !labels) {
        free(images);
        free(labels);
        return at_fail(err, AT_EINPUT, "%s: %s-%s-ubyte(.gz) is missing", folder, prefix,
                       images ? "labels-idx1" : "images-idx3");
    }
    char *name = strdup(labels);
    int code = read_labels(p, labels, err);
    if (code == 0)
        code = open_images(p, images, name ? name : "its labels", err);
    else
        free(images);
    free(name);
    return code;
}

static bool is_fashion(const struct idx *x)
{
    char hash[65];
    at_content_hash(x->parts[0].labels, x->parts[0].count, hash);
    return !strcmp(hash, fashion_labels);
}

static bool set_names(at_source *s, const struct idx *x)
{
    if (is_fashion(x))
        return at_names_set(&s->names, fashion_names, sizeof fashion_names / sizeof *fashion_names);
    size_t n = 0;
    for (int i = 0; i < 2; i++)
        for (size_t k = 0; k < x->parts[i].count; k++)
            n = x->parts[i].labels[k] >= n ? x->parts[i].labels[k] + 1u : n;
    return n == 0 || at_names_number(&s->names, n);
}

/* ---- the source ---- */

static int open_idx(at_source *s, at_error *err)
{
    struct idx *x = calloc(1, sizeof *x);
    if (!x)
        return at_nomem(err);
    s->state = x;
    for (int i = 0; i < 2; i++) {
        int code = open_part(&x->parts[i], s->path, part_kinds[i].prefix, err);
        if (code < 0)
            return code;
        s->total += (double)x->parts[i].count;
    }
    return set_names(s, x) ? 0 : at_nomem(err);
}

static int read_image(struct part *p, at_item *item, at_error *err)
{
    size_t pixels = p->width * p->height;
    if (!at_buffer_reserve(&item->bytes, AT_RAW_HEADER + pixels))
        return at_nomem(err);
    at_raw_header(item->bytes.data, (uint32_t)p->width, (uint32_t)p->height, 1);
    item->bytes.size = AT_RAW_HEADER + pixels;
    return file_read(&p->images, item->bytes.data + AT_RAW_HEADER, pixels, err);
}

static int next(at_source *s, at_item *item, at_error *err)
{
    struct idx *x = s->state;
    while (x->current < 2) {
        struct part *p = &x->parts[x->current];
        if (p->next == p->count) {
            int code = p->images.stream ? file_expect_end(&p->images, err) : 0;
            if (code < 0)
                return code;
            x->current++;
            continue;
        }
        int code = read_image(p, item, err);
        if (code < 0)
            return code;
        item->split = part_kinds[x->current].split;
        item->mtime = p->mtime;
        item->path.length = item->class_name.length = 0;
        at_text_add(&item->path, "%s/%05zu", at_split_name(item->split), p->next);
        at_text_add(&item->class_name, "%u", p->labels[p->next++]);
        s->done++;
        if (!item->path.failed && at_source_passes(s, item->path.data))
            continue;
        return 1;
    }
    return 0;
}

static void close_idx(at_source *s)
{
    struct idx *x = s->state;
    for (int i = 0; x && i < 2; i++) {
        file_close(&x->parts[i].images);
        free(x->parts[i].labels);
    }
    free(x);
}

const at_source_kind at_source_idx = {.name = "idx",
                                      .own_labels = true,
                                      .recognise = recognise,
                                      .open = open_idx,
                                      .next = next,
                                      .close = close_idx};
