/* SPDX-License-Identifier: Apache-2.0
 * atoll export: a model in a form for others.
 */
#include "cli.h"

#include <atoll/nn.h>

#include <stdlib.h>

typedef struct args {
    char *to, *out;
} args;

static const at_option options[] = {
    {"to", AT_OPT_CHOICE, offsetof(args, to), "keras-h5", "keras-h5: a whole model that Keras 3 loads",
     .choices = "keras-h5"},
    {"out", AT_OPT_STRING, offsetof(args, out), NULL, "the file to write", "FILE"},
    {0}};

static int export_model(const char *from, const char *to, at_error *err)
{
    at_model_info info = {0};
    at_net *net = at_model_load(from, &info, err);
    if (!net)
        return err->code;
    int code = at_model_save(net, &info, to, err);
    at_net_free(net);
    at_model_info_fini(&info);
    return code;
}

static int run(int argc, char **argv, at_error *err)
{
    args a = {0};
    int code = cli_parse(options, &a, argc, argv, 1, 1, err);
    if (code > 0 && !a.out[0])
        code = at_fail(err, AT_EUSAGE, "--out FILE is missing");
    if (code > 0) {
        char *path = cli_model_path(argv[0], err);
        code = path ? export_model(path, a.out, err) : err->code;
        free(path);
        if (code == 0)
            puts(a.out);
    }
    at_options_fini(options, &a);
    return code;
}

const cli_command cmd_export = {.name = "export",
                                .usage = "RUN|MODEL.h5 --to keras-h5 --out FILE",
                                .summary = "write a model for others to open",
                                .help = "The file carries its preprocessing as Keras layers (raw 0-255 pixels go in) and its\n"
                                        "class names; keras.models.load_model opens it.\n\n"
                                        "  atoll export runs/1 --to keras-h5 --out shoes.h5",
                                .options = options,
                                .run = run};
