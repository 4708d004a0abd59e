/* SPDX-License-Identifier: Apache-2.0
 * Plans: the arena, and the choices of convolutions that are kept on disk.
 */
#include "../../nn/conv.h"
#include "scratch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- memory ---- */

/* Two buffers that live at the same time never share a byte, over random lives and sizes. */
static void test_arena(void **state)
{
    (void)state;
    size_t pairs = 0;
    for (uint64_t round = 0; round < 200; round++) {
        at_rng rng = at_rng_stream(round, "lives", 0);
        void *places[60];
        at_plan p = {.options = {.batch = 1}};
        plan_op ops[30] = {0};
        for (int i = 0; i < 30; i++)
            ops[i] = (plan_op){.plan = &p, .index = i};
        p.op_count = 30;
        p.options.training = true;
        for (int i = 0; i < 60; i++)
            assert_int_equal(plan_want(&ops[at_rng_below(&rng, 30)], &places[i],
                                       1 + at_rng_below(&rng, 5000),
                                       (plan_life)at_rng_below(&rng, PLAN_LIVES), NULL),
                             0);
        p.op_count = 0; /* no tensors beside the buffers */
        assert_int_equal(plan_memory(&p, NULL), 0);
        for (int i = 0; i < 60; i++) {
            for (int j = 0; j < i; j++, pairs++) {
                const plan_buffer *a = &p.buffers[i], *b = &p.buffers[j];
                bool meet = a->from <= b->until && b->from <= a->until;
                bool apart = a->offset + a->bytes <= b->offset || b->offset + b->bytes <= a->offset;
                assert_true(apart || !meet);
                assert_ptr_equal(places[i], (char *)p.arena + a->offset);
            }
        }
        plan_memory_free(&p);
        free(p.buffers);
    }
    print_message("%zu pairs of buffers\n", pairs);
}

/* ---- choices on disk ---- */

static void test_choices(void **state)
{
    char *dir = *state;
    assert_int_equal(conv_choice_find("a, b"), -1);
    conv_choice_add("a, b", 2, 0.5);
    conv_choice_add("a, b, c", 1, 0.25);
    assert_int_equal(conv_choice_find("a, b"), 2);
    assert_int_equal(conv_choice_find("a, b, c"), 1);
    assert_int_equal(conv_choice_find("a, "), -1);
    conv_choice_add("a, b", 3, 0.5);
    assert_int_equal(conv_choice_find("a, b"), 3);
    char *command =
        at_format("f=$(ls %s/conv*); printf 'x\\n7\\n3 z a, b\\n\\377\\n-1 1 q' > $f", dir);
    assert_int_equal(system(command), 0);
    assert_int_equal(conv_choice_find("a, b"), -1);
    assert_int_equal(conv_choice_find("q"), -1);
    conv_choice_add("q", 0, 1);
    assert_int_equal(conv_choice_find("q"), 0);
    free(command);
    setenv("ATOLL_CACHE_DIR", "/proc/nowhere", 1);
    conv_choice_add("q", 1, 1);
    assert_int_equal(conv_choice_find("q"), -1);
    setenv("ATOLL_CACHE_DIR", dir, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arena),
        cmocka_unit_test(test_choices),
    };
    return cmocka_run_group_tests(tests, scratch_caches, scratch_caches_gone);
}
