/* SPDX-License-Identifier: Apache-2.0
 * ctest: once
 * Graphs: rows survive text, the first bad row is reported by name, hostile text is refused.
 */
#include <atoll/nn.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void expect(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" does not hold \"%s\"", text, part);
}

static void expect_bad(const char *text, const char *part)
{
    at_error err = {0};
    at_graph *g = at_graph_parse(text, &err);
    if (g)
        fail_msg("parsed: %s", text);
    assert_int_equal(err.code, AT_EINPUT);
    expect(err.message, part);
}

static void test_text_round_trip(void **state)
{
    (void)state;
    at_error err = {0};
    at_graph *g = at_graph_new();
    at_graph_add(g, "data", "input", "", "channels=%d height=%d width=%d", 3, 8, 9);
    at_graph_add(g, "c-1", "conv", "data", "out=6 k=3x5");
    at_graph_add(g, "sum", "add", "c-1 c-1", "%s", "");
    char *text = at_graph_print(g);
    assert_string_equal(text, "data | input |  | channels=3 height=8 width=9\n"
                              "c-1 | conv | data | out=6 k=3x5\nsum | add | c-1 c-1 | \n");
    at_graph *again = at_graph_parse(text, &err);
    assert_non_null(again);
    assert_int_equal(at_graph_rows(again), 3);
    assert_string_equal(at_graph_row(again, 1).attrs, "out=6 k=3x5");
    assert_string_equal(at_graph_row(again, 2).inputs, "c-1 c-1");
    char *second = at_graph_print(again);
    assert_string_equal(text, second);
    free(text);
    free(second);
    at_graph_free(g);
    at_graph_free(again);
}

static void test_blank_lines_and_spaces(void **state)
{
    (void)state;
    at_error err = {0};
    at_graph *g = at_graph_parse("\n  a|input||\r\n\n b |  relu | a |  \n", &err);
    assert_non_null(g);
    assert_int_equal(at_graph_rows(g), 2);
    assert_string_equal(at_graph_row(g, 1).name, "b");
    assert_string_equal(at_graph_row(g, 1).layer, "relu");
    at_graph_free(g);
    g = at_graph_parse("", &err);
    assert_non_null(g);
    assert_int_equal(at_graph_rows(g), 0);
    char *text = at_graph_print(g);
    assert_string_equal(text, "");
    free(text);
    at_graph_free(g);
}

static void test_bad_text(void **state)
{
    (void)state;
    expect_bad("data | input", "line 1: expected name | layer | inputs | attributes");
    expect_bad("data | input | | a=1 | b", "line 1: more than four fields");
    expect_bad("data | input | |\ndata | relu | |", "line 2: row \"data\" comes twice");
    expect_bad("data | input | |\nx | relu | daat |",
               "row \"x\": its input \"daat\" is no earlier row");
    expect_bad("x | relu | x |", "its input \"x\" is no earlier row");
    expect_bad("a b | input | |", "\"a b\" is no name");
    expect_bad(" | input | |", "\"\" is no name");
    expect_bad("data |  | |", "no layer");
}

/* at_graph_add says nothing; the first mistake is told when a network is made of it. */
static void test_first_bad_row_is_kept(void **state)
{
    (void)state;
    at_error err = {0};
    at_graph *g = at_graph_new();
    at_graph_add(g, "data", "input", "", "channels=1 height=4 width=4");
    at_graph_add(g, "first bad", "relu", "data", "%s", "");
    at_graph_add(g, "second", "relu", "nothing", "%s", "");
    assert_int_equal(at_graph_rows(g), 1);
    assert_null(at_net_new(g, 1, &err));
    assert_int_equal(err.code, AT_EINPUT);
    expect(err.message, "first bad");
    at_graph_free(g);
    at_graph_free(NULL);
    at_graph_add(NULL, "a", "input", "", "%s", "");
}

/* Random bytes over the alphabet of graphs: refused or parsed to what prints the same. */
static void test_random_text(void **state)
{
    (void)state;
    static const char letters[] = "abc|| \n.=1relu\t-_x";
    size_t parsed = 0, cases = 20000;
    at_rng rng = at_rng_stream(1, "graphs", 0);
    for (size_t i = 0; i < cases; i++) {
        char text[64];
        size_t n = at_rng_below(&rng, sizeof text - 1);
        for (size_t k = 0; k < n; k++)
            text[k] = letters[at_rng_below(&rng, sizeof letters - 1)];
        text[n] = '\0';
        at_graph *g = at_graph_parse(text, NULL);
        if (!g)
            continue;
        parsed++;
        char *first = at_graph_print(g);
        at_graph *again = at_graph_parse(first, NULL);
        assert_non_null(again);
        char *second = at_graph_print(again);
        assert_string_equal(first, second);
        free(first);
        free(second);
        at_graph_free(again);
        at_graph_free(g);
    }
    print_message("%zu texts tried, %zu were graphs\n", cases, parsed);
    assert_true(parsed > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_round_trip), cmocka_unit_test(test_blank_lines_and_spaces),
        cmocka_unit_test(test_bad_text),        cmocka_unit_test(test_first_bad_row_is_kept),
        cmocka_unit_test(test_random_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
