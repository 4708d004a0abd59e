/* SPDX-License-Identifier: Apache-2.0
 * ctest: ranks=2 timeout=120
 * The figures of `atoll bench allreduce` are there and belong together; none is held against a
 * time. */
#include "atoll/bench.h"

#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

static void check_size(const at_node *size)
{
    static const char *const positive[] = {"bytes",
                                           "gigabytes_per_second",
                                           "outside_gigabytes_per_second",
                                           "mpi_gigabytes_per_second",
                                           "floor_gigabytes_per_second",
                                           "ratio"};
    for (size_t i = 0; i < sizeof positive / sizeof *positive; i++)
        assert_true(at_node_real(at_node_get(size, positive[i]), -1) > 0);
    double ours = at_node_real(at_node_get(size, "gigabytes_per_second"), 0);
    double median = at_node_real(at_node_get(size, "median_gigabytes_per_second"), 0);
    assert_true(median > 0 && median <= ours);
}

static void rank_0_has_the_figures(void **state)
{
    (void)state;
    at_error err = {0};
    at_node *result = at_bench_allreduce(3, &err);
    if (!result)
        fail_msg("%s", err.message);
    const at_node *sizes = at_node_get(result, "sizes");
    if (at_node_count(result)) {
        assert_int_equal(at_node_int(at_node_get(result, "ranks"), 0), 2);
        assert_true(at_node_count(sizes) >= 4);
        for (size_t i = 0; i < at_node_count(sizes); i++)
            check_size(at_node_at(sizes, i));
        assert_true(at_node_real(at_node_get(result, "gigabytes_per_second"), 0) > 0);
        assert_true(at_node_real(at_node_get(result, "floor_gigabytes_per_second"), 0) > 0);
        assert_true(at_node_int(at_node_get(result, "peak_rss_bytes"), 0) > 64 << 20);
    }
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    assert_int_equal(at_node_count(result) > 0, rank && atoi(rank) == 0);
    at_node_free(result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rank_0_has_the_figures)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
