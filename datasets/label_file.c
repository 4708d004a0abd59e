/* SPDX-License-Identifier: Apache-2.0
 * A label file over a source: it tells class and split of each file, instead of the folders.
 *
 * The rows are read whole before the first picture, so that a mistake in them costs no work. A
 * file without a row is set aside, and so is, when the source has ended, a row without its file:
 * nothing is guessed and nothing is lost silently. Paths are compared in the form of images(path),
 * in which bytes that are no UTF-8 stand as \xNN; a row may have them in either form. */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FILE_LIMIT = 2000 << 20 };

struct row {
    size_t path, label; /* in the pool */
    uint32_t line;
    at_split split;
    bool seen;
};

struct at_label_file {
    char *path;
    const char *name; /* path's last part, for people */
    char hash[65];
    dev_t device;
    ino_t inode;
    struct row *rows;
    size_t count, capacity, next_missing;
    at_text pool;            /* paths and labels, each with its NUL */
    at_keys *index, *labels; /* path to row; label to its place in the pool */
    bool splits;             /* a column of its own */
};

/* ---- reading ---- */

/* Archives and folders name their files without these. */
static const char *plain(const char *path)
{
    while (path[0] == '/' || (path[0] == '.' && path[1] == '/'))
        path += path[0] == '/' ? 1 : 2;
    return path;
}

static size_t add_text(at_label_file *f, const char *text)
{
    size_t place = f->pool.length;
    at_text_add_utf8(&f->pool, text);
    at_text_append(&f->pool, "", 1);
    return place;
}

static struct row *add_row(at_label_file *f)
{
    if (f->count == f->capacity) {
        size_t capacity = f->capacity ? 2 * f->capacity : 1024;
        struct row *rows = realloc(f->rows, capacity * sizeof *rows);
        if (!rows)
            return NULL;
        f->rows = rows;
        f->capacity = capacity;
    }
    return &f->rows[f->count];
}

/* The split that the path's folders name, train where none does. */
static at_split split_of_path(const char *path)
{
    at_split split = AT_TRAIN;
    for (const char *end; (end = strchr(path, '/')); path = end + 1)
        if (at_split_of_folder(path, (size_t)(end - path), &split))
            break;
    return split;
}

static int set_split(at_label_file *f, const at_label_row *in, struct row *row, at_error *err)
{
    f->splits = f->count ? f->splits : in->split != NULL;
    if (f->splits != (in->split != NULL))
        return at_fail(err, AT_EINPUT, "%s:%zu: split is missing, here or in the lines before",
                       f->name, in->line);
    row->split = split_of_path(f->pool.data + row->path);
    if (in->split && !at_split_of_folder(in->split, strlen(in->split), &row->split))
        return at_fail(err, AT_EINPUT, "%s:%zu: split \"%s\" is none of train, val and test",
                       f->name, in->line, in->split);
    return 0;
}

static int take_row(void *context, const at_label_row *in, at_error *err)
{
    at_label_file *f = context;
    struct row *row = add_row(f);
    if (!row)
        return at_nomem(err);
    *row = (struct row){.path = add_text(f, plain(in->path)), .line = (uint32_t)in->line};
    if (f->pool.failed)
        return at_nomem(err);
    at_key key = at_key_of_path(f->pool.data + row->path), label = at_key_of_path(in->label);
    int64_t before = at_keys_get(f->index, key), known = at_keys_get(f->labels, label);
    if (before >= 0)
        return at_fail(err, AT_EINPUT, "%s:%zu: %s comes again, it is in line %u: leave one row",
                       f->name, in->line, f->pool.data + row->path, f->rows[before].line);
    row->label = known >= 0 ? (size_t)known : add_text(f, in->label);
    if (f->pool.failed || !at_keys_add(f->index, key, (int64_t)f->count) ||
        !at_keys_add(f->labels, label, (int64_t)row->label))
        return at_nomem(err);
    int code = set_split(f, in, row, err);
    f->count += code == 0;
    return code;
}

static int read_rows(at_label_file *f, at_error *err)
{
    char *text;
    size_t bytes;
    struct stat st;
    if (stat(f->path, &st))
        return at_fail_errno(err, errno, "cannot read the label file %s", f->path);
    f->device = st.st_dev;
    f->inode = st.st_ino;
    int code = at_file_read(f->path, FILE_LIMIT, &text, &bytes, err);
    if (code < 0)
        return code;
    at_content_hash(text, bytes, f->hash);
    code = at_label_rows(text, bytes, f->name, take_row, f, err);
    free(text);
    if (code == 0 && f->count == 0)
        code = at_fail(err, AT_EINPUT, "%s: it has no row", f->path);
    return code;
}

at_label_file *at_label_file_read(const char *path, at_error *err)
{
    at_label_file *f = calloc(1, sizeof *f);
    if (!f || !(f->path = strdup(path)) || !(f->index = at_keys_new()) ||
        !(f->labels = at_keys_new())) {
        at_nomem(err);
        goto fail_read;
    }
    const char *slash = strrchr(f->path, '/');
    f->name = slash && slash[1] ? slash + 1 : f->path;
    if (read_rows(f, err) == 0)
        return f;
fail_read:
    at_label_file_free(f);
    return NULL;
}

void at_label_file_free(at_label_file *f)
{
    if (!f)
        return;
    at_keys_free(f->index);
    at_keys_free(f->labels);
    at_text_fini(&f->pool);
    free(f->rows);
    free(f->path);
    free(f);
}

size_t at_label_file_count(const at_label_file *f)
{
    return f->count;
}

void at_label_file_get(const at_label_file *f, size_t i, at_item *item)
{
    const struct row *row = &f->rows[i];
    at_text_add(&item->path, "%s", f->pool.data + row->path);
    at_text_add(&item->class_name, "%s", f->pool.data + row->label);
    item->split = row->split;
}

const char *at_label_file_hash(const at_label_file *f)
{
    return f->hash;
}

/* ---- over a source ---- */

static bool is_itself(const at_label_file *f, const at_item *item)
{
    struct stat st;
    return item->file.length && stat(item->file.data, &st) == 0 && st.st_dev == f->device &&
           st.st_ino == f->inode;
}

bool at_label_file_apply(at_label_file *f, at_item *item)
{
    int64_t found = at_keys_get(f->index, at_key_of_path(item->path.data));
    item->class_name.length = 0;
    if (found < 0) {
        if (is_itself(f, item))
            return false;
        if (!item->bad)
            at_item_fail(item, AT_REASON_UNSUPPORTED, "%s has no row for it", f->name);
        return true;
    }
    struct row *row = &f->rows[found];
    row->seen = true;
    item->split = row->split;
    at_text_add(&item->class_name, "%s", f->pool.data + row->label);
    return true;
}

int at_label_file_missing(at_label_file *f, const at_keys *skip, at_item *item)
{
    while (f->next_missing < f->count) {
        const struct row *row = &f->rows[f->next_missing++];
        const char *path = f->pool.data + row->path;
        if (row->seen || at_keys_has_path(skip, path))
            continue;
        at_text_add(&item->path, "%s", path);
        at_item_fail(item, AT_REASON_UNREADABLE, "%s:%u: there is no such file", f->name,
                     row->line);
        return 1;
    }
    return 0;
}
