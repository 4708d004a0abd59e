/* SPDX-License-Identifier: Apache-2.0
 * What `atoll bench loader` promises: its keys, with numbers that can be true. */
#include "caches.h"
#include "scratch.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "atoll/bench.h"

static void test_keys(void **state)
{
    (void)state;
    char *dir = scratch_new(), *path = cache_build_small(dir);
    at_error err = {0};
    at_bench_loader_options o = {
        .cache = path, .batch = 8, .threads = 2, .epochs = 50, .seconds = 0.1};
    at_node *n = at_bench_loader(&o, &err);
    if (!n)
        fail_msg("%s", err.message);
    assert_true(at_node_real(at_node_get(n, "images_per_second"), 0) > 0);
    assert_true(at_node_real(at_node_get(n, "floor_images_per_second"), 0) > 0);
    assert_true(at_node_int(at_node_get(n, "peak_rss_bytes"), 0) > 0);
    int64_t first = at_node_int(at_node_get(n, "anonymous_bytes_first_epoch"), 0);
    int64_t last = at_node_int(at_node_get(n, "anonymous_bytes"), 0);
    assert_true(at_node_int(at_node_get(n, "epochs"), 0) >= 50);
    assert_true(first > 0 && last <= first + (1 << 20)); /* a thread's first use of its arena */
    assert_int_equal(at_node_int(at_node_get(n, "batch"), 0), 8);
    assert_int_equal(at_node_int(at_node_get(n, "threads"), 0), 2);
    at_node_free(n);
    free(path);
    scratch_free(dir);
}

static void test_refusals(void **state)
{
    (void)state;
    pictures empty = {.classes = 2, .test = 1, .height = 4, .width = 4, .channels = 1};
    char *dir = scratch_new(), *path = at_path_join(dir, "cache");
    at_error err = {0};
    at_bench_loader_options o = {.cache = path, .batch = 8, .threads = 1, .seconds = 0.1};
    assert_null(at_bench_loader(&o, &err));
    assert_int_equal(err.code, AT_ENOENT);
    char *dataset = pictures_ingest(&empty, dir, "data");
    cache_must(at_cache_build(dataset, &(at_cache_spec){0}, path, &err), &err);
    assert_null(at_bench_loader(&o, &err));
    assert_int_equal(err.code, AT_EINPUT);
    assert_non_null(strstr(err.message, "no training samples"));
    free(dataset);
    free(path);
    scratch_free(dir);
}

int main(void)
{
    at_progress_silence(true);
    at_log_set_level(AT_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
