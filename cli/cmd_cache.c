/* SPDX-License-Identifier: Apache-2.0
 * atoll cache: makes, checks, mends and shows the samples that training reads.
 */
#include "cli.h"

#include <atoll/cache.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct args {
    at_cache_keys keys;
    char *out, *data;
    int64_t jobs;
    bool json;
} args;

static const at_option options[] = {
#define X(type, field, kind, fallback, help, ...)                                                  \
    {#field, kind, offsetof(args, keys.field), fallback, "build: " help, __VA_ARGS__},
    AT_CACHE_KEYS(X)
#undef X
        {"out", AT_OPT_STRING, offsetof(args, out), NULL, "build: the folder to make", "CACHE"},
    {"data", AT_OPT_STRING, offsetof(args, data), NULL,
     "verify: compare with what this data set makes; repair: make it from this", "DATASET"},
    {"jobs", AT_OPT_INT, offsetof(args, jobs), "0",
     "build, verify, repair: decoding threads; 0: one a CPU", "N", .min = 0, .max = 1024},
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
    at_cache_spec spec = {.threads = (int)a->jobs};
    if (at_cache_spec_read(&a->keys, &spec, err) < 0)
        return err->code = AT_EUSAGE;
    if (!a->out[0])
        return at_fail(err, AT_EUSAGE, "--out CACHE is missing");
    int code = at_cache_build(dataset, &spec, a->out, err);
    return code || !cli_is_first() ? code : info(a->out, a, err);
}

static at_node *describe(const char *path, const at_cache_damage *d, bool ok)
{
    at_node *n = at_node_new(AT_MAP);
    at_set_string(n, "path", path);
    at_set_int(n, "batches", (int64_t)d->batches);
    at_set_int(n, "bad_batches", (int64_t)d->bad);
    at_set_bool(n, "ok", ok);
    return n;
}

static int verify(const char *path, const args *a, at_error *err)
{
    at_cache_damage d;
    const char *data = a->data[0] ? a->data : NULL;
    int code = at_cache_verify(path, data, (int)a->jobs, &d, err);
    if (a->json)
        cli_print_json(describe(path, &d, code == 0));
    else if (d.batches)
        printf("%" PRIu64 " batches, %" PRIu64 " bad\n", d.batches, d.bad);
    if (code == AT_EINPUT && d.bad) {
        at_error first = *err;
        at_fail(err, code, "%s; `atoll cache repair %s --data DATASET` mends it", first.message,
                path);
    }
    return code;
}

static int repair(const char *path, const args *a, at_error *err)
{
    at_cache_damage d;
    if (!a->data[0])
        return at_fail(err, AT_EUSAGE, "--data DATASET is missing: what the cache was made from");
    int code = at_cache_repair(path, a->data, (int)a->jobs, &d, err);
    if (a->json) {
        at_node *n = describe(path, &d, code == 0);
        at_set_int(n, "mended_batches", (int64_t)d.mended);
        at_set_bool(n, "rebuilt", d.rebuilt);
        cli_print_json(n);
    } else if (code == 0) {
        printf(d.rebuilt ? "the whole cache is made again\n"
                         : "%" PRIu64 " batches, %" PRIu64 " were bad and are made again\n",
               d.batches, d.mended);
    }
    return code;
}

static const struct {
    const char *name;
    int (*run)(const char *operand, const args *a, at_error *err);
} actions[] = {{"build", build}, {"verify", verify}, {"repair", repair}, {"info", info}};
enum { ACTIONS = sizeof actions / sizeof *actions };

static int act(const char *name, const char *operand, const args *a, at_error *err)
{
    for (size_t i = 0; i < ACTIONS; i++)
        if (strcmp(actions[i].name, name) == 0)
            return actions[i].run(operand, a, err);
    return at_fail(err, AT_EUSAGE, "atoll cache has no \"%s\" (build, verify, repair, info)", name);
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
    .usage =
        "build DATASET --size 32x32 --out CACHE | verify CACHE [--data DATASET] | repair CACHE "
        "--data DATASET | info CACHE",
    .summary = "decode a data set once, into samples of one size",
    .help = "Training makes its cache by itself (train --cache.dir, $ATOLL_CACHE_DIR or "
            "~/.cache/atoll), and every run\nand rank of the node shares it. build makes one in a "
            "folder of your choice, for train --cache CACHE. Where\nthe decoded pictures would not "
            "fit the disk, --form encoded keeps the files' own bytes and decodes\nthem anew each "
            "epoch; training sees the same pictures.\n\nverify checks every byte against its CRC, "
            "and with --data every picture against decoding it anew. repair\nmakes damaged "
            "batches again from the data set; the cache is then, byte for byte, a fresh one.\n\n"
            "  atoll cache build data/photos --size 64x64 --fit crop --out /scratch/photos-64\n"
            "  atoll cache verify /scratch/photos-64\n"
            "  atoll cache repair /scratch/photos-64 --data data/photos",
    .options = options,
    .run = run};
