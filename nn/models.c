/* SPDX-License-Identifier: Apache-2.0
 * The table of built-in models, and the rows that all of them begin and end with: raw pixels are
 * scaled and normalised inside the network, so a model file needs no preprocessing told beside it.
 */
#include <string.h>

#include "models.h"

static const at_model *const models[] = {
#define MODEL(x) &at_model_##x,
#include "models.def"
#undef MODEL
};

size_t at_model_count(void)
{
    return sizeof models / sizeof *models;
}

const char *at_model_name(size_t i)
{
    return i < at_model_count() ? models[i]->name : NULL;
}

const char *at_model_summary(size_t i)
{
    return i < at_model_count() ? models[i]->summary : NULL;
}

static const at_model *find_model(const char *name, at_error *err)
{
    const char *names[sizeof models / sizeof *models];
    for (size_t i = 0; i < at_model_count(); i++) {
        names[i] = models[i]->name;
        if (strcmp(name, names[i]) == 0)
            return models[i];
    }
    const char *near = at_nearest(name, names, at_model_count());
    if (near)
        at_fail(err, AT_EINPUT, "unknown model '%s'; did you mean '%s'?", name, near);
    else
        at_fail(err, AT_EINPUT, "unknown model '%s'; see atoll train --help for the models", name);
    return NULL;
}

static void add_numbers(at_text *text, const float *values, int n)
{
    for (int i = 0; i < n; i++)
        at_text_add(text, "%s%.9g", i ? "," : "", (double)values[i]);
}

/* input, rescale to 0..1, normalise if the statistics are known. Returns the last row's name. */
static const char *emit_input(at_graph *g, const at_model_spec *spec, at_error *err)
{
    at_graph_add(g, "data", "input", "", "channels=%d height=%d width=%d", spec->channels,
                 spec->height, spec->width);
    at_graph_add(g, "rescale", "rescale", "data", "scale=%.17g offset=0", 1.0 / 255);
    if (!spec->mean || !spec->deviation)
        return "rescale";
    at_text attrs = {0};
    at_text_add(&attrs, "mean=");
    add_numbers(&attrs, spec->mean, spec->channels);
    at_text_add(&attrs, " deviation=");
    add_numbers(&attrs, spec->deviation, spec->channels);
    if (attrs.failed)
        at_nomem(err);
    else
        at_graph_add(g, "normalize", "normalize", "rescale", "%s", attrs.data);
    const char *last = attrs.failed ? NULL : "normalize";
    at_text_fini(&attrs);
    return last;
}

static int check_spec(const char *name, const at_model_spec *spec, at_error *err)
{
    if (spec->classes < 1)
        return at_fail(err, AT_EINPUT, "model %s: %d classes", name, spec->classes);
    if (spec->channels < 1 || spec->height < 1 || spec->width < 1)
        return at_fail(err, AT_EINPUT, "model %s: an input of %dx%dx%d (channels, height, width)",
                       name, spec->channels, spec->height, spec->width);
    return AT_OK;
}

at_graph *at_model_graph(const char *name, const at_model_spec *spec, at_error *err)
{
    const at_model *model = find_model(name, err);
    if (!model || check_spec(name, spec, err) != AT_OK)
        return NULL;
    at_graph *g = at_graph_new();
    if (!g) {
        at_nomem(err);
        return NULL;
    }
    const char *last = emit_input(g, spec, err);
    if (last)
        last = model->emit(g, spec, last, err);
    if (!last) {
        at_graph_free(g);
        return NULL;
    }
    at_graph_add(g, "loss", "softmax_loss", last, "%s", "");
    return g;
}
