/* SPDX-License-Identifier: Apache-2.0
 * Options on the command line, and their --help.
 *
 * A value that does not fit is AT_EUSAGE here and AT_EINPUT in a file.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 80, HELP_COLUMN = 30 };

typedef struct arguments {
    const at_option *table;
    void *config;
    int argc, next;
    char **argv;
    at_error *err;
    bool *given; /* by the table's rows: was here before */
} arguments;

static int assign(arguments *a, const at_option *o, const char *label, const char *value)
{
    bool *given = &a->given[o - a->table];
    char *joined = NULL;
    if (o->list && *given) {
        joined = at_format("%s,%s", *(char **)((char *)a->config + o->offset), value);
        if (!joined)
            return at_nomem(a->err);
    }
    *given = true;
    int status = at_option_assign(o, a->config, label, joined ? joined : value, a->err);
    free(joined);
    if (status != AT_EINPUT)
        return status;
    if (a->err)
        a->err->code = AT_EUSAGE;
    return AT_EUSAGE;
}

/* The argument after an option; another --option is no value (write --name=--value for that). */
static int take_next(arguments *a, const at_option *o, const char *label)
{
    if (a->next >= a->argc || strncmp(a->argv[a->next], "--", 2) == 0)
        return at_fail(a->err, AT_EUSAGE, "%s needs a value", label);
    return assign(a, o, label, a->argv[a->next++]);
}

static int fail_unknown(arguments *a, const char *name)
{
    const char *near = at_option_nearest(a->table, name);
    if (near)
        return at_fail(a->err, AT_EUSAGE, "unknown option \"--%s\"; did you mean \"--%s\"?", name,
                       near);
    return at_fail(a->err, AT_EUSAGE, "unknown option \"--%s\"", name);
}

/* --name, --name VALUE, --name=VALUE, --no-name; text begins after the dashes. */
static int parse_long(arguments *a, const char *text)
{
    size_t length = strcspn(text, "=");
    const char *value = text[length] ? text + length + 1 : NULL;
    char *label = at_format("--%.*s", (int)length, text);
    if (!label)
        return at_nomem(a->err);
    const at_option *o = at_option_find(a->table, text, length);
    const at_option *negated = NULL;
    if (!o && length > 3 && strncmp(text, "no-", 3) == 0)
        negated = at_option_find(a->table, text + 3, length - 3);
    int status;
    if (negated && negated->type == AT_OPT_BOOL)
        status = value ? at_fail(a->err, AT_EUSAGE, "%s takes no value", label)
                       : assign(a, negated, label, "false");
    else if (!o)
        status = fail_unknown(a, label + 2);
    else if (value)
        status = assign(a, o, label, value);
    else if (o->type == AT_OPT_BOOL)
        status = assign(a, o, label, "true");
    else
        status = take_next(a, o, label);
    free(label);
    return status;
}

static const at_option *find_letter(const at_option *table, char letter)
{
    for (const at_option *o = table; o->name; o++)
        if (o->letter == letter)
            return o;
    return NULL;
}

/* -x VALUE, -xVALUE, and flags together: -qf. */
static int parse_short(arguments *a, const char *text)
{
    for (; *text; text++) {
        char label[3] = {'-', *text, 0};
        const at_option *o = find_letter(a->table, *text);
        if (!o)
            return at_fail(a->err, AT_EUSAGE, "unknown option \"-%s\"", text);
        if (o->type != AT_OPT_BOOL && text[1])
            return assign(a, o, label, text + 1);
        int status = o->type == AT_OPT_BOOL ? assign(a, o, label, "true") : take_next(a, o, label);
        if (status || o->type != AT_OPT_BOOL)
            return status;
    }
    return 0;
}

int at_options_parse(const at_option *table, void *config, int argc, char **argv, at_error *err)
{
    size_t rows = 1;
    while (table[rows - 1].name)
        rows++;
    arguments a = {table, config, argc, 0, argv, err, calloc(rows, sizeof(bool))};
    int operands = 0, status = a.given ? 0 : at_nomem(err);
    bool only_operands = false;
    while (status == 0 && a.next < argc) {
        char *text = argv[a.next++];
        if (only_operands || text[0] != '-' || !text[1])
            argv[operands++] = text;
        else if (strcmp(text, "--") == 0)
            only_operands = true;
        else if (text[1] == '-')
            status = parse_long(&a, text + 2);
        else
            status = parse_short(&a, text + 1);
    }
    free(a.given);
    return status ? status : operands;
}

/* ---- help ---- */

static void print_wrapped(FILE *out, const char *text)
{
    int column = HELP_COLUMN;
    while (*text) {
        int length = (int)strcspn(text, " ");
        if (column > HELP_COLUMN && column + 1 + length > COLUMNS) {
            fprintf(out, "\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        } else if (column > HELP_COLUMN) {
            fputc(' ', out);
            column++;
        }
        fprintf(out, "%.*s", length, text);
        column += length;
        text += length;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

static void add_choices(at_text *t, const char *choices)
{
    at_text_add(t, "one of ");
    for (; *choices; choices++)
        at_text_append(t, *choices == '|' ? ", " : choices, *choices == '|' ? 2 : 1);
}

/* "-l, --lr RATE"; a flag that is on by default is shown as what switches it off. */
static void add_names(at_text *t, const at_option *o, bool on)
{
    if (o->letter)
        at_text_add(t, "  -%c, ", o->letter);
    else
        at_text_add(t, "      ");
    at_text_add(t, "--%s%s", on ? "no-" : "", o->name);
    const char *arg = o->type == AT_OPT_PAIRS ? "KEY=VALUE" : "VALUE";
    if (o->type != AT_OPT_BOOL)
        at_text_add(t, " %s", o->arg ? o->arg : arg);
}

static void add_explanation(at_text *t, const at_option *o, bool on)
{
    bool flag = o->type == AT_OPT_BOOL;
    bool has_default = !flag && o->fallback && *o->fallback;
    at_text_add(t, "%s%s", on ? "switches off: " : "", o->help ? o->help : "");
    bool repeatable = o->type == AT_OPT_PAIRS || o->list;
    if (!o->choices && !has_default && !repeatable)
        return;
    at_text_add(t, " (");
    if (o->choices)
        add_choices(t, o->choices);
    if (repeatable)
        at_text_add(t, "repeatable");
    if (has_default)
        at_text_add(t, "%sdefault %s", o->choices ? "; " : "", o->fallback);
    at_text_add(t, ")");
}

static void help_one(const at_option *o, FILE *out)
{
    at_text left = {0}, right = {0};
    bool on = o->type == AT_OPT_BOOL && o->fallback && strcmp(o->fallback, "true") == 0;
    add_names(&left, o, on);
    add_explanation(&right, o, on);
    if (!left.failed && !right.failed) {
        fprintf(out, "%-*s", HELP_COLUMN - 2, left.data);
        if (left.length > HELP_COLUMN - 2)
            fprintf(out, "\n%*s", HELP_COLUMN, "");
        else
            fprintf(out, "  ");
        print_wrapped(out, right.data);
    }
    at_text_fini(&left);
    at_text_fini(&right);
}

void at_options_help(const at_option *table, FILE *out)
{
    for (const at_option *o = table; o->name; o++)
        help_one(o, out);
}
