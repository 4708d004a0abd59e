/* SPDX-License-Identifier: Apache-2.0
 * atoll report: the page of a training, with its study's trials.
 */
#include "cli.h"

#include <atoll/trainer.h>

typedef struct args {
    char *run, *study, *data, *job, *out;
} args;

static const at_option options[] = {
    {"run", AT_OPT_STRING, offsetof(args, run), NULL, "folder of a training", "RUN"},
    {"study", AT_OPT_STRING, offsetof(args, study), NULL, "folder of its search", "STUDY"},
    {"data", AT_OPT_STRING, offsetof(args, data), NULL, "its data set, for sample pictures", "DATASET"},
    {"job", AT_OPT_STRING, offsetof(args, job), NULL, "folder of the `atoll run` it is of, for its stages' times", "DIR"},
    {"out", AT_OPT_STRING, offsetof(args, out), NULL, "the page to write", "FILE"},
    {0}};

static int run(int argc, char **argv, at_error *err)
{
    args a = {0};
    int code = cli_parse(options, &a, argc, argv, 0, 0, err);
    if (code == 0 && (!a.run[0] || !a.out[0]))
        code = at_fail(err, AT_EUSAGE, "%s is missing", a.run[0] ? "--out FILE" : "--run RUN");
    if (code == 0)
        code = at_report_write(&(at_report_sources){.run = a.run,
                                                    .study = a.study[0] ? a.study : NULL,
                                                    .data = a.data[0] ? a.data : NULL,
                                                    .job = a.job[0] ? a.job : NULL},
                               a.out, err);
    if (code == 0)
        puts(a.out);
    at_options_fini(options, &a);
    return code;
}

const cli_command cmd_report = {.name = "report",
                                .usage = "--run RUN [--study STUDY] [--data DATASET] [--job DIR] --out FILE",
                                .summary = "write the page of a training: curves, trials, confusion, pictures",
                                .help = "One self-contained HTML file, for a browser without network.",
                                .options = options,
                                .computes = true,
    .run = run};
