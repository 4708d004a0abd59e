/* SPDX-License-Identifier: Apache-2.0
 * The batch cache holds what the data set holds, in every form and fit, and what is none is refused.
 * Damage is in test_cache_damage.c, where caches come from and go to in test_cache_folder.c. */
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
        {7, 9, 5, 3, {.threads = 1}},
        {90, 6, 6, 1, {.threads = 2}}, /* more than one batch */
        {3, 9, 5, 3, {.frame = {33, 17, 1, AT_FIT_STRETCH}}},
        {3, 20, 31, 1, {.frame = {7, 8, 3, AT_FIT_CROP}, .threads = 3}},
        {3, 20, 31, 3, {.frame = {7, 8, 1, AT_FIT_LETTERBOX}, .form = AT_FORM_ENCODED}},
        {70, 9, 12, 3, {.frame = {8, 8, 3, AT_FIT_CROP}, .form = AT_FORM_ENCODED, .threads = 3}},
        {1, 40, 50, 3, {.frame = {.height = 1200, .width = 1183}}}, /* a batch of one sample */
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
    at_reader *reader = at_reader_new(c, &err);
    assert_int_equal(at_reader_sample(reader, AT_VAL, 6, &pixels, &label, &err), AT_EUSAGE);
    assert_int_equal(at_reader_sample(reader, AT_VAL, SIZE_MAX, &pixels, &label, &err), AT_EUSAGE);
    at_reader_free(reader);
    at_reader_free(NULL);
    at_cache_close(c);
    at_cache_close(NULL);
    free(path);
    scratch_free(dir);
}

/* ---- what is no cache ----------------------------------------------------------------------- */

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

int main(void)
{
    at_progress_silence(true);
    at_log_set_level(AT_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_holds_what_the_data_set_holds),
        cmocka_unit_test(test_describes_itself),
        cmocka_unit_test(test_no_sample_beyond_the_last),
        cmocka_unit_test(test_other_lengths_are_refused),
        cmocka_unit_test(test_what_is_no_cache_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
