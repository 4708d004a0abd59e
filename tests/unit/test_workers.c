/* SPDX-License-Identifier: Apache-2.0
 * ctest: timeout=300
 * The coordinator's door: strangers, wrong keys, results without a lease, silence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fake_atoll.h"
#include "hand.h"
#include "scratch.h"
#include "sweep_place.h"

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
    sweep_place p;
    at_error err = {0};
    sweep_place_init(&p, "nap_ms: 10", "");
    pid_t pid = sweep_start(&p, "listen:127.0.0.1:0", false);
    char *key, *join = sweep_join(&p, &key), *other = at_path_join(p.dir, "other.key");
    char digits[66] = "";
    for (int i = 0; i < 64; i++)
        strcat(digits, "7");
    strcat(digits, "\n");
    assert_int_equal(at_file_write(other, digits, 65, &err), 0);
    at_worker_options wrong = {.join = join, .key = other, .program = FAKE_ATOLL};
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
    at_worker_options right = {.join = join, .key = key, .program = FAKE_ATOLL};
    int rc = at_worker(&right, &err);
    if (rc)
        fail_msg("%s", err.message);
    assert_int_equal(process_wait(pid), 0);
    free(sweep_check_complete(&p));
    print_message("%zu strange connections; the sweep went on\n", cases);
    for (int i = 0; i < 8; i++)
        close(held[i]);
    free(key);
    free(join);
    free(other);
    sweep_place_fini(&p);
}

static void results_without_a_lease_are_refused(void **state)
{
    (void)state;
    sweep_place p;
    at_error err = {0};
    sweep_place_init(&p, "nap_ms: 10", "");
    pid_t pid = sweep_start(&p, "listen:127.0.0.1:0", false);
    char *key, *join = sweep_join(&p, &key);
    hand h;
    hand_join(&h, join, key);
    const at_node *lease = hand_await(&h, "lease");
    int64_t trial = at_node_int(at_node_get(lease, "trial"), -1);
    int64_t epoch = at_node_int(at_node_get(lease, "epoch"), -1);
    const int64_t wrong[][2] = {{trial, epoch + 1}, {trial, epoch - 1}, {trial + 1, epoch},
                                {trial + 100, 1},   {-1, -1},           {INT64_MAX, INT64_MIN}};
    size_t cases = sizeof wrong / sizeof *wrong;
    for (size_t i = 0; i < cases; i++) {
        hand_say(&h, hand_result(wrong[i][0], wrong[i][1]));
        const at_node *ack = hand_await(&h, "ack");
        assert_int_equal(at_node_int(at_node_get(ack, "trial"), 0), wrong[i][0]);
        assert_false(at_node_bool(at_node_get(ack, "accepted"), true));
        at_node_free(h.latest);
        h.latest = NULL;
    }
    hand_leave(&h); /* with its lease: the trial runs again, at the next worker */
    at_worker_options right = {.join = join, .key = key, .program = FAKE_ATOLL};
    if (at_worker(&right, &err))
        fail_msg("%s", err.message);
    assert_int_equal(process_wait(pid), 0);
    free(sweep_check_complete(&p));
    at_node *all = sweep_trials(&p);
    assert_int_equal(at_node_int(sweep_cell(all, 0, "leases"), 0), 2);
    at_node_free(all);
    print_message("%zu results without a lease refused\n", cases);
    free(key);
    free(join);
    sweep_place_fini(&p);
}

/* Says its greeting a byte at a time, and not all of it. Returns whether it was thrown out. */
static bool trickle(const char *join)
{
    static const char greeting[] = "ATOLL/1\n0123456789";
    int fd = connect_to(join);
    bool out = false;
    for (size_t i = 0; i < 60 && !out; i++) {
        char byte;
        if (i < sizeof greeting && send(fd, greeting + i, 1, MSG_NOSIGNAL) < 0)
            out = true;
        usleep(500000);
        out |= recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
    }
    close(fd);
    return out;
}

/* A worker that hangs does not close its connection: only its silence tells. */
static void a_hanging_workers_trial_runs_elsewhere(void **state)
{
    (void)state;
    sweep_place p;
    sweep_place_init(&p, "nap_ms: 150", "");
    pid_t pid = sweep_start(&p, "listen:127.0.0.1:0", false);
    char *key, *join = sweep_join(&p, &key);
    const char *const words[] = {"test", "worker", "--join", join, "--key", key, NULL};
    pid_t hanging = process_start(words);
    sweep_wait_until(&p, "running", 1);
    kill(hanging, SIGSTOP);
    assert_true(trickle(join)); /* takes ten seconds, too */
    pid_t other = process_start(words);
    assert_int_equal(process_wait(pid), 0);
    assert_int_equal(process_wait(other), 0);
    free(sweep_check_complete(&p));
    kill(hanging, SIGCONT);
    assert_true(process_wait(hanging) != 0);
    at_node *all = sweep_trials(&p);
    int64_t leases = 0;
    for (size_t i = 0; i < 8; i++)
        leases += at_node_int(sweep_cell(all, i, "leases"), 0);
    assert_int_equal(leases, 9);
    at_node_free(all);
    free(key);
    free(join);
    sweep_place_fini(&p);
}

static void a_port_in_use_is_named(void **state)
{
    (void)state;
    sweep_place p;
    at_error err = {0};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof at;
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &bytes), 0);
    char *workers = at_format("listen:127.0.0.1:%d", ntohs(at.sin_port));
    sweep_place_init(&p, "nap_ms: 10", "");
    assert_null(fake_tune(p.sweep, p.study, workers, false, &err));
    assert_int_equal(err.code, AT_EINPUT);
    assert_non_null(strstr(err.message, workers + strlen("listen:")));
    close(fd);
    free(workers);
    sweep_place_fini(&p);
}

static void a_coordinator_that_is_not_there(void **state)
{
    (void)state;
    at_error err = {0};
    const at_worker_options none = {.join = "nonsense", .key = "/nowhere", .program = FAKE_ATOLL};
    assert_int_equal(at_worker(&none, &err), AT_EUSAGE);
    const at_worker_options no_key = {
        .join = "127.0.0.1:1", .key = "/nowhere", .program = FAKE_ATOLL};
    assert_int_equal(at_worker(&no_key, &err), AT_ENOENT);
    sweep_place p;
    sweep_place_init(&p, "nap_ms: 1", "");
    const char *const bad[] = {"local:0", "local:x", "loca:2", "listen:x", "mpi:", "slurm:-1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_null(fake_tune(p.sweep, p.study, bad[i], false, &err));
        assert_int_equal(err.code, AT_EUSAGE);
    }
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
        cmocka_unit_test(strangers_do_not_disturb),
        cmocka_unit_test(results_without_a_lease_are_refused),
        cmocka_unit_test(a_hanging_workers_trial_runs_elsewhere),
        cmocka_unit_test(a_port_in_use_is_named),
        cmocka_unit_test(a_coordinator_that_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
