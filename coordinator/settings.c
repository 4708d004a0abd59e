/* SPDX-License-Identifier: Apache-2.0
 * Maps of settings as JOB.yaml and SWEEP.yaml hold them: known keys, overlays, -s lists and what
 * has changed. */
#include "internal.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

int at_keys_check(const at_node *map, const char *const *names, at_error *err)
{
    const char *where = at_node_where(map);
    size_t n = 0;
    while (names[n])
        n++;
    if (at_node_kind(map) != AT_MAP)
        return at_fail(err, AT_EINPUT, "%s%sexpected keys and values: %s, ...", where,
                       *where ? ": " : "", names[0]);
    for (size_t i = 0; i < at_node_count(map); i++) {
        const char *key = at_node_key(map, i);
        size_t k = 0;
        while (k < n && strcmp(names[k], key) != 0)
            k++;
        if (k < n)
            continue;
        const char *near = at_nearest(key, names, n);
        where = at_node_key_where(map, i);
        return at_fail(err, AT_EINPUT, "%s%sunknown key \"%s\"%s%s%s", where, *where ? ": " : "",
                       key, near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
    }
    return 0;
}

int at_string_get(const at_node *map, const char *key, const char **out, at_error *err)
{
    const at_node *n = at_node_get(map, key);
    const char *where = at_node_where(n ? n : map);
    *out = n && at_node_kind(n) != AT_MAP && at_node_kind(n) != AT_LIST ? at_node_text(n) : "";
    if (**out && at_node_kind(n) != AT_NULL)
        return 0;
    return at_fail(err, AT_EINPUT, "%s%s%s: %s", where, *where ? ": " : "", key,
                   n ? "expected a word" : "this key is needed");
}

/* ---- flat settings ---- */

/* The keys of training that are no plain values: a file, which workers may look for from elsewhere,
 * and a list, which becomes the option's text with commas. */
static const char file_key[] = "init", list_key[] = "freeze";

static at_node *setting(const char *key, const at_node *value)
{
    char real[PATH_MAX];
    at_text joined = {0};
    if (!strcmp(key, file_key) && realpath(at_node_text(value), real))
        return at_node_new_string(real);
    if (at_node_kind(value) != AT_LIST)
        return at_node_copy(value);
    for (size_t i = 0; i < at_node_count(value); i++)
        at_text_add(&joined, "%s%s", i ? "," : "", at_node_text(at_node_at(value, i)));
    at_node *n = joined.failed ? NULL : at_node_new_string(joined.data ? joined.data : "");
    at_text_fini(&joined);
    return n;
}

static int overlay(at_node *flat, const char *prefix, const at_node *map, at_error *err)
{
    int rc = 0;
    for (size_t i = 0; i < at_node_count(map) && !rc; i++) {
        const at_node *value = at_node_at(map, i);
        char *key = at_format("%s%s%s", prefix, *prefix ? "." : "", at_node_key(map, i));
        if (!key)
            return at_nomem(err);
        if (at_node_kind(value) == AT_MAP)
            rc = overlay(flat, key, value, err);
        else if (at_node_kind(value) == AT_LIST && strcmp(key, list_key) != 0)
            rc = at_fail(err, AT_EINPUT, "%s: %s: expected one value, got a list",
                         at_node_where(value), key);
        else if (!at_node_set(flat, key, setting(key, value)))
            rc = at_nomem(err);
        free(key);
    }
    return rc;
}

int at_settings_overlay(at_node *flat, const at_node *map, at_error *err)
{
    const char *where = at_node_where(map);
    if (at_node_kind(map) != AT_MAP && at_node_kind(map) != AT_NULL)
        return at_fail(err, AT_EINPUT, "%s%sexpected keys and values", where, *where ? ": " : "");
    return overlay(flat, "", map, err);
}

int at_settings_args(const at_node *flat, at_node *args, at_error *err)
{
    for (size_t i = 0; i < at_node_count(flat); i++) {
        char *pair = at_format("%s=%s", at_node_key(flat, i), at_node_text(at_node_at(flat, i)));
        bool added = pair && at_node_add(args, at_node_new_string("-s")) &&
                     at_node_add(args, at_node_new_string(pair));
        free(pair);
        if (!added)
            return at_nomem(err);
    }
    return 0;
}

/* ---- changes ---- */

static bool same_leaf(const at_node *a, const at_node *b)
{
    char *x = a ? at_json_print(a, false) : NULL, *y = b ? at_json_print(b, false) : NULL;
    bool same = x && y && strcmp(x, y) == 0;
    free(x);
    free(y);
    return same;
}

static char *join_key(const char *prefix, const char *key)
{
    return at_format("%s%s%s", prefix, *prefix ? "." : "", key);
}

static char *first_change(const at_node *a, const at_node *b, const char *prefix)
{
    if (at_node_kind(a) != AT_MAP || at_node_kind(b) != AT_MAP)
        return same_leaf(a, b) ? NULL : strdup(prefix);
    for (size_t i = 0; i < at_node_count(b); i++)
        if (!at_node_get(a, at_node_key(b, i)))
            return join_key(prefix, at_node_key(b, i));
    for (size_t i = 0; i < at_node_count(a); i++) {
        char *key = join_key(prefix, at_node_key(a, i));
        char *change =
            key ? first_change(at_node_at(a, i), at_node_get(b, at_node_key(a, i)), key) : NULL;
        free(key);
        if (change)
            return change;
    }
    return NULL;
}

char *at_settings_change(const at_node *a, const at_node *b)
{
    return first_change(a, b, "");
}
