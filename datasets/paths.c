/* SPDX-License-Identifier: Apache-2.0
 * The paths that a catalog knows, sorted, for passing them over when an ingest is resumed. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

struct at_paths {
    at_text names; /* one behind another, each with its NUL */
    size_t *offsets;
    size_t count, capacity;
};

static int add(at_paths *set, const char *path, at_error *err)
{
    if (set->count == set->capacity) {
        size_t capacity = set->capacity ? 2 * set->capacity : 1024;
        size_t *offsets = realloc(set->offsets, capacity * sizeof *offsets);
        if (!offsets)
            return at_nomem(err);
        set->offsets = offsets;
        set->capacity = capacity;
    }
    set->offsets[set->count++] = set->names.length;
    at_text_append(&set->names, path, strlen(path) + 1);
    return set->names.failed ? at_nomem(err) : 0;
}

at_paths *at_catalog_paths(at_catalog *c, size_t *count, at_error *err)
{
    at_paths *set = calloc(1, sizeof *set);
    at_stmt *s = NULL;
    if (!set) {
        at_nomem(err);
        return NULL;
    }
    /* SQLite's binary order is strcmp's */
    s = at_db_prepare(at_catalog_db(c), "SELECT path FROM images UNION ALL SELECT path FROM errors ORDER BY path",
                      err);
    int code = s ? 1 : AT_EIO;
    while (code == 1 && (code = at_stmt_step(s, err)) == 1)
        if (add(set, at_stmt_text(s, 0), err) < 0)
            code = AT_ENOMEM;
    at_stmt_free(s);
    if (code < 0) {
        at_paths_free(set);
        return NULL;
    }
    *count = set->count;
    return set;
}

bool at_paths_has(const at_paths *set, const char *path)
{
    size_t low = 0, high = set ? set->count : 0;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(path, set->names.data + set->offsets[middle]);
        if (order == 0)
            return true;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return false;
}

void at_paths_free(at_paths *set)
{
    if (!set)
        return;
    at_text_fini(&set->names);
    free(set->offsets);
    free(set);
}
