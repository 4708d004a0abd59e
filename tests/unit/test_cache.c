/* SPDX-License-Identifier: Apache-2.0
 * The batch cache holds what the data set holds, and says so when it is damaged. Where caches come
 * from and go to is in test_cache_folder.c.
 * ctest: timeout=600 */
#include "caches.h"
#include "scratch.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- contents ------------------------------------------------------------------------------ */

static void test_holds_what_the_data_set_holds(void **state)
{
    (void)state;
    static const struct {
        int train, height, width, channels; /* of the pictures */
        at_cache_spec spec;
    } cases[] = {
        {7, 9, 5, 3, {0}},
        {90, 6, 6, 1, {0}}, /* more than one batch */
        {3, 9, 5, 3, {.height = 33, .width = 17, .channels = 1}},
        {3, 20, 31, 1, {.height = 7, .width = 8, .channels = 3, .threads = 3}},
        {1, 40, 50, 3, {.height = 1200, .width = 1183}}, /* a batch of one sample */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        at_error err = {0};
        pictures p = {.classes = 3, .train = cases[i].train, .test = 1, .seed = i};
        p.height = cases[i].height;
        p.width = cases[i].width;
        p.channels = cases[i].channels;
        char *dir = scratch_new(), *dataset = pictures_ingest(&p, dir, "data");
        char *path = at_path_join(dir, "cache");
        cache_must(at_cache_build(dataset, &cases[i].spec, path, &err), &err);
        at_cache *c = cache_must_open(path);
        cache_check_contents(dataset, c);
        at_cache_close(c);
        free(path);
        free(dataset);
        scratch_free(dir);
    }
}

static void test_describes_itself(void **state)
{
    (void)state;
    char *dir = scratch_new(), *path = cache_build_small(dir);
    at_cache *c = cache_must_open(path);
    at_node *n = at_cache_describe(c);
    assert_string_equal(at_node_string(at_node_get(n, "path"), ""), path);
    assert_int_equal(at_node_int(at_node_path(n, "samples.train"), 0), 21);
    assert_int_equal(at_node_int(at_node_path(n, "samples.val"), 0), 6);
    assert_int_equal(at_node_int(at_node_path(n, "samples.test"), 0), 9);
    assert_int_equal(at_node_count(at_node_get(n, "classes")), 3);
    assert_int_equal(at_node_int(at_node_get(n, "height"), 0), 9);
    int64_t bytes = 0;
    static const char *const files[] = {"train.atc", "val.atc", "test.atc"};
    for (int i = 0; i < 3; i++) {
        struct stat st;
        char *file = cache_file_path(path, files[i]);
        assert_int_equal(stat(file, &st), 0);
        assert_int_equal(st.st_size % 4096, 0);
        bytes += st.st_size;
        free(file);
    }
    assert_int_equal(at_node_int(at_node_get(n, "bytes"), 0), bytes);
    at_node_free(n);
    at_cache_close(c);
    free(path);
    scratch_free(dir);
}

static void test_no_sample_beyond_the_last(void **state)
{
    (void)state;
    char *dir = scratch_new(), *path = cache_build_small(dir);
    at_cache *c = cache_must_open(path);
    const uint8_t *pixels;
    int32_t label;
    at_error err = {0};
    assert_int_equal(at_cache_sample(c, AT_VAL, 6, &pixels, &label, &err), AT_EUSAGE);
    assert_int_equal(at_cache_sample(c, AT_VAL, SIZE_MAX, &pixels, &label, &err), AT_EUSAGE);
    at_cache_close(c);
    at_cache_close(NULL);
    free(path);
    scratch_free(dir);
}

/* ---- damage -------------------------------------------------------------------------------- */

static int verify(const char *path)
{
    uint64_t batches, bad;
    at_error err = {0};
    int code = at_cache_verify(path, &batches, &bad, &err);
    assert_int_equal(code, err.code);
    if (code)
        assert_non_null(strstr(err.message, path)); /* names the file */
    return code;
}

static void test_every_flip_is_found(void **state)
{
    (void)state;
    enum { CASES = 3000 };
    static const char *const files[] = {"train.atc", "val.atc", "test.atc", "meta.json"};
    char *dir = scratch_new(), *path = cache_build_small(dir);
    off_t size[4];
    for (int i = 0; i < 4; i++) {
        struct stat st;
        char *file = cache_file_path(path, files[i]);
        assert_int_equal(stat(file, &st), 0);
        size[i] = st.st_size;
        free(file);
    }
    at_rng rng = at_rng_stream(8, "test_cache", 0);
    assert_int_equal(verify(path), 0);
    for (int i = 0; i < CASES; i++) {
        size_t which = at_rng_below(&rng, 4);
        off_t offset = (off_t)at_rng_below(&rng, (uint64_t)size[which]);
        uint64_t bits = i % 2 ? (uint64_t)1 << at_rng_below(&rng, 8) : 1 + at_rng_below(&rng, 255);
        uint8_t mask = (uint8_t)bits;
        cache_flip(path, files[which], offset, mask);
        if (verify(path) != AT_EINPUT)
            fail_msg("a flip of %02x at %ld of %s was not found", mask, (long)offset, files[which]);
        cache_flip(path, files[which], offset, mask);
    }
    assert_int_equal(verify(path), 0);
    print_message("%d flips, all found\n", CASES);
    free(path);
    scratch_free(dir);
}

static void test_verify_counts_bad_batches(void **state)
{
    (void)state;
    pictures p = {.classes = 2, .train = 400, .test = 1, .height = 4, .width = 4, .channels = 1};
    char *dir = scratch_new(), *dataset = pictures_ingest(&p, dir, "data");
    char *path = at_path_join(dir, "cache");
    at_error err = {0};
    uint64_t batches, bad;
    cache_must(at_cache_build(dataset, &(at_cache_spec){0}, path, &err), &err);
    cache_must(at_cache_verify(path, &batches, &bad, &err), &err);
    assert_int_equal(batches, 4 + 0 + 1);
    assert_int_equal(bad, 0);
    cache_flip(path, "train.atc", 2 * 4096 + 2 * 8192 + 5, 1); /* in the third batch */
    cache_flip(path, "test.atc", 2 * 4096, 1);
    assert_int_equal(at_cache_verify(path, &batches, &bad, &err), AT_EINPUT);
    assert_int_equal(bad, 2);
    assert_non_null(strstr(err.message, "train.atc: batch 2 "));
    free(path);
    free(dataset);
    scratch_free(dir);
}

static void test_other_lengths_are_refused(void **state)
{
    (void)state;
    static const off_t changes[] = {-1, -4096, 1, 4096};
    char *dir = scratch_new(), *path = cache_build_small(dir),
         *file = cache_file_path(path, "val.atc");
    struct stat st;
    assert_int_equal(stat(file, &st), 0);
    for (off_t length = 0; length < st.st_size; length += 511) {
        char *whole;
        at_error err = {0};
        cache_must(at_file_read(file, 1 << 20, &whole, NULL, &err), &err);
        assert_int_equal(truncate(file, length), 0);
        assert_null(at_cache_open_at(path, NULL, &err));
        assert_int_equal(err.code, AT_EINPUT);
        assert_non_null(strstr(err.message, "val.atc"));
        cache_must(at_file_write(file, whole, (size_t)st.st_size, &err), &err);
        free(whole);
    }
    for (size_t i = 0; i < 4; i++) {
        at_error err = {0};
        assert_int_equal(truncate(file, st.st_size + changes[i]), 0);
        assert_null(at_cache_open_at(path, NULL, &err));
        assert_int_equal(err.code, AT_EINPUT);
    }
    free(file);
    free(path);
    scratch_free(dir);
}

static void test_what_is_no_cache_is_refused(void **state)
{
    (void)state;
    char *dir = scratch_new(), *path = cache_build_small(dir);
    char *missing = at_path_join(dir, "missing"), *meta = cache_file_path(path, "meta.json");
    at_error err = {0};
    assert_null(at_cache_open_at(missing, NULL, &err));
    assert_int_equal(err.code, AT_ENOENT);
    assert_null(at_cache_open_at(meta, NULL, &err)); /* a file */
    assert_int_equal(err.code, AT_EINPUT);
    assert_null(at_cache_open_at(dir, NULL, &err)); /* some folder */
    assert_int_equal(err.code, AT_EINPUT);
    assert_null(at_cache_open_at(path, "0123456789abcdef0123", &err));
    assert_int_equal(err.code, AT_EINPUT);
    assert_non_null(strstr(err.message, "another data set"));
    assert_int_equal(unlink(meta), 0);
    assert_null(at_cache_open_at(path, NULL, &err));
    assert_int_equal(err.code, AT_EINPUT);
    assert_non_null(strstr(err.message, "meta.json"));
    free(meta);
    free(missing);
    free(path);
    scratch_free(dir);
}

static void test_a_bad_batch_fails_on_use_only(void **state)
{
    (void)state;
    pictures p = {.classes = 2, .train = 400, .test = 1, .height = 4, .width = 4, .channels = 1};
    char *dir = scratch_new(), *dataset = pictures_ingest(&p, dir, "data");
    at_cache *c = cache_must_make(dataset, dir);
    char *path = strdup(at_cache_path(c));
    at_cache_close(c);
    cache_flip(path, "train.atc", 2 * 4096 + 8192, 0x10); /* the second batch's first pixel */
    c = cache_must_make(dataset, dir);
    const uint8_t *pixels;
    int32_t label;
    at_error err = {0};
    cache_must(at_cache_sample(c, AT_TRAIN, 0, &pixels, &label, &err), &err);
    cache_must(at_cache_sample(c, AT_TRAIN, 512, &pixels, &label, &err), &err);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(at_cache_sample(c, AT_TRAIN, 256 + 7, &pixels, &label, &err), AT_EINPUT);
        assert_non_null(strstr(err.message, "train.atc: batch 1 "));
    }
    at_cache_close(c);
    c = cache_must_make(dataset, dir); /* made again */
    cache_check_contents(dataset, c);
    at_cache_close(c);
    free(path);
    free(dataset);
    scratch_free(dir);
}

int main(void)
{
    at_progress_silence(true);
    at_log_set_level(AT_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_holds_what_the_data_set_holds),
        cmocka_unit_test(test_describes_itself),
        cmocka_unit_test(test_no_sample_beyond_the_last),
        cmocka_unit_test(test_every_flip_is_found),
        cmocka_unit_test(test_verify_counts_bad_batches),
        cmocka_unit_test(test_other_lengths_are_refused),
        cmocka_unit_test(test_what_is_no_cache_is_refused),
        cmocka_unit_test(test_a_bad_batch_fails_on_use_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
