/* SPDX-License-Identifier: Apache-2.0
 * Checkpoints: what is loaded is what was saved, bit by bit, or nothing: a damaged one is passed
 * over for the one before, and one of another network or optimizer is refused. */
#include "../../trainer/internal.h"
#include "scratch.h"
#include "trainings.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { SIDE = 4, CLASSES = 3 };

/* A network with its optimizer, and a folder of checkpoints. */
typedef struct fixture {
    char *scratch, *dir;
    at_train_config config;
    at_net *net;
    at_optimizer *optimizer;
} fixture;

static at_optimizer *optimizer_new(at_net *net, const at_train_config *c)
{
    at_error err = {0};
    at_optimizer *o = at_optimizer_new(net, c, 1, &err);
    if (!o)
        fail_msg("%s", err.message);
    return o;
}

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->scratch = scratch_new();
    f->dir = at_path_join(f->scratch, "checkpoints");
    f->config = training_config("optimizer=adam");
    f->net = training_normed_net(SIDE, CLASSES, 1);
    f->optimizer = optimizer_new(f->net, &f->config);
    at_log_set_level(AT_LOG_ERROR);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    at_optimizer_free(f->optimizer);
    at_net_free(f->net);
    at_options_fini(at_train_options, &f->config);
    scratch_free(f->scratch);
    free(f->dir);
    free(f);
    return 0;
}

static void fill(float *data, size_t n, at_rng *rng)
{
    for (size_t i = 0; i < n; i++)
        data[i] = (float)at_rng_normal(rng);
}

/* Weights, state and slots that belong to `number`. */
static void randomize(at_net *net, at_optimizer *o, uint64_t number)
{
    at_rng rng = at_rng_stream(5, "checkpoint", number);
    fill(at_net_params(net), at_net_param_count(net), &rng);
    fill(at_net_state(net), at_net_state_count(net), &rng);
    for (size_t i = 0; i < at_optimizer_slots(o); i++)
        fill(at_optimizer_slot(o, i), at_net_param_count(net), &rng);
    at_optimizer_set_steps(o, 1000 + number);
}

static at_progress_point point(uint64_t number)
{
    double n = (double)number;
    return (at_progress_point){.epoch = number,
                               .step = 10 * number,
                               .consumed = 640 * number,
                               .loss_sum = 1 / (3 + n),
                               .correct = 7 * n,
                               .samples = 640 * n,
                               .seconds = 0.1 * n,
                               .step_seconds = 0.07 * n};
}

static void save(fixture *f, uint64_t number, int64_t keep)
{
    at_error err = {0};
    at_progress_point at = point(number);
    randomize(f->net, f->optimizer, number);
    if (at_checkpoint_save(f->dir, f->net, f->optimizer, &at, keep, &err))
        fail_msg("%s", err.message);
}

static void assert_floats(const float *a, const float *b, size_t n)
{
    assert_memory_equal(a, b, n * sizeof *a);
}

/* That f->net and the rest hold what save() of this number saved. */
static void assert_holds(fixture *f, const at_progress_point *at, uint64_t number)
{
    at_net *net = training_normed_net(SIDE, CLASSES, 2);
    at_optimizer *o = optimizer_new(net, &f->config);
    at_progress_point expected = point(number);
    randomize(net, o, number);
    assert_memory_equal(at, &expected, sizeof expected);
    assert_floats(at_net_params(f->net), at_net_params(net), at_net_param_count(net));
    assert_floats(at_net_state(f->net), at_net_state(net), at_net_state_count(net));
    for (size_t i = 0; i < at_optimizer_slots(o); i++)
        assert_floats(at_optimizer_slot(f->optimizer, i), at_optimizer_slot(o, i),
                      at_net_param_count(net));
    assert_int_equal(at_optimizer_steps(f->optimizer), at_optimizer_steps(o));
    at_optimizer_free(o);
    at_net_free(net);
}

static int load(fixture *f, at_progress_point *at, at_error *err)
{
    *at = (at_progress_point){0};
    randomize(f->net, f->optimizer, 999);
    return at_checkpoint_load(f->dir, f->net, f->optimizer, at, err);
}

static void assert_loads(fixture *f, uint64_t number)
{
    at_error err = {0};
    at_progress_point at;
    if (load(f, &at, &err) != 1)
        fail_msg("%s", err.message);
    assert_holds(f, &at, number);
}

static char *path_of(const fixture *f, uint64_t number)
{
    return at_format("%s/epoch-%06d-step-%09d.h5", f->dir, (int)number, (int)(10 * number));
}

static void write_bytes(const char *path, const char *data, size_t bytes)
{
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(data, 1, bytes, out), bytes);
    assert_int_equal(fclose(out), 0);
}

static void cut_short(const fixture *f, uint64_t number)
{
    char *path = path_of(f, number);
    assert_int_equal(truncate(path, 700), 0);
    free(path);
}

/* ---- the tests ------------------------------------------------------------------------------- */

static void test_round_trip(void **state)
{
    fixture *f = *state;
    at_error err = {0};
    at_progress_point at;
    assert_int_equal(load(f, &at, &err), 0); /* no folder yet */
    for (uint64_t number = 0; number < 5; number++) {
        save(f, number, 9);
        assert_loads(f, number);
    }
}

static void test_keeps_the_newest(void **state)
{
    fixture *f = *state;
    for (uint64_t number = 1; number <= 12; number++) {
        save(f, number, 3);
        assert_int_equal(scratch_count(f->dir), number < 3 ? number : 3);
    }
    char *oldest = path_of(f, 10);
    assert_true(at_file_exists(oldest));
    assert_loads(f, 12);
    free(oldest);
}

static void test_other_files_are_left_alone(void **state)
{
    fixture *f = *state;
    static const char *const names[] = {"epoch-000009-step-000000000.h5.tmp.12.1", "notes.txt",
                                        "epoch-9-step-1.h5", "xepoch-000009-step-000000000.h5"};
    save(f, 1, 1);
    for (size_t i = 0; i < 4; i++) {
        char *path = at_path_join(f->dir, names[i]);
        write_bytes(path, "?", 1);
        free(path);
    }
    save(f, 2, 1);
    assert_int_equal(scratch_count(f->dir), 5);
    assert_loads(f, 2);
}

static void test_broken_newest(void **state)
{
    fixture *f = *state;
    for (uint64_t number = 1; number <= 3; number++)
        save(f, number, 3);
    cut_short(f, 3);
    assert_loads(f, 2);
    cut_short(f, 2);
    assert_loads(f, 1);
    cut_short(f, 1);
    at_error err = {0};
    at_progress_point at;
    assert_int_equal(load(f, &at, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, f->dir));
    assert_non_null(strstr(err.message, "none of its 3"));
}

static void test_unreadable_folder_is_no_fresh_start(void **state)
{
    fixture *f = *state;
    at_error err = {0};
    at_progress_point at;
    write_bytes(f->dir, "?", 1); /* a file where the folder should be */
    assert_true(load(f, &at, &err) < 0);
    assert_non_null(strstr(err.message, f->dir));
}

static void assert_refused(fixture *f, at_net *net, const char *keys, const char *reason)
{
    at_train_config c = training_config(keys);
    at_optimizer *o = optimizer_new(net, &c);
    at_error err = {0};
    at_progress_point at = {0};
    assert_int_equal(at_checkpoint_load(f->dir, net, o, &at, &err), AT_EINPUT);
    if (!strstr(err.message, reason))
        fail_msg("no \"%s\" in: %s", reason, err.message);
    at_optimizer_free(o);
    at_options_fini(at_train_options, &c);
}

static void test_of_another_training(void **state)
{
    fixture *f = *state;
    save(f, 1, 1);
    at_net *more_classes = training_normed_net(SIDE, CLASSES + 1, 1);
    at_net *other_rows = training_dense_net(SIDE, CLASSES, 1);
    assert_refused(f, more_classes, "optimizer=adam", "another network");
    assert_refused(f, other_rows, "optimizer=adam", "another network");
    assert_refused(f, f->net, "optimizer=sgd", "optimizer \"adam\"");
    at_net_free(more_classes);
    at_net_free(other_rows);
}

static void test_cut_anywhere(void **state)
{
    fixture *f = *state;
    char *data, *path = path_of(f, 2);
    size_t bytes, cases = 0;
    save(f, 1, 2);
    save(f, 2, 2);
    assert_int_equal(at_file_read(path, SIZE_MAX / 2, &data, &bytes, NULL), 0);
    for (size_t length = 0; length < bytes; length += length < 64 ? 1 : 1 + bytes / 300, cases++) {
        write_bytes(path, data, length);
        assert_loads(f, 1);
    }
    print_message("%zu lengths of %zu bytes: each time the one before was taken\n", cases, bytes);
    free(data);
    free(path);
}

/* A changed byte either does not matter, or the checkpoint is refused: never other numbers. */
static void test_change_anywhere(void **state)
{
    enum { CASES = 1500 };
    fixture *f = *state;
    char *data, *path = path_of(f, 2);
    size_t bytes, refused = 0;
    save(f, 2, 1);
    assert_int_equal(at_file_read(path, SIZE_MAX / 2, &data, &bytes, NULL), 0);
    for (uint64_t i = 0; i < CASES; i++) {
        at_rng rng = at_rng_stream(6, "flip", i);
        at_progress_point at;
        at_error err = {0};
        size_t where = at_rng_below(&rng, bytes);
        char change = (char)(1 + at_rng_below(&rng, 255));
        data[where] ^= change;
        write_bytes(path, data, bytes);
        data[where] ^= change;
        int code = load(f, &at, &err);
        if (code == 1)
            assert_holds(f, &at, 2);
        else
            assert_int_equal(code, AT_EINPUT);
        refused += code != 1;
    }
    assert_true(refused > CASES / 20);
    print_message("%d changed bytes of %zu: %zu refused, the others harmless\n", CASES, bytes,
                  refused);
    free(data);
    free(path);
}

/* Where the disk does not take the file, the name is not there and the error says which. */
static void test_cannot_be_written(void **state)
{
    fixture *f = *state;
    at_error err = {0};
    at_progress_point at = point(1);
    write_bytes(f->dir, "?", 1);
    assert_true(at_checkpoint_save(f->dir, f->net, f->optimizer, &at, 1, &err) < 0);
    assert_non_null(strstr(err.message, f->dir));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_round_trip),          TEST(test_keeps_the_newest),
        TEST(test_broken_newest),       TEST(test_unreadable_folder_is_no_fresh_start),
        TEST(test_of_another_training), TEST(test_other_files_are_left_alone),
        TEST(test_cut_anywhere),        TEST(test_change_anywhere),
        TEST(test_cannot_be_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
