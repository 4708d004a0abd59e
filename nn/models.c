/* SPDX-License-Identifier: Apache-2.0
 * The table of built-in models, and the rows that all of them begin and end with: raw pixels are
 * scaled and normalised inside the network, so a model file needs no preprocessing told beside it.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "models.h"

static const at_model *const families[] = {
#define MODELS(x) at_models_##x,
#include "models.def"
#undef MODELS
};
enum { FAMILIES = sizeof families / sizeof *families };

static const at_model *model_at(size_t i)
{
    for (size_t f = 0; f < FAMILIES; f++)
        for (const at_model *m = families[f]; m->name; m++)
            if (i-- == 0)
                return m;
    return NULL;
}

size_t at_model_count(void)
{
    size_t n = 0;
    while (model_at(n))
        n++;
    return n;
}

const char *at_model_name(size_t i)
{
    const at_model *m = model_at(i);
    return m ? m->name : NULL;
}

const char *at_model_summary(size_t i)
{
    const at_model *m = model_at(i);
    return m ? m->summary : NULL;
}

static void refuse_name(const char *name, at_error *err)
{
    size_t n = at_model_count();
    const char **names = calloc(n, sizeof *names);
    for (size_t i = 0; names && i < n; i++)
        names[i] = at_model_name(i);
    const char *near = names ? at_nearest(name, names, n) : NULL;
    if (near)
        at_fail(err, AT_EINPUT, "unknown model '%s'; did you mean '%s'?", name, near);
    else
        at_fail(
            err, AT_EINPUT,
            "unknown model '%s'; `atoll model list` names them, and a file of rows ends with .yaml",
            name);
    free(names);
}

static const at_model *find_model(const char *name, at_error *err)
{
    const at_model *m;
    for (size_t i = 0; (m = model_at(i)); i++)
        if (!strcmp(name, m->name))
            return m;
    refuse_name(name, err);
    return NULL;
}

int at_model_published(const char *name, at_model_spec *out, at_error *err)
{
    static const at_model_spec cifar = {.classes = 10, .channels = 3, .height = 32, .width = 32};
    static const at_model_spec imagenet = {
        .classes = 1000, .channels = 3, .height = 224, .width = 224};
    *out = cifar;
    if (models_is_yaml(name))
        return AT_OK;
    const at_model *m = find_model(name, err);
    if (m)
        *out = m->published.classes ? m->published : imagenet;
    return m ? AT_OK : AT_EINPUT;
}

static void add_numbers(at_text *text, const float *values, int n)
{
    for (int i = 0; i < n; i++)
        at_text_add(text, "%s%.9g", i ? "," : "", (double)values[i]);
}

/* input, rescale, normalise if the statistics are known. */
static int emit_input(nn_rows *r, at_error *err)
{
    const at_model_spec *spec = r->spec;
    at_graph_add(r->graph, "data", "input", "", "channels=%d height=%d width=%d", spec->channels,
                 spec->height, spec->width);
    r->last = (row_name){"data"};
    rows_add(r, "rescale", "rescale", "scale=%.17g offset=%.17g",
             spec->scale != 0 ? spec->scale : 1.0 / 255, spec->scale != 0 ? spec->offset : 0);
    if (!spec->mean || !spec->deviation)
        return AT_OK;
    at_text attrs = {0};
    at_text_add(&attrs, "mean=");
    add_numbers(&attrs, spec->mean, spec->channels);
    at_text_add(&attrs, " deviation=");
    add_numbers(&attrs, spec->deviation, spec->channels);
    if (!attrs.failed)
        at_graph_add(r->graph, "normalize", "normalize", r->last.text, "%s", attrs.data);
    r->last = (row_name){"normalize"};
    int status = attrs.failed ? at_nomem(err) : AT_OK;
    at_text_fini(&attrs);
    return status;
}

static int check_spec(const char *name, const at_model_spec *spec, int smallest, at_error *err)
{
    if (spec->classes < 1)
        return at_fail(err, AT_EINPUT, "model %s: %d classes", name, spec->classes);
    if (spec->channels < 1 || spec->height < 1 || spec->width < 1)
        return at_fail(err, AT_EINPUT, "model %s: an input of %dx%dx%d (channels, height, width)",
                       name, spec->channels, spec->height, spec->width);
    if (spec->height < smallest || spec->width < smallest)
        return at_fail(err, AT_EINPUT,
                       "model %s: images of %dx%d are too small, %dx%d is the least", name,
                       spec->height, spec->width, smallest, smallest);
    return AT_OK;
}

/* A built-in model's rows are right by test; those of a file are checked while their places are
 * known. */
static int check_rows(const char *path, const at_graph *g, const at_model_spec *spec, at_error *err)
{
    at_net *net = nn_net_resolve(g, err);
    if (!net)
        return err ? err->code : AT_EINPUT;
    int outputs = at_net_classes(net);
    at_net_free(net);
    if (outputs == spec->classes)
        return AT_OK;
    return at_fail(err, AT_EINPUT,
                   "%s: row \"%s\" gives %d scores, but there are %d classes; out=classes fits any "
                   "number of them",
                   path, at_graph_row(g, at_graph_rows(g) - 2).name, outputs, spec->classes);
}

/* A file may say so itself. */
static bool ends_with_loss(const at_graph *g)
{
    return !strcmp(at_graph_row(g, at_graph_rows(g) - 1).layer, "softmax_loss");
}

at_graph *at_model_graph(const char *name, const at_model_spec *spec, at_error *err)
{
    bool yaml = models_is_yaml(name);
    const at_model *model = yaml ? NULL : find_model(name, err);
    if ((!yaml && !model) || check_spec(name, spec, model ? model->smallest : 1, err) != AT_OK)
        return NULL;
    nn_rows rows = {.graph = at_graph_new(), .spec = spec};
    int status = rows.graph ? emit_input(&rows, err) : at_nomem(err);
    if (status == AT_OK && yaml)
        status = models_read_yaml(&rows, name, err);
    else if (status == AT_OK)
        model->emit(&rows, model->variant);
    if (status == AT_OK && !ends_with_loss(rows.graph))
        rows_plain(&rows, "loss", "softmax_loss");
    if (status == AT_OK && yaml)
        status = check_rows(name, rows.graph, spec, err);
    if (status == AT_OK)
        return rows.graph;
    at_graph_free(rows.graph);
    return NULL;
}

int at_model_check(const char *name, at_error *err)
{
    if (!models_is_yaml(name))
        return find_model(name, err) ? AT_OK : AT_EINPUT;
    at_node *file = at_yaml_read(name, err);
    at_node_free(file);
    return file ? AT_OK : err ? err->code : AT_EINPUT;
}
