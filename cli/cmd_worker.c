/* SPDX-License-Identifier: Apache-2.0
 * atoll worker: trains the trials that a coordinator hands out.
 */
#include "cli.h"
#include "training_keys.h"

#include <atoll/coordinator.h>

#include <stdlib.h>

typedef struct args {
    char *join, *key, *name;
} args;

static const at_option options[] = {
    {"join", AT_OPT_STRING, offsetof(args, join), NULL, "where the coordinator listens",
     "HOST:PORT"},
    {"key", AT_OPT_STRING, offsetof(args, key), NULL,
     "the coordinator's key, STUDY/worker.key; mode 0600", "FILE"},
    {"name", AT_OPT_STRING, offsetof(args, name), NULL,
     "as the study shows it; else host and process id", "NAME"},
    {0}};

static int work(const args *a, at_error *err)
{
    if (!a->join[0] || !a->key[0])
        return at_fail(err, AT_EUSAGE, "%s is missing",
                       a->join[0] ? "--key FILE" : "--join HOST:PORT");
    char *program = cli_program_path(err);
    if (!program)
        return err->code;
    at_worker_options o = {.join = a->join, .key = a->key, .program = program, .name = a->name};
    int code = at_worker(&o, err);
    free(program);
    return code;
}

static int run(int argc, char **argv, at_error *err)
{
    args a = {0};
    int code = cli_parse(options, &a, argc, argv, 0, 0, err);
    if (code == 0)
        code = work(&a, err);
    at_options_fini(options, &a);
    return code;
}

const cli_command cmd_worker = {
    .name = "worker",
    .usage = "--join HOST:PORT --key FILE [--name NAME]",
    .summary = "train the trials of a coordinator on another machine",
    .help = "`atoll tune --workers listen:0.0.0.0:7411` waits for workers and says how they join.\n"
            "Copy its STUDY/worker.key (scp keeps it secret), see that the data set and STUDY\n"
            "have the same path here (a shared file system), and start as many workers as there should\n"
            "be trials at a time:\n\n"
            "  atoll worker --join head:7411 --key /shared/study/worker.key\n\n"
            "It ends when there are no more trials. Ctrl-C gives its trial back.",
    .options = options,
    .run = run};
