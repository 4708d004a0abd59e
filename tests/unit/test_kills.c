/* SPDX-License-Identifier: Apache-2.0
 * ctest: timeout=900
 * An ingest that is killed with SIGKILL, or whose disk is full or fails, ends, resumed, in the same
 * bytes as one that was left alone: catalog.db, images.idx and every shard.
 *
 * Kills at random times rarely meet the short moments that matter. So the calls by which an ingest
 * changes the disk are replaced here (this program's come before libc's, for SQLite, too), and the
 * trouble comes at one of them after the other, until an ingest needs no more. */
#include "../../datasets/internal.h"
#include "dataset_text.h"
#include "place.h"
#include "scratch.h"
#include "sources.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- calls that change the disk -------------------------------------------------------------- */

enum trouble { NONE, KILLED, FULL, BAD_SYNC };

static enum trouble trouble; /* set before threads are started */
static long trouble_at;      /* the number of the call that meets it */
static atomic_long *calls;   /* of the process that meets trouble; shared with its parent */

/* Whether this call, which may meet trouble of this kind or be the last, fails, with errno set. A
 * disk that is full stays full. */
static bool fails(enum trouble kind)
{
    if (trouble != kind && trouble != KILLED)
        return false;
    long call = atomic_fetch_add(calls, 1) + 1;
    if (trouble == KILLED && call == trouble_at)
        kill(getpid(), SIGKILL);
    bool hit = trouble == FULL ? call >= trouble_at : trouble == BAD_SYNC && call == trouble_at;
    if (hit)
        errno = kind == FULL ? ENOSPC : EIO;
    return hit;
}

/* Decoding processes, which an ingest forks, write to nothing but their sockets. */
static void disarm(void)
{
    trouble = NONE;
}

/* libc's own function */
static void *real(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

#define CALL(kind, failure, result, name, parameters, arguments)                                   \
    result name parameters                                                                         \
    {                                                                                              \
        static _Atomic(void *) own;                                                                \
        if (!own)                                                                                  \
            own = real(#name);                                                                     \
        if (fails(kind))                                                                           \
            return failure;                                                                        \
        return ((result(*) parameters)(uintptr_t)own)arguments;                                    \
    }
CALL(FULL, EOF, int, fflush, (FILE * f), (f))
CALL(FULL, -1, ssize_t, write, (int fd, const void *p, size_t n), (fd, p, n))
CALL(FULL, -1, ssize_t, pwrite64, (int fd, const void *p, size_t n, off64_t at), (fd, p, n, at))
CALL(FULL, -1, int, mkdir, (const char *path, mode_t mode), (path, mode))
CALL(BAD_SYNC, -1, int, fsync, (int fd), (fd))
CALL(BAD_SYNC, -1, int, fdatasync, (int fd), (fd))
CALL(KILLED, -1, int, ftruncate, (int fd, off_t n), (fd, n))
CALL(KILLED, -1, int, ftruncate64, (int fd, off64_t n), (fd, n))
CALL(KILLED, -1, int, unlink, (const char *path), (path))
CALL(KILLED, -1, int, unlinkat, (int dir, const char *path, int flags), (dir, path, flags))
CALL(KILLED, -1, int, rename, (const char *from, const char *to), (from, to))

/* Its bytes wait in a buffer: a kill meets it as it meets the next call. */
size_t fwrite(const void *p, size_t size, size_t n, FILE *f)
{
    static _Atomic(void *) own;
    if (!own)
        own = real("fwrite");
    if (trouble == FULL && fails(FULL))
        return n / 2;
    return ((size_t(*)(const void *, size_t, size_t, FILE *))(uintptr_t)own)(p, size, n, f);
}

/* ---- ingests --------------------------------------------------------------------------------- */

enum { TRAIN = 7, TEST = 2 };
static const at_ingest_tuning small = {.shard_bytes = 2 << 10, .commit_images = 8};

static int set_up(void **state)
{
    place_set_up(state);
    struct place *p = *state;
    put_pictures(p->source, "train", 3, TRAIN, 0);
    put_pictures(p->source, "test", 3, TEST, 10000);
    put_pictures(p->source, "test/class_1", 1, 2, 0); /* copies of others */
    put_text(p->source, "train/class_0/00005.notes", "no picture");
    put_text(p->source, "test/class_2/zzz.jpg", "\xFF\xD8\xFF\xE0");
    put_tar(p->dir, "source", "source.tar.gz", true, true);
    put_zip(p->dir, "source", "source.zip", false);
    return 0;
}

static int ingest(const char *source, const char *out, bool append, int jobs, at_error *err)
{
    at_ingest_options o = {.source = source, .out = out, .val_fraction = 0.2, .seed = 3};
    o.append = append;
    o.jobs = jobs;
    o.resume = true;
    return at_ingest_tuned(&o, &small, NULL, err);
}

static void ingest_fully(const struct place *p, const char *source, bool append)
{
    at_error err = {0};
    if (ingest(source, p->out, append, 2, &err))
        fail_msg("%s", err.message);
}

/* What an undisturbed ingest makes. */
static char *wanted_files(const struct place *p, const char *source)
{
    ingest_fully(p, source, false);
    char *files = dataset_files(p->out);
    assert_non_null(strstr(files, "catalog.db: "));
    assert_non_null(strstr(files, "images.idx: "));
    assert_non_null(strstr(files, "shards/00002.atb: "));
    assert_int_equal(at_remove_tree(p->out, NULL), 0);
    return files;
}

/* Resumes undisturbed; the data set's bytes must be these. Removes it. */
static void finish(const struct place *p, const char *source, bool append, const char *wanted,
                   size_t entries)
{
    ingest_fully(p, source, append);
    assert_int_equal(scratch_count(p->dir), entries + 1); /* the data set, and nothing beside it */
    char *files = dataset_files(p->out);
    same_text(files, wanted);
    free(files);
    assert_int_equal(at_remove_tree(p->out, NULL), 0);
}

/* An ingest in a child with this trouble at its n-th call (KILLED and n 0: after some seconds).
 * 1: it came to its end, 0: it failed as it should, -1: it was killed. */
static int run_child(const struct place *p, const char *source, bool append, int jobs,
                     enum trouble kind, long n, double seconds)
{
    atomic_store(calls, 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        trouble = kind;
        trouble_at = n;
        at_error err = {0};
        int code = ingest(source, p->out, append, jobs, &err);
        bool told = kind == FULL ? strstr(err.message, "full") || strstr(err.message, "No space")
                                 : err.message[0];
        if (code < 0 && !(code == AT_EIO && told))
            fprintf(stderr, "%s: %s\n", at_error_name(code), err.message);
        _exit(code == 0 ? 1 : code == AT_EIO && told ? 0 : 2);
    }
    if (n == 0) {
        struct timespec t = {.tv_nsec = (long)(seconds * 1e9)};
        nanosleep(&t, NULL);
        kill(child, SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) < 2);
    return WIFSIGNALED(status) ? -1 : WEXITSTATUS(status);
}

/* ---- at every call --------------------------------------------------------------------------- */

/* The call at which the next round is killed: every one at the beginning and at the end, where each
 * is another step; of the commits between, which are alike, each third. */
static long after(long n, long total)
{
    return n < 30 || n > total - 70 ? n + 1 : n + 3;
}

static void test_killed_at_every_call(void **state)
{
    struct place *p = *state;
    char *wanted = wanted_files(p, p->source);
    size_t entries = scratch_count(p->dir);
    assert_int_equal(run_child(p, p->source, false, 1, KILLED, LONG_MAX, 0), 1);
    long total = atomic_load(calls), kills = 0;
    finish(p, p->source, false, wanted, entries);
    for (long n = 1; run_child(p, p->source, false, 1, KILLED, n, 0) < 0;
         n = after(n, total), kills++)
        finish(p, p->source, false, wanted, entries);
    finish(p, p->source, false, wanted, entries);
    print_message("killed before %ld of its %ld calls: the same bytes\n", kills, total);
    assert_true(kills > 60);
    free(wanted);
}

/* The second run is killed, too, and the third, somewhere. */
static void test_killed_again_while_resuming(void **state)
{
    struct place *p = *state;
    char *wanted = wanted_files(p, p->source);
    size_t entries = scratch_count(p->dir);
    at_rng rng = at_rng_stream(1, "kill", 0);
    int kills = 0, ends = 0;
    while (kills < 60) {
        if (run_child(p, p->source, false, 2, KILLED, 1 + (long)at_rng_below(&rng, 170), 0) < 0) {
            kills++;
        } else {
            finish(p, p->source, false, wanted, entries);
            ends++;
        }
    }
    finish(p, p->source, false, wanted, entries);
    print_message("killed %d times in %d ingests: the same bytes\n", kills, ends + 1);
    free(wanted);
}

static void fail_everywhere(const struct place *p, enum trouble kind, const char *what)
{
    char *wanted = wanted_files(p, p->source);
    size_t entries = scratch_count(p->dir);
    long failed = 0, passed = 0;
    /* Past the last call there is no trouble any more; before, images.idx is done without, and SQLite
     * lets a folder's sync fail. passed: one after another. */
    for (long n = 1; passed<4; n += n> 20 ? 4 : 1) {
        if (run_child(p, p->source, false, 1, kind, n, 0) == 0) {
            failed++;
            passed = 0;
            finish(p, p->source, false, wanted, entries);
        } else {
            passed++;
            assert_int_equal(at_remove_tree(p->out, NULL), 0);
            assert_int_equal(scratch_count(p->dir), entries);
        }
    }
    print_message("%s at %ld of the calls: told, and resumed to the same bytes\n", what, failed);
    assert_true(failed > 10);
    free(wanted);
}

/* The data set of before, made anew for each append. */
static void test_an_append_killed_at_every_call(void **state)
{
    struct place *p = *state;
    place_name_file(p, "old");
    put_pictures(p->file, "before/train", 3, 3, 20000);
    put_pictures(p->file, "again/train", 1, 2, 0); /* of which the new ones hold copies */
    size_t entries = scratch_count(p->dir);
    long kills = 0, total = 0;
    ingest_fully(p, p->file, false);
    assert_int_equal(run_child(p, p->source, true, 1, KILLED, LONG_MAX, 0), 1);
    total = atomic_load(calls);
    char *wanted = dataset_files(p->out);
    assert_int_equal(at_remove_tree(p->out, NULL), 0);
    for (long n = 1, killed = -1; killed < 0; n = after(n, total)) {
        ingest_fully(p, p->file, false);
        killed = run_child(p, p->source, true, 1, KILLED, n, 0);
        kills += killed < 0;
        finish(p, p->source, true, wanted, entries);
    }
    print_message("an append killed before %ld of its %ld calls: the same bytes\n", kills, total);
    assert_true(kills > 60);
    free(wanted);
}

static void test_a_disk_that_is_full(void **state)
{
    fail_everywhere(*state, FULL, "a full disk");
}

static void test_a_disk_that_fails(void **state)
{
    fail_everywhere(*state, BAD_SYNC, "a failing disk");
}

/* ---- at random times ------------------------------------------------------------------------- */

static double seconds_of(const struct place *p, const char *source)
{
    double start = at_now();
    ingest_fully(p, source, false);
    assert_int_equal(at_remove_tree(p->out, NULL), 0);
    return at_now() - start;
}

static void test_killed_a_hundred_times(void **state)
{
    struct place *p = *state;
    static const char *const names[] = {"source", "source.tar.gz", "source.zip"};
    enum { KILLS = 34 };
    at_rng rng = at_rng_stream(2, "kill", 0);
    int kills = 0, ends = 0;
    for (int k = 0; k < 3; k++) {
        char *source = at_path_join(p->dir, names[k]), *wanted = wanted_files(p, source);
        size_t entries = scratch_count(p->dir);
        double seconds = seconds_of(p, source);
        seconds = seconds < 0.9 ? seconds : 0.9;
        for (int rounds = 0, before = kills; kills - before < KILLS && rounds < 400; rounds++) {
            double after = at_rng_uniform(&rng) * seconds;
            if (run_child(p, source, false, 1 + rounds % 4, KILLED, 0, after) < 0) {
                kills++;
            } else {
                finish(p, source, false, wanted, entries);
                ends++;
            }
        }
        finish(p, source, false, wanted, entries);
        ends++;
        free(source);
        free(wanted);
    }
    print_message("%d kills at random times, %d ingests, of folder, tar and zip: the same bytes\n",
                  kills, ends);
    assert_true(kills >= 100);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, place_tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_killed_at_every_call),
        CASE(test_killed_again_while_resuming),
        CASE(test_an_append_killed_at_every_call),
        CASE(test_a_disk_that_is_full),
        CASE(test_a_disk_that_fails),
        CASE(test_killed_a_hundred_times),
    };
#undef CASE
    at_log_set_level(AT_LOG_ERROR);
    at_progress_silence(true);
    scratch_in_memory();
    pthread_atfork(NULL, NULL, disarm);
    calls = mmap(NULL, sizeof *calls, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return calls == MAP_FAILED ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
