/* SPDX-License-Identifier: Apache-2.0
 * Random streams: the published vector, our own pinned vectors (a change of them would change every
 * study and training), and statistics with bounds of six deviations from fixed seeds. */
#include "atoll/base.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_published_vector(void **state)
{
    (void)state;
    /* xoshiro256++ from the state {1, 2, 3, 4}, as the authors' C code and Rust's rand_xoshiro */
    static const uint64_t expected[] = {41943041u,
                                        58720359u,
                                        3588806011781223u,
                                        3591011842654386u,
                                        9228616714210784205u,
                                        9973669472204895162u,
                                        14011001112246962877u,
                                        12406186145184390807u,
                                        15849039046786891736u,
                                        10450023813501588000u};
    at_rng rng = {{1, 2, 3, 4}};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        assert_true(at_rng_next(&rng) == expected[i]);
}

static void test_streams_are_pinned(void **state)
{
    (void)state;
    at_rng rng = at_rng_stream(42, "weights", 7);
    assert_true(at_rng_next(&rng) == 0x7a23d363b6209ae7u);
    assert_true(at_rng_next(&rng) == 0x443723cd1fa943a1u);
    rng = at_rng_stream(0, "", 0);
    assert_true(at_rng_next(&rng) == 0x11ea5d71ab27f4bfu);
}

static void test_streams_differ(void **state)
{
    (void)state;
    enum { SEEDS = 8, PURPOSES = 4, IDS = 64, N = SEEDS * PURPOSES * IDS };
    static const char *const purposes[PURPOSES] = {"order", "flip", "shift", "dropout"};
    static uint64_t first[N];
    size_t n = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++)
        for (int p = 0; p < PURPOSES; p++)
            for (uint64_t id = 0; id < IDS; id++) {
                at_rng rng = at_rng_stream(seed, purposes[p], id);
                at_rng again = at_rng_stream(seed, purposes[p], id);
                assert_memory_equal(&rng, &again, sizeof rng);
                first[n++] = at_rng_next(&rng);
            }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++)
            assert_true(first[i] != first[j]);
    print_message("%zu streams, all different\n", n);
}

static void test_uniform(void **state)
{
    (void)state;
    enum { N = 200000, BINS = 100 };
    size_t bins[BINS] = {0};
    double sum = 0;
    at_rng rng = at_rng_stream(1, "uniform", 0);
    for (int i = 0; i < N; i++) {
        double u = at_rng_uniform(&rng);
        assert_true(u >= 0 && u < 1);
        bins[(int)(u * BINS)]++;
        sum += u;
    }
    assert_true(fabs(sum / N - 0.5) < 6 * sqrt(1.0 / 12 / N));
    double chi2 = 0;
    for (int i = 0; i < BINS; i++)
        chi2 += pow((double)bins[i] - (double)N / BINS, 2) / ((double)N / BINS);
    assert_true(fabs(chi2 - (BINS - 1)) < 6 * sqrt(2.0 * (BINS - 1)));
}

static void test_normal(void **state)
{
    (void)state;
    enum { N = 200000 };
    double sum = 0, squares = 0, fourth = 0;
    int within = 0;
    at_rng rng = at_rng_stream(2, "normal", 0);
    for (int i = 0; i < N; i++) {
        double x = at_rng_normal(&rng);
        assert_true(isfinite(x));
        sum += x;
        squares += x * x;
        fourth += x * x * x * x;
        within += fabs(x) < 1;
    }
    assert_true(fabs(sum / N) < 6 / sqrt(N));
    assert_true(fabs(squares / N - 1) < 6 * sqrt(2.0 / N));
    assert_true(fabs(fourth / N - 3) < 6 * sqrt(96.0 / N));
    assert_true(fabs((double)within / N - 0.6826895) < 6 * sqrt(0.25 / N));
}

static void test_below_has_no_bias(void **state)
{
    (void)state;
    at_rng rng = at_rng_stream(3, "below", 0);
    assert_true(at_rng_below(&rng, 0) == 0);
    assert_true(at_rng_below(&rng, 1) == 0);
    for (int i = 0; i < 1000; i++)
        assert_true(at_rng_below(&rng, UINT64_MAX) < UINT64_MAX);

    enum { N = 70000 };
    size_t seen[7] = {0};
    for (int i = 0; i < N; i++)
        seen[at_rng_below(&rng, 7)]++;
    for (int i = 0; i < 7; i++)
        assert_true(fabs((double)seen[i] - N / 7.0) < 6 * sqrt(N * 6.0 / 49));

    /* With n = 3 * 2^62 a plain remainder would give the first third twice as often as the others;
     * scaling without rejection would favour every third value. */
    const uint64_t n = (uint64_t)3 << 62;
    size_t thirds[3] = {0}, residues[3] = {0};
    for (int i = 0; i < N; i++) {
        uint64_t value = at_rng_below(&rng, n);
        assert_true(value < n);
        thirds[value >> 62]++;
        residues[value % 3]++;
    }
    for (int i = 0; i < 3; i++) {
        assert_true(fabs((double)thirds[i] - N / 3.0) < 6 * sqrt(N * 2.0 / 9));
        assert_true(fabs((double)residues[i] - N / 3.0) < 6 * sqrt(N * 2.0 / 9));
    }
}

static void test_shuffle_is_a_permutation(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 2, 3, 10, 1000, 60000};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        size_t n = sizes[s];
        uint32_t *items = malloc((n + 1) * sizeof *items);
        bool *seen = calloc(n + 1, sizeof *seen);
        assert_true(items && seen);
        for (size_t i = 0; i < n; i++)
            items[i] = (uint32_t)i;
        at_rng rng = at_rng_stream(4, "shuffle", n);
        at_rng_shuffle(&rng, items, n);
        for (size_t i = 0; i < n; i++) {
            assert_true(items[i] < n && !seen[items[i]]);
            seen[items[i]] = true;
        }
        free(seen);
        free(items);
    }
}

static void test_shuffle_is_fair(void **state)
{
    (void)state;
    enum { N = 60000 };
    size_t orders[27] = {0}; /* indexed by the three items read in base 3 */
    at_rng rng = at_rng_stream(5, "shuffle", 0);
    for (int i = 0; i < N; i++) {
        uint32_t items[3] = {0, 1, 2};
        at_rng_shuffle(&rng, items, 3);
        orders[items[0] * 9 + items[1] * 3 + items[2]]++;
    }
    int permutations = 0;
    for (int i = 0; i < 27; i++)
        if (orders[i]) {
            permutations++;
            assert_true(fabs((double)orders[i] - N / 6.0) < 6 * sqrt(N * 5.0 / 36));
        }
    assert_int_equal(permutations, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_vector),
        cmocka_unit_test(test_streams_are_pinned),
        cmocka_unit_test(test_streams_differ),
        cmocka_unit_test(test_uniform),
        cmocka_unit_test(test_normal),
        cmocka_unit_test(test_below_has_no_bias),
        cmocka_unit_test(test_shuffle_is_a_permutation),
        cmocka_unit_test(test_shuffle_is_fair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
