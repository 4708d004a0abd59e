/* SPDX-License-Identifier: Apache-2.0
 * What `atoll bench ingest` promises: its keys, with numbers that can be true; and that it leaves
 * nothing behind. */
#include "scratch.h"
#include "sources.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <atoll/bench.h>

static double real(const at_node *n, const char *key)
{
    return at_node_real(at_node_get(n, key), -1);
}

static int64_t whole(const at_node *n, const char *key)
{
    return at_node_int(at_node_get(n, key), -1);
}

/* PNG and JPEG in two splits, one picture twice, one file that is none. */
static char *make_source(const char *dir)
{
    char *source = at_path_join(dir, "source");
    put_pictures(source, "train", 2, 6, 1);
    put_pictures(source, "test", 2, 2, 1);
    put_picture(source, "train/class_0/a.jpg", 3);
    put_picture(source, "train/class_1/b.jpg", 4);
    put_text(source, "train/class_0/c.jpg", "no picture");
    return source;
}

/* In a TMPDIR of the test's own, so that it sees what is left. */
static at_node *bench(const at_bench_ingest_options *o, const char *dir, at_error *err)
{
    char *tmp = at_path_join(dir, "tmp");
    assert_int_equal(at_make_dirs(tmp, NULL), 0);
    assert_int_equal(setenv("TMPDIR", tmp, 1), 0);
    at_node *n = at_bench_ingest(o, err);
    assert_int_equal(scratch_count(tmp), 0);
    unsetenv("TMPDIR");
    free(tmp);
    return n;
}

static void test_keys(void **state)
{
    (void)state;
    at_error err = {0};
    char *dir = scratch_new(), *source = make_source(dir);
    at_bench_ingest_options o = {.source = source, .threads = 2, .height = 6, .width = 5};
    at_node *n = bench(&o, dir, &err);
    if (!n)
        fail_msg("%s", err.message);
    assert_int_equal(whole(n, "images"), 18);
    assert_int_equal(whole(n, "errors"), 1);
    assert_int_equal(whole(n, "threads"), 2);
    assert_true(whole(n, "bytes") > 18 * 50);
    assert_true(whole(n, "peak_rss_bytes") > 1 << 20);
    assert_true(real(n, "ingest_seconds") > 0 && real(n, "cache_seconds") > 0);
    assert_true(fabs(real(n, "seconds") - real(n, "ingest_seconds") - real(n, "cache_seconds")) <
                1e-9);
    assert_true(real(n, "cpu_seconds") > 0 && real(n, "floor_cpu_seconds") > 0);
    assert_true(fabs(real(n, "images_per_second") * real(n, "seconds") - 19) < 1e-6);
    assert_true(fabs(real(n, "floor_images_per_second") * real(n, "floor_seconds") - 18) < 1e-6);
    assert_true(fabs(real(n, "floor_fraction") * real(n, "floor_images_per_second") -
                     real(n, "images_per_second")) < 1e-6 * real(n, "images_per_second"));
    at_node_free(n);
    free(source);
    scratch_free(dir);
}

static void test_without_cache(void **state)
{
    (void)state;
    at_error err = {0};
    char *dir = scratch_new(), *source = make_source(dir);
    at_node *n = bench(&(at_bench_ingest_options){.source = source, .threads = 1}, dir, &err);
    if (!n)
        fail_msg("%s", err.message);
    assert_true(real(n, "cache_seconds") == 0 && real(n, "ingest_seconds") > 0);
    at_node_free(n);
    free(source);
    scratch_free(dir);
}

static void test_refusals(void **state)
{
    (void)state;
    at_error err = {0};
    char *dir = scratch_new(), *source = at_path_join(dir, "nothing");
    assert_null(bench(&(at_bench_ingest_options){.source = source}, dir, &err));
    assert_true(err.code < 0);
    assert_non_null(strstr(err.message, "nothing"));
    free(source);
    scratch_free(dir);
}

int main(void)
{
    at_progress_silence(true);
    at_log_set_level(AT_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_without_cache),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
