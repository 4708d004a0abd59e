/* SPDX-License-Identifier: Apache-2.0
 * ctest: timeout=300
 * Whole sweeps over real worker processes: waves, failures, kill -9 of workers and coordinators. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake_atoll.h"
#include "sweep_place.h"

static void two_waves_on_two_workers(void **state)
{
    (void)state;
    sweep_place p;
    at_error err = {0};
    setenv("OMPI_COMM_WORLD_RANK", "0", 1);
    setenv("PMIX_RANK", "0", 1);
    setenv("SLURM_STEPID", "0", 1);
    setenv("OMP_NUM_THREADS", "1", 1);
    sweep_place_init(&p, "nap_ms: 60", "  workers: local:2\n");
    at_node *best = fake_tune(p.sweep, p.study, NULL, false, &err);
    if (!best)
        fail_msg("%s", err.message);
    assert_int_equal(at_node_int(at_node_get(best, "waves"), 0), 2);
    assert_int_equal(at_node_int(at_node_get(best, "workers"), 0), 2);
    assert_int_equal(at_node_int(at_node_get(best, "trials"), 0), 8);
    char *params = sweep_check_complete(&p), *alone = sweep_undisturbed();
    assert_string_equal(params, alone);
    at_node *all = sweep_trials(&p);
    double best_value = -INFINITY;
    bool several = false;
    for (size_t i = 0; i < 8; i++) {
        best_value = fmax(best_value, at_node_real(sweep_cell(all, i, "value"), NAN));
        several |= strcmp(at_node_text(sweep_cell(all, i, "worker")),
                          at_node_text(sweep_cell(all, 0, "worker"))) != 0;
        assert_int_equal(at_node_int(sweep_cell(all, i, "wave"), 0), 1 + i / 4);
    }
    assert_true(several);
    assert_true(at_node_real(at_node_get(best, "value"), NAN) == best_value);
    at_node_free(all);
    at_node_free(best);
    free(params);
    free(alone);
    for (size_t i = 0; i < 4; i++)
        unsetenv(((const char *[]){"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_STEPID",
                                   "OMP_NUM_THREADS"})[i]);
    sweep_place_fini(&p);
}

static void a_killed_workers_trial_runs_again(void **state)
{
    (void)state;
    sweep_place p;
    at_error err = {0};
    sweep_place_init(&p, "nap_ms: 40, kill_worker_of: 2", "");
    at_node *best = fake_tune(p.sweep, p.study, "local:2", false, &err);
    if (!best)
        fail_msg("%s", err.message);
    at_node_free(best);
    char *params = sweep_check_complete(&p), *alone = sweep_undisturbed();
    assert_string_equal(params, alone);
    at_node *all = sweep_trials(&p);
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(at_node_int(sweep_cell(all, i, "leases"), 0), i == 2 ? 2 : 1);
    at_node_free(all);
    free(params);
    free(alone);
    sweep_place_fini(&p);
}

/* The first trial's settings for one step, once, before any lease; not where nothing is left to do. */
static void a_trial_is_rehearsed(void **state)
{
    (void)state;
    sweep_place p;
    at_error err = {0};
    sweep_place_init(&p, "nap_ms: 10, batch: 24, epochs: 7", "");
    char *path = at_path_join(p.dir, "notes"), *notes, *out = at_path_join(p.study, "rehearsal");
    setenv("FAKE_ATOLL_NOTES", path, 1);
    at_node *best = fake_tune(p.sweep, p.study, "local:1", false, &err);
    if (!best)
        fail_msg("%s", err.message);
    at_node_free(best);
    assert_int_equal(at_file_read(path, 10000, &notes, NULL, &err), 0);
    at_node *all = sweep_trials(&p);
    char *rate =
        at_format(" -s lr=%s ", at_node_text(at_node_get(sweep_cell(all, 0, "params"), "lr")));
    const char *const wanted[] = {"train --data ",     rate,
                                  " -s batch=24 ",     " -s epochs=1 ",
                                  " -s train_limit=1", " -s threads="};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (!strstr(notes, wanted[i]))
            fail_msg("\"%s\" is not in %s", wanted[i], notes);
    assert_ptr_equal(strchr(notes, '\n'), notes + strlen(notes) - 1);
    assert_false(at_dir_exists(out));
    assert_int_equal(remove(path), 0);
    best = fake_tune(p.sweep, p.study, "local:1", true, &err);
    assert_non_null(best);
    assert_false(at_file_exists(path));
    unsetenv("FAKE_ATOLL_NOTES");
    at_node_free(best);
    at_node_free(all);
    free(rate);
    free(notes);
    free(path);
    free(out);
    sweep_place_fini(&p);
}

static void a_failed_trial_keeps_its_last_words(void **state)
{
    (void)state;
    sweep_place p;
    at_error err = {0};
    sweep_place_init(&p, "nap_ms: 10, fail_at: 1, crash_at: 5", "");
    at_node *best = fake_tune(p.sweep, p.study, "local:2", false, &err);
    assert_non_null(best);
    assert_int_equal(at_node_int(at_node_get(best, "failed"), 0), 2);
    at_node_free(best);
    at_node *all = sweep_trials(&p);
    assert_string_equal(at_node_text(sweep_cell(all, 1, "state")), "FAIL");
    assert_non_null(strstr(at_node_text(sweep_cell(all, 1, "error")), "exit status 1"));
    assert_non_null(
        strstr(at_node_text(sweep_cell(all, 1, "error")), "trial 1 has failed: as it was told"));
    assert_non_null(strstr(at_node_text(sweep_cell(all, 5, "error")), "killed by signal 6"));
    assert_string_equal(at_node_text(sweep_cell(all, 7, "state")), "COMPLETE");
    at_node_free(all);
    char *log = at_path_join(p.study, "trials/1/log.txt"), *text;
    assert_int_equal(at_file_read(log, 10000, &text, NULL, &err), 0);
    assert_non_null(strstr(text, "a first line"));
    free(text);
    free(log);
    sweep_place_fini(&p);
}

static void a_wrong_sweep_ends_early(void **state)
{
    (void)state;
    sweep_place p;
    at_error err = {0};
    sweep_place_init(&p, "fail_all: 1, status: 3", "");
    assert_null(fake_tune(p.sweep, p.study, "local:1", false, &err));
    assert_int_equal(err.code, AT_EINPUT);
    assert_non_null(strstr(err.message, "3 trials in a row failed"));
    assert_non_null(strstr(err.message, "as it was told"));
    sweep_place_fini(&p);

    sweep_place_init(&p, "fail_all: 1, status: 1", "");
    assert_null(fake_tune(p.sweep, p.study, "local:2", false, &err));
    assert_int_equal(err.code, AT_EFAIL);
    assert_non_null(strstr(err.message, "all 8 trials failed"));
    sweep_place_fini(&p);
}

static void workers_that_cannot_run_end_the_sweep(void **state)
{
    (void)state;
    sweep_place p;
    at_error err = {0};
    sweep_place_init(&p, "nap_ms: 10", "");
    at_tune_options options = {
        .sweep = p.sweep, .out = p.study, .workers = "local:2", .program = "/bin/false"};
    assert_null(at_tune(&options, &err));
    assert_int_equal(err.code, AT_EPEER);
    assert_non_null(strstr(err.message, "a worker ended with exit status 1"));
    options.program = "/nowhere/atoll";
    options.resume = true;
    assert_null(at_tune(&options, &err));
    assert_int_equal(err.code, AT_EINPUT);
    assert_non_null(strstr(err.message, "/nowhere/atoll"));
    sweep_place_fini(&p);
}

static void a_killed_coordinator_is_resumed(void **state)
{
    (void)state;
    char *alone = sweep_undisturbed();
    enum { KILLS = 3 };
    for (int i = 0; i < KILLS; i++) {
        sweep_place p;
        at_error err = {0};
        sweep_place_init(&p, "nap_ms: 100", "");
        pid_t pid = sweep_start(&p, "local:2", false);
        sweep_wait_until(&p, i ? "complete" : "running", 1 + 2 * i);
        kill(pid, SIGKILL);
        assert_int_equal(process_wait(pid), 128 + SIGKILL);
        at_node *best = fake_tune(p.sweep, p.study, "local:2", true, &err);
        if (!best)
            fail_msg("%s", err.message);
        at_node_free(best);
        char *params = sweep_check_complete(&p);
        assert_string_equal(params, alone);
        free(params);
        sweep_place_fini(&p);
    }
    print_message("%d killed coordinators, the same trials after --resume\n", KILLS);
    free(alone);
}

static void an_interrupted_coordinator_is_resumed(void **state)
{
    (void)state;
    sweep_place p;
    at_error err = {0};
    sweep_place_init(&p, "nap_ms: 150", "");
    pid_t pid = sweep_start(&p, "local:2", false);
    sweep_wait_until(&p, "complete", 1);
    sweep_wait_until(&p, "running", 1);
    kill(pid, SIGINT);
    assert_int_equal(process_wait(pid), 4);
    at_node *show = at_study_show(p.study, NULL);
    assert_int_equal(at_node_int(at_node_get(show, "running"), -1), 0);
    assert_true(at_node_int(at_node_get(show, "waiting"), -1) >= 1);
    at_node_free(show);
    assert_null(fake_tune(p.sweep, p.study, "local:2", false, &err));
    assert_int_equal(err.code, AT_EINPUT);
    at_node *best = fake_tune(p.sweep, p.study, "local:1", true, &err);
    if (!best)
        fail_msg("%s", err.message);
    at_node_free(best);
    char *params = sweep_check_complete(&p), *alone = sweep_undisturbed();
    assert_string_equal(params, alone);
    free(params);
    free(alone);
    sweep_place_fini(&p);
}

int main(int argc, char **argv)
{
    int status = fake_main(argc, argv);
    if (status >= 0)
        return status;
    at_progress_silence(true);
    at_log_set_level(AT_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_waves_on_two_workers),
        cmocka_unit_test(a_killed_workers_trial_runs_again),
        cmocka_unit_test(a_trial_is_rehearsed),
        cmocka_unit_test(a_failed_trial_keeps_its_last_words),
        cmocka_unit_test(a_wrong_sweep_ends_early),
        cmocka_unit_test(workers_that_cannot_run_end_the_sweep),
        cmocka_unit_test(a_killed_coordinator_is_resumed),
        cmocka_unit_test(an_interrupted_coordinator_is_resumed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
