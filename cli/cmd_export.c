/* SPDX-License-Identifier: Apache-2.0
 * atoll export: a model in a form for others, from any form that it comes in.
 */
#include "cli.h"

#include <atoll/nn.h>

#include <stdlib.h>

typedef struct args {
    char *to, *out, *model, *size;
    int64_t classes, channels;
} args;

static const at_option options[] = {
    {"to", AT_OPT_STRING, offsetof(args, to), "", "the form, one of those below; by FILE's suffix unless told", "FORM"},
    {"out", AT_OPT_STRING, offsetof(args, out), NULL, "the file to write", "FILE"},
    {"model", AT_OPT_STRING, offsetof(args, model), "", "what weights alone are of (atoll model list)", "NAME"},
    {"classes", AT_OPT_INT, offsetof(args, classes), NULL, "of that model; as published unless told", "K", .min = 0,
     .max = 1e6},
    {"size", AT_OPT_STRING, offsetof(args, size), "", "of its images; as published unless told", "HxW"},
    {"channels", AT_OPT_INT, offsetof(args, channels), NULL, "1 grey, 3 RGB; as published unless told", "C", .min = 0,
     .max = 64},
    {0}};

static at_net *load_weights(const args *a, const char *path, at_model_info *info, at_error *err)
{
    at_model_spec spec;
    int code = at_model_published(a->model, &spec, err);
    if (code == 0 && a->size[0])
        code = cli_parse_size(a->size, &spec.height, &spec.width, err);
    if (code < 0)
        return NULL;
    spec.classes = a->classes ? (int)a->classes : spec.classes;
    spec.channels = a->channels ? (int)a->channels : spec.channels;
    return at_model_load_weights(path, a->model, &spec, info, err);
}

static int export_model(const args *a, const char *from, at_error *err)
{
    const at_model_format *format = at_model_format_for(a->to[0] ? a->to : NULL, a->out, err);
    at_model_info info = {0};
    if (!format)
        return err->code;
    at_net *net = a->model[0] ? load_weights(a, from, &info, err) : at_model_load(from, &info, err);
    if (!net)
        return err->code;
    int code = at_model_export(net, &info, format, a->out, err);
    at_net_free(net);
    at_model_info_fini(&info);
    return code;
}

static int check(const args *a, at_error *err)
{
    if (!a->out[0])
        return at_fail(err, AT_EUSAGE, "--out FILE is missing");
    if (!a->model[0] && (a->size[0] || a->classes || a->channels))
        return at_fail(err, AT_EUSAGE, "--size, --channels and --classes are of a model's name: say --model too");
    return 0;
}

static int run(int argc, char **argv, at_error *err)
{
    args a = {0};
    int code = cli_parse(options, &a, argc, argv, 1, 1, err);
    if (code > 0)
        code = check(&a, err);
    if (code == 0) {
        char *path = cli_model_path(argv[0], err);
        code = path ? export_model(&a, path, err) : err->code;
        free(path);
        if (code == 0)
            puts(a.out);
    }
    at_options_fini(options, &a);
    return code;
}

const cli_command cmd_export = {
    .name = "export",
    .usage = "RUN|MODEL [--to FORM] --out FILE",
    .summary = "write a model for others to open",
    .help = "  keras-h5       FILE.h5          a whole model for Keras 2 and 3; also atoll's own form\n"
            "  keras          FILE.keras       a whole model for Keras 3\n"
            "  keras-weights  FILE.weights.h5  weights alone, for Keras 3\n"
            "  weights-h5     say --to         weights alone in the legacy form, for Keras 2\n"
            "  onnx           FILE.onnx        ONNX, opset 17: raw pixels in, scores out\n\n"
            "A whole model carries its preprocessing as Keras layers (raw 0-255 pixels go in) and loads\n"
            "compiled, without custom objects. Auxiliary classifiers are left out.\n\n"
            "MODEL may be any of these but ONNX, and what Keras 2 or 3 itself has saved: Sequential and\n"
            "Functional models of layers that atoll has. (So may the model of eval and predict.) Weights alone need\n"
            "the name of their model.\n\n"
            "  atoll export runs/1 --out shoes.keras\n"
            "  atoll export shoes.keras --out shoes.h5\n"
            "  atoll export r20.weights.h5 --model resnet20 --classes 10 --size 32x32 --out r20.h5",
    .options = options,
    .run = run};
