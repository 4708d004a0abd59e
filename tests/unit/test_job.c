/* SPDX-License-Identifier: Apache-2.0
 * ctest: timeout=300
 * Whole jobs of which each stage is this program in the part of atoll: order, arguments, resuming,
 * changes, failures, interruption through a real mpirun. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fake_atoll.h"
#include "scratch.h"
#include "sweep_place.h"

typedef struct place {
    char *dir, *yaml, *out, *notes;
} place;

static const char job_yaml[] = "data: {source: pictures, val_fraction: 0.1}\n"
                               "model: fake\n"
                               "train: {batch: 64, fit: crop, augment: {flip: true}}\n"
                               "search:\n"
                               "  trials: 4\n"
                               "  wave: 2\n"
                               "  workers: local:2\n"
                               "  train: {nap_ms: 10}\n"
                               "  space: {lr: {loguniform: [0.001, 1]}}\n"
                               "final: {ranks: 2, train: {epochs: 3}}\n";

/* Writes the job with `to` in place of `from`. */
static void write_job(const place *p, const char *from, const char *to)
{
    const char *at = strstr(job_yaml, from);
    assert_non_null(at);
    char *yaml = at_format("%.*s%s%s", (int)(at - job_yaml), job_yaml, to, at + strlen(from));
    assert_int_equal(at_file_write(p->yaml, yaml, strlen(yaml), NULL), 0);
    free(yaml);
}

static void place_init(place *p, const char *from, const char *to)
{
    p->dir = scratch_new();
    p->yaml = at_path_join(p->dir, "job.yaml");
    p->out = at_path_join(p->dir, "out/job");
    p->notes = at_path_join(p->dir, "notes");
    setenv("FAKE_ATOLL_NOTES", p->notes, 1);
    write_job(p, from, to);
}

static void place_fini(place *p)
{
    unsetenv("FAKE_ATOLL_NOTES");
    free(p->yaml);
    free(p->out);
    free(p->notes);
    scratch_free(p->dir);
}

/* What was started since the last look; "" where nothing was. */
static char *take_notes(const place *p)
{
    char *text = NULL;
    if (at_file_read(p->notes, 1 << 20, &text, NULL, NULL))
        return strdup("");
    unlink(p->notes);
    return text;
}

static at_node *run(const place *p, bool resume)
{
    at_error err = {0};
    at_node *summary = fake_job(p->yaml, p->out, resume, &err);
    if (!summary)
        fail_msg("%s", err.message);
    return summary;
}

static void expect_failure(const place *p, bool resume, int code, const char *message)
{
    at_error err = {0};
    assert_null(fake_job(p->yaml, p->out, resume, &err));
    if (!strstr(err.message, message))
        fail_msg("gave: %s\nexpected: %s", err.message, message);
    assert_int_equal(err.code, code);
}

static bool is_there(const place *p, const char *name)
{
    char *path = at_path_join(p->out, name);
    bool there = at_file_exists(path);
    free(path);
    return there;
}

/* Each needle is found after the one before. */
static void assert_in_order(const char *text, const char *const *needles)
{
    for (const char *at = text; *needles; needles++) {
        at = strstr(at, *needles);
        if (!at)
            fail_msg("\"%s\" is missing or out of order in\n%s", *needles, text);
    }
}

static void the_whole_way(void **state)
{
    (void)state;
    place p;
    place_init(&p, "", "");
    at_node *s = run(&p, false);
    assert_int_equal(at_node_int(at_node_get(s, "ranks"), 0), 2);
    assert_int_equal(at_node_int(at_node_get(s, "waves"), 0), 2);
    assert_int_equal(at_node_int(at_node_get(s, "workers"), 0), 2);
    assert_int_equal(at_node_int(at_node_get(s, "trials"), 0), 4);
    assert_float_equal(at_node_real(at_node_get(s, "test_accuracy"), 0), 0.9123, 1e-12);
    double lr = at_node_real(at_node_path(s, "best_trial.params.lr"), 0);
    double value = at_node_real(at_node_path(s, "best_trial.value"), 0);
    assert_float_equal(value, fake_metric(lr), 1e-12);
    assert_non_null(strstr(at_node_text(at_node_get(s, "model")), "out/job/model.h5"));
    char *notes = take_notes(&p),
         *rate = at_format("-s lr=%s ", at_node_text(at_node_path(s, "best_trial.params.lr")));
    const char *const order[] = {"ingest pictures --out ",
                                 "--val_fraction=0.1",
                                 "cache build ",
                                 "/cache --fit=crop",
                                 "train --data ",
                                 "--out ",
                                 "/study/rehearsal ",
                                 "-s epochs=1 ",
                                 "train --data ",
                                 "--model fake",
                                 "-s batch=32 ",
                                 "-s augment.flip=true ",
                                 rate,
                                 "-s epochs=3 ",
                                 "-s cache=",
                                 "report --run ",
                                 "--study ",
                                 NULL};
    assert_in_order(notes, order);
    char *final = strstr(notes, "/train ");
    assert_non_null(final);
    assert_null(strstr(final, "nap_ms")); /* search.train is for the trials alone */
    assert_true(is_there(&p, "model.h5") && is_there(&p, "report.html") &&
                is_there(&p, "summary.json"));
    free(notes);
    free(rate);
    at_node_free(s);

    expect_failure(&p, false, AT_EINPUT, "--resume continues it");
    s = run(&p, true);
    notes = take_notes(&p);
    assert_string_equal(notes, "");
    assert_float_equal(at_node_real(at_node_path(s, "best_trial.value"), 0), value, 0);
    free(notes);
    at_node_free(s);
    place_fini(&p);
}

static void a_job_without_a_search(void **state)
{
    (void)state;
    place p;
    place_init(&p, "", "");
    const char yaml[] = "data: {source: pictures}\nmodel: fake\n";
    assert_int_equal(at_file_write(p.yaml, yaml, strlen(yaml), NULL), 0);
    at_node *s = run(&p, true); /* --resume where there is nothing begins */
    assert_int_equal(at_node_int(at_node_get(s, "ranks"), 0), 1);
    assert_int_equal(at_node_kind(at_node_get(s, "best_trial")), AT_NULL);
    char *notes = take_notes(&p);
    assert_null(strstr(notes, "--study"));
    assert_null(strstr(notes, "-s batch"));
    free(notes);
    at_node_free(s);
    place_fini(&p);
}

static void changes_are_noticed(void **state)
{
    (void)state;
    place p;
    place_init(&p, "", "");
    at_node_free(run(&p, false));
    free(take_notes(&p));
    write_job(&p, "batch: 64", "batch: 65");
    expect_failure(&p, true, AT_EINPUT, "train.batch has changed");
    write_job(&p, "trials: 4", "trials: 6");
    expect_failure(&p, true, AT_EINPUT, "search.trials has changed");
    write_job(&p, "val_fraction: 0.1", "val_fraction: 0.2");
    expect_failure(&p, true, AT_EINPUT, "data.val_fraction has changed");
    write_job(&p, "local:2", "local:1"); /* who works does not matter */
    at_node_free(run(&p, true));
    char *notes = take_notes(&p);
    assert_string_equal(notes, "");
    free(notes);
    write_job(&p, "epochs: 3", "epochs: 4, batch: 50");
    at_node_free(run(&p, true));
    notes = take_notes(&p);
    assert_in_order(notes, (const char *const[]){"train --data", "-s batch=50 ", "-s epochs=4 ",
                                                 "report", NULL});
    assert_null(strstr(notes, "ingest"));
    assert_null(strstr(notes, "--resume"));
    free(notes);
    place_fini(&p);
}

/* A folder with results of another origin is not taken for this job's. */
static void what_is_not_of_this_job_is_left_alone(void **state)
{
    (void)state;
    place p;
    place_init(&p, "", "");
    at_node_free(run(&p, false));
    free(take_notes(&p));
    char *record = at_path_join(p.out, "job.json");
    unlink(record);
    write_job(&p, "[0.001, 1]", "[0.002, 1]");
    expect_failure(&p, true, AT_EINPUT, "holds a study already");
    char *notes = take_notes(&p);
    assert_non_null(strstr(notes, "ingest pictures")); /* which refuses a folder that is there */
    free(notes);
    free(record);
    place_fini(&p);
}

static void a_failed_stage_is_run_again(void **state)
{
    (void)state;
    place p;
    place_init(&p, "source: pictures", "source: missing");
    expect_failure(&p, false, AT_EINPUT, "ingest failed");
    assert_false(is_there(&p, "summary.json"));
    write_job(&p, "", ""); /* nothing is there yet that could not be of the mended job */
    at_node_free(run(&p, true));
    place_fini(&p);

    place_init(&p, "epochs: 3", "epochs: 3, fail: 1");
    expect_failure(&p, false, AT_EINPUT, "the final training failed");
    assert_false(is_there(&p, "model.h5"));
    free(take_notes(&p));
    write_job(&p, "", "");
    at_node_free(run(&p, true));
    char *notes = take_notes(&p);
    assert_null(strstr(notes, "ingest"));
    assert_non_null(strstr(notes, "train --data"));
    free(notes);
    place_fini(&p);
}

/* srun was seen to end with 0 where it had launched nothing. */
static void a_training_that_was_never_launched_is_told(void **state)
{
    (void)state;
    place p;
    place_init(&p, "epochs: 3", "epochs: 3, not_launched: 1");
    expect_failure(&p, false, AT_EFAIL,
                   "the final training failed: mpirun ended with exit status 0, but left no model");
    assert_false(is_there(&p, "model.h5") || is_there(&p, "summary.json"));
    write_job(&p, "", "");
    at_node_free(run(&p, true));
    assert_true(is_there(&p, "model.h5") && is_there(&p, "summary.json"));
    place_fini(&p);
}

/* SIGINT to the job must reach ranks under mpirun in a way that lets them leave a checkpoint. */
static void an_interrupted_training_is_resumed(void **state)
{
    (void)state;
    const char *const ranks[] = {"ranks: 2", "ranks: 1"};
    for (size_t i = 0; i < 2; i++) {
        place p;
        char *final = at_format("%s, train: {wait_for_signal: 1, ", ranks[i]);
        place_init(&p, "ranks: 2, train: {", final);
        const char *const words[] = {"test", "run", p.yaml, p.out, NULL};
        pid_t pid = process_start(words);
        for (int tries = 0; tries < 3000 && !is_there(&p, "train/config.yaml"); tries++)
            usleep(20000);
        usleep(100000);
        kill(pid, SIGINT);
        assert_int_equal(process_wait(pid), 4);
        free(take_notes(&p));
        at_node_free(run(&p, true));
        char *notes = take_notes(&p);
        assert_in_order(notes, (const char *const[]){"train --data", "--resume", "report", NULL});
        assert_null(strstr(notes, "ingest"));
        free(notes);
        free(final);
        place_fini(&p);
    }
}

/* A killed job's ingest goes on for a second: the next job waits for its end, and does not meet it. */
static void what_a_killed_job_left_is_waited_for(void **state)
{
    (void)state;
    place p;
    place_init(&p, "source: pictures", "source: slow");
    const char *const words[] = {"test", "run", p.yaml, p.out, NULL};
    pid_t pid = process_start(words);
    for (int tries = 0; tries < 3000 && !at_file_exists(p.notes); tries++)
        usleep(1000);
    kill(pid, SIGKILL);
    process_wait(pid);
    assert_false(is_there(&p, "data/made"));
    at_node_free(run(&p, true));
    char *notes = take_notes(&p), *first = strstr(notes, "ingest slow");
    assert_non_null(first);
    assert_null(strstr(first + 1, "ingest slow")); /* it had become complete */
    assert_true(is_there(&p, "data/made"));
    free(notes);
    place_fini(&p);
}

static void bad_jobs_are_refused_with_their_place(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *message;
    } cases[] = {
        {"model: fake", "modell: fake",
         "job.yaml:2:1: unknown key \"modell\"; did you mean \"model\"?"},
        {"model: fake", "", "job.yaml:1:1: model: this key is needed"},
        {"data: {source: pictures, val_fraction: 0.1}", "data: pictures",
         "data: expected \"source: PATH\""},
        {"source: pictures", "sauce: pictures", "source: this key is needed"},
        {"final: {ranks: 2", "final: {rank: 2",
         "job.yaml:10:9: unknown key \"rank\"; did you mean \"ranks\"?"},
        {"ranks: 2", "ranks: two", "job.yaml:10:16: ranks: expected a whole number"},
        {"ranks: 2", "ranks: 0", "ranks: expected a whole number"},
        {"loguniform", "logunifrom", "unknown distribution \"logunifrom\""},
        {"local:2", "locl:2", "search.workers \"locl:2\""},
        {"wave: 2", "waves: 2", "job.yaml:6:3: unknown key \"waves\"; did you mean \"wave\"?"},
        {"model: fake", "model: [fake", "job.yaml:3"},
        {"model: fake", "\tmodel: fake", "a tab?"},
        {"  wave: 2\n", "  metric: accuracy\n",
         "job.yaml:6:11: metric: \"accuracy\" is not one of"},
    };
    size_t n = sizeof cases / sizeof *cases;
    for (size_t i = 0; i < n; i++) {
        place p;
        place_init(&p, cases[i].from, cases[i].to);
        expect_failure(&p, false, AT_EINPUT, cases[i].message);
        assert_false(at_dir_exists(p.out)); /* nothing is begun */
        place_fini(&p);
    }
    print_message("%zu bad jobs refused\n", n);
}

int main(int argc, char **argv)
{
    int status = fake_main(argc, argv);
    if (status >= 0)
        return status;
    at_progress_silence(true);
    at_log_set_level(AT_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_whole_way),
        cmocka_unit_test(a_job_without_a_search),
        cmocka_unit_test(changes_are_noticed),
        cmocka_unit_test(what_is_not_of_this_job_is_left_alone),
        cmocka_unit_test(a_failed_stage_is_run_again),
        cmocka_unit_test(a_training_that_was_never_launched_is_told),
        cmocka_unit_test(an_interrupted_training_is_resumed),
        cmocka_unit_test(what_a_killed_job_left_is_waited_for),
        cmocka_unit_test(bad_jobs_are_refused_with_their_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
