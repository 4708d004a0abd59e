/* SPDX-License-Identifier: Apache-2.0
 * Caches between processes: one fills and the others wait; a filler that is killed or interrupted
 * leaves nothing that hinders the next; the least recently used one goes, but never an open one.
 * Children report by their exit status.
 * ctest: timeout=600 */
#include "caches.h"
#include "scratch.h"

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* Enough to fill for a while: 100 pictures grown to 400x400. */
static const pictures slow = {
    .classes = 2, .train = 45, .test = 5, .height = 24, .width = 24, .channels = 3};
static const at_cache_spec slow_spec = {.frame = {.height = 400, .width = 400}, .threads = 2};

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static bool has_partial(const char *dir)
{
    bool found = false;
    DIR *d = opendir(dir);
    for (struct dirent *entry; d && !found && (entry = readdir(d));)
        found = strstr(entry->d_name, ".partial.") != NULL;
    if (d)
        closedir(d);
    return found;
}

static int open_code(const char *dataset, at_cache_spec spec, const char *dir)
{
    at_error err = {0};
    spec.dir = dir;
    at_cache *c = at_cache_open(dataset, &spec, &err);
    at_cache_close(c);
    return c ? 0 : err.code;
}

/* A child that opens the cache; its exit status is the negated code. */
static pid_t spawn_opener(const char *dataset, const char *dir)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(-open_code(dataset, slow_spec, dir));
    return child;
}

static int status_of(pid_t child)
{
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

/* Opens the cache and writes which file its training samples are in. */
static int tell_inode(const char *dataset, const char *dir, int to)
{
    at_cache_spec spec = slow_spec;
    spec.dir = dir;
    at_cache *c = at_cache_open(dataset, &spec, NULL);
    if (!c)
        return 1;
    ino_t inode = cache_inode(at_cache_path(c), "train.atc");
    at_cache_close(c);
    return write(to, &inode, sizeof inode) != sizeof inode;
}

static void test_one_fills_the_others_wait(void **state)
{
    (void)state;
    enum { CHILDREN = 6 };
    char *dir = scratch_new(), *dataset = pictures_ingest(&slow, dir, "data");
    char *caches = at_path_join(dir, "caches");
    pid_t child[CHILDREN];
    ino_t seen[CHILDREN];
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    for (int i = 0; i < CHILDREN; i++) {
        child[i] = fork();
        assert_true(child[i] >= 0);
        if (child[i] == 0)
            _exit(tell_inode(dataset, caches, ends[1]));
    }
    for (int i = 0; i < CHILDREN; i++) {
        assert_int_equal(status_of(child[i]), 0);
        assert_int_equal(read(ends[0], &seen[i], sizeof seen[i]), sizeof seen[i]);
        assert_int_equal(seen[i], seen[0]); /* all have the same file */
    }
    close(ends[0]);
    close(ends[1]);
    assert_int_equal(scratch_count(caches), 2); /* the cache and its lock */
    free(caches);
    free(dataset);
    scratch_free(dir);
}

/* Builders of one explicit folder, at once, some of them killed: what is there at the end is what
 * one alone makes. */
static void test_builders_at_once_make_one_right_cache(void **state)
{
    (void)state;
    enum { ROUNDS = 6, BUILDERS = 4 };
    static const char *const files[] = {"train.atc", "val.atc", "test.atc", "meta.json"};
    char *dir = scratch_new(), *dataset = pictures_ingest(&slow, dir, "data");
    char *alone = at_path_join(dir, "alone"), *shared = at_path_join(dir, "shared");
    at_cache_spec spec = {.frame = {.height = 100, .width = 90}, .threads = 1};
    at_error err = {0};
    for (int round = 0; round < ROUNDS; round++) {
        pid_t builder[BUILDERS];
        spec.form = round % 2 ? AT_FORM_ENCODED : AT_FORM_UINT8;
        if (round < ROUNDS / 2) /* later it replaces the one of the other form */
            cache_must(at_remove_tree(shared, &err), &err);
        for (int i = 0; i < BUILDERS; i++)
            if ((builder[i] = fork()) == 0)
                _exit(-at_cache_build(dataset, &spec, shared, NULL));
        for (int i = 0; i < round; i++)
            nap();
        assert_int_equal(kill(builder[round % BUILDERS], SIGKILL), 0);
        for (int i = 0; i < BUILDERS; i++) {
            int status = status_of(builder[i]);
            assert_true(i == round % BUILDERS || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
        }
        cache_must(at_cache_build(dataset, &spec, alone, &err), &err);
        for (int i = 0; i < 4; i++) {
            char *a = cache_file_path(alone, files[i]), *b = cache_file_path(shared, files[i]);
            char *bytes[2];
            size_t size[2];
            cache_must(at_file_read(a, 1 << 26, &bytes[0], &size[0], &err), &err);
            cache_must(at_file_read(b, 1 << 26, &bytes[1], &size[1], &err), &err);
            assert_int_equal(size[0], size[1]);
            assert_memory_equal(bytes[0], bytes[1], size[0]);
            for (int k = 0; k < 2; k++)
                free(bytes[k]);
            free(a);
            free(b);
        }
    }
    print_message("%d times %d builders at once, one of them killed: one right cache\n", ROUNDS,
                  BUILDERS);
    free(shared);
    free(alone);
    free(dataset);
    scratch_free(dir);
}

/* Sends the signal while the child fills; returns its status. */
static int stop_filler(const char *dataset, const char *caches, int signal)
{
    pid_t child = spawn_opener(dataset, caches);
    while (!has_partial(caches)) {
        assert_int_equal(waitpid(child, NULL, WNOHANG), 0); /* it cannot be done yet */
        nap();
    }
    assert_int_equal(kill(child, signal), 0);
    return status_of(child);
}

static void test_a_killed_filler_is_replaced(void **state)
{
    (void)state;
    char *dir = scratch_new(), *dataset = pictures_ingest(&slow, dir, "data");
    char *caches = at_path_join(dir, "caches");
    int status = stop_filler(dataset, caches, SIGKILL);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_true(has_partial(caches));
    assert_int_equal(open_code(dataset, slow_spec, caches), 0);
    assert_false(has_partial(caches));
    assert_int_equal(scratch_count(caches), 2);
    free(caches);
    free(dataset);
    scratch_free(dir);
}

static void test_an_interrupted_filler_cleans_up(void **state)
{
    (void)state;
    char *dir = scratch_new(), *dataset = pictures_ingest(&slow, dir, "data");
    char *caches = at_path_join(dir, "caches");
    int status = stop_filler(dataset, caches, SIGINT);
    assert_true(WIFEXITED(status));
    assert_int_equal(-WEXITSTATUS(status), AT_EINTERRUPTED);
    assert_false(has_partial(caches));
    assert_int_equal(scratch_count(caches), 1); /* the lock */
    assert_int_equal(open_code(dataset, slow_spec, caches), 0);
    free(caches);
    free(dataset);
    scratch_free(dir);
}

static void test_who_waits_can_be_interrupted(void **state)
{
    (void)state;
    char *dir = scratch_new(), *dataset = pictures_ingest(&slow, dir, "data");
    char *caches = at_path_join(dir, "caches");
    pid_t filler = spawn_opener(dataset, caches);
    while (!has_partial(caches))
        nap();
    pid_t waiter = spawn_opener(dataset, caches);
    for (int i = 0; i < 20; i++)
        nap();
    assert_int_equal(kill(filler, SIGSTOP), 0); /* so that the lock stays taken */
    int status = 0;
    while (waitpid(waiter, &status, WNOHANG) == 0) {
        kill(waiter, SIGTERM); /* again and again: one may come before it waits */
        nap();
    }
    assert_true(WIFEXITED(status));
    assert_true(-WEXITSTATUS(status) == AT_EINTERRUPTED || WEXITSTATUS(status) == 0);
    assert_int_equal(kill(filler, SIGCONT), 0);
    assert_int_equal(status_of(filler), 0);
    free(caches);
    free(dataset);
    scratch_free(dir);
}

/* ---- eviction ------------------------------------------------------------------------------ */

static const pictures grey = {
    .classes = 2, .train = 20, .test = 2, .height = 8, .width = 8, .channels = 1};

/* So long that the next use is later by the clock of the file system. */
static void nap_a_tick(void)
{
    for (int i = 0; i < 12; i++)
        nap();
}

/* Makes (or opens) the cache of one height under the limit and returns its path. */
static char *use(const char *dataset, const char *caches, int height, uint64_t limit)
{
    at_error err = {0};
    at_cache_spec spec = {
        .dir = caches, .frame = {.height = height, .width = 64}, .limit_bytes = limit};
    at_cache *c = at_cache_open(dataset, &spec, &err);
    if (!c)
        fail_msg("%s", err.message);
    char *path = strdup(at_cache_path(c));
    at_cache_close(c);
    nap_a_tick();
    return path;
}

static uint64_t bytes_of(const char *path)
{
    at_cache *c = cache_must_open(path);
    at_node *n = at_cache_describe(c);
    int64_t bytes = at_node_int(at_node_get(n, "bytes"), 0);
    at_node_free(n);
    at_cache_close(c);
    nap_a_tick();
    return (uint64_t)bytes;
}

static void test_the_least_recently_used_goes(void **state)
{
    (void)state;
    char *dir = scratch_new(), *dataset = pictures_ingest(&grey, dir, "data");
    char *caches = at_path_join(dir, "caches");
    uint64_t plenty = 1 << 30;
    char *a = use(dataset, caches, 40, plenty), *b = use(dataset, caches, 41, plenty);
    uint64_t each = bytes_of(b); /* opens it, so a is used again below */
    free(use(dataset, caches, 40, plenty));
    char *foreign = at_path_join(caches, "somebody's folder");
    at_error err = {0};
    cache_must(at_make_dirs(foreign, &err), &err);

    char *c = use(dataset, caches, 42, 2 * each + each / 2);
    assert_true(at_dir_exists(a));
    assert_false(at_dir_exists(b));
    assert_true(at_dir_exists(c));

    at_cache *open = cache_must_open(a); /* now in use, and older than c */
    nap_a_tick();
    free(use(dataset, caches, 42, plenty));
    char *d = use(dataset, caches, 43, 2 * each + each / 2);
    assert_true(at_dir_exists(a));
    assert_false(at_dir_exists(c));
    cache_check_contents(dataset, open);
    at_cache_close(open);

    free(use(dataset, caches, 44, 1)); /* too large for the limit: made all the same, alone */
    assert_false(at_dir_exists(a));
    assert_false(at_dir_exists(d));
    assert_true(at_dir_exists(foreign));
    free(foreign);
    free(a);
    free(b);
    free(c);
    free(d);
    free(caches);
    free(dataset);
    scratch_free(dir);
}

static void test_dead_fillers_of_others_are_swept(void **state)
{
    (void)state;
    char *dir = scratch_new(), *dataset = pictures_ingest(&grey, dir, "data");
    char *caches = at_path_join(dir, "caches");
    char *dead = at_path_join(caches, "0123456789abcdef-32x32x3-v3.partial.77/deep");
    char *working = at_path_join(caches, "fedcba9876543210-32x32x3-v3.partial.78");
    char *path = at_path_join(caches, ".fedcba9876543210-32x32x3-v3.lock");
    at_error err = {0};
    cache_must(at_make_dirs(dead, &err), &err);
    cache_must(at_make_dirs(working, &err), &err);
    at_lock *lock = at_lock_take(path, true, &err);
    assert_non_null(lock);
    free(use(dataset, caches, 40, 0));
    assert_false(at_dir_exists(dead));
    assert_true(at_dir_exists(working));
    at_lock_release(lock);
    free(path);
    free(working);
    free(dead);
    free(caches);
    free(dataset);
    scratch_free(dir);
}

/* ---- threads ------------------------------------------------------------------------------- */

typedef struct readers {
    at_cache *cache;
    const uint8_t *first; /* where sample 0 lies */
} readers;

static void read_all(void *context, size_t thread)
{
    const readers *r = context;
    size_t n = at_cache_count(r->cache, AT_TRAIN);
    at_reader *reader = at_reader_new(r->cache, NULL);
    assert_non_null(reader);
    for (size_t k = 0; k < n; k++) {
        const uint8_t *pixels;
        int32_t label;
        size_t i = (k * 37 + thread * 11) % n;
        assert_int_equal(at_reader_sample(reader, AT_TRAIN, i, &pixels, &label, NULL), 0);
        assert_true(i || pixels == r->first);
    }
    at_reader_free(reader);
}

static void test_many_threads_read(void **state)
{
    (void)state;
    pictures p = {.classes = 2, .train = 600, .test = 1, .height = 5, .width = 4, .channels = 1};
    char *dir = scratch_new(), *dataset = pictures_ingest(&p, dir, "data");
    at_error err = {0};
    at_pool *pool = at_pool_new(4, &err);
    assert_non_null(pool);
    int32_t label;
    readers r = {.cache = cache_must_make(dataset, dir)};
    at_reader *reader = at_reader_new(r.cache, &err);
    cache_must(at_reader_sample(reader, AT_TRAIN, 0, &r.first, &label, &err), &err);
    at_pool_run(pool, 8, read_all, &r);
    at_pool_free(pool);
    at_reader_free(reader);
    at_cache_close(r.cache);
    free(dataset);
    scratch_free(dir);
}

int main(void)
{
    at_interrupt_install(); /* of the children, too: a signal finds it whenever it comes */
    at_progress_silence(true);
    at_log_set_level(AT_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_fills_the_others_wait),
        cmocka_unit_test(test_builders_at_once_make_one_right_cache),
        cmocka_unit_test(test_a_killed_filler_is_replaced),
        cmocka_unit_test(test_an_interrupted_filler_cleans_up),
        cmocka_unit_test(test_who_waits_can_be_interrupted),
        cmocka_unit_test(test_the_least_recently_used_goes),
        cmocka_unit_test(test_dead_fillers_of_others_are_swept),
        cmocka_unit_test(test_many_threads_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
