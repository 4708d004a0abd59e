/* SPDX-License-Identifier: Apache-2.0
 * Source: a folder of <split>/<class>/.../file or <class>/.../file.
 *
 * The reader only lists (in byte order of names, so that two runs agree); the decoding threads open
 * and read the files, which hides the latency of a network file system. Every file is yielded, and
 * every folder that cannot be listed: what is no picture ends in errors. Hidden folders and the label
 * dataset.yaml are passed over. Links are followed, but not to a folder that is already open, nor
 * more than MAX_LINKED times to the same one: ten folders with links to each other are millions of
 * paths. */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_DEPTH = 64, MAX_LINKED = 16 };

struct level {
    struct dirent **entries;
    int count, next;
    size_t path_length; /* of the walker's path without this level's entry */
    dev_t device;
    ino_t inode;
};

struct walker {
    at_text path;        /* of the folder that is walked */
    size_t root;         /* characters of path that belong to the source's own */
    at_keys *linked;     /* how often links led to a folder, by device and inode */
    const char *trouble; /* why path, a folder, cannot be listed; NULL: it is a file */
    struct level levels[MAX_DEPTH];
    int depth;
};

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int not_dots(const struct dirent *e)
{
    return strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
}

static bool is_open(const struct walker *w, const struct stat *st)
{
    for (int i = 0; i < w->depth; i++)
        if (w->levels[i].inode == st->st_ino && w->levels[i].device == st->st_dev)
            return true;
    return false;
}

/* 1: the folder is listed, 0: it cannot be, negative: out of memory. */
static int enter(struct walker *w, const struct stat *st, at_error *err)
{
    if (w->depth == MAX_DEPTH) {
        w->trouble = "folders are nested more than 64 deep";
        return 0;
    }
    struct level *l = &w->levels[w->depth];
    *l = (struct level){.path_length = w->path.length, .device = st->st_dev, .inode = st->st_ino};
    l->count = scandir(w->path.data, &l->entries, not_dots, by_name);
    if (l->count < 0 && errno == ENOMEM)
        return at_nomem(err);
    if (l->count < 0) {
        w->trouble = strerror(errno);
        return 0;
    }
    w->depth++;
    return 1;
}

static void leave(struct walker *w)
{
    struct level *l = &w->levels[--w->depth];
    for (int i = 0; i < l->count; i++)
        free(l->entries[i]);
    free(l->entries);
}

static int walker_init(struct walker *w, const char *path, at_error *err)
{
    struct stat st;
    at_text_add(&w->path, "%s", path);
    while (w->path.length > 1 && w->path.data[w->path.length - 1] == '/')
        w->path.data[--w->path.length] = 0;
    w->root = w->path.length + 1;
    w->linked = at_keys_new();
    if (w->path.failed || !w->linked)
        return at_nomem(err);
    if (stat(path, &st))
        return at_fail_errno(err, errno, "cannot read folder %s", path);
    int code = enter(w, &st, err);
    return code == 0 ? at_fail(err, AT_EINPUT, "cannot read folder %s: %s", path, w->trouble) : code;
}

static void walker_fini(struct walker *w)
{
    while (w->depth)
        leave(w);
    at_keys_free(w->linked);
    at_text_fini(&w->path);
}

static bool is_folder(const struct walker *w, const struct dirent *e, struct stat *st)
{
    if (e->d_type == DT_REG)
        return false;
    return stat(w->path.data, st) == 0 && S_ISDIR(st->st_mode);
}

static bool is_link(const struct walker *w, const struct dirent *e)
{
    struct stat st;
    return e->d_type == DT_LNK ||
           (e->d_type == DT_UNKNOWN && lstat(w->path.data, &st) == 0 && S_ISLNK(st.st_mode));
}

/* Counts one more link to the folder. 1: follow it, 0: there were enough, negative: out of memory. */
static int count_link(struct walker *w, const struct stat *st, at_error *err)
{
    at_key key = {.low = st->st_dev + 1, .high = st->st_ino};
    int64_t times = at_keys_get(w->linked, key);
    if (times >= MAX_LINKED) {
        w->trouble = "links lead to this folder more than 16 times";
        return 0;
    }
    return at_keys_add(w->linked, key, times < 0 ? 1 : times + 1) ? 1 : at_nomem(err);
}

/* What is at path, the entry's. 1: to be yielded, 0: passed over or entered, negative: error. */
static int visit(struct walker *w, const struct dirent *e, at_error *err)
{
    struct stat st;
    w->trouble = NULL;
    if (!is_folder(w, e, &st))
        return w->depth > 1 || strcmp(e->d_name, at_source_label_file);
    if (e->d_name[0] == '.' || is_open(w, &st))
        return 0;
    int code = is_link(w, e) ? count_link(w, &st, err) : 1;
    if (code == 1)
        code = enter(w, &st, err);
    return code < 0 ? code : code == 0;
}

/* 1: path is that of the next file, or folder in trouble, 0: the end, negative: error. */
static int walk(struct walker *w, at_error *err)
{
    while (w->depth) {
        struct level *l = &w->levels[w->depth - 1];
        w->path.length = l->path_length;
        if (l->next == l->count) {
            leave(w);
            continue;
        }
        const struct dirent *e = l->entries[l->next++];
        at_text_add(&w->path, "/%s", e->d_name);
        if (w->path.failed)
            return at_nomem(err);
        int code = visit(w, e, err);
        if (code)
            return code;
    }
    return 0;
}

/* ---- the source ---- */

static bool recognise(const char *path)
{
    return at_dir_exists(path);
}

/* Counts the files first: listing is cheap beside reading, and a bar with time left is worth it. */
static int open_folder(at_source *s, at_error *err)
{
    struct walker *w = calloc(1, sizeof *w);
    if (!w)
        return at_nomem(err);
    s->state = w;
    int code = walker_init(w, s->path, err);
    while (code >= 0 && (code = walk(w, err)) == 1) {
        s->total++;
        if (at_interrupted())
            code = at_fail(err, AT_EINTERRUPTED, "interrupted while listing %s", s->path);
    }
    walker_fini(w);
    *w = (struct walker){0};
    return code < 0 ? code : walker_init(w, s->path, err);
}

static int next(at_source *s, at_item *item, at_error *err)
{
    struct walker *w = s->state;
    for (;;) {
        int code = walk(w, err);
        if (code <= 0)
            return code;
        s->done++;
        item->path.length = 0;
        at_text_add_utf8(&item->path, w->path.data + w->root);
        if (item->path.failed)
            return at_nomem(err);
        if (at_source_passes(s, item->path.data))
            continue;
        if (w->trouble)
            at_item_fail(item, AT_REASON_UNREADABLE, "%s", w->trouble);
        else
            at_text_append(&item->file, w->path.data, w->path.length);
        at_source_place(item);
        return 1;
    }
}

static void close_folder(at_source *s)
{
    if (s->state)
        walker_fini(s->state);
    free(s->state);
}

const at_source_kind at_source_folder = {.name = "folder",
                                         .recognise = recognise,
                                         .open = open_folder,
                                         .next = next,
                                         .close = close_folder};
