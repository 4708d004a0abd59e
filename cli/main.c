/* SPDX-License-Identifier: Apache-2.0
 * The program: finds the subcommand's row, runs it, prints its error and turns it into the exit status.
 * This folder alone prints results and exits.
 */
#include "cli.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COMMAND(name) extern const cli_command cmd_##name;
#include "commands.def"
#undef COMMAND

static const cli_command *const commands[] = {
#define COMMAND(name) &cmd_##name,
#include "commands.def"
#undef COMMAND
};
enum { COMMANDS = sizeof commands / sizeof *commands, MAX_ACTIONS = 64 };

static const cli_command *find(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (!strcmp(commands[i]->name, name))
            return commands[i];
    return NULL;
}

static void print_help(FILE *out)
{
    fputs("atoll takes a folder of images to a trained, evaluated classifier.\n\n"
          "Usage: atoll COMMAND ...     (atoll COMMAND --help teaches each)\n\n"
          "Commands:\n",
          out);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-9s %s\n", commands[i]->name, commands[i]->summary);
    fputs("\nStart here:\n"
          "  atoll run examples/fashion-mnist.yaml --out out/demo    the whole way, on real images\n"
          "  atoll ingest photos/ --out data/photos                  your own: photos/<class>/*.jpg\n"
          "  atoll train --data data/photos --model lenet --out runs/1\n"
          "  atoll predict runs/1/model.h5 new.jpg\n\n"
          "Results go to stdout (--json: one JSON object), progress and messages to stderr (--quiet: errors only).\n"
          "Exit status: 0 done, 1 failed, 2 wrong usage, 3 bad input, 4 interrupted and can be resumed.\n",
          out);
}

static void print_actions(const cli_command *c, FILE *out)
{
    for (const cli_command *a = c->actions; a && a->name; a++)
        fprintf(out, "  atoll %s %s\n      %s\n", a->name, a->usage, a->summary);
}

static void print_usage(const cli_command *c)
{
    fprintf(stderr, "usage: atoll %s %s\n", c->name, c->usage);
    print_actions(c, stderr);
}

static void print_command_help(const cli_command *c)
{
    printf("atoll %s: %s\n\nUsage: atoll %s %s\n", c->name, c->summary, c->name, c->usage);
    print_actions(c, stdout);
    if (c->help)
        printf("\n%s\n", c->help);
    if (c->options) {
        puts("\nOptions:");
        at_options_help(c->options, stdout);
    }
    if (c->keys) {
        puts("\nKeys of training (--KEY VALUE, -s KEY=VALUE, or in the YAML file of --config):");
        at_options_help(c->keys, stdout);
    }
    puts("\nEverywhere:\n  --quiet    errors only on stderr\n  --help     this text");
}

/* The action that argv[0] names, which is taken out; c itself where it has none. NULL and *err: no such action. */
static const cli_command *take_action(const cli_command *c, int *argc, char ***argv, at_error *err)
{
    const char *names[MAX_ACTIONS], *word = *argc > 0 && (*argv)[0][0] != '-' ? (*argv)[0] : NULL;
    size_t n = 0;
    if (!c->actions || !word)
        return c;
    for (const cli_command *a = c->actions; a->name; a++) {
        names[n] = strrchr(a->name, ' ') + 1;
        if (!strcmp(word, names[n++])) {
            (*argc)--;
            (*argv)++;
            return a;
        }
    }
    const char *near = at_nearest(word, names, n);
    at_fail(err, AT_EUSAGE, "there is no \"%s\"%s%s%s", word, near ? "; did you mean \"" : "", near ? near : "",
            near ? "\"?" : "");
    return NULL;
}

static int unknown_command(const char *name)
{
    const char *names[COMMANDS];
    for (size_t i = 0; i < COMMANDS; i++)
        names[i] = commands[i]->name;
    const char *near = at_nearest(name, names, COMMANDS);
    fprintf(stderr, "atoll: there is no command \"%s\"%s%s%s; `atoll --help` lists them\n", name,
            near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
    return at_error_exit_status(AT_EUSAGE);
}

/* Takes --help and --quiet, which every subcommand has, out of argv; returns whether help was asked for. */
static bool take_common(int *argc, char **argv)
{
    bool help = false;
    int kept = 0;
    bool options = true;
    for (int i = 0; i < *argc; i++) {
        if (!strcmp(argv[i], "--"))
            options = false;
        if (options && (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))) {
            help = true;
        } else if (options && (!strcmp(argv[i], "--quiet") || !strcmp(argv[i], "-q"))) {
            at_log_set_level(AT_LOG_ERROR);
            at_progress_silence(true);
        } else {
            argv[kept++] = argv[i];
        }
    }
    *argc = kept;
    argv[kept] = NULL;
    return help;
}

/* GNU OpenMP's threads wait for each other by spinning some 20 ms. Where another process wants the CPU, that is a
 * thousand times the work between two waits. A tenth of a millisecond is enough; the library reads it from the
 * environment before main, so a program that computes begins anew once. Children inherit it and need not. */
static void spin_briefly(const cli_command *command, char **argv)
{
    char self[PATH_MAX];
    if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY") || setenv("GOMP_SPINCOUNT", "2000", 1) != 0)
        return;
    ssize_t length = command->computes ? readlink("/proc/self/exe", self, sizeof self - 1) : 0;
    if (length > 0) {
        self[length] = 0;
        execv(self, argv);
    }
}

int main(int argc, char **argv)
{
    if (fcntl(STDIN_FILENO, F_GETFD) < 0) /* closed: no other file may come to be standard input */
        open("/dev/null", O_RDONLY);
    if (argc < 2) {
        print_help(stderr);
        return at_error_exit_status(AT_EUSAGE);
    }
    if (!strcmp(argv[1], "--version")) {
        puts("atoll " ATOLL_VERSION);
        return 0;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        const cli_command *topic = argc > 2 ? find(argv[2]) : NULL;
        topic ? print_command_help(topic) : print_help(stdout);
        return 0;
    }
    const cli_command *command = find(argv[1]);
    if (!command)
        return unknown_command(argv[1]);
    spin_briefly(command, argv);
    argc -= 2;
    argv += 2;
    bool help = take_common(&argc, argv);
    at_error err = {0};
    const cli_command *action = take_action(command, &argc, &argv, &err);
    if (help) {
        print_command_help(action ? action : command);
        return 0;
    }
    at_interrupt_install();
    int code = action ? AT_OK : AT_EUSAGE;
    command = action ? action : command;
    if (action && action->run)
        code = action->run(argc, argv, &err);
    else if (action)
        code = at_fail(&err, AT_EUSAGE, "one of these is missing");
    if (code < 0 && fflush(stdout) == 0)
        cli_print_error(command->name, code, &err);
    if (code == AT_EUSAGE)
        print_usage(command);
    if (fflush(stdout) != 0 && code >= 0) {
        fprintf(stderr, "atoll %s: writing to stdout failed\n", command->name);
        code = AT_EIO;
    }
    return code < 0 ? at_error_exit_status(code) : code;
}
