/* SPDX-License-Identifier: Apache-2.0
 * Labels, when all of a source has been read.
 *
 * Labels must not depend on the order in which classes appeared: they follow the names (numbers by
 * value), or the source's own numbering. A tar is read once, so only now it shows that all of it
 * lies in one leading folder, "photos/cat/1.jpg": while there is only one class and every image
 * lies deeper, the classes are looked for one folder further down.
 *
 * Of an append only the new images are looked at; the classes of before keep their labels, and those
 * that are new come behind them. */
#include "rows.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_LEADING = 16 };

struct class_name {
    char *name;
    int64_t old; /* label so far */
};

struct classes {
    struct class_name *items;
    size_t count;
};

static void classes_fini(struct classes *k)
{
    for (size_t i = 0; i < k->count; i++)
        free(k->items[i].name);
    free(k->items);
    *k = (struct classes){0};
}

static int add_class(struct classes *k, const char *name, int64_t old, at_error *err)
{
    struct class_name *items = realloc(k->items, (k->count + 1) * sizeof *items);
    if (!items)
        return at_nomem(err);
    k->items = items;
    char *copy = strdup(name);
    if (!copy)
        return at_nomem(err);
    k->items[k->count++] = (struct class_name){copy, old};
    return 0;
}

static int load_classes(at_db *db, const char *sql, struct classes *k, at_error *err)
{
    at_stmt *s = at_db_prepare(db, sql, err);
    int code = s ? 1 : AT_EIO;
    while (code == 1 && (code = at_stmt_step(s, err)) == 1) {
        int failed = add_class(k, at_stmt_text(s, 0), at_stmt_int(s, 1), err);
        code = failed < 0 ? failed : 1;
    }
    at_stmt_free(s);
    return code;
}

/* ---- leading folders ---- */

/* The class's label by name; a new one is added. Negative: out of memory. */
static int64_t label_of(struct classes *k, const char *name, size_t length, at_error *err)
{
    for (size_t i = k->count; i-- > 0;)
        if (strlen(k->items[i].name) == length && !memcmp(k->items[i].name, name, length))
            return (int64_t)i;
    char *copy = strndup(name, length);
    int code = copy ? add_class(k, copy, (int64_t)k->count, err) : at_nomem(err);
    free(copy);
    return code < 0 ? code : (int64_t)k->count - 1;
}

/* Whether every image has a class folder behind `skip` leading ones. 1, 0 or negative. */
static int all_deeper(at_db *db, int64_t after, size_t skip, at_error *err)
{
    at_stmt *s = at_db_prepare(db, "SELECT path FROM images WHERE id > ?", err);
    int code = s ? 1 : AT_EIO;
    bool deeper = true;
    if (s)
        at_stmt_bind(s, "i", after);
    while (deeper && code == 1 && (code = at_stmt_step(s, err)) == 1) {
        at_split split;
        const char *name;
        size_t length;
        deeper = at_layout_parse(at_stmt_text(s, 0), skip, &split, &name, &length);
    }
    at_stmt_free(s);
    return code < 0 ? code : deeper;
}

/* Gives every image the class behind `skip` leading folders. */
static int descend(at_db *db, int64_t after, size_t skip, struct classes *k, at_error *err)
{
    classes_fini(k);
    at_stmt *s = at_db_prepare(db, "SELECT id, path FROM images WHERE id > ?", err);
    at_stmt *set = at_db_prepare(db, "UPDATE images SET label = ? WHERE id = ?", err);
    int code = s && set ? 1 : AT_EIO;
    if (s)
        at_stmt_bind(s, "i", after);
    while (code == 1 && (code = at_stmt_step(s, err)) == 1) {
        at_split split;
        const char *name;
        size_t length;
        at_layout_parse(at_stmt_text(s, 1), skip, &split, &name, &length);
        int64_t label = label_of(k, name, length, err);
        int failed = label < 0 ? (int)label : 0;
        if (failed == 0) {
            at_stmt_bind(set, "ii", label, at_stmt_int(s, 0));
            failed = at_stmt_step(set, err);
        }
        code = failed < 0 ? failed : 1;
    }
    at_stmt_free(s);
    at_stmt_free(set);
    return code;
}

/* The place of the name among the classes, -1: none. */
static int64_t place_of(const struct classes *k, const char *name)
{
    for (size_t i = 0; i < k->count; i++)
        if (!strcmp(k->items[i].name, name))
            return (int64_t)i;
    return -1;
}

/* A folder that is a class of before is no leading one. */
static int find_layout(at_db *db, int64_t after, const struct classes *known, struct classes *k,
                       bool *changed, at_error *err)
{
    int code = 1;
    for (size_t skip = 1; code == 1 && k->count == 1 && skip < MAX_LEADING; skip++) {
        if (place_of(known, k->items[0].name) >= 0)
            break;
        code = all_deeper(db, after, skip, err);
        if (code != 1)
            break;
        *changed = true;
        char *before = strdup(k->items[0].name);
        code = before ? descend(db, after, skip, k, err) : at_nomem(err);
        bool other = code == 0 && (k->count > 1 || strcmp(before, k->items[0].name));
        free(before);
        code = code < 0 ? code : other; /* below a split's folder it stays what it is */
    }
    return code < 0 ? code : 0;
}

/* ---- numbering ---- */

static bool is_number(const char *s)
{
    return *s && strspn(s, "0123456789") == strlen(s) && strlen(s) < 10;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct class_name *)a)->name, ((const struct class_name *)b)->name);
}

static int by_number(const void *a, const void *b)
{
    long x = atol(((const struct class_name *)a)->name),
         y = atol(((const struct class_name *)b)->name);
    return x == y ? by_name(a, b) : (x > y) - (x < y);
}

static void sort(struct classes *k)
{
    bool numbers = true;
    for (size_t i = 0; i < k->count; i++)
        numbers = numbers && is_number(k->items[i].name);
    if (k->count)
        qsort(k->items, k->count, sizeof *k->items, numbers ? by_number : by_name);
}

/* The name that the source gives a class, NULL: none. */
static const char *name_of(const struct classes *k, size_t i, const at_source *source)
{
    if (!source->names.items)
        return k->items[i].name;
    size_t number = (size_t)atol(k->items[i].name);
    return number < source->names.count ? source->names.items[number] : NULL;
}

/* All classes in the order of their labels: those of before, then the source's own or those that
 * appeared, as far as they are not among them. */
static int list_all(struct classes *all, const struct classes *k, const at_source *source,
                    at_error *err)
{
    int code = 0;
    if (source->names.items && all->count == 0)
        for (size_t i = 0; code == 0 && i < source->names.count; i++)
            code = add_class(all, source->names.items[i], 0, err);
    for (size_t i = 0; code == 0 && i < k->count; i++) {
        const char *name = name_of(k, i, source);
        if (!name)
            code = at_fail(err, AT_EINPUT, "%s: label %s has no name: there are %zu", source->path,
                           k->items[i].name, source->names.count);
        else if (place_of(all, name) < 0)
            code = add_class(all, name, 0, err);
    }
    return code;
}

static int write_all(at_db *db, const struct classes *all, at_error *err)
{
    int code = at_db_exec(db, "DELETE FROM classes", err);
    for (size_t i = 0; code == 0 && i < all->count; i++)
        code = at_db_run(db, err, "INSERT INTO classes VALUES(?,?)", "is", (int64_t)i,
                         all->items[i].name);
    return code;
}

static int relabel(at_db *db, int64_t after, const struct classes *k, const struct classes *all,
                   const at_source *source, bool *changed, at_error *err)
{
    bool same = true;
    int code =
        at_db_exec(db,
                   "CREATE TEMP TABLE IF NOT EXISTS relabel(old INTEGER PRIMARY KEY, new INTEGER);"
                   "DELETE FROM relabel",
                   err);
    for (size_t i = 0; code == 0 && i < k->count; i++) {
        int64_t label = place_of(all, name_of(k, i, source));
        same = same && label == k->items[i].old;
        code = at_db_run(db, err, "INSERT INTO relabel VALUES(?,?)", "ii", k->items[i].old, label);
    }
    *changed = *changed || !same;
    if (code == 0 && !same)
        code = at_db_run(db, err,
                         "UPDATE images SET label = (SELECT new FROM relabel WHERE old = label)"
                         " WHERE id > ?",
                         "i", after);
    return code;
}

int at_labels_assign(at_catalog *c, const at_source *source, bool *changed, at_error *err)
{
    at_db *db = at_catalog_db(c);
    int64_t after = at_catalog_after(c);
    struct classes k = {0}, all = {0};
    *changed = false;
    int code = load_classes(db, "SELECT name, label FROM classes ORDER BY label", &k, err);
    if (code == 0 && after)
        code = load_classes(db, "SELECT name, label FROM append_classes ORDER BY label", &all, err);
    if (code == 0 && !source->names.items && !source->labels)
        code = find_layout(db, after, &all, &k, changed, err);
    if (code == 0) {
        sort(&k);
        code = list_all(&all, &k, source, err);
    }
    if (code == 0)
        code = relabel(db, after, &k, &all, source, changed, err);
    if (code == 0)
        code = write_all(db, &all, err);
    classes_fini(&k);
    classes_fini(&all);
    return code < 0 ? code : 0;
}

/* ---- checks ---- */

/* The splits that a class has (or lacks) of those that there are, e.g. "train, test". */
static void name_splits(const size_t *of_class, const size_t *of_all, bool has, at_text *out)
{
    for (int split = 0; split < AT_SPLITS; split++)
        if ((of_class[split] > 0) == has && of_all[split] > 0)
            at_text_add(out, "%s%s", out->length ? ", " : "", at_split_name((at_split)split));
}

/* of_class, of_all: images a split. A class without any is nobody's mistake. */
static int check_class(const char *name, const size_t *of_class, const size_t *of_all,
                       at_error *err)
{
    int in = 0, splits = 0;
    for (int split = 0; split < AT_SPLITS; split++) {
        in += of_class[split] > 0;
        splits += of_all[split] > 0;
    }
    bool untrained = of_all[AT_TRAIN] > 0 && of_class[AT_TRAIN] == 0;
    if (in == 0 || splits < 2 || (in > 1 && !untrained))
        return 0;
    at_text has = {0}, lacks = {0};
    name_splits(of_class, of_all, true, &has);
    name_splits(of_class, of_all, false, &lacks);
    int code = at_fail(
        err, AT_EINPUT,
        "class \"%s\" has images in split %s, but none in %s (--allow-missing-classes takes the "
        "data as they are)",
        name, has.data ? has.data : "", lacks.data ? lacks.data : "");
    at_text_fini(&has);
    at_text_fini(&lacks);
    return code;
}

int at_labels_check(at_catalog *c, const at_rows *rows, at_error *err)
{
    struct classes k = {0};
    size_t of_all[AT_SPLITS] = {0}, (*of_class)[AT_SPLITS] = NULL;
    int code =
        load_classes(at_catalog_db(c), "SELECT name, label FROM classes ORDER BY label", &k, err);
    if (code == 0 && !(of_class = calloc(k.count ? k.count : 1, sizeof *of_class)))
        code = at_nomem(err);
    for (size_t i = 0; code == 0 && i < rows->count; i++) {
        const at_row *row = &rows->items[i];
        of_all[row->split]++;
        if ((size_t)row->entry.label < k.count)
            of_class[row->entry.label][row->split]++;
    }
    for (size_t i = 0; code == 0 && i < k.count; i++)
        code = check_class(k.items[i].name, of_class[i], of_all, err);
    free(of_class);
    classes_fini(&k);
    return code;
}

/* The folder below an image's class folder, e.g. cat of photos/cat/1.jpg; length 0: none. */
static const char *folder_below_class(const char *path, size_t *length)
{
    at_split split;
    const char *name, *slash;
    size_t n;
    *length = 0;
    if (!at_layout_parse(path, 0, &split, &name, &n))
        return NULL;
    slash = strchr(name + n + 1, '/');
    *length = slash ? (size_t)(slash - (name + n + 1)) : 0;
    return name + n + 1;
}

void at_labels_hint(const at_rows *rows)
{
    const char *first = NULL, *other = NULL;
    size_t length = 0, n = 0;
    for (size_t i = 0; i < rows->count; i++)
        if (rows->items[i].entry.label)
            return;
    for (size_t i = 0; i < rows->count && !other; i++) {
        const char *path = rows->names.data + rows->items[i].entry.path;
        const char *folder = folder_below_class(path, &n);
        if (n && !first)
            first = folder, length = n;
        else if (n && (n != length || strncmp(first, folder, n)))
            other = folder;
    }
    if (other)
        at_log(
            AT_LOG_WARN,
            "every image is of one class, for some lie in its folder itself, beside \"%.*s\" and "
            "\"%.*s\": if these are the classes, take those images away, or tell by --labels",
            (int)length, first, (int)n, other);
}
