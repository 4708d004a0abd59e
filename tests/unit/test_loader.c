/* SPDX-License-Identifier: Apache-2.0
 * The loader gives exactly what plan, cache and augmentation say, in order, for any threads and
 * depth; begins anywhere, stops at any time, passes errors on in their place, and does not grow.
 * ctest: timeout=900 */
#include "caches.h"
#include "damage.h"
#include "scratch.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

enum { H = 7, W = 6, C = 3, SAMPLE = H * W * C };

/* 609 training samples of 7x6x3: three batches of the cache. */
static const pictures shapes = {
    .classes = 3, .train = 203, .test = 5, .height = H, .width = W, .channels = C};

/* Ways in which samples are chosen and changed: the usual one, every augmentation that there is
 * with classes of different weights, and a single mixer. */
enum { USUAL, EVERYTHING, MIXED, WAYS };
static const double class_weights[] = {1, 0.3, 4};
static const at_augment augments[WAYS] = {
    [USUAL] = {.flip = "random", .shift = 2},
    [EVERYTHING] = {.flip = "alternate",
                    .crop = 0.4,
                    .cutout = 3,
                    .brightness = 0.3,
                    .contrast = 0.3,
                    .saturation = 0.3,
                    .hue = 0.1,
                    .mixup = 0.4,
                    .cutmix = 1},
    [MIXED] = {.mixup = 1},
};

typedef struct fixture {
    char *dir, *dataset, *path;
    at_cache *cache;
} fixture;

static int set_up(void **state, at_form form)
{
    at_error err = {0};
    fixture *f = calloc(1, sizeof *f);
    f->dir = scratch_new();
    f->dataset = pictures_ingest(&shapes, f->dir, "data");
    f->path = at_path_join(f->dir, "cache");
    cache_must(at_cache_build(f->dataset, &(at_cache_spec){.form = form}, f->path, &err), &err);
    f->cache = cache_must_open(f->path);
    *state = f;
    return 0;
}

static int set_up_decoded(void **state)
{
    return set_up(state, AT_FORM_UINT8);
}

static int set_up_encoded(void **state)
{
    return set_up(state, AT_FORM_ENCODED);
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

static at_loader_spec spec_in_way(const fixture *f, int way, size_t ranks, size_t batch)
{
    return (at_loader_spec){
        .cache = f->cache,
        .split = AT_TRAIN,
        .sampler = {.ranks = ranks,
                    .batch = batch,
                    .seed = 5,
                    .shuffle = true,
                    .class_weights = way == EVERYTHING ? class_weights : NULL},
        .augment = augments[way],
        .epochs = 2,
    };
}

static at_loader_spec spec_of(const fixture *f, size_t ranks, size_t batch)
{
    return spec_in_way(f, USUAL, ranks, batch);
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

/* Plan and augmentation of a loader, to compare with. */
typedef struct reference {
    const at_loader_spec *spec;
    at_sampler *plan;
    at_augmenter *augmenter;
    const int32_t *labels;
    at_reader *reader;
    void *scratch;
} reference;

static reference reference_new(const at_loader_spec *spec)
{
    at_error err = {0};
    float mean[C], deviation[C];
    size_t n = at_cache_count(spec->cache, spec->split);
    reference r = {.spec = spec, .labels = at_cache_labels(spec->cache, spec->split)};
    r.reader = at_reader_new(spec->cache, &err);
    at_sampler_spec plan = spec->sampler;
    plan.samples = plan.samples ? plan.samples : n;
    plan.labels = r.labels;
    plan.classes = at_cache_classes(spec->cache);
    at_cache_statistics(spec->cache, mean, deviation);
    r.plan = at_sampler_new(&plan, &err);
    r.augmenter = at_augmenter_new(&spec->augment, plan.seed, H, W, C, mean, &err);
    if (!r.plan || !r.augmenter || !r.reader)
        fail_msg("%s", err.message);
    r.scratch = malloc(at_augmenter_scratch(r.augmenter));
    return r;
}

static void reference_free(reference *r)
{
    at_sampler_free(r->plan);
    at_augmenter_free(r->augmenter);
    at_reader_free(r->reader);
    free(r->scratch);
}

static void augment(const reference *r, uint64_t epoch, uint32_t id, uint32_t key, uint8_t *out)
{
    const uint8_t *pixels;
    int32_t label;
    at_error err = {0};
    cache_must(at_reader_sample(r->reader, r->spec->split, id, &pixels, &label, &err), &err);
    assert_int_equal(label, r->labels[id]);
    at_augmenter_apply(r->augmenter, epoch, key, pixels, out, r->scratch, NULL);
}

/* Sample i is mixed with one whose label it tells, of those that the plan holds. */
static void check_mixed(const reference *r, const at_batch *b, size_t i, uint8_t *pixels)
{
    uint8_t other[SAMPLE];
    uint32_t id, key;
    at_rng rng = at_rng_stream(r->spec->sampler.seed, "other", b->epoch << 32 | b->keys[i]);
    at_sampler_place(r->plan, at_rng_below(&rng, at_sampler_used(r->plan)), &id, &key);
    augment(r, b->epoch, id, key, other);
    float share = at_augmenter_mix(r->augmenter, b->epoch, b->keys[i], pixels, other);
    assert_true(b->shares[i] == share);
    assert_int_equal(b->other_labels[i], r->labels[id]);
}

/* One batch against the plan, the cache and the augmentation themselves. */
static void check_batch(const reference *r, const at_batch *b)
{
    uint32_t ids[256], keys[256];
    float weights[256];
    uint8_t expected[SAMPLE];
    size_t batch = r->spec->sampler.batch;
    at_sampler_set_epoch(r->plan, b->epoch);
    size_t real = at_sampler_batch(r->plan, b->step, r->spec->rank, ids, keys, weights);
    assert_int_equal(b->real, real);
    assert_memory_equal(b->ids, ids, batch * sizeof *ids);
    assert_memory_equal(b->keys, keys, batch * sizeof *keys);
    assert_memory_equal(b->weights, weights, batch * sizeof *weights);
    assert_true((b->shares != NULL) == at_augmenter_mixes(r->augmenter));
    for (size_t i = 0; i < batch; i++) {
        memset(expected, 0, sizeof expected);
        if (i < real) {
            augment(r, b->epoch, ids[i], keys[i], expected);
            if (b->shares)
                check_mixed(r, b, i, expected);
        }
        assert_true(i < real || !b->shares || (b->shares[i] == 1 && b->other_labels[i] == 0));
        assert_int_equal(b->labels[i], i < real ? r->labels[ids[i]] : 0);
        assert_memory_equal(b->pixels + i * SAMPLE, expected, SAMPLE);
    }
}

/* All batches from (first_epoch, first_step) to the end, in order; returns how many. */
static size_t check_run(const at_loader_spec *spec)
{
    reference r = reference_new(spec);
    at_loader *l = make(spec);
    size_t steps = at_loader_steps(l), n = 0;
    assert_int_equal(steps, at_sampler_steps(r.plan));
    at_batch b;
    uint64_t at = spec->first_epoch * steps + spec->first_step;
    for (; next(l, &b); n++, at++) {
        assert_int_equal(b.epoch, at / steps);
        assert_int_equal(b.step, at % steps);
        check_batch(&r, &b);
    }
    assert_int_equal(at, at > spec->epochs * steps ? at : spec->epochs * steps);
    assert_false(next(l, &b)); /* the end stays the end */
    assert_true(at_loader_waited(l) >= 0);
    at_loader_free(l);
    reference_free(&r);
    return n;
}

static void test_any_threads_any_depth(void **state)
{
    const fixture *f = *state;
    size_t batches = 0;
    for (int threads = 0; threads <= 5; threads++)
        for (int depth = 0; depth <= 6; depth += 3)
            for (size_t ranks = 1; ranks <= 3; ranks += 2) {
                at_loader_spec spec = spec_in_way(f, threads % WAYS, ranks, 50);
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
    size_t steps = 8; /* of ceil(609 / 80) */
    for (int way = 0; way < WAYS; way++) {
        at_loader_spec spec = spec_in_way(f, way, 2, 40);
        spec.epochs = 3;
        spec.threads = 2;
        for (spec.first_epoch = 0; spec.first_epoch < 4; spec.first_epoch++)
            for (spec.first_step = 0; spec.first_step <= steps; spec.first_step++) {
                size_t left = 3 * steps, done = spec.first_epoch * steps + spec.first_step;
                assert_int_equal(check_run(&spec), done < left ? left - done : 0);
            }
    }
}

/* Rank `rank` of four has its part of `all`. */
static void check_part(const at_batch *part, const at_batch *all, size_t rank)
{
    size_t at = 16 * rank, bytes = 16 * sizeof *all->ids;
    assert_memory_equal(part->ids, all->ids + at, bytes);
    assert_memory_equal(part->keys, all->keys + at, bytes);
    assert_memory_equal(part->labels, all->labels + at, bytes);
    assert_memory_equal(part->weights, all->weights + at, bytes);
    assert_memory_equal(part->pixels, all->pixels + at * SAMPLE, 16 * SAMPLE);
    if (all->shares) {
        assert_memory_equal(part->shares, all->shares + at, bytes);
        assert_memory_equal(part->other_labels, all->other_labels + at, bytes);
    }
}

/* 1 x 64 and 4 x 16 see the same samples and pixels, step by step, with any threads. */
static void test_ranks_share_one_order(void **state)
{
    const fixture *f = *state;
    for (int way = 0; way < WAYS; way++) {
        at_loader_spec whole = spec_in_way(f, way, 1, 64);
        at_loader *one = make(&whole), *part[4];
        for (size_t rank = 0; rank < 4; rank++) {
            at_loader_spec spec = spec_in_way(f, way, 4, 16);
            spec.rank = rank;
            spec.threads = 1 + (int)rank;
            part[rank] = make(&spec);
            assert_int_equal(at_loader_steps(part[rank]), at_loader_steps(one));
        }
        at_batch all, b;
        while (next(one, &all))
            for (size_t rank = 0; rank < 4; rank++) {
                assert_true(next(part[rank], &b));
                check_part(&b, &all, rank);
            }
        at_loader_free(one);
        for (size_t rank = 0; rank < 4; rank++) {
            assert_false(next(part[rank], &b));
            at_loader_free(part[rank]);
        }
    }
}

/* The classes that an epoch shows are as their weights want them: 203 images each. */
static void test_classes_come_up_by_weight(void **state)
{
    const fixture *f = *state;
    at_loader_spec spec = spec_in_way(f, EVERYTHING, 1, 64);
    size_t seen[3] = {0};
    at_batch b;
    at_loader *l = make(&spec);
    while (next(l, &b) && b.epoch == 0)
        for (size_t i = 0; i < b.real; i++)
            seen[b.labels[i]]++;
    for (int c = 0; c < 3; c++) {
        double expected = 609 * class_weights[c] / 5.3;
        assert_true(fabs((double)seen[c] - expected) < 1);
    }
    at_loader_free(l);
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
    at_loader_spec bad[5], contradicting = spec_of(f, 2, 8);
    at_error why = {0};
    contradicting.augment.crop = 0.5;
    assert_null(at_loader_new(&contradicting, &why));
    assert_int_equal(why.code, AT_EINPUT);
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
/* Where the first byte of a training sample of batch 1, or of its file, lies in train.atc. */
static off_t place_of_sample(const fixture *f, size_t i)
{
    at_error err = {0};
    struct stat st;
    char *file = cache_file_path(f->path, "train.atc");
    assert_int_equal(stat(file, &st), 0);
    free(file);
    off_t batch = (256 * SAMPLE + 4095) / 4096 * 4096, before = batch, all = 3 * batch;
    if (at_cache_form(f->cache) == AT_FORM_ENCODED) {
        at_dataset *d = at_dataset_open(f->dataset, &err);
        assert_non_null(d);
        before = all = 0;
        for (size_t k = 0; k < at_dataset_count(d, AT_TRAIN); k++) {
            off_t bytes = (off_t)at_dataset_sample_bytes(d, AT_TRAIN, k);
            before += k < i ? bytes : 0;
            all += bytes;
        }
        at_dataset_close(d);
    }
    return st.st_size - all + before;
}

static void test_an_error_comes_in_its_place(void **state)
{
    const fixture *f = *state;
    bool decoded = at_cache_form(f->cache) == AT_FORM_UINT8;
    off_t place = place_of_sample(f, 256);
    damage_bits(f->path, "train.atc", place, 0x40);
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
            assert_non_null(strstr(err.message, decoded ? "batch 1 " : "batch 256 "));
        }
        at_loader_free(l);
        at_cache_close(spec.cache);
    }
    damage_bits(f->path, "train.atc", place, 0x40);
}

/* Every way, over many epochs: what is resident after ten of them is all that it takes. */
static void test_memory_does_not_grow(void **state)
{
    enum { EPOCHS = 300 };
    const fixture *f = *state;
    for (int way = 0; way < WAYS; way++) {
        at_loader_spec spec = spec_in_way(f, way, 1, 64);
        spec.epochs = EPOCHS;
        spec.threads = 2;
        at_loader *l = make(&spec);
        at_batch b;
        size_t early = 0;
        while (next(l, &b))
            if (b.epoch == 10 && !early)
                early = at_current_rss();
        size_t late = at_current_rss();
        assert_true(early > 0);
        assert_true(late < early + (1 << 20));
        print_message("%d epochs: %zu KiB resident, %zd more than after 10\n", EPOCHS, late >> 10,
                      ((ssize_t)late - (ssize_t)early) / 1024);
        at_loader_free(l);
    }
}

/* The same plan over both forms, in all ways, at another size than the files'. */
static void test_both_forms_give_the_same(void **state)
{
    const fixture *f = *state;
    size_t batches = 0;
    at_cache *c[AT_FORMS];
    at_error err = {0};
    for (int form = 0; form < AT_FORMS; form++) {
        char *path = at_path_join(f->dir, at_form_name((at_form)form));
        at_cache_spec spec = {.frame = {12, 10, 3, AT_FIT_LETTERBOX}, .form = (at_form)form};
        cache_must(at_cache_build(f->dataset, &spec, path, &err), &err);
        c[form] = cache_must_open(path);
        free(path);
    }
    for (int way = 0; way < WAYS; way++) {
        at_loader *l[AT_FORMS];
        at_batch b[AT_FORMS];
        for (int form = 0; form < AT_FORMS; form++) {
            at_loader_spec spec = spec_in_way(f, way, 1, 64);
            spec.cache = c[form];
            spec.threads = 1 + form;
            l[form] = make(&spec);
        }
        for (; next(l[0], &b[0]); batches++) {
            assert_true(next(l[1], &b[1]));
            assert_memory_equal(b[0].pixels, b[1].pixels, (size_t)64 * 12 * 10 * 3);
            assert_memory_equal(b[0].labels, b[1].labels, 64 * sizeof *b[0].labels);
            if (b[0].shares)
                assert_memory_equal(b[0].shares, b[1].shares, 64 * sizeof *b[0].shares);
        }
        assert_false(next(l[1], &b[1]));
        at_loader_free(l[0]);
        at_loader_free(l[1]);
    }
    print_message("%zu batches from decoded samples and from files are the same\n", batches);
    at_cache_close(c[0]);
    at_cache_close(c[1]);
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
        cmocka_unit_test(test_classes_come_up_by_weight),
        cmocka_unit_test(test_stops_at_any_time),
        cmocka_unit_test(test_an_empty_split_ends_at_once),
        cmocka_unit_test(test_what_cannot_be_is_refused),
        cmocka_unit_test(test_an_error_comes_in_its_place),
        cmocka_unit_test(test_memory_does_not_grow),
        cmocka_unit_test(test_both_forms_give_the_same),
    };
    int failed = cmocka_run_group_tests_name("decoded", tests, set_up_decoded, tear_down);
    return failed + cmocka_run_group_tests_name("encoded", tests, set_up_encoded, tear_down);
}
