/* SPDX-License-Identifier: Apache-2.0
 * Every row of layers.def, with each of its probes, in bf16: inside a small network its own
 * parameters' gradients, and those of a convolution before it, which come through its input's
 * gradient, point where the fp32 ones do and are as long. oneDNN emulates bf16 on AVX-512.
 * ctest: timeout=600
 */
#include "../../nn/plan.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BATCH = 16, CLASSES = 7, PIXELS = 3 * 6 * 7 };
static const double least_cosine = 0.98, most_longer = 0.1;

static at_net *net_of(const at_layer *layer, const char *probe, bool vector)
{
    at_error err = {0};
    at_graph *g = at_graph_new();
    bool several = layer->inputs_min == 2;
    at_graph_add(g, "data", "input", "", "channels=3 height=6 width=7");
    at_graph_add(g, "rescale", "rescale", "data", "scale=0.02 offset=-2");
    at_graph_add(g, "pre", "conv", "rescale", "out=5 k=2");
    if (several)
        at_graph_add(g, "second", "conv", "rescale", "out=5 k=2");
    if (vector)
        at_graph_add(g, "flat", "flatten", "pre", "%s", "");
    at_graph_add(g, "x", layer->name,
                 vector    ? "flat"
                 : several ? "pre second"
                           : "pre",
                 "%s", probe);
    if (layer != &at_layer_softmax_loss) {
        at_graph_add(g, "flatten", "flatten", "x", "%s", "");
        at_graph_add(g, "logits", "dense", "flatten", "out=%d", CLASSES);
        at_graph_add(g, "loss", "softmax_loss", "logits", "%s", "");
    }
    at_net *net = at_net_new(g, 5, &err);
    at_graph_free(g);
    return net;
}

/* One step's gradients; malloc'd. */
static float *gradients(at_net *net, at_precision precision)
{
    static uint8_t pixels[BATCH * PIXELS];
    static int32_t labels[BATCH];
    at_error err = {0};
    at_rng rng = at_rng_stream(4, "pixels", 0);
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)at_rng_next(&rng);
    for (int i = 0; i < BATCH; i++)
        labels[i] = i % CLASSES;
    at_plan_options o = {
        .batch = BATCH, .precision = precision, .training = true, .threads = 2, .seed = 9};
    at_plan *p = plan_new_unchecked(net, &o, &err);
    at_plan_input in = {.pixels = pixels, .labels = labels, .scale = 1.0f / BATCH};
    if (!p || at_plan_train(p, &in, NULL, &err))
        fail_msg("%s", err.message);
    size_t bytes = at_net_param_count(net) * sizeof(float);
    float *copy = malloc(bytes);
    assert_non_null(copy);
    memcpy(copy, at_net_grads(net), bytes);
    at_plan_free(p);
    return copy;
}

static void compare(const at_layer *layer, const char *probe, const at_param *p, const float *wide,
                    const float *half)
{
    double product = 0, length = 0, other = 0;
    for (size_t i = p->offset; i < p->offset + p->count; i++) {
        product += (double)wide[i] * (double)half[i];
        length += (double)wide[i] * (double)wide[i];
        other += (double)half[i] * (double)half[i];
    }
    double cosine = product / sqrt(length * other), longer = sqrt(other / length) - 1;
    if (!(cosine > least_cosine && fabs(longer) < most_longer))
        fail_msg("%s %s: the gradient of %s/%s has cosine %g and is longer by %g", layer->name,
                 probe, p->layer, p->name, cosine, longer);
}

/* The number of gradients compared. */
static int check_layer(const at_layer *layer, const char *probe)
{
    at_net *net = net_of(layer, probe, false);
    if (!net)
        net = net_of(layer, probe, true);
    assert_non_null(net);
    float *wide = gradients(net, AT_FP32), *half = gradients(net, AT_BF16);
    int compared = 0;
    for (size_t i = 0; i < at_net_params_listed(net); i++) {
        const at_param *p = at_net_param(net, i);
        bool before = !strcmp(p->layer, "pre") && !strcmp(p->name, "kernel");
        if (!before && strcmp(p->layer, "x") != 0)
            continue;
        compare(layer, probe, p, wide, half);
        compared++;
    }
    free(wide);
    free(half);
    at_net_free(net);
    return compared;
}

static void test_every_row(void **state)
{
    (void)state;
    if (dnn_isa_allowed() < DNN_AVX512) {
        print_message("no AVX-512: oneDNN has no bf16 here\n");
        skip();
    }
    int rows = 0, compared = 0;
    for (size_t i = 0; i < nn_layer_count(); i++) {
        const at_layer *layer = nn_layer_at(i);
        for (int k = 0; k < NN_PROBES && layer->probes[k] && !layer->pixels; k++, rows++)
            compared += check_layer(layer, layer->probes[k]);
    }
    assert_true(compared >= rows);
    print_message("%d rows, %d gradients compared\n", rows, compared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_row)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
