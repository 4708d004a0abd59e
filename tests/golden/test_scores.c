/* SPDX-License-Identifier: Apache-2.0
 * ctest: timeout=600
 * Saved models with every kind of row, and the scores that they give: loaded back they give the
 * same bits. With ATOLL_ARTEFACTS=DIR it leaves NAME.h5 (the model) and NAME.scores.h5 (pixels
 * [N,H,W,C], logits and scores [N,K]) there, which test_keras.py holds against Keras.
 */
#include "artefacts.h"
#include "recipe.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BATCH = 16 };

/* Scales the last layer so that the largest logit is 3: scores of all 0 or 1 would show little. */
static void soften(at_net *net, const uint8_t *pixels)
{
    float *logits = artefacts_infer(net, pixels, BATCH, BATCH), largest = 0;
    for (int i = 0; i < BATCH * at_net_classes(net); i++)
        largest = fmaxf(largest, fabsf(logits[i]));
    for (size_t i = 0; i < at_net_params_listed(net); i++) {
        const at_param *p = at_net_param(net, i);
        for (size_t k = 0; strcmp(p->layer, "logits") == 0 && k < p->count; k++)
            at_net_params(net)[p->offset + k] *= 3 / largest;
    }
    free(logits);
}

/* Saves, scores, loads and scores again. Frees g. */
static void show(const char *name, at_graph *g)
{
    at_error err = {0};
    at_net *net = g ? at_net_new(g, 1, &err) : NULL;
    must(net != NULL, &err);
    at_graph_free(g);
    recipe_weights(net);
    recipe_state(net);
    uint8_t *pixels = recipe_pixels(BATCH * artefacts_pixels(net));
    soften(net, pixels);
    char *file = at_format("%s.h5", name), *path = artefacts_path(file);
    at_model_info info = artefacts_info(name, net);
    must(at_model_save(net, &info, path, &err) == AT_OK, &err);
    float *out = artefacts_infer(net, pixels, BATCH, BATCH);
    at_net *back = at_model_load(path, NULL, &err);
    must(back != NULL, &err);
    float *again = artefacts_infer(back, pixels, BATCH, BATCH);
    assert_memory_equal(out, again, 2 * sizeof(float) * BATCH * (size_t)at_net_classes(net));
    if (artefacts_wanted())
        artefacts_write_scores(name, net, pixels, out, BATCH);
    artefacts_info_fini(&info);
    free(path);
    free(file);
    free(pixels);
    free(out);
    free(again);
    at_net_free(back);
    at_net_free(net);
}

static void show_model(const char *name, const char *model, int channels, int size)
{
    const float mean[] = {0.49f, 0.48f, 0.45f}, deviation[] = {0.25f, 0.24f, 0.26f};
    at_error err = {0};
    at_model_spec spec = {.classes = 10,
                          .channels = channels,
                          .height = size,
                          .width = size,
                          .mean = mean,
                          .deviation = deviation};
    at_graph *g = at_model_graph(model, &spec, &err);
    must(g != NULL, &err);
    show(name, g);
}

static void test_lenet(void **state)
{
    (void)state;
    show_model("lenet", "lenet", 1, 28);
    show_model("lenet32", "lenet", 3, 32);
}

static void test_airnet(void **state)
{
    (void)state;
    show_model("airnet", "airnet", 3, 32);
    show_model("airnet64", "airnet", 3, 64); /* a flattened map of more than a pixel */
}

/* Windows, strides and paddings that the models do not have; an image that is not square; batch
 * normalisation after flattening, where Keras's order of features is another. */
static void test_other_rows(void **state)
{
    (void)state;
    at_graph *g = at_graph_new();
    at_graph_add(g, "data", "input", "", "channels=3 height=31 width=22");
    at_graph_add(g, "rescale", "rescale", "data", "scale=0.0078125 offset=-1");
    at_graph_add(g, "c1", "conv", "rescale", "out=8 k=3x5 stride=2x1 pad=1x2 bias=1");
    at_graph_add(g, "n1", "bn", "c1", "eps=1e-3 momentum=0.25");
    at_graph_add(g, "r1", "relu", "n1", "%s", "");
    at_graph_add(g, "p1", "pool", "r1", "kind=max k=3 stride=2 pad=1");
    at_graph_add(g, "c2", "conv", "p1", "out=7 k=3 stride=1 pad=1 bias=0");
    at_graph_add(g, "p2", "pool", "c2", "kind=max k=3 stride=1 pad=1");
    at_graph_add(g, "g1", "gelu", "p2", "%s", "");
    at_graph_add(g, "p3", "pool", "g1", "kind=avg k=2 stride=2 pad=1");
    at_graph_add(g, "flat", "flatten", "p3", "%s", "");
    at_graph_add(g, "r2", "relu", "flat", "%s", "");
    at_graph_add(g, "n2", "bn", "r2", "eps=1e-5 momentum=0.1");
    at_graph_add(g, "drop", "dropout", "n2", "p=0.5");
    at_graph_add(g, "d1", "dense", "drop", "out=20 bias=1");
    at_graph_add(g, "n3", "bn", "d1", "eps=1e-5 momentum=0.1");
    at_graph_add(g, "g2", "gelu", "n3", "%s", "");
    at_graph_add(g, "logits", "dense", "g2", "out=5 bias=0");
    at_graph_add(g, "loss", "softmax_loss", "logits", "%s", "");
    show("other", g);
}

/* What would mean something else in Keras is refused when it is saved, and named. */
static void test_not_in_keras(void **state)
{
    (void)state;
    at_error err = {0};
    at_graph *g = at_graph_new();
    at_graph_add(g, "data", "input", "", "channels=1 height=8 width=8");
    at_graph_add(g, "c1", "conv", "data", "out=4 k=3 stride=1 pad=1 bias=1");
    at_graph_add(g, "c2", "conv", "data", "out=4 k=3 stride=1 pad=1 bias=1");
    at_graph_add(g, "f1", "flatten", "c1", "%s", "");
    at_graph_add(g, "f2", "flatten", "c2", "%s", "");
    at_graph_add(g, "both", "concat", "f1 f2", "%s", "");
    at_graph_add(g, "d1", "dense", "both", "out=3 bias=1");
    at_graph_add(g, "loss", "softmax_loss", "d1", "%s", "");
    at_net *net = at_net_new(g, 1, &err);
    must(net != NULL, &err);
    char *classes[] = {"a", "b", "c"}, *path = artefacts_path("none.h5");
    at_model_info info = {.model = "none", .classes = classes, .class_count = 3};
    assert_int_equal(at_model_save(net, &info, path, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, "row 'both'"));
    assert_false(at_file_exists(path));
    free(path);
    at_net_free(net);
    at_graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lenet),
        cmocka_unit_test(test_airnet),
        cmocka_unit_test(test_other_rows),
        cmocka_unit_test(test_not_in_keras),
    };
    return cmocka_run_group_tests(tests, artefacts_setup, artefacts_teardown);
}
