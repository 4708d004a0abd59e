/* SPDX-License-Identifier: Apache-2.0
 * An ingest that is killed, interrupted or disturbed ends, resumed, in the same bytes as one that was
 * left alone. More kills are in test_kills.c. */
#include "../../datasets/internal.h"
#include "dataset_text.h"
#include "scratch.h"
#include "sources.h"

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { CLASSES = 3, TRAIN = 250, TEST = 50, IMAGES = CLASSES * (TRAIN + TEST) };
static const at_ingest_tuning small = {.shard_bytes = 64 << 10, .commit_images = 120};

struct place {
    char *dir, *source, *tar, *out, *partial;
};

static int set_up(void **state)
{
    struct place *p = malloc(sizeof *p);
    assert_non_null(p);
    p->dir = scratch_new();
    p->source = at_path_join(p->dir, "source");
    p->tar = at_path_join(p->dir, "source.tar.gz");
    p->out = at_path_join(p->dir, "out");
    p->partial = at_path_join(p->dir, "out.partial");
    put_pictures(p->source, "train", CLASSES, TRAIN, 0);
    put_pictures(p->source, "test", CLASSES, TEST, 10000);
    put_pictures(p->source, "test/class_1", 1, 7, 0); /* copies of others */
    put_text(p->source, "train/class_0/00100.notes", "no picture");
    put_text(p->source, "test/class_2/zzz.jpg", "\xFF\xD8\xFF\xE0");
    put_tar(p->dir, "source", "source.tar.gz", true, true);
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    struct place *p = *state;
    free(p->source);
    free(p->tar);
    free(p->out);
    free(p->partial);
    scratch_free(p->dir);
    free(p);
    return 0;
}

/* The data set's files and hashes as text; removes the data set. */
static char *take(const struct place *p)
{
    assert_false(at_dir_exists(p->partial));
    assert_int_equal(scratch_count(p->out),
                     3); /* catalog.db, images.idx, shards: no -wal, no lock */
    char *text = dataset_files(p->out);
    assert_non_null(
        strstr(text, "shards/00002.atb")); /* several shards are the case to be tested */
    assert_int_equal(at_remove_tree(p->out, NULL), 0);
    return text;
}

static int ingest(const struct place *p, const char *source, bool resume, at_ingest_result *r,
                  at_error *err)
{
    at_ingest_options o = {
        .source = source, .out = p->out, .val_fraction = 0.2, .seed = 3, .jobs = 2};
    o.resume = resume;
    return at_ingest_tuned(&o, &small, r, err);
}

static char *undisturbed(const struct place *p, const char *source, double *seconds)
{
    at_ingest_result r;
    at_error err = {0};
    if (ingest(p, source, false, &r, &err))
        fail_msg("%s", err.message);
    assert_int_equal(r.images, IMAGES + 7);
    assert_int_equal(r.errors, 2);
    *seconds = r.seconds;
    return take(p);
}

/* ---- killed ---------------------------------------------------------------------------------- */

static void pause_for(double seconds)
{
    struct timespec t = {.tv_sec = (time_t)seconds,
                         .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&t, NULL);
}

/* Ingests in a child that gets the signal after some time (0: none). Its exit status, -1: killed.
 */
static int run_child(const struct place *p, const char *source, double seconds, int signal)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        at_interrupt_install();
        at_ingest_result r;
        int code = ingest(p, source, true, &r, NULL);
        _exit(code < 0 ? at_error_exit_status(code) : 0);
    }
    if (signal) {
        pause_for(seconds);
        kill(child, signal);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void kill_and_resume(const struct place *p, const char *source, int signal, uint64_t seed)
{
    double seconds;
    char *wanted = undisturbed(p, source, &seconds);
    at_rng rng = at_rng_stream(seed, "kill", 0);
    int disturbed = 0, finished = 0, rounds = 0;
    for (; rounds < 200 && disturbed < 12; rounds++) {
        /* early and late: also while labels and indexes are made, and while the folder is renamed
         */
        int status = run_child(p, source, at_rng_uniform(&rng) * seconds, signal);
        assert_true(status == -1 || status == 0 || status == 4);
        disturbed += status != 0;
        if (status == 0) {
            finished++;
            char *got = take(p);
            same_text(got, wanted);
            free(got);
        }
    }
    assert_int_equal(run_child(p, source, 0, 0), 0);
    char *got = take(p);
    same_text(got, wanted);
    print_message("%d times stopped by signal %d, ended the same %d times\n", disturbed, signal,
                  finished + 1);
    assert_true(disturbed >= 3);
    free(got);
    free(wanted);
}

static void test_killed_with_a_folder(void **state)
{
    struct place *p = *state;
    kill_and_resume(p, p->source, SIGKILL, 1);
}

static void test_killed_with_a_tar(void **state)
{
    struct place *p = *state;
    kill_and_resume(p, p->tar, SIGKILL, 2);
}

static void test_interrupted(void **state)
{
    struct place *p = *state;
    kill_and_resume(p, p->source, SIGTERM, 3);
}

/* Killed when all was committed but the folder not yet renamed. */
static void test_killed_before_the_renaming(void **state)
{
    struct place *p = *state;
    double seconds;
    char *wanted = undisturbed(p, p->source, &seconds);
    for (int wal = 0; wal < 2; wal++) {
        at_ingest_result r;
        assert_int_equal(ingest(p, p->source, false, &r, NULL), 0);
        assert_int_equal(rename(p->out, p->partial), 0);
        char *path = at_path_join(p->partial, "catalog.db");
        at_db *db = wal ? at_db_open(path, AT_DB_WRITE, NULL) : NULL; /* as the kill leaves it */
        at_db_close(db);
        assert_int_equal(ingest(p, p->source, true, &r, NULL), 0);
        assert_int_equal(r.resumed, IMAGES + 7 + 2);
        char *got = take(p);
        same_text(got, wanted);
        free(got);
        free(path);
    }
    free(wanted);
}

/* ---- what a crash leaves --------------------------------------------------------------------- */

/* A half-made data set: the child is interrupted at once, after what its queue held. */
static void make_partial(const struct place *p)
{
    for (double seconds = 0.002; seconds < 10; seconds *= 1.5) {
        at_remove_tree(p->partial, NULL);
        at_remove_tree(p->out, NULL);
        if (run_child(p, p->source, seconds, SIGTERM) != 4)
            continue;
        char *catalog = at_path_join(p->partial, "catalog.db");
        bool begun =
            at_file_exists(catalog) && atoi(query(p->partial, "SELECT count(*) FROM images")) > 0;
        free(catalog);
        if (begun)
            return;
    }
    fail_msg("no ingest was stopped half-way");
}

static char *last_shard(const struct place *p)
{
    char *last = NULL;
    for (int i = 0;; i++) {
        char *path = at_format("%s/shards/%05d.atb", p->partial, i);
        if (!at_file_exists(path)) {
            free(path);
            return last;
        }
        free(last);
        last = path;
    }
}

static void test_bytes_beyond_the_last_commit_are_cut_off(void **state)
{
    struct place *p = *state;
    double seconds;
    char *wanted = undisturbed(p, p->source, &seconds);
    make_partial(p);
    char *path = last_shard(p);
    FILE *shard = fopen(path, "ab");
    assert_non_null(shard);
    for (int i = 0; i < 100000; i++)
        fputc(i & 255, shard);
    fclose(shard);
    assert_int_equal(run_child(p, p->source, 0, 0), 0);
    char *got = take(p);
    same_text(got, wanted);
    free(path);
    free(got);
    free(wanted);
}

static void test_lost_bytes_are_noticed(void **state)
{
    struct place *p = *state;
    make_partial(p);
    char *path = last_shard(p);
    assert_int_equal(truncate(path, 40), 0);
    at_error err = {0};
    at_ingest_result r;
    assert_int_equal(ingest(p, p->source, true, &r, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, "where the catalog counts"));
    if (ingest(p, p->source, false, &r, &err)) /* anew */
        fail_msg("%s", err.message);
    assert_int_equal(r.resumed, 0);
    assert_int_equal(r.images, IMAGES + 7);
    free(path);
}

static void test_another_source_is_refused(void **state)
{
    struct place *p = *state;
    make_partial(p);
    at_error err = {0};
    at_ingest_result r;
    assert_int_equal(ingest(p, p->tar, true, &r, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, "was begun from"));
}

static void test_two_at_once(void **state)
{
    struct place *p = *state;
    at_error err = {0};
    assert_int_equal(at_make_dirs(p->partial, &err), 0);
    char *path = at_path_join(p->partial, ".lock");
    at_lock *lock = at_lock_take(path, false, &err);
    assert_non_null(lock);
    at_ingest_result r;
    assert_int_equal(ingest(p, p->source, false, &r, &err), AT_EPEER);
    assert_non_null(strstr(err.message, "another ingest is writing"));
    assert_true(at_dir_exists(p->partial));
    at_lock_release(lock);
    assert_int_equal(ingest(p, p->source, false, &r, &err), 0);
    free(path);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_killed_with_a_folder),
        CASE(test_killed_with_a_tar),
        CASE(test_interrupted),
        CASE(test_killed_before_the_renaming),
        CASE(test_bytes_beyond_the_last_commit_are_cut_off),
        CASE(test_lost_bytes_are_noticed),
        CASE(test_another_source_is_refused),
        CASE(test_two_at_once),
    };
#undef CASE
    at_log_set_level(AT_LOG_WARN);
    at_progress_silence(true);
    scratch_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
