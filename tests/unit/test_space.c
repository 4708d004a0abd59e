/* SPDX-License-Identifier: Apache-2.0
 * Search spaces: what YAML means, what is refused and where the message points. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <atoll/coordinator.h>

static at_space *parse(const char *yaml, at_error *err)
{
    at_node *map = at_yaml_parse(yaml, strlen(yaml), "s.yaml", err);
    assert_non_null(map);
    at_space *s = at_space_parse(map, err);
    at_node_free(map);
    return s;
}

static void every_distribution(void **state)
{
    (void)state;
    at_error err = {0};
    at_space *s = parse("lr: {loguniform: [0.001, 0.3]}\n"
                        "q: {quniform: [0.1, 0.95, 0.1]}\n"
                        "n: {int: [1, 5]}\n"
                        "u: {uniform: [-1, 2]}\n"
                        "c: {choice: [32, word, true, 0.5]}\n",
                        &err);
    assert_non_null(s);
    assert_int_equal(s->count, 5);
    assert_int_equal(s->dists[0].kind, AT_DIST_LOGUNIFORM);
    assert_float_equal(s->dists[1].high, 0.9, 1e-15);
    assert_int_equal(s->dists[4].choice_count, 4);
    double values[] = {0.03, 0.3, 4, -0.5, 2};
    at_node *params = at_space_params(s, values);
    char *json = at_json_print(params, false);
    assert_string_equal(json, "{\"lr\":0.03,\"q\":0.3,\"n\":4,\"u\":-0.5,\"c\":true}");
    free(json);
    at_node_free(params);
    at_space_free(s);
}

static void nested_conditions(void **state)
{
    (void)state;
    at_error err = {0};
    at_space *s =
        parse("optimizer:\n"
              "  choice:\n"
              "    - sgd:\n"
              "        momentum: {uniform: [0, 1]}\n"
              "        schedule: {choice: [cosine, {step: {step_epochs: {int: [1, 3]}}}]}\n"
              "    - adam: {momentum: {uniform: [0.8, 1]}}\n"
              "    - plain:\n"
              "lr: {uniform: [0, 1]}\n",
              &err);
    if (!s)
        fail_msg("%s", err.message);
    assert_int_equal(s->count, 6);
    const double sgd_step[] = {0, 0.5, 1, 2, NAN, 0.1}, adam[] = {1, NAN, NAN, NAN, 0.9, 0.1};
    const bool in_sgd_step[] = {1, 1, 1, 1, 0, 1}, in_adam[] = {1, 0, 0, 0, 1, 1};
    for (size_t i = 0; i < s->count; i++) {
        assert_int_equal(at_space_active(s, sgd_step, i), in_sgd_step[i]);
        assert_int_equal(at_space_active(s, adam, i), in_adam[i]);
    }
    at_node *params = at_space_params(s, adam);
    char *json = at_json_print(params, false);
    assert_string_equal(json, "{\"optimizer\":\"adam\",\"momentum\":0.9,\"lr\":0.1}");
    free(json);
    at_node_free(params);
    at_space_free(s);
}

static void bad_spaces_are_refused_with_their_place(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *message;
    } cases[] = {
        {"lr: {logunifrom: [0.1, 1]}\n", "s.yaml:1:6: space: unknown distribution \"logunifrom\"; "
                                         "did you mean \"loguniform\"?"},
        {"lr: 0.1\n", "s.yaml:1:5: space: lr: expected one distribution"},
        {"lr: {uniform: [1]}\n", "space: lr: expected [low, high]"},
        {"lr: {uniform: 3}\n", "space: lr: expected [low, high]"},
        {"lr: {uniform: [a, 1]}\n", "s.yaml:1:16: space: lr: expected a number"},
        {"lr: {uniform: [.nan, 1]}\n", "space: lr: expected a number"},
        {"lr: {uniform: [1, 1]}\n", "space: lr: low must be below high"},
        {"lr: {uniform: [-1.7e308, 1.7e308]}\n", "space: lr: the range is too wide"},
        {"lr: {loguniform: [0, 1]}\n", "space: lr: loguniform needs low > 0"},
        {"n: {int: [1, 2.5]}\n", "space: n: int needs whole numbers"},
        {"n: {quniform: [0, 1, 0]}\n", "space: n: step must be above 0"},
        {"n: {quniform: [0, 1]}\n", "space: n: expected [low, high, step]"},
        {"c: {choice: []}\n", "space: c: expected a list of choices"},
        {"c: {choice: [1, 1]}\n", "space: c: the same choice twice"},
        {"c: {choice: [[1]]}\n", "space: c: a choice is a number"},
        {"c: {choice: [{a: {x: {int: [1, 2]}}, b: 1}]}\n", "space: c: a nested choice is one"},
        {"c: {choice: [{a: 3}]}\n", "space: c: expected \"name: {distribution: [...]}\""},
        {"c: {choice: [{a: {x: {int: [1, 2]}}}, b]}\nx: {int: [1, 2]}\n",
         "space: x: the same parameter twice"},
        {"c: {choice: [{a: {x: {int: [1, 2]}}}, {b: {x: {choice: [1]}}}]}\n",
         "space: x: a choice in one place, a range in another"},
        {"[1]\n", "space: parameters: expected"},
        {"{}\n", "space: parameters: there is nothing to search"},
    };
    size_t n = sizeof cases / sizeof *cases;
    for (size_t i = 0; i < n; i++) {
        at_error err = {0};
        assert_null(parse(cases[i].yaml, &err));
        assert_int_equal(err.code, AT_EINPUT);
        if (!strstr(err.message, cases[i].message))
            fail_msg("%s\ngave: %s\nexpected: %s", cases[i].yaml, err.message, cases[i].message);
    }
    print_message("%zu bad spaces refused\n", n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_distribution),
        cmocka_unit_test(nested_conditions),
        cmocka_unit_test(bad_spaces_are_refused_with_their_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
