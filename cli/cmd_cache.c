/* SPDX-License-Identifier: Apache-2.0
 * atoll cache: makes, checks and shows the decoded samples that training reads.
 */
#include "cli.h"

#include <atoll/cache.h>

#include <stdlib.h>
#include <string.h>

typedef struct args {
    char *size, *out;
    int64_t channels, jobs;
    bool json;
} args;

static const at_option options[] = {
    {"size", AT_OPT_STRING, offsetof(args, size), "auto",
     "build: height x width of the samples; auto: the usual picture's", "HxW"},
    {"channels", AT_OPT_INT, offsetof(args, channels), "0",
     "build: 1 grey, 3 RGB; 0: 1 where every picture is grey", "N", .min = 0, .max = 3},
    {"out", AT_OPT_STRING, offsetof(args, out), NULL, "build: the folder to make", "CACHE"},
    {"jobs", AT_OPT_INT, offsetof(args, jobs), "0", "build: decoding threads; 0: one a CPU", "N",
     .min = 0, .max = 1024},
    {"json", AT_OPT_BOOL, offsetof(args, json), "false", "print one JSON object"},
    {0}};

static void print_info(const at_cache *c, bool json)
{
    at_node *n = at_cache_describe(c);
    if (json) {
        cli_print_json(n);
        return;
    }
    char *text = at_yaml_print(n);
    if (text)
        fputs(text, stdout);
    free(text);
    at_node_free(n);
}

static int info(const char *path, const args *a, at_error *err)
{
    at_cache *c = at_cache_open_at(path, NULL, err);
    if (!c)
        return err->code;
    print_info(c, a->json);
    at_cache_close(c);
    return 0;
}

static int build(const char *dataset, const args *a, at_error *err)
{
    at_cache_spec spec = {.channels = (int)a->channels, .threads = (int)a->jobs};
    bool told = strcmp(a->size, "auto") != 0; /* else 0x0: the data set decides */
    int code = told ? cli_parse_size(a->size, &spec.height, &spec.width, err) : 0;
    if (code)
        return code;
    if (!a->out[0])
        return at_fail(err, AT_EUSAGE, "--out CACHE is missing");
    code = at_cache_build(dataset, &spec, a->out, err);
    return code || !cli_is_first() ? code : info(a->out, a, err);
}

static int verify(const char *path, const args *a, at_error *err)
{
    uint64_t batches, bad;
    int code = at_cache_verify(path, &batches, &bad, err);
    if (a->json) {
        at_node *n = at_node_new(AT_MAP);
        at_set_string(n, "path", path);
        at_set_int(n, "batches", (int64_t)batches);
        at_set_int(n, "bad_batches", (int64_t)bad);
        at_set_bool(n, "ok", code == 0);
        cli_print_json(n);
    } else if (batches) {
        printf("%llu batches, %llu bad\n", (unsigned long long)batches, (unsigned long long)bad);
    }
    return code;
}

static const struct {
    const char *name;
    int (*run)(const char *operand, const args *a, at_error *err);
} actions[] = {{"build", build}, {"verify", verify}, {"info", info}};
enum { ACTIONS = sizeof actions / sizeof *actions };

static int act(const char *name, const char *operand, const args *a, at_error *err)
{
    for (size_t i = 0; i < ACTIONS; i++)
        if (strcmp(actions[i].name, name) == 0)
            return actions[i].run(operand, a, err);
    return at_fail(err, AT_EUSAGE, "atoll cache has no \"%s\" (build, verify, info)", name);
}

static int run(int argc, char **argv, at_error *err)
{
    args a = {0};
    int code = cli_parse(options, &a, argc, argv, 2, 2, err);
    if (code > 0)
        code = act(argv[0], argv[1], &a, err);
    at_options_fini(options, &a);
    return code;
}

const cli_command cmd_cache = {
    .name = "cache",
    .usage = "build DATASET --size 32x32 --out CACHE | verify CACHE | info CACHE",
    .summary = "decode a data set once, into samples of one size",
    .help = "Training makes its cache by itself, under $ATOLL_CACHE_DIR or ~/.cache/atoll, and "
            "every run "
            "and rank of\nthe node shares it. build makes one in a folder of your choice (train "
            "--cache CACHE), verify checks every\nbatch's CRC, info tells what is in it.\n\n"
            "  atoll cache build data/photos --size 64x64 --out /scratch/photos-64\n"
            "  atoll cache verify /scratch/photos-64",
    .options = options,
    .run = run};
