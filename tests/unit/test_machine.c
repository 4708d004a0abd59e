/* SPDX-License-Identifier: Apache-2.0
 * Clock, machine, interruption, and memory's helpers. */
#include "atoll/base.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static void test_clock(void **state)
{
    (void)state;
    double before = at_now();
    for (int i = 0; i < 1000; i++) {
        double now = at_now();
        assert_true(now >= before);
        before = now;
    }
    char text[32];
    struct tm utc = {0};
    int64_t earliest = at_wall_ms() / 1000;
    at_wall_iso(text);
    int64_t latest = at_wall_ms() / 1000;
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    assert_true(end && *end == 0);
    assert_in_range((uint64_t)timegm(&utc), (uint64_t)earliest, (uint64_t)latest);
}

static void test_cpus_are_those_allowed(void **state)
{
    (void)state;
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_in_range(at_cpu_count(), 1, CPU_COUNT(&before));
    size_t cpu = 0;
    while (!CPU_ISSET(cpu, &before))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    int count = at_cpu_count();
    sched_setaffinity(0, sizeof before, &before);
    assert_int_equal(count, 1);
}

static void test_machine(void **state)
{
    (void)state;
    enum { BYTES = 64 << 20 };
    char name[256], ours[256], cut[3];
    assert_int_equal(gethostname(name, sizeof name), 0);
    at_host_name(ours, sizeof ours);
    assert_string_equal(ours, name);
    at_host_name(cut, sizeof cut);
    assert_true(strlen(cut) < sizeof cut);
    void *block = at_alloc_aligned(BYTES);
    assert_non_null(block);
    assert_true(at_peak_rss() >= BYTES);
    at_free_aligned(block);
    assert_true(at_peak_rss() >= BYTES); /* a peak stays */
}

/* The exit status of a child that runs scene, or minus the signal that ended it. */
static int outcome(int (*scene)(void))
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        alarm(60); /* rather than for ever */
        _exit(scene());
    }
    int status;
    assert_true(waitpid(pid, &status, 0) == pid);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static int scene_flag(void)
{
    static const int signals[] = {SIGTERM, SIGUSR1, SIGINT, SIGTERM};
    at_interrupt_install();
    if (at_interrupted())
        return 10;
    for (int i = 0; i < 4; i++) {
        raise(signals[i]);
        if (!at_interrupted())
            return 11;
    }
    return 0;
}

static int scene_second_int(void)
{
    at_interrupt_install();
    for (int i = 0; i < 3; i++) { /* at once behind the first: the same Ctrl-C, passed on */
        raise(SIGINT);
        if (!at_interrupted())
            return 10;
    }
    sleep(1);
    raise(SIGINT);
    return 11;
}

static int scene_blocking_call(void)
{
    int ends[2];
    char byte;
    at_interrupt_install();
    if (pipe(ends))
        return 10;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGTERM};
    struct itimerspec soon = {.it_value = {0, 20000000}, .it_interval = {0, 20000000}};
    timer_t timer;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &soon, NULL))
        return 11;
    if (read(ends[0], &byte, 1) != -1 || errno != EINTR)
        return 12;
    return at_interrupted() ? 0 : 13;
}

static int scene_raise(void)
{
    at_interrupt_raise();
    return at_interrupted() ? 0 : 10;
}

/* Signals this process while the stack pointer is `elsewhere`, as generated code may have it. */
static void signal_with_stack_at(char *elsewhere)
{
#if defined(__x86_64__)
    long result = SYS_kill;
    __asm__ volatile("mov %%rsp, %%rbx\n\tmov %[at], %%rsp\n\tsyscall\n\tmov %%rbx, %%rsp"
                     : "+a"(result)
                     : "D"((long)getpid()), "S"((long)SIGTERM), [at] "r"(elsewhere)
                     : "rbx", "rcx", "r11", "memory");
#else
    (void)elsewhere;
    raise(SIGTERM);
#endif
}

static int scene_other_stack(void)
{
    enum { ROOM = 1 << 16 };
    char *block = calloc(1, 2 * ROOM);
    if (!block)
        return 10;
    at_interrupt_install();
    signal_with_stack_at(block + ROOM);
    for (size_t i = 0; i < 2 * ROOM; i++)
        if (block[i])
            return 11;
    free(block);
    return at_interrupted() ? 0 : 12;
}

static void test_interruption(void **state)
{
    (void)state;
    assert_int_equal(outcome(scene_flag), 0);
    assert_int_equal(outcome(scene_second_int), -SIGINT);
    assert_int_equal(outcome(scene_blocking_call), 0);
    assert_int_equal(outcome(scene_raise), 0);
    assert_int_equal(outcome(scene_other_stack), 0);
    assert_false(at_interrupted());
}

static void test_mul(void **state)
{
    (void)state;
    size_t out = 7;
    assert_true(at_mul(3, 5, 15, &out));
    assert_int_equal(out, 15);
    assert_false(at_mul(3, 5, 14, &out));
    assert_false(at_mul(SIZE_MAX, 2, SIZE_MAX, &out));
    assert_false(at_mul((size_t)1 << 32, (size_t)1 << 32, SIZE_MAX, &out));
    assert_int_equal(out, 15); /* untouched on failure */
    assert_true(at_mul(0, SIZE_MAX, 0, &out));
    assert_int_equal(out, 0);
}

static void test_aligned(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 63, 64, 65, 4096, 4 << 20, (5 << 20) + 1};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char *p = at_alloc_aligned(sizes[i]);
        assert_true(p && (uintptr_t)p % 64 == 0);
        for (size_t k = 0; k < sizes[i]; k++)
            assert_true(p[k] == 0);
        at_free_aligned(p);
    }
    assert_null(at_alloc_aligned(SIZE_MAX));
    assert_null(at_alloc_aligned(SIZE_MAX - 63));
    at_free_aligned(NULL);
}

static void test_text(void **state)
{
    (void)state;
    at_text t = {0};
    for (int i = 0; i < 1000; i++)
        at_text_add(&t, "%d,", i % 10);
    assert_false(t.failed);
    assert_int_equal(t.length, 2000);
    assert_int_equal(strlen(t.data), 2000);
    at_text_append(&t, "\0x", 2);
    assert_int_equal(t.length, 2002);
    assert_memory_equal(t.data + 1998, "9,\0x", 5);
    at_text_append(&t, NULL, 0);
    assert_int_equal(t.length, 2002);
    at_text_fini(&t);
    assert_null(t.data);
    at_text_append(&t, "", 0); /* an empty text is a string too */
    assert_string_equal(t.data, "");
    at_text_fini(&t);
    char *s = at_format("%s-%04d", "trial", 12);
    assert_string_equal(s, "trial-0012");
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clock),   cmocka_unit_test(test_cpus_are_those_allowed),
        cmocka_unit_test(test_machine), cmocka_unit_test(test_interruption),
        cmocka_unit_test(test_mul),     cmocka_unit_test(test_aligned),
        cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
