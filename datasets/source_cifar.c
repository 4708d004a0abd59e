/* SPDX-License-Identifier: Apache-2.0
 * Source: the binary version of CIFAR-10 and CIFAR-100
 * (https://www.cs.toronto.edu/~kriz/cifar.html), a folder or its tar.gz:
 *
 *   data_batch_<n>.bin, test_batch.bin    label, then 1024 red, 1024 green, 1024 blue bytes
 *   train.bin, test.bin                   coarse label, fine label, then the same
 *   batches.meta.txt, fine_label_names.txt, coarse_label_names.txt    names of labels, one a line
 *
 * The fine label is the class, the coarse one is kept beside it (coarse.c). In the tar the names may
 * come behind the pictures: so they are complete only at the end. Pictures become our raw form, named
 * "train/data_batch_1/00000". */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    SIDE = 32,
    PLANE = SIDE * SIDE,
    PIXELS = 3 * PLANE,
    COARSE = 20, /* classes of CIFAR-100's other label */
    MAX_NAMES = 100,
    NAMES_LIMIT = 1 << 16,
    PEEK = 16
};

static const char *const candidates[] = {
    "batches.meta.txt",     "data_batch_1.bin",       "data_batch_2.bin", "data_batch_3.bin",
    "data_batch_4.bin",     "data_batch_5.bin",       "test_batch.bin",   "train.bin",
    "fine_label_names.txt", "coarse_label_names.txt", "test.bin"};
enum { CANDIDATES = sizeof candidates / sizeof *candidates };

struct cifar {
    at_archive *archive; /* or else a folder: */
    char *folder;
    FILE *file;
    size_t candidate;
    /* the batch that is read */
    char member[64]; /* without ".bin" */
    bool in_batch;
    at_split split;
    size_t label_bytes; /* 1: CIFAR-10, 2: CIFAR-100 */
    size_t index;
    int64_t mtime;
};

/* ---- recognising ---- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Whether a file of that name holds pictures; how many labels it has at most. */
static bool is_batch(const char *name, at_split *split, size_t *label_bytes)
{
    int number, length = 0;
    if (sscanf(name, "data_batch_%d.bin%n", &number, &length) == 1 && length && !name[length]) {
        *split = AT_TRAIN;
        *label_bytes = 1;
        return true;
    }
    *split = strcmp(name, "train.bin") ? AT_TEST : AT_TRAIN;
    *label_bytes = strcmp(name, "test_batch.bin") ? 2 : 1;
    return !strcmp(name, "test_batch.bin") || !strcmp(name, "train.bin") ||
           !strcmp(name, "test.bin");
}

static bool folder_has(const char *folder, const char *name)
{
    char *path = at_path_join(folder, name);
    bool there = path && at_is_regular(path);
    free(path);
    return there;
}

static bool is_cifar_folder(const char *path)
{
    return folder_has(path, "data_batch_1.bin") || folder_has(path, "test_batch.bin") ||
           (folder_has(path, "fine_label_names.txt") &&
            (folder_has(path, "train.bin") || folder_has(path, "test.bin")));
}

/* The folder itself or the one that the official tar makes in it, malloc'd; NULL: neither. */
static char *find_folder(const char *path)
{
    static const char *const unpacked[] = {"cifar-10-batches-bin", "cifar-100-binary"};
    if (is_cifar_folder(path))
        return strdup(path);
    for (size_t i = 0; i < sizeof unpacked / sizeof *unpacked; i++) {
        char *inner = at_path_join(path, unpacked[i]);
        if (inner && is_cifar_folder(inner))
            return inner;
        free(inner);
    }
    return NULL;
}

/* The archive whose first members hold a batch; NULL: none. */
static char *find_archive(const char *path)
{
    char *file = at_archive_find(path);
    at_archive *a = file ? at_archive_open(file, NULL) : NULL;
    bool found = false;
    const char *name;
    int64_t size, mtime;
    for (int i = 0; a && i < PEEK && !found && at_archive_next(a, &name, &size, &mtime, NULL) == 1;
         i++) {
        at_split split;
        size_t label_bytes;
        found = is_batch(base_name(name), &split, &label_bytes) && size > 0 &&
                size % (int64_t)(label_bytes + PIXELS) == 0;
        if (!found && size > NAMES_LIMIT)
            break; /* what lies behind it would have to be unpacked only to look */
    }
    at_archive_close(a);
    if (found)
        return file;
    free(file);
    return NULL;
}

static bool recognise(const char *path)
{
    char *where = at_dir_exists(path) ? find_folder(path) : NULL;
    if (!where)
        where = find_archive(path);
    free(where);
    return where != NULL;
}

/* ---- members ---- */

/* The next file of the folder. 1: open, 0: the end. */
static int next_file(struct cifar *c, const char **name, at_error *err)
{
    if (c->file)
        fclose(c->file);
    c->file = NULL;
    while (c->candidate < CANDIDATES) {
        *name = candidates[c->candidate++];
        char *path = at_path_join(c->folder, *name);
        if (!path)
            return at_nomem(err);
        struct stat st;
        int code = 0;
        if (stat(path, &st))
            code = errno == ENOENT ? 0 : at_fail_errno(err, errno, "cannot read %s", path);
        else if (!S_ISREG(st.st_mode))
            code = at_fail(err, AT_EINPUT, "%s is a pipe, a device or a folder, not a file", path);
        else if (!(c->file = fopen(path, "rb")))
            code = at_fail_errno(err, errno, "cannot read %s", path);
        else
            c->mtime = st.st_mtime;
        free(path);
        if (c->file || code < 0)
            return code < 0 ? code : 1;
    }
    return 0;
}

static int next_member(struct cifar *c, const char **name, at_error *err)
{
    int64_t size;
    return c->archive ? at_archive_next(c->archive, name, &size, &c->mtime, err)
                      : next_file(c, name, err);
}

/* Up to `bytes`: how many there were, negative: error. */
static int64_t read_some(struct cifar *c, uint8_t *out, size_t bytes, at_error *err)
{
    size_t got = 0;
    while (got < bytes) {
        int64_t n = c->archive ? at_archive_read(c->archive, out + got, bytes - got, err)
                               : (int64_t)fread(out + got, 1, bytes - got, c->file);
        if (n < 0)
            return n;
        if (n == 0)
            break;
        got += (size_t)n;
    }
    if (c->file && ferror(c->file))
        return at_fail(err, AT_EINPUT, "%s/%s: reading failed", c->folder, c->member);
    return (int64_t)got;
}

/* The lines of a file of names; empty ones are none. */
static int read_names(struct cifar *c, at_names *out, at_error *err)
{
    char *text = malloc(NAMES_LIMIT);
    if (!text)
        return at_nomem(err);
    int64_t n = read_some(c, (uint8_t *)text, NAMES_LIMIT - 1, err);
    int code = n < 0 ? (int)n : 0;
    const char *names[MAX_NAMES];
    size_t count = 0;
    text[n < 0 ? 0 : n] = 0;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\r\n", &rest); line && count < MAX_NAMES;
         line = strtok_r(NULL, "\r\n", &rest))
        names[count++] = line;
    if (code == 0 && count && !at_names_set(out, names, count))
        code = at_nomem(err);
    free(text);
    return code;
}

static int enter(at_source *s, const char *path, at_error *err)
{
    struct cifar *c = s->state;
    const char *name = base_name(path);
    snprintf(c->member, sizeof c->member, "%s", name);
    if (!strcmp(name, "batches.meta.txt") || !strcmp(name, "fine_label_names.txt"))
        return read_names(c, &s->names, err);
    if (!strcmp(name, "coarse_label_names.txt"))
        return read_names(c, &s->coarse, err);
    c->in_batch = is_batch(name, &c->split, &c->label_bytes);
    c->index = 0;
    size_t labels = c->label_bytes == 1 ? 10 : 100;
    if (c->in_batch && !s->names.items && !at_names_number(&s->names, labels))
        return at_nomem(err);
    char *dot = strrchr(c->member, '.');
    if (dot)
        *dot = 0;
    return 0;
}

/* ---- the source ---- */

static double count_images(const char *folder)
{
    double images = 0;
    for (size_t i = 0; i < CANDIDATES; i++) {
        at_split split;
        size_t label_bytes;
        struct stat st;
        char *path = at_path_join(folder, candidates[i]);
        if (path && is_batch(candidates[i], &split, &label_bytes) && stat(path, &st) == 0)
            images += (double)(st.st_size / (off_t)(label_bytes + PIXELS));
        free(path);
    }
    return images;
}

static int open_cifar(at_source *s, at_error *err)
{
    struct cifar *c = calloc(1, sizeof *c);
    if (!c)
        return at_nomem(err);
    s->state = c;
    c->folder = at_dir_exists(s->path) ? find_folder(s->path) : NULL;
    if (c->folder) {
        s->total = count_images(c->folder);
        return 0;
    }
    char *file = find_archive(s->path);
    struct stat st;
    if (file && stat(file, &st) == 0)
        s->total = (double)st.st_size;
    s->unit = "bytes";
    c->archive = file ? at_archive_open(file, err) : NULL;
    free(file);
    return c->archive ? 0 : AT_EINPUT;
}

static void interleave(const uint8_t *planes, uint8_t *out)
{
    for (size_t i = 0; i < PLANE; i++)
        for (size_t c = 0; c < 3; c++)
            out[3 * i + c] = planes[c * PLANE + i];
}

/* 1: a record is in the item, 0: the batch ends here, negative: error. */
static int read_record(at_source *s, at_item *item, at_error *err)
{
    struct cifar *c = s->state;
    uint8_t record[2 + PIXELS];
    size_t bytes = c->label_bytes + PIXELS;
    int64_t n = read_some(c, record, bytes, err);
    if (n <= 0)
        return (int)n;
    unsigned label = record[c->label_bytes - 1];
    size_t offset = c->index * bytes;
    if ((size_t)n < bytes)
        return at_fail(err, AT_EINPUT, "%s: %s.bin: offset %zu: the file ends within a record",
                       s->path, c->member, offset + (size_t)n);
    if (label >= (c->label_bytes == 1 ? 10 : 100))
        return at_fail(err, AT_EINPUT, "%s: %s.bin: offset %zu: label %u", s->path, c->member,
                       offset, label);
    if (c->label_bytes == 2 && record[0] >= COARSE)
        return at_fail(err, AT_EINPUT, "%s: %s.bin: offset %zu: coarse label %u", s->path,
                       c->member, offset, record[0]);
    if (!at_buffer_reserve(&item->bytes, AT_RAW_HEADER + PIXELS))
        return at_nomem(err);
    at_raw_header(item->bytes.data, SIDE, SIDE, 3);
    interleave(record + c->label_bytes, item->bytes.data + AT_RAW_HEADER);
    item->bytes.size = AT_RAW_HEADER + PIXELS;
    item->split = c->split;
    item->coarse = c->label_bytes == 2 ? 1 + record[0] : 0;
    item->mtime = c->mtime;
    item->path.length = item->class_name.length = 0;
    at_text_add(&item->path, "%s/%s/%05zu", at_split_name(c->split), c->member, c->index++);
    at_text_add(&item->class_name, "%u", label);
    return 1;
}

static int next(at_source *s, at_item *item, at_error *err)
{
    struct cifar *c = s->state;
    for (;;) {
        int code = c->in_batch ? read_record(s, item, err) : 0;
        s->done = c->archive ? at_archive_position(c->archive) : s->done + code;
        if (code < 0)
            return code;
        if (code == 1 && !item->path.failed && at_source_passes(s, item->path.data))
            continue;
        if (code == 1)
            return 1;
        c->in_batch = false;
        const char *name;
        code = next_member(c, &name, err);
        if (code <= 0 || (code = enter(s, name, err)) < 0)
            return code;
    }
}

static void close_cifar(at_source *s)
{
    struct cifar *c = s->state;
    if (!c)
        return;
    at_archive_close(c->archive);
    if (c->file)
        fclose(c->file);
    free(c->folder);
    free(c);
}

const at_source_kind at_source_cifar = {.name = "cifar",
                                        .own_labels = true,
                                        .recognise = recognise,
                                        .open = open_cifar,
                                        .next = next,
                                        .close = close_cifar};
