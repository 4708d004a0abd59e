/* SPDX-License-Identifier: Apache-2.0
 * YAML printing: block style, short lists of scalars in brackets.
 *
 * A string is plain only where no reader, YAML 1.1 ones too (PyYAML: yes, 12:30, 2026-11-21),
 * would take it for something else; otherwise it is double-quoted, on one line.
 */
#include "internal.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    FLOW_WIDTH = 72,       /* a list in brackets is at most so long */
    SIMPLE_KEY_LIMIT = 900 /* YAML ends simple keys at 1024 characters */
};

static bool is_plain(const char *s)
{
    static const char *const words[] = {"y", "n", "yes", "no", "on", "off"};
    if (!isalpha((unsigned char)*s) && *s != '_' && *s != '/')
        return false;
    if (at_scalar_resolve(s).kind != AT_STRING)
        return false;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcasecmp(s, words[i]) == 0)
            return false;
    for (const char *c = s; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("_-./+@%=() ", *c))
            return false;
    return s[strlen(s) - 1] != ' ';
}

static void print_string(at_text *t, const char *s)
{
    if (is_plain(s))
        at_text_add(t, "%s", s);
    else
        at_text_add_quoted(t, s);
}

static void print_real(at_text *t, double value)
{
    char text[32];
    if (isfinite(value)) {
        at_real_format(value, text);
        at_text_add(t, "%s", text);
    } else {
        at_text_add(t, "%s", isnan(value) ? ".nan" : value < 0 ? "-.inf" : ".inf");
    }
}

static void print_scalar(at_text *t, const at_node *n)
{
    switch (at_node_kind(n)) {
    case AT_NULL:
        at_text_add(t, "null");
        break;
    case AT_BOOL:
        at_text_add(t, "%s", at_node_bool(n, false) ? "true" : "false");
        break;
    case AT_INT:
        at_text_add(t, "%lld", (long long)at_node_int(n, 0));
        break;
    case AT_REAL:
        print_real(t, at_node_real(n, 0));
        break;
    case AT_STRING:
        print_string(t, at_node_text(n));
        break;
    case AT_LIST:
        at_text_add(t, "[]");
        break;
    case AT_MAP:
        at_text_add(t, "{}");
        break;
    }
}

/* A list of scalars on one line; false (and nothing printed) where it is none or too long. */
static bool print_flow(at_text *t, const at_node *list)
{
    at_text flow = {0};
    bool fits = at_node_kind(list) == AT_LIST;
    at_text_add(&flow, "[");
    for (size_t i = 0; i < at_node_count(list) && fits; i++) {
        if (i)
            at_text_add(&flow, ", ");
        print_scalar(&flow, at_node_at(list, i));
        fits = at_node_count(at_node_at(list, i)) == 0 && flow.length < FLOW_WIDTH;
    }
    if (fits)
        at_text_add(t, "%s]", flow.failed ? "" : flow.data);
    t->failed |= flow.failed;
    at_text_fini(&flow);
    return fits;
}

static void print_block(at_text *t, const at_node *n, int indent);

/* What follows "key:" or "-": a scalar on the same line, or a block. */
static void print_value(at_text *t, const at_node *n, int indent, bool after_dash)
{
    if (at_node_count(n) == 0) {
        at_text_add(t, " ");
        print_scalar(t, n);
        at_text_add(t, "\n");
        return;
    }
    size_t before = t->length;
    at_text_add(t, " ");
    if (print_flow(t, n)) {
        at_text_add(t, "\n");
        return;
    }
    if (!after_dash && !t->failed) {
        t->length = before;
        at_text_add(t, "\n%*s", indent + 2, "");
    }
    print_block(t, n, indent + 2);
}

static void print_key(at_text *t, const char *key, int indent)
{
    at_text text = {0};
    print_string(&text, key);
    const char *shown = text.failed ? "" : text.data;
    if (text.length > SIMPLE_KEY_LIMIT)
        at_text_add(t, "? %s\n%*s:", shown, indent, "");
    else
        at_text_add(t, "%s:", shown);
    t->failed |= text.failed;
    at_text_fini(&text);
}

/* A list or map that is not empty, its first line at the current position. */
static void print_block(at_text *t, const at_node *n, int indent)
{
    for (size_t i = 0; i < at_node_count(n); i++) {
        if (i)
            at_text_add(t, "%*s", indent, "");
        if (at_node_kind(n) == AT_MAP)
            print_key(t, at_node_key(n, i), indent);
        else
            at_text_add(t, "-");
        print_value(t, at_node_at(n, i), indent, at_node_kind(n) == AT_LIST);
    }
}

char *at_yaml_print(const at_node *n)
{
    at_text t = {0};
    if (at_node_count(n) > 0) {
        print_block(&t, n, 0);
    } else {
        print_scalar(&t, n);
        at_text_add(&t, "\n");
    }
    if (t.failed) {
        at_text_fini(&t);
        return NULL;
    }
    return t.data;
}
