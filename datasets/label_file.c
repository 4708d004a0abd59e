/* SPDX-License-Identifier: Apache-2.0
 * A label file over a source: it tells class and split of each file, instead of the folders.
 *
 * The rows are read whole before the first picture, so that a mistake in them costs no work. A
 * file without a row is set aside, and so is, when the source has ended, a row without its file:
 * nothing is guessed and nothing is lost silently. Paths are compared in the form of images(path),
 * in which bytes that are no UTF-8 stand as \xNN; a row may have them in either form.
 *
 * The file lies on disk, or is a member of the archive that it tells of; then the archive is read up
 * to it beforehand. Either way it is no picture of the source. */
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
    at_text member; /* its path in the archive; empty: it lies on disk, as */
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

/* What the archive tells of the member that it is at. */
static int read_member(at_archive *a, int64_t size, const char *name, at_text *out, at_error *err)
{
    static const char *const kinds[] = {"a link", "encrypted"};
    if (size < 0)
        return at_fail(err, AT_EINPUT, "the label file %s is %s", name, kinds[-1 - size]);
    char part[1 << 14];
    int64_t n;
    while ((n = at_archive_read(a, part, sizeof part, err)) > 0 && out->length <= FILE_LIMIT)
        at_text_append(out, part, (size_t)n);
    if (n < 0)
        return (int)n;
    if (out->length > FILE_LIMIT)
        return at_fail(err, AT_EINPUT, "%s is larger than %d bytes", name, FILE_LIMIT);
    return out->failed ? at_nomem(err) : 0;
}

/* 1: out is what the archive has under the label file's path; 0: it has no such member. */
static int find_member(at_label_file *f, at_archive *a, at_text *out, at_error *err)
{
    const char *name;
    int64_t size, mtime;
    int code;
    while ((code = at_archive_next(a, &name, &size, &mtime, err)) == 1)
        if (!strcmp(plain(name), plain(f->path))) {
            at_text_add_utf8(&f->member, name);
            code = f->member.failed ? at_nomem(err) : read_member(a, size, f->path, out, err);
            return code < 0 ? code : 1;
        }
    return code;
}

static int read_from_archive(at_label_file *f, const char *source, at_text *out, at_error *err)
{
    char *file = at_archive_find(source);
    at_archive *a = file ? at_archive_open(file, err) : NULL;
    int code = !file ? 0 : a ? find_member(f, a, out, err) : AT_EINPUT;
    if (code == 0 && file)
        code = at_fail(err, AT_ENOENT,
                       "cannot read the label file %s: no such file, nor such a member of %s",
                       f->path, file);
    else if (code == 0)
        code = at_fail_errno(err, ENOENT, "cannot read the label file %s", f->path);
    at_archive_close(a);
    free(file);
    return code < 0 ? code : 0;
}

static int read_text(at_label_file *f, const char *source, at_text *out, at_error *err)
{
    struct stat st;
    if (stat(f->path, &st))
        return errno == ENOENT
                   ? read_from_archive(f, source, out, err)
                   : at_fail_errno(err, errno, "cannot read the label file %s", f->path);
    f->device = st.st_dev;
    f->inode = st.st_ino;
    return at_file_read(f->path, FILE_LIMIT, &out->data, &out->length, err);
}

static int read_rows(at_label_file *f, const char *source, at_error *err)
{
    at_text text = {0};
    int code = read_text(f, source, &text, err);
    if (code == 0) {
        at_content_hash(text.data, text.length, f->hash);
        code = at_label_rows(text.data, text.length, f->name, take_row, f, err);
    }
    at_text_fini(&text);
    if (code == 0 && f->count == 0)
        code = at_fail(err, AT_EINPUT, "%s: it has no row", f->path);
    return code;
}

at_label_file *at_label_file_read(const char *path, const char *source, at_error *err)
{
    at_label_file *f = calloc(1, sizeof *f);
    if (!f || !(f->path = strdup(path)) || !(f->index = at_keys_new()) ||
        !(f->labels = at_keys_new())) {
        at_nomem(err);
        goto fail_read;
    }
    const char *slash = strrchr(f->path, '/');
    f->name = slash && slash[1] ? slash + 1 : f->path;
    if (read_rows(f, source, err) == 0)
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
    at_text_fini(&f->member);
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
    if (f->member.length)
        return !strcmp(item->path.data, f->member.data);
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
