/* SPDX-License-Identifier: Apache-2.0
 * graph: rows of text. It knows nothing of layers but that a row has a name of its own and that its
 * inputs are earlier rows; what a row means is net.c's business. The text form is a line a row,
 * "name | layer | inputs | attrs", and parses back to the same rows.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_ROWS = 10000, MOST_TEXT = 10000 };

typedef struct graph_row {
    at_row row;  /* owned strings */
    char *place; /* "my-model.yaml:7:3"; NULL where it has none */
} graph_row;

struct at_graph {
    size_t count, capacity;
    graph_row *rows;
    char *place;    /* of the rows to come */
    at_error first; /* the first bad row, reported by nn_graph_check */
};

at_graph *at_graph_new(void)
{
    return calloc(1, sizeof(at_graph));
}

static void free_row(graph_row *r)
{
    free((char *)r->row.name);
    free((char *)r->row.layer);
    free((char *)r->row.inputs);
    free((char *)r->row.attrs);
    free(r->place);
}

void at_graph_free(at_graph *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < g->count; i++)
        free_row(&g->rows[i]);
    free(g->rows);
    free(g->place);
    free(g);
}

size_t at_graph_rows(const at_graph *g)
{
    return g->count;
}

at_row at_graph_row(const at_graph *g, size_t i)
{
    return g->rows[i].row;
}

static bool good_name(const char *s)
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
    return n > 0 && n <= 100 && !s[n];
}

static bool has_row(const at_graph *g, const char *name, size_t length)
{
    for (size_t i = 0; i < g->count; i++)
        if (strlen(g->rows[i].row.name) == length && !memcmp(g->rows[i].row.name, name, length))
            return true;
    return false;
}

/* Everything that can be said of a row without knowing its layer. */
static int check_row(const at_graph *g, at_row row, at_error *err)
{
    if (!good_name(row.name))
        return at_fail(err, AT_EINPUT, "row %zu: \"%s\" is no name (letters, digits, _ . -)",
                       g->count + 1, row.name);
    if (g->count == MOST_ROWS)
        return at_fail(err, AT_EINPUT, "row \"%s\": more than %d rows", row.name, MOST_ROWS);
    if (has_row(g, row.name, strlen(row.name)))
        return at_fail(err, AT_EINPUT, "row \"%s\" comes twice", row.name);
    if (!good_name(row.layer) || strpbrk(row.attrs, "|\n\r") || strlen(row.attrs) > MOST_TEXT)
        return at_fail(err, AT_EINPUT, "row \"%s\": no layer and attributes of a row", row.name);
    for (const char *s = row.inputs; *(s += strspn(s, " "));) {
        size_t length = strcspn(s, " ");
        if (!has_row(g, s, length))
            return at_fail(err, AT_EINPUT, "row \"%s\": its input \"%.*s\" is no earlier row",
                           row.name, length < 200 ? (int)length : 200, s);
        s += length;
    }
    return 0;
}

static bool copy_row(graph_row *to, at_row from, const char *place)
{
    *to = (graph_row){
        {strdup(from.name), strdup(from.layer), strdup(from.inputs), strdup(from.attrs)},
        place ? strdup(place) : NULL};
    const at_row *r = &to->row;
    return r->name && r->layer && r->inputs && r->attrs && (to->place || !place);
}

static int add_row(at_graph *g, at_row row, at_error *err)
{
    int status = check_row(g, row, err);
    if (status)
        return g->place ? at_fail_in(err, "%s", g->place) : status;
    if (g->count == g->capacity) {
        size_t capacity = g->capacity ? 2 * g->capacity : 16;
        graph_row *rows = realloc(g->rows, capacity * sizeof *rows);
        if (!rows)
            return at_nomem(err);
        g->rows = rows;
        g->capacity = capacity;
    }
    if (!copy_row(&g->rows[g->count], row, g->place)) {
        free_row(&g->rows[g->count]);
        return at_nomem(err);
    }
    g->count++;
    return 0;
}

void at_graph_add(at_graph *g, const char *name, const char *layer, const char *inputs,
                  const char *attrs_format, ...)
{
    if (!g || g->first.code)
        return;
    char *attrs = NULL;
    va_list list;
    va_start(list, attrs_format);
    int length = vasprintf(&attrs, attrs_format, list);
    va_end(list);
    if (length < 0) {
        at_nomem(&g->first);
        return;
    }
    add_row(g, (at_row){name, layer, inputs, attrs}, &g->first);
    free(attrs);
}

int nn_graph_place(at_graph *g, const char *place)
{
    char *copy = place ? strdup(place) : NULL;
    if (place && !copy)
        return AT_ENOMEM;
    free(g->place);
    g->place = copy;
    return 0;
}

int nn_graph_blame(const at_graph *g, size_t i, at_error *err)
{
    const char *place = g->rows[i].place;
    if (place)
        at_fail_in(err, "%s", place);
    return err ? err->code : AT_EINPUT;
}

int nn_graph_check(const at_graph *g, at_error *err)
{
    if (!g)
        return at_nomem(err);
    if (g->first.code)
        return at_fail(err, g->first.code, "%s", g->first.message);
    return g->count ? 0 : at_fail(err, AT_EINPUT, "a network without rows");
}

at_graph *nn_graph_copy(const at_graph *g)
{
    at_graph *copy = at_graph_new();
    for (size_t i = 0; copy && i < g->count; i++) {
        if (nn_graph_place(copy, g->rows[i].place) || add_row(copy, g->rows[i].row, NULL)) {
            at_graph_free(copy);
            return NULL;
        }
    }
    return copy;
}

char *at_graph_print(const at_graph *g)
{
    at_text text = {0};
    at_text_add(&text, "%s", "");
    for (size_t i = 0; i < g->count; i++) {
        const at_row *r = &g->rows[i].row;
        at_text_add(&text, "%s | %s | %s | %s\n", r->name, r->layer, r->inputs, r->attrs);
    }
    if (text.failed) {
        at_text_fini(&text);
        return NULL;
    }
    return text.data;
}

/* The next field of a line, without the blanks around it; NULL where the line has no more. */
static char *next_field(char **line)
{
    if (!*line)
        return NULL;
    char *field = *line + strspn(*line, " \t"), *bar = strchr(field, '|');
    *line = bar ? bar + 1 : NULL;
    char *end = bar ? bar : field + strlen(field);
    while (end > field && strchr(" \t\r", end[-1]))
        end--;
    *end = '\0';
    return field;
}

static int parse_line(at_graph *g, char *line, size_t number, at_error *err)
{
    if (!line[strspn(line, " \t\r")])
        return 0;
    char *fields[4];
    for (int i = 0; i < 4; i++)
        if (!(fields[i] = next_field(&line)))
            return at_fail(err, AT_EINPUT, "line %zu: expected name | layer | inputs | attributes",
                           number);
    if (line)
        return at_fail(err, AT_EINPUT, "line %zu: more than four fields", number);
    if (add_row(g, (at_row){fields[0], fields[1], fields[2], fields[3]}, err))
        return at_fail_in(err, "line %zu", number);
    return 0;
}

at_graph *at_graph_parse(const char *text, at_error *err)
{
    at_graph *g = at_graph_new();
    char *copy = strdup(text);
    if (!g || !copy) {
        at_nomem(err);
        goto fail_parse;
    }
    size_t number = 0;
    for (char *rest = copy, *line; (line = strsep(&rest, "\n"));)
        if (parse_line(g, line, ++number, err))
            goto fail_parse;
    free(copy);
    return g;

fail_parse:
    free(copy);
    at_graph_free(g);
    return NULL;
}
