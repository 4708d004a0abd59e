/* SPDX-License-Identifier: Apache-2.0
 * ctest: once
 * Models as rows in a file: the example's rows become a network that computes; a mistake is told
 * with file, line and row, and never crashes. */
#include "scratch.h"

#include <atoll/nn.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const at_model_spec spec = {.classes = 7, .channels = 3, .height = 16, .width = 16};

static at_graph *read_text(const char *dir, const char *text, at_error *err)
{
    char *path = at_path_join(dir, "m.yaml");
    assert_int_equal(at_file_write(path, text, strlen(text), err), 0);
    at_graph *g = at_model_graph(path, &spec, err);
    free(path);
    return g;
}

static void test_example(void **state)
{
    (void)state;
    at_error err = {0};
    const char *source = getenv("ATOLL_SOURCE");
    char *path = at_format("%s/examples/my-model.yaml", source ? source : ".");
    at_graph *g = at_model_graph(path, &spec, &err);
    if (!g)
        fail_msg("%s", err.message);
    at_net *net = at_net_new(g, 1, &err);
    assert_non_null(net);
    assert_int_equal(at_net_classes(net), spec.classes);
    at_plan *p = at_plan_new(net, &(at_plan_options){.batch = 2, .training = true}, &err);
    if (!p)
        fail_msg("%s", err.message);
    uint8_t pixels[2 * 16 * 16 * 3];
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(i * 37);
    at_plan_stats stats = {0};
    at_plan_input in = {.pixels = pixels, .labels = (int32_t[]){0, 6}, .scale = 0.5f};
    assert_int_equal(at_plan_train(p, &in, &stats, &err), 0);
    assert_true(stats.loss_sum > 0 && stats.loss_sum < 50);
    at_plan_free(p);
    at_net_free(net);
    at_graph_free(g);
    free(path);
}

/* Every way to write a row gives the same one. */
static void test_forms(void **state)
{
    static const char *const forms[] = {
        "- {name: f, layer: flatten}\n- {name: d, layer: dense, attrs: {out: classes, bias: 0}}\n",
        "- {name: f, layer: flatten, inputs: pixels}\n"
        "- {name: d, layer: dense, attrs: out=classes  bias=0}\n",
        "- name: f\n  layer: flatten\n  inputs: [pixels]\n"
        "- name: d\n  inputs: f\n  attrs: out=7 bias=0\n  layer: dense\n",
        "- {layer: flatten, name: f, inputs: ' pixels '}\n"
        "- {layer: dense, name: d, inputs: [f], attrs: {\"out\": \"7\", bias: 0}}\n",
    };
    char *expected = NULL;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        at_error err = {0};
        at_graph *g = read_text(*state, forms[i], &err);
        if (!g)
            fail_msg("form %zu: %s", i, err.message);
        char *rows = at_graph_print(g);
        assert_non_null(strstr(rows, "\nf | flatten | rescale | \nd | dense | f | out=7 bias=0\n"));
        if (expected)
            assert_string_equal(rows, expected);
        else
            expected = strdup(rows);
        free(rows);
        at_graph_free(g);
    }
    free(expected);
}

static void test_own_loss(void **state)
{
    at_error err = {0};
    at_graph *g = read_text(*state,
                            "- {name: f, layer: flatten}\n- {name: d, layer: dense, attrs: out=7}\n"
                            "- {name: s, layer: softmax_loss}\n",
                            &err);
    if (!g)
        fail_msg("%s", err.message);
    assert_string_equal(at_graph_row(g, at_graph_rows(g) - 1).name, "s");
    at_graph_free(g);
}

#define HEAD "- {name: f, layer: flatten}\n- {name: d, layer: dense, attrs: {out: 7}}\n"

static void test_mistakes(void **state)
{
    static const struct {
        const char *text;
        const char *says[3];
    } mistakes[] = {
        {"", {"m.yaml", "list of rows"}},
        {"[]", {"m.yaml", "list of rows"}},
        {"rows: 3", {"m.yaml", "list of rows"}},
        {"- 7", {"m.yaml:1:", "row 1", "no map"}},
        {"- {name: f, layer: flatten}\n- [a]\n", {"m.yaml:2:", "row 2"}},
        {"- {name: f, layer: flatten, input: x}\n", {"m.yaml:1:", "\"input\"", "\"inputs\""}},
        {"- {name: f, layer: flatten, colour: x}\n", {"m.yaml:1:", "\"colour\"", "attrs"}},
        {"- {layer: flatten}\n", {"m.yaml:1:", "row 1", "no \"name\""}},
        {"- {name: f}\n", {"m.yaml:1:", "row 1", "no \"layer\""}},
        {"- {name: f, layer: [a]}\n", {"m.yaml:1:", "no \"layer\""}},
        {"- {name: 'a b', layer: flatten}\n", {"m.yaml:1:", "\"a b\"", "no name"}},
        {"- {name: data, layer: flatten}\n", {"m.yaml:1:", "\"data\"", "twice"}},
        {HEAD "- {name: f, layer: relu}\n", {"m.yaml:3:", "\"f\"", "twice"}},
        {"- {name: f, layer: flaten}\n", {"m.yaml:1:", "\"flaten\"", "\"flatten\""}},
        {"- {name: f, layer: relu, inputs: g}\n", {"m.yaml:1:", "\"f\"", "\"g\""}},
        {"- {name: f, layer: relu, inputs: [[g]]}\n", {"m.yaml:1:", "names of rows"}},
        {"- {name: f, layer: relu, inputs: {a: b}}\n", {"m.yaml:1:", "names of rows"}},
        {"- {name: f, layer: flatten, attrs: [1]}\n", {"m.yaml:1:", "no list"}},
        {"- {name: f, layer: flatten, attrs: fast}\n", {"m.yaml:1:", "\"fast\"", "key=value"}},
        {"- {name: f, layer: pool, attrs: {k: [2, 2]}}\n", {"m.yaml:1:", "\"k\"", "single value"}},
        {"- {name: f, layer: pool, attrs: {k: 2 2}}\n", {"m.yaml:1:", "\"k\"", "single value"}},
        {"- {name: f, layer: pool, attrs: {k: 20}}\n", {"m.yaml:1:", "\"f\"", "3x16x16"}},
        {"- {name: f, layer: pool, attrs: {q: 2}}\n", {"m.yaml:1:", "\"f\"", "q"}},
        {"- {name: c, layer: conv, attrs: {k: 3}}\n", {"m.yaml:1:", "\"c\"", "out=N"}},
        {HEAD "- {name: a, layer: add, inputs: [f, d]}\n", {"m.yaml:3:", "\"a\"", "7x1x1"}},
        {HEAD "- {name: s, layer: softmax_loss}\n- {name: r, layer: relu}\n",
         {"m.yaml:4:", "\"r\"", "loss"}},
        {HEAD "- {name: i, layer: input, inputs: []}\n", {"m.yaml:3:", "\"i\"", "input"}},
        {"- {name: x, layer: flatten}\n- {name: f, layer: flatten, inputs: pixels}\n"
         "- {name: d, layer: dense, attrs: {out: 7}}\n",
         {"m.yaml:1:", "\"x\"", "no row uses"}},
        {"- {name: f, layer: flatten}\n- {name: d, layer: dense, attrs: {out: 8}}\n",
         {"m.yaml", "8 scores", "7 classes"}},
        {"- {name: f, layer: flatten\n", {"m.yaml:", "1"}},
        {"- {name: c, layer: conv, attrs: {out: 1000000, k: 65535, pad: 60000}}\n",
         {"m.yaml:1:", "\"c\""}},
    };
    size_t n = sizeof mistakes / sizeof *mistakes;
    for (size_t i = 0; i < n; i++) {
        at_error err = {0};
        at_graph *g = read_text(*state, mistakes[i].text, &err);
        if (g)
            fail_msg("accepted: %s", mistakes[i].text);
        assert_int_equal(err.code, AT_EINPUT);
        for (size_t k = 0; k < 3 && mistakes[i].says[k]; k++)
            if (!strstr(err.message, mistakes[i].says[k]))
                fail_msg("%s: '%s' does not say '%s'", mistakes[i].text, err.message,
                         mistakes[i].says[k]);
    }
    print_message("%zu mistakes\n", n);
}

/* The example cut short, and with bytes replaced: an error or a network, but an end. */
static void test_damage(void **state)
{
    at_error err = {0};
    const char *source = getenv("ATOLL_SOURCE");
    char *path = at_format("%s/examples/my-model.yaml", source ? source : "."), *text = NULL;
    size_t bytes = 0, cases = 0, good = 0;
    assert_int_equal(at_file_read(path, 1 << 20, &text, &bytes, &err), 0);
    for (size_t i = 0; i < bytes; i += 7, cases += 2) {
        char *copy = strdup(text);
        copy[bytes - 1 - i] = 0;
        at_graph *g = read_text(*state, copy, &err);
        good += g != NULL;
        at_graph_free(g);
        memcpy(copy, text, bytes);
        copy[i] = "[{:,x\t\n-#9"[i % 10];
        g = read_text(*state, copy, &err);
        good += g != NULL;
        at_graph_free(g);
        free(copy);
    }
    assert_true(good < cases);
    print_message("%zu damaged files, %zu of them still networks\n", cases, good);
    free(text);
    free(path);
}

static void test_missing_file(void **state)
{
    (void)state;
    at_error err = {0};
    assert_null(at_model_graph("/nowhere/m.yaml", &spec, &err));
    assert_non_null(strstr(err.message, "/nowhere/m.yaml"));
    assert_int_equal(at_error_exit_status(at_model_check("/nowhere/m.yaml", &err)), 3);
    assert_int_equal(at_error_exit_status(at_model_check("lennet", &err)), 3);
    assert_int_equal(at_model_check("lenet", &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_example),  cmocka_unit_test(test_forms),
        cmocka_unit_test(test_own_loss), cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_damage),   cmocka_unit_test(test_missing_file),
    };
    return cmocka_run_group_tests(tests, scratch_caches, scratch_caches_gone);
}
