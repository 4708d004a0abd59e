/* SPDX-License-Identifier: Apache-2.0
 * ctest: ranks=4 timeout=120
 * The allreduce against a double-precision sum, the same bits on every rank and in a second run;
 * inside and outside the shared window. test_nodes.sh runs this with pretended nodes, too. */
#include "ranks.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GUARD = 64, MOST = (5 << 18) + 3 }; /* floats */
static const float guard_value = 12345.678f;

/* Where the data lies: `room` floats with guards around [offset, offset + count). */
typedef struct place {
    float *room;
    size_t offset;
} place;

static float value_of(at_rng *rng)
{
    return (float)(2 * at_rng_uniform(rng) - 1);
}

static at_rng values_of_rank(int rank, uint64_t seed)
{
    return at_rng_stream(seed, "values", (uint64_t)rank);
}

static void fill(place p, size_t count, uint64_t seed)
{
    at_rng rng = values_of_rank(at_comm_rank(ranks_comm()), seed);
    for (size_t i = 0; i < count; i++)
        p.room[p.offset + i] = value_of(&rng);
    for (size_t i = 0; i < GUARD; i++) {
        p.room[p.offset - 1 - i] = guard_value;
        p.room[p.offset + count + i] = guard_value;
    }
}

static bool guards_hold(place p, size_t count)
{
    for (size_t i = 0; i < GUARD; i++)
        if (p.room[p.offset - 1 - i] != guard_value || p.room[p.offset + count + i] != guard_value)
            return false;
    return true;
}

/* The index of the first value that is not the sum within rounding, or count. */
static size_t first_wrong(const float *got, size_t count, uint64_t seed)
{
    int n = at_comm_size(ranks_comm());
    at_rng rng[n];
    for (int r = 0; r < n; r++)
        rng[r] = values_of_rank(r, seed);
    for (size_t i = 0; i < count; i++) {
        double sum = 0, size = 0;
        for (int r = 0; r < n; r++) {
            double v = value_of(&rng[r]);
            sum += v;
            size += fabs(v);
        }
        if (!(fabs(got[i] - sum) <= n * (double)FLT_EPSILON * size))
            return i;
    }
    return count;
}

static void reduce_and_check(place p, size_t count, uint64_t seed, const char *where)
{
    at_error err = {0};
    float *data = p.room + p.offset;
    uint32_t crc[2];
    for (int run = 0; run < 2; run++) {
        fill(p, count, seed);
        int code = at_comm_allreduce(ranks_comm(), data, count, &err);
        ranks_assert(code == 0, "%s, %zu values: %s", where, count, err.message);
        crc[run] = at_crc32c(0, data, count * sizeof *data);
    }
    size_t wrong = first_wrong(data, count, seed);
    ranks_assert(wrong == count, "%s, %zu values: [%zu] is wrong", where, count, wrong);
    ranks_assert(guards_hold(p, count), "%s, %zu values: wrote beyond them", where, count);
    ranks_assert(crc[0] == crc[1], "%s, %zu values: a second run differs", where, count);
    ranks_assert(ranks_agree(data, count * sizeof *data), "%s, %zu values: ranks differ", where,
                 count);
}

/* Both kinds of memory, MOST floats and their guards at any offset below `slack`. */
static float *open_window(size_t slack)
{
    at_error err = {0};
    float *window = at_comm_alloc(ranks_comm(), MOST + 2 * GUARD + slack, &err);
    ranks_assert(window != NULL, "%s", err.message);
    return window;
}

static float *open_plain(size_t slack)
{
    float *plain = at_alloc_aligned((MOST + 2 * GUARD + slack) * sizeof *plain);
    ranks_assert(plain != NULL, "no memory");
    return plain;
}

static void sums_of_any_size(void **state)
{
    (void)state;
    size_t n = (size_t)at_comm_size(ranks_comm());
    const size_t sizes[] = {0,    1,    n - 1, n,     n + 1, 15 * n, 16 * n, 16 * n + 1,     63,
                            1023, 1025, 4097,  65535, 65536, 65537,  200003, (1 << 20) + 17, MOST};
    float *window = open_window(0), *plain = open_plain(0);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        reduce_and_check((place){window, GUARD}, sizes[i], i, "window");
        reduce_and_check((place){plain, GUARD}, sizes[i], i, "plain");
    }
    at_free_aligned(plain);
    at_comm_dealloc(ranks_comm(), window);
}

static void sums_of_random_sizes_at_random_places(void **state)
{
    (void)state;
    enum { CASES = 120, SLACK = 1000 };
    float *window = open_window(SLACK), *plain = open_plain(SLACK);
    at_rng rng = at_rng_stream(1, "sizes", 0);
    for (uint64_t i = 0; i < CASES; i++) {
        size_t largest = i % 3 ? 5000 : 300000;
        size_t count = at_rng_below(&rng, largest);
        place p = {i % 2 ? window : plain, GUARD + at_rng_below(&rng, SLACK)};
        reduce_and_check(p, count, i, i % 2 ? "window" : "plain");
    }
    print_message("%d random sizes and places\n", CASES);
    at_free_aligned(plain);
    at_comm_dealloc(ranks_comm(), window);
}

static bool one_node(void)
{
    return at_comm_local_size(ranks_comm()) == at_comm_size(ranks_comm());
}

/* Inside a node, whoever comes with data elsewhere than the others still gets the sum. */
static void sums_of_data_that_lies_differently_on_each_rank(void **state)
{
    (void)state;
    if (!one_node())
        skip();
    enum { SLACK = 1000, COUNT = 150001 };
    size_t rank = (size_t)at_comm_rank(ranks_comm());
    float *window = open_window(SLACK), *other = open_window(SLACK), *plain = open_plain(SLACK);
    reduce_and_check((place){window, GUARD + rank}, COUNT, 1, "other offsets");
    reduce_and_check((place){rank ? window : plain, GUARD}, COUNT, 2, "window and plain");
    reduce_and_check((place){rank % 2 ? window : other, GUARD}, COUNT, 3, "two windows");
    at_free_aligned(plain);
    at_comm_dealloc(ranks_comm(), other);
    at_comm_dealloc(ranks_comm(), window);
}

/* Within a node only: over nodes MPI's truncated message tells, and the job has to end. */
static void unequal_counts_are_an_error(void **state)
{
    (void)state;
    at_comm *c = ranks_comm();
    if (!one_node() || at_comm_size(c) < 2)
        skip();
    float data[8] = {0};
    at_error err = {0};
    size_t count = at_comm_rank(c) == 1 ? 7 : 8;
    int code = at_comm_allreduce(c, data, count, &err);
    ranks_assert(code == AT_EFAIL && strstr(err.message, "7"), "code %d: %s", code, err.message);
}

static void the_peer_of_the_bench_sums_too(void **state)
{
    (void)state;
    at_error err = {0};
    place p = {open_plain(0), GUARD};
    fill(p, MOST, 5);
    int code = at_comm_allreduce_mpi(ranks_comm(), p.room + p.offset, MOST, &err);
    ranks_assert(code == 0, "%s", err.message);
    size_t wrong = first_wrong(p.room + p.offset, MOST, 5);
    ranks_assert(wrong == MOST, "[%zu] is wrong", wrong);
    at_free_aligned(p.room);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_of_any_size),
        cmocka_unit_test(sums_of_random_sizes_at_random_places),
        cmocka_unit_test(sums_of_data_that_lies_differently_on_each_rank),
        cmocka_unit_test(unequal_counts_are_an_error),
        cmocka_unit_test(the_peer_of_the_bench_sums_too),
    };
    return ranks_run(tests, sizeof tests / sizeof *tests);
}
