/* SPDX-License-Identifier: Apache-2.0
 * Tables for people: aligned columns, numbers to the right.
 *
 * The first SAMPLE rows are held to find the columns' widths, the others go straight through, so a
 * table of a million rows takes no memory. On a terminal the widest columns are cut until a row
 * fits; elsewhere nothing is lost. Control characters are shown as escapes: a file's name must not
 * move the cursor. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { SAMPLE = 1000, NARROWEST = 8, GAP = 2 };

struct column {
    char *name;
    int width;
    bool text; /* a cell is no number */
};

struct cli_table {
    struct column *columns;
    size_t count, cells; /* of held */
    at_text held;        /* cells not printed yet, each with its NUL */
    bool printing;       /* the widths are fixed */
    int terminal;        /* its width, 0: no terminal */
};

/* ---- characters ---- */

/* One character of UTF-8; a stray byte is itself. */
static const char *next_character(const char *s, uint32_t *character)
{
    const unsigned char *p = (const unsigned char *)s;
    int more = p[0] >= 0xF0 ? 3 : p[0] >= 0xE0 ? 2 : p[0] >= 0xC0 ? 1 : 0;
    *character = more ? p[0] & (0x3F >> more) : p[0];
    s++;
    for (; more && ((unsigned char)*s & 0xC0) == 0x80; more--, s++)
        *character = *character << 6 | ((unsigned char)*s & 0x3F);
    return s;
}

/* Columns of a terminal: 2 for East Asian wide characters and pictures, 0 for marks that combine. */
static int columns_of(uint32_t c)
{
    static const struct {
        uint32_t first, last;
        int columns;
    } ranges[] = {{0x300, 0x36F, 0},    {0x1100, 0x115F, 2}, {0x200B, 0x200F, 0},
                  {0x20D0, 0x20FF, 0},  {0x2E80, 0xA4CF, 2}, {0xAC00, 0xD7A3, 2},
                  {0xF900, 0xFAFF, 2},  {0xFE00, 0xFE0F, 0}, {0xFE30, 0xFE6F, 2},
                  {0xFF00, 0xFF60, 2},  {0xFFE0, 0xFFE6, 2}, {0x1F300, 0x1FAFF, 2},
                  {0x20000, 0x3FFFD, 2}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (c >= ranges[i].first && c <= ranges[i].last)
            return ranges[i].columns;
    return 1;
}

static int width_of(const char *s)
{
    int width = 0;
    uint32_t c;
    while (*s) {
        s = next_character(s, &c);
        width += columns_of(c);
    }
    return width;
}

/* Bytes of s that fill at most `width` columns. */
static size_t bytes_within(const char *s, int width)
{
    const char *at = s;
    uint32_t c;
    while (*at) {
        const char *next = next_character(at, &c);
        width -= columns_of(c);
        if (width < 0)
            break;
        at = next;
    }
    return (size_t)(at - s);
}

/* ---- the table ---- */

static int terminal_width(void)
{
    struct winsize size;
    if (!isatty(STDOUT_FILENO))
        return 0;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 80;
}

cli_table *cli_table_new(const char *const *names, size_t count)
{
    cli_table *t = calloc(1, sizeof *t);
    if (!t || !(t->columns = calloc(count ? count : 1, sizeof *t->columns))) {
        free(t);
        return NULL;
    }
    t->count = count;
    t->terminal = terminal_width();
    for (size_t c = 0; c < count; c++) {
        at_text name = {0};
        at_text_add_visible(&name, names[c]);
        t->columns[c] =
            (struct column){.name = name.data, .width = width_of(name.data ? name.data : "")};
    }
    return t;
}

static void fit_terminal(cli_table *t)
{
    int total = t->terminal ? -GAP : 0;
    for (size_t c = 0; c < t->count && t->terminal; c++)
        total += t->columns[c].width + GAP;
    while (total > t->terminal) {
        struct column *widest = &t->columns[0];
        for (size_t c = 1; c < t->count; c++)
            if (t->columns[c].width > widest->width)
                widest = &t->columns[c];
        if (widest->width <= NARROWEST)
            break;
        widest->width--;
        total--;
    }
}

static void print_cell(const cli_table *t, size_t column, const char *text)
{
    const struct column *c = &t->columns[column];
    bool last = column + 1 == t->count;
    int width = width_of(text);
    bool cut = t->terminal && width > c->width;
    size_t bytes = cut ? bytes_within(text, c->width - 1) : strlen(text);
    int pad = cut ? 0 : c->width - width;
    if (!c->text && pad > 0)
        printf("%*s", pad, "");
    fwrite(text, 1, bytes, stdout);
    if (cut)
        fputs("\u2026", stdout);
    if (c->text && pad > 0 && !last)
        printf("%*s", pad, "");
    fputs(last ? "\n" : "  ", stdout);
}

static void flush(cli_table *t)
{
    if (!t->printing) {
        fit_terminal(t);
        for (size_t c = 0; c < t->count; c++)
            print_cell(t, c, t->columns[c].name ? t->columns[c].name : "");
    }
    t->printing = true;
    const char *cell = t->held.data;
    for (size_t i = 0; i < t->cells && !t->held.failed; i++, cell += strlen(cell) + 1)
        print_cell(t, i % t->count, cell);
    t->held.length = t->cells = 0;
}

void cli_table_add(cli_table *t, const char *text, bool number)
{
    struct column *c = &t->columns[t->cells % t->count];
    size_t begin = t->held.length;
    at_text_add_visible(&t->held, text);
    at_text_append(&t->held, "", 1);
    if (!t->printing && !t->held.failed) {
        int width = width_of(t->held.data + begin);
        c->width = width > c->width ? width : c->width;
        c->text = c->text || !number;
    }
    t->cells++;
    if (t->cells == (t->printing ? t->count : t->count * SAMPLE))
        flush(t);
}

int cli_table_end(cli_table *t, at_error *err)
{
    if (!t)
        return at_nomem(err);
    if (!t->printing || t->cells)
        flush(t);
    int code = t->held.failed ? at_nomem(err) : 0;
    for (size_t c = 0; c < t->count; c++)
        free(t->columns[c].name);
    free(t->columns);
    at_text_fini(&t->held);
    free(t);
    return code;
}

void cli_print_table(const at_node *rows)
{
    const at_node *first = at_node_at(rows, 0);
    size_t columns = at_node_count(first);
    const char **names = calloc(columns ? columns : 1, sizeof *names);
    for (size_t c = 0; names && c < columns; c++)
        names[c] = at_node_key(first, c);
    cli_table *t = names && columns ? cli_table_new(names, columns) : NULL;
    for (size_t r = 0; t && r < at_node_count(rows); r++)
        for (size_t c = 0; c < columns; c++) {
            const at_node *cell = at_node_at(at_node_at(rows, r), c);
            cli_table_add(t, at_node_text(cell), at_node_kind(cell) != AT_STRING);
        }
    if (t)
        cli_table_end(t, NULL);
    free(names);
}
