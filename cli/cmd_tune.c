/* SPDX-License-Identifier: Apache-2.0
 * atoll tune: a search of hyperparameters in waves of trials.
 */
#include "cli.h"
#include "training_keys.h"

#include <atoll/coordinator.h>

#include <stdlib.h>

typedef struct args {
    char *out, *workers;
    bool resume, json;
} args;

static const at_option options[] = {
    {"out", AT_OPT_STRING, offsetof(args, out), NULL, "folder of the study", "STUDY"},
    {"workers", AT_OPT_STRING, offsetof(args, workers), NULL,
     "local:N, mpi:N, slurm:N or listen:HOST:PORT; else as the file says", "WORKERS"},
    {"resume", AT_OPT_BOOL, offsetof(args, resume), NULL,
     "go on with STUDY; more trials may be asked for"},
    {"json", AT_OPT_BOOL, offsetof(args, json), NULL, "print the best trial as JSON"},
    {0}};

static void print_best(const at_node *best, const char *study)
{
    const at_node *params = at_node_get(best, "params");
    printf("best trial    %s: %s\n", at_node_text(at_node_get(best, "number")),
           at_node_text(at_node_get(best, "value")));
    for (size_t i = 0; i < at_node_count(params); i++)
        printf("  %-11s %s\n", at_node_key(params, i), at_node_text(at_node_at(params, i)));
    printf("trials        %s in %s waves: atoll study trials %s\n",
           at_node_text(at_node_get(best, "trials")), at_node_text(at_node_get(best, "waves")),
           study);
}

static int tune(const args *a, const char *sweep, at_error *err)
{
    if (!a->out[0])
        return at_fail(err, AT_EUSAGE, "--out STUDY is missing");
    if (cli_refuse_many(err))
        return err->code;
    char *program = cli_program_path(err);
    if (!program)
        return err->code;
    at_tune_options o = {.sweep = sweep,
                         .out = a->out,
                         .workers = a->workers[0] ? a->workers : NULL,
                         .program = program,
                         .resume = a->resume,
                         .checks = cli_training_checks()};
    at_node *best = at_tune(&o, err);
    free(program);
    if (!best)
        return err->code;
    if (a->json) {
        cli_print_json(best);
        return 0;
    }
    print_best(best, a->out);
    at_node_free(best);
    return 0;
}

static int run(int argc, char **argv, at_error *err)
{
    args a = {0};
    int code = cli_parse(options, &a, argc, argv, 1, 1, err);
    if (code > 0)
        code = tune(&a, argv[0], err);
    at_options_fini(options, &a);
    return code;
}

const cli_command cmd_tune = {
    .name = "tune",
    .usage = "SWEEP.yaml --out STUDY [--workers local:N|mpi:N|slurm:N|listen:HOST:PORT] [--resume]",
    .summary = "search hyperparameters in waves of trials over workers",
    .help =
        "A sweep names the data set, the model, what all trials share and what is searched:\n\n"
        "  data: data/photos\n"
        "  model: airnet\n"
        "  train: {batch: 64, epochs: 5}\n"
        "  search:\n"
        "    trials: 24\n"
        "    wave: 6                  # proposed together; the next wave learns from these\n"
        "    workers: local:2         # or mpi:N, slurm:N, listen:HOST:PORT\n"
        "    sampler: tpe             # or random\n"
        "    metric: val_accuracy     # or val_loss, train_accuracy, train_loss\n"
        "    direction: maximize      # what the metric says unless told\n"
        "    seed: 1\n"
        "    train: {train_limit: 20000}   # over train:, for the trials\n"
        "    space:\n"
        "      lr: {loguniform: [0.001, 0.3]}\n"
        "      momentum: {uniform: [0.8, 0.99]}\n"
        "      epochs: {int: [2, 8]}\n"
        "      train_limit: {quniform: [5000, 20000, 5000]}\n"
        "      optimizer:\n"
        "        choice:              # what hangs on a choice exists only with it\n"
        "          - sgd: {nesterov: {choice: [true, false]}}\n"
        "          - adam: {beta2: {uniform: [0.9, 0.9999]}}\n\n"
        "A trial is `atoll train --trial` in STUDY/trials/N. One whose worker dies runs again\n"
        "elsewhere. The same seed gives the same trials whatever the workers. STUDY/study.db\n"
        "is an Optuna storage. Ctrl-C keeps every result; the same command with --resume goes on.",
    .options = options,
    .run = run};
