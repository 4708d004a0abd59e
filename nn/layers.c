/* SPDX-License-Identifier: Apache-2.0
 * layers: the table of layers.def, and what several layers share when they read their attributes
 * and work out shapes. Every message names the row, its layer and the shapes that it was given.
 */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const at_layer *const table[] = {
#define LAYER(x) &at_layer_##x,
#include "layers.def"
#undef LAYER
};
enum { LAYERS = sizeof table / sizeof *table };

size_t nn_layer_count(void)
{
    return LAYERS;
}

const at_layer *nn_layer_at(size_t i)
{
    return table[i];
}

const at_layer *nn_layer_find(const char *name, at_error *err)
{
    const char *names[LAYERS];
    for (size_t i = 0; i < LAYERS; i++) {
        names[i] = table[i]->name;
        if (!strcmp(name, table[i]->name))
            return table[i];
    }
    const char *near = at_nearest(name, names, LAYERS);
    if (near)
        at_fail(err, AT_EINPUT, "unknown layer \"%s\"; did you mean \"%s\"?", name, near);
    else
        at_fail(err, AT_EINPUT, "unknown layer \"%s\"", name);
    return NULL;
}

int64_t nn_elements(nn_shape s)
{
    return s.c * s.h * s.w;
}

int nn_misfit(const nn_row *row, at_error *err, const char *needs, ...)
{
    char what[400], shapes[300] = "";
    va_list list;
    va_start(list, needs);
    vsnprintf(what, sizeof what, needs, list);
    va_end(list);
    for (int i = 0; i < row->input_count; i++) {
        size_t used = strlen(shapes);
        nn_shape s = row->in[i];
        snprintf(shapes + used, sizeof shapes - used, "%s%lldx%lldx%lld", i ? ", " : " on ",
                 (long long)s.c, (long long)s.h, (long long)s.w);
    }
    return at_fail(err, AT_EINPUT, "row \"%s\" (%s)%s needs %s", row->row.name, row->row.layer,
                   shapes, what);
}

int nn_pair_parse(const nn_row *row, const char *key, const char *text, int64_t least, int64_t *a,
                  int64_t *b, at_error *err)
{
    char *end = NULL;
    errno = 0;
    long long first = strtoll(text, &end, 10), second = first;
    bool good = end != text;
    if (good && *end == 'x') {
        const char *rest = end + 1;
        second = strtoll(rest, &end, 10);
        good = end != rest;
    }
    if (!good || *end || errno || first < least || second < least || first > 65535 ||
        second > 65535)
        return at_fail(err, AT_EINPUT, "row \"%s\" (%s): %s=%s: expected N or HxW of at least %lld",
                       row->row.name, row->row.layer, key, text, (long long)least);
    *a = first;
    *b = second;
    return 0;
}

int nn_window_parse(const nn_row *row, const nn_window_text *text, bool stride_is_k, nn_window *out,
                    at_error *err)
{
    if (!*text->k)
        return at_fail(err, AT_EINPUT, "row \"%s\" (%s) needs k=N, the size of its window",
                       row->row.name, row->row.layer);
    char global[48];
    snprintf(global, sizeof global, "%lldx%lld", (long long)row->in[0].h, (long long)row->in[0].w);
    const char *k = strcmp(text->k, "global") ? text->k : global;
    int status = nn_pair_parse(row, "k", k, 1, &out->kh, &out->kw, err);
    const char *stride = *text->stride ? text->stride : stride_is_k ? k : "1";
    if (!status)
        status = nn_pair_parse(row, "stride", stride, 1, &out->sh, &out->sw, err);
    if (!status)
        status = nn_pair_parse(row, "pad", text->pad, 0, &out->ph, &out->pw, err);
    const char *dilation = text->dilation ? text->dilation : "1";
    return status ? status : nn_pair_parse(row, "dilation", dilation, 1, &out->dh, &out->dw, err);
}

/* Windows along one side; 0 where not even one fits. */
static int64_t steps_of(int64_t size, int64_t k, int64_t stride, int64_t pad, bool ceil)
{
    int64_t rest = size + 2 * pad - k;
    if (rest < 0)
        return 0;
    int64_t steps = (rest + (ceil ? stride - 1 : 0)) / stride + 1;
    return steps - ((steps - 1) * stride >= size + pad);
}

int nn_window_apply(nn_row *row, const nn_window *w, int64_t channels, bool ceil, at_error *err)
{
    nn_shape in = row->in[0];
    int64_t kh = (w->kh - 1) * w->dh + 1, kw = (w->kw - 1) * w->dw + 1;
    if (w->ph >= kh || w->pw >= kw)
        return nn_misfit(row, err, "padding smaller than its %lldx%lld window", (long long)kh,
                         (long long)kw);
    row->out = (nn_shape){.c = channels,
                          .h = steps_of(in.h, kh, w->sh, w->ph, ceil),
                          .w = steps_of(in.w, kw, w->sw, w->pw, ceil)};
    if (row->out.h < 1 || row->out.w < 1)
        return nn_misfit(row, err, "at least %lldx%lld pixels with padding", (long long)kh,
                         (long long)kw);
    return 0;
}

int nn_add_param(nn_row *row, const char *name, nn_init init, double fan_in, int ndims,
                 const int64_t *dims, at_error *err)
{
    size_t count = 1;
    nn_param *p = &row->params[row->param_count];
    *p = (nn_param){
        .info = {.layer = row->row.name, .name = name, .ndims = ndims, .decay = ndims > 1},
        .init = init,
        .fan_in = fan_in};
    for (int i = 0; i < ndims; i++) {
        p->info.dims[i] = dims[i];
        if (!at_mul(count, (size_t)dims[i], NN_LIMIT / sizeof(float), &count))
            return at_fail(err, AT_EINPUT, "row \"%s\" (%s): its %s is too large", row->row.name,
                           row->row.layer, name);
    }
    p->info.count = count;
    row->param_count++;
    return 0;
}

int nn_same_shape(nn_row *row, at_error *err)
{
    (void)err;
    row->out = row->in[0];
    return 0;
}

void nn_add_state(nn_row *row, const char *name, int64_t count, float initial)
{
    row->states[row->state_count++] = (nn_state){
        .layer = row->row.name, .name = name, .count = (size_t)count, .initial = initial};
}
