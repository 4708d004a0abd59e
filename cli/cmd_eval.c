/* SPDX-License-Identifier: Apache-2.0
 * atoll eval: a model file against one split of a data set.
 */
#include "model_input.h"
#include "cli.h"

#include <atoll/trainer.h>

#include <stdlib.h>
#include <string.h>

typedef struct args {
    char *data, *split, *tta, *dir, *limit, *fit, *form;
    bool json;
    int64_t threads;
} args;

static const at_option options[] = {
    {"data", AT_OPT_STRING, offsetof(args, data), NULL, "data set", "DATASET"},
    {"split", AT_OPT_CHOICE, offsetof(args, split), "test", "which images", .choices = "train|val|test"},
    {"tta", AT_OPT_CHOICE, offsetof(args, tta), "none", "test-time augmentation: mean over views",
     .choices = "none|flip|shift"},
    {"threads", AT_OPT_INT, offsetof(args, threads), "0", "0: one a CPU", "N", .min = 0, .max = 4096},
    CLI_FIT_OPTION(offsetof(args, fit)),
    {"form", AT_OPT_CHOICE, offsetof(args, form), "auto", "of its cache; auto: as in the model's training",
     .choices = "auto|" AT_FORM_CHOICES},
    {"cache.dir", AT_OPT_STRING, offsetof(args, dir), "", "where its cache is made; empty: as training's", "DIR"},
    {"cache.limit", AT_OPT_STRING, offsetof(args, limit), "20G", "of all caches there: those used longest ago go", "BYTES"},
    {"json", AT_OPT_BOOL, offsetof(args, json), NULL, "print one JSON object"},
    {0}};

/* Before a cache, which may take long to fill. */
static int check_classes(const char *path, const at_net *net, const at_model_info *info, at_error *err)
{
    int code = 0;
    at_dataset *data = at_dataset_open_head(path, err);
    if (!data)
        return err->code;
    if ((size_t)at_net_classes(net) != at_dataset_classes(data))
        code = at_fail(err, AT_EINPUT, "the model knows %d classes, %s has %zu", at_net_classes(net), path,
                       at_dataset_classes(data));
    for (size_t i = 0; i < info->class_count && i < at_dataset_classes(data) && code == 0; i++)
        if (strcmp(info->classes[i], at_dataset_class_name(data, i)) != 0)
            code = at_fail(err, AT_EINPUT, "class %zu is \"%s\" in the model and \"%s\" in %s", i, info->classes[i],
                           at_dataset_class_name(data, i), path);
    at_dataset_close(data);
    return code;
}

/* The cache that the model was trained with, where it still is. */
static int read_spec(const args *a, const at_model_info *info, const char *path, at_cache_spec *out, at_error *err)
{
    double limit = 0;
    const char *trained = at_node_string(at_node_get(info->training, "form"), "auto");
    const char *form = strcmp(a->form, "auto") != 0 ? a->form : trained;
    int code = cli_read_fit(a->fit, info, path, &out->frame.fit, err);
    if (code == 0 && strcmp(form, "auto") != 0)
        code = at_form_parse(form, &out->form, err);
    if (code == 0)
        code = at_parse_bytes("cache.limit", a->limit, &limit, err);
    out->limit_bytes = (uint64_t)limit;
    out->dir = a->dir;
    return code;
}

static at_node *evaluate(const args *a, const char *path, at_error *err)
{
    at_model_info info = {0};
    at_cache *cache = NULL;
    at_node *result = NULL;
    at_split split;
    if (at_split_parse(a->split, &split, err) < 0)
        return NULL;
    at_net *net = at_model_load(path, &info, err);
    if (!net)
        return NULL;
    int threads = a->threads ? (int)a->threads : at_cpu_count();
    at_cache_spec spec = {.threads = threads};
    at_net_input_shape(net, &spec.frame.channels, &spec.frame.height, &spec.frame.width);
    if (read_spec(a, &info, path, &spec, err) == 0 && check_classes(a->data, net, &info, err) == 0)
        cache = at_cache_open(a->data, &spec, err);
    if (cache)
        result = at_evaluate(net, cache, split, a->tta, threads, NULL, err);
    at_cache_close(cache);
    at_net_free(net);
    at_model_info_fini(&info);
    return result;
}

static void print_result(const at_node *result)
{
    at_node *rows = at_node_new(AT_LIST);
    const at_node *per_class = at_node_get(result, "per_class");
    static const char *const ratios[] = {"precision", "recall", "f1"};
    for (size_t i = 0; i < at_node_count(per_class); i++) {
        const at_node *c = at_node_at(per_class, i);
        at_node *row = at_node_add(rows, at_node_new(AT_MAP));
        at_set_string(row, "class", at_node_string(at_node_get(c, "class"), ""));
        for (size_t k = 0; k < sizeof ratios / sizeof *ratios; k++) {
            char text[16];
            snprintf(text, sizeof text, "%.4f", at_node_real(at_node_get(c, ratios[k]), 0));
            at_set_string(row, ratios[k], text);
        }
        at_set_int(row, "support", at_node_int(at_node_get(c, "support"), 0));
    }
    cli_print_table(rows);
    at_node_free(rows);
    printf("\naccuracy %.4f, loss %.4f over %ld images\n", at_node_real(at_node_get(result, "accuracy"), 0),
           at_node_real(at_node_get(result, "loss"), 0), (long)at_node_int(at_node_get(result, "samples"), 0));
}

static int run(int argc, char **argv, at_error *err)
{
    args a = {0};
    char *path = NULL;
    at_node *result = NULL;
    int code = cli_parse(options, &a, argc, argv, 1, 1, err);
    if (code < 0)
        goto end;
    code = a.data[0] ? 0 : at_fail(err, AT_EUSAGE, "--data DATASET is missing");
    if (code < 0)
        goto end;
    path = cli_model_path(argv[0], err);
    result = path ? evaluate(&a, path, err) : NULL;
    code = result ? 0 : err->code;
    if (result && a.json)
        cli_print_json(at_node_copy(result));
    else if (result)
        print_result(result);
end:
    at_node_free(result);
    free(path);
    at_options_fini(options, &a);
    return code;
}

const cli_command cmd_eval = {.name = "eval",
                              .usage = "MODEL.h5|RUN --data DATASET [--split test] [--tta none|flip|shift] [--json]",
                              .summary = "measure a model: accuracy, per-class metrics, confusion matrix",
                              .help = "Everything but the images is in the model file: input size, preprocessing, classes.\n\n"
                                      "  atoll eval runs/1/model.h5 --data data/photos --tta flip",
                              .options = options,
                              .computes = true,
    .run = run};
