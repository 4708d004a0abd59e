/* SPDX-License-Identifier: Apache-2.0
 * Data trees: building, finding, replacing and removing, against a plain model.
 */
#include "atoll/base.h"
#include "random_tree.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void scalars_keep_value_and_text(void **state)
{
    (void)state;
    at_node *i = at_node_new_int(INT64_MIN), *r = at_node_new_real(0.1),
            *b = at_node_new_bool(true);
    at_node *s = at_node_new_string("5"), *five = at_node_new_real(5),
            *null = at_node_new_string(NULL);
    at_node *nan = at_node_new_real((double)NAN), *tiny = at_node_new_real(-HUGE_VAL);
    assert_int_equal(at_node_int(i, 0), INT64_MIN);
    assert_string_equal(at_node_text(i), "-9223372036854775808");
    assert_string_equal(at_node_text(r), "0.1");
    assert_string_equal(at_node_text(five), "5.0");
    assert_string_equal(at_node_text(nan), ".nan");
    assert_string_equal(at_node_text(tiny), "-.inf");
    assert_true(at_node_bool(b, false));
    assert_string_equal(at_node_string(s, "x"), "5");
    assert_int_equal(at_node_kind(null), AT_NULL);
    at_node *all[] = {i, r, b, s, five, null, nan, tiny};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        at_node_free(all[k]);
}

static void wrong_kinds_give_the_other_value(void **state)
{
    (void)state;
    at_node *s = at_node_new_string("5"), *i = at_node_new_int(3), *r = at_node_new_real(3);
    assert_int_equal(at_node_int(s, -1), -1);
    assert_true(at_node_real(s, 7.5) == 7.5);
    assert_true(at_node_bool(i, true));
    assert_null(at_node_string(i, NULL));
    assert_true(at_node_real(i, 0) == 3.0);
    assert_int_equal(at_node_int(r, -1), -1);
    at_node_free(s);
    at_node_free(i);
    at_node_free(r);
}

static void a_missing_node_is_read_as_nothing(void **state)
{
    (void)state;
    assert_int_equal(at_node_kind(NULL), AT_NULL);
    assert_int_equal(at_node_count(NULL), 0);
    assert_null(at_node_at(NULL, 0));
    assert_null(at_node_key(NULL, 0));
    assert_null(at_node_get(NULL, "a"));
    assert_null(at_node_path(NULL, "a.b"));
    assert_string_equal(at_node_string(NULL, "otherwise"), "otherwise");
    assert_string_equal(at_node_text(NULL), "");
    assert_string_equal(at_node_where(NULL), "");
    assert_string_equal(at_node_key_where(NULL, 0), "");
    assert_null(at_node_copy(NULL));
    assert_null(at_node_set(NULL, "a", at_node_new_int(1)));
    assert_null(at_node_add(NULL, at_node_new_int(1)));
    at_node_remove(NULL, "a");
    at_node_free(NULL);
}

static void paths_meet_nested_and_dotted_keys(void **state)
{
    (void)state;
    at_node *root = at_node_new(AT_MAP);
    at_node *search = at_node_set(root, "search", at_node_new(AT_MAP));
    at_set_real(search, "train.lr", 0.5);
    at_set_int(search, "trials", 8);
    assert_true(at_node_real(at_node_path(root, "search.train.lr"), 0) == 0.5);
    assert_int_equal(at_node_int(at_node_path(root, "search.trials"), 0), 8);
    assert_null(at_node_path(root, "search.train"));
    assert_null(at_node_path(root, "search.trials.x"));
    assert_null(at_node_path(root, ""));
    assert_null(at_node_path(root, "."));
    at_node_free(root);
}

enum { KEYS = 300, STEPS = 40000 };

static void check_against_model(const at_node *map, const int64_t *model)
{
    size_t present = 0;
    for (int k = 0; k < KEYS; k++) {
        char key[16];
        snprintf(key, sizeof key, "key%d", k);
        assert_int_equal(at_node_int(at_node_get(map, key), -1), model[k]);
        present += model[k] >= 0;
    }
    assert_int_equal(at_node_count(map), present);
}

/* Sets, replaces and removes at random; the map must always hold what a table of values holds. */
static void maps_behave_as_a_table(void **state)
{
    (void)state;
    at_rng rng = at_rng_stream(1, "maps", 0);
    at_node *map = at_node_new(AT_MAP);
    int64_t model[KEYS];
    memset(model, -1, sizeof model);
    for (int step = 0; step < STEPS; step++) {
        int k = (int)at_rng_below(&rng, KEYS);
        bool removes = at_rng_below(&rng, 2) && step % 4000 > 2000;
        char key[16];
        snprintf(key, sizeof key, "key%d", k);
        model[k] = removes ? -1 : step;
        if (removes)
            at_node_remove(map, key);
        else
            assert_non_null(at_set_int(map, key, step));
        if (step % 500 == 0)
            check_against_model(map, model);
    }
    check_against_model(map, model);
    at_node_free(map);
    print_message("%d steps on a map\n", STEPS);
}

static void maps_keep_their_order(void **state)
{
    (void)state;
    at_node *map = at_node_new(AT_MAP);
    for (int i = 0; i < 100; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i * 37 % 100);
        at_set_int(map, key, i);
    }
    at_node_remove(map, at_node_key(map, 50));
    at_set_int(map, "k0", 7); /* replacing does not move it */
    assert_string_equal(at_node_key(map, 0), "k0");
    for (int i = 1; i < 99; i++)
        assert_int_equal(at_node_int(at_node_at(map, (size_t)i), -1), i < 50 ? i : i + 1);
    at_node_free(map);
}

static void copies_are_equal_and_apart(void **state)
{
    (void)state;
    at_rng rng = at_rng_stream(2, "copies", 0);
    for (int i = 0; i < 300; i++) {
        at_node *tree = random_tree(&rng, 5);
        at_node *copy = at_node_copy(tree);
        char *before = at_json_print(tree, false);
        assert_true(trees_equal(tree, copy));
        at_node_free(tree);
        char *after = at_json_print(copy, false);
        assert_string_equal(before, after);
        free(before);
        free(after);
        at_node_free(copy);
    }
    print_message("300 copies\n");
}

static void copies_keep_their_places(void **state)
{
    (void)state;
    const char *text = "a:\n  b: 1\n";
    at_node *tree = at_yaml_parse(text, strlen(text), "f", NULL);
    at_node *copy = at_node_copy(tree);
    at_node_free(tree);
    assert_string_equal(at_node_where(at_node_path(copy, "a.b")), "f:2:6");
    assert_string_equal(at_node_key_where(at_node_get(copy, "a"), 0), "f:2:3");
    at_node_free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars_keep_value_and_text),
        cmocka_unit_test(wrong_kinds_give_the_other_value),
        cmocka_unit_test(a_missing_node_is_read_as_nothing),
        cmocka_unit_test(paths_meet_nested_and_dotted_keys),
        cmocka_unit_test(maps_behave_as_a_table),
        cmocka_unit_test(maps_keep_their_order),
        cmocka_unit_test(copies_are_equal_and_apart),
        cmocka_unit_test(copies_keep_their_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
