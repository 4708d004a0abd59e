/* SPDX-License-Identifier: Apache-2.0
 * A sweep of a test's own, and processes around it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fake_atoll.h"
#include "scratch.h"
#include "sweep_place.h"

void sweep_place_init(sweep_place *p, const char *train, const char *search)
{
    p->dir = scratch_new();
    p->sweep = at_path_join(p->dir, "sweep.yaml");
    p->study = at_path_join(p->dir, "study");
    char *data = at_path_join(p->dir, "data");
    at_error err = {0};
    assert_int_equal(at_make_dirs(data, &err), 0);
    char *yaml = at_format("data: %s\nmodel: fake\ntrain: {%s}\nsearch:\n  trials: 8\n  wave: 4\n"
                           "  seed: 3\n%s  space: {lr: {loguniform: [0.001, 1]}}\n",
                           data, train, search);
    assert_int_equal(at_file_write(p->sweep, yaml, strlen(yaml), &err), 0);
    free(yaml);
    free(data);
}

void sweep_place_fini(sweep_place *p)
{
    free(p->sweep);
    free(p->study);
    scratch_free(p->dir);
}

at_node *sweep_trials(const sweep_place *p)
{
    at_error err = {0};
    at_node *all = at_study_trials(p->study, &err);
    if (!all)
        fail_msg("%s", err.message);
    return all;
}

const at_node *sweep_cell(const at_node *all, size_t i, const char *key)
{
    return at_node_get(at_node_at(at_node_get(all, "trials"), i), key);
}

/* Every trial complete, with the value that its parameters give. Returns them as text. */
char *sweep_check_complete(const sweep_place *p)
{
    at_node *all = sweep_trials(p);
    at_text text = {0};
    assert_int_equal(at_node_count(at_node_get(all, "trials")), 8);
    for (size_t i = 0; i < 8; i++) {
        double lr = at_node_real(at_node_get(sweep_cell(all, i, "params"), "lr"), NAN);
        assert_string_equal(at_node_text(sweep_cell(all, i, "state")), "COMPLETE");
        assert_float_equal(at_node_real(sweep_cell(all, i, "value"), NAN), fake_metric(lr), 1e-12);
        assert_true(at_node_real(sweep_cell(all, i, "start_delay_ms"), -1) >= 0);
        at_text_add(&text, "%.17g ", lr);
    }
    at_node_free(all);
    return text.data;
}

pid_t process_start(const char *const *words)
{
    pid_t pid = fork();
    if (pid == 0) {
        execv(FAKE_ATOLL, (char **)words);
        _exit(127);
    }
    return pid;
}

int process_wait(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

pid_t sweep_start(const sweep_place *p, const char *workers, bool resume)
{
    const char *const words[] = {
        "test", "tune", p->sweep, p->study, workers, resume ? "resume" : "new", NULL};
    return process_start(words);
}

/* Waits until `key` of `atoll study show` is at least n. */
void sweep_wait_until(const sweep_place *p, const char *key, int64_t n)
{
    for (int i = 0; i < 1000; i++) {
        at_node *show = at_study_show(p->study, NULL);
        int64_t now = at_node_int(at_node_get(show, key), -1);
        at_node_free(show);
        if (now >= n)
            return;
        usleep(20000);
    }
    fail_msg("no study came to %s = %d", key, (int)n);
}

char *sweep_undisturbed(void)
{
    sweep_place p;
    at_error err = {0};
    sweep_place_init(&p, "nap_ms: 10", "");
    at_node *best = fake_tune(p.sweep, p.study, "local:1", false, &err);
    if (!best)
        fail_msg("%s", err.message);
    at_node_free(best);
    char *params = sweep_check_complete(&p);
    sweep_place_fini(&p);
    return params;
}

char *sweep_join(const sweep_place *p, char **key)
{
    char *path = at_path_join(p->study, "coordinator.json"), *join = NULL;
    for (int i = 0; i < 500 && !join; i++) {
        at_node *n = at_file_exists(path) ? at_json_read(path, NULL) : NULL;
        if (n) {
            join = strdup(at_node_text(at_node_get(n, "join")));
            *key = strdup(at_node_text(at_node_get(n, "key")));
        }
        at_node_free(n);
        usleep(20000);
    }
    free(path);
    assert_non_null(join);
    return join;
}
