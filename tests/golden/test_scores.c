/* SPDX-License-Identifier: Apache-2.0
 * ctest: timeout=600
 * Saved models with every kind of row, and the scores that they give: loaded back they give the
 * same bits. With ATOLL_ARTEFACTS=DIR it leaves NAME.h5 (the model) and NAME.scores.h5 (pixels
 * [N,H,W,C], logits and scores [N,K]) there, which test_keras.py holds against Keras.
 */
#include "recipe.h"
#include "scratch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BATCH = 16 };

static char *dir;        /* where files go */
static bool keep = true; /* they are asked for */

static int setup(void **state)
{
    (void)state;
    const char *asked = getenv("ATOLL_ARTEFACTS");
    keep = asked != NULL;
    dir = keep ? strdup(asked) : scratch_new();
    return dir ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    if (keep)
        free(dir);
    else
        scratch_free(dir);
    return 0;
}

static void check(bool good, const at_error *err)
{
    if (!good)
        fail_msg("%s", err->message);
}

/* Logits, then scores: [2,BATCH,K]; malloc'd. */
static float *infer(at_net *net, const uint8_t *pixels)
{
    at_error err = {0};
    size_t n = (size_t)BATCH * (size_t)at_net_classes(net);
    float *out = malloc(2 * n * sizeof *out);
    at_plan *plan = at_plan_new(net, &(at_plan_options){.batch = BATCH}, &err);
    check(plan && out, &err);
    at_plan_stats stats = {0};
    check(at_plan_infer(plan, &(at_plan_input){.pixels = pixels}, &stats, &err) == AT_OK, &err);
    memcpy(out, at_plan_logits(plan), n * sizeof *out);
    memcpy(out + n, at_plan_scores(plan), n * sizeof *out);
    at_plan_free(plan);
    return out;
}

static void write_scores(const char *name, const at_net *net, const uint8_t *pixels,
                         const float *out)
{
    at_error err = {0};
    int c, h, w, classes = at_net_classes(net);
    at_net_input_shape(net, &c, &h, &w);
    size_t count = (size_t)BATCH * (size_t)(c * h * w);
    float *as_floats = malloc(count * sizeof *as_floats);
    for (size_t i = 0; i < count; i++)
        as_floats[i] = pixels[i];
    char *path = at_format("%s/%s.scores.h5", dir, name);
    at_h5 *file = at_h5_create(path, &err);
    check(file != NULL, &err);
    const int64_t image[] = {BATCH, h, w, c}, row[] = {BATCH, classes};
    check(at_h5_write_floats(file, "pixels", as_floats, 4, image, &err) == AT_OK, &err);
    check(at_h5_write_floats(file, "logits", out, 2, row, &err) == AT_OK, &err);
    check(at_h5_write_floats(file, "scores", out + BATCH * classes, 2, row, &err) == AT_OK, &err);
    check(at_h5_close(file, &err) == AT_OK, &err);
    free(path);
    free(as_floats);
}

static void save(const char *name, at_net *net, const char *path)
{
    at_error err = {0};
    char text[16][32], *classes[16];
    at_model_info info = {.model = (char *)name, .classes = classes};
    info.class_count = (size_t)at_net_classes(net);
    for (size_t i = 0; i < info.class_count; i++) {
        snprintf(text[i], sizeof text[i], "class %zu", i);
        classes[i] = text[i];
    }
    check(at_model_save(net, &info, path, &err) == AT_OK, &err);
}

/* Scales the last layer so that the largest logit is 3: scores of all 0 or 1 would show little. */
static void soften(at_net *net, const uint8_t *pixels)
{
    float *logits = infer(net, pixels), largest = 0;
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
    check(net != NULL, &err);
    at_graph_free(g);
    recipe_weights(net);
    recipe_state(net);
    int c, h, w;
    at_net_input_shape(net, &c, &h, &w);
    uint8_t *pixels = recipe_pixels((size_t)BATCH * (size_t)(c * h * w));
    soften(net, pixels);
    char *path = at_format("%s/%s.h5", dir, name);
    save(name, net, path);
    float *out = infer(net, pixels);
    at_net *back = at_model_load(path, NULL, &err);
    check(back != NULL, &err);
    float *again = infer(back, pixels);
    assert_memory_equal(out, again, 2 * sizeof(float) * BATCH * (size_t)at_net_classes(net));
    if (keep)
        write_scores(name, net, pixels, out);
    free(path);
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
    check(g != NULL, &err);
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
    check(net != NULL, &err);
    char *classes[] = {"a", "b", "c"}, *path = at_path_join(dir, "none.h5");
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
    return cmocka_run_group_tests(tests, setup, teardown);
}
