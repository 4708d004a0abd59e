/* SPDX-License-Identifier: Apache-2.0
 * RUN/: one training a folder, one process at a time, and metrics.jsonl without repetitions after a
 * resume. */
#include "../../trainer/internal.h"
#include "scratch.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct fixture {
    char *scratch, *out;
    at_train_job job;
} fixture;

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->scratch = scratch_new();
    f->out = at_path_join(f->scratch, "deep/down/run");
    f->job = (at_train_job){.data = "d", .model = "lenet", .out = f->out};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    scratch_free(f->scratch);
    free(f->out);
    free(f);
    return 0;
}

static void put(const fixture *f, const char *name, const char *text)
{
    at_error err = {0};
    char *path = at_path_join(f->out, name);
    if (at_make_dirs(f->out, &err) || at_file_write(path, text, strlen(text), &err))
        fail_msg("%s", err.message);
    free(path);
}

static void assert_text(const fixture *f, const char *name, const char *expected)
{
    at_error err = {0};
    char *path = at_path_join(f->out, name), *text;
    size_t bytes;
    if (at_file_read(path, 1 << 20, &text, &bytes, &err))
        fail_msg("%s", err.message);
    assert_string_equal(text, expected);
    free(text);
    free(path);
}

/* ---- whose folder it is ---------------------------------------------------------------------- */

static void test_check_writes_nothing(void **state)
{
    fixture *f = *state;
    assert_int_equal(at_run_check(&f->job, NULL), 0);
    assert_false(at_dir_exists(f->out));
    assert_int_equal(scratch_count(f->scratch), 0);
}

static void test_refuses_a_used_folder(void **state)
{
    fixture *f = *state;
    at_error err = {0};
    at_lock *lock = NULL;
    put(f, "notes.txt", "");
    assert_int_equal(at_run_check(&f->job, &err), 0); /* only a training's files count */
    put(f, "config.yaml", "");
    assert_int_equal(at_run_check(&f->job, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, "--resume"));
    assert_non_null(strstr(err.message, f->out));
    assert_int_equal(at_run_begin(&f->job, &lock, &err), AT_EINPUT);
    at_lock_release(lock);
    f->job.resume = true;
    assert_int_equal(at_run_check(&f->job, &err), 0);
}

static void test_refuses_a_file(void **state)
{
    fixture *f = *state;
    at_error err = {0};
    put(f, "file", "");
    f->job.out = at_path_join(f->out, "file");
    assert_int_equal(at_run_check(&f->job, &err), AT_EINPUT);
    f->job.resume = true;
    assert_int_equal(at_run_check(&f->job, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, f->job.out));
    free((char *)f->job.out);
}

static void test_one_training_at_a_time(void **state)
{
    fixture *f = *state;
    at_error err = {0};
    at_lock *first = NULL, *second = NULL;
    assert_int_equal(at_run_begin(&f->job, &first, &err), 0);
    assert_non_null(first);
    f->job.resume = true;
    assert_int_equal(at_run_begin(&f->job, &second, &err), AT_EINPUT);
    assert_null(second);
    assert_non_null(strstr(err.message, "another process"));
    at_lock_release(first);
    assert_int_equal(at_run_begin(&f->job, &second, &err), 0);
    at_lock_release(second);
}

static void test_leftovers_of_a_killed_process(void **state)
{
    fixture *f = *state;
    at_lock *lock = NULL;
    char *checkpoints = at_path_join(f->out, "checkpoints");
    put(f, "model.h5.tmp.77.0", "half");
    put(f, "metrics.jsonl", "");
    assert_int_equal(at_make_dirs(checkpoints, NULL), 0);
    put(f, "checkpoints/epoch-000001-step-000000000.h5.tmp.77.1", "half");
    put(f, "checkpoints/epoch-000001-step-000000000.h5", "whole");
    f->job.resume = true;
    assert_int_equal(at_run_begin(&f->job, &lock, NULL), 0);
    assert_int_equal(scratch_count(f->out), 3); /* .lock, checkpoints/, metrics.jsonl */
    assert_int_equal(scratch_count(checkpoints), 1);
    at_lock_release(lock);
    free(checkpoints);
}

/* ---- metrics.jsonl --------------------------------------------------------------------------- */

static at_node *line_of(int64_t epoch, int64_t step)
{
    at_node *n = at_node_new(AT_MAP);
    at_set_int(n, "epoch", epoch);
    if (step)
        at_set_int(n, "epoch_step", step);
    return n;
}

/* Two epochs of three steps and the third begun. */
static void log_some(const fixture *f)
{
    at_error err = {0};
    assert_int_equal(at_make_dirs(f->out, NULL), 0);
    for (int64_t epoch = 1; epoch <= 3; epoch++)
        for (int64_t step = 1; step <= (epoch < 3 ? 4 : 2); step++)
            if (at_run_log(f->out, line_of(epoch, step < 4 ? step : 0), &err))
                fail_msg("%s", err.message);
}

#define EPOCH_1                                                                                    \
    "{\"epoch\":1,\"epoch_step\":1}\n{\"epoch\":1,\"epoch_step\":2}\n"                             \
    "{\"epoch\":1,\"epoch_step\":3}\n{\"epoch\":1}\n"
#define EPOCH_2                                                                                    \
    "{\"epoch\":2,\"epoch_step\":1}\n{\"epoch\":2,\"epoch_step\":2}\n"                             \
    "{\"epoch\":2,\"epoch_step\":3}\n{\"epoch\":2}\n"
#define EPOCH_3 "{\"epoch\":3,\"epoch_step\":1}\n{\"epoch\":3,\"epoch_step\":2}\n"

static void check_trim(fixture *f, uint64_t epoch, uint64_t step, const char *expected,
                       int64_t last)
{
    at_error err = {0};
    at_node *line;
    at_progress_point at = {.epoch = epoch, .step = step};
    if (at_run_trim_metrics(f->out, &at, &line, &err))
        fail_msg("%s", err.message);
    assert_text(f, "metrics.jsonl", expected);
    assert_int_equal(at_node_int(at_node_get(line, "epoch"), 0), last);
    at_node_free(line);
}

static void test_trim(void **state)
{
    fixture *f = *state;
    log_some(f);
    assert_text(f, "metrics.jsonl", EPOCH_1 EPOCH_2 EPOCH_3);
    check_trim(f, 2, 2, EPOCH_1 EPOCH_2 EPOCH_3, 2);
    check_trim(f, 2, 1, EPOCH_1 EPOCH_2 "{\"epoch\":3,\"epoch_step\":1}\n", 2);
    check_trim(f, 2, 0, EPOCH_1 EPOCH_2, 2);
    check_trim(f, 1, 3, /* its steps are done, its end is not */
               EPOCH_1 "{\"epoch\":2,\"epoch_step\":1}\n{\"epoch\":2,\"epoch_step\":2}\n"
                       "{\"epoch\":2,\"epoch_step\":3}\n",
               1);
    check_trim(f, 1, 0, EPOCH_1, 1);
    check_trim(f, 0, 0, "", 0);
    check_trim(f, 4, 0, "", 0);
}

/* A killed process leaves half a line; a line without its end is whole or goes. */
static void test_trim_half_a_line(void **state)
{
    fixture *f = *state;
    const char *all = EPOCH_1 EPOCH_2;
    size_t whole = strlen(EPOCH_1), length = strlen(all), cases = 0;
    for (size_t cut = whole; cut < length; cut++, cases++) {
        char *text = at_format("%.*s", (int)cut, all);
        put(f, "metrics.jsonl", text);
        while (cut > 0 && all[cut] != '\n' && text[strlen(text) - 1] != '\n')
            text[strlen(text) - 1] = 0;
        char *expected = at_format("%s%s", text, all[cut] == '\n' ? "\n" : "");
        check_trim(f, 2, 0, expected, 1 + (cut == length - 1));
        free(expected);
        free(text);
    }
    print_message("%zu cuts\n", cases);
}

static void test_trim_without_a_file(void **state)
{
    fixture *f = *state;
    assert_int_equal(at_make_dirs(f->out, NULL), 0);
    check_trim(f, 3, 0, "", 0);
}

/* ---- trees ----------------------------------------------------------------------------------- */

static void test_write_node(void **state)
{
    fixture *f = *state;
    at_node *n = line_of(3, 0);
    assert_int_equal(at_make_dirs(f->out, NULL), 0);
    assert_int_equal(at_run_write_node(f->out, "x.yaml", n, NULL), 0);
    assert_int_equal(at_run_write_node(f->out, "x.json", n, NULL), 0);
    assert_text(f, "x.yaml", "epoch: 3\n");
    char *path = at_path_join(f->out, "x.json");
    at_node *back = at_json_read(path, NULL);
    assert_int_equal(at_node_int(at_node_get(back, "epoch"), 0), 3);
    at_node_free(back);
    free(path);
    assert_true(at_run_write_node("/nonexistent", "x.json", n, NULL) < 0);
    at_node_free(n);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_check_writes_nothing),
        TEST(test_refuses_a_used_folder),
        TEST(test_refuses_a_file),
        TEST(test_one_training_at_a_time),
        TEST(test_leftovers_of_a_killed_process),
        TEST(test_trim),
        TEST(test_trim_half_a_line),
        TEST(test_trim_without_a_file),
        TEST(test_write_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
