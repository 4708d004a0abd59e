/* SPDX-License-Identifier: Apache-2.0
 * What subcommands share: parsing of their options, errors on stderr, JSON on stdout.
 */
#include "cli.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

int cli_parse(const at_option *table, void *args, int argc, char **argv, int min, int max,
              at_error *err)
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
    if (sscanf(text, "%5dx%5d%n", height, width, &end) != 2 || text[end] || *height < 1 ||
        *width < 1)
        return at_fail(err, AT_EUSAGE, "--size: \"%s\" is not HxW, as in 32x32", text);
    return 0;
}

void cli_print_error(const char *command, int code, const at_error *err)
{
    at_text message = {0};
    at_text_add_visible(&message, err->message[0] ? err->message : at_error_name(code));
    fprintf(stderr, "atoll %s: %s\n", command, message.failed ? err->message : message.data);
    at_text_fini(&message);
}

void cli_print_json(at_node *tree)
{
    char *text = at_json_print(tree, isatty(STDOUT_FILENO));
    if (text)
        puts(text);
    free(text);
    at_node_free(tree);
}

cli_counted cli_count(const at_node *tree, const char *key, const char *noun)
{
    return cli_number((uint64_t)at_node_int(at_node_get(tree, key), 0), noun);
}

cli_counted cli_number(uint64_t n, const char *noun)
{
    cli_counted c;
    snprintf(c.text, sizeof c.text, "%" PRIu64 " %s%s", n, noun, n == 1 ? "" : "s");
    return c;
}

void cli_print_trained(const at_node *summary)
{
    double rate = at_node_real(at_node_get(summary, "images_per_second"), 0);
    printf("trained       %s on %s, %.*f images/s\n", cli_count(summary, "epochs", "epoch").text,
           cli_count(summary, "ranks", "rank").text, rate < 10 ? 2 : 0, rate);
}
