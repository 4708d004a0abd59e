/* SPDX-License-Identifier: Apache-2.0
 * Sweep, waves and study without a network: proposals do not depend on who finished first nor on
 * interruptions, old leases are void, a wrong sweep ends, what is read back is what was written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../coordinator/internal.h"
#include "scratch.h"

static const char sweep_yaml[] =
    "data: data/x\n"
    "model: lenet\n"
    "train: {batch: 64, augment: {flip: true}}\n"
    "search:\n"
    "  trials: 22\n"
    "  wave: 4\n"
    "  metric: val_loss\n"
    "  direction: minimize\n"
    "  seed: 7\n"
    "  train: {epochs: 2, augment.flip: false}\n"
    "  space:\n"
    "    lr: {loguniform: [0.001, 1]}\n"
    "    optimizer: {choice: [{sgd: {momentum: {uniform: [0, 0.99]}}}, adam]}\n";

typedef struct fixture {
    at_node *tree, *resolved;
    at_sweep *sweep;
    at_study *study;
    at_schedule *schedule;
} fixture;

static int open_text(fixture *f, const char *yaml, const char *dir, bool resume, at_error *err)
{
    const at_checks none = {0};
    *f = (fixture){0};
    f->tree = at_yaml_parse(yaml, strlen(yaml), "sweep.yaml", err);
    f->sweep = f->tree ? at_sweep_read(f->tree, "sweep.yaml", &none, err) : NULL;
    if (!f->sweep)
        return err->code;
    f->resolved = at_sweep_node(f->sweep, f->tree);
    f->study = at_study_open(dir, f->sweep, f->resolved, resume, err);
    f->schedule = f->study ? at_schedule_new(f->sweep, f->study, err) : NULL;
    return f->schedule ? 0 : err->code;
}

static void close_all(fixture *f)
{
    at_schedule_free(f->schedule);
    at_study_close(f->study);
    at_sweep_free(f->sweep);
    at_node_free(f->tree);
    at_node_free(f->resolved);
}

static void open_sweep(fixture *f, const char *dir, bool resume)
{
    at_error err = {0};
    if (open_text(f, sweep_yaml, dir, resume, &err))
        fail_msg("%s", err.message);
}

#define OK(call)                                                                                   \
    do {                                                                                           \
        at_error what = {0}, *why = &what;                                                         \
        if ((call) != 0)                                                                           \
            fail_msg("%s: %s", #call, what.message);                                               \
    } while (0)

static at_trial *lease(fixture *f, const char *worker)
{
    at_trial *t;
    OK(at_schedule_next(f->schedule, &t, why));
    if (t)
        OK(at_schedule_lease(f->schedule, t, worker, why));
    return t;
}

static void report(fixture *f, at_trial *t, int64_t epoch, double loss)
{
    at_node *event = at_node_new(AT_MAP);
    at_set_string(event, "event", "epoch");
    at_set_int(event, "epoch", epoch);
    at_node_set(event, "val_loss", isnan(loss) ? at_node_new(AT_NULL) : at_node_new_real(loss));
    OK(at_schedule_event(f->schedule, t, event, 0, why));
    at_node_free(event);
}

static double loss_of(const at_trial *t)
{
    double momentum = isnan(t->values[2]) ? 0.5 : t->values[2];
    return fabs(log10(t->values[0]) + 1) + fabs(momentum - 0.9);
}

static void complete(fixture *f, at_trial *t)
{
    report(f, t, 1, 2 * loss_of(t));
    report(f, t, 2, loss_of(t));
    OK(at_schedule_result(f->schedule, t, &(at_outcome){.seconds = 1.5}, why));
}

/* Params of all trials, as text. */
static char *params_of(const char *dir)
{
    at_error err = {0};
    at_node *all = at_study_trials(dir, &err);
    assert_non_null(all);
    const at_node *list = at_node_get(all, "trials");
    at_text text = {0};
    for (size_t i = 0; i < at_node_count(list); i++) {
        char *json = at_json_print(at_node_get(at_node_at(list, i), "params"), false);
        at_text_add(&text, "%zu %s %s\n", i,
                    at_node_text(at_node_get(at_node_at(list, i), "value")), json);
        free(json);
    }
    at_node_free(all);
    return text.data;
}

static char *run_in_order(const char *dir)
{
    fixture f;
    open_sweep(&f, dir, false);
    for (at_trial *t; (t = lease(&f, "w0"));)
        complete(&f, t);
    assert_true(at_schedule_ended(f.schedule));
    assert_int_equal(at_schedule_look(f.schedule).waves, 6);
    close_all(&f);
    return params_of(dir);
}

/* Leases a handful, ends them in a random order; workers and the coordinator die now and then. */
static char *run_disturbed(const char *dir, uint64_t seed)
{
    at_rng rng = at_rng_stream(seed, "test", 0);
    fixture f;
    open_sweep(&f, dir, false);
    at_trial *running[8];
    size_t n = 0, lost = 0, restarts = 0;
    while (!at_schedule_ended(f.schedule)) {
        at_trial *t = n < 8 && at_rng_below(&rng, 3) ? lease(&f, "w1") : NULL;
        if (t)
            running[n++] = t;
        if (at_rng_below(&rng, 12) == 0) { /* kill -9: nothing is returned */
            close_all(&f);
            open_sweep(&f, dir, true);
            n = 0;
            restarts++;
        }
        if (n == 0)
            continue;
        size_t i = (size_t)at_rng_below(&rng, n);
        if (at_rng_below(&rng, 6) == 0 && running[i]->losses < 2) {
            OK(at_schedule_return(f.schedule, running[i], true, why));
            lost++;
        } else {
            complete(&f, running[i]);
        }
        running[i] = running[--n];
    }
    close_all(&f);
    assert_true(lost + restarts > 0);
    return params_of(dir);
}

static void proposals_do_not_depend_on_who_finished_first(void **state)
{
    (void)state;
    char *dir = scratch_new(), *first = at_path_join(dir, "first");
    OK(at_make_dirs(first, why));
    char *expected = run_in_order(first);
    enum { RUNS = 15 };
    for (int i = 0; i < RUNS; i++) {
        char *other = at_format("%s/other%d", dir, i);
        OK(at_make_dirs(other, why));
        char *got = run_disturbed(other, (uint64_t)i);
        assert_string_equal(got, expected);
        free(got);
        free(other);
    }
    print_message("%d disturbed studies of 22 trials equal the undisturbed one\n", RUNS);
    free(expected);
    free(first);
    scratch_free(dir);
}

static void trials_are_not_repeated(void **state)
{
    (void)state;
    static const char *const samplers[] = {"tpe", "random"};
    for (size_t k = 0; k < 2; k++) {
        char *dir = scratch_new();
        char *yaml = at_format("data: d\nmodel: m\nsearch: {trials: 12, wave: 3, sampler: %s, "
                               "metric: val_loss, space: "
                               "{a: {int: [1, 3]}, b: {choice: [w, x, y, z]}}}\n",
                               samplers[k]);
        fixture f;
        at_error err = {0};
        if (open_text(&f, yaml, dir, false, &err))
            fail_msg("%s", err.message);
        bool seen[3][4] = {{0}};
        for (at_trial *t; (t = lease(&f, "w0"));) {
            bool *cell = &seen[(size_t)t->values[0] - 1][(size_t)t->values[1]];
            assert_false(*cell);
            *cell = true;
            report(&f, t, 1, t->values[0]);
            OK(at_schedule_result(f.schedule, t, &(at_outcome){0}, why));
        }
        close_all(&f);
        free(yaml);
        scratch_free(dir);
    }
}

static void old_leases_are_void(void **state)
{
    (void)state;
    char *dir = scratch_new();
    fixture f;
    open_sweep(&f, dir, false);
    at_trial *t = lease(&f, "w0");
    int64_t number = t->number, old = t->epoch;
    assert_ptr_equal(at_schedule_leased(f.schedule, number, old), t);
    OK(at_schedule_return(f.schedule, t, true, why));
    assert_null(at_schedule_leased(f.schedule, number, old));
    assert_ptr_equal(lease(&f, "w1"), t); /* the lowest number first */
    assert_int_equal(t->epoch, old + 1);
    assert_null(at_schedule_leased(f.schedule, number, old));
    assert_non_null(at_schedule_leased(f.schedule, number, old + 1));
    complete(&f, t);
    assert_null(at_schedule_leased(f.schedule, number, old + 1));
    assert_null(at_schedule_leased(f.schedule, -1, 1));
    assert_null(at_schedule_leased(f.schedule, 1000000, 1));
    close_all(&f);
    scratch_free(dir);
}

static void a_trial_that_kills_its_workers_fails(void **state)
{
    (void)state;
    char *dir = scratch_new();
    fixture f;
    open_sweep(&f, dir, false);
    for (int i = 0; i < 3; i++) {
        at_trial *t = lease(&f, "w0");
        assert_int_equal(t->number, 0);
        OK(at_schedule_return(f.schedule, t, true, why));
    }
    assert_int_equal(lease(&f, "w0")->number, 1);
    assert_int_equal(at_schedule_look(f.schedule).failed, 1);
    close_all(&f);
    scratch_free(dir);
}

static void a_wrong_sweep_ends(void **state)
{
    (void)state;
    char *dir = scratch_new();
    fixture f;
    open_sweep(&f, dir, false);
    const at_outcome wrong = {.status = 3, .tail = "data/x is not a data set"},
                     crash = {.signal = 11};
    int rc[4];
    at_error err = {0};
    rc[0] = at_schedule_result(f.schedule, lease(&f, "w0"), &wrong, &err);
    rc[1] = at_schedule_result(f.schedule, lease(&f, "w0"), &wrong, &err);
    rc[2] = at_schedule_result(f.schedule, lease(&f, "w0"), &crash, &err);
    assert_int_equal(rc[0] | rc[1] | rc[2], 0);
    for (int i = 0; i < 3; i++)
        rc[i] = at_schedule_result(f.schedule, lease(&f, "w0"), &wrong, &err);
    assert_int_equal(rc[0] | rc[1], 0);
    assert_int_equal(rc[2], AT_EINPUT);
    assert_non_null(strstr(err.message, "data/x is not a data set"));
    close_all(&f);

    at_node *all = at_study_trials(dir, NULL);
    const at_node *list = at_node_get(all, "trials");
    assert_string_equal(at_node_text(at_node_get(at_node_at(list, 0), "state")), "FAIL");
    assert_non_null(strstr(at_node_text(at_node_get(at_node_at(list, 2), "error")), "signal 11"));
    at_node_free(all);
    assert_null(at_study_best(dir, &err));
    assert_int_equal(err.code, AT_ENOENT);
    scratch_free(dir);
}

static void a_diverged_trial_fails(void **state)
{
    (void)state;
    char *dir = scratch_new();
    fixture f;
    open_sweep(&f, dir, false);
    at_trial *t = lease(&f, "w0");
    report(&f, t, 1, 3.0);
    report(&f, t, 2, NAN);
    OK(at_schedule_result(f.schedule, t, &(at_outcome){0}, why));
    assert_int_equal(t->state, AT_TRIAL_FAIL);
    assert_true(isnan(t->value));
    close_all(&f);
    scratch_free(dir);
}

static void what_was_written_is_read_back(void **state)
{
    (void)state;
    char *root = scratch_new(), *dir = at_path_join(root, "my study");
    OK(at_make_dirs(dir, why));
    fixture f;
    open_sweep(&f, dir, false);
    char *train = at_json_print(f.sweep->train, false);
    assert_string_equal(train, "{\"batch\":64,\"augment.flip\":false,\"epochs\":2}");
    free(train);
    at_trial *t = lease(&f, "node1-42");
    at_node *start = at_node_new(AT_MAP);
    at_set_string(start, "event", "start");
    OK(at_schedule_event(f.schedule, t, start, 31.25, why));
    at_node_free(start);
    complete(&f, t);
    lease(&f, "node2-43");

    at_node *all = at_study_trials(dir, NULL), *show = at_study_show(dir, NULL);
    const at_node *first = at_node_at(at_node_get(all, "trials"), 0);
    assert_string_equal(at_node_text(at_node_get(first, "worker")), "node1-42");
    assert_string_equal(at_node_text(at_node_get(first, "state")), "COMPLETE");
    assert_float_equal(at_node_real(at_node_get(first, "start_delay_ms"), 0), 31.3, 0.051);
    assert_float_equal(at_node_real(at_node_get(first, "seconds"), 0), 1.5, 1e-9);
    assert_int_equal(at_node_int(at_node_get(first, "wave"), 0), 1);
    assert_true(at_node_real(at_node_get(first, "value"), NAN) == loss_of(t));
    assert_int_equal(at_node_count(at_node_get(all, "trials")), 4);
    assert_string_equal(at_node_text(at_node_get(show, "name")), "my study");
    assert_string_equal(at_node_text(at_node_get(show, "metric")), "val_loss");
    assert_int_equal(at_node_int(at_node_get(show, "running"), 0), 1);
    assert_int_equal(at_node_int(at_node_get(show, "waiting"), 0), 2);
    assert_int_equal(at_node_int(at_node_get(show, "trials"), 0), 22);
    assert_int_equal(at_node_int(at_node_path(show, "best_trial.number"), -1), 0);
    at_node_free(all);
    at_node_free(show);
    close_all(&f);
    free(dir);
    scratch_free(root);
}

/* Puts `to` for `from` in the sweep and opens it again. */
static int reopen(const char *dir, const char *from, const char *to, bool resume, at_error *err)
{
    const char *at = strstr(sweep_yaml, from);
    assert_non_null(at);
    char *yaml = at_format("%.*s%s%s", (int)(at - sweep_yaml), sweep_yaml, to, at + strlen(from));
    fixture f;
    int rc = open_text(&f, yaml, dir, resume, err);
    close_all(&f);
    free(yaml);
    return rc;
}

static void only_the_same_sweep_continues(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *key;
    } changes[] = {
        {"seed: 7", "seed: 8", "search.seed"},
        {"[0.001, 1]", "[0.001, 2]", "search.space.lr.loguniform"},
        {"batch: 64", "batch: 65", "train.batch"},
        {"model: lenet", "model: airnet", "model"},
        {"batch: 64", "batch: 64, lr: 1", "train.lr"},
        {"wave: 4", "wave: 5", "search.wave"},
    };
    char *dir = scratch_new();
    fixture f;
    open_sweep(&f, dir, false);
    lease(&f, "w0");
    at_error err = {0};
    assert_int_equal(reopen(dir, "wave", "wave", true, &err), AT_EPEER); /* still locked */
    assert_non_null(strstr(err.message, "another coordinator"));
    close_all(&f);
    assert_int_equal(reopen(dir, "wave", "wave", false, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, "--resume"));
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        assert_int_equal(reopen(dir, changes[i].from, changes[i].to, true, &err), AT_EINPUT);
        assert_memory_equal(err.message, changes[i].key, strlen(changes[i].key));
        assert_non_null(strstr(err.message, "has changed"));
    }
    assert_int_equal(reopen(dir, "trials: 22", "trials: 30", true, &err), 0);
    assert_int_equal(reopen(dir, "trials: 22", "trials: 1", true, &err), AT_EINPUT);
    scratch_free(dir);
}

static void bad_sweeps_are_refused_with_their_place(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *message;
    } cases[] = {
        {"model: lenet", "modle: lenet",
         "sweep.yaml:2:1: unknown key \"modle\"; did you mean \"model\"?"},
        {"trials: 22", "trails: 22",
         "sweep.yaml:5:3: unknown key \"trails\"; did you mean \"trials\"?"},
        {"trials: 22", "trials: many", "sweep.yaml:5:11: trials: expected an integer"},
        {"trials: 22", "trials: 0", "sweep.yaml:5:11: trials: 0 is below the minimum 1"},
        {"direction: minimize", "direction: down", "direction: \"down\" is not one of"},
        {"metric: val_loss", "metric: val_los",
         "sweep.yaml:7:11: metric: \"val_los\" is not one of val_accuracy, val_loss"},
        {"seed: 7", "sampler: tpee", "unknown sampler \"tpee\"; did you mean \"tpe\"?"},
        {"data: data/x", "data: {source: x}", "sweep.yaml:1:7: data: expected a word"},
        {"model: lenet", "", "sweep.yaml:1:1: model: this key is needed"},
        {"batch: 64", "batch: [64]", "batch: expected one value, got a list"},
        {"loguniform", "loguniform2", "unknown distribution"},
    };
    char *dir = scratch_new();
    size_t n = sizeof cases / sizeof *cases;
    for (size_t i = 0; i < n; i++) {
        at_error err = {0};
        assert_int_equal(reopen(dir, cases[i].from, cases[i].to, false, &err), AT_EINPUT);
        if (!strstr(err.message, cases[i].message))
            fail_msg("gave: %s\nexpected: %s", err.message, cases[i].message);
    }
    assert_int_equal(scratch_count(dir), 0);
    print_message("%zu bad sweeps refused\n", n);
    scratch_free(dir);
}

static void less_of_a_loss_is_better(void **state)
{
    (void)state;
    static const struct {
        const char *to;
        bool maximize;
    } cases[] = {{"direction: minimize", false},
                 {"direction: maximize", true},
                 {"direction: auto", false},
                 {"metric: val_accuracy", true},
                 {"metric: train_loss", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        at_error err = {0};
        char *yaml =
            at_format("data: d\nmodel: m\nsearch:\n  %s%s\n  space: {lr: {uniform: [0, 1]}}\n",
                      strstr(cases[i].to, "metric") ? "" : "metric: val_loss\n  ", cases[i].to);
        at_node *tree = at_yaml_parse(yaml, strlen(yaml), "sweep.yaml", &err);
        at_sweep *s = at_sweep_read(tree, "sweep.yaml", &(at_checks){0}, &err);
        if (!s)
            fail_msg("%s", err.message);
        assert_int_equal(s->maximize, cases[i].maximize);
        assert_string_equal(s->search.direction, cases[i].maximize ? "maximize" : "minimize");
        at_sweep_free(s);
        at_node_free(tree);
        free(yaml);
    }
}

static void not_a_study(void **state)
{
    (void)state;
    char *dir = scratch_new();
    at_error err = {0};
    assert_null(at_study_show(dir, &err));
    assert_int_equal(err.code, AT_ENOENT);
    char *path = at_path_join(dir, "study.db");
    OK(at_file_write(path, "junk", 4, why));
    assert_null(at_study_trials(dir, &err));
    assert_true(err.code < 0);
    free(path);
    scratch_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(proposals_do_not_depend_on_who_finished_first),
        cmocka_unit_test(trials_are_not_repeated),
        cmocka_unit_test(old_leases_are_void),
        cmocka_unit_test(a_trial_that_kills_its_workers_fails),
        cmocka_unit_test(a_wrong_sweep_ends),
        cmocka_unit_test(a_diverged_trial_fails),
        cmocka_unit_test(what_was_written_is_read_back),
        cmocka_unit_test(only_the_same_sweep_continues),
        cmocka_unit_test(bad_sweeps_are_refused_with_their_place),
        cmocka_unit_test(less_of_a_loss_is_better),
        cmocka_unit_test(not_a_study),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
