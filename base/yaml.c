/* SPDX-License-Identifier: Apache-2.0
 * YAML: libyaml's events into a tree, with the place of every node and key.
 *
 * Types follow the YAML 1.2 core schema: only plain scalars are resolved, quoted ones are strings.
 * An alias copies its anchor's tree. What a small file can make of that is bounded: nodes, depth
 * and copied bytes are counted before the copy ("billion laughs"), and an anchor is known only
 * once its node is complete, so that no tree holds itself.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { MAX_ANCHORS = 1000 };

typedef struct anchor {
    char *name;
    const at_node *node; /* in the tree under construction, or kept */
    at_node *kept;       /* a copy of a scalar: it may be a key, which goes once its pair is read */
} anchor;

typedef struct reader {
    yaml_parser_t parser;
    const char *name; /* of the file */
    const char *text;
    size_t nodes, alias_bytes;
    anchor *anchors;
    size_t anchor_count;
    at_error *err;
} reader;

static at_node *read_node(reader *r, const yaml_event_t *event, size_t depth);

static at_node *fail_at(reader *r, yaml_mark_t mark, const char *problem)
{
    at_fail(r->err, AT_EINPUT, "%s:%zu:%zu: %s", r->name, mark.line + 1, mark.column + 1, problem);
    return NULL;
}

static at_node *fail_at_named(reader *r, yaml_mark_t mark, const char *problem, const char *name)
{
    at_fail(r->err, AT_EINPUT, "%s:%zu:%zu: %s \"%s\"", r->name, mark.line + 1, mark.column + 1,
            problem, name);
    return NULL;
}

static bool next_event(reader *r, yaml_event_t *event)
{
    yaml_parser_t *p = &r->parser;
    if (yaml_parser_parse(p, event))
        return true;
    const char *problem = p->problem ? p->problem : "cannot be parsed";
    if (p->error == YAML_MEMORY_ERROR) {
        at_nomem(r->err);
    } else if (p->error == YAML_READER_ERROR) {
        size_t line, column;
        at_text_position(r->text, p->problem_offset, &line, &column);
        at_fail(r->err, AT_EINPUT, "%s:%zu:%zu: %s", r->name, line, column, problem);
    } else {
        const char *context = p->context ? p->context : "";
        bool tab = strstr(problem, "character that cannot start any token") != NULL;
        at_fail(r->err, AT_EINPUT, "%s:%zu:%zu: %s%s%s%s", r->name, p->problem_mark.line + 1,
                p->problem_mark.column + 1, problem, *context ? ", " : "", context,
                tab ? " (a tab? YAML indents with spaces)" : "");
    }
    return false;
}

/* ---- anchors ---- */

static bool remember_anchor(reader *r, yaml_mark_t mark, const yaml_char_t *name,
                            const at_node *node)
{
    if (!name)
        return true;
    if (r->anchor_count == MAX_ANCHORS) {
        fail_at(r, mark, "too many anchors");
        return false;
    }
    at_kind kind = at_node_kind(node);
    bool scalar = kind != AT_LIST && kind != AT_MAP;
    anchor a = {.name = strdup((const char *)name), .kept = scalar ? at_node_copy(node) : NULL};
    if (!a.name || (scalar && !a.kept)) {
        free(a.name);
        at_node_free(a.kept);
        at_nomem(r->err);
        return false;
    }
    a.node = scalar ? a.kept : node;
    r->anchors[r->anchor_count++] = a;
    return true;
}

static at_node *read_alias(reader *r, const yaml_event_t *event, size_t depth)
{
    const char *name = (const char *)event->data.alias.anchor;
    const at_node *node = NULL;
    for (size_t i = r->anchor_count; i-- > 0 && !node;)
        if (strcmp(r->anchors[i].name, name) == 0)
            node = r->anchors[i].node;
    if (!node)
        return fail_at_named(r, event->start_mark, "unknown or unfinished anchor", name);
    at_tree_size size = at_node_measure(node);
    r->alias_bytes += size.bytes;
    r->nodes += size.nodes - 1; /* the alias itself is counted */
    if (r->nodes > AT_TREE_NODES || r->alias_bytes > AT_TREE_BYTES)
        return fail_at(r, event->start_mark, "aliases make the document too large");
    if (depth + size.depth > AT_TREE_DEPTH)
        return fail_at(r, event->start_mark, "nested too deeply");
    at_node *copy = at_node_copy(node);
    if (!copy)
        at_nomem(r->err);
    return copy;
}

/* ---- scalars ---- */

/* The kind that an explicit tag asks for: false where the tag is not of the core schema. */
static bool tag_kind(const char *tag, at_kind *kind)
{
    static const struct {
        const char *tag;
        at_kind kind;
    } known[] = {{"!", AT_STRING},         {YAML_STR_TAG, AT_STRING}, {YAML_NULL_TAG, AT_NULL},
                 {YAML_BOOL_TAG, AT_BOOL}, {YAML_INT_TAG, AT_INT},    {YAML_FLOAT_TAG, AT_REAL},
                 {YAML_SEQ_TAG, AT_LIST},  {YAML_MAP_TAG, AT_MAP}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(tag, known[i].tag) == 0) {
            *kind = known[i].kind;
            return true;
        }
    }
    return false;
}

static at_node *read_scalar(reader *r, const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    const char *tag = (const char *)event->data.scalar.tag;
    if (strlen(text) != event->data.scalar.length)
        return fail_at(r, event->start_mark, "a NUL character in a string");
    at_scalar value = {.kind = AT_STRING};
    if (tag) {
        at_kind kind;
        if (!tag_kind(tag, &kind))
            return fail_at_named(r, event->start_mark, "unknown tag", tag);
        if (kind != AT_STRING)
            value = at_scalar_resolve(text);
        if (kind == AT_REAL && value.kind == AT_INT)
            value = (at_scalar){.kind = AT_REAL, .real = (double)value.integer};
        if (value.kind != kind)
            return fail_at_named(r, event->start_mark, "the value is not what its tag says:", text);
    } else if (event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
        value = at_scalar_resolve(text);
    }
    at_node *n = at_node_new_scalar(value, text);
    if (!n)
        at_nomem(r->err);
    return n;
}

/* ---- lists and maps ---- */

static at_node *new_container(reader *r, const yaml_event_t *event, const char *tag, at_kind kind,
                              size_t depth)
{
    at_kind tagged = kind;
    if (tag && strcmp(tag, "!") != 0 && (!tag_kind(tag, &tagged) || tagged != kind))
        return fail_at_named(r, event->start_mark, "unknown tag", tag);
    if (depth >= AT_TREE_DEPTH)
        return fail_at(r, event->start_mark, "nested too deeply");
    at_node *n = at_node_new(kind);
    if (!n)
        at_nomem(r->err);
    return n;
}

static at_node *read_list(reader *r, const yaml_event_t *event, size_t depth)
{
    const char *tag = (const char *)event->data.sequence_start.tag;
    at_node *list = new_container(r, event, tag, AT_LIST, depth);
    while (list) {
        yaml_event_t item;
        if (!next_event(r, &item))
            break;
        if (item.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&item);
            return list;
        }
        at_node *child = read_node(r, &item, depth + 1);
        yaml_event_delete(&item);
        if (!child)
            break;
        if (!at_node_add(list, child)) {
            at_nomem(r->err);
            break;
        }
    }
    at_node_free(list);
    return NULL;
}

static bool check_key(reader *r, const at_node *map, yaml_mark_t mark, const at_node *key)
{
    at_kind kind = at_node_kind(key);
    if (kind == AT_LIST || kind == AT_MAP) {
        fail_at(r, mark, "a key must be a scalar");
        return false;
    }
    size_t i = at_node_find(map, at_node_text(key));
    if (i == at_node_count(map))
        return true;
    at_fail(r->err, AT_EINPUT, "%s:%zu:%zu: duplicate key \"%s\", first at %s", r->name,
            mark.line + 1, mark.column + 1, at_node_text(key), at_node_key_where(map, i));
    return false;
}

/* Reads a key's event and the value after it. */
static bool read_pair(reader *r, at_node *map, const yaml_event_t *event, size_t depth)
{
    bool done = false;
    yaml_mark_t mark = event->start_mark;
    at_node *key = read_node(r, event, depth + 1);
    if (!key || !check_key(r, map, mark, key))
        goto fail_key;
    yaml_event_t value;
    if (!next_event(r, &value))
        goto fail_key;
    at_node *child = read_node(r, &value, depth + 1);
    yaml_event_delete(&value);
    if (!child)
        goto fail_key;
    done = at_node_set(map, at_node_text(key), child) &&
           at_node_place_key(map, r->name, mark.line + 1, mark.column + 1);
    if (!done)
        at_nomem(r->err);
fail_key:
    at_node_free(key);
    return done;
}

static at_node *read_map(reader *r, const yaml_event_t *event, size_t depth)
{
    const char *tag = (const char *)event->data.mapping_start.tag;
    at_node *map = new_container(r, event, tag, AT_MAP, depth);
    while (map) {
        yaml_event_t key;
        if (!next_event(r, &key))
            break;
        bool end = key.type == YAML_MAPPING_END_EVENT;
        bool done = end || read_pair(r, map, &key, depth);
        yaml_event_delete(&key);
        if (end)
            return map;
        if (!done)
            break;
    }
    at_node_free(map);
    return NULL;
}

static at_node *read_node(reader *r, const yaml_event_t *event, size_t depth)
{
    if (++r->nodes > AT_TREE_NODES)
        return fail_at(r, event->start_mark, "too many values");
    const yaml_char_t *name = NULL;
    at_node *n = NULL;
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return read_alias(r, event, depth);
    case YAML_SCALAR_EVENT:
        name = event->data.scalar.anchor;
        n = read_scalar(r, event);
        break;
    case YAML_SEQUENCE_START_EVENT:
        name = event->data.sequence_start.anchor;
        n = read_list(r, event, depth);
        break;
    case YAML_MAPPING_START_EVENT:
        name = event->data.mapping_start.anchor;
        n = read_map(r, event, depth);
        break;
    default:
        return fail_at(r, event->start_mark, "a value is missing");
    }
    if (!n)
        return NULL;
    if (!at_node_place(n, r->name, event->start_mark.line + 1, event->start_mark.column + 1)) {
        at_nomem(r->err);
        goto fail_node;
    }
    if (!remember_anchor(r, event->start_mark, name, n))
        goto fail_node;
    return n;
fail_node:
    at_node_free(n);
    return NULL;
}

/* ---- documents ---- */

/* The one document of the stream; an empty stream is null. */
static at_node *read_stream(reader *r)
{
    at_node *root = NULL;
    for (bool end = false; !end;) {
        yaml_event_t event;
        if (!next_event(r, &event))
            goto fail;
        bool node = event.type >= YAML_ALIAS_EVENT && event.type <= YAML_MAPPING_START_EVENT;
        bool done = true;
        end = event.type == YAML_STREAM_END_EVENT;
        if (event.type == YAML_DOCUMENT_START_EVENT && root)
            done = fail_at(r, event.start_mark, "more than one document") != NULL;
        else if (node)
            done = (root = read_node(r, &event, 0)) != NULL;
        yaml_event_delete(&event);
        if (!done)
            goto fail;
    }
    if (root || ((root = at_node_new(AT_NULL)) && at_node_place(root, r->name, 1, 1)))
        return root;
    at_nomem(r->err);
fail:
    at_node_free(root);
    return NULL;
}

at_node *at_yaml_parse(const char *text, size_t bytes, const char *name, at_error *err)
{
    reader r = {.name = name ? name : "yaml", .text = text, .err = err};
    at_node *root = NULL;
    if (at_document_check(text, bytes, r.name, err))
        return NULL;
    r.anchors = calloc(MAX_ANCHORS, sizeof *r.anchors);
    if (!r.anchors || !yaml_parser_initialize(&r.parser)) {
        at_nomem(err);
        goto fail_parser;
    }
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, bytes);
    root = read_stream(&r);
    yaml_parser_delete(&r.parser);
    for (size_t i = 0; i < r.anchor_count; i++) {
        free(r.anchors[i].name);
        at_node_free(r.anchors[i].kept);
    }
fail_parser:
    free(r.anchors);
    return root;
}

at_node *at_yaml_read(const char *path, at_error *err)
{
    char *text;
    size_t bytes;
    if (at_file_read(path, AT_TREE_BYTES, &text, &bytes, err))
        return NULL;
    at_node *n = at_yaml_parse(text, bytes, path, err);
    free(text);
    return n;
}
