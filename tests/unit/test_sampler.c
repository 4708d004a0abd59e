/* SPDX-License-Identifier: Apache-2.0
 * The plan of an epoch, over random sizes, ranks and batches.
 * ctest: timeout=120 */
#include "atoll/cache.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CASES = 2000, MOST_SAMPLES = 3000, MOST_BATCH = 64 };

static at_sampler *make(const at_sampler_spec *spec)
{
    at_error err = {0};
    at_sampler *s = at_sampler_new(spec, &err);
    if (!s)
        fail_msg("%s", err.message);
    return s;
}

/* The ids of an epoch in the order of the global plan, padding as UINT32_MAX; malloc'd. */
static uint32_t *epoch_order(const at_sampler_spec *spec, uint64_t epoch, size_t *n)
{
    at_sampler *s = make(spec);
    assert_int_equal(at_sampler_set_epoch(s, epoch), 0);
    size_t steps = at_sampler_steps(s), b = spec->batch;
    *n = steps * spec->ranks * b;
    uint32_t *order = malloc((*n + b) * sizeof *order);
    float *weights = malloc(b * sizeof *weights);
    for (size_t step = 0; step < steps; step++)
        for (size_t rank = 0; rank < spec->ranks; rank++) {
            uint32_t *ids = order + (step * spec->ranks + rank) * b;
            size_t real = at_sampler_batch(s, step, rank, ids, weights);
            for (size_t i = 0; i < b; i++) {
                assert_true(weights[i] == (i < real ? 1.0f : 0.0f));
                if (i >= real) {
                    assert_int_equal(ids[i], 0);
                    ids[i] = UINT32_MAX;
                }
            }
        }
    free(weights);
    at_sampler_free(s);
    return order;
}

/* Each of the first `used` is a sample of its own, the rest is padding, less than a step of it. */
static void check_once_each(const at_sampler_spec *spec, const uint32_t *order, size_t n)
{
    size_t used = spec->limit && spec->limit < spec->samples ? spec->limit : spec->samples;
    char *seen = calloc(spec->samples + 1, 1);
    for (size_t i = 0; i < n; i++) {
        if (i >= used) {
            assert_int_equal(order[i], UINT32_MAX);
            continue;
        }
        assert_true(order[i] < spec->samples);
        assert_false(seen[order[i]]);
        seen[order[i]] = 1;
        if (!spec->shuffle)
            assert_int_equal(order[i], i);
    }
    assert_true(n >= used && n - used < spec->ranks * spec->batch);
    free(seen);
}

/* Other ranks with the same global batch: the same order, step by step. */
static void check_other_ranks(const at_sampler_spec *spec, const uint32_t *order, size_t n,
                              uint64_t epoch)
{
    at_sampler_spec other = *spec;
    size_t global = spec->ranks * spec->batch;
    for (other.ranks = 1; other.ranks <= 64; other.ranks *= 2) {
        if (global % other.ranks)
            continue;
        other.batch = global / other.ranks;
        size_t m;
        uint32_t *same = epoch_order(&other, epoch, &m);
        assert_int_equal(m, n);
        assert_memory_equal(same, order, n * sizeof *order);
        free(same);
    }
}

static size_t count_moved(const uint32_t *a, const uint32_t *b, size_t n)
{
    size_t moved = 0;
    for (size_t i = 0; i < n; i++)
        moved += a[i] != b[i];
    return moved;
}

static void test_random_plans(void **state)
{
    (void)state;
    at_rng rng = at_rng_stream(1, "test_sampler", 0);
    size_t padded = 0, limited = 0;
    for (size_t k = 0; k < CASES; k++) {
        at_sampler_spec spec = {
            .samples = 1 + at_rng_below(&rng, k % 2 ? MOST_SAMPLES : 200),
            .ranks = 1 + at_rng_below(&rng, 64),
            .batch = 1 + at_rng_below(&rng, MOST_BATCH),
            .seed = at_rng_next(&rng),
            .shuffle = k % 8 != 0,
        };
        spec.limit = k % 3 ? 0 : at_rng_below(&rng, 2 * spec.samples);
        uint64_t epoch = at_rng_below(&rng, 1000);
        size_t n, m;
        uint32_t *order = epoch_order(&spec, epoch, &n);
        uint32_t *next = epoch_order(&spec, epoch + 1, &m);
        check_once_each(&spec, order, n);
        check_other_ranks(&spec, order, n, epoch);
        assert_int_equal(n, m);
        if (spec.shuffle && spec.samples > 100 && !(spec.limit && spec.limit < 20))
            assert_true(count_moved(order, next, n) > 10);
        padded += order[n - 1] == UINT32_MAX;
        limited += spec.limit > 0 && spec.limit < spec.samples;
        free(order);
        free(next);
    }
    assert_true(padded > 100 && limited > 100);
    print_message("%d random plans, %zu with padding, %zu limited\n", CASES, padded, limited);
}

static void test_epochs_can_be_visited_in_any_order(void **state)
{
    (void)state;
    at_sampler_spec spec = {.samples = 1000, .ranks = 2, .batch = 10, .seed = 7, .shuffle = true};
    uint32_t first[10], again[10];
    float weights[10];
    at_sampler *s = make(&spec);
    at_sampler_set_epoch(s, 5);
    at_sampler_batch(s, 3, 1, first, weights);
    for (uint64_t epoch = 0; epoch < 8; epoch++)
        at_sampler_set_epoch(s, 7 - epoch);
    at_sampler_set_epoch(s, 5);
    at_sampler_batch(s, 3, 1, again, weights);
    assert_memory_equal(first, again, sizeof first);
    at_sampler_free(s);
}

/* Over many seeds every sample comes first about equally often. */
static void test_shuffle_is_even(void **state)
{
    (void)state;
    enum { SAMPLES = 10, TRIES = 20000 };
    size_t first[SAMPLES] = {0};
    for (uint64_t seed = 0; seed < TRIES; seed++) {
        at_sampler_spec spec = {
            .samples = SAMPLES, .ranks = 1, .batch = 1, .seed = seed, .shuffle = true};
        uint32_t id;
        float weight;
        at_sampler *s = make(&spec);
        at_sampler_batch(s, 0, 0, &id, &weight);
        first[id]++;
        at_sampler_free(s);
    }
    for (size_t i = 0; i < SAMPLES; i++)
        assert_in_range(first[i], TRIES / SAMPLES - 200, TRIES / SAMPLES + 200); /* 4.7 sigma */
}

static void test_nothing_to_plan(void **state)
{
    (void)state;
    at_sampler_spec spec = {.samples = 0, .ranks = 3, .batch = 4, .shuffle = true};
    uint32_t ids[4] = {9, 9, 9, 9};
    float weights[4] = {9, 9, 9, 9};
    at_sampler *s = make(&spec);
    assert_int_equal(at_sampler_steps(s), 0);
    assert_int_equal(at_sampler_batch(s, 0, 2, ids, weights), 0);
    for (int i = 0; i < 4; i++)
        assert_true(ids[i] == 0 && weights[i] == 0);
    at_sampler_free(s);
    at_sampler_free(NULL);
}

static void test_bad_plans_are_refused(void **state)
{
    (void)state;
    const struct {
        at_sampler_spec spec;
        int code;
    } bad[] = {
        {{.samples = 10, .ranks = 0, .batch = 1}, AT_EUSAGE},
        {{.samples = 10, .ranks = 1, .batch = 0}, AT_EUSAGE},
        {{.samples = 10, .ranks = SIZE_MAX / 2, .batch = 4}, AT_EUSAGE},
        {{.samples = (size_t)1 << 33, .ranks = 1, .batch = 1}, AT_EINPUT},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        at_error err = {0};
        assert_null(at_sampler_new(&bad[i].spec, &err));
        assert_int_equal(err.code, bad[i].code);
        assert_true(err.message[0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_plans),
        cmocka_unit_test(test_epochs_can_be_visited_in_any_order),
        cmocka_unit_test(test_shuffle_is_even),
        cmocka_unit_test(test_nothing_to_plan),
        cmocka_unit_test(test_bad_plans_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
