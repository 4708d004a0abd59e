/* SPDX-License-Identifier: Apache-2.0
 * atoll bench: what this machine does, beside the floor that its kernels and memory set, in one run.
 */
#include "cli.h"

#include <atoll/bench.h>

#include <string.h>

typedef struct args {
    const char *source; /* of ingest, behind its name */
    char *model, *size, *precision, *cache, *data;
    int64_t channels, classes, batch, threads, steps, repeats, images, epochs;
    double seconds;
    bool json, profile;
} args;

static const at_option options[] = {
    {"model", AT_OPT_STRING, offsetof(args, model), "airnet", "train, predict: architecture; predict: or a model file", "NAME"},
    {"size", AT_OPT_STRING, offsetof(args, size), "", "train, predict: of the images; 32x32 (lenet: 28x28) unless told; ingest: of a cache that is filled, too", "HxW"},
    {"channels", AT_OPT_INT, offsetof(args, channels), "0", "train, predict: 3 (lenet: 1) unless told", "N", .min = 0, .max = 64},
    {"classes", AT_OPT_INT, offsetof(args, classes), "10", "train, predict: outputs of the network", "N", .min = 2, .max = 1e6},
    {"precision", AT_OPT_CHOICE, offsetof(args, precision), "fp32", "train, predict: of activations", .choices = "fp32|bf16"},
    {"batch", AT_OPT_INT, offsetof(args, batch), "256", "train, predict, loader: samples a step", "N", .min = 1, .max = 65536},
    {"threads", AT_OPT_INT, offsetof(args, threads), "0", "train, predict, loader, ingest: 0: one a CPU", "N", .min = 0, .max = 4096},
    {"steps", AT_OPT_INT, offsetof(args, steps), "10", "train, predict: timed steps", "N", .min = 1, .max = 100000},
    {"profile", AT_OPT_BOOL, offsetof(args, profile), "false", "train, predict: and the seconds and floor of each layer"},
    {"cache", AT_OPT_STRING, offsetof(args, cache), NULL, "loader: a folder of `atoll cache build`", "CACHE"},
    {"seconds", AT_OPT_REAL, offsetof(args, seconds), "5", "loader: how long", "S", .min = 0.1, .max = 3600},
    {"epochs", AT_OPT_INT, offsetof(args, epochs), "0", "loader: at least so many, however long", "N", .min = 0, .max = 1e6},
    {"data", AT_OPT_STRING, offsetof(args, data), "", "catalog: opens and asks this one", "DATASET"},
    {"images", AT_OPT_INT, offsetof(args, images), "1000000", "catalog: of the data set that is made, without --data", "N", .min = 1000, .max = 1e7},
    {"repeats", AT_OPT_INT, offsetof(args, repeats), "15", "allreduce: of each size", "N", .min = 1, .max = 100000},
    {"json", AT_OPT_BOOL, offsetof(args, json), "true", "print one JSON object (always)"},
    {0}};

static at_node *bench_net(const args *a, at_node *(*bench)(const at_bench_net_options *, at_error *), at_error *err)
{
    bool digits = !strcmp(a->model, "lenet");
    int64_t side = digits ? 28 : 32, channels = a->channels ? a->channels : digits ? 1 : 3;
    at_bench_net_options o = {
        .model = a->model,
        .spec = {.classes = (int)a->classes, .channels = (int)channels, .height = (int)side, .width = (int)side},
        .batch = (int)a->batch,
        .threads = (int)a->threads,
        .steps = (int)a->steps,
        .profile = a->profile};
    if (a->size[0] && cli_parse_size(a->size, &o.spec.height, &o.spec.width, err) < 0)
        return NULL;
    if (at_precision_parse(a->precision, &o.precision, err) < 0)
        return NULL;
    return bench(&o, err);
}

static at_node *bench_train(const args *a, at_error *err)
{
    return bench_net(a, at_bench_train, err);
}

static at_node *bench_predict(const args *a, at_error *err)
{
    return bench_net(a, at_bench_predict, err);
}

static at_node *bench_loader(const args *a, at_error *err)
{
    if (!a->cache[0]) {
        at_fail(err, AT_EUSAGE, "--cache CACHE is missing (`atoll cache build` makes one)");
        return NULL;
    }
    at_bench_loader_options o = {.cache = a->cache,
                                 .batch = (int)a->batch,
                                 .threads = (int)a->threads,
                                 .epochs = (int)a->epochs,
                                 .seconds = a->seconds};
    return at_bench_loader(&o, err);
}

static at_node *bench_ingest(const args *a, at_error *err)
{
    at_bench_ingest_options o = {.source = a->source, .threads = (int)a->threads};
    if (a->size[0] && cli_parse_size(a->size, &o.height, &o.width, err) < 0)
        return NULL;
    return at_bench_ingest(&o, err);
}

static at_node *bench_catalog(const args *a, at_error *err)
{
    return at_bench_catalog(a->data[0] ? a->data : NULL, (size_t)a->images, err);
}

static at_node *bench_allreduce(const args *a, at_error *err)
{
    return at_bench_allreduce((int)a->repeats, err);
}

static const struct {
    const char *name;
    at_node *(*run)(const args *a, at_error *err);
    bool takes_source;
} benches[] = {{"train", bench_train}, {"predict", bench_predict}, {"loader", bench_loader},
               {"ingest", bench_ingest, true}, {"catalog", bench_catalog}, {"allreduce", bench_allreduce}};
enum { BENCHES = sizeof benches / sizeof *benches };

static int run_one(const char *name, const args *a, at_error *err)
{
    for (size_t i = 0; i < BENCHES; i++) {
        if (strcmp(benches[i].name, name) != 0)
            continue;
        if (benches[i].takes_source != (a->source != NULL))
            return at_fail(err, AT_EUSAGE, benches[i].takes_source ? "bench %s takes a source of images" : "bench %s takes no source", name);
        at_node *result = benches[i].run(a, err);
        if (!result)
            return err->code;
        if (at_node_count(result) > 0)
            cli_print_json(result);
        else
            at_node_free(result);
        return 0;
    }
    return at_fail(err, AT_EUSAGE, "there is no benchmark \"%s\" (train, predict, loader, ingest, catalog, allreduce)", name);
}

static int run(int argc, char **argv, at_error *err)
{
    args a = {0};
    int code = cli_parse(options, &a, argc, argv, 1, 2, err);
    a.source = code > 1 ? argv[1] : NULL;
    if (code > 0)
        code = run_one(argv[0], &a, err);
    at_options_fini(options, &a);
    return code;
}

const cli_command cmd_bench = {.name = "bench",
                               .usage = "train|predict|loader|ingest SRC|catalog|allreduce [options] --json",
                               .summary = "measure training, prediction, loading, ingest and allreduce beside their floors",
                               .help = "  atoll bench train --model airnet --precision fp32 --batch 256 --threads 2\n"
                                       "  atoll bench train --model resnet50 --size 224x224 --classes 1000 --batch 32\n"
                                       "  atoll bench predict --model resnet50 --size 224x224 --batch 1\n"
                                       "  atoll bench loader --cache out/demo/cache\n"
                                       "  atoll bench ingest photos.tar --size 224x224\n"
                                       "  atoll bench catalog --images 1000000\n"
                                       "  mpirun -np 2 atoll bench allreduce",
                               .options = options,
                               .computes = true,
    .run = run};
