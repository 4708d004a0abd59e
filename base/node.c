/* SPDX-License-Identifier: Apache-2.0
 * Data trees: what YAML and JSON are read into and printed from.
 *
 * A scalar keeps its text as it was written beside its value, so that messages can quote it. Maps
 * keep the order of insertion; beyond a few keys they have a hash index, since a file may hold a
 * map of a million keys. Invariant: index_size is 0 or a power of two above 2 * count, and a slot
 * holds the entry's number + 1.
 */
#include "internal.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { INDEX_FROM = 16 };

typedef struct entry {
    char *key, *key_where; /* NULL in a list */
    at_node *value;
    uint32_t hash;
} entry;

struct at_node {
    at_scalar scalar; /* its kind is the node's */
    char *text;       /* of a scalar, never NULL there */
    char *where;      /* may be NULL */
    entry *entries;
    size_t count, capacity;
    uint32_t *index;
    size_t index_size;
};

static uint32_t hash_of(const char *key)
{
    uint32_t hash = 2166136261U;
    for (; *key; key++)
        hash = (hash ^ (unsigned char)*key) * 16777619U;
    return hash;
}

/* ---- making and freeing ---- */

at_node *at_node_new_scalar(at_scalar value, const char *text)
{
    at_node *n = calloc(1, sizeof *n);
    if (!n)
        return NULL;
    n->scalar = value;
    n->text = strdup(text);
    if (!n->text) {
        free(n);
        return NULL;
    }
    return n;
}

at_node *at_node_new(at_kind kind)
{
    assert(kind == AT_MAP || kind == AT_LIST || kind == AT_NULL);
    if (kind == AT_NULL)
        return at_node_new_scalar((at_scalar){.kind = AT_NULL}, "null");
    at_node *n = calloc(1, sizeof *n);
    if (n)
        n->scalar.kind = kind;
    return n;
}

at_node *at_node_new_string(const char *s)
{
    return s ? at_node_new_scalar((at_scalar){.kind = AT_STRING}, s) : at_node_new(AT_NULL);
}

at_node *at_node_new_int(int64_t v)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)v);
    return at_node_new_scalar((at_scalar){.kind = AT_INT, .integer = v}, text);
}

at_node *at_node_new_real(double v)
{
    char text[32];
    if (isfinite(v))
        at_real_format(v, text);
    else
        strcpy(text, isnan(v) ? ".nan" : v < 0 ? "-.inf" : ".inf");
    return at_node_new_scalar((at_scalar){.kind = AT_REAL, .real = v}, text);
}

at_node *at_node_new_bool(bool v)
{
    return at_node_new_scalar((at_scalar){.kind = AT_BOOL, .boolean = v}, v ? "true" : "false");
}

static void entry_free(entry *e)
{
    free(e->key);
    free(e->key_where);
    at_node_free(e->value);
}

void at_node_free(at_node *n)
{
    if (!n)
        return;
    for (size_t i = 0; i < n->count; i++)
        entry_free(&n->entries[i]);
    free(n->entries);
    free(n->index);
    free(n->text);
    free(n->where);
    free(n);
}

static char *copy_text(const char *s, bool *failed)
{
    char *copy = s ? strdup(s) : NULL;
    *failed |= s && !copy;
    return copy;
}

at_node *at_node_copy(const at_node *n)
{
    if (!n)
        return NULL;
    at_node *copy = calloc(1, sizeof *copy);
    if (!copy)
        return NULL;
    bool failed = false;
    copy->scalar = n->scalar;
    copy->text = copy_text(n->text, &failed);
    copy->where = copy_text(n->where, &failed);
    for (size_t i = 0; i < n->count && !failed; i++) {
        const entry *from = &n->entries[i];
        at_node *child = at_node_copy(from->value);
        failed = !(from->key ? at_node_set(copy, from->key, child) : at_node_add(copy, child));
        if (!failed)
            copy->entries[i].key_where = copy_text(from->key_where, &failed);
    }
    if (failed) {
        at_node_free(copy);
        return NULL;
    }
    return copy;
}

/* ---- where it was read ---- */

static bool place(char **where, const char *name, size_t line, size_t column)
{
    free(*where);
    *where = at_format("%s:%zu:%zu", name, line, column);
    return *where != NULL;
}

bool at_node_place(at_node *n, const char *name, size_t line, size_t column)
{
    return place(&n->where, name, line, column);
}

bool at_node_place_key(at_node *map, const char *name, size_t line, size_t column)
{
    assert(map->count > 0);
    return place(&map->entries[map->count - 1].key_where, name, line, column);
}

at_tree_size at_node_measure(const at_node *n)
{
    at_tree_size size = {.nodes = 1, .bytes = n->text ? strlen(n->text) : 0};
    for (size_t i = 0; i < n->count; i++) {
        at_tree_size child = at_node_measure(n->entries[i].value);
        size.nodes += child.nodes;
        size.bytes += child.bytes + (n->entries[i].key ? strlen(n->entries[i].key) : 0);
        if (child.depth > size.depth)
            size.depth = child.depth;
    }
    size.depth += !n->text;
    return size;
}

/* ---- maps and lists ---- */

static void index_put(at_node *n, size_t i)
{
    size_t mask = n->index_size - 1;
    size_t slot = n->entries[i].hash & mask;
    while (n->index[slot])
        slot = (slot + 1) & mask;
    n->index[slot] = (uint32_t)(i + 1);
}

/* Makes the index fit the entries; without memory for it the map works by linear search. */
static void index_rebuild(at_node *n)
{
    free(n->index);
    n->index = NULL;
    n->index_size = 0;
    if (n->count <= INDEX_FROM || n->count >= UINT32_MAX)
        return;
    size_t size = 64;
    while (size < 4 * n->count)
        size *= 2;
    n->index = calloc(size, sizeof *n->index);
    if (!n->index)
        return;
    n->index_size = size;
    for (size_t i = 0; i < n->count; i++)
        index_put(n, i);
}

size_t at_node_find(const at_node *map, const char *key)
{
    if (at_node_kind(map) != AT_MAP)
        return at_node_count(map);
    uint32_t hash = hash_of(key);
    if (map->index_size == 0) {
        for (size_t i = 0; i < map->count; i++)
            if (map->entries[i].hash == hash && strcmp(map->entries[i].key, key) == 0)
                return i;
        return map->count;
    }
    size_t mask = map->index_size - 1;
    for (size_t slot = hash & mask; map->index[slot]; slot = (slot + 1) & mask) {
        size_t i = map->index[slot] - 1;
        if (map->entries[i].hash == hash && strcmp(map->entries[i].key, key) == 0)
            return i;
    }
    return map->count;
}

static entry *grow(at_node *n)
{
    if (n->count == n->capacity) {
        size_t capacity = n->capacity ? 2 * n->capacity : 4;
        entry *entries = reallocarray(n->entries, capacity, sizeof *entries);
        if (!entries)
            return NULL;
        n->entries = entries;
        n->capacity = capacity;
    }
    entry *e = &n->entries[n->count];
    *e = (entry){0};
    return e;
}

at_node *at_node_set(at_node *map, const char *key, at_node *child)
{
    if (!map || !child)
        goto fail;
    assert(map->scalar.kind == AT_MAP);
    size_t i = at_node_find(map, key);
    if (i < map->count) {
        at_node_free(map->entries[i].value);
        return map->entries[i].value = child;
    }
    entry *e = grow(map);
    if (!e || !(e->key = strdup(key)))
        goto fail;
    e->hash = hash_of(key);
    e->value = child;
    map->count++;
    if (map->index_size > 2 * map->count)
        index_put(map, map->count - 1);
    else
        index_rebuild(map);
    return child;
fail:
    at_node_free(child);
    return NULL;
}

at_node *at_node_add(at_node *list, at_node *child)
{
    assert(!list || list->scalar.kind == AT_LIST);
    entry *e = list && child ? grow(list) : NULL;
    if (!e) {
        at_node_free(child);
        return NULL;
    }
    list->count++;
    return e->value = child;
}

void at_node_remove(at_node *map, const char *key)
{
    size_t i = at_node_find(map, key);
    if (i >= at_node_count(map))
        return;
    entry_free(&map->entries[i]);
    map->count--;
    memmove(&map->entries[i], &map->entries[i + 1], (map->count - i) * sizeof(entry));
    index_rebuild(map);
}

/* ---- reading ---- */

at_kind at_node_kind(const at_node *n)
{
    return n ? n->scalar.kind : AT_NULL;
}

size_t at_node_count(const at_node *n)
{
    return n ? n->count : 0;
}

const at_node *at_node_at(const at_node *n, size_t i)
{
    return i < at_node_count(n) ? n->entries[i].value : NULL;
}

const char *at_node_key(const at_node *n, size_t i)
{
    return i < at_node_count(n) ? n->entries[i].key : NULL;
}

const at_node *at_node_get(const at_node *map, const char *key)
{
    return at_node_at(map, at_node_find(map, key));
}

/* A key may itself hold dots ("augment.flip: true"), so every split is tried, the longest first. */
const at_node *at_node_path(const at_node *map, const char *dotted)
{
    const at_node *whole = at_node_get(map, dotted);
    if (whole || at_node_kind(map) != AT_MAP)
        return whole;
    for (size_t n = strlen(dotted); n-- > 0;) {
        if (dotted[n] != '.')
            continue;
        char *head = strndup(dotted, n);
        const at_node *child = head ? at_node_get(map, head) : NULL;
        free(head);
        const at_node *found = at_node_path(child, dotted + n + 1);
        if (found)
            return found;
    }
    return NULL;
}

const char *at_node_string(const at_node *n, const char *otherwise)
{
    return at_node_kind(n) == AT_STRING ? n->text : otherwise;
}

double at_node_real(const at_node *n, double otherwise)
{
    if (at_node_kind(n) == AT_REAL)
        return n->scalar.real;
    return at_node_kind(n) == AT_INT ? (double)n->scalar.integer : otherwise;
}

int64_t at_node_int(const at_node *n, int64_t otherwise)
{
    return at_node_kind(n) == AT_INT ? n->scalar.integer : otherwise;
}

bool at_node_bool(const at_node *n, bool otherwise)
{
    return at_node_kind(n) == AT_BOOL ? n->scalar.boolean : otherwise;
}

const char *at_node_text(const at_node *n)
{
    return n && n->text ? n->text : "";
}

const char *at_node_where(const at_node *n)
{
    return n && n->where ? n->where : "";
}

const char *at_node_key_where(const at_node *n, size_t i)
{
    return i < at_node_count(n) && n->entries[i].key_where ? n->entries[i].key_where : "";
}
