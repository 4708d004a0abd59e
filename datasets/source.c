/* SPDX-License-Identifier: Apache-2.0
 * Sources: finds the one that recognises a path, and what they share (the layout of folders, names
 * of splits, labels, paths as valid UTF-8). A source yields its items in one fixed order. */
#include "share.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define SOURCE(name) extern const at_source_kind at_source_##name;
#include "sources.def"
#undef SOURCE

static const at_source_kind *const kinds[] = {
#define SOURCE(name) &at_source_##name,
#include "sources.def"
#undef SOURCE
};

const char at_source_label_file[] = "dataset.yaml";

bool at_is_regular(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static const at_source_kind *recognise(const char *path)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i]->recognise(path))
            return kinds[i];
    return NULL;
}

/* No source recognises the path: then it is a file, which would have to be an archive. */
static void explain_unknown(const char *path, at_error *err)
{
    at_error why = {0};
    const char *name;
    int64_t size, mtime;
    at_archive *a = at_archive_open(path, &why);
    if (a)
        at_archive_next(a, &name, &size, &mtime, &why);
    at_archive_close(a);
    at_fail(err, AT_EINPUT, "no folder and no readable tar or zip: %s",
            why.message[0] ? why.message : path);
}

static int read_labels(at_source *s, const char *labels, at_error *err)
{
    if (!labels)
        return 0;
    if (s->kind->own_labels)
        return at_fail(err, AT_EINPUT, "%s: a source of kind %s has labels of its own", s->path,
                       s->kind->name);
    s->labels = at_label_file_read(labels, s->path, err);
    return s->labels ? 0 : err->code;
}

at_source *at_source_open(const char *path, const char *labels, at_error *err)
{
    struct stat st;
    if (stat(path, &st)) {
        at_fail_errno(err, errno, "cannot read source %s", path);
        return NULL;
    }
    if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode)) {
        at_fail(err, AT_EINPUT, "%s is a pipe, a socket or a device: give a folder or a file",
                path);
        return NULL;
    }
    const at_source_kind *kind = recognise(path);
    if (!kind) {
        explain_unknown(path, err);
        return NULL;
    }
    at_source *s = calloc(1, sizeof *s);
    if (!s || !(s->path = strdup(path))) {
        free(s);
        at_nomem(err);
        return NULL;
    }
    s->kind = kind;
    s->unit = "images";
    s->limits = at_limits_resolved((at_decode_limits){0});
    if (read_labels(s, labels, err) < 0 || kind->open(s, err) < 0) {
        at_source_close(s);
        return NULL;
    }
    return s;
}

/* When the files have come to their end, the rows that had none. */
static int next_labelled(at_source *s, at_item *item, at_error *err)
{
    int code = 0;
    while (!s->ended && (code = s->kind->next(s, item, err)) == 1 && !item->path.failed &&
           !at_label_file_apply(s->labels, item))
        at_item_reset(item);
    s->ended = s->ended || code == 0;
    return code ? code : at_label_file_missing(s->labels, s->skip, item);
}

int at_source_next(at_source *s, at_item *item, at_error *err)
{
    at_item_reset(item);
    int code = s->labels ? next_labelled(s, item, err) : s->kind->next(s, item, err);
    if (code == 1 && (item->path.failed || item->file.failed || item->class_name.failed))
        return at_nomem(err);
    return code;
}

bool at_source_passes(at_source *s, const char *path)
{
    return at_keys_has_path(s->skip, path) || at_share_passes(s, path);
}

void at_source_close(at_source *s)
{
    if (!s)
        return;
    s->kind->close(s);
    at_label_file_free(s->labels);
    at_names_fini(&s->names);
    at_names_fini(&s->coarse);
    free(s->path);
    free(s);
}

/* ---- names of labels ---- */

bool at_names_set(at_names *names, const char *const *items, size_t n)
{
    at_names copy = {calloc(n, sizeof *copy.items), n};
    bool there = copy.items != NULL;
    for (size_t i = 0; there && i < n; i++)
        there = (copy.items[i] = strdup(items[i])) != NULL;
    at_names_fini(there ? names : &copy);
    if (there)
        *names = copy;
    return there;
}

bool at_names_number(at_names *names, size_t n)
{
    char text[256][4];
    const char *items[256];
    for (size_t i = 0; i < n; i++) {
        snprintf(text[i], sizeof text[i], "%u", (unsigned)(uint8_t)i);
        items[i] = text[i];
    }
    return at_names_set(names, items, n);
}

void at_names_fini(at_names *names)
{
    for (size_t i = 0; names->items && i < names->count; i++)
        free(names->items[i]);
    free(names->items);
    *names = (at_names){0};
}

/* ---- the layout of folders ---- */

bool at_split_of_folder(const char *name, size_t length, at_split *out)
{
    static const struct {
        const char *name;
        at_split split;
    } known[] = {{"train", AT_TRAIN}, {"training", AT_TRAIN}, {"val", AT_VAL},
                 {"valid", AT_VAL},   {"validation", AT_VAL}, {"test", AT_TEST},
                 {"testing", AT_TEST}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].name) == length && !strncasecmp(known[i].name, name, length)) {
            *out = known[i].split;
            return true;
        }
    return false;
}

/* The first folder that names a split and has a class folder below it; NULL: none. */
static const char *find_split(const char *path, at_split *split)
{
    for (const char *part = path; part;) {
        const char *end = strchr(part, '/');
        if (!end || !strchr(end + 1, '/'))
            return NULL;
        if (at_split_of_folder(part, (size_t)(end - part), split))
            return part;
        part = end + 1;
    }
    return NULL;
}

bool at_layout_parse(const char *path, size_t skip, at_split *split, const char **name,
                     size_t *length)
{
    *split = AT_TRAIN;
    const char *part = find_split(path, split);
    if (part)
        part = strchr(part, '/') + 1;
    else
        for (part = path; skip; skip--) {
            part = strchr(part, '/');
            if (!part++)
                return false;
        }
    const char *end = strchr(part, '/');
    if (!end || end == part)
        return false;
    *name = part;
    *length = (size_t)(end - part);
    return true;
}

void at_source_place(at_item *item)
{
    const char *name;
    size_t length;
    if (at_layout_parse(item->path.data, 0, &item->split, &name, &length))
        at_text_append(&item->class_name, name, length);
}

/* ---- text ---- */

/* Bytes of the valid UTF-8 sequence at s, 0: invalid. Overlong forms and surrogates are invalid. */
static int utf8_length(const unsigned char *s)
{
    if (s[0] < 0x80)
        return 1;
    int n = s[0] >= 0xC2 && s[0] < 0xE0   ? 2
            : s[0] >= 0xE0 && s[0] < 0xF0 ? 3
            : s[0] >= 0xF0 && s[0] < 0xF5 ? 4
                                          : 0;
    for (int i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    if ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) ||
        (s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F))
        return 0;
    return n;
}

void at_text_add_utf8(at_text *t, const char *s)
{
    while (*s) {
        const char *begin = s;
        for (int n; *s && (n = utf8_length((const unsigned char *)s)); s += n)
            ;
        at_text_append(t, begin, (size_t)(s - begin));
        if (*s)
            at_text_add(t, "\\x%02X", (unsigned)(unsigned char)*s++);
    }
}
