/* SPDX-License-Identifier: Apache-2.0
 * atoll run: a whole job, from images to an evaluated model.
 */
#include "cli.h"
#include "training_keys.h"

#include <atoll/coordinator.h>

#include <stdlib.h>
#include <string.h>

typedef struct args {
    char *out, *workers;
    int64_t ranks;
    bool resume, json;
} args;

static const at_option options[] = {
    {"out", AT_OPT_STRING, offsetof(args, out), NULL, "folder of the job", "DIR"},
    {"workers", AT_OPT_STRING, offsetof(args, workers), NULL,
     "local:N, mpi:N, slurm:N or listen:HOST:PORT; else as the file says", "WORKERS"},
    {"ranks", AT_OPT_INT, offsetof(args, ranks), "0", "of the final training; 0: as the file says",
     "N", .min = 0, .max = 65536},
    {"resume", AT_OPT_BOOL, offsetof(args, resume), NULL,
     "go on with DIR after its last complete stage; begins where there is none"},
    {"json", AT_OPT_BOOL, offsetof(args, json), NULL, "print the summary as JSON"},
    {0}};

static void print_summary(const at_node *s, const char *out)
{
    const at_node *best = at_node_get(s, "best_trial");
    if (at_node_kind(best) == AT_MAP)
        printf("trials        %s in %s on %s, best %s: %.4f\n",
               at_node_text(at_node_get(s, "trials")), cli_count(s, "waves", "wave").text,
               cli_count(s, "workers", "worker").text, at_node_text(at_node_get(best, "number")),
               at_node_real(at_node_get(best, "value"), 0));
    cli_print_trained(s);
    printf("model         %s/model.h5\nreport        %s/report.html\n", out, out);
    const at_node *test = at_node_get(s, "test_accuracy");
    if (at_node_kind(test) == AT_REAL)
        printf("test accuracy %.4f\n", at_node_real(test, 0));
    else
        printf("test accuracy not measured: the data set has no test split\n");
}

static int run_job(const args *a, const char *job, at_error *err)
{
    if (!a->out[0])
        return at_fail(err, AT_EUSAGE, "--out DIR is missing");
    if (cli_refuse_many(err))
        return err->code;
    char *program = cli_program_path(err);
    if (!program)
        return err->code;
    at_job_options o = {.job = job,
                        .out = a->out,
                        .program = program,
                        .workers = a->workers[0] ? a->workers : NULL,
                        .ranks = a->ranks,
                        .batch = cli_training_batch(),
                        .resume = a->resume,
                        .checks = cli_training_checks()};
    at_node *summary = at_job(&o, err);
    free(program);
    if (!summary)
        return err->code;
    if (a->json) {
        cli_print_json(summary);
        return 0;
    }
    print_summary(summary, a->out);
    at_node_free(summary);
    return 0;
}

static int run(int argc, char **argv, at_error *err)
{
    args a = {0};
    int code = cli_parse(options, &a, argc, argv, 1, 1, err);
    if (code > 0)
        code = run_job(&a, argv[0], err);
    at_options_fini(options, &a);
    return code;
}

const cli_command cmd_run = {
    .name = "run",
    .usage = "JOB.yaml --out DIR [--workers WORKERS] [--ranks N] [--resume] [--json]",
    .summary = "the whole way: ingest, cache, waves of trials, MPI training, report",
    .help = "A job is a sweep (see `atoll tune --help`) with its images and the final training:\n\n"
            "  data: {source: photos/, val_fraction: 0.1}  # source and options of `atoll ingest`\n"
            "  model: airnet\n"
            "  train: {batch: 64}          # keys of `atoll train`, for trials and final training\n"
            "  search: {...}                # without it the training follows at once\n"
            "  final: {ranks: 2, train: {epochs: 20}}  # over train: and the best parameters\n\n"
            "The ranks share the batch that the trials were good with; a batch under final: is a\n"
            "rank's own. DIR gets data/ cache/ study/ train/ model.h5 report.html summary.json.\n"
            "Within a Slurm allocation the training runs by srun, else by mpirun. After Ctrl-C or\n"
            "a crash the same command with --resume goes on; a changed job is refused, unless only\n"
            "final: has changed.",
    .options = options,
    .run = run};
