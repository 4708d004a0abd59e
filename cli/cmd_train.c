/* SPDX-License-Identifier: Apache-2.0
 * atoll train: one training, alone or as a rank under mpirun or srun.
 */
#include "cli.h"

#include <atoll/trainer.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

typedef struct args {
    char *data, *model, *out, *config_file;
    char **set;
    bool resume, trial, json;
    int64_t events_fd;
    at_train_config config;
} args;

static const at_option options[] = {
    {"data", AT_OPT_STRING, offsetof(args, data), NULL, "data set, as `atoll ingest` made it", "DATASET"},
    {"model", AT_OPT_STRING, offsetof(args, model), NULL, "architecture: lenet, resnet20, vgg16-bn, ...", "NAME"},
    {"out", AT_OPT_STRING, offsetof(args, out), NULL, "folder of this training", "RUN"},
    {"config", AT_OPT_STRING, offsetof(args, config_file), NULL, "keys of training as YAML; also another RUN/config.yaml", "FILE"},
    {"set", AT_OPT_PAIRS, offsetof(args, set), NULL, "one key of training, over the file's", "KEY=VALUE", .letter = 's'},
    {"resume", AT_OPT_BOOL, offsetof(args, resume), NULL, "go on from RUN's newest checkpoint, with its keys"},
    {"json", AT_OPT_BOOL, offsetof(args, json), NULL, "print the summary as JSON"},
    {"trial", AT_OPT_BOOL, offsetof(args, trial), NULL, "one of a search: no test split, model file or report"},
    {"events-fd", AT_OPT_INT, offsetof(args, events_fd), "0", "write events as JSON lines to this descriptor", "FD",
     .min = 0, .max = 1024},
    {0}};

enum { MAX_OPTIONS = 128 };

/* The command's own options and the keys of training, in one table over struct args. */
static void merge_options(at_option *table)
{
    size_t n = 0;
    for (const at_option *o = options; o->name; o++)
        table[n++] = *o;
    for (const at_option *o = at_train_options; o->name && n + 1 < MAX_OPTIONS; o++, n++) {
        table[n] = *o;
        table[n].offset += offsetof(args, config);
    }
    table[n] = (at_option){0};
}

static int take_missing(char **option, const at_node *value, at_error *err)
{
    if ((*option)[0])
        return 0;
    free(*option);
    *option = strdup(at_node_string(value, ""));
    return *option ? 0 : at_nomem(err);
}

static int apply_file(args *a, const char *path, bool resumed, at_error *err)
{
    at_node *tree = at_yaml_read(path, err);
    if (!tree)
        return err->code;
    bool of_run = resumed || at_node_get(tree, "atoll"); /* a RUN/config.yaml holds them under train: */
    const at_node *keys = of_run ? at_node_get(tree, "train") : tree;
    int code = at_options_from_node(at_train_options, &a->config, keys, err);
    if (resumed && code == 0) {
        code = take_missing(&a->data, at_node_get(tree, "data"), err);
        code = code < 0 ? code : take_missing(&a->model, at_node_get(tree, "model"), err);
    }
    at_node_free(tree);
    return code;
}

static int apply_resumed(args *a, at_error *err)
{
    char *path = at_path_join(a->out, "config.yaml");
    int code = path ? 0 : at_nomem(err);
    if (code == 0 && at_file_exists(path))
        code = apply_file(a, path, true, err);
    free(path);
    return code;
}

static int apply_set(args *a, at_error *err)
{
    for (char **pair = a->set; *pair; pair++) {
        char *equals = strchr(*pair, '=');
        if (!equals)
            return at_fail(err, AT_EUSAGE, "-s %s: expected key=value", *pair);
        char *key = strndup(*pair, (size_t)(equals - *pair));
        int code = key ? at_options_set(at_train_options, &a->config, key, equals + 1, "-s", err) : at_nomem(err);
        free(key);
        if (code < 0)
            return code;
    }
    return 0;
}

/* Defaults < RUN/config.yaml of a resumed run < --config < -s and --key. Parsing twice lets the files, which the
 * command line names, lie under the command line. */
static int configure(args *a, const at_option *table, int argc, char **argv, at_error *err)
{
    char **again = calloc((size_t)argc + 1, sizeof *again);
    if (!again)
        return at_nomem(err);
    memcpy(again, argv, (size_t)argc * sizeof *again);
    int code = cli_parse(table, a, argc, argv, 0, 0, err);
    if (code == 0 && (!a->out[0] || (!a->resume && (!a->data[0] || !a->model[0]))))
        code = at_fail(err, AT_EUSAGE, "%s is missing",
                       !a->out[0] ? "--out RUN" : !a->data[0] ? "--data DATASET" : "--model NAME");
    if (code == 0 && a->resume)
        code = apply_resumed(a, err);
    if (code == 0 && a->config_file[0])
        code = apply_file(a, a->config_file, false, err);
    if (code == 0)
        code = apply_set(a, err);
    if (code == 0)
        code = at_options_parse(table, a, argc, again, err);
    free(again);
    return code;
}

static void print_summary(const args *a, at_node *summary)
{
    if (a->json) {
        cli_print_json(summary);
        return;
    }
    const at_node *test = at_node_get(summary, "test_accuracy"), *val = at_node_get(summary, "val_accuracy");
    if (!a->trial)
        printf("model         %s/model.h5\nreport        %s/report.html\n", a->out, a->out);
    cli_print_trained(summary);
    if (at_node_kind(val) == AT_REAL)
        printf("val accuracy  %.4f\n", at_node_real(val, 0));
    if (at_node_get(summary, "test"))
        printf("test accuracy %.4f\n", at_node_real(test, 0));
    at_node_free(summary);
}

/* A training fails on all ranks alike, and rank 0 tells it; where communication broke, each tells what it saw. All
 * that before at_comm_free(): ranks part there, and mpirun ends the slower ones as soon as one has failed. */
static int tell_once(const at_comm *comm, int code, const at_error *err)
{
    if (at_comm_size(comm) == 1 || code == AT_OK)
        return code;
    if (at_comm_rank(comm) == 0 || code == AT_EPEER)
        cli_print_error("train", code, err);
    return at_error_exit_status(code);
}

/* A trial whose worker was killed leaves a checkpoint and ends: another worker waits for its folder. */
static void end_with_parent(void)
{
    pid_t parent = getppid();
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        at_interrupt_raise();
}

static int run(int argc, char **argv, at_error *err)
{
    args a = {0};
    at_option table[MAX_OPTIONS];
    merge_options(table);
    at_comm *comm = NULL;
    int code = configure(&a, table, argc, argv, err);
    if (code < 0)
        goto end;
    if (a.trial)
        end_with_parent();
    code = AT_EFAIL;
    comm = at_comm_new(err);
    if (!comm)
        goto end;
    at_train_job job = {.data = a.data,
                        .model = a.model,
                        .out = a.out,
                        .config = &a.config,
                        .resume = a.resume,
                        .trial = a.trial,
                        .events_fd = (int)a.events_fd};
    at_node *summary = at_train(&job, comm, err);
    code = summary ? 0 : err->code;
    code = tell_once(comm, code, err);
    if (summary && at_comm_rank(comm) == 0)
        print_summary(&a, summary);
    else
        at_node_free(summary);
end:
    at_comm_free(comm);
    at_options_fini(table, &a);
    return code;
}

const cli_command cmd_train = {
    .name = "train",
    .usage = "--data DATASET --model NAME --out RUN [--config FILE] [-s key=value ...] [--resume]",
    .summary = "train a network, on one process or under mpirun and srun",
    .help = "Trains on the train split, watches the val split after each epoch, and ends with the test split.\n"
            "RUN/ gets config.yaml, metrics.jsonl, checkpoints/, model.h5 (Keras opens it), summary.json, report.html.\n"
            "Ctrl-C leaves a checkpoint and exit status 4; the same command with --resume goes on.\n\n"
            "  atoll train --data data/photos --model airnet --out runs/1 -s epochs=20 -s augment.flip=true\n"
            "  mpirun -np 4 atoll train --data data/photos --model airnet --out runs/2 --batch 16\n"
            "  srun --mpi=pmix atoll train --data data/photos --model airnet --out runs/3\n\n"
            "Beginning with what another training learned (a model.h5, or a file of Keras):\n\n"
            "  atoll train --data data/photos --model vgg16 --out runs/4 --init vgg16_notop.h5 --preprocess caffe \\\n"
            "      --replace-head --freeze 'block[1-4]_*'\n\n"
            "batch is a rank's: 1 rank x 64 and 4 ranks x 16 take the same steps and give the same losses.",
    .options = options,
    .computes = true,
    .keys = at_train_options,
    .run = run};
