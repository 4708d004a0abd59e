/* SPDX-License-Identifier: Apache-2.0
 * Options: values from text and trees into a struct by a table, and back.
 *
 * Text is read by the rules of YAML (scalar.c), so that 0.1 means the same on the command line, in
 * -s key=value and in a file. Invariant: between init and fini every string of the struct is a
 * malloc'd string and every list of pairs a malloc'd, NULL-terminated one; a failed assignment
 * leaves the old value.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static void *slot_of(const at_option *option, void *config)
{
    return (char *)config + option->offset;
}

static const void *const_slot_of(const at_option *option, const void *config)
{
    return (const char *)config + option->offset;
}

/* ---- finding ---- */

static char folded(char c)
{
    return c == '-' ? '_' : c;
}

const at_option *at_option_find(const at_option *table, const char *name, size_t length)
{
    for (const at_option *o = table; o->name; o++) {
        size_t i = 0;
        while (i < length && o->name[i] && folded(o->name[i]) == folded(name[i]))
            i++;
        if (i == length && !o->name[i])
            return o;
    }
    return NULL;
}

const char *at_option_nearest(const at_option *table, const char *name)
{
    size_t n = 0;
    while (table[n].name)
        n++;
    const char **names = calloc(n + 1, sizeof *names);
    if (!names)
        return NULL;
    for (size_t i = 0; i < n; i++)
        names[i] = table[i].name;
    const char *nearest = at_nearest(name, names, n);
    free(names);
    return nearest;
}

/* ---- one value from text ---- */

static int read_bool(bool *out, const char *label, const char *value, at_error *err)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcasecmp(value, words[i]) == 0) {
            *out = i % 2;
            return 0;
        }
    }
    return at_fail(err, AT_EINPUT, "%s: expected true or false, got \"%s\"", label, value);
}

/* max < min: no upper bound; both 0: none at all. NaN is within no bounds. */
static int check_bounds(const at_option *o, const char *label, const char *text, double value,
                        at_error *err)
{
    if (o->min == 0 && o->max == 0)
        return 0;
    if (!(value >= o->min))
        return at_fail(err, AT_EINPUT, "%s: %s is below the minimum %.15g", label, text, o->min);
    if (o->max >= o->min && !(value <= o->max))
        return at_fail(err, AT_EINPUT, "%s: %s is above the maximum %.15g", label, text, o->max);
    return 0;
}

static int read_int(const at_option *o, int64_t *out, const char *label, const char *value,
                    at_error *err)
{
    at_scalar scalar = at_scalar_resolve(value);
    if (scalar.kind != AT_INT)
        return at_fail(err, AT_EINPUT, "%s: expected an integer, got \"%s\"", label, value);
    int status = check_bounds(o, label, value, (double)scalar.integer, err);
    if (status == 0)
        *out = scalar.integer;
    return status;
}

static int read_real(const at_option *o, double *out, const char *label, const char *value,
                     at_error *err)
{
    at_scalar scalar = at_scalar_resolve(value);
    double real = scalar.kind == AT_INT ? (double)scalar.integer : scalar.real;
    if ((scalar.kind != AT_INT && scalar.kind != AT_REAL) || real != real)
        return at_fail(err, AT_EINPUT, "%s: expected a number, got \"%s\"", label, value);
    int status = check_bounds(o, label, value, real, err);
    if (status == 0)
        *out = real;
    return status;
}

static int read_string(char **out, const char *value, at_error *err)
{
    char *copy = strdup(value);
    if (!copy)
        return at_nomem(err);
    free(*out);
    *out = copy;
    return 0;
}

enum { MAX_CHOICES = 64 };

/* Splits a|b|c in place. */
static size_t split_choices(char *text, const char **choices)
{
    size_t n = 0;
    char *rest = text;
    for (char *word; n < MAX_CHOICES && (word = strsep(&rest, "|"));)
        choices[n++] = word;
    return n;
}

int at_choice_parse(const char *choices, const char *label, const char *word, at_error *err)
{
    const char *all[MAX_CHOICES];
    char *names = strdup(choices);
    if (!names)
        return at_nomem(err);
    size_t n = split_choices(names, all), i = 0;
    while (i < n && strcmp(all[i], word) != 0)
        i++;
    int found = (int)i;
    if (i == n) {
        const char *near = at_nearest(word, all, n);
        at_text list = {0};
        for (size_t k = 0; k < n; k++)
            at_text_add(&list, "%s%s", k ? ", " : "", all[k]);
        found = at_fail(err, AT_EINPUT, "%s: \"%s\" is not one of %s%s%s%s", label, word,
                        list.data ? list.data : "", near ? "; did you mean \"" : "",
                        near ? near : "", near ? "\"?" : "");
        at_text_fini(&list);
    }
    free(names);
    return found;
}

static int read_choice(const at_option *o, char **out, const char *label, const char *value,
                       at_error *err)
{
    int choice = at_choice_parse(o->choices ? o->choices : "", label, value, err);
    return choice < 0 ? choice : read_string(out, value, err);
}

/* Appends to a list of pairs; value may be NULL to make an empty list. */
static int add_pair(char ***list, const char *label, const char *value, at_error *err)
{
    if (value && (!strchr(value, '=') || *value == '='))
        return at_fail(err, AT_EINPUT, "%s: expected key=value, got \"%s\"", label, value);
    size_t n = 0;
    while (*list && (*list)[n])
        n++;
    char **grown = reallocarray(*list, n + 2, sizeof *grown);
    if (!grown)
        return at_nomem(err);
    *list = grown;
    grown[n] = value ? strdup(value) : NULL;
    grown[n + 1] = NULL;
    return value && !grown[n] ? at_nomem(err) : 0;
}

int at_option_assign(const at_option *option, void *config, const char *label, const char *value,
                     at_error *err)
{
    void *slot = slot_of(option, config);
    switch (option->type) {
    case AT_OPT_BOOL:
        return read_bool(slot, label, value, err);
    case AT_OPT_INT:
        return read_int(option, slot, label, value, err);
    case AT_OPT_REAL:
        return read_real(option, slot, label, value, err);
    case AT_OPT_STRING:
        return read_string(slot, value, err);
    case AT_OPT_CHOICE:
        return read_choice(option, slot, label, value, err);
    case AT_OPT_PAIRS:
        return add_pair(slot, label, value, err);
    }
    return at_fail(err, AT_EFAIL, "%s: unknown type of option", label);
}

/* ---- the whole struct ---- */

static void free_value(const at_option *o, void *config)
{
    if (o->type == AT_OPT_STRING || o->type == AT_OPT_CHOICE) {
        char **text = slot_of(o, config);
        free(*text);
        *text = NULL;
    } else if (o->type == AT_OPT_PAIRS) {
        char ***list = slot_of(o, config);
        for (char **pair = *list; pair && *pair; pair++)
            free(*pair);
        free(*list);
        *list = NULL;
    }
}

void at_options_fini(const at_option *table, void *config)
{
    for (const at_option *o = table; o->name; o++)
        free_value(o, config);
}

/* Zero, the empty string or the empty list. */
static int clear_value(const at_option *o, void *config, at_error *err)
{
    switch (o->type) {
    case AT_OPT_BOOL:
        *(bool *)slot_of(o, config) = false;
        return 0;
    case AT_OPT_INT:
        *(int64_t *)slot_of(o, config) = 0;
        return 0;
    case AT_OPT_REAL:
        *(double *)slot_of(o, config) = 0;
        return 0;
    case AT_OPT_STRING:
    case AT_OPT_CHOICE:
        *(char **)slot_of(o, config) = NULL;
        return read_string(slot_of(o, config), "", err);
    case AT_OPT_PAIRS:
        *(char ***)slot_of(o, config) = NULL;
        return add_pair(slot_of(o, config), o->name, NULL, err);
    }
    return at_fail(err, AT_EFAIL, "%s: unknown type of option", o->name);
}

int at_options_init(const at_option *table, void *config, at_error *err)
{
    const at_option *o = table;
    int status = 0;
    for (; o->name && status == 0; o++) {
        status = clear_value(o, config, err);
        if (status == 0 && o->fallback)
            status = at_option_assign(o, config, o->name, o->fallback, err);
    }
    while (status && o-- > table)
        free_value(o, config);
    return status;
}

static int fail_unknown(const at_option *table, const char *key, const char *where, at_error *err)
{
    const char *near = at_option_nearest(table, key);
    const char *colon = where && *where ? ": " : "";
    where = where ? where : "";
    if (near)
        return at_fail(err, AT_EINPUT, "%s%sunknown key \"%s\"; did you mean \"%s\"?", where, colon,
                       key, near);
    return at_fail(err, AT_EINPUT, "%s%sunknown key \"%s\"", where, colon, key);
}

int at_options_set(const at_option *table, void *config, const char *key, const char *value,
                   const char *where, at_error *err)
{
    const at_option *o = at_option_find(table, key, strlen(key));
    if (!o)
        return fail_unknown(table, key, where, err);
    int status = at_option_assign(o, config, o->name, value, err);
    if (status && where && *where)
        at_fail_in(err, "%s", where);
    return status;
}

/* ---- trees ---- */

static int read_pairs(const at_option *o, void *config, const at_node *n, at_error *err)
{
    free_value(o, config);
    int status = clear_value(o, config, err);
    for (size_t i = 0; i < at_node_count(n) && status == 0; i++) {
        const at_node *item = at_node_at(n, i);
        const char *key = at_node_key(n, i);
        if (at_node_kind(item) == AT_LIST || at_node_kind(item) == AT_MAP)
            return at_fail(err, AT_EINPUT, "%s: expected key=value, got a list or a map", o->name);
        char *pair = at_format("%s%s%s", key ? key : "", key ? "=" : "", at_node_text(item));
        status = pair ? at_option_assign(o, config, o->name, pair, err) : at_nomem(err);
        free(pair);
    }
    return status;
}

static const char *expected(const at_option *o)
{
    static const char *const words[] = {
        [AT_OPT_BOOL] = "true or false",      [AT_OPT_INT] = "an integer",
        [AT_OPT_REAL] = "a number",           [AT_OPT_STRING] = "a string",
        [AT_OPT_CHOICE] = "one of its names", [AT_OPT_PAIRS] = "a list of key=value"};
    return words[o->type];
}

/* The items of a list with commas between, as one string. */
static int join_items(const at_option *o, void *config, const at_node *n, at_error *err)
{
    at_text joined = {0};
    int status = 0;
    for (size_t i = 0; i < at_node_count(n) && status == 0; i++) {
        const at_node *item = at_node_at(n, i);
        if (at_node_kind(item) == AT_LIST || at_node_kind(item) == AT_MAP)
            status = at_fail(err, AT_EINPUT, "%s: an item is a list or a map", o->name);
        else
            at_text_add(&joined, "%s%s", i ? "," : "", at_node_text(item));
    }
    if (status == 0)
        status = joined.failed
                     ? at_nomem(err)
                     : at_option_assign(o, config, o->name, joined.data ? joined.data : "", err);
    at_text_fini(&joined);
    return status;
}

static int set_from_node(const at_option *o, void *config, const at_node *n, at_error *err)
{
    at_kind kind = at_node_kind(n);
    bool container = kind == AT_LIST || kind == AT_MAP;
    int status;
    if (o->type == AT_OPT_PAIRS && container)
        status = read_pairs(o, config, n, err);
    else if (o->list && kind == AT_LIST)
        status = join_items(o, config, n, err);
    else if (container)
        status = at_fail(err, AT_EINPUT, "%s: expected %s, got a %s", o->name, expected(o),
                         kind == AT_LIST ? "list" : "map");
    else
        status = at_option_assign(o, config, o->name, kind == AT_NULL ? "" : at_node_text(n), err);
    if (status && *at_node_where(n))
        at_fail_in(err, "%s", at_node_where(n));
    return status;
}

static bool is_group(const at_option *table, const char *prefix)
{
    size_t length = strlen(prefix);
    for (const at_option *o = table; o->name; o++)
        if (strncmp(o->name, prefix, length) == 0 && o->name[length] == '.')
            return true;
    return false;
}

static int read_map(const at_option *table, void *config, const char *prefix, const at_node *map,
                    at_error *err)
{
    int status = 0;
    for (size_t i = 0; i < at_node_count(map) && status == 0; i++) {
        const at_node *value = at_node_at(map, i);
        char *name = at_format("%s%s%s", prefix, *prefix ? "." : "", at_node_key(map, i));
        if (!name)
            return at_nomem(err);
        const at_option *o = at_option_find(table, name, strlen(name));
        if (o)
            status = set_from_node(o, config, value, err);
        else if (at_node_kind(value) == AT_MAP && is_group(table, name))
            status = read_map(table, config, name, value, err);
        else
            status = fail_unknown(table, name, at_node_key_where(map, i), err);
        free(name);
    }
    return status;
}

int at_options_from_node(const at_option *table, void *config, const at_node *map, at_error *err)
{
    const char *where = at_node_where(map);
    if (at_node_kind(map) != AT_MAP && at_node_kind(map) != AT_NULL)
        return at_fail(err, AT_EINPUT, "%s%sexpected keys and values", where, *where ? ": " : "");
    return read_map(table, config, "", map, err);
}

static at_node *pairs_to_node(char *const *pairs)
{
    at_node *list = at_node_new(AT_LIST);
    for (; pairs && *pairs && list; pairs++) {
        if (!at_node_add(list, at_node_new_string(*pairs))) {
            at_node_free(list);
            return NULL;
        }
    }
    return list;
}

static at_node *value_to_node(const at_option *o, const void *config)
{
    const void *slot = const_slot_of(o, config);
    switch (o->type) {
    case AT_OPT_BOOL:
        return at_node_new_bool(*(const bool *)slot);
    case AT_OPT_INT:
        return at_node_new_int(*(const int64_t *)slot);
    case AT_OPT_REAL:
        return at_node_new_real(*(const double *)slot);
    case AT_OPT_STRING:
    case AT_OPT_CHOICE:
        return at_node_new_string(*(char *const *)slot);
    case AT_OPT_PAIRS:
        return pairs_to_node(*(char **const *)slot);
    }
    return NULL;
}

/* Puts a.b.c under maps a and b; a head that is itself a value keeps the dotted key beside it. */
static bool put(at_node *map, const char *name, at_node *child)
{
    const char *dot = strchr(name, '.');
    if (!dot)
        return at_node_set(map, name, child) != NULL;
    char *head = strndup(name, (size_t)(dot - name));
    if (!head) {
        at_node_free(child);
        return false;
    }
    const at_node *there = at_node_get(map, head);
    bool done;
    if (there && at_node_kind(there) != AT_MAP) {
        done = at_node_set(map, name, child) != NULL;
    } else {
        at_node *group = there ? (at_node *)there : at_node_set(map, head, at_node_new(AT_MAP));
        if (!group)
            at_node_free(child);
        done = group && put(group, dot + 1, child);
    }
    free(head);
    return done;
}

at_node *at_options_to_node(const at_option *table, const void *config)
{
    at_node *map = at_node_new(AT_MAP);
    for (const at_option *o = table; o->name && map; o++) {
        if (!put(map, o->name, value_to_node(o, config))) {
            at_node_free(map);
            return NULL;
        }
    }
    return map;
}

int at_parse_bytes(const char *key, const char *text, double *out, at_error *err)
{
    static const char units[] = "KMGT";
    char *end = NULL;
    *out = strtod(text, &end);
    const char *unit = *end ? strchr(units, *end) : NULL;
    for (const char *u = units; unit && u <= unit; u++)
        *out *= 1024;
    if (*text && (end == text || *(unit ? end + 1 : end) || !(*out >= 1 << 20) || *out > 1e18))
        return at_fail(err, AT_EINPUT, "%s: expected at least 1M, as in 800M or 1.5G; got \"%s\"",
                       key, text);
    return 0;
}
