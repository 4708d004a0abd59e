/* SPDX-License-Identifier: Apache-2.0
 * Downloads from a server of the test's own: whole, broken off, wrong, interrupted. */
#include "http_server.h"
#include "scratch.h"
#include "sources.h"

#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { SIZE = 300000 };

struct place {
    char *dir, *path, *part, sha256[65];
    char *data;
};

static int set_up(void **state)
{
    struct place *p = malloc(sizeof *p);
    assert_non_null(p);
    p->dir = scratch_new();
    p->path = at_path_join(p->dir, "got.bin");
    p->part = at_path_join(p->dir, "got.bin.part");
    p->data = malloc(SIZE);
    at_sha256 *h = at_sha256_new();
    assert_true(p->data && h);
    at_rng rng = at_rng_stream(1, "download", 0);
    for (int i = 0; i < SIZE; i++)
        p->data[i] = (char)at_rng_below(&rng, 256);
    at_sha256_add(h, p->data, SIZE);
    at_sha256_end(h, p->sha256);
    put_file(p->dir, "file.bin", p->data, SIZE);
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    struct place *p = *state;
    free(p->data);
    free(p->path);
    free(p->part);
    scratch_free(p->dir);
    free(p);
    return 0;
}

/* Downloads dir/file.bin from a server with these habits. */
static int download(const struct place *p, const http_habits *habits, const char *name,
                    at_error *err, int *requests, size_t *bytes)
{
    http_server *s = http_server_start(p->dir, habits);
    char *url = http_server_url(s, name);
    int ranges;
    int code = at_download(url, p->sha256, p->path, err);
    http_server_counts(s, requests, &ranges, bytes);
    http_server_stop(s);
    free(url);
    return code;
}

static void must_be_whole(const struct place *p)
{
    char *data;
    size_t size;
    assert_int_equal(at_file_read(p->path, 1 << 20, &data, &size, NULL), 0);
    assert_int_equal(size, SIZE);
    assert_memory_equal(data, p->data, SIZE);
    assert_false(at_file_exists(p->part));
    free(data);
}

static void test_a_whole_file(void **state)
{
    struct place *p = *state;
    at_error err = {0};
    int requests;
    size_t bytes;
    assert_int_equal(download(p, &(http_habits){0}, "file.bin", &err, &requests, &bytes), 0);
    assert_int_equal(requests, 1);
    must_be_whole(p);
}

static void test_a_broken_connection_is_taken_up(void **state)
{
    struct place *p = *state;
    at_error err = {0};
    int requests;
    size_t bytes;
    if (download(p, &(http_habits){.break_after = 100000}, "file.bin", &err, &requests, &bytes))
        fail_msg("%s", err.message);
    assert_int_equal(requests, 3);
    assert_int_equal(bytes, SIZE); /* no byte was sent twice */
    must_be_whole(p);
}

static void test_an_earlier_part_is_taken_up(void **state)
{
    struct place *p = *state;
    at_error err = {0};
    int requests;
    size_t bytes;
    put_file(p->dir, "got.bin.part", p->data, 200000);
    assert_int_equal(download(p, &(http_habits){0}, "file.bin", &err, &requests, &bytes), 0);
    assert_int_equal(bytes, SIZE - 200000);
    must_be_whole(p);
}

static void test_a_whole_part_needs_only_its_name(void **state)
{
    struct place *p = *state;
    at_error err = {0};
    int requests;
    size_t bytes;
    put_file(p->dir, "got.bin.part", p->data, SIZE);
    assert_int_equal(download(p, &(http_habits){0}, "file.bin", &err, &requests, &bytes), 0);
    assert_int_equal(bytes, 0);
    must_be_whole(p);
}

static void test_a_part_of_something_else(void **state)
{
    struct place *p = *state;
    at_error err = {0};
    int requests;
    size_t bytes;
    char *wrong = calloc(1, 200000);
    put_file(p->dir, "got.bin.part", wrong, 200000);
    assert_int_equal(download(p, &(http_habits){0}, "file.bin", &err, &requests, &bytes), 0);
    assert_int_equal(requests, 2);
    must_be_whole(p);
    free(wrong);
}

static void test_a_server_without_ranges(void **state)
{
    struct place *p = *state;
    at_error err = {0};
    int requests;
    size_t bytes;
    put_file(p->dir, "got.bin.part", p->data, 200000);
    assert_int_equal(
        download(p, &(http_habits){.no_ranges = true}, "file.bin", &err, &requests, &bytes), 0);
    assert_int_equal(bytes, SIZE);
    must_be_whole(p);
}

static void test_a_busy_server_is_asked_again(void **state)
{
    struct place *p = *state;
    at_error err = {0};
    int requests;
    size_t bytes;
    assert_int_equal(
        download(p, &(http_habits){.failures = 2}, "file.bin", &err, &requests, &bytes), 0);
    assert_int_equal(requests, 3);
    must_be_whole(p);
}

static void test_wrong_content_is_not_kept(void **state)
{
    struct place *p = *state;
    at_error err = {0};
    int requests;
    size_t bytes;
    put_text(p->dir, "other.bin", "something else");
    assert_int_equal(download(p, &(http_habits){0}, "other.bin", &err, &requests, &bytes),
                     AT_EINPUT);
    assert_non_null(strstr(err.message, p->sha256));
    assert_int_equal(requests, 1);
    assert_false(at_file_exists(p->path) || at_file_exists(p->part));
}

static void test_a_missing_file(void **state)
{
    struct place *p = *state;
    at_error err = {0};
    int requests;
    size_t bytes;
    assert_int_equal(download(p, &(http_habits){0}, "nothing.bin", &err, &requests, &bytes),
                     AT_EIO);
    assert_non_null(strstr(err.message, "404"));
    assert_int_equal(requests, 1);
    assert_false(at_file_exists(p->path));
}

static void test_only_http(void **state)
{
    struct place *p = *state;
    at_error err = {0};
    int requests;
    size_t bytes;
    char *file = at_format("file://%s/file.bin", p->dir);
    assert_int_equal(at_download(file, p->sha256, p->path, &err), AT_EINPUT);
    http_habits away = {.redirect = file};
    int code = download(p, &away, "file.bin", &err, &requests, &bytes);
    assert_true(code < 0);
    assert_false(at_file_exists(p->path));
    free(file);
}

static void test_redirects_are_followed(void **state)
{
    struct place *p = *state;
    at_error err = {0};
    int requests;
    size_t bytes;
    http_server *s = http_server_start(p->dir, &(http_habits){0});
    char *there = http_server_url(s, "file.bin");
    http_habits away = {.redirect = there};
    assert_int_equal(download(p, &away, "file.bin", &err, &requests, &bytes), 0);
    must_be_whole(p);
    http_server_stop(s);
    free(there);
}

static void test_nobody_answers(void **state)
{
    struct place *p = *state;
    at_error err = {0};
    http_server *s = http_server_start(p->dir, &(http_habits){0});
    char *url = http_server_url(s, "file.bin");
    http_server_stop(s);
    put_file(p->dir, "got.bin.part", p->data, 1000);
    assert_int_equal(at_download(url, p->sha256, p->path, &err), AT_EIO);
    assert_non_null(strstr(err.message, "127.0.0.1"));
    struct stat st;
    assert_int_equal(stat(p->part, &st), 0);
    assert_int_equal(st.st_size, 1000); /* what was there stays */
    free(url);
}

static void test_interrupted_and_taken_up(void **state)
{
    struct place *p = *state;
    http_server *s = http_server_start(p->dir, &(http_habits){.pause_ms = 50});
    char *url = http_server_url(s, "file.bin");
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        at_interrupt_install();
        _exit(-at_download(url, p->sha256, p->path, NULL));
    }
    int requests, ranges, status;
    size_t bytes = 0;
    while (bytes < 20000)
        http_server_counts(s, &requests, &ranges, &bytes);
    kill(child, SIGINT);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), -AT_EINTERRUPTED);
    http_server_stop(s);
    free(url);
    struct stat st;
    assert_int_equal(stat(p->part, &st), 0);
    assert_true(st.st_size > 0 && st.st_size < SIZE);
    assert_false(at_file_exists(p->path));
    at_error err = {0};
    assert_int_equal(download(p, &(http_habits){0}, "file.bin", &err, &requests, &bytes), 0);
    assert_int_equal(bytes, SIZE - st.st_size);
    must_be_whole(p);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_a_whole_file),
        CASE(test_a_broken_connection_is_taken_up),
        CASE(test_an_earlier_part_is_taken_up),
        CASE(test_a_whole_part_needs_only_its_name),
        CASE(test_a_part_of_something_else),
        CASE(test_a_server_without_ranges),
        CASE(test_a_busy_server_is_asked_again),
        CASE(test_wrong_content_is_not_kept),
        CASE(test_a_missing_file),
        CASE(test_only_http),
        CASE(test_redirects_are_followed),
        CASE(test_nobody_answers),
        CASE(test_interrupted_and_taken_up),
    };
#undef CASE
    at_log_set_level(AT_LOG_WARN);
    at_progress_silence(true);
    unsetenv("http_proxy"); /* the server is here */
    unsetenv("all_proxy");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
