/* SPDX-License-Identifier: Apache-2.0
 * The plan of an epoch, over random sizes, ranks and batches, for each sample once and by class.
 * ctest: timeout=120 */
#include "atoll/cache.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CASES = 2000, MOST_SAMPLES = 3000, MOST_BATCH = 64, MOST_RANKS = 64, MOST_CLASSES = 12 };
static const uint64_t padding = UINT64_MAX;

static at_sampler *make(const at_sampler_spec *spec)
{
    at_error err = {0};
    at_sampler *s = at_sampler_new(spec, &err);
    if (!s)
        fail_msg("%s", err.message);
    return s;
}

static size_t global_batch(const at_sampler_spec *spec)
{
    return spec->ranks * spec->batch;
}

static size_t used_of(const at_sampler_spec *spec)
{
    return spec->limit && spec->limit < spec->samples ? spec->limit : spec->samples;
}

/* What all ranks get from a step of an epoch on, in the order of the global plan, as key << 32 |
 * id; malloc'd. Every rank has the same steps; the padding's ids, keys and weights are 0. */
static uint64_t *order_from(const at_sampler_spec *spec, uint64_t epoch, size_t step, size_t *n)
{
    at_sampler *s = make(spec);
    assert_int_equal(at_sampler_set_epoch(s, epoch), 0);
    assert_int_equal(at_sampler_used(s), used_of(spec));
    size_t steps = at_sampler_steps(s), b = spec->batch, at = 0;
    assert_int_equal(steps, (used_of(spec) + global_batch(spec) - 1) / global_batch(spec));
    *n = (steps - step) * global_batch(spec);
    uint64_t *order = malloc((*n + 1) * sizeof *order);
    uint32_t *ids = malloc(b * sizeof *ids), *keys = malloc(b * sizeof *keys);
    float *weights = malloc(b * sizeof *weights);
    for (; step < steps; step++)
        for (size_t rank = 0; rank < spec->ranks; rank++) {
            size_t real = at_sampler_batch(s, step, rank, ids, keys, weights);
            for (size_t i = 0; i < b; i++) {
                assert_true(weights[i] == (i < real ? 1.0f : 0.0f));
                assert_true(i < real || (ids[i] == 0 && keys[i] == 0));
                order[at++] = i < real ? (uint64_t)keys[i] << 32 | ids[i] : padding;
            }
        }
    assert_int_equal(at, *n);
    free(ids);
    free(keys);
    free(weights);
    at_sampler_free(s);
    return order;
}

/* How often each sample comes up; what is behind the used places is padding. */
static size_t *count_samples(const at_sampler_spec *spec, const uint64_t *order, size_t n)
{
    size_t *counts = calloc(spec->samples + 1, sizeof *counts), used = used_of(spec);
    assert_true(n >= used && n - used < global_batch(spec));
    for (size_t i = 0; i < n; i++) {
        assert_true((order[i] == padding) == (i >= used));
        if (i >= used)
            continue;
        uint32_t id = (uint32_t)order[i], key = (uint32_t)(order[i] >> 32);
        assert_true(id < spec->samples);
        assert_int_equal(key % spec->samples, id);
        counts[id]++;
    }
    return counts;
}

static void check_once_each(const at_sampler_spec *spec, const uint64_t *order, size_t n)
{
    size_t *counts = count_samples(spec, order, n), used = used_of(spec);
    for (size_t i = 0; i < used; i++) {
        uint32_t id = (uint32_t)order[i];
        assert_int_equal(counts[id], 1);
        assert_int_equal(order[i] >> 32, id);
        assert_true(spec->shuffle || id == i);
    }
    free(counts);
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* No two draws of a sample have the same key. */
static void check_keys(const uint64_t *order, size_t used)
{
    uint64_t *sorted = malloc((used + 1) * sizeof *sorted);
    memcpy(sorted, order, used * sizeof *sorted);
    qsort(sorted, used, sizeof *sorted, ascending);
    for (size_t i = 1; i < used; i++)
        assert_true(sorted[i] != sorted[i - 1]);
    free(sorted);
}

/* Each class has the draws that its weight and size make, rounded up or down; its images share
 * them, rounded likewise. */
static void check_shares(const at_sampler_spec *spec, const uint64_t *order, size_t n)
{
    size_t *counts = count_samples(spec, order, n), used = used_of(spec);
    size_t members[MOST_CLASSES] = {0}, draws[MOST_CLASSES] = {0};
    double all = 0;
    for (size_t i = 0; i < spec->samples; i++) {
        members[spec->labels[i]]++;
        draws[spec->labels[i]] += counts[i];
        all += spec->class_weights[spec->labels[i]];
    }
    for (size_t c = 0; c < spec->classes; c++) {
        double expected = (double)(used * members[c]) * spec->class_weights[c] / all;
        assert_true(fabs((double)draws[c] - expected) < 1 + 1e-6);
        assert_true(spec->class_weights[c] > 0 || draws[c] == 0);
    }
    for (size_t i = 0; i < spec->samples; i++) {
        size_t c = (size_t)spec->labels[i], least = draws[c] / members[c];
        assert_true(counts[i] == least || (counts[i] == least + 1 && draws[c] % members[c]));
    }
    check_keys(order, used);
    free(counts);
}

/* Other ranks with the same global batch: the same order, step by step. */
static void check_other_ranks(const at_sampler_spec *spec, const uint64_t *order, size_t n,
                              uint64_t epoch)
{
    at_sampler_spec other = *spec;
    for (other.ranks = 1; other.ranks <= MOST_RANKS; other.ranks *= 2) {
        if (global_batch(spec) % other.ranks)
            continue;
        other.batch = global_batch(spec) / other.ranks;
        size_t m;
        uint64_t *same = order_from(&other, epoch, 0, &m);
        assert_int_equal(m, n);
        assert_memory_equal(same, order, n * sizeof *order);
        free(same);
    }
}

static size_t random_divisor(at_rng *rng, size_t n, size_t most)
{
    size_t d = 1 + at_rng_below(rng, n < most ? n : most);
    while (n % d)
        d--;
    return d;
}

/* Left in mid-epoch, gone on with by other ranks with another batch that meets the place: they see
 * exactly the rest. Returns how many samples that is. */
static size_t check_resume(const at_sampler_spec *spec, const uint64_t *order, uint64_t epoch,
                           at_rng *rng)
{
    size_t used = used_of(spec), whole = used / global_batch(spec), m;
    if (!whole)
        return 0;
    size_t done = (1 + at_rng_below(rng, whole)) * global_batch(spec);
    size_t global = random_divisor(rng, done, MOST_RANKS * MOST_BATCH);
    at_sampler_spec other = *spec;
    other.ranks = random_divisor(rng, global, MOST_RANKS);
    other.batch = global / other.ranks;
    uint64_t *rest = order_from(&other, epoch, done / global, &m);
    assert_true(m >= used - done);
    assert_memory_equal(rest, order + done, (used - done) * sizeof *rest);
    for (size_t i = used - done; i < m; i++)
        assert_true(rest[i] == padding);
    free(rest);
    return used - done;
}

static size_t count_moved(const uint64_t *a, const uint64_t *b, size_t n)
{
    size_t moved = 0;
    for (size_t i = 0; i < n; i++)
        moved += a[i] != b[i];
    return moved;
}

typedef struct random_plan {
    at_sampler_spec spec;
    int32_t labels[MOST_SAMPLES];
    double weights[MOST_CLASSES];
} random_plan;

/* Some classes are rare, empty, or without weight. */
static void draw_classes(random_plan *p, at_rng *rng)
{
    p->spec.classes = 1 + at_rng_below(rng, MOST_CLASSES);
    p->spec.labels = p->labels;
    p->spec.class_weights = p->weights;
    for (size_t i = 0; i < p->spec.samples; i++)
        p->labels[i] = (int32_t)at_rng_below(rng, 1 + at_rng_below(rng, p->spec.classes));
    for (size_t c = 0; c < p->spec.classes; c++)
        p->weights[c] = at_rng_below(rng, 4) ? exp(6 * at_rng_uniform(rng) - 3) : 0;
    p->weights[p->labels[0]] = 1;
}

static void draw_plan(random_plan *p, size_t k, at_rng *rng)
{
    p->spec = (at_sampler_spec){
        .samples = 1 + at_rng_below(rng, k % 2 ? MOST_SAMPLES : 200),
        .ranks = 1 + at_rng_below(rng, MOST_RANKS),
        .batch = 1 + at_rng_below(rng, k % 5 ? MOST_BATCH : 4),
        .seed = at_rng_next(rng),
        .shuffle = k % 8 != 0,
    };
    p->spec.limit = k % 3 ? 0 : at_rng_below(rng, 2 * p->spec.samples);
    if (k % 4 == 1)
        draw_classes(p, rng);
}

static void test_random_plans(void **state)
{
    (void)state;
    at_rng rng = at_rng_stream(1, "test_sampler", 0);
    size_t padded = 0, limited = 0, by_class = 0, resumed = 0, rest = 0;
    for (size_t k = 0; k < CASES; k++) {
        random_plan p;
        draw_plan(&p, k, &rng);
        const at_sampler_spec *spec = &p.spec;
        uint64_t epoch = at_rng_below(&rng, 1000);
        size_t n, m;
        uint64_t *order = order_from(spec, epoch, 0, &n);
        uint64_t *next = order_from(spec, epoch + 1, 0, &m);
        (spec->class_weights ? check_shares : check_once_each)(spec, order, n);
        check_other_ranks(spec, order, n, epoch);
        assert_int_equal(n, m);
        bool moves = spec->shuffle && !spec->class_weights;
        if (moves && spec->samples > 100 && !(spec->limit && spec->limit < 20))
            assert_true(count_moved(order, next, n) > 10);
        size_t left = check_resume(spec, order, epoch, &rng);
        padded += order[n - 1] == padding;
        limited += spec->limit > 0 && spec->limit < spec->samples;
        by_class += spec->class_weights != NULL;
        resumed += left > 0;
        rest += left;
        free(order);
        free(next);
    }
    assert_true(padded > 100 && limited > 100 && by_class == CASES / 4 && resumed > 100);
    print_message("%d random plans: %zu with padding, %zu limited, %zu by class, %zu gone on with "
                  "at another world size in mid-epoch: exactly the %zu samples left\n",
                  CASES, padded, limited, by_class, resumed, rest);
}

/* 90 images of one class, 10 of another, which counts nine times as much: over many epochs each
 * image of the first comes up 5/9 times an epoch, of the second five times. Half as many with a
 * limit. */
static void test_expected_frequencies(void **state)
{
    (void)state;
    enum { SAMPLES = 100, RARE = 10, EPOCHS = 4000 };
    static const double weights[] = {1, 9};
    int32_t labels[SAMPLES];
    for (int i = 0; i < SAMPLES; i++)
        labels[i] = i % RARE == 3;
    for (size_t limit = 0; limit <= SAMPLES / 2; limit += SAMPLES / 2) {
        at_sampler_spec spec = {.samples = SAMPLES,
                                .limit = limit,
                                .ranks = 1,
                                .batch = 1,
                                .seed = 3,
                                .class_weights = weights,
                                .labels = labels,
                                .classes = 2};
        size_t counts[SAMPLES] = {0}, used = used_of(&spec);
        at_sampler *s = make(&spec);
        for (uint64_t epoch = 0; epoch < EPOCHS; epoch++) {
            at_sampler_set_epoch(s, epoch);
            for (size_t place = 0; place < used; place++) {
                uint32_t id, key;
                at_sampler_place(s, place, &id, &key);
                counts[id]++;
            }
        }
        for (int i = 0; i < SAMPLES; i++) {
            double share = 0.5 * (double)used / (labels[i] ? RARE : SAMPLES - RARE);
            double whole = floor(share), part = share - whole;
            double sigma = sqrt(part * (1 - part) / EPOCHS);
            assert_true(fabs((double)counts[i] / EPOCHS - share) <= 5 * sigma + 1e-9);
        }
        at_sampler_free(s);
    }
}

static void test_epochs_can_be_visited_in_any_order(void **state)
{
    (void)state;
    at_sampler_spec spec = {.samples = 1000, .ranks = 2, .batch = 10, .seed = 7, .shuffle = true};
    uint32_t first[10], again[10], keys[10];
    float weights[10];
    at_sampler *s = make(&spec);
    at_sampler_set_epoch(s, 5);
    at_sampler_batch(s, 3, 1, first, keys, weights);
    for (uint64_t epoch = 0; epoch < 8; epoch++)
        at_sampler_set_epoch(s, 7 - epoch);
    at_sampler_set_epoch(s, 5);
    at_sampler_batch(s, 3, 1, again, keys, weights);
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
        uint32_t id, key;
        at_sampler *s = make(&spec);
        at_sampler_place(s, 0, &id, &key);
        first[id]++;
        at_sampler_free(s);
    }
    for (size_t i = 0; i < SAMPLES; i++)
        assert_in_range(first[i], TRIES / SAMPLES - 200, TRIES / SAMPLES + 200); /* 4.7 sigma */
}

/* The plan of a million samples, each once or by class: what it takes after an epoch is all that it
 * takes after fifty. */
static void test_memory_of_a_large_plan(void **state)
{
    (void)state;
    enum { SAMPLES = 1000000, EPOCHS = 50, MOST_MIB = 100 };
    static const double weights[] = {1, 2, 0.5};
    int32_t *labels = malloc(SAMPLES * sizeof *labels);
    for (int32_t i = 0; i < SAMPLES; i++)
        labels[i] = i % 7 % 3;
    for (int by_class = 0; by_class < 2; by_class++) {
        at_sampler_spec spec = {.samples = SAMPLES, .ranks = 4, .batch = 64, .shuffle = true};
        if (by_class) {
            spec.class_weights = weights;
            spec.labels = labels;
            spec.classes = 3;
        }
        size_t before = at_current_rss(), early = 0;
        at_sampler *s = make(&spec);
        for (uint64_t epoch = 1; epoch <= EPOCHS; epoch++) {
            at_sampler_set_epoch(s, epoch);
            if (epoch == 1)
                early = at_current_rss();
        }
        size_t late = at_current_rss();
        assert_true(late < before + ((size_t)MOST_MIB << 20));
        assert_true(late < early + (1 << 20));
        print_message("%d samples%s: %zu KiB after 1 epoch, %zu after %d\n", SAMPLES,
                      by_class ? " by class" : "", (early - before) >> 10, (late - before) >> 10,
                      EPOCHS);
        at_sampler_free(s);
    }
    free(labels);
}

static void test_nothing_to_plan(void **state)
{
    (void)state;
    at_sampler_spec spec = {.samples = 0, .ranks = 3, .batch = 4, .shuffle = true};
    uint32_t ids[4] = {9, 9, 9, 9}, keys[4] = {9, 9, 9, 9};
    float weights[4] = {9, 9, 9, 9};
    at_sampler *s = make(&spec);
    assert_int_equal(at_sampler_steps(s), 0);
    assert_int_equal(at_sampler_batch(s, 0, 2, ids, keys, weights), 0);
    for (int i = 0; i < 4; i++)
        assert_true(ids[i] == 0 && keys[i] == 0 && weights[i] == 0);
    at_sampler_free(s);
    at_sampler_free(NULL);
}

static void test_bad_plans_are_refused(void **state)
{
    (void)state;
    static const int32_t labels[] = {0, 1, 2};
    static const double none[] = {0, 0, 0}, negative[] = {1, -1, 1}, no_number[] = {1, 1, NAN};
    const struct {
        at_sampler_spec spec;
        int code;
    } bad[] = {
        {{3, 0, 1, 1, .class_weights = none, .labels = labels, .classes = 3}, AT_EINPUT},
        {{3, 0, 1, 1, .class_weights = negative, .labels = labels, .classes = 3}, AT_EINPUT},
        {{3, 0, 1, 1, .class_weights = no_number, .labels = labels, .classes = 3}, AT_EINPUT},
        {{3, 0, 1, 1, .class_weights = none, .labels = labels, .classes = 2}, AT_EUSAGE},
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
    print_message("%zu bad plans refused\n", sizeof bad / sizeof *bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_plans),
        cmocka_unit_test(test_expected_frequencies),
        cmocka_unit_test(test_epochs_can_be_visited_in_any_order),
        cmocka_unit_test(test_shuffle_is_even),
        cmocka_unit_test(test_memory_of_a_large_plan),
        cmocka_unit_test(test_nothing_to_plan),
        cmocka_unit_test(test_bad_plans_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
