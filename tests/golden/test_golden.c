/* SPDX-License-Identifier: Apache-2.0
 * ctest: timeout=600
 * lenet and airnet against PyTorch: logits, every parameter's gradient, the losses of ten steps of
 * SGD with Nesterov momentum, and the logits of an inference after them (which shows the moving
 * statistics). The vectors, and what lies in their files, are explained in make_torch.py.
 *
 * A tensor agrees where no value is further from PyTorch's than 1e-4 of the tensor's largest
 * magnitude.
 */
#include "recipe.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const double tolerance = 1e-4;

/* One file's net, batch and plan. */
typedef struct golden {
    at_h5 *file;
    int batch, channels, height, width, classes, steps;
    double rate, momentum;
    at_net *net;
    at_plan *train, *infer;
    uint8_t *pixels;
    int32_t *labels;
    size_t compared;
    double worst; /* the largest error yet, as a share of what is allowed */
} golden;

static void check(int rc, const at_error *err)
{
    if (rc != AT_OK)
        fail_msg("%s", err->message);
}

static float *read_floats(golden *g, const char *name, size_t count)
{
    at_error err = {0};
    float *data = malloc(count * sizeof *data);
    assert_non_null(data);
    check(at_h5_read_floats(g->file, name, data, count, &err), &err);
    return data;
}

static void compare(golden *g, const char *what, const float *ours, size_t stride,
                    const float *theirs, size_t n, double largest)
{
    for (size_t i = 0; i < n; i++) {
        double error = fabs((double)ours[i * stride] - (double)theirs[i]) / (tolerance * largest);
        if (!(error <= 1))
            fail_msg("%s[%zu]: %.9g, PyTorch has %.9g; largest magnitude %.9g", what, i * stride,
                     (double)ours[i * stride], (double)theirs[i], largest);
        g->worst = error > g->worst ? error : g->worst;
    }
    g->compared += n;
}

static double largest_of(const float *values, size_t n)
{
    double largest = 0;
    for (size_t i = 0; i < n; i++)
        largest = fmax(largest, fabs((double)values[i]));
    return largest;
}

static void compare_whole(golden *g, const char *name, const float *ours, size_t n)
{
    float *theirs = read_floats(g, name, n);
    compare(g, name, ours, 1, theirs, n, largest_of(theirs, n));
    free(theirs);
}

static void open_golden(golden *g, const char *name)
{
    at_error err = {0};
    const char *source = getenv("ATOLL_SOURCE");
    char *path = at_format("%s/tests/golden/%s.h5", source ? source : ".", name);
    *g = (golden){.file = at_h5_open(path, &err)};
    free(path);
    check(g->file ? AT_OK : err.code, &err);
    float *config = read_floats(g, "config", 8);
    g->batch = (int)config[0];
    g->channels = (int)config[1];
    g->height = (int)config[2];
    g->width = (int)config[3];
    g->classes = (int)config[4];
    g->steps = (int)config[5];
    g->rate = round((double)config[6] * 1e6) / 1e6; /* it was float32 in the file */
    g->momentum = round((double)config[7] * 1e6) / 1e6;
    free(config);
}

/* Also shows that the recipe here is the script's. */
static void make_batch(golden *g)
{
    size_t count = (size_t)g->batch * (size_t)(g->height * g->width * g->channels);
    g->pixels = recipe_pixels(count);
    g->labels = recipe_labels((size_t)g->batch, g->classes);
    float *pixels = read_floats(g, "pixels", count);
    float *labels = read_floats(g, "labels", (size_t)g->batch);
    for (size_t i = 0; i < count; i++)
        assert_true(pixels[i] == (float)g->pixels[i]);
    for (int i = 0; i < g->batch; i++)
        assert_true(labels[i] == (float)g->labels[i]);
    free(pixels);
    free(labels);
}

static void make_net(golden *g, const char *model)
{
    at_error err = {0};
    at_model_spec spec = {
        .classes = g->classes, .channels = g->channels, .height = g->height, .width = g->width};
    at_graph *graph = at_model_graph(model, &spec, &err);
    g->net = graph ? at_net_new(graph, 1, &err) : NULL;
    at_graph_free(graph);
    check(g->net ? AT_OK : err.code, &err);
    recipe_weights(g->net);
    at_plan_options options = {.batch = g->batch, .training = true};
    g->train = at_plan_new(g->net, &options, &err);
    options.training = false;
    g->infer = g->train ? at_plan_new(g->net, &options, &err) : NULL;
    check(g->infer ? AT_OK : err.code, &err);
}

static void compare_gradients(golden *g)
{
    size_t listed = at_net_params_listed(g->net), values = 0;
    for (size_t i = 0; i < listed; i++) {
        const at_param *p = at_net_param(g->net, i);
        const float *ours = at_net_grads(g->net) + p->offset;
        char name[128];
        snprintf(name, sizeof name, "about/%s/%s", p->layer, p->name);
        float *about = read_floats(g, name, 4);
        size_t stride = (size_t)about[1], n = (p->count + stride - 1) / stride;
        assert_int_equal((size_t)about[0], p->count);
        snprintf(name, sizeof name, "grads/%s/%s", p->layer, p->name);
        float *theirs = read_floats(g, name, n);
        compare(g, name, ours, stride, theirs, n, (double)about[2]);
        double squares = 0;
        for (size_t k = 0; k < p->count; k++)
            squares += (double)ours[k] * (double)ours[k];
        float norm = (float)sqrt(squares);
        compare(g, name, &norm, 1, about + 3, 1, (double)about[3]);
        values += n;
        free(about);
        free(theirs);
    }
    print_message("%zu gradients, %zu of %zu values\n", listed, values, at_net_param_count(g->net));
}

/* PyTorch's SGD with nesterov=True: v = m v + g; w -= rate (g + m v). */
static void step(golden *g, float *velocity)
{
    float *weights = at_net_params(g->net);
    const float *grads = at_net_grads(g->net);
    for (size_t i = 0; i < at_net_param_count(g->net); i++) {
        velocity[i] = (float)(g->momentum * (double)velocity[i] + (double)grads[i]);
        weights[i] -= (float)(g->rate * ((double)grads[i] + g->momentum * (double)velocity[i]));
    }
}

static void train(golden *g, const at_plan_input *in)
{
    at_error err = {0};
    size_t logits = (size_t)(g->batch * g->classes);
    float *velocity = calloc(at_net_param_count(g->net), sizeof *velocity);
    float *losses = calloc((size_t)g->steps, sizeof *losses);
    assert_true(velocity && losses);
    for (int i = 0; i < g->steps; i++) {
        at_plan_stats stats = {0};
        check(at_plan_train(g->train, in, &stats, &err), &err);
        assert_int_equal(stats.samples, g->batch);
        losses[i] = (float)(stats.loss_sum / g->batch);
        if (i == 0) {
            compare_whole(g, "logits", at_plan_logits(g->train), logits);
            compare_gradients(g);
        }
        step(g, velocity);
    }
    float *theirs = read_floats(g, "losses", (size_t)g->steps);
    for (int i = 0; i < g->steps; i++)
        compare(g, "losses", losses + i, 1, theirs + i, 1, (double)theirs[i]);
    free(theirs);
    check(at_plan_infer(g->infer, in, &(at_plan_stats){0}, &err), &err);
    compare_whole(g, "logits_after", at_plan_logits(g->infer), logits);
    free(velocity);
    free(losses);
}

static void test_model(const char *file, const char *model, size_t at_least)
{
    golden g;
    open_golden(&g, file);
    make_batch(&g);
    make_net(&g, model);
    train(&g,
          &(at_plan_input){.pixels = g.pixels, .labels = g.labels, .scale = 1 / (float)g.batch});
    print_message("%s: %zu values compared, the worst at %.3f of what is allowed\n", file,
                  g.compared, g.worst);
    assert_true(g.compared >= at_least);
    at_plan_free(g.train);
    at_plan_free(g.infer);
    at_net_free(g.net);
    free(g.pixels);
    free(g.labels);
    assert_int_equal(at_h5_close(g.file, NULL), AT_OK);
}

static void test_lenet(void **state)
{
    (void)state;
    test_model("lenet", "lenet", 29000);
}

static void test_lenet_of_colour_32(void **state)
{
    (void)state;
    test_model("lenet32", "lenet", 29000);
}

static void test_airnet(void **state)
{
    (void)state;
    test_model("airnet", "airnet", 95000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lenet),
        cmocka_unit_test(test_lenet_of_colour_32),
        cmocka_unit_test(test_airnet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
