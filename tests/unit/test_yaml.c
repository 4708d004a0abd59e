/* SPDX-License-Identifier: Apache-2.0
 * YAML: types, places, what is refused, and that printing loses nothing.
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
    at_node *n = at_yaml_parse(text, strlen(text), "f", &err);
    if (!n)
        fail_msg("%s: %s", text, err.message);
    return n;
}

static void assert_refused(const char *text, size_t bytes, const char *message)
{
    at_error err = {0};
    at_node *n = at_yaml_parse(text, bytes, "f", &err);
    assert_null(n);
    assert_int_equal(err.code, AT_EINPUT);
    if (strncmp(err.message, message, strlen(message)) != 0)
        fail_msg("\"%s\" does not begin with \"%s\"", err.message, message);
}

static void plain_scalars_follow_the_core_schema(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        at_kind kind;
        double value;
    } cases[] = {
        {"~", AT_NULL, 0},
        {"null", AT_NULL, 0},
        {"NULL", AT_NULL, 0},
        {"nULL", AT_STRING, 0},
        {"true", AT_BOOL, 1},
        {"FALSE", AT_BOOL, 0},
        {"tRUE", AT_STRING, 0},
        {"yes", AT_STRING, 0},
        {"off", AT_STRING, 0},
        {"0", AT_INT, 0},
        {"-0", AT_INT, 0},
        {"+12", AT_INT, 12},
        {"007", AT_INT, 7},
        {"0x1f", AT_INT, 31},
        {"0o17", AT_INT, 15},
        {"0x", AT_STRING, 0},
        {"0o8", AT_STRING, 0},
        {"-0x1", AT_STRING, 0},
        {"1_000", AT_STRING, 0},
        {"1e-3", AT_REAL, 1e-3},
        {"1e3", AT_REAL, 1e3},
        {"1.", AT_REAL, 1},
        {".5", AT_REAL, .5},
        {"-.5E+1", AT_REAL, -5},
        {".", AT_STRING, 0},
        {"1e", AT_STRING, 0},
        {"e3", AT_STRING, 0},
        {"1.2.3", AT_STRING, 0},
        {".inf", AT_REAL, HUGE_VAL},
        {"-.INF", AT_REAL, -HUGE_VAL},
        {"inf", AT_STRING, 0},
        {"nan", AT_STRING, 0},
        {"\"5\"", AT_STRING, 0},
        {"'true'", AT_STRING, 0},
        {"\"\"", AT_STRING, 0},
        {"!!str 5", AT_STRING, 0},
        {"!!int \"5\"", AT_INT, 5},
        {"!!float 5", AT_REAL, 5},
        {"", AT_NULL, 0},
        {"9223372036854775807", AT_INT, 9223372036854775807.0},
        {"9223372036854775808", AT_REAL, 9223372036854775808.0},
        {"0xFFFFFFFFFFFFFFFF", AT_REAL, 18446744073709551615.0},
        {"0o2000000000000000000000", AT_REAL, 18446744073709551616.0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        at_node *n = parse(cases[i].text);
        if (at_node_kind(n) != cases[i].kind)
            fail_msg("%s has kind %d", cases[i].text, (int)at_node_kind(n));
        double value = at_node_kind(n) == AT_BOOL ? at_node_bool(n, false) : at_node_real(n, 0);
        assert_true(value == cases[i].value);
        at_node_free(n);
    }
    at_node *nan = parse(".nan");
    assert_int_equal(at_node_kind(nan), AT_REAL);
    assert_true(isnan(at_node_real(nan, 0)));
    at_node_free(nan);
}

static void nodes_know_their_places(void **state)
{
    (void)state;
    at_node *n = parse("# comment\ndata: x\nsearch:\n  lr: [1, 2]\n  \xC3\xA9: y\n");
    assert_string_equal(at_node_where(n), "f:2:1");
    assert_string_equal(at_node_where(at_node_get(n, "data")), "f:2:7");
    assert_string_equal(at_node_key_where(n, 1), "f:3:1");
    const at_node *search = at_node_get(n, "search");
    assert_string_equal(at_node_key_where(search, 0), "f:4:3");
    assert_string_equal(at_node_where(at_node_at(at_node_get(search, "lr"), 1)), "f:4:11");
    assert_string_equal(at_node_where(at_node_get(search, "\xC3\xA9")), "f:5:6");
    assert_string_equal(at_node_text(at_node_at(at_node_get(search, "lr"), 1)), "2");
    at_node_free(n);
}

static void aliases_copy_their_anchors(void **state)
{
    (void)state;
    at_node *n = parse("a: &x {lr: 1}\nb: *x\nc: &x 2\nd: *x\n*x : 3\n");
    assert_int_equal(at_node_int(at_node_path(n, "b.lr"), 0), 1);
    assert_int_equal(at_node_int(at_node_path(n, "d"), 0), 2);
    assert_int_equal(at_node_int(at_node_path(n, "2"), 0), 3);
    at_node_free(n);
    n = parse("&key lr: *key\nagain: *key\n"); /* a key's anchor outlives the key's pair */
    assert_string_equal(at_node_string(at_node_get(n, "lr"), ""), "lr");
    assert_string_equal(at_node_string(at_node_get(n, "again"), ""), "lr");
    at_node_free(n);
}

static void bad_documents_are_refused_with_the_place(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"a: 1\nb: 2\na: 3\n", "f:3:1: duplicate key \"a\", first at f:1:1"},
        {"x: {a: 1, a: 2}", "f:1:11: duplicate key \"a\", first at f:1:5"},
        {"a: *nowhere", "f:1:4: unknown or unfinished anchor \"nowhere\""},
        {"a: &x [*x]", "f:1:8: unknown or unfinished anchor \"x\""},
        {"? [1, 2]\n: 3\n", "f:1:3: a key must be a scalar"},
        {"a: 1\n---\nb: 2\n", "f:2:1: more than one document"},
        {"a: !python/name:os.system x", "f:1:4: unknown tag \"!python/name:os.system\""},
        {"a: !!int x", "f:1:4: the value is not what its tag says: \"x\""},
        {"a: !!seq {}", "f:1:4: unknown tag"},
        {"a: \"x\\0y\"", "f:1:4: a NUL character in a string"},
        {"a: b: c", "f:1:5: mapping values are not allowed"},
        {"a: [1, 2", "f:"},
        {"a:\n\t- 1", "f:2:1: "},
        {"a: \"open", "f:"},
        {"%FOO", "f:"},
        {"a: \x01", "f:1:4: control characters are not allowed"},
        {"a: 1\nb: \xFF\n", "f:2:4: invalid UTF-8"},
        {"\xC3", "f:1:1: invalid UTF-8"},
        {"a: \xED\xA0\x80", "f:1:4: invalid UTF-8"},
        {"a: \xC0\x80", "f:1:4: invalid UTF-8"},
        {"\xFF\xFEz\0", "f:1:1: invalid UTF-8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_refused(cases[i][0], strlen(cases[i][0]), cases[i][1]);
}

static void nothing_is_null(void **state)
{
    (void)state;
    static const char *const cases[] = {"", "\n\n", "# only a comment\n", "---\n", "\xEF\xBB\xBF"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        at_node *n = parse(cases[i]);
        assert_int_equal(at_node_kind(n), AT_NULL);
        assert_memory_equal(at_node_where(n), "f:", 2);
        at_node_free(n);
    }
}

/* Nine levels of nine aliases are 10^9 nodes from 500 bytes. */
static void billion_laughs_are_refused(void **state)
{
    (void)state;
    at_text t = {0};
    at_text_add(&t, "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for (int i = 1; i < 10; i++) {
        at_text_add(&t, "a%d: &a%d [", i, i);
        for (int k = 0; k < 9; k++)
            at_text_add(&t, "%s*a%d", k ? ", " : "", i - 1);
        at_text_add(&t, "]\n");
    }
    assert_refused(t.data, t.length, "f:7:");
    at_text_fini(&t);
}

/* Few nodes, but each a copy of a large string. */
static void quadratic_strings_are_refused(void **state)
{
    (void)state;
    at_text t = {0};
    at_text_add(&t, "- &a ");
    for (int i = 0; i < 1000000; i++)
        at_text_append(&t, "x", 1);
    for (int i = 0; i < 1000; i++)
        at_text_add(&t, "\n- *a");
    assert_refused(t.data, t.length, "f:18:3: aliases make the document too large");
    at_text_fini(&t);
}

static char *nested(int depth, const char *open, const char *middle, const char *close)
{
    at_text t = {0};
    for (int i = 0; i < depth; i++)
        at_text_add(&t, "%s", open);
    at_text_add(&t, "%s", middle);
    for (int i = 0; i < depth; i++)
        at_text_add(&t, "%s", close);
    assert_false(t.failed);
    return t.data;
}

static void depth_is_bounded(void **state)
{
    (void)state;
    char *fits = nested(100, "[", "1", "]");
    char *deep = nested(101, "[", "1", "]");
    char *very = nested(500000, "[", "", "");
    char *block = nested(3000, "- ", "1", "");
    at_node_free(parse(fits));
    assert_refused(deep, strlen(deep), "f:1:101: nested too deeply");
    assert_refused(very, strlen(very), "f:1:101: nested too deeply");
    assert_refused(block, strlen(block), "f:1:");
    free(fits);
    free(deep);
    free(very);
    free(block);
}

static void aliases_count_their_depth(void **state)
{
    (void)state;
    char *tree = nested(60, "[", "1", "]");
    char *outer = nested(39, "[", "*a", "]");
    char *fits = at_format("- &a %s\n- %s\n", tree, outer);
    char *deep = at_format("- &a %s\n- [%s]\n", tree, outer);
    at_node_free(parse(fits));
    assert_refused(deep, strlen(deep), "f:2:43: nested too deeply");
    free(tree);
    free(outer);
    free(fits);
    free(deep);
}

static void sizes_are_bounded(void **state)
{
    (void)state;
    size_t bytes = ((size_t)16 << 20) + 1;
    char *text = malloc(bytes);
    memset(text, ' ', bytes);
    assert_refused(text, bytes, "f: 16777217 bytes are above the limit");
    for (size_t i = 0; i + 1 < bytes; i += 2)
        memcpy(text + i, "1,", 2);
    text[0] = '[';
    assert_refused(text, bytes - 1, "f:1:");
    free(text);
}

static void a_large_map_is_read_in_time(void **state)
{
    (void)state;
    at_text t = {0};
    for (int i = 0; i < 200000; i++)
        at_text_add(&t, "key%d: %d\n", i, i);
    at_node *n = parse(t.data);
    assert_int_equal(at_node_count(n), 200000);
    assert_int_equal(at_node_int(at_node_get(n, "key123456"), 0), 123456);
    at_node_free(n);
    at_text_fini(&t);
}

static void printing_is_readable(void **state)
{
    (void)state;
    const char *text = "data: /data/fashion\n"
                       "epochs: 8\n"
                       "lr: 0.05\n"
                       "one: 1.0\n"
                       "version: \"1.0\"\n"
                       "shift: false\n"
                       "resume: null\n"
                       "layers: [32, 64, \"no\"]\n"
                       "empty: []\n"
                       "search:\n"
                       "  lr:\n"
                       "    low: 1.0e-05\n"
                       "    high: .inf\n"
                       "rows:\n"
                       "  - name: c1\n"
                       "    kind: conv\n"
                       "  - - a\n"
                       "    - {}\n"
                       "    - b: 1\n"
                       "      c: \"two\\nlines\"\n";
    at_node *n = parse(text);
    char *printed = at_yaml_print(n);
    assert_string_equal(printed, text);
    free(printed);
    at_node_free(n);
}

static void assert_survives_printing(const at_node *tree)
{
    at_error err = {0};
    char *text = at_yaml_print(tree);
    assert_non_null(text);
    at_node *back = at_yaml_parse(text, strlen(text), "printed", &err);
    if (!back)
        fail_msg("%s in\n%s", err.message, text);
    if (!trees_equal(tree, back))
        fail_msg("the tree changed:\n%s", text);
    free(text);
    at_node_free(back);
}

static void printing_loses_nothing(void **state)
{
    (void)state;
    enum { CASES = 5000 };
    at_rng rng = at_rng_stream(3, "yaml", 0);
    for (int i = 0; i < CASES; i++) {
        at_node *tree = random_tree(&rng, 1 + i % 6);
        assert_survives_printing(tree);
        at_node_free(tree);
    }
    print_message("%d random trees printed and parsed\n", CASES);
}

static void damaged_documents_do_no_harm(void **state)
{
    (void)state;
    enum { CASES = 20000 };
    at_rng rng = at_rng_stream(4, "yaml damage", 0);
    int accepted = 0;
    for (int i = 0; i < CASES; i++) {
        at_node *tree = random_tree(&rng, 3);
        char *text = at_yaml_print(tree);
        size_t bytes = random_damage(&rng, text, strlen(text));
        at_error err = {0};
        at_node *n = at_yaml_parse(text, bytes, "f", &err);
        accepted += n != NULL;
        if (n)
            assert_survives_printing(n);
        else
            assert_int_equal(err.code, AT_EINPUT);
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
    char *path = at_path_join(dir, "sweep.yaml");
    at_error err = {0};
    assert_null(at_yaml_read(path, &err));
    assert_int_equal(err.code, AT_ENOENT);
    assert_non_null(strstr(err.message, path));
    assert_int_equal(at_file_write(path, "a: [", 4, &err), 0);
    assert_null(at_yaml_read(path, &err));
    assert_int_equal(err.code, AT_EINPUT);
    assert_int_equal(strncmp(err.message, path, strlen(path)), 0);
    assert_int_equal(at_file_write(path, "a: 1\n", 5, &err), 0);
    at_node *n = at_yaml_read(path, &err);
    assert_int_equal(at_node_int(at_node_get(n, "a"), 0), 1);
    at_node_free(n);
    free(path);
    scratch_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_scalars_follow_the_core_schema),
        cmocka_unit_test(nodes_know_their_places),
        cmocka_unit_test(aliases_copy_their_anchors),
        cmocka_unit_test(bad_documents_are_refused_with_the_place),
        cmocka_unit_test(nothing_is_null),
        cmocka_unit_test(billion_laughs_are_refused),
        cmocka_unit_test(quadratic_strings_are_refused),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(aliases_count_their_depth),
        cmocka_unit_test(sizes_are_bounded),
        cmocka_unit_test(a_large_map_is_read_in_time),
        cmocka_unit_test(printing_is_readable),
        cmocka_unit_test(printing_loses_nothing),
        cmocka_unit_test(damaged_documents_do_no_harm),
        cmocka_unit_test(files_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
