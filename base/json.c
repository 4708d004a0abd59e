/* SPDX-License-Identifier: Apache-2.0
 * JSON: read by jansson, printed here (jansson prints 0.1 as 0.10000000000000001).
 *
 * The text is scanned for depth and size before jansson builds anything from it.
 */
#include "internal.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading ---- */

/* Counts what the text can hold at most: a value needs an opening bracket or a comma before it. */
static int check_limits(const char *text, size_t bytes, const char *name, at_error *err)
{
    size_t nodes = 1, depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < bytes; i++) {
        char c = text[i];
        if (quoted) {
            i += c == '\\';
            quoted = c != '"';
            continue;
        }
        bool opens = c == '[' || c == '{';
        quoted = c == '"';
        nodes += opens || c == ',';
        depth += opens;
        depth -= depth && (c == ']' || c == '}');
        if (depth <= AT_TREE_DEPTH && nodes <= AT_TREE_NODES)
            continue;
        size_t line, column;
        at_text_position(text, i, &line, &column);
        return at_fail(err, AT_EINPUT, "%s:%zu:%zu: %s", name, line, column,
                       depth > AT_TREE_DEPTH ? "nested too deeply" : "too many values");
    }
    return 0;
}

/* Whether the n characters are an integer, and one that int64_t does not hold. */
static bool is_wide(const char *number, size_t n)
{
    bool negative = number[0] == '-';
    const char *digits = number + negative,
               *most = negative ? "9223372036854775808" : "9223372036854775807";
    n -= negative;
    for (size_t i = 0; i < n; i++)
        if (digits[i] < '0' || digits[i] > '9')
            return false;
    return n > strlen(most) || (n == strlen(most) && memcmp(digits, most, n) > 0);
}

/* Copies the text with ".0" behind every integer beyond int64_t, which jansson refuses. */
static void widen_integers(const char *text, size_t bytes, at_text *out)
{
    bool quoted = false;
    for (size_t i = 0; i < bytes;) {
        size_t n = 1;
        bool number = false;
        if (quoted) {
            n += text[i] == '\\' && i + 1 < bytes;
            quoted = text[i] != '"';
        } else if (text[i] == '-' || (text[i] >= '0' && text[i] <= '9')) {
            number = true;
            while (i + n < bytes && text[i + n] && strchr("0123456789.eE+-", text[i + n]))
                n++;
        } else {
            quoted = text[i] == '"';
        }
        at_text_append(out, text + i, n);
        if (number && is_wide(text + i, n))
            at_text_append(out, ".0", 2);
        i += n;
    }
}

static json_t *load(const char *text, size_t bytes, json_error_t *error)
{
    size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY;
    json_t *json = json_loadb(text, bytes, flags, error);
    if (json || json_error_code(error) != json_error_numeric_overflow)
        return json;
    at_text wide = {0};
    widen_integers(text, bytes, &wide);
    if (!wide.failed)
        json = json_loadb(wide.data, wide.length, flags, error);
    at_text_fini(&wide);
    return json;
}

static at_node *convert(json_t *json);

static at_node *convert_object(json_t *json)
{
    at_node *map = at_node_new(AT_MAP);
    const char *key;
    json_t *value;
    json_object_foreach(json, key, value)
    {
        if (!at_node_set(map, key, convert(value))) {
            at_node_free(map);
            return NULL;
        }
    }
    return map;
}

static at_node *convert_array(json_t *json)
{
    at_node *list = at_node_new(AT_LIST);
    for (size_t i = 0; i < json_array_size(json); i++) {
        if (!at_node_add(list, convert(json_array_get(json, i)))) {
            at_node_free(list);
            return NULL;
        }
    }
    return list;
}

static at_node *convert(json_t *json)
{
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        return convert_object(json);
    case JSON_ARRAY:
        return convert_array(json);
    case JSON_STRING:
        return at_node_new_string(json_string_value(json));
    case JSON_INTEGER:
        return at_node_new_int(json_integer_value(json));
    case JSON_REAL:
        return at_node_new_real(json_real_value(json));
    case JSON_TRUE:
    case JSON_FALSE:
        return at_node_new_bool(json_is_true(json));
    case JSON_NULL:
        break;
    }
    return at_node_new(AT_NULL);
}

at_node *at_json_parse(const char *text, size_t bytes, const char *name, at_error *err)
{
    name = name ? name : "json";
    if (at_document_check(text, bytes, name, err) || check_limits(text, bytes, name, err))
        return NULL;
    if (bytes >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) {
        text += 3;
        bytes -= 3;
    }
    json_error_t error;
    json_t *json = load(text, bytes, &error);
    if (!json) {
        at_fail(err, AT_EINPUT, "%s:%d:%d: %s", name, error.line, error.column, error.text);
        return NULL;
    }
    at_node *n = convert(json);
    json_decref(json);
    if (!n)
        at_nomem(err);
    return n;
}

at_node *at_json_read(const char *path, at_error *err)
{
    char *text;
    size_t bytes;
    if (at_file_read(path, AT_TREE_BYTES, &text, &bytes, err))
        return NULL;
    at_node *n = at_json_parse(text, bytes, path, err);
    free(text);
    return n;
}

/* ---- printing ---- */

static void new_line(at_text *t, bool indent, int depth)
{
    if (indent)
        at_text_add(t, "\n%*s", 2 * depth, "");
}

static void print_scalar(at_text *t, const at_node *n)
{
    char real[32] = "null";
    switch (at_node_kind(n)) {
    case AT_STRING:
        at_text_add_quoted(t, at_node_text(n));
        break;
    case AT_INT:
        at_text_add(t, "%lld", (long long)at_node_int(n, 0));
        break;
    case AT_REAL:
        if (isfinite(at_node_real(n, 0)))
            at_real_format(at_node_real(n, 0), real);
        at_text_add(t, "%s", real);
        break;
    case AT_BOOL:
        at_text_add(t, "%s", at_node_bool(n, false) ? "true" : "false");
        break;
    default:
        at_text_add(t, "null");
    }
}

static void print(at_text *t, const at_node *n, bool indent, int depth)
{
    at_kind kind = at_node_kind(n);
    if (kind != AT_MAP && kind != AT_LIST) {
        print_scalar(t, n);
        return;
    }
    at_text_append(t, kind == AT_MAP ? "{" : "[", 1);
    for (size_t i = 0; i < at_node_count(n); i++) {
        if (i)
            at_text_append(t, ",", 1);
        new_line(t, indent, depth + 1);
        if (kind == AT_MAP) {
            at_text_add_quoted(t, at_node_key(n, i));
            at_text_append(t, ": ", indent ? 2 : 1);
        }
        print(t, at_node_at(n, i), indent, depth + 1);
    }
    if (at_node_count(n))
        new_line(t, indent, depth);
    at_text_append(t, kind == AT_MAP ? "}" : "]", 1);
}

char *at_json_print(const at_node *n, bool indent)
{
    at_text t = {0};
    print(&t, n, indent, 0);
    if (t.failed) {
        at_text_fini(&t);
        return NULL;
    }
    return t.data;
}
