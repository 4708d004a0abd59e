/* SPDX-License-Identifier: Apache-2.0
 * JSON: what it is read as, what is refused and where, how it is printed.
 */
#include "atoll/base.h"
#include "random_tree.h"
#include "scratch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static at_node *parse(const char *text)
{
    at_error err = {0};
    at_node *n = at_json_parse(text, strlen(text), "f", &err);
    if (!n)
        fail_msg("%s: %s", text, err.message);
    return n;
}

static void assert_refused(const char *text, size_t bytes, const char *message)
{
    at_error err = {0};
    assert_null(at_json_parse(text, bytes, "f", &err));
    assert_int_equal(err.code, AT_EINPUT);
    if (strncmp(err.message, message, strlen(message)) != 0)
        fail_msg("\"%s\" does not begin with \"%s\"", err.message, message);
}

static void assert_prints(const char *text, bool indent, const char *expected)
{
    at_node *n = parse(text);
    char *printed = at_json_print(n, indent);
    assert_string_equal(printed, expected);
    free(printed);
    at_node_free(n);
}

static void values_have_their_kinds(void **state)
{
    (void)state;
    at_node *n = parse("\xEF\xBB\xBF{\"i\": -3, \"r\": 2.0, \"e\": 1e3, \"s\": \"x\\u00e9\", "
                       "\"t\": true, \"n\": null, \"l\": [1, {\"a\": 2}]}");
    assert_int_equal(at_node_int(at_node_get(n, "i"), 0), -3);
    assert_int_equal(at_node_kind(at_node_get(n, "r")), AT_REAL);
    assert_int_equal(at_node_kind(at_node_get(n, "e")), AT_REAL);
    assert_string_equal(at_node_string(at_node_get(n, "s"), ""), "x\xC3\xA9");
    assert_true(at_node_bool(at_node_get(n, "t"), false));
    assert_int_equal(at_node_kind(at_node_get(n, "n")), AT_NULL);
    assert_int_equal(at_node_int(at_node_get(at_node_at(at_node_get(n, "l"), 1), "a"), 0), 2);
    assert_string_equal(at_node_key(n, 3), "s");
    at_node_free(n);
}

static void large_integers_become_reals(void **state)
{
    (void)state;
    at_node *n = parse("[9223372036854775807, 9223372036854775808, -9223372036854775809, "
                       "\"99999999999999999999\", 3, 100000000000000000000000.5, "
                       "{\"\\\"9999999999999999999\": -99999999999999999999}]");
    assert_int_equal(at_node_int(at_node_at(n, 0), 0), INT64_MAX);
    assert_int_equal(at_node_kind(at_node_at(n, 1)), AT_REAL);
    assert_true(at_node_real(at_node_at(n, 1), 0) == 9223372036854775808.0);
    assert_true(at_node_real(at_node_at(n, 2), 0) == -9223372036854775808.0);
    assert_string_equal(at_node_string(at_node_at(n, 3), ""), "99999999999999999999");
    assert_int_equal(at_node_kind(at_node_at(n, 4)), AT_INT);
    assert_true(at_node_real(at_node_at(n, 5), 0) == 100000000000000000000000.5);
    assert_true(at_node_real(at_node_get(at_node_at(n, 6), "\"9999999999999999999"), 0) == -1e20);
    at_node_free(n);
}

static void bad_documents_are_refused_with_the_place(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", "f:"},
        {"{\"a\": 1,}", "f:1:"},
        {"{\"a\": 1, \"a\": 2}", "f:1:"},
        {"[1] x", "f:1:"},
        {"[1,\n 2,\n x]", "f:3:"},
        {"[NaN]", "f:1:"},
        {"[1e999]", "f:1:"},
        {"\"\\u0000\"", "f:1:"},
        {"\"\\ud800\"", "f:1:"},
        {"[\n\"\xC3(\"]", "f:2:2: invalid UTF-8"},
        {"'a'", "f:1:"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_refused(cases[i][0], strlen(cases[i][0]), cases[i][1]);
    assert_refused("\"a\0b\"", 5, "f:1:");
}

static void depth_and_size_are_bounded(void **state)
{
    (void)state;
    size_t bytes = (size_t)16 << 20;
    char *text = malloc(bytes + 1);
    memset(text, '[', bytes + 1);
    assert_refused(text, bytes, "f:1:101: nested too deeply");
    assert_refused(text, bytes + 1, "f: 16777217 bytes");
    memset(text + 100, ']', 100);
    at_node_free(at_json_parse(text, 200, "f", NULL));
    for (size_t i = 0; i < bytes; i += 2)
        memcpy(text + i, "1,", 2);
    text[0] = '[';
    assert_refused(text, bytes, "f:1:1999998: too many values");
    text[0] = '"'; /* commas in a string are no values */
    text[3000001] = '"';
    at_node *n = at_json_parse(text, 3000002, "f", NULL);
    assert_int_equal(at_node_kind(n), AT_STRING);
    at_node_free(n);
    free(text);
}

static void printing_is_exact(void **state)
{
    (void)state;
    assert_prints("{ \"a\" : [ 1 , 2.50 ], \"b\":{}, \"c\":[] }", false,
                  "{\"a\":[1,2.5],\"b\":{},\"c\":[]}");
    assert_prints("{\"a\":[1,{\"b\":null}],\"c\":[]}", true,
                  "{\n  \"a\": [\n    1,\n    {\n      \"b\": null\n    }\n  ],\n  \"c\": []\n}");
    assert_prints("\"q\\\"b\\\\ \\n\\t\\u0001\\u007f / \xF0\x9F\x90\x9A\"", false,
                  "\"q\\\"b\\\\ \\n\\t\\u0001\\u007f / \xF0\x9F\x90\x9A\"");
    assert_prints("[0.1, 1.0, -0.0, 1e22, 1e-7, 123456789.123, 0.30000000000000004]", false,
                  "[0.1,1.0,-0.0,1.0e+22,1.0e-07,123456789.123,0.30000000000000004]");
}

static void what_json_lacks_is_replaced(void **state)
{
    (void)state;
    at_node *n = at_node_new(AT_LIST);
    at_node_add(n, at_node_new_real((double)NAN));
    at_node_add(n, at_node_new_real(-HUGE_VAL));
    at_node_add(n, at_node_new_string("a\xFFz\xC3"));
    char *text = at_json_print(n, false);
    assert_string_equal(text, "[null,null,\"a\xEF\xBF\xBDz\xEF\xBF\xBD\"]");
    free(text);
    at_node_free(n);
    text = at_json_print(NULL, false);
    assert_string_equal(text, "null");
    free(text);
}

static void printing_loses_nothing(void **state)
{
    (void)state;
    enum { CASES = 5000 };
    at_rng rng = at_rng_stream(5, "json", 0);
    for (int i = 0; i < CASES; i++) {
        at_node *tree = random_tree(&rng, 1 + i % 6);
        char *text = at_json_print(tree, i % 2);
        at_node *back = parse(text);
        if (!trees_equal(tree, back))
            fail_msg("the tree changed: %s", text);
        at_node_free(back);
        at_node_free(tree);
        free(text);
    }
    print_message("%d random trees printed and parsed\n", CASES);
}

/* What is printed as JSON is YAML as well, but for keys beyond YAML's 1024 characters. */
static void json_reads_as_yaml(void **state)
{
    (void)state;
    enum { CASES = 1000 };
    at_rng rng = at_rng_stream(6, "json as yaml", 0);
    int compared = 0;
    for (int i = 0; i < CASES; i++) {
        at_node *tree = random_tree(&rng, 3);
        char *text = at_json_print(tree, true);
        at_error err = {0};
        at_node *back = at_yaml_parse(text, strlen(text), "f", &err);
        bool long_key = !back && strstr(err.message, "did not find expected");
        if (!long_key && !trees_equal(tree, back))
            fail_msg("%s in %s", err.message, text);
        compared += back != NULL;
        at_node_free(back);
        at_node_free(tree);
        free(text);
    }
    assert_true(compared > CASES * 9 / 10);
    print_message("%d trees read as YAML\n", compared);
}

static void damaged_documents_do_no_harm(void **state)
{
    (void)state;
    enum { CASES = 20000 };
    at_rng rng = at_rng_stream(7, "json damage", 0);
    int accepted = 0;
    for (int i = 0; i < CASES; i++) {
        at_node *tree = random_tree(&rng, 3);
        char *text = at_json_print(tree, false);
        size_t bytes = random_damage(&rng, text, strlen(text));
        at_error err = {0};
        at_node *n = at_json_parse(text, bytes, "f", &err);
        accepted += n != NULL;
        assert_int_equal(err.code, n ? 0 : AT_EINPUT);
        at_node_free(n);
        at_node_free(tree);
        free(text);
    }
    print_message("%d damaged documents, %d still good\n", CASES, accepted);
}

static void files_are_named(void **state)
{
    (void)state;
    char *dir = scratch_new();
    char *path = at_path_join(dir, "summary.json");
    at_error err = {0};
    assert_null(at_json_read(path, &err));
    assert_int_equal(err.code, AT_ENOENT);
    assert_int_equal(at_file_write(path, "{\"a\": ", 6, &err), 0);
    assert_null(at_json_read(path, &err));
    assert_int_equal(err.code, AT_EINPUT);
    assert_int_equal(strncmp(err.message, path, strlen(path)), 0);
    assert_int_equal(at_file_write(path, "{\"a\": 1}", 8, &err), 0);
    at_node *n = at_json_read(path, &err);
    assert_int_equal(at_node_int(at_node_get(n, "a"), 0), 1);
    at_node_free(n);
    free(path);
    scratch_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_have_their_kinds),
        cmocka_unit_test(large_integers_become_reals),
        cmocka_unit_test(bad_documents_are_refused_with_the_place),
        cmocka_unit_test(depth_and_size_are_bounded),
        cmocka_unit_test(printing_is_exact),
        cmocka_unit_test(what_json_lacks_is_replaced),
        cmocka_unit_test(printing_loses_nothing),
        cmocka_unit_test(json_reads_as_yaml),
        cmocka_unit_test(damaged_documents_do_no_harm),
        cmocka_unit_test(files_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
