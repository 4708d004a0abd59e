/* SPDX-License-Identifier: Apache-2.0
 * A model as rows in a YAML file: what stands between the normalised pixels and the loss.
 *
 *     - {name: c1, layer: conv, attrs: {out: 32, k: 3, pad: 1}}
 *     - {name: r1, layer: relu}
 *     - {name: sum, layer: add, inputs: [r1, pixels]}
 *     - {name: flat, layer: flatten}
 *     - {name: logits, layer: dense, attrs: out=classes}
 *
 * A row reads the one before it unless it names its inputs; "pixels" are the normalised pixels, and
 * the value "classes" is the number of the data's classes. The graph keeps each row's place, so that
 * whatever is wrong with it is told with file and line, also by the layer itself.
 */
#include <string.h>

#include "internal.h"
#include "models.h"

bool models_is_yaml(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot && (!strcmp(dot, ".yaml") || !strcmp(dot, ".yml"));
}

static const char *const keys[] = {"name", "layer", "inputs", "attrs"};
enum { KEYS = sizeof keys / sizeof *keys };

static int check_keys(const at_node *row, size_t number, at_error *err)
{
    if (at_node_kind(row) != AT_MAP)
        return at_fail(err, AT_EINPUT,
                       "%s: row %zu is no map of name, layer and, where needed, inputs and attrs",
                       at_node_where(row), number);
    for (size_t i = 0; i < at_node_count(row); i++) {
        const char *key = at_node_key(row, i);
        bool known = false;
        for (size_t k = 0; k < KEYS; k++)
            known |= !strcmp(key, keys[k]);
        if (known)
            continue;
        const char *near = at_nearest(key, keys, KEYS);
        return at_fail(err, AT_EINPUT, "%s: row %zu: unknown key \"%s\"%s%s%s",
                       at_node_key_where(row, i), number, key, near ? "; did you mean \"" : "",
                       near ? near : " (name, layer, inputs, attrs)", near ? "\"?" : "");
    }
    for (size_t k = 0; k < 2; k++)
        if (!*at_node_text(at_node_get(row, keys[k])))
            return at_fail(err, AT_EINPUT, "%s: row %zu has no \"%s\"", at_node_where(row), number,
                           keys[k]);
    return 0;
}

/* One word of inputs; `pixels` is what the file calls the rows in front of its own. */
static void add_input(at_text *out, const char *word, size_t length, const char *pixels)
{
    bool first = length == 6 && !memcmp(word, "pixels", 6);
    at_text_add(out, "%s%.*s", out->length ? " " : "", first ? (int)strlen(pixels) : (int)length,
                first ? pixels : word);
}

static void add_inputs(at_text *out, const char *words, const char *pixels)
{
    for (const char *s = words; *(s += strspn(s, " "));) {
        size_t length = strcspn(s, " ");
        add_input(out, s, length, pixels);
        s += length;
    }
}

/* A list of names, or names with blanks between. */
static int read_inputs(const at_node *inputs, const nn_rows *r, const char *pixels, at_text *out,
                       at_error *err)
{
    at_kind kind = at_node_kind(inputs);
    at_text_add(out, "%s", "");
    if (!inputs)
        add_inputs(out, r->last.text, pixels);
    else if (kind != AT_LIST && kind != AT_MAP)
        add_inputs(out, at_node_text(inputs), pixels);
    for (size_t i = 0; inputs && i < at_node_count(inputs); i++) {
        const at_node *item = at_node_at(inputs, i);
        if (kind != AT_LIST || !*at_node_text(item))
            return at_fail(err, AT_EINPUT, "%s: inputs are names of rows: [a, b]",
                           at_node_where(item));
        add_inputs(out, at_node_text(item), pixels);
    }
    return 0;
}

static void add_attribute(at_text *out, const char *key, size_t length, const char *value,
                          size_t bytes, int classes)
{
    at_text_add(out, "%s%.*s=", out->length ? " " : "", (int)length, key);
    if (bytes == 7 && !memcmp(value, "classes", 7))
        at_text_add(out, "%d", classes);
    else
        at_text_add(out, "%.*s", (int)bytes, value);
}

/* A map, or key=value with blanks between. */
static int read_attrs(const at_node *attrs, int classes, at_text *out, at_error *err)
{
    at_kind kind = at_node_kind(attrs);
    at_text_add(out, "%s", "");
    for (size_t i = 0; kind == AT_MAP && i < at_node_count(attrs); i++) {
        const at_node *item = at_node_at(attrs, i);
        const char *key = at_node_key(attrs, i), *value = at_node_text(item);
        if (!*value || strpbrk(value, " \t"))
            return at_fail(err, AT_EINPUT, "%s: the attribute \"%s\" is no single value",
                           at_node_key_where(attrs, i), key);
        add_attribute(out, key, strlen(key), value, strlen(value), classes);
    }
    if (kind == AT_LIST)
        return at_fail(err, AT_EINPUT, "%s: attrs are {key: value} or key=value, no list",
                       at_node_where(attrs));
    for (const char *s = at_node_text(attrs); *(s += strspn(s, " \t"));) {
        size_t word = strcspn(s, " \t"), key = strcspn(s, "= \t");
        if (key == word)
            return at_fail(err, AT_EINPUT, "%s: \"%.*s\" is not key=value", at_node_where(attrs),
                           (int)word, s);
        add_attribute(out, s, key, s + key + 1, word - key - 1, classes);
        s += word;
    }
    return 0;
}

static int read_row(nn_rows *r, const at_node *row, size_t number, const char *pixels,
                    at_error *err)
{
    at_text inputs = {0}, attrs = {0};
    int status = check_keys(row, number, err);
    if (!status)
        status = read_inputs(at_node_get(row, "inputs"), r, pixels, &inputs, err);
    if (!status)
        status = read_attrs(at_node_get(row, "attrs"), r->spec->classes, &attrs, err);
    if (!status && (inputs.failed || attrs.failed || nn_graph_place(r->graph, at_node_where(row))))
        status = at_nomem(err);
    if (!status) {
        const char *name = at_node_text(at_node_get(row, "name"));
        at_graph_add(r->graph, name, at_node_text(at_node_get(row, "layer")), inputs.data, "%s",
                     attrs.data);
        snprintf(r->last.text, sizeof r->last.text, "%s", name);
        status = nn_graph_check(r->graph, err);
    }
    at_text_fini(&inputs);
    at_text_fini(&attrs);
    return status;
}

int models_read_yaml(nn_rows *r, const char *path, at_error *err)
{
    at_node *file = at_yaml_read(path, err);
    if (!file)
        return err ? err->code : AT_EINPUT;
    row_name pixels = r->last;
    int status = 0;
    if (at_node_kind(file) != AT_LIST || !at_node_count(file))
        status = at_fail(err, AT_EINPUT,
                         "%s: a model is a list of rows {name, layer, inputs, attrs}", path);
    for (size_t i = 0; !status && i < at_node_count(file); i++)
        status = read_row(r, at_node_at(file, i), i + 1, pixels.text, err);
    at_node_free(file);
    nn_graph_place(r->graph, NULL);
    return status;
}
