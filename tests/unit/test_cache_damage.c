/* SPDX-License-Identifier: Apache-2.0
 * A damaged cache: every flipped bit is found before its samples are used, and what is damaged is
 * made again, byte for byte.
 * ctest: timeout=600 */
#include "caches.h"
#include "damage.h"
#include "scratch.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { FILES = 4 };
static const char *const files[FILES] = {"train.atc", "val.atc", "test.atc", "meta.json"};

/* A cache of cache_small in one form, with its files' bytes as they were made. */
typedef struct fixture {
    char *dir, *dataset, *path;
    char *bytes[FILES];
    size_t size[FILES];
} fixture;

static fixture *fixture_new(at_form form)
{
    at_error err = {0};
    fixture *f = calloc(1, sizeof *f);
    at_cache_spec spec = {.frame = {.fit = AT_FIT_CROP, .height = 6, .width = 5, .channels = 3},
                          .form = form};
    f->dir = scratch_new();
    f->dataset = pictures_ingest(&cache_small, f->dir, "data");
    f->path = at_path_join(f->dir, "cache");
    cache_must(at_cache_build(f->dataset, &spec, f->path, &err), &err);
    for (int i = 0; i < FILES; i++) {
        char *file = cache_file_path(f->path, files[i]);
        cache_must(at_file_read(file, 1 << 22, &f->bytes[i], &f->size[i], &err), &err);
        free(file);
    }
    return f;
}

static void fixture_free(fixture *f)
{
    for (int i = 0; i < FILES; i++)
        free(f->bytes[i]);
    free(f->path);
    free(f->dataset);
    scratch_free(f->dir);
    free(f);
}

static void check_bytes(const fixture *f)
{
    for (int i = 0; i < FILES; i++) {
        char *bytes, *file = cache_file_path(f->path, files[i]);
        size_t size;
        at_error err = {0};
        cache_must(at_file_read(file, 1 << 22, &bytes, &size, &err), &err);
        assert_int_equal(size, f->size[i]);
        assert_memory_equal(bytes, f->bytes[i], size);
        free(bytes);
        free(file);
    }
}

/* A bit somewhere, in any file as often as in any other. */
typedef struct bit {
    const char *file;
    off_t offset;
    uint8_t mask;
} bit;

static bit draw_bit(const fixture *f, at_rng *rng)
{
    size_t which = at_rng_below(rng, FILES);
    return (bit){.file = files[which],
                 .offset = (off_t)at_rng_below(rng, f->size[which]),
                 .mask = (uint8_t)(1 << at_rng_below(rng, 8))};
}

static void flip(const fixture *f, bit b)
{
    damage_bits(f->path, b.file, b.offset, b.mask);
}

/* ---- finding -------------------------------------------------------------------------------- */

static int verify(const char *path, const char *dataset)
{
    at_cache_damage found;
    at_error err = {0};
    int code = at_cache_verify(path, dataset, 1, &found, &err);
    assert_int_equal(code, err.code);
    if (code)
        assert_non_null(strstr(err.message, path)); /* names the file */
    return code;
}

/* All samples as a training would read them: how many were handed over, each as in `good`. */
static size_t read_all(const char *path, const uint8_t *good, bool *refused)
{
    size_t given = 0, at = 0;
    at_error err = {0};
    at_cache *c = at_cache_open_at(path, NULL, &err);
    *refused = !c;
    at_reader *r = c ? at_reader_new(c, &err) : NULL;
    for (int split = 0; r && split < AT_SPLITS; split++)
        for (size_t i = 0; i < at_cache_count(c, (at_split)split); i++, at += 6 * 5 * 3) {
            const uint8_t *pixels;
            int32_t label;
            if (at_reader_sample(r, (at_split)split, i, &pixels, &label, &err)) {
                assert_int_equal(err.code, AT_EINPUT);
                *refused = true;
                continue;
            }
            if (good)
                assert_memory_equal(pixels, good + at, 6 * 5 * 3);
            assert_in_range(label, 0, 2);
            given++;
        }
    at_reader_free(r);
    at_cache_close(c);
    return given;
}

static uint8_t *all_pixels(const fixture *f)
{
    at_error err = {0};
    at_cache *c = cache_must_open(f->path);
    at_reader *r = at_reader_new(c, &err);
    uint8_t *all = malloc(36 * 6 * 5 * 3), *out = all;
    for (int split = 0; split < AT_SPLITS; split++)
        for (size_t i = 0; i < at_cache_count(c, (at_split)split); i++, out += 6 * 5 * 3) {
            const uint8_t *pixels;
            int32_t label;
            cache_must(at_reader_sample(r, (at_split)split, i, &pixels, &label, &err), &err);
            memcpy(out, pixels, 6 * 5 * 3);
        }
    assert_int_equal(out - all, 36 * 6 * 5 * 3);
    at_reader_free(r);
    at_cache_close(c);
    return all;
}

static void test_every_flip_is_found(void **state)
{
    (void)state;
    enum { CASES = 10000 };
    size_t given = 0;
    for (int form = 0; form < AT_FORMS; form++) {
        fixture *f = fixture_new((at_form)form);
        uint8_t *good = all_pixels(f);
        at_rng rng = at_rng_stream(8, "test_cache", (uint64_t)form);
        assert_int_equal(verify(f->path, f->dataset), 0);
        for (int i = 0; i < CASES / AT_FORMS; i++) {
            bit b = draw_bit(f, &rng);
            bool refused;
            flip(f, b);
            if (verify(f->path, NULL) != AT_EINPUT)
                fail_msg("bit %02x at %ld of %s: not found", b.mask, (long)b.offset, b.file);
            given += read_all(f->path, good, &refused);
            flip(f, b);
        }
        assert_int_equal(verify(f->path, f->dataset), 0);
        check_bytes(f);
        free(good);
        fixture_free(f);
    }
    print_message("%d flipped bits, all found; %zu samples handed over, all right\n", CASES, given);
}

static void test_verify_counts_bad_batches(void **state)
{
    (void)state;
    pictures p = {.classes = 2, .train = 400, .test = 1, .height = 4, .width = 4, .channels = 1};
    char *dir = scratch_new(), *dataset = pictures_ingest(&p, dir, "data");
    char *path = at_path_join(dir, "cache");
    at_error err = {0};
    at_cache_damage found;
    cache_must(at_cache_build(dataset, &(at_cache_spec){0}, path, &err), &err);
    cache_must(at_cache_verify(path, dataset, 2, &found, &err), &err);
    assert_int_equal(found.batches, 4 + 0 + 1);
    assert_int_equal(found.bad, 0);
    damage_bits(path, "train.atc", 2 * 4096 + 2 * 4096 + 5, 1); /* in the third batch */
    damage_bits(path, "test.atc", 2 * 4096, 1);
    assert_int_equal(at_cache_verify(path, NULL, 2, &found, &err), AT_EINPUT);
    assert_int_equal(found.bad, 2);
    assert_non_null(strstr(err.message, "train.atc: batch 2 "));
    free(path);
    free(dataset);
    scratch_free(dir);
}

/* Its checksums are right, but it is not what the data set makes: comparing finds it. */
static void test_another_data_set_is_told(void **state)
{
    (void)state;
    pictures other = cache_small;
    other.seed = 5;
    fixture *f = fixture_new(AT_FORM_UINT8);
    char *dataset = pictures_ingest(&other, f->dir, "other");
    at_cache_damage found;
    at_error err = {0};
    assert_int_equal(at_cache_verify(f->path, dataset, 1, &found, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, "another data set"));
    assert_int_equal(at_cache_repair(f->path, dataset, 1, &found, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, "another data set"));
    damage_bits(f->path, "train.atc", 20, 1); /* now only test.atc tells whose it is */
    damage_bits(f->path, "val.atc", 20, 1);
    assert_int_equal(at_cache_repair(f->path, dataset, 1, &found, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, "another data set"));
    damage_bits(f->path, "train.atc", 20, 1);
    damage_bits(f->path, "val.atc", 20, 1);
    check_bytes(f);
    free(dataset);
    fixture_free(f);
}

/* ---- mending -------------------------------------------------------------------------------- */

/* Cuts a file off, removes one, or flips up to three bits; true: more than batches is broken. */
static void break_it(const fixture *f, at_rng *rng)
{
    size_t which = at_rng_below(rng, FILES), how = at_rng_below(rng, 10);
    char *file = cache_file_path(f->path, files[which]);
    if (how == 0)
        assert_int_equal(truncate(file, (off_t)at_rng_below(rng, f->size[which])), 0);
    else if (how == 1)
        assert_int_equal(unlink(file), 0);
    else
        for (size_t i = 0; i <= how % 3; i++)
            flip(f, draw_bit(f, rng));
    free(file);
}

static void test_repair_gives_the_bytes_of_a_fresh_build(void **state)
{
    (void)state;
    enum { CASES = 300 };
    size_t rebuilt = 0, mended = 0;
    for (int form = 0; form < AT_FORMS; form++) {
        fixture *f = fixture_new((at_form)form);
        at_rng rng = at_rng_stream(9, "repair", (uint64_t)form);
        for (int i = 0; i < CASES / AT_FORMS; i++) {
            at_cache_damage found;
            at_error err = {0};
            break_it(f, &rng);
            verify(f->path, NULL); /* marks it */
            cache_must(at_cache_repair(f->path, f->dataset, 1, &found, &err), &err);
            assert_true(found.rebuilt || found.mended == found.bad);
            rebuilt += found.rebuilt;
            mended += found.rebuilt ? 0 : found.mended;
            check_bytes(f);
            char *mark = cache_file_path(f->path, "damaged");
            assert_false(at_file_exists(mark));
            free(mark);
        }
        fixture_free(f);
    }
    print_message("%d damaged caches are as new: %zu batches mended, %zu caches made again\n",
                  CASES, mended, rebuilt);
    assert_true(rebuilt > 30 && mended > 30);
}

static void test_what_cannot_be_repaired_is_left(void **state)
{
    (void)state;
    fixture *f = fixture_new(AT_FORM_UINT8);
    at_cache_damage found;
    at_error err = {0};
    char *missing = at_path_join(f->dir, "missing");
    assert_int_equal(at_cache_repair(missing, f->dataset, 1, &found, &err), AT_ENOENT);
    assert_int_equal(at_cache_repair(f->path, missing, 1, &found, &err), AT_ENOENT);
    assert_int_equal(at_cache_repair(f->dataset, f->dataset, 1, &found, &err), AT_EINPUT);
    char *catalog = cache_file_path(f->dataset, "catalog.db");
    assert_true(at_file_exists(catalog));
    for (int i = 0; i < FILES; i++) { /* nothing tells its transform any more */
        char *file = cache_file_path(f->path, files[i]);
        assert_int_equal(truncate(file, 0), 0);
        free(file);
    }
    assert_int_equal(at_cache_repair(f->path, f->dataset, 1, &found, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, "atoll cache build"));
    free(catalog);
    free(missing);
    fixture_free(f);
}

/* A cache on another disk: the link to it stays, and what is made again is where it leads. */
static void test_a_link_to_a_cache_stays(void **state)
{
    (void)state;
    fixture *f = fixture_new(AT_FORM_UINT8);
    at_cache_damage found;
    at_error err = {0};
    struct stat st;
    char *link = at_path_join(f->dir, "link"), *train = cache_file_path(f->path, files[0]);
    at_cache_spec spec = {.frame = {.fit = AT_FIT_CROP, .height = 6, .width = 5, .channels = 3}};
    assert_int_equal(symlink("cache", link), 0);
    assert_int_equal(truncate(train, 4096), 0);
    cache_must(at_cache_repair(link, f->dataset, 1, &found, &err), &err);
    assert_true(found.rebuilt);
    check_bytes(f);
    assert_int_equal(truncate(train, 4096), 0);
    cache_must(at_cache_build(f->dataset, &spec, link, &err), &err);
    check_bytes(f);
    assert_int_equal(at_remove_tree(f->path, &err), 0);
    assert_int_equal(at_cache_build(f->dataset, &spec, link, &err), AT_ENOENT);
    assert_non_null(strstr(err.message, "is a link"));
    assert_true(lstat(link, &st) == 0 && S_ISLNK(st.st_mode));
    free(train);
    free(link);
    fixture_free(f);
}

/* A training that meets a damaged batch goes on with the right one. */
static void test_a_reader_mends_what_it_meets(void **state)
{
    (void)state;
    enum { CASES = 60 };
    for (int form = 0; form < AT_FORMS; form++) {
        fixture *f = fixture_new((at_form)form);
        at_rng rng = at_rng_stream(10, "reader", (uint64_t)form);
        uint8_t *good = all_pixels(f);
        at_error err = {0};
        for (int i = 0; i < CASES / AT_FORMS; i++) {
            size_t data = form == AT_FORM_ENCODED ? 8192 : 8192 + at_rng_below(&rng, 2000);
            bool refused;
            damage_bits(f->path, files[at_rng_below(&rng, 3)], (off_t)data, 4);
            assert_true(read_all(f->path, good, &refused) < 36 &&
                        refused); /* no source, no mending */
            at_cache *c = cache_must_open(f->path);
            cache_must(at_cache_set_source(c, f->dataset, &err), &err);
            at_error untouched = {0};
            const uint8_t *pixels;
            int32_t label;
            at_reader *r = at_reader_new(c, &err);
            for (int split = 0; split < AT_SPLITS; split++)
                assert_int_equal(
                    at_reader_sample(r, (at_split)split, 0, &pixels, &label, &untouched), 0);
            assert_int_equal(untouched.code, 0);
            at_reader_free(r);
            cache_check_contents(f->dataset, c);
            at_cache_close(c);
            check_bytes(f);
        }
        free(good);
        fixture_free(f);
    }
    print_message("%d damaged batches mended by who met them\n", CASES);
}

typedef struct crowd {
    at_cache *cache;
    const uint8_t *good;
} crowd;

static void read_train(void *context, size_t thread)
{
    const crowd *k = context;
    at_error err = {0};
    at_reader *r = at_reader_new(k->cache, &err);
    assert_non_null(r);
    for (size_t i = 0, n = at_cache_count(k->cache, AT_TRAIN); i < n; i++) {
        const uint8_t *pixels;
        int32_t label;
        size_t at = (i + thread * 5) % n;
        if (at_reader_sample(r, AT_TRAIN, at, &pixels, &label, &err))
            fail_msg("%s", err.message);
        assert_memory_equal(pixels, k->good + at * 6 * 5 * 3, 6 * 5 * 3);
    }
    at_reader_free(r);
}

/* Several threads meet the same damage at once. */
static void test_threads_mend_together(void **state)
{
    (void)state;
    enum { CASES = 10, THREADS = 4 };
    at_error err = {0};
    at_pool *pool = at_pool_new(THREADS, &err);
    assert_non_null(pool);
    for (int form = 0; form < AT_FORMS; form++) {
        fixture *f = fixture_new((at_form)form);
        uint8_t *good = all_pixels(f);
        for (int i = 0; i < CASES; i++) {
            damage_bits(f->path, "train.atc", 8192 + 3 * i, 1);
            damage_bits(f->path, "train.atc", (off_t)f->size[0] - 1 - 3 * i, 1);
            crowd k = {cache_must_open(f->path), good};
            cache_must(at_cache_set_source(k.cache, f->dataset, &err), &err);
            at_pool_run(pool, THREADS, read_train, &k);
            at_cache_close(k.cache);
        }
        check_bytes(f);
        free(good);
        fixture_free(f);
    }
    at_pool_free(pool);
}

static void test_a_bad_batch_without_its_data_set_fails_on_use_only(void **state)
{
    (void)state;
    pictures p = {.classes = 2, .train = 400, .test = 1, .height = 4, .width = 4, .channels = 1};
    char *dir = scratch_new(), *dataset = pictures_ingest(&p, dir, "data");
    at_error err = {0};
    char *gone = at_path_join(dir, "gone");
    at_cache *c = cache_must_make(dataset, dir);
    char *path = strdup(at_cache_path(c));
    at_cache_close(c);
    damage_bits(path, "train.atc", 2 * 4096 + 4096, 0x10); /* the second batch's first pixel */
    c = cache_must_make(dataset, dir);
    at_reader *r = at_reader_new(c, &err);
    const uint8_t *pixels;
    int32_t label;
    assert_int_equal(rename(dataset, gone), 0);
    cache_must(at_reader_sample(r, AT_TRAIN, 0, &pixels, &label, &err), &err);
    cache_must(at_reader_sample(r, AT_TRAIN, 512, &pixels, &label, &err), &err);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(at_reader_sample(r, AT_TRAIN, 256 + 7, &pixels, &label, &err), AT_EINPUT);
        assert_non_null(strstr(err.message, "train.atc: batch 1 "));
        assert_non_null(strstr(err.message, "atoll cache repair"));
    }
    assert_int_equal(rename(gone, dataset), 0);
    at_reader_free(r);
    at_cache_close(c);
    c = cache_must_make(dataset, dir); /* made again */
    cache_check_contents(dataset, c);
    at_cache_close(c);
    free(gone);
    free(path);
    free(dataset);
    scratch_free(dir);
}

int main(void)
{
    at_progress_silence(true);
    at_log_set_level(AT_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_flip_is_found),
        cmocka_unit_test(test_verify_counts_bad_batches),
        cmocka_unit_test(test_another_data_set_is_told),
        cmocka_unit_test(test_repair_gives_the_bytes_of_a_fresh_build),
        cmocka_unit_test(test_what_cannot_be_repaired_is_left),
        cmocka_unit_test(test_a_link_to_a_cache_stays),
        cmocka_unit_test(test_a_reader_mends_what_it_meets),
        cmocka_unit_test(test_threads_mend_together),
        cmocka_unit_test(test_a_bad_batch_without_its_data_set_fails_on_use_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
