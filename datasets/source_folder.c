/* SPDX-License-Identifier: Apache-2.0
 * Source: a folder of <split>/<class>/.../file or <class>/.../file.
 *
 * The reader only lists (in byte order of names, so that two runs agree); the decoding threads open
 * and read the files, which hides the latency of a network file system. Every file is yielded: what
 * is no picture ends in errors. Hidden folders and the label dataset.yaml are passed over; links
 * are followed, a link to a folder that is already open is not. */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_DEPTH = 64 };

struct level {
    struct dirent **entries;
    int count, next;
    size_t path_length; /* of the walker's path without this level's entry */
    dev_t device;
    ino_t inode;
};

struct walker {
    at_text path; /* of the folder that is walked */
    size_t root;  /* characters of path that belong to the source's own */
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

static int enter(struct walker *w, const struct stat *st, at_error *err)
{
    if (w->depth == MAX_DEPTH)
        return at_fail(err, AT_EINPUT, "%s: folders are nested more than %d deep", w->path.data,
                       MAX_DEPTH);
    struct level *l = &w->levels[w->depth];
    *l = (struct level){.path_length = w->path.length, .device = st->st_dev, .inode = st->st_ino};
    l->count = scandir(w->path.data, &l->entries, not_dots, by_name);
    if (l->count < 0)
        return at_fail_errno(err, errno, "cannot read folder %s", w->path.data);
    w->depth++;
    return 0;
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
    if (w->path.failed)
        return at_nomem(err);
    if (stat(path, &st))
        return at_fail_errno(err, errno, "cannot read folder %s", path);
    return enter(w, &st, err);
}

static void walker_fini(struct walker *w)
{
    while (w->depth)
        leave(w);
    at_text_fini(&w->path);
}

static bool is_folder(const struct walker *w, const struct dirent *e, struct stat *st)
{
    if (e->d_type == DT_REG)
        return false;
    return stat(w->path.data, st) == 0 && S_ISDIR(st->st_mode);
}

/* 1: path is that of the next file, 0: the end, negative: error. */
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
        struct stat st;
        if (!is_folder(w, e, &st)) {
            if (w->depth > 1 || strcmp(e->d_name, at_source_label_file))
                return 1;
        } else if (e->d_name[0] != '.' && !is_open(w, &st)) {
            int code = enter(w, &st, err);
            if (code < 0)
                return code;
        }
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
        if (at_keys_has_path(s->skip, item->path.data))
            continue;
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
