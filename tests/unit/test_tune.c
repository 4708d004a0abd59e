/* SPDX-License-Identifier: Apache-2.0
 * ctest: timeout=300
 * Whole sweeps over real worker processes. This program plays all the parts: run as `train` it is a
 * trial that computes its metric from its parameters, as `worker` a worker, as `tune` a coordinator
 * that can be killed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atoll/coordinator.h>
#include "scratch.h"

#define SELF "/proc/self/exe"

/* ---- the part of the trainer ---- */

static const char *option(int argc, char **argv, const char *name)
{
    for (int i = 0; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return argv[i + 1];
    return "";
}

/* The value of -s key=value, NaN where it is not given. */
static double setting(int argc, char **argv, const char *key)
{
    size_t n = strlen(key);
    double value = NAN;
    for (int i = 0; i + 1 < argc; i++)
        if (strcmp(argv[i], "-s") == 0 && strncmp(argv[i + 1], key, n) == 0 && argv[i + 1][n] == '=')
            value = strtod(argv[i + 1] + n + 1, NULL);
    return value;
}

static double metric_of(double lr)
{
    return 1 - 0.1 * pow(log10(lr) + 1, 2);
}

static bool once(const char *out, const char *name)
{
    char *path = at_path_join(out, name);
    FILE *f = fopen(path, "wx");
    free(path);
    if (f)
        fclose(f);
    return f != NULL;
}

static int play_trainer(int argc, char **argv)
{
    const char *out = option(argc, argv, "--out"), *slash = strrchr(out, '/');
    int number = atoi(slash ? slash + 1 : "-1"), fd = atoi(option(argc, argv, "--events-fd"));
    static const char *const leaks[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_STEPID",
                                        "OMP_NUM_THREADS"};
    for (size_t i = 0; i < sizeof leaks / sizeof *leaks; i++)
        if (getenv(leaks[i]))
            return 90;
    if (!(setting(argc, argv, "threads") >= 1))
        return 91;
    at_interrupt_install();
    dprintf(fd, "{\"event\":\"start\",\"wall_ms\":%lld}\n", (long long)at_wall_ms());
    if (setting(argc, argv, "kill_worker_of") == number && once(out, "killed"))
        kill(getppid(), SIGKILL);
    if (setting(argc, argv, "crash_at") == number)
        abort();
    if (setting(argc, argv, "fail_at") == number || setting(argc, argv, "fail_all") == 1) {
        fprintf(stderr, "a first line\ntrial %d has failed: as it was told\n", number);
        return isnan(setting(argc, argv, "status")) ? 1 : (int)setting(argc, argv, "status");
    }
    double metric = metric_of(setting(argc, argv, "lr"));
    int nap = (int)setting(argc, argv, "nap_ms");
    for (int epoch = 1; epoch <= 2; epoch++) {
        for (int i = 0; i < nap / 10; i++) {
            usleep(10000);
            if (at_interrupted())
                return 4;
        }
        dprintf(fd, "{\"event\":\"epoch\",\"epoch\":%d,\"val_accuracy\":%.17g}\n", epoch,
                metric - (2 - epoch) * 0.01);
    }
    dprintf(fd, "{\"event\":\"end\",\"seconds\":0.1}\n");
    return 0;
}

static int end_status(const char *who, int code, const at_error *err)
{
    if (code)
        fprintf(stderr, "%s: %s\n", who, err->message);
    return at_error_exit_status(code);
}

static int play_worker(int argc, char **argv)
{
    at_error err = {0};
    at_log_set_level(AT_LOG_ERROR);
    at_worker_options options = {.join = option(argc, argv, "--join"),
                                 .key = option(argc, argv, "--key"),
                                 .program = SELF};
    return end_status("worker", at_worker(&options, &err), &err);
}

static at_node *tune(const char *sweep, const char *out, const char *workers, bool resume,
                     at_error *err)
{
    at_tune_options options = {
        .sweep = sweep, .out = out, .workers = workers, .program = SELF, .resume = resume};
    return at_tune(&options, err);
}

static int play_coordinator(char **argv)
{
    at_error err = {0};
    at_log_set_level(AT_LOG_ERROR);
    at_progress_silence(true);
    at_interrupt_install();
    at_node *best = tune(argv[2], argv[3], argv[4], strcmp(argv[5], "resume") == 0, &err);
    at_node_free(best);
    return end_status("tune", best ? 0 : err.code, &err);
}

/* ---- helpers of the tests ---- */

typedef struct place {
    char *dir, *sweep, *study;
} place;

static void place_init(place *p, const char *train, const char *search)
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

static void place_fini(place *p)
{
    free(p->sweep);
    free(p->study);
    scratch_free(p->dir);
}

static at_node *trials_of(const place *p)
{
    at_error err = {0};
    at_node *all = at_study_trials(p->study, &err);
    if (!all)
        fail_msg("%s", err.message);
    return all;
}

static const at_node *cell(const at_node *all, size_t i, const char *key)
{
    return at_node_get(at_node_at(at_node_get(all, "trials"), i), key);
}

/* Every trial complete, with the value that its parameters give. Returns them as text. */
static char *check_complete(const place *p)
{
    at_node *all = trials_of(p);
    at_text text = {0};
    assert_int_equal(at_node_count(at_node_get(all, "trials")), 8);
    for (size_t i = 0; i < 8; i++) {
        double lr = at_node_real(at_node_get(cell(all, i, "params"), "lr"), NAN);
        assert_string_equal(at_node_text(cell(all, i, "state")), "COMPLETE");
        assert_float_equal(at_node_real(cell(all, i, "value"), NAN), metric_of(lr), 1e-12);
        assert_true(at_node_real(cell(all, i, "start_delay_ms"), -1) >= 0);
        at_text_add(&text, "%.17g ", lr);
    }
    at_node_free(all);
    return text.data;
}

static pid_t start(const char *const *words)
{
    pid_t pid = fork();
    if (pid == 0) {
        execv(SELF, (char **)words);
        _exit(127);
    }
    return pid;
}

static int wait_for(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static pid_t start_coordinator(const place *p, const char *workers, bool resume)
{
    const char *const words[] = {"test", "tune", p->sweep, p->study, workers,
                                 resume ? "resume" : "new", NULL};
    return start(words);
}

/* Waits until `key` of `atoll study show` is at least n. */
static void wait_until(const place *p, const char *key, int64_t n)
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

static char *undisturbed(void)
{
    place p;
    at_error err = {0};
    place_init(&p, "nap_ms: 10", "");
    at_node *best = tune(p.sweep, p.study, "local:1", false, &err);
    if (!best)
        fail_msg("%s", err.message);
    at_node_free(best);
    char *params = check_complete(&p);
    place_fini(&p);
    return params;
}

/* ---- tests ---- */

static void two_waves_on_two_workers(void **state)
{
    (void)state;
    place p;
    at_error err = {0};
    setenv("OMPI_COMM_WORLD_RANK", "0", 1);
    setenv("PMIX_RANK", "0", 1);
    setenv("SLURM_STEPID", "0", 1);
    setenv("OMP_NUM_THREADS", "1", 1);
    place_init(&p, "nap_ms: 60", "  workers: local:2\n");
    at_node *best = tune(p.sweep, p.study, NULL, false, &err);
    if (!best)
        fail_msg("%s", err.message);
    assert_int_equal(at_node_int(at_node_get(best, "waves"), 0), 2);
    assert_int_equal(at_node_int(at_node_get(best, "workers"), 0), 2);
    assert_int_equal(at_node_int(at_node_get(best, "trials"), 0), 8);
    char *params = check_complete(&p), *alone = undisturbed();
    assert_string_equal(params, alone);
    at_node *all = trials_of(&p);
    double best_value = -INFINITY;
    bool several = false;
    for (size_t i = 0; i < 8; i++) {
        best_value = fmax(best_value, at_node_real(cell(all, i, "value"), NAN));
        several |= strcmp(at_node_text(cell(all, i, "worker")), at_node_text(cell(all, 0, "worker"))) != 0;
        assert_int_equal(at_node_int(cell(all, i, "wave"), 0), 1 + i / 4);
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
    place_fini(&p);
}

static void a_killed_workers_trial_runs_again(void **state)
{
    (void)state;
    place p;
    at_error err = {0};
    place_init(&p, "nap_ms: 40, kill_worker_of: 2", "");
    at_node *best = tune(p.sweep, p.study, "local:2", false, &err);
    if (!best)
        fail_msg("%s", err.message);
    at_node_free(best);
    char *params = check_complete(&p), *alone = undisturbed();
    assert_string_equal(params, alone);
    at_node *all = trials_of(&p);
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(at_node_int(cell(all, i, "leases"), 0), i == 2 ? 2 : 1);
    at_node_free(all);
    free(params);
    free(alone);
    place_fini(&p);
}

static void a_failed_trial_keeps_its_last_words(void **state)
{
    (void)state;
    place p;
    at_error err = {0};
    place_init(&p, "nap_ms: 10, fail_at: 1, crash_at: 5", "");
    at_node *best = tune(p.sweep, p.study, "local:2", false, &err);
    assert_non_null(best);
    assert_int_equal(at_node_int(at_node_get(best, "failed"), 0), 2);
    at_node_free(best);
    at_node *all = trials_of(&p);
    assert_string_equal(at_node_text(cell(all, 1, "state")), "FAIL");
    assert_non_null(strstr(at_node_text(cell(all, 1, "error")), "exit status 1"));
    assert_non_null(strstr(at_node_text(cell(all, 1, "error")), "trial 1 has failed: as it was told"));
    assert_non_null(strstr(at_node_text(cell(all, 5, "error")), "killed by signal 6"));
    assert_string_equal(at_node_text(cell(all, 7, "state")), "COMPLETE");
    at_node_free(all);
    char *log = at_path_join(p.study, "trials/1/log.txt"), *text;
    assert_int_equal(at_file_read(log, 10000, &text, NULL, &err), 0);
    assert_non_null(strstr(text, "a first line"));
    free(text);
    free(log);
    place_fini(&p);
}

static void a_wrong_sweep_ends_early(void **state)
{
    (void)state;
    place p;
    at_error err = {0};
    place_init(&p, "fail_all: 1, status: 3", "");
    assert_null(tune(p.sweep, p.study, "local:1", false, &err));
    assert_int_equal(err.code, AT_EINPUT);
    assert_non_null(strstr(err.message, "3 trials in a row failed"));
    assert_non_null(strstr(err.message, "as it was told"));
    place_fini(&p);

    place_init(&p, "fail_all: 1, status: 1", "");
    assert_null(tune(p.sweep, p.study, "local:2", false, &err));
    assert_int_equal(err.code, AT_EFAIL);
    assert_non_null(strstr(err.message, "all 8 trials failed"));
    place_fini(&p);
}

static void workers_that_cannot_run_end_the_sweep(void **state)
{
    (void)state;
    place p;
    at_error err = {0};
    place_init(&p, "nap_ms: 10", "");
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
    place_fini(&p);
}

static void a_killed_coordinator_is_resumed(void **state)
{
    (void)state;
    char *alone = undisturbed();
    enum { KILLS = 3 };
    for (int i = 0; i < KILLS; i++) {
        place p;
        at_error err = {0};
        place_init(&p, "nap_ms: 100", "");
        pid_t pid = start_coordinator(&p, "local:2", false);
        wait_until(&p, i ? "complete" : "running", 1 + 2 * i);
        kill(pid, SIGKILL);
        assert_int_equal(wait_for(pid), 128 + SIGKILL);
        at_node *best = tune(p.sweep, p.study, "local:2", true, &err);
        if (!best)
            fail_msg("%s", err.message);
        at_node_free(best);
        char *params = check_complete(&p);
        assert_string_equal(params, alone);
        free(params);
        place_fini(&p);
    }
    print_message("%d killed coordinators, the same trials after --resume\n", KILLS);
    free(alone);
}

static void an_interrupted_coordinator_is_resumed(void **state)
{
    (void)state;
    place p;
    at_error err = {0};
    place_init(&p, "nap_ms: 150", "");
    pid_t pid = start_coordinator(&p, "local:2", false);
    wait_until(&p, "complete", 1);
    wait_until(&p, "running", 1);
    kill(pid, SIGINT);
    assert_int_equal(wait_for(pid), 4);
    at_node *show = at_study_show(p.study, NULL);
    assert_int_equal(at_node_int(at_node_get(show, "running"), -1), 0);
    assert_true(at_node_int(at_node_get(show, "waiting"), -1) >= 1);
    at_node_free(show);
    assert_null(tune(p.sweep, p.study, "local:2", false, &err));
    assert_int_equal(err.code, AT_EINPUT);
    at_node *best = tune(p.sweep, p.study, "local:1", true, &err);
    if (!best)
        fail_msg("%s", err.message);
    at_node_free(best);
    char *params = check_complete(&p), *alone = undisturbed();
    assert_string_equal(params, alone);
    free(params);
    free(alone);
    place_fini(&p);
}

/* ---- strangers ---- */

static char *join_of(const place *p, char **key)
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

static int connect_to(const char *join)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(strchr(join, ':') + 1))};
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

/* Garbage, half greetings, silence: the coordinator goes on. Returns the number of connections. */
static size_t bother(const char *join, int held[8])
{
    at_rng rng = at_rng_stream(5, "test", 0);
    size_t cases = 0;
    for (int round = 0; round < 400; round++, cases++) {
        unsigned char bytes[2000];
        size_t n = (size_t)at_rng_below(&rng, sizeof bytes);
        for (size_t i = 0; i < n; i++)
            bytes[i] = (unsigned char)at_rng_next(&rng);
        if (round % 3 && n > 8)
            memcpy(bytes, "ATOLL/1\n", 8);
        int fd = connect_to(join);
        if (send(fd, bytes, n, MSG_NOSIGNAL) < 0)
            cases--;
        close(fd);
    }
    for (int i = 0; i < 8; i++, cases++) /* open and silent, or with half a greeting */
        held[i] = connect_to(join);
    for (int i = 0; i < 4; i++)
        assert_int_equal(send(held[i], "ATOLL/1\nxxx", 11, MSG_NOSIGNAL), 11);
    return cases;
}

static void strangers_do_not_disturb(void **state)
{
    (void)state;
    place p;
    at_error err = {0};
    place_init(&p, "nap_ms: 10", "");
    pid_t pid = start_coordinator(&p, "listen:127.0.0.1:0", false);
    char *key, *join = join_of(&p, &key), *other = at_path_join(p.dir, "other.key");
    char digits[66] = "";
    for (int i = 0; i < 64; i++)
        strcat(digits, "7");
    strcat(digits, "\n");
    assert_int_equal(at_file_write(other, digits, 65, &err), 0);
    at_worker_options wrong = {.join = join, .key = other, .program = SELF};
    assert_int_equal(chmod(other, 0644), 0);
    assert_int_equal(at_worker(&wrong, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, "chmod 600"));
    assert_int_equal(chmod(other, 0600), 0);
    assert_int_equal(at_worker(&wrong, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, "wrong key"));
    assert_non_null(strstr(err.message, other));
    assert_non_null(strstr(err.message, join));
    int held[8];
    size_t cases = bother(join, held);
    at_worker_options right = {.join = join, .key = key, .program = SELF};
    int rc = at_worker(&right, &err);
    if (rc)
        fail_msg("%s", err.message);
    assert_int_equal(wait_for(pid), 0);
    free(check_complete(&p));
    print_message("%zu strange connections; the sweep went on\n", cases);
    for (int i = 0; i < 8; i++)
        close(held[i]);
    free(key);
    free(join);
    free(other);
    place_fini(&p);
}

static void a_port_in_use_is_named(void **state)
{
    (void)state;
    place p;
    at_error err = {0};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof at;
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &bytes), 0);
    char *workers = at_format("listen:127.0.0.1:%d", ntohs(at.sin_port));
    place_init(&p, "nap_ms: 10", "");
    assert_null(tune(p.sweep, p.study, workers, false, &err));
    assert_int_equal(err.code, AT_EINPUT);
    assert_non_null(strstr(err.message, workers + strlen("listen:")));
    close(fd);
    free(workers);
    place_fini(&p);
}

static void a_coordinator_that_is_not_there(void **state)
{
    (void)state;
    at_error err = {0};
    const at_worker_options none = {.join = "nonsense", .key = "/nowhere", .program = SELF};
    assert_int_equal(at_worker(&none, &err), AT_EUSAGE);
    const at_worker_options no_key = {.join = "127.0.0.1:1", .key = "/nowhere", .program = SELF};
    assert_int_equal(at_worker(&no_key, &err), AT_ENOENT);
    place p;
    place_init(&p, "nap_ms: 1", "");
    const char *const bad[] = {"local:0", "local:x", "loca:2", "listen:x", "mpi:", "slurm:-1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_null(tune(p.sweep, p.study, bad[i], false, &err));
        assert_int_equal(err.code, AT_EUSAGE);
    }
    place_fini(&p);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "train") == 0)
        return play_trainer(argc, argv);
    if (argc > 1 && strcmp(argv[1], "worker") == 0)
        return play_worker(argc, argv);
    if (argc > 5 && strcmp(argv[1], "tune") == 0)
        return play_coordinator(argv);
    at_progress_silence(true);
    at_log_set_level(AT_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_waves_on_two_workers),
        cmocka_unit_test(a_killed_workers_trial_runs_again),
        cmocka_unit_test(a_failed_trial_keeps_its_last_words),
        cmocka_unit_test(a_wrong_sweep_ends_early),
        cmocka_unit_test(workers_that_cannot_run_end_the_sweep),
        cmocka_unit_test(a_killed_coordinator_is_resumed),
        cmocka_unit_test(an_interrupted_coordinator_is_resumed),
        cmocka_unit_test(strangers_do_not_disturb),
        cmocka_unit_test(a_port_in_use_is_named),
        cmocka_unit_test(a_coordinator_that_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
