/* SPDX-License-Identifier: Apache-2.0
 * The loader gives exactly what plan, cache and augmentation say, in order, for any threads and
 * depth; begins anywhere, stops at any time, passes errors on in their place, and does not grow. */
#include "caches.h"
#include "scratch.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { H = 7, W = 6, C = 3, SAMPLE = H * W * C };

/* 609 training samples of 7x6x3: three batches of the cache. */
static const pictures shapes = {
    .classes = 3, .train = 203, .test = 5, .height = H, .width = W, .channels = C};

typedef struct fixture {
    char *dir, *dataset, *path;
    at_cache *cache;
} fixture;

static int set_up(void **state)
{
    at_error err = {0};
    fixture *f = calloc(1, sizeof *f);
    f->dir = scratch_new();
    f->dataset = pictures_ingest(&shapes, f->dir, "data");
    f->path = at_path_join(f->dir, "cache");
    cache_must(at_cache_build(f->dataset, &(at_cache_spec){0}, f->path, &err), &err);
    f->cache = cache_must_open(f->path);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    at_cache_close(f->cache);
    free(f->path);
    free(f->dataset);
    scratch_free(f->dir);
    free(f);
    return 0;
}

static at_loader_spec spec_of(const fixture *f, size_t ranks, size_t batch)
{
    return (at_loader_spec){
        .cache = f->cache,
        .split = AT_TRAIN,
        .sampler = {.ranks = ranks, .batch = batch, .seed = 5, .shuffle = true},
        .augment = {.flip = true, .shift = 2},
        .epochs = 2,
    };
}

static at_loader *make(const at_loader_spec *spec)
{
    at_error err = {0};
    at_loader *l = at_loader_new(spec, &err);
    if (!l)
        fail_msg("%s", err.message);
    return l;
}

static bool next(at_loader *l, at_batch *batch)
{
    at_error err = {0};
    int more = at_loader_next(l, batch, &err);
    if (more < 0)
        fail_msg("%s", err.message);
    return more == 1;
}

/* One batch against the plan, the cache and the augmentation themselves. */
static void check_batch(const at_loader_spec *spec, at_sampler *plan, const at_batch *b)
{
    uint32_t ids[256];
    float weights[256];
    uint8_t expected[SAMPLE];
    size_t batch = spec->sampler.batch;
    at_sampler_set_epoch(plan, b->epoch);
    size_t real = at_sampler_batch(plan, b->step, spec->rank, ids, weights);
    assert_int_equal(b->real, real);
    assert_memory_equal(b->ids, ids, batch * sizeof *ids);
    assert_memory_equal(b->weights, weights, batch * sizeof *weights);
    for (size_t i = 0; i < batch; i++) {
        const uint8_t *pixels;
        int32_t label = 0;
        at_error err = {0};
        memset(expected, 0, sizeof expected);
        if (i < real) {
            cache_must(at_cache_sample(spec->cache, spec->split, ids[i], &pixels, &label, &err),
                       &err);
            at_augment_apply(&spec->augment, spec->sampler.seed, b->epoch, ids[i], pixels, H, W, C,
                             expected);
        }
        assert_int_equal(b->labels[i], label);
        assert_memory_equal(b->pixels + i * SAMPLE, expected, SAMPLE);
    }
}

/* All batches from (first_epoch, first_step) to the end, in order; returns how many. */
static size_t check_run(const at_loader_spec *spec)
{
    at_error err = {0};
    at_sampler_spec whole = spec->sampler;
    if (!whole.samples)
        whole.samples = at_cache_count(spec->cache, spec->split);
    at_sampler *plan = at_sampler_new(&whole, &err);
    assert_non_null(plan);
    at_loader *l = make(spec);
    size_t steps = at_loader_steps(l), n = 0;
    assert_int_equal(steps, at_sampler_steps(plan));
    at_batch b;
    uint64_t at = spec->first_epoch * steps + spec->first_step;
    for (; next(l, &b); n++, at++) {
        assert_int_equal(b.epoch, at / steps);
        assert_int_equal(b.step, at % steps);
        check_batch(spec, plan, &b);
    }
    assert_int_equal(at, at > spec->epochs * steps ? at : spec->epochs * steps);
    assert_false(next(l, &b)); /* the end stays the end */
    assert_true(at_loader_waited(l) >= 0);
    at_loader_free(l);
    at_sampler_free(plan);
    return n;
}

static void test_any_threads_any_depth(void **state)
{
    const fixture *f = *state;
    size_t batches = 0;
    for (int threads = 0; threads <= 5; threads++)
        for (int depth = 0; depth <= 6; depth += 3)
            for (size_t ranks = 1; ranks <= 3; ranks += 2) {
                at_loader_spec spec = spec_of(f, ranks, 50);
                spec.threads = threads;
                spec.depth = depth;
                spec.rank = ranks - 1;
                batches += check_run(&spec);
            }
    print_message("%zu batches compared\n", batches);
}

static void test_plans_of_all_kinds(void **state)
{
    const fixture *f = *state;
    at_loader_spec spec = spec_of(f, 1, 256);
    spec.threads = 2;
    spec.augment = (at_augment){0};
    spec.sampler.shuffle = false;
    assert_int_equal(check_run(&spec), 2 * 3);
    spec.sampler.limit = 100;
    assert_int_equal(check_run(&spec), 2);
    spec.split = AT_TEST;
    assert_int_equal(check_run(&spec), 2);
    spec.sampler.samples = 3;
    spec.sampler.batch = 1;
    spec.epochs = 5;
    assert_int_equal(check_run(&spec), 15);
}

static void test_begins_anywhere(void **state)
{
    const fixture *f = *state;
    at_loader_spec spec = spec_of(f, 2, 40);
    size_t steps = 8; /* of ceil(609 / 80) */
    spec.epochs = 3;
    spec.threads = 2;
    for (spec.first_epoch = 0; spec.first_epoch < 4; spec.first_epoch++)
        for (spec.first_step = 0; spec.first_step <= steps; spec.first_step++) {
            size_t left = 3 * steps, done = spec.first_epoch * steps + spec.first_step;
            assert_int_equal(check_run(&spec), done < left ? left - done : 0);
        }
}

/* 1 x 64 and 4 x 16 see the same samples and pixels, step by step. */
static void test_ranks_share_one_order(void **state)
{
    const fixture *f = *state;
    at_loader_spec whole = spec_of(f, 1, 64);
    at_loader *one = make(&whole), *part[4];
    for (size_t rank = 0; rank < 4; rank++) {
        at_loader_spec spec = spec_of(f, 4, 16);
        spec.rank = rank;
        part[rank] = make(&spec);
        assert_int_equal(at_loader_steps(part[rank]), at_loader_steps(one));
    }
    at_batch all, b;
    while (next(one, &all))
        for (size_t rank = 0; rank < 4; rank++) {
            assert_true(next(part[rank], &b));
            assert_memory_equal(b.ids, all.ids + 16 * rank, 16 * sizeof *b.ids);
            assert_memory_equal(b.labels, all.labels + 16 * rank, 16 * sizeof *b.labels);
            assert_memory_equal(b.weights, all.weights + 16 * rank, 16 * sizeof *b.weights);
            assert_memory_equal(b.pixels, all.pixels + 16 * rank * SAMPLE, 16 * SAMPLE);
        }
    at_loader_free(one);
    for (size_t rank = 0; rank < 4; rank++) {
        assert_false(next(part[rank], &b));
        at_loader_free(part[rank]);
    }
}

static void test_stops_at_any_time(void **state)
{
    enum { CASES = 300 };
    const fixture *f = *state;
    at_rng rng = at_rng_stream(9, "test_loader", 0);
    for (int i = 0; i < CASES; i++) {
        at_loader_spec spec = spec_of(f, 1, 1 + at_rng_below(&rng, 64));
        spec.threads = 1 + (int)at_rng_below(&rng, 4);
        spec.depth = 1 + (int)at_rng_below(&rng, 5);
        spec.epochs = 1 + at_rng_below(&rng, 3);
        at_loader *l = make(&spec);
        at_batch b;
        for (uint64_t n = at_rng_below(&rng, 40); n && next(l, &b); n--)
            ;
        at_loader_free(l);
    }
    at_loader_free(NULL);
    print_message("%d loaders stopped\n", CASES);
}

static void test_an_empty_split_ends_at_once(void **state)
{
    const fixture *f = *state;
    at_loader_spec spec = spec_of(f, 1, 8);
    at_batch b;
    spec.split = AT_VAL;
    spec.epochs = UINT64_MAX;
    at_loader *l = make(&spec);
    assert_int_equal(at_loader_steps(l), 0);
    assert_false(next(l, &b));
    at_loader_free(l);
    spec = spec_of(f, 1, 8);
    spec.epochs = 0;
    l = make(&spec);
    assert_false(next(l, &b));
    at_loader_free(l);
}

static void test_what_cannot_be_is_refused(void **state)
{
    const fixture *f = *state;
    at_loader_spec bad[5];
    for (int i = 0; i < 5; i++)
        bad[i] = spec_of(f, 2, 8);
    bad[0].rank = 2;
    bad[1].sampler.samples = 610;
    bad[2].sampler.batch = 0;
    bad[3].threads = 1000000;
    bad[4].sampler.batch = (size_t)1 << 50;
    for (int i = 0; i < 5; i++) {
        at_error err = {0};
        assert_null(at_loader_new(&bad[i], &err));
        assert_int_equal(err.code, AT_EUSAGE);
    }
}

/* Byte 5 of the cache's second batch is wrong: samples 256..511 cannot be used. */
static void test_an_error_comes_in_its_place(void **state)
{
    const fixture *f = *state;
    size_t batch_bytes = (256 * (SAMPLE + 4) + 4095) / 4096 * 4096;
    cache_flip(f->path, "train.atc", (off_t)(2 * 4096 + batch_bytes + 5), 0x40);
    for (int threads = 1; threads <= 4; threads++) {
        at_loader_spec spec = spec_of(f, 1, 16);
        spec.cache = cache_must_open(f->path); /* anew: what is checked once stays checked */
        spec.sampler.shuffle = false;
        spec.threads = threads;
        at_loader *l = make(&spec);
        at_batch b;
        for (size_t step = 0; step < 16; step++) {
            assert_true(next(l, &b));
            assert_int_equal(b.step, step);
        }
        for (int i = 0; i < 3; i++) {
            at_error err = {0};
            assert_int_equal(at_loader_next(l, &b, &err), AT_EINPUT);
            assert_non_null(strstr(err.message, "train.atc: batch 1 "));
        }
        at_loader_free(l);
        at_cache_close(spec.cache);
    }
    cache_flip(f->path, "train.atc", (off_t)(2 * 4096 + batch_bytes + 5), 0x40);
}

static void test_memory_does_not_grow(void **state)
{
    enum { EPOCHS = 300 };
    const fixture *f = *state;
    at_loader_spec spec = spec_of(f, 1, 64);
    spec.epochs = EPOCHS;
    spec.threads = 2;
    at_loader *l = make(&spec);
    at_batch b;
    size_t early = 0;
    while (next(l, &b))
        if (b.epoch == 10 && !early)
            early = at_peak_rss();
    assert_true(early > 0);
    assert_true(at_peak_rss() < early + (1 << 20));
    print_message("%d epochs, %zu KiB more\n", EPOCHS, (at_peak_rss() - early) >> 10);
    at_loader_free(l);
}

int main(void)
{
    at_progress_silence(true);
    at_log_set_level(AT_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_threads_any_depth),
        cmocka_unit_test(test_plans_of_all_kinds),
        cmocka_unit_test(test_begins_anywhere),
        cmocka_unit_test(test_ranks_share_one_order),
        cmocka_unit_test(test_stops_at_any_time),
        cmocka_unit_test(test_an_empty_split_ends_at_once),
        cmocka_unit_test(test_what_cannot_be_is_refused),
        cmocka_unit_test(test_an_error_comes_in_its_place),
        cmocka_unit_test(test_memory_does_not_grow),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
