/* SPDX-License-Identifier: Apache-2.0
 * The rows of a label file: CSV (RFC 4180, with a header) or JSON-lines, told apart by the first
 * character; or of a list of addresses, one a line, whose folders tell the class.
 *
 * Lines may end in any of the three ways, a UTF-8 byte order mark is passed over, blank lines are
 * none. Everything else that is not as it should be is an error that names the line: a label that
 * was read wrongly would be learned. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MAX_COLUMNS = 256, MAX_ADDRESS = 4096 };

static const char *const known[] = {"path", "label", "split", "url"};
enum { PATH, LABEL, SPLIT, URL, KNOWN }; /* url: where there is no path */

struct reader {
    const char *at, *end, *name;
    size_t line;
    bool warned; /* of a column that is not known */
    at_label_fn fn;
    void *context;
    at_error *err;
};

/* ---- columns ---- */

static int known_column(const char *name)
{
    int i = 0;
    while (i < KNOWN && strcasecmp(name, known[i]))
        i++;
    return i;
}

/* The column's number among the known ones; KNOWN: it is passed over; negative: error. */
static int column_of(struct reader *r, const char *name, size_t line)
{
    int column = known_column(name);
    if (column < KNOWN)
        return column;
    const char *near = at_nearest(name, known, URL);
    if (near)
        return at_fail(r->err, AT_EINPUT, "%s:%zu: unknown column \"%s\": did you mean \"%s\"?",
                       r->name, line, name, near);
    if (!r->warned)
        at_log(AT_LOG_WARN, "%s:%zu: column \"%s\" is not used: path, label and split are", r->name,
               line, name);
    r->warned = true;
    return KNOWN;
}

static int give(const struct reader *r, const char *const values[KNOWN], size_t line)
{
    at_label_row row = {values[PATH] ? values[PATH] : values[URL], values[LABEL], values[SPLIT],
                        line};
    const char *must[] = {row.path, row.label};
    for (int i = 0; i <= LABEL; i++)
        if (!must[i] || !must[i][0])
            return at_fail(r->err, AT_EINPUT, "%s:%zu: %s is %s", r->name, line, known[i],
                           must[i] ? "empty" : "missing");
    return r->fn(r->context, &row, r->err);
}

/* ---- CSV ---- */

struct record {
    at_text text; /* the fields, each with its NUL */
    size_t starts[MAX_COLUMNS], count, line;
};

static bool ends_line(char c)
{
    return c == '\n' || c == '\r';
}

static void pass_line_end(struct reader *r)
{
    if (r->at < r->end) {
        bool two = r->at[0] == '\r' && r->at + 1 < r->end && r->at[1] == '\n';
        r->at += two ? 2 : 1;
        r->line++;
    }
}

/* From behind the opening quote to behind the closing one. */
static int read_quoted(struct reader *r, at_text *out)
{
    size_t opened = r->line;
    for (;;) {
        const char *quote = memchr(r->at, '"', (size_t)(r->end - r->at));
        if (!quote)
            return at_fail(r->err, AT_EINPUT, "%s:%zu: a quote is not closed", r->name, opened);
        for (const char *c = r->at; c < quote; c++)
            r->line += *c == '\n';
        at_text_append(out, r->at, (size_t)(quote - r->at));
        r->at = quote + 1;
        if (r->at == r->end || *r->at != '"')
            break;
        at_text_append(out, r->at++, 1);
    }
    if (r->at < r->end && *r->at != ',' && !ends_line(*r->at))
        return at_fail(r->err, AT_EINPUT,
                       "%s:%zu: text behind a closing quote: quotes within a field are doubled",
                       r->name, r->line);
    return 0;
}

static int read_plain(struct reader *r, at_text *out)
{
    const char *begin = r->at;
    while (r->at < r->end && *r->at != ',' && !ends_line(*r->at) && *r->at != '"')
        r->at++;
    if (r->at < r->end && *r->at == '"')
        return at_fail(r->err, AT_EINPUT,
                       "%s:%zu: a quote within a field: put the field in quotes, and double it",
                       r->name, r->line);
    at_text_append(out, begin, (size_t)(r->at - begin));
    return 0;
}

static int read_field(struct reader *r, struct record *f)
{
    if (f->count == MAX_COLUMNS)
        return at_fail(r->err, AT_EINPUT, "%s:%zu: more than %d columns", r->name, r->line,
                       MAX_COLUMNS);
    f->starts[f->count++] = f->text.length;
    bool quoted = r->at < r->end && *r->at == '"';
    r->at += quoted;
    int code = quoted ? read_quoted(r, &f->text) : read_plain(r, &f->text);
    at_text_append(&f->text, "", 1);
    return code < 0 ? code : f->text.failed ? at_nomem(r->err) : 0;
}

/* 1: the next line that is not blank, 0: the end, negative: error. */
static int read_record(struct reader *r, struct record *f)
{
    while (r->at < r->end && ends_line(*r->at))
        pass_line_end(r);
    if (r->at == r->end)
        return 0;
    f->text.length = f->count = 0;
    f->line = r->line;
    for (;;) {
        int code = read_field(r, f);
        if (code < 0)
            return code;
        if (r->at == r->end || *r->at != ',')
            break;
        r->at++;
    }
    pass_line_end(r);
    return 1;
}

static const char *field(const struct record *f, size_t i)
{
    return f->text.data + f->starts[i];
}

/* A first line that names no column at all is taken for a row. */
static bool is_header(const struct record *f)
{
    bool any = false;
    for (size_t i = 0; i < f->count; i++)
        any = any || known_column(field(f, i)) < KNOWN;
    return any;
}

/* Where the known columns stand; -1: nowhere. */
static int read_header(struct reader *r, struct record *f, int where[KNOWN])
{
    for (int i = 0; i < KNOWN; i++)
        where[i] = -1;
    int code = read_record(r, f);
    for (size_t i = 0; code == 1 && is_header(f) && i < f->count; i++) {
        int column = column_of(r, field(f, i), f->line);
        if (column < 0)
            return column;
        if (column < KNOWN && where[column] >= 0)
            return at_fail(r->err, AT_EINPUT, "%s:%zu: two columns are named %s", r->name, f->line,
                           known[column]);
        if (column < KNOWN)
            where[column] = (int)i;
    }
    if (code >= 0 && ((where[PATH] < 0 && where[URL] < 0) || where[LABEL] < 0))
        return at_fail(r->err, AT_EINPUT,
                       "%s:1: its first line must name the columns: path,label or "
                       "path,label,split, with commas between them",
                       r->name);
    return code < 0 ? code : 0;
}

static int read_csv(struct reader *r)
{
    struct record f = {0};
    int where[KNOWN], code = read_header(r, &f, where);
    size_t columns = f.count;
    while (code == 0 && (code = read_record(r, &f)) == 1) {
        const char *values[KNOWN] = {0};
        for (int i = 0; i < KNOWN; i++)
            if (where[i] >= 0 && (size_t)where[i] < f.count)
                values[i] = field(&f, (size_t)where[i]);
        code = f.count == columns
                   ? give(r, values, f.line)
                   : at_fail(r->err, AT_EINPUT, "%s:%zu: %zu fields where the header has %zu",
                             r->name, f.line, f.count, columns);
    }
    at_text_fini(&f.text);
    return code;
}

/* ---- JSON-lines ---- */

static int read_object(struct reader *r, const at_node *object)
{
    const char *values[KNOWN] = {0};
    if (at_node_kind(object) != AT_MAP)
        return at_fail(r->err, AT_EINPUT,
                       "%s:%zu: each line is an object: {\"path\": ..., \"label\": ...}", r->name,
                       r->line);
    for (size_t i = 0; i < at_node_count(object); i++) {
        int column = column_of(r, at_node_key(object, i), r->line);
        if (column < 0)
            return column;
        const at_node *value = at_node_at(object, i);
        at_kind kind = at_node_kind(value);
        if (column < KNOWN && kind != AT_STRING && !(column == LABEL && kind == AT_INT))
            return at_fail(r->err, AT_EINPUT, "%s:%zu: %s is no text%s", r->name, r->line,
                           known[column], column == LABEL ? " and no whole number" : "");
        if (column < KNOWN)
            values[column] = at_node_text(value);
    }
    return give(r, values, r->line);
}

static int read_line(struct reader *r, const char *text, size_t bytes)
{
    at_error why = {0};
    at_node *object = at_json_parse(text, bytes, "line", &why);
    const char *place = strstr(why.message, ":1:"); /* a line is line 1 of itself */
    int code = object ? read_object(r, object)
                      : at_fail(r->err, why.code, "%s:%zu%s", r->name, r->line,
                                place ? place + 2 : why.message);
    at_node_free(object);
    return code;
}

/* Calls fn for every line that is not blank. */
static int each_line(struct reader *r, int (*fn)(struct reader *, const char *, size_t))
{
    int code = 0;
    while (code == 0 && r->at < r->end) {
        const char *begin = r->at;
        while (r->at < r->end && !ends_line(*r->at))
            r->at++;
        size_t blank = 0, bytes = (size_t)(r->at - begin);
        while (blank < bytes && (begin[blank] == ' ' || begin[blank] == '\t'))
            blank++;
        if (blank < bytes)
            code = fn(r, begin, bytes);
        if (code == 0)
            pass_line_end(r);
    }
    return code;
}

/* ---- addresses ---- */

/* The folders behind the host are a layout as that of a source. */
static int read_address(struct reader *r, const char *text, size_t bytes)
{
    char url[MAX_ADDRESS], label[MAX_ADDRESS];
    if (bytes >= sizeof url)
        return at_fail(r->err, AT_EINPUT, "%s:%zu: an address of %zu bytes", r->name, r->line,
                       bytes);
    snprintf(url, sizeof url, "%.*s", (int)bytes, text);
    const char *host = strstr(url, "://"), *path = host ? strchr(host + 3, '/') : NULL, *class;
    size_t length;
    at_split split;
    if (!path || !at_layout_parse(path + 1, 0, &split, &class, &length))
        return at_fail(r->err, AT_EINPUT,
                       "%s:%zu: no class folder in %s: give a CSV with a header url,label", r->name,
                       r->line, url);
    snprintf(label, sizeof label, "%.*s", (int)length, class);
    return give(r,
                (const char *[KNOWN]){[URL] = url, [LABEL] = label, [SPLIT] = at_split_name(split)},
                r->line);
}

/* ---- all of them ---- */

bool at_is_address(const char *text, size_t bytes)
{
    return (bytes > 7 && !strncasecmp(text, "http://", 7)) ||
           (bytes > 8 && !strncasecmp(text, "https://", 8));
}

static int refuse_bytes(const struct reader *r)
{
    if (r->end - r->at >= 2 && (!memcmp(r->at, "\xFF\xFE", 2) || !memcmp(r->at, "\xFE\xFF", 2)))
        return at_fail(r->err, AT_EINPUT, "%s is UTF-16: save it as UTF-8", r->name);
    const char *nul = memchr(r->at, 0, (size_t)(r->end - r->at));
    if (!nul)
        return 0;
    size_t line = 1;
    for (const char *c = r->at; c < nul; c++)
        line += *c == '\n';
    return at_fail(r->err, AT_EINPUT, "%s:%zu: a NUL byte: this is no text", r->name, line);
}

int at_label_rows(const char *text, size_t bytes, const char *name, at_label_fn fn, void *context,
                  at_error *err)
{
    struct reader r = {text,     text + bytes,       name,      .line = 1,
                       .fn = fn, .context = context, .err = err};
    if (bytes >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3))
        r.at += 3;
    int code = refuse_bytes(&r);
    if (code < 0)
        return code;
    const char *first = r.at;
    while (first < r.end && strchr(" \t\r\n", *first))
        first++;
    if (first < r.end && *first == '[')
        return at_fail(err, AT_EINPUT, "%s: a JSON list: write one object a line, without [ and ]",
                       name);
    if (at_is_address(first, (size_t)(r.end - first)))
        return each_line(&r, read_address);
    return first < r.end && *first == '{' ? each_line(&r, read_line) : read_csv(&r);
}
