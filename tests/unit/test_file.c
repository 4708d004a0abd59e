/* SPDX-License-Identifier: Apache-2.0
 * Files: whole or not at all, also where the writer is killed or the disk is full; locks. */
#include "atoll/base.h"
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct fixture {
    char *dir, *path;
} fixture;

static int set_up(void **state)
{
    fixture *f = malloc(sizeof *f);
    assert_non_null(f);
    f->dir = scratch_new();
    f->path = at_path_join(f->dir, "file");
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    free(f->path);
    scratch_free(f->dir);
    free(f);
    return 0;
}

static void assert_content(const char *path, const char *expected)
{
    char *data;
    size_t bytes;
    assert_int_equal(at_file_read(path, 1 << 20, &data, &bytes, NULL), 0);
    assert_int_equal(bytes, strlen(expected));
    assert_string_equal(data, expected);
    free(data);
}

static void test_write_and_read(void **state)
{
    const fixture *f = *state;
    assert_int_equal(at_file_write(f->path, "one\0two", 7, NULL), 0);
    char *data;
    size_t bytes;
    assert_int_equal(at_file_read(f->path, 7, &data, &bytes, NULL), 0);
    assert_int_equal(bytes, 7);
    assert_memory_equal(data, "one\0two", 8);
    free(data);
    assert_int_equal(at_file_write(f->path, "", 0, NULL), 0);
    assert_content(f->path, "");
    assert_int_equal(scratch_count(f->dir), 1);
    assert_true(at_file_exists(f->path) && !at_dir_exists(f->path));
    assert_true(at_dir_exists(f->dir) && !at_file_exists(f->dir));
}

static void test_read_refuses(void **state)
{
    const fixture *f = *state;
    char *data = f->path;
    at_error err = {0};
    assert_int_equal(at_file_read(f->path, 10, &data, NULL, &err), AT_ENOENT);
    assert_non_null(strstr(err.message, f->path));
    assert_null(data);
    assert_int_equal(at_file_read(f->dir, 10, &data, NULL, &err), AT_EINPUT);
    assert_int_equal(at_file_write(f->path, "12345678901", 11, NULL), 0);
    assert_int_equal(at_file_read(f->path, 10, &data, NULL, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, "larger than 10 bytes"));
    assert_int_equal(at_file_read("/dev/zero", 100000, &data, NULL, &err), AT_EINPUT);
    assert_int_equal(at_file_read("/proc/self/status", 1 << 20, &data, NULL, &err), 0);
    assert_non_null(strstr(data, "VmHWM"));
    free(data);
}

static void test_atomic_stays_hidden(void **state)
{
    const fixture *f = *state;
    at_file_write(f->path, "old", 3, NULL);
    at_atomic *a = at_atomic_open(f->path, NULL);
    assert_non_null(a);
    assert_true(fputs("new", at_atomic_stream(a)) >= 0);
    assert_content(f->path, "old");
    at_atomic_abort(a);
    assert_content(f->path, "old");
    assert_int_equal(scratch_count(f->dir), 1);

    a = at_atomic_open(f->path, NULL);
    at_atomic *b = at_atomic_open(f->path, NULL); /* two at once do not meet */
    assert_true(a && b && strcmp(at_atomic_path(a), at_atomic_path(b)) != 0);
    fputs("first", at_atomic_stream(a));
    fputs("second", at_atomic_stream(b));
    assert_int_equal(at_atomic_commit(a, NULL), 0);
    assert_content(f->path, "first");
    assert_int_equal(at_atomic_commit(b, NULL), 0);
    assert_content(f->path, "second");
    assert_int_equal(scratch_count(f->dir), 1);
    at_atomic_abort(NULL);
}

static void test_atomic_by_name(void **state)
{
    const fixture *f = *state;
    at_atomic *a = at_atomic_open(f->path, NULL);
    FILE *library = fopen(at_atomic_path(a), "w");
    assert_non_null(library);
    fputs("by name", library);
    fclose(library);
    assert_int_equal(at_atomic_commit(a, NULL), 0);
    assert_content(f->path, "by name");
}

static void test_write_refuses(void **state)
{
    const fixture *f = *state;
    at_error err = {0};
    char *missing = at_path_join(f->dir, "no/such/folder");
    assert_int_equal(at_file_write(missing, "x", 1, &err), AT_ENOENT);
    assert_non_null(strstr(err.message, missing));
    free(missing);
    assert_int_equal(at_file_write(f->dir, "x", 1, &err), AT_EINPUT);
    assert_int_equal(scratch_count(f->dir), 0);
}

/* The process may not write files beyond a size: writes fail as on a full disk. */
static void test_failed_write_leaves_the_old(void **state)
{
    const fixture *f = *state;
    at_file_write(f->path, "old", 3, NULL);
    char *large = calloc(1, 1 << 20);
    assert_non_null(large);
    struct rlimit before, small;
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    small.rlim_cur = 100000;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    at_error err = {0};
    int whole = at_file_write(f->path, large, 1 << 20, &err);
    at_atomic *a = at_atomic_open(f->path, NULL);
    for (int i = 0; i < 1 << 17; i++) /* in small pieces, whose failure stdio may keep for later */
        putc('x', at_atomic_stream(a));
    setrlimit(RLIMIT_FSIZE, &before);
    at_error later = {0}; /* there is room again, but what did not go through is lost */
    int pieces = at_atomic_commit(a, &later);
    signal(SIGXFSZ, SIG_DFL);
    free(large);
    assert_int_equal(whole, AT_EIO);
    assert_non_null(strstr(err.message, strerror(EFBIG)));
    assert_int_equal(pieces, AT_EIO);
    assert_content(f->path, "old");
    assert_int_equal(scratch_count(f->dir), 1);
}

static void test_full_disk(void **state)
{
    const fixture *f = *state;
    if (mount("tmpfs", f->dir, "tmpfs", 0, "size=64k")) {
        print_message("skipped: cannot mount a tmpfs: %s\n", strerror(errno));
        skip();
    }
    char block[100000] = {0};
    at_error err = {0};
    int small = at_file_write(f->path, "old", 3, NULL);
    int large = at_file_write(f->path, block, sizeof block, &err);
    size_t files = scratch_count(f->dir);
    char *data = NULL;
    at_file_read(f->path, 10, &data, NULL, NULL);
    bool kept = data && strcmp(data, "old") == 0;
    free(data);
    umount(f->dir);
    assert_int_equal(small, 0);
    assert_int_equal(large, AT_EIO);
    assert_non_null(strstr(err.message, strerror(ENOSPC)));
    assert_int_equal(files, 1);
    assert_true(kept);
}

/* Writes the file over and over, each time filled with one other letter. */
static _Noreturn void write_for_ever(const char *path, size_t bytes)
{
    char *data = malloc(bytes);
    if (!data)
        _exit(2);
    for (int i = 0;; i++) {
        memset(data, 'a' + i % 26, bytes);
        if (at_file_write(path, data, bytes, NULL))
            _exit(1);
    }
}

static void test_killed_writer(void **state)
{
    enum { KILLS = 40, BYTES = 100000 };
    const fixture *f = *state;
    at_rng rng = at_rng_stream(1, "kill", 0);
    int found = 0;
    for (int i = 0; i < KILLS; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            write_for_ever(f->path, BYTES);
        nanosleep(&(struct timespec){0, (long)at_rng_below(&rng, 20000000)}, NULL);
        kill(pid, SIGKILL);
        int status;
        assert_true(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
        char *data;
        size_t bytes;
        int rc = at_file_read(f->path, BYTES, &data, &bytes, NULL);
        if (rc == AT_ENOENT)
            continue;
        assert_int_equal(rc, 0);
        assert_int_equal(bytes, BYTES);
        for (size_t k = 1; k < bytes; k++)
            assert_int_equal(data[k], data[0]);
        free(data);
        found++;
    }
    print_message("%d writers killed, %d files found, all whole\n", KILLS, found);
    assert_true(found > 0);
}

static void test_make_dirs(void **state)
{
    const fixture *f = *state;
    at_error err = {0};
    char *deep = at_path_join(f->dir, "a//b/../c/d/");
    assert_int_equal(at_make_dirs(deep, &err), 0);
    assert_true(at_dir_exists(deep));
    assert_int_equal(at_make_dirs(deep, &err), 0);
    assert_int_equal(at_make_dirs("/", &err), 0);
    free(deep);
    at_file_write(f->path, "x", 1, NULL);
    char *below = at_path_join(f->path, "sub");
    assert_int_equal(at_make_dirs(f->path, &err), AT_EINPUT);
    assert_int_equal(at_make_dirs(below, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, "is not a folder"));
    free(below);
}

static void test_remove_tree(void **state)
{
    const fixture *f = *state;
    at_error err = {0};
    char *tree = at_path_join(f->dir, "tree"), *inner = at_path_join(tree, "x/y/z");
    char *leaf = at_path_join(inner, "leaf"), *link = at_path_join(inner, "link");
    char *loop = at_path_join(inner, "loop"), *kept = at_path_join(f->dir, "kept");
    char *precious = at_path_join(kept, "precious");
    assert_int_equal(at_make_dirs(inner, &err), 0);
    assert_int_equal(at_make_dirs(kept, &err), 0);
    at_file_write(leaf, "x", 1, NULL);
    at_file_write(precious, "x", 1, NULL);
    assert_int_equal(symlink(kept, link), 0);
    assert_int_equal(symlink("..", loop), 0);
    assert_int_equal(at_remove_tree(tree, &err), 0);
    assert_false(at_dir_exists(tree));
    assert_true(at_file_exists(precious)); /* what a link leads to is not ours */
    assert_int_equal(at_remove_tree(tree, &err), 0);
    assert_int_equal(at_remove_tree(precious, &err), 0);
    assert_false(at_file_exists(precious));
    char *const paths[] = {tree, inner, leaf, link, loop, kept, precious};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        free(paths[i]);
}

static void test_path_join(void **state)
{
    (void)state;
    static const char *const rows[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/", "b", "/b"}, {"", "b", "b"}, {"a", "/b", "/b"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char *path = at_path_join(rows[i][0], rows[i][1]);
        assert_string_equal(path, rows[i][2]);
        free(path);
    }
}

static void test_lock_excludes(void **state)
{
    const fixture *f = *state;
    at_error err = {0};
    at_lock *lock = at_lock_take(f->path, false, &err);
    assert_non_null(lock);
    assert_null(at_lock_take(f->path, false, &err)); /* also in one process */
    assert_int_equal(err.code, AT_EPEER);
    assert_non_null(strstr(err.message, f->path));
    char *data; /* closing another descriptor would drop a lock of the POSIX kind */
    assert_int_equal(at_file_read(f->path, 10, &data, NULL, NULL), 0);
    free(data);
    pid_t pid = fork();
    if (pid == 0) {
        at_error theirs = {0};
        at_lock *taken = at_lock_take(f->path, false, &theirs);
        _exit(!taken && theirs.code == AT_EPEER ? 0 : 1);
    }
    int status;
    assert_true(waitpid(pid, &status, 0) == pid);
    assert_int_equal(status, 0);
    at_lock_release(lock);
    lock = at_lock_take(f->path, false, &err);
    assert_non_null(lock);
    at_lock_release(lock);
    at_lock_release(NULL);
}

static void test_lock_ends_with_its_holder(void **state)
{
    const fixture *f = *state;
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        at_lock *lock = at_lock_take(f->path, true, NULL);
        (void)!write(ready[1], lock ? "y" : "n", 1);
        pause();
        _exit(0);
    }
    char answer = 0;
    assert_int_equal(read(ready[0], &answer, 1), 1);
    assert_int_equal(answer, 'y');
    assert_null(at_lock_take(f->path, false, NULL));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    at_lock *lock = at_lock_take(f->path, true, NULL);
    assert_non_null(lock);
    at_lock_release(lock);
    close(ready[0]);
    close(ready[1]);
}

typedef struct counting {
    const char *path;
    atomic_int total; /* read and written in two steps, which only the lock keeps together */
} counting;

static void *count_under_lock(void *argument)
{
    counting *c = argument;
    for (int i = 0; i < 100; i++) {
        at_lock *lock = at_lock_take(c->path, true, NULL);
        if (!lock)
            break;
        int seen = c->total;
        sched_yield();
        c->total = seen + 1;
        at_lock_release(lock);
    }
    return NULL;
}

static void test_lock_between_threads(void **state)
{
    const fixture *f = *state;
    counting c = {.path = f->path};
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count_under_lock, &c), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(c.total, 400);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_write_and_read),
        TEST(test_read_refuses),
        TEST(test_atomic_stays_hidden),
        TEST(test_atomic_by_name),
        TEST(test_write_refuses),
        TEST(test_failed_write_leaves_the_old),
        TEST(test_full_disk),
        TEST(test_killed_writer),
        TEST(test_make_dirs),
        TEST(test_remove_tree),
        TEST(test_path_join),
        TEST(test_lock_excludes),
        TEST(test_lock_ends_with_its_holder),
        TEST(test_lock_between_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
