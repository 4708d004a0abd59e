/* SPDX-License-Identifier: Apache-2.0
 * ctest: timeout=600
 * Every family of models against PyTorch: logits, every parameter's gradient, the losses of ten
 * steps of SGD with Nesterov momentum, and the logits of an inference after them (which shows the
 * moving statistics). The vectors, and what lies in their files, are explained in make_torch.py.
 * Dropout is switched off by its own attribute.
 *
 * A tensor agrees where no value is further from PyTorch's than 1e-4 of the tensor's largest
 * magnitude and twice its drift there (see make_torch.py), and where all differences together are
 * at most a twentieth of the tensor, in Euclidean norm.
 */
#include "recipe.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const double tolerance = 1e-4, most_together = 0.05;

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

typedef struct golden_case {
    const char *file, *model;
    size_t at_least; /* so many values are compared */
} golden_case;

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

/* What the file tells of a tensor. */
typedef struct about {
    size_t count, stride;
    double largest, norm, drift, drift_of_norm;
} about;

static about read_about(golden *g, const char *name)
{
    char *path = at_format("about/%s", name);
    float *f = read_floats(g, path, 6);
    about a = {(size_t)f[0], (size_t)f[1], (double)f[2], (double)f[3], (double)f[4], (double)f[5]};
    free(f);
    free(path);
    return a;
}

static void compare(golden *g, const char *what, size_t at, double ours, double theirs,
                    double allowed)
{
    double error = fabs(ours - theirs) / allowed;
    if (!(error <= 1))
        fail_msg("%s[%zu]: %.9g, PyTorch has %.9g; %.3g is allowed", what, at, ours, theirs,
                 allowed);
    g->worst = error > g->worst ? error : g->worst;
    g->compared++;
}

/* Ours are `count` values, of which the file has every stride-th. */
static void compare_tensor(golden *g, const char *name, const float *ours, size_t count)
{
    about a = read_about(g, name);
    assert_int_equal(a.count, count);
    float *theirs = read_floats(g, name, (count + a.stride - 1) / a.stride);
    double allowed = tolerance * a.largest + 2 * a.drift, squares = 0;
    double whole = 0, difference = 0;
    for (size_t i = 0; i < count; i += a.stride) {
        double x = (double)ours[i], y = (double)theirs[i / a.stride];
        compare(g, name, i, x, y, allowed);
        difference += (x - y) * (x - y);
        whole += y * y;
    }
    if (difference > most_together * most_together * whole)
        fail_msg("%s: differences add up to %.3g, the tensor to %.3g", name, sqrt(difference),
                 sqrt(whole));
    for (size_t i = 0; i < count; i++)
        squares += (double)ours[i] * (double)ours[i];
    compare(g, name, count, sqrt(squares), a.norm, tolerance * a.norm + 2 * a.drift_of_norm);
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

/* The model's rows with p=0 for each dropout. */
static at_graph *without_dropout(const at_graph *from)
{
    at_graph *g = at_graph_new();
    for (size_t i = 0; i < at_graph_rows(from); i++) {
        at_row r = at_graph_row(from, i);
        bool drops = !strcmp(r.layer, "dropout");
        at_graph_add(g, r.name, r.layer, r.inputs, "%s", drops ? "p=0" : r.attrs);
    }
    return g;
}

static void make_net(golden *g, const char *model)
{
    at_error err = {0};
    at_model_spec spec = {
        .classes = g->classes, .channels = g->channels, .height = g->height, .width = g->width};
    at_graph *rows = at_model_graph(model, &spec, &err);
    at_graph *graph = rows ? without_dropout(rows) : NULL;
    g->net = graph ? at_net_new(graph, 1, &err) : NULL;
    at_graph_free(rows);
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
    size_t listed = at_net_params_listed(g->net), before = g->compared;
    for (size_t i = 0; i < listed; i++) {
        const at_param *p = at_net_param(g->net, i);
        char name[128];
        snprintf(name, sizeof name, "grads/%s/%s", p->layer, p->name);
        compare_tensor(g, name, at_net_grads(g->net) + p->offset, p->count);
    }
    print_message("%zu gradients, %zu of %zu values\n", listed, g->compared - before,
                  at_net_param_count(g->net));
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
            compare_tensor(g, "logits", at_plan_logits(g->train), logits);
            compare_gradients(g);
        }
        step(g, velocity);
    }
    compare_tensor(g, "losses", losses, (size_t)g->steps);
    check(at_plan_infer(g->infer, in, &(at_plan_stats){0}, &err), &err);
    compare_tensor(g, "logits_after", at_plan_logits(g->infer), logits);
    free(velocity);
    free(losses);
}

static void test_model(void **state)
{
    const golden_case *c = *state;
    golden g;
    open_golden(&g, c->file);
    make_batch(&g);
    make_net(&g, c->model);
    train(&g,
          &(at_plan_input){.pixels = g.pixels, .labels = g.labels, .scale = 1 / (float)g.batch});
    print_message("%s: %zu values compared, the worst at %.3f of what is allowed\n", c->file,
                  g.compared, g.worst);
    assert_true(g.compared >= c->at_least);
    at_plan_free(g.train);
    at_plan_free(g.infer);
    at_net_free(g.net);
    free(g.pixels);
    free(g.labels);
    assert_int_equal(at_h5_close(g.file, NULL), AT_OK);
}

int main(void)
{
    static golden_case cases[] = {
        {"lenet", "lenet", 29000},       {"lenet32", "lenet", 29000},
        {"airnet", "airnet", 95000},     {"alexnet", "alexnet", 25000},
        {"zfnet", "zfnet", 25000},       {"googlenet", "googlenet", 70000},
        {"vgg11", "vgg11", 50000},       {"vgg16-bn", "vgg16-bn", 60000},
        {"resnet20", "resnet20", 60000}, {"resnet18", "resnet18", 45000},
        {"resnet50", "resnet50", 90000},
    };
    enum { CASES = sizeof cases / sizeof *cases };
    struct CMUnitTest tests[CASES];
    for (size_t i = 0; i < CASES; i++)
        tests[i] = (struct CMUnitTest){cases[i].file, test_model, NULL, NULL, &cases[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
