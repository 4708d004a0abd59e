/* SPDX-License-Identifier: Apache-2.0
 * ctest: once
 * Built-in models: their sizes are the published ones, they take every image size that they say
 * they take, and their rows survive being written as text. */
#include "../../nn/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static at_model_spec of_size(int channels, int height, int width)
{
    return (at_model_spec){.classes = 10, .channels = channels, .height = height, .width = width};
}

static at_net *make(const char *model, at_model_spec spec)
{
    at_error err = {0};
    at_graph *g = at_model_graph(model, &spec, &err);
    at_net *net = g ? nn_net_resolve(g, &err) : NULL; /* without memory for weights */
    at_graph_free(g);
    if (!net)
        fail_msg("%s on %dx%dx%d: %s", model, spec.channels, spec.height, spec.width, err.message);
    return net;
}

static size_t parameters(const char *model, at_model_spec spec)
{
    at_net *net = make(model, spec);
    size_t count = at_net_param_count(net);
    int channels, height, width;
    at_net_input_shape(net, &channels, &height, &width);
    assert_true(channels == spec.channels && height == spec.height && width == spec.width);
    assert_int_equal(at_net_classes(net), spec.classes);
    at_net_free(net);
    return count;
}

static void test_published_sizes(void **state)
{
    (void)state;
    assert_int_equal(parameters("lenet", of_size(1, 32, 32)), 61706);
    assert_int_equal(parameters("lenet", of_size(1, 28, 28)), 61706);
    assert_int_equal(parameters("lenet", of_size(3, 32, 32)), 62006);
    assert_int_equal(parameters("airnet", of_size(3, 32, 32)), 1972792);
    static const struct {
        const char *model;
        size_t parameters;
    } imagenet[] = {
        {"vgg11", 132863336},    {"vgg11-bn", 132868840}, {"vgg13", 133047848},
        {"vgg13-bn", 133053736}, {"vgg16", 138357544},    {"vgg16-bn", 138365992},
        {"vgg19", 143667240},    {"vgg19-bn", 143678248}, {"resnet18", 11689512},
        {"resnet34", 21797672},  {"resnet50", 25557032},  {"alexnet", 61100840},
        {"zfnet", 62357608},     {"googlenet", 13378280},
    };
    at_model_spec spec = {.classes = 1000, .channels = 3, .height = 224, .width = 224};
    for (size_t i = 0; i < sizeof imagenet / sizeof *imagenet; i++)
        assert_int_equal(parameters(imagenet[i].model, spec), imagenet[i].parameters);
}

/* Keras counts the moving statistics too. */
static void test_keras_resnet50(void **state)
{
    (void)state;
    at_model_spec spec = {.classes = 1000, .channels = 3, .height = 224, .width = 224};
    at_net *net = make("resnet50-v1", spec);
    assert_int_equal(at_net_param_count(net) + at_net_state_count(net), 25636712);
    at_net_free(net);
}

/* Every model takes every size from 28 to 299, grey and RGB, few and many classes. */
static void test_every_size(void **state)
{
    (void)state;
    static const int sizes[] = {28, 32, 48, 63, 64, 96, 128, 224, 256, 299, 512};
    size_t cases = 0;
    for (size_t m = 0; m < at_model_count(); m++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (int channels = 1; channels <= 3; channels += 2)
                for (int classes = 10; classes <= 1000; classes += 990, cases++) {
                    at_model_spec spec = of_size(channels, sizes[i], sizes[i]);
                    spec.classes = classes;
                    assert_true(parameters(at_model_name(m), spec) > 60000);
                }
    print_message("%zu models, sizes, channels and classes\n", cases);
}

/* From the least that a model says it takes, also where width and height differ. */
static void test_odd_sizes(void **state)
{
    (void)state;
    size_t cases = 0;
    for (size_t m = 0; m < at_model_count(); m++) {
        const char *name = at_model_name(m);
        at_error err = {0};
        int least = 0;
        at_graph *g;
        do {
            least++;
            at_model_spec spec = of_size(1, least, 500);
            g = at_model_graph(name, &spec, &err);
            at_graph_free(g);
        } while (!g);
        assert_true(least <= 16);
        for (int side = least; side < 140; side += 1 + side / 16, cases += 3) {
            parameters(name, of_size(3, side, side));
            parameters(name, of_size(3, side, 3 * side + 1));
            parameters(name, of_size(3, 2 * side + 3, side));
        }
    }
    print_message("%zu sizes\n", cases);
}

static void expect_refusal(const char *model, at_model_spec spec, const char *thing)
{
    at_error err = {0};
    assert_null(at_model_graph(model, &spec, &err));
    assert_int_equal(err.code, AT_EINPUT);
    if (!strstr(err.message, thing))
        fail_msg("'%s' does not say '%s'", err.message, thing);
}

static void test_refusals(void **state)
{
    (void)state;
    expect_refusal("lennet", of_size(1, 28, 28), "did you mean 'lenet'");
    expect_refusal("a-model-of-another-kind", of_size(1, 28, 28), "unknown model");
    expect_refusal("", of_size(1, 28, 28), "unknown model");
    expect_refusal("lenet", of_size(1, 11, 28), "too small");
    expect_refusal("airnet", of_size(3, 32, 8), "too small");
    expect_refusal("lenet", of_size(0, 28, 28), "0x28x28");
    expect_refusal("lenet", of_size(1, 28, -1), "1x28x-1");
    at_model_spec spec = of_size(1, 28, 28);
    spec.classes = 0;
    expect_refusal("lenet", spec, "0 classes");
}

static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < at_model_count(); i++) {
        assert_non_null(at_model_name(i));
        assert_true(strlen(at_model_summary(i)) > 20);
        parameters(at_model_name(i), of_size(3, 32, 32));
    }
    assert_null(at_model_name(at_model_count()));
    assert_null(at_model_summary(at_model_count()));
}

static void test_rows_survive_text(void **state)
{
    (void)state;
    const float mean[] = {0.28f, 0.2f, 1 / 3.0f}, deviation[] = {0.35f, 0.25f, 0.1f};
    at_model_spec spec = of_size(3, 32, 32);
    spec.mean = mean;
    spec.deviation = deviation;
    for (size_t i = 0; i < at_model_count(); i++) {
        at_error err = {0};
        at_graph *g = at_model_graph(at_model_name(i), &spec, &err);
        char *text = at_graph_print(g);
        assert_non_null(strstr(text, "normalize | normalize | rescale | mean=0.280000001,"));
        at_graph *back = at_graph_parse(text, &err);
        assert_non_null(back);
        assert_int_equal(at_graph_rows(g), at_graph_rows(back));
        char *again = at_graph_print(back);
        assert_string_equal(text, again);
        at_row last = at_graph_row(g, at_graph_rows(g) - 1);
        assert_string_equal(last.layer, "softmax_loss");
        assert_string_equal(last.inputs, at_graph_row(g, at_graph_rows(g) - 2).name);
        free(text);
        free(again);
        at_graph_free(g);
        at_graph_free(back);
    }
}

static void test_without_statistics_there_is_no_row(void **state)
{
    (void)state;
    at_model_spec spec = of_size(1, 28, 28);
    at_graph *g = at_model_graph("lenet", &spec, NULL);
    for (size_t i = 0; i < at_graph_rows(g); i++)
        assert_string_not_equal(at_graph_row(g, i).layer, "normalize");
    at_graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_sizes),
        cmocka_unit_test(test_keras_resnet50),
        cmocka_unit_test(test_every_size),
        cmocka_unit_test(test_odd_sizes),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_rows_survive_text),
        cmocka_unit_test(test_without_statistics_there_is_no_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
