/* SPDX-License-Identifier: Apache-2.0
 * Progress as it reaches a real pseudo-terminal, whose last picture is worked out here, and a pipe.
 */
#include "atoll/base.h"

#include <errno.h>
#include <pthread.h>
#include <pty.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static const char erase[] = "\r\033[K";

static void nap(void) /* longer than a bar stands still */
{
    nanosleep(&(struct timespec){0, 120000000}, NULL);
}

static void read_to_end(int fd, at_text *out)
{
    char block[4096];
    for (ssize_t got; (got = read(fd, block, sizeof block)) > 0 || errno == EINTR;)
        if (got > 0)
            at_text_append(out, block, (size_t)got);
        else
            errno = 0;
}

/* Runs scene in a child whose stderr is `end`; all that it wrote, read from the other end. */
static at_text watch(int from, int end, const char *lang, void (*scene)(void))
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setenv("TERM", "xterm", 1);
        setenv("LC_ALL", lang, 1);
        close(from);
        dup2(end, STDERR_FILENO);
        close(end);
        scene();
        _exit(0);
    }
    close(end);
    at_text out = {0};
    at_text_append(&out, "", 0);
    errno = 0;
    read_to_end(from, &out);
    close(from);
    int status;
    assert_true(waitpid(pid, &status, 0) == pid && status == 0);
    assert_false(out.failed);
    return out;
}

static at_text watch_terminal(unsigned short columns, const char *lang, void (*scene)(void))
{
    int master, slave;
    struct winsize size = {.ws_row = 24, .ws_col = columns};
    assert_int_equal(openpty(&master, &slave, NULL, NULL, &size), 0);
    return watch(master, slave, lang, scene);
}

static at_text watch_pipe(void (*scene)(void))
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    return watch(ends[0], ends[1], "C.UTF-8", scene);
}

static size_t count_columns(const char *s, size_t bytes)
{
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++)
        n += ((unsigned char)s[i] & 0xc0) != 0x80;
    return n;
}

/* What the terminal shows at the end. Fails where a bar that is drawn over was too wide for that.
 */
static at_text picture_of(const at_text *raw, size_t columns)
{
    at_text screen = {0};
    size_t row = 0; /* where the last row begins */
    at_text_append(&screen, "", 0);
    for (const char *s = raw->data; *s;) {
        if (strncmp(s, erase, 4) == 0) {
            assert_true(count_columns(screen.data + row, screen.length - row) < columns);
            screen.length = row;
            screen.data[row] = 0;
            s += 4;
        } else if (strncmp(s, "\r\n", 2) == 0) {
            at_text_append(&screen, "\n", 1);
            row = screen.length;
            s += 2;
        } else {
            assert_true((unsigned char)*s >= ' ');
            at_text_append(&screen, s++, 1);
        }
    }
    return screen;
}

static size_t occurrences(const char *text, const char *piece)
{
    size_t n = 0;
    while ((text = strstr(text, piece))) {
        n++;
        text += strlen(piece);
    }
    return n;
}

static void scene_plain(void)
{
    at_progress *p = at_progress_new("ingest", 200, "images");
    at_progress_update(p, 0, NULL);
    nap();
    at_progress_update(p, 101, "3 errors");
    nap();
    at_progress_update(p, 150, NULL);
    at_progress_update(p, 200, NULL);
    at_progress_end(p, NULL);
}

static void test_terminal(void **state)
{
    (void)state;
    at_text raw = watch_terminal(100, "C.UTF-8", scene_plain);
    at_text screen = picture_of(&raw, 100);
    assert_non_null(strstr(raw.data, " 50% ▕██"));
    assert_non_null(strstr(raw.data, "101/200 images"));
    assert_non_null(strstr(raw.data, "images/s"));
    assert_non_null(strstr(raw.data, " left, 3 errors"));
    assert_int_equal(occurrences(screen.data, "\n"), 1);
    assert_true(strncmp(screen.data, "ingest 100% ▕█", 14) == 0);
    assert_non_null(strstr(screen.data, "200/200 images"));
    assert_non_null(strstr(screen.data, ", 3 errors\n"));
    at_text_fini(&screen);
    at_text_fini(&raw);
}

static void test_terminal_without_unicode(void **state)
{
    (void)state;
    at_text raw = watch_terminal(100, "C", scene_plain);
    assert_non_null(strstr(raw.data, "[###"));
    for (size_t i = 0; i < raw.length; i++)
        assert_true((unsigned char)raw.data[i] < 0x80);
    at_text_fini(&raw);
}

static void test_narrow_terminals(void **state)
{
    (void)state;
    for (unsigned short columns = 8; columns <= 60; columns = (unsigned short)(columns + 13)) {
        at_text raw = watch_terminal(columns, "C.UTF-8", scene_plain);
        at_text screen = picture_of(&raw, columns);
        assert_int_equal(occurrences(screen.data, "\n"), 1);
        assert_non_null(strstr(screen.data, "200/200 images")); /* the last line is whole */
        at_text_fini(&screen);
        at_text_fini(&raw);
    }
}

static void test_pipe(void **state)
{
    (void)state;
    at_text raw = watch_pipe(scene_plain);
    assert_int_equal(occurrences(raw.data, "\n"), 1); /* too short for more than its last line */
    assert_null(strchr(raw.data, '\r'));
    assert_null(strchr(raw.data, '\033'));
    assert_true(strncmp(raw.data, "ingest 100% 200/200 images, ", 28) == 0);
    at_text_fini(&raw);
}

static void scene_with_log(void)
{
    at_progress *p = at_progress_new("train", 10, "steps");
    at_log(AT_LOG_INFO, "before the bar");
    for (int i = 0; i < 4; i++) {
        at_progress_update(p, i, "a note\nof two lines");
        at_log(AT_LOG_WARN, "line %d", i);
        at_log(AT_LOG_INFO, "and another");
        nap();
    }
    at_progress_end(p, "stopped");
    at_log(AT_LOG_INFO, "after the bar");
}

static void test_log_does_not_garble(void **state)
{
    (void)state;
    at_text raw = watch_terminal(80, "C.UTF-8", scene_with_log);
    at_text screen = picture_of(&raw, 80);
    static const char start[] = "before the bar\n"
                                "warning: line 0\nand another\nwarning: line 1\nand another\n"
                                "warning: line 2\nand another\nwarning: line 3\nand another\n"
                                "train  30% ";
    assert_true(strncmp(screen.data, start, sizeof start - 1) == 0);
    assert_non_null(strstr(screen.data, ", stopped\nafter the bar\n"));
    assert_int_equal(occurrences(screen.data, "\n"), 11);
    at_text_fini(&screen);
    at_text_fini(&raw);
}

static void scene_silent(void)
{
    at_progress_silence(true);
    scene_plain();
}

static void scene_nothing(void)
{
    at_progress_update(NULL, 1, "x");
    at_progress_end(NULL, "x");
}

static void test_silence(void **state)
{
    (void)state;
    at_text raw = watch_terminal(80, "C.UTF-8", scene_silent);
    assert_string_equal(raw.data, "");
    at_text_fini(&raw);
    raw = watch_terminal(80, "C.UTF-8", scene_nothing);
    assert_string_equal(raw.data, "");
    at_text_fini(&raw);
}

static void scene_unknown_total(void)
{
    at_progress *p = at_progress_new("download", 0, "bytes");
    at_progress_update(p, 0, NULL);
    nap();
    at_progress_update(p, 2500000, NULL);
    at_progress_end(p, NULL);
}

static void test_unknown_total(void **state)
{
    (void)state;
    at_text raw = watch_terminal(80, "C.UTF-8", scene_unknown_total);
    assert_non_null(strstr(raw.data, "2.5 MB, "));
    assert_null(strchr(raw.data, '%'));
    assert_null(strstr(raw.data, "left"));
    at_text_fini(&raw);
}

static void scene_odd_numbers(void)
{
    at_progress *p = at_progress_new("odd", 10, NULL);
    static const double values[] = {-5, 20, 1e300, -1e300, 0.0 / 1, 3.7};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        at_progress_update(p, values[i], NULL);
        nap();
    }
    at_progress_end(p, NULL);
}

static void test_odd_numbers(void **state)
{
    (void)state;
    at_text raw = watch_terminal(80, "C.UTF-8", scene_odd_numbers);
    at_text screen = picture_of(&raw, 80);
    assert_int_equal(occurrences(screen.data, "\n"), 1);
    assert_non_null(strstr(screen.data, "odd  37% "));
    at_text_fini(&screen);
    at_text_fini(&raw);
}

enum { UPDATES = 200000, THREADS = 4, LINES = 50 };

static void *update_much(void *progress)
{
    for (int i = 1; i <= UPDATES; i++) {
        at_progress_update(progress, i, "many threads");
        if (i % (UPDATES / LINES) == 0)
            at_log(AT_LOG_INFO, "a line");
    }
    return NULL;
}

static void scene_threads(void)
{
    double start = at_now();
    at_progress *p = at_progress_new("threads", UPDATES, "steps");
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, update_much, p))
            _exit(1);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    at_progress_end(p, "ended");
    at_log(AT_LOG_INFO, "tenths: %.0f", 10 * (at_now() - start));
}

static void test_threads(void **state)
{
    (void)state;
    at_text raw = watch_terminal(80, "C.UTF-8", scene_threads);
    at_text screen = picture_of(&raw, 80);
    assert_int_equal(occurrences(screen.data, "a line\n"), THREADS * LINES);
    assert_int_equal(occurrences(screen.data, "\n"), THREADS * LINES + 2);
    assert_int_equal(occurrences(screen.data, "threads 100% "), 1);
    size_t tenths = strtoul(strstr(screen.data, "tenths: ") + 8, NULL, 10);
    assert_true(occurrences(raw.data, "many threads") <= tenths + 3);
    print_message("%d updates drew %zu bars\n", UPDATES * THREADS,
                  occurrences(raw.data, "many threads"));
    at_text_fini(&screen);
    at_text_fini(&raw);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_terminal),
        cmocka_unit_test(test_terminal_without_unicode),
        cmocka_unit_test(test_narrow_terminals),
        cmocka_unit_test(test_pipe),
        cmocka_unit_test(test_log_does_not_garble),
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_unknown_total),
        cmocka_unit_test(test_odd_numbers),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
