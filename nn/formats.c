/* SPDX-License-Identifier: Apache-2.0
 * The forms of a model file that `atoll export` writes, one a row. All but the first, which is ours
 * too, are written without auxiliary classifiers.
 */
#include <stdlib.h>
#include <string.h>

#include "keras.h"

static const at_model_format formats[] = {
    {"keras-h5", ".h5", "a whole model for Keras 2 and 3; also atoll's own", at_model_save},
    {"keras", ".keras", "a whole model for Keras 3", keras_archive_save},
    {"keras-weights", ".weights.h5", "weights alone, for Keras 3", keras_vars_save},
    {"weights-h5", "", "weights alone in the legacy form, for Keras 2", keras_weights_save},
    {"onnx", ".onnx", "opset 17: raw pixels in, scores out", at_model_export_onnx},
};

size_t at_model_format_count(void)
{
    return sizeof formats / sizeof *formats;
}

const at_model_format *at_model_format_at(size_t i)
{
    return i < at_model_format_count() ? &formats[i] : NULL;
}

static bool ends_with(const char *text, const char *suffix)
{
    size_t n = strlen(text), m = strlen(suffix);
    return m > 0 && n >= m && strcmp(text + n - m, suffix) == 0;
}

static int refuse(const char *name, const char *near, at_error *err)
{
    at_text all = {0};
    for (size_t i = 0; i < at_model_format_count(); i++)
        at_text_add(&all, "%s%s", i ? ", " : "", formats[i].name);
    int status = near ? at_fail(err, AT_EUSAGE, "unknown form '%s'; did you mean '%s'?", name, near)
                      : at_fail(err, AT_EUSAGE, "unknown form '%s'; there are: %s", name,
                                all.failed ? "see atoll export --help" : all.data);
    at_text_fini(&all);
    return status;
}

const at_model_format *at_model_format_for(const char *name, const char *path, at_error *err)
{
    const at_model_format *found = NULL;
    const char *names[sizeof formats / sizeof *formats];
    for (size_t i = 0; i < at_model_format_count(); i++) {
        const at_model_format *f = &formats[i];
        names[i] = f->name;
        if (name && strcmp(f->name, name) == 0)
            return f;
        bool longer = !found || strlen(f->suffix) > strlen(found->suffix);
        if (!name && ends_with(path, f->suffix) && longer)
            found = f;
    }
    if (found)
        return found;
    const char *near = name ? at_nearest(name, names, at_model_format_count()) : NULL;
    if (!name)
        at_fail(err, AT_EUSAGE, "%s: no form of a model file has this suffix; say --to", path);
    else
        refuse(name, near, err);
    return NULL;
}

/* A copy with the weights of the used rows alone. */
static at_net *copy_used(const at_net *net, const bool *used, at_error *err)
{
    at_graph *g = keras_used_rows(net, used);
    at_net *copy = nn_net_resolve(g, err);
    at_graph_free(g);
    if (copy && nn_net_allocate(copy, err) != AT_OK) {
        at_net_free(copy);
        return NULL;
    }
    for (size_t i = 0; copy && i < copy->row_count; i++) {
        const nn_row *to = &copy->rows[i], *from = nn_net_row(net, to->row.name);
        for (int k = 0; k < to->param_count; k++)
            memcpy(copy->params + to->params[k].info.offset,
                   net->params + from->params[k].info.offset,
                   to->params[k].info.count * sizeof(float));
        for (int k = 0; k < to->state_count; k++)
            memcpy(copy->state + to->states[k].offset, net->state + from->states[k].offset,
                   to->states[k].count * sizeof(float));
    }
    return copy;
}

int at_model_export(at_net *net, const at_model_info *info, const at_model_format *format,
                    const char *path, at_error *err)
{
    bool *used = calloc(net->row_count, sizeof *used), all = true;
    if (!used)
        return at_nomem(err);
    keras_mark_used(net, used);
    for (size_t i = 0; i < net->row_count; i++)
        all &= used[i];
    at_net *copy = all || format->save == at_model_save ? net : copy_used(net, used, err);
    int rc = copy ? format->save(copy, info, path, err) : err->code;
    if (copy != net)
        at_net_free(copy);
    free(used);
    return rc;
}
