/* SPDX-License-Identifier: Apache-2.0
 * What subcommands share: parsing of their options, errors on stderr, JSON and tables on stdout.
 */
#include "cli.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int cli_parse(const at_option *table, void *args, int argc, char **argv, int min, int max, at_error *err)
{
    int code = at_options_init(table, args, err);
    if (code < 0)
        return code;
    int operands = at_options_parse(table, args, argc, argv, err);
    if (operands < 0)
        return operands;
    if (operands < min)
        return at_fail(err, AT_EUSAGE, "an operand is missing: %d given, %d needed", operands, min);
    if (max >= 0 && operands > max)
        return at_fail(err, AT_EUSAGE, "one operand too many: \"%s\"", argv[max]);
    return operands;
}

int cli_parse_size(const char *text, int *height, int *width, at_error *err)
{
    int end = 0;
    if (sscanf(text, "%5dx%5d%n", height, width, &end) != 2 || text[end] || *height < 1 || *width < 1)
        return at_fail(err, AT_EUSAGE, "--size: \"%s\" is not HxW, as in 32x32", text);
    return 0;
}

void cli_print_error(const char *command, int code, const at_error *err)
{
    fprintf(stderr, "atoll %s: %s\n", command, err->message[0] ? err->message : at_error_name(code));
}

void cli_print_json(at_node *tree)
{
    char *text = at_json_print(tree, isatty(STDOUT_FILENO));
    if (text)
        puts(text);
    free(text);
    at_node_free(tree);
}

enum { MAX_COLUMNS = 64 };

/* Display width of UTF-8 text: bytes that do not continue a character. */
static int width_of(const char *s)
{
    int n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xC0) != 0x80;
    return n;
}

static void print_cell(const char *text, int width, bool right, bool last)
{
    int pad = width - width_of(text);
    if (right)
        printf("%*s%s", pad, "", text);
    else
        printf("%s%*s", text, last ? 0 : pad, "");
    fputs(last ? "\n" : "  ", stdout);
}

void cli_print_table(const at_node *rows)
{
    const at_node *first = at_node_at(rows, 0);
    size_t columns = at_node_count(first);
    if (columns > MAX_COLUMNS)
        columns = MAX_COLUMNS;
    int width[MAX_COLUMNS];
    bool right[MAX_COLUMNS];
    for (size_t c = 0; c < columns; c++) {
        width[c] = width_of(at_node_key(first, c));
        right[c] = true;
        for (size_t r = 0; r < at_node_count(rows); r++) {
            const at_node *cell = at_node_at(at_node_at(rows, r), c);
            int w = width_of(at_node_text(cell));
            width[c] = w > width[c] ? w : width[c];
            at_kind kind = at_node_kind(cell);
            right[c] = right[c] && kind != AT_STRING;
        }
    }
    for (size_t c = 0; c < columns; c++)
        print_cell(at_node_key(first, c), width[c], right[c], c + 1 == columns);
    for (size_t r = 0; r < at_node_count(rows); r++)
        for (size_t c = 0; c < columns; c++)
            print_cell(at_node_text(at_node_at(at_node_at(rows, r), c)), width[c], right[c], c + 1 == columns);
}
