/* SPDX-License-Identifier: Apache-2.0
 * A function a class of Keras layers: its configuration as rows. What atoll's rows cannot say
 * exactly is refused, naming the layer and the reason.
 */
#include <math.h>
#include <string.h>

#include "keras_import.h"

/* ---- pixels --------------------------------------------------------------------------------- */
int import_pixels(importer *m, import_layer *l, const at_node *shape, at_error *err)
{
    int64_t h = at_node_int(at_node_at(shape, 1), 0), w = at_node_int(at_node_at(shape, 2), 0);
    int64_t c = at_node_int(at_node_at(shape, 3), 0);
    if (at_node_count(shape) != 4 || h < 1 || w < 1 || c < 1)
        return import_refuse(l, err, "its input is no image of a fixed height, width and channels");
    l->out = (nn_shape){.c = c, .h = h, .w = w};
    l->nonnegative = true;
    return import_row(m, l, "", "input", NULL, err, "channels=%lld height=%lld width=%lld",
                      (long long)c, (long long)h, (long long)w);
}

static int import_input(importer *m, import_layer *l, at_error *err)
{
    const at_node *shape = at_node_get(l->config, "batch_shape");
    return import_pixels(m, l, shape ? shape : at_node_get(l->config, "batch_input_shape"), err);
}

static int import_rescaling(importer *m, import_layer *l, at_error *err)
{
    const at_node *scale = at_node_get(l->config, "scale");
    const at_node *offset = at_node_get(l->config, "offset");
    if (at_node_kind(scale) == AT_LIST || at_node_kind(offset) == AT_LIST)
        return import_refuse(l, err, "a scale for every channel; a Normalization can say it");
    l->nonnegative = false;
    return import_row(m, l, "", "rescale", NULL, err, "scale=%.17g offset=%.17g",
                      at_node_real(scale, 1), at_node_real(offset, 0));
}

/* Numbers of the configuration; those that adapt() found lie among the weights. */
static int read_statistic(importer *m, const import_layer *l, const char *key, size_t k,
                          float out[NN_CHANNELS], at_error *err)
{
    const at_node *list = at_node_get(l->config, key);
    size_t channels = (size_t)l->in.c;
    while (at_node_kind(at_node_at(list, 0)) == AT_LIST) /* [[[[...]]]] of an older Keras */
        list = at_node_at(list, 0);
    if (at_node_kind(list) <= AT_NULL)
        return keras_file_statistic(m->file, m->root, l->index - m->ahead, k, out, channels, err);
    bool one = at_node_kind(list) != AT_LIST;
    if (!one && at_node_count(list) != channels && at_node_count(list) != 1)
        return import_refuse(l, err, "%s of %zu numbers for %zu channels", key, at_node_count(list),
                             channels);
    for (size_t i = 0; i < channels; i++) {
        const at_node *item = one ? list : at_node_at(list, at_node_count(list) == 1 ? 0 : i);
        out[i] = (float)at_node_real(item, NAN);
    }
    return AT_OK;
}

static int import_normalization(importer *m, import_layer *l, at_error *err)
{
    float mean[NN_CHANNELS], variance[NN_CHANNELS];
    at_text means = {0}, deviations = {0};
    if (l->in.c > NN_CHANNELS)
        return import_refuse(l, err, "more than %d channels", NN_CHANNELS);
    if (at_node_bool(at_node_get(l->config, "invert"), false))
        return import_refuse(l, err, "the other way round (invert)");
    int rc = read_statistic(m, l, "mean", 0, mean, err);
    if (rc == AT_OK)
        rc = read_statistic(m, l, "variance", 1, variance, err);
    for (int64_t i = 0; i < l->in.c && rc == AT_OK; i++) {
        double deviation = fmax(sqrt((double)variance[i]), 1e-7); /* as Keras bounds it */
        at_text_add(&means, "%s%.9g", i ? "," : "", (double)mean[i]);
        at_text_add(&deviations, "%s%.9g", i ? "," : "", deviation);
    }
    if (rc == AT_OK && (means.failed || deviations.failed))
        rc = at_nomem(err);
    l->nonnegative = false;
    if (rc == AT_OK)
        rc = import_row(m, l, "", "normalize", NULL, err, "mean=%s deviation=%s", means.data,
                        deviations.data);
    at_text_fini(&means);
    at_text_fini(&deviations);
    return rc;
}

/* ---- windows -------------------------------------------------------------------------------- */
static int import_padding(importer *m, import_layer *l, at_error *err)
{
    (void)m;
    const at_node *padding = at_node_get(l->config, "padding");
    for (size_t i = 0; i < 2; i++)
        for (size_t k = 0; k < 2; k++) {
            const at_node *side =
                at_node_kind(padding) == AT_LIST ? at_node_at(padding, i) : padding;
            int64_t n = at_node_int(at_node_kind(side) == AT_LIST ? at_node_at(side, k) : side, -1);
            if (n < 0 || n > 65535)
                return import_refuse(l, err, "padding of %lld", (long long)n);
            l->pad[i][k] += n;
        }
    if (l->in.vector)
        return import_refuse(l, err, "its input is no map");
    l->padded = true;
    return AT_OK;
}

static void end_window(import_layer *l, const import_window *w, int64_t channels)
{
    l->out = (nn_shape){.c = channels, .h = w->out[0], .w = w->out[1]};
    l->padded = false;
    memset(l->pad, 0, sizeof l->pad);
}

/* out and groups are known; a window with uneven padding grows by zeros on the other side. */
static int add_convolution(importer *m, import_layer *l, int64_t out, int64_t groups, bool hwio,
                           at_error *err)
{
    import_window w;
    int rc = import_window_of(l, "kernel_size", &w, err);
    if (rc != AT_OK)
        return rc;
    keras_source source = {.layer = l->index, .hwio = hwio};
    int64_t pad[2], k[2];
    for (int i = 0; i < 2; i++) {
        int64_t uneven = w.behind[i] - w.before[i];
        pad[i] = uneven > 0 ? w.behind[i] : w.before[i];
        source.grown[i] = uneven > 0 ? uneven : -uneven;
        source.shift[i] = uneven > 0 ? uneven : 0;
        k[i] = w.k[i] + source.grown[i];
        if (uneven && w.dilation[i] > 1)
            return import_refuse(l, err, "uneven padding of a dilated window");
    }
    bool bias = at_node_bool(at_node_get(l->config, "use_bias"), true);
    l->nonnegative = false;
    rc = import_row(m, l, "", "conv", &source, err,
                    "out=%lld k=%lldx%lld stride=%lldx%lld pad=%lldx%lld dilation=%lldx%lld "
                    "groups=%lld bias=%d",
                    (long long)out, (long long)k[0], (long long)k[1], (long long)w.stride[0],
                    (long long)w.stride[1], (long long)pad[0], (long long)pad[1],
                    (long long)w.dilation[0], (long long)w.dilation[1], (long long)groups, bias);
    end_window(l, &w, out);
    return rc == AT_OK ? import_activation(m, l, at_node_get(l->config, "activation"), "_act", err)
                       : rc;
}

static int import_conv(importer *m, import_layer *l, at_error *err)
{
    int64_t out = at_node_int(at_node_get(l->config, "filters"), 0);
    return add_convolution(m, l, out, at_node_int(at_node_get(l->config, "groups"), 1), true, err);
}

static int import_depthwise(importer *m, import_layer *l, at_error *err)
{
    int64_t times = at_node_int(at_node_get(l->config, "depth_multiplier"), 1);
    if (times < 1 || times > 65535)
        return import_refuse(l, err, "depth_multiplier of %lld", (long long)times);
    return add_convolution(m, l, l->in.c * times, l->in.c, false, err);
}

/* Whether windows that begin `before` the map, up to the border or beyond it, are w's; *ceil: which.
 */
static bool fits_border(const import_layer *l, const import_window *w, bool *ceil)
{
    int64_t size[2] = {l->in.h, l->in.w};
    for (int c = 0; c < 2; c++) {
        bool fits = true;
        for (int i = 0; i < 2; i++) {
            int64_t room = size[i] + 2 * w->before[i] - w->k[i] + (c ? w->stride[i] - 1 : 0);
            int64_t steps = room < 0 ? 0 : room / w->stride[i] + 1;
            steps -= steps > 0 && (steps - 1) * w->stride[i] >= size[i] + w->before[i];
            fits &= steps == w->out[i];
        }
        *ceil = c;
        if (fits)
            return true;
    }
    return false;
}

static int add_pool(importer *m, import_layer *l, bool max, at_error *err)
{
    import_window w;
    bool ceil = false, even = true, padded = l->padded;
    int rc = import_window_of(l, "pool_size", &w, err);
    if (rc != AT_OK)
        return rc;
    for (int i = 0; i < 2; i++)
        even &= w.before[i] == w.behind[i];
    if (w.same && padded)
        return import_refuse(l, err, "padding 'same' behind a padding layer");
    if (max && padded && !l->nonnegative)
        return import_refuse(l, err, "a maximum with padding's zeros among values below zero");
    if (!fits_border(l, &w, &ceil) || (!max && padded && !even))
        return import_refuse(l, err, "its uneven padding");
    rc = import_row(m, l, "", "pool", NULL, err,
                    "kind=%s k=%lldx%lld stride=%lldx%lld pad=%lldx%lld ceil=%d count_pad=%d",
                    max ? "max" : "avg", (long long)w.k[0], (long long)w.k[1],
                    (long long)w.stride[0], (long long)w.stride[1], (long long)w.before[0],
                    (long long)w.before[1], ceil, max || !w.same);
    end_window(l, &w, l->in.c);
    return rc;
}

static int import_max_pool(importer *m, import_layer *l, at_error *err)
{
    return add_pool(m, l, true, err);
}

static int import_average_pool(importer *m, import_layer *l, at_error *err)
{
    return add_pool(m, l, false, err);
}

static int add_flatten(importer *m, import_layer *l, const char *suffix, at_error *err)
{
    l->scrambled |= !l->in.vector && l->out.h * l->out.w > 1;
    l->out = (nn_shape){.c = nn_elements(l->out), .h = 1, .w = 1, .vector = true};
    return import_row(m, l, suffix, "flatten", NULL, err, "%s", "");
}

static int add_global(importer *m, import_layer *l, const char *kind, at_error *err)
{
    if (l->in.vector)
        return import_refuse(l, err, "its input is no map");
    int rc = import_row(m, l, "", "pool", NULL, err, "kind=%s k=global", kind);
    l->out = (nn_shape){.c = l->in.c, .h = 1, .w = 1};
    bool keeps = at_node_bool(at_node_get(l->config, "keepdims"), false);
    return rc == AT_OK && !keeps ? add_flatten(m, l, "_flat", err) : rc;
}

static int import_global_average(importer *m, import_layer *l, at_error *err)
{
    return add_global(m, l, "avg", err);
}

static int import_global_max(importer *m, import_layer *l, at_error *err)
{
    return add_global(m, l, "max", err);
}

/* ---- the others ----------------------------------------------------------------------------- */
static int import_dense(importer *m, import_layer *l, at_error *err)
{
    int64_t out = at_node_int(at_node_get(l->config, "units"), 0);
    if (!l->in.vector)
        return import_refuse(l, err, "on a map that is not flattened");
    bool bias = at_node_bool(at_node_get(l->config, "use_bias"), true);
    int rc = import_row(m, l, "", "dense", &(keras_source){.layer = l->index}, err,
                        "out=%lld bias=%d", (long long)out, bias);
    l->out = (nn_shape){.c = out, .h = 1, .w = 1, .vector = true};
    l->nonnegative = l->scrambled = false;
    return rc == AT_OK ? import_activation(m, l, at_node_get(l->config, "activation"), "_act", err)
                       : rc;
}

/* The last axis, written in any way. */
static bool is_last_axis(const import_layer *l, const at_node *axis)
{
    int64_t last = l->in.vector ? 1 : 3;
    int64_t n = at_node_int(at_node_kind(axis) == AT_LIST ? at_node_at(axis, 0) : axis, -1);
    return n == -1 || n == last;
}

static int import_batch_norm(importer *m, import_layer *l, at_error *err)
{
    keras_source source = {.layer = l->index};
    if (!is_last_axis(l, at_node_get(l->config, "axis")))
        return import_refuse(l, err, "on another axis than the channels'");
    source.absent[0] = !at_node_bool(at_node_get(l->config, "scale"), true);
    source.absent[1] = !at_node_bool(at_node_get(l->config, "center"), true);
    l->nonnegative = false;
    return import_row(m, l, "", "bn", &source, err, "eps=%.17g momentum=%.17g",
                      at_node_real(at_node_get(l->config, "epsilon"), 1e-3),
                      1 - at_node_real(at_node_get(l->config, "momentum"), 0.99));
}

static int import_dropout(importer *m, import_layer *l, at_error *err)
{
    return import_row(m, l, "", "dropout", NULL, err, "p=%.17g",
                      at_node_real(at_node_get(l->config, "rate"), 0));
}

static int import_flatten(importer *m, import_layer *l, at_error *err)
{
    return add_flatten(m, l, "", err);
}

static int import_add(importer *m, import_layer *l, at_error *err)
{
    return import_row(m, l, "", "add", NULL, err, "%s", "");
}

static int import_concat(importer *m, import_layer *l, at_error *err)
{
    if (!is_last_axis(l, at_node_get(l->config, "axis")))
        return import_refuse(l, err, "on another axis than the channels'");
    l->out.c = 0;
    for (size_t i = 0; i < l->from_count; i++) {
        l->out.c += m->layers[l->from[i]].out.c;
        if (m->layers[l->from[i]].scrambled)
            return import_refuse(l, err, "maps that were flattened before they are joined");
    }
    return import_row(m, l, "", "concat", NULL, err, "%s", "");
}

static int import_activation_layer(importer *m, import_layer *l, at_error *err)
{
    return import_activation(m, l, at_node_get(l->config, "activation"), "", err);
}

static int import_relu(importer *m, import_layer *l, at_error *err)
{
    const at_node *slope = at_node_get(l->config, "negative_slope");
    const at_node *most = at_node_get(l->config, "max_value");
    if (at_node_real(slope, 0) != 0 || at_node_kind(most) > AT_NULL ||
        at_node_real(at_node_get(l->config, "threshold"), 0) != 0)
        return import_refuse(l, err, "with a slope, a threshold or a largest value");
    l->nonnegative = true;
    l->activation = "relu";
    return import_row(m, l, "", "relu", NULL, err, "%s", "");
}

static int import_softmax(importer *m, import_layer *l, at_error *err)
{
    (void)m;
    if (!is_last_axis(l, at_node_get(l->config, "axis")))
        return import_refuse(l, err, "on another axis than the classes'");
    l->softmax = true;
    return AT_OK;
}

static const import_rule rules[] = {
    {"InputLayer", import_input, .source = true},
    {"Rescaling", import_rescaling},
    {"Normalization", import_normalization},
    {"ZeroPadding2D", import_padding, .window = true},
    {"Conv2D", import_conv, .window = true},
    {"DepthwiseConv2D", import_depthwise, .window = true},
    {"MaxPooling2D", import_max_pool, .window = true},
    {"AveragePooling2D", import_average_pool, .window = true},
    {"GlobalAveragePooling2D", import_global_average},
    {"GlobalMaxPooling2D", import_global_max},
    {"BatchNormalization", import_batch_norm},
    {"Dropout", import_dropout},
    {"Flatten", import_flatten},
    {"Dense", import_dense},
    {"Add", import_add, .merges = true},
    {"Concatenate", import_concat, .merges = true},
    {"Activation", import_activation_layer},
    {"ReLU", import_relu},
    {"Softmax", import_softmax},
};

const import_rule *import_rule_for(const char *class)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (strcmp(rules[i].class, class) == 0)
            return &rules[i];
    return NULL;
}
