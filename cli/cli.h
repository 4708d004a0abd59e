/* SPDX-License-Identifier: Apache-2.0
 * cli: one file cmd_<name>.c and one row COMMAND(name) in commands.def a subcommand.
 *
 *     static const at_option options[] = {{"out", AT_OPT_STRING, offsetof(args, out), NULL, "where to", "DIR"}, {0}};
 *     static int run(int argc, char **argv);   // argc/argv after the subcommand's name
 *     const cli_command cmd_ingest = {.name = "ingest", .usage = "SRC --out DATASET [--val-fraction F]",
 *                                     .summary = "read a pile of images into a data set", .options = options,
 *                                     .help = "…what it does, and an example…", .run = run};
 *
 * Results on stdout, everything else on stderr. run returns an AT_ code; main prints err and turns it into the
 * exit status. --help and --quiet are handled for every subcommand.
 */
#ifndef ATOLL_CLI_H
#define ATOLL_CLI_H

#include <atoll/base.h>

typedef struct cli_command {
    const char *name;
    const char *usage;   /* what follows "atoll <name>" */
    const char *summary; /* a line of `atoll --help` */
    const char *help;    /* teaches: what, when, examples */
    const at_option *options; /* parsed into `args` by cli_parse; at_options_init before, fini after: cli_parse's caller */
    const at_option *keys;    /* NULL, or keys of training that are options too, for the help */
    bool computes;            /* runs a network: see spin_briefly in main.c */
    int (*run)(int argc, char **argv, at_error *err); /* an AT_ code, or the exit status if it was told already */
    /* NULL, or what follows the command's name, each named "model describe" and with help of its own; the last one has
     * no name. Such a command has no run. */
    const struct cli_command *actions;
} cli_command;

/* at_options_init + at_options_parse + operand count in [min, max] (max -1: any); fills operands via argv[0..].
 * Returns the number of operands or AT_EUSAGE. The caller ends with at_options_fini. */
int cli_parse(const at_option *table, void *args, int argc, char **argv, int min, int max, at_error *err);
/* Tells on stderr that COMMAND failed with code, an AT_ code: err's message, or the code's name where it is empty. */
void cli_print_error(const char *command, int code, const at_error *err);
/* Prints a tree as one JSON object (indented on a terminal) and frees it. */
void cli_print_json(at_node *tree);
/* A number with what it counts, "1 epoch", "2 epochs"; cli_count: one of the tree. */
typedef struct cli_counted {
    char text[64];
} cli_counted;
cli_counted cli_count(const at_node *tree, const char *key, const char *noun);
cli_counted cli_number(uint64_t n, const char *noun);
/* The line of a summary that tells epochs, ranks and speed. */
void cli_print_trained(const at_node *summary);
/* Aligned columns for people, cell by cell (table.c). NULL: out of memory. */
typedef struct cli_table cli_table;
cli_table *cli_table_new(const char *const *names, size_t columns); /* columns > 0 */
void cli_table_add(cli_table *t, const char *text, bool number);
int cli_table_end(cli_table *t, at_error *err); /* prints what is left and frees t */
/* The same of a list of maps: cells are the rows' items, a map's keys are the header. */
void cli_print_table(const at_node *rows);
/* The model file of a RUN folder, or the file itself; malloc'd, NULL and *err where there is none. */
char *cli_model_path(const char *run_or_file, at_error *err);
/* The value of --size, "224x224", into height and width; else AT_EUSAGE. */
int cli_parse_size(const char *text, int *height, int *width, at_error *err);

/* As mpirun or srun tell it; 1 and 0 where they did not start this. */
int cli_ranks(void);
int cli_rank(void);
/* Whether mpirun or srun started this command as one of several processes. */
bool cli_is_one_of_many(void);
/* Whether it is the one of them that prints what all of them did; true where it is alone. */
bool cli_is_first(void);
/* AT_EUSAGE where one did: for a command that starts ranks and workers by itself. */
int cli_refuse_many(at_error *err);

#endif
