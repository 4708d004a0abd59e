/* SPDX-License-Identifier: Apache-2.0
 * atoll model: the networks that there are, what one consists of, and a file of one without training.
 */
#include "cli.h"

#include <atoll/nn.h>

#include <stdlib.h>
#include <string.h>

typedef struct args {
    char *size, *out;
    int64_t classes, channels, batch, seed;
    bool json;
} args;

#define SHAPE_OPTIONS                                                                              \
    {"classes", AT_OPT_INT, offsetof(args, classes), NULL, "as published unless told", "K", .min = 0, .max = 1e6}, \
    {"size", AT_OPT_STRING, offsetof(args, size), "", "of the images; as published unless told", "HxW"}, \
    {"channels", AT_OPT_INT, offsetof(args, channels), NULL, "1 grey, 3 RGB; as published unless told", "C", .min = 0, .max = 64}

static const at_option describe_options[] = {
    SHAPE_OPTIONS,
    {"batch", AT_OPT_INT, offsetof(args, batch), "1", "images at once, for the memory", "N", .min = 1, .max = 65536},
    {"json", AT_OPT_BOOL, offsetof(args, json), NULL, "print one JSON object"},
    {0}};

static const at_option new_options[] = {
    SHAPE_OPTIONS,
    {"seed", AT_OPT_INT, offsetof(args, seed), "1", "of the first weights", "N", .min = 0, .max = 9e15},
    {"out", AT_OPT_STRING, offsetof(args, out), NULL, "the file to write", "FILE.h5"},
    {0}};

static const at_option list_options[] = {{"json", AT_OPT_BOOL, offsetof(args, json), NULL, "print one JSON object"},
                                         {0}};

/* ---- list ---- */

static int run_list(int argc, char **argv, at_error *err)
{
    args a = {0};
    int code = cli_parse(list_options, &a, argc, argv, 0, 0, err);
    at_node *object = at_node_new(AT_MAP), *models = at_node_set(object, "models", at_node_new(AT_LIST));
    for (size_t i = 0; i < at_model_count(); i++) {
        at_node *row = at_node_add(models, at_node_new(AT_MAP));
        at_set_string(row, "model", at_model_name(i));
        at_set_string(row, "summary", at_model_summary(i));
    }
    if (code == 0 && a.json)
        cli_print_json(at_node_copy(object));
    else if (code == 0)
        cli_print_table(models);
    at_node_free(object);
    at_options_fini(list_options, &a);
    return code;
}

/* ---- describe ---- */

static int make_spec(const char *model, const args *a, at_model_spec *spec, at_error *err)
{
    int code = at_model_published(model, spec, err);
    if (code == 0 && a->classes == 1)
        code = at_fail(err, AT_EUSAGE, "--classes 1: a softmax of one class has nothing to learn; 2 at least");
    if (code == 0 && a->size[0])
        code = cli_parse_size(a->size, &spec->height, &spec->width, err);
    spec->classes = a->classes ? (int)a->classes : spec->classes;
    spec->channels = a->channels ? (int)a->channels : spec->channels;
    return code;
}

static at_node *describe_file(const char *path, const args *a, at_error *err)
{
    at_model_info info = {0};
    if (a->size[0] || a->classes || a->channels) {
        at_fail(err, AT_EUSAGE, "--size, --channels and --classes are of a model's name; %s has its own", path);
        return NULL;
    }
    at_net *net = at_model_load(path, &info, err);
    at_node *memory = net ? at_net_describe_memory(net, (int)a->batch, err) : NULL;
    at_node *out = memory ? at_net_describe(net) : NULL;
    if (out) {
        at_node_set(out, "memory", memory);
        at_set_string(out, "model", info.model);
    }
    at_net_free(net);
    at_model_info_fini(&info);
    return out;
}

static at_node *describe_name(const char *model, const args *a, at_error *err)
{
    at_model_spec spec;
    if (make_spec(model, a, &spec, err) < 0)
        return NULL;
    at_graph *graph = at_model_graph(model, &spec, err);
    at_node *out = graph ? at_graph_describe(graph, (int)a->batch, err) : NULL;
    if (out)
        at_set_string(out, "model", model);
    at_graph_free(graph);
    return out;
}

static bool is_model_file(const char *name)
{
    const char *dot = strrchr(name, '.');
    return at_dir_exists(name) || (dot && strcmp(dot, ".yaml") != 0 && strcmp(dot, ".yml") != 0);
}

static at_node *describe(const char *name, const args *a, at_error *err)
{
    if (!is_model_file(name))
        return describe_name(name, a, err);
    char *path = cli_model_path(name, err);
    at_node *out = path ? describe_file(path, a, err) : NULL;
    free(path);
    return out;
}

static int64_t count_of(const at_node *n, const char *key)
{
    return at_node_int(at_node_get(n, key), 0);
}

static void print_description(const at_node *object)
{
    at_node *rows = at_node_new(AT_LIST);
    const at_node *layers = at_node_get(object, "layers");
    for (size_t i = 0; i < at_node_count(layers); i++) {
        static const char *const texts[] = {"name", "layer", "inputs"};
        const at_node *layer = at_node_at(layers, i), *shape = at_node_get(layer, "shape");
        at_node *row = at_node_add(rows, at_node_new(AT_MAP));
        char size[80];
        for (size_t k = 0; k < sizeof texts / sizeof *texts; k++)
            at_set_string(row, texts[k], at_node_text(at_node_get(layer, texts[k])));
        snprintf(size, sizeof size, "%sx%sx%s", at_node_text(at_node_at(shape, 0)), at_node_text(at_node_at(shape, 1)),
                 at_node_text(at_node_at(shape, 2)));
        at_set_string(row, "output", size);
        at_set_int(row, "parameters", count_of(layer, "parameters"));
        at_set_int(row, "flops", count_of(layer, "flops"));
        at_set_string(row, "attributes", at_node_text(at_node_get(layer, "attrs")));
    }
    cli_print_table(rows);
    at_node_free(rows);
    printf("\n%s: %lld parameters (%.1f MB), %lld moving statistics, %.3f GFLOP forward an image\n",
           at_node_text(at_node_get(object, "model")), (long long)count_of(object, "parameters"),
           4e-6 * (double)count_of(object, "parameters"), (long long)count_of(object, "state"),
           1e-9 * (double)count_of(object, "flops"));
    const at_node *memory = at_node_get(object, "memory");
    printf("memory, batch %lld: %.1f MB for inference, %.1f MB for training in fp32\n", (long long)count_of(memory, "batch"),
           1e-6 * (double)count_of(memory, "inference_bytes"), 1e-6 * (double)count_of(memory, "training_bytes"));
}

static int run_describe(int argc, char **argv, at_error *err)
{
    args a = {0};
    int code = cli_parse(describe_options, &a, argc, argv, 1, 1, err);
    at_node *object = code > 0 ? describe(argv[0], &a, err) : NULL;
    if (code > 0)
        code = object ? 0 : err->code;
    if (object && a.json)
        cli_print_json(at_node_copy(object));
    else if (object)
        print_description(object);
    at_node_free(object);
    at_options_fini(describe_options, &a);
    return code;
}

/* ---- new ---- */

static void free_classes(at_model_info *info)
{
    for (size_t i = 0; info->classes && i < info->class_count; i++)
        free(info->classes[i]);
    free(info->classes);
}

/* Named by their numbers: nobody knows more of them yet. */
static int save_new(at_net *net, const char *model, const char *path, at_error *err)
{
    at_model_info info = {.model = (char *)model, .class_count = (size_t)at_net_classes(net)};
    info.classes = calloc(info.class_count, sizeof *info.classes);
    bool enough = info.classes != NULL;
    for (size_t i = 0; enough && i < info.class_count; i++)
        enough = (info.classes[i] = at_format("%zu", i)) != NULL;
    int code = enough ? at_model_save(net, &info, path, err) : at_nomem(err);
    free_classes(&info);
    return code;
}

static int make_new(const char *model, const args *a, at_error *err)
{
    at_model_spec spec;
    if (!a->out[0])
        return at_fail(err, AT_EUSAGE, "--out FILE.h5 is missing");
    int code = make_spec(model, a, &spec, err);
    if (code < 0)
        return code;
    at_graph *graph = at_model_graph(model, &spec, err);
    at_net *net = graph ? at_net_new(graph, (uint64_t)a->seed, err) : NULL;
    code = net ? save_new(net, model, a->out, err) : err->code;
    at_graph_free(graph);
    at_net_free(net);
    if (code == 0)
        puts(a->out);
    return code;
}

static int run_new(int argc, char **argv, at_error *err)
{
    args a = {0};
    int code = cli_parse(new_options, &a, argc, argv, 1, 1, err);
    if (code > 0)
        code = make_new(argv[0], &a, err);
    at_options_fini(new_options, &a);
    return code;
}

/* ---- the table ---- */

static const cli_command actions[] = {
    {.name = "model list",
     .usage = "[--json]",
     .summary = "the built-in models",
     .help = "Any of these names, or a file of rows that ends with .yaml, is what --model and \"model:\" take.",
     .options = list_options,
     .run = run_list},
    {.name = "model describe",
     .usage = "NAME|ROWS.yaml|FILE.h5|RUN [--classes K] [--size HxW] [--channels C] [--batch N] [--json]",
     .summary = "layers, shapes, parameters, FLOPs, memory",
     .help = "Without options a built-in model is shown with the images and classes of its publication.\n"
             "\"parameters\" are the weights that training changes; a multiply-add is two FLOPs.\n\n"
             "  atoll model describe vgg16\n"
             "  atoll model describe resnet18 --size 64x64 --classes 5\n"
             "  atoll model describe runs/1 --json",
     .options = describe_options,
     .run = run_describe},
    {.name = "model new",
     .usage = "NAME|ROWS.yaml --out FILE.h5 [--classes K] [--size HxW] [--channels C] [--seed S]",
     .summary = "a model file with its first weights, untrained",
     .help = "  atoll model new resnet20 --classes 5 --seed 7 --out start.h5",
     .options = new_options,
     .run = run_new},
    {0}};

const cli_command cmd_model = {.name = "model",
                               .usage = "ACTION ...     (atoll model ACTION --help teaches each)",
                               .summary = "the networks: list, describe, write one down",
                               .actions = actions};
