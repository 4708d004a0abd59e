/* SPDX-License-Identifier: Apache-2.0
 * Where caches come from and go to: made once whoever asks, made again when broken, swept after the
 * killed, evicted when there are too many, and never in the place of anything else. */
#include "../../cache/internal.h"

#include "caches.h"
#include "damage.h"
#include "scratch.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- caches under the common folder -------------------------------------------------------- */

static void test_is_made_once_and_named_after_its_contents(void **state)
{
    (void)state;
    char *dir = scratch_new(), *dataset = pictures_ingest(&cache_small, dir, "data");
    char *caches = at_path_join(dir, "deep/caches");
    at_error err = {0};
    at_dataset *d = at_dataset_open(dataset, &err);
    char *expected = at_format("%s/%.16s-9x5x3-v3", caches, at_dataset_hash(d));
    at_dataset_close(d);
    at_cache *c = cache_must_make(dataset, caches);
    assert_string_equal(at_cache_path(c), expected);
    ino_t first = cache_inode(expected, "train.atc");
    at_cache *again = cache_must_make(dataset, caches);
    assert_int_equal(cache_inode(expected, "train.atc"), first);
    cache_check_contents(dataset, again);
    at_cache_close(c);
    at_cache_close(again);
    assert_int_equal(scratch_count(caches), 2); /* the cache and its lock */
    free(expected);
    free(caches);
    free(dataset);
    scratch_free(dir);
}

static void test_a_broken_one_is_made_again(void **state)
{
    (void)state;
    char *dir = scratch_new(), *dataset = pictures_ingest(&cache_small, dir, "data");
    char *caches = at_path_join(dir, "caches");
    at_cache *c = cache_must_make(dataset, caches);
    char *path = strdup(at_cache_path(c));
    at_cache_close(c);
    for (int i = 0; i < 4; i++) {
        char *file = cache_file_path(path, i == 3 ? "meta.json" : "val.atc");
        if (i == 0)
            damage_bits(path, "test.atc", 20, 1);
        else if (i == 1)
            assert_int_equal(truncate(file, 5000), 0);
        else
            assert_int_equal(unlink(file), 0);
        c = cache_must_make(dataset, caches);
        cache_check_contents(dataset, c);
        at_cache_close(c);
        free(file);
    }
    assert_int_equal(scratch_count(caches), 2);
    free(path);
    free(caches);
    free(dataset);
    scratch_free(dir);
}

static void test_leftovers_of_the_killed_go(void **state)
{
    (void)state;
    char *dir = scratch_new(), *dataset = pictures_ingest(&cache_small, dir, "data");
    char *caches = at_path_join(dir, "caches");
    at_cache *c = cache_must_make(dataset, caches);
    char *path = strdup(at_cache_path(c));
    at_cache_close(c);
    at_error err = {0};
    const char *left[] = {"partial.999999", "partial.3.old", "partial.notes"};
    for (int i = 0; i < 3; i++) {
        char *folder = at_format("%s.%s/deep", path, left[i]);
        cache_must(at_make_dirs(folder, &err), &err);
        free(folder);
    }
    cache_must(at_remove_tree(path, &err), &err);
    at_cache_close(cache_must_make(dataset, caches));
    char *not_ours = at_format("%s.partial.notes", path);
    assert_true(at_dir_exists(not_ours));
    assert_int_equal(scratch_count(caches), 3);
    free(not_ours);
    free(path);
    free(caches);
    free(dataset);
    scratch_free(dir);
}

/* ---- where they lie ------------------------------------------------------------------------ */

/* Sets variables, NULL: none, as long as a test runs. */
enum { VARIABLES = 5 };
static const char *const variables[VARIABLES] = {"ATOLL_CACHE_DIR", "XDG_CACHE_HOME", "HOME",
                                                 "SLURM_TMPDIR", "TMPDIR"};
typedef struct environment {
    char *kept[VARIABLES];
} environment;

static void set(const char *name, const char *value)
{
    if (value)
        setenv(name, value, 1);
    else
        unsetenv(name);
}

static environment environment_clear(void)
{
    environment e = {{0}};
    for (int i = 0; i < VARIABLES; i++) {
        const char *value = getenv(variables[i]);
        e.kept[i] = value ? strdup(value) : NULL;
        unsetenv(variables[i]);
    }
    return e;
}

static void environment_restore(environment *e)
{
    for (int i = 0; i < VARIABLES; i++) {
        set(variables[i], e->kept[i]);
        free(e->kept[i]);
    }
}

static bool net(const char *path) /* a folder of another machine, for the tests */
{
    return strstr(path, "/net") != NULL;
}

static void test_the_folder_is_chosen(void **state)
{
    (void)state;
    /* The folders net and tmp are there, the others are not. */
    static const struct {
        const char *told, *own, *xdg, *home, *slurm, *tmp, *expected;
    } cases[] = {
        {"told", "own", "xdg", "home", "tmp", "tmp", "told"},
        {NULL, "own", "xdg", "home", "tmp", "tmp", "own"},
        {NULL, NULL, "xdg", "home", "tmp", "tmp", "xdg/atoll"},
        {NULL, NULL, NULL, "home", "tmp", "tmp", "home/.cache/atoll"},
        {NULL, "net/own", NULL, "home", "tmp", "tmp", "net/own"}, /* who says so gets it */
        {"net/told", NULL, NULL, "home", "tmp", "tmp", "net/told"},
        {NULL, NULL, NULL, "net/home", "tmp", NULL, "tmp/atoll"},
        {NULL, NULL, "net/xdg", "home", NULL, "tmp", "tmp/atoll"},
        {NULL, NULL, NULL, "net/home", "net", "tmp", "tmp/atoll"},
        {NULL, NULL, NULL, "net/home", "missing", "tmp", "tmp/atoll"},
        {NULL, NULL, NULL, "net/home", "net", "missing", "net/home/.cache/atoll"},
        {NULL, NULL, NULL, "net/home", NULL, NULL, "net/home/.cache/atoll"},
    };
    char *dir = scratch_new();
    environment kept = environment_clear();
    at_error err = {0};
    for (int i = 0; i < 2; i++) {
        char *path = at_path_join(dir, i ? "net" : "tmp");
        cache_must(at_make_dirs(path, &err), &err);
        free(path);
    }
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *const values[] = {cases[i].own, cases[i].xdg, cases[i].home, cases[i].slurm,
                                      cases[i].tmp};
        for (int k = 0; k < VARIABLES; k++) {
            char *path = values[k] ? at_path_join(dir, values[k]) : NULL;
            set(variables[k], path);
            free(path);
        }
        char *told = cases[i].told ? at_path_join(dir, cases[i].told) : NULL;
        char *expected = at_path_join(dir, cases[i].expected);
        char *got = at_cache_folder(&(at_cache_spec){.dir = told}, net, &err);
        assert_string_equal(got, expected);
        free(got);
        free(expected);
        free(told);
    }
    for (int k = 0; k < VARIABLES; k++)
        unsetenv(variables[k]);
    setenv("XDG_CACHE_HOME", "not/absolute", 1);
    assert_null(at_cache_folder(&(at_cache_spec){0}, net, &err));
    assert_int_equal(err.code, AT_EUSAGE);
    assert_non_null(strstr(err.message, "ATOLL_CACHE_DIR"));
    environment_restore(&kept);
    scratch_free(dir);
}

static void test_local_disks_are_local(void **state)
{
    (void)state;
    char *dir = scratch_new(), *missing = at_path_join(dir, "not/there/yet");
    assert_false(at_folder_is_remote(dir));
    assert_false(at_folder_is_remote(missing));
    assert_false(at_folder_is_remote("/proc"));
    assert_false(at_folder_is_remote("here"));
    free(missing);
    scratch_free(dir);
}

static void test_the_environment_names_the_folder(void **state)
{
    (void)state;
    char *dir = scratch_new(), *dataset = pictures_ingest(&cache_small, dir, "data");
    char *own = at_path_join(dir, "own"), *prefix = at_path_join(dir, "own/");
    environment kept = environment_clear();
    setenv("ATOLL_CACHE_DIR", own, 1);
    at_cache *c = cache_must_make(dataset, NULL);
    assert_int_equal(strncmp(at_cache_path(c), prefix, strlen(prefix)), 0);
    at_cache_close(c);
    environment_restore(&kept);
    free(prefix);
    free(own);
    free(dataset);
    scratch_free(dir);
}

/* ---- explicit folders ---------------------------------------------------------------------- */

static void test_build_replaces_caches_only(void **state)
{
    (void)state;
    char *dir = scratch_new(), *path = cache_build_small(dir), *dataset = at_path_join(dir, "data");
    at_error err = {0};
    ino_t first = cache_inode(path, "train.atc");
    at_cache_spec spec = {0};
    cache_must(at_cache_build(dataset, &spec, path, &err), &err);
    assert_int_equal(cache_inode(path, "train.atc"), first); /* it was there */
    spec.frame.height = 4;
    cache_must(at_cache_build(dataset, &spec, path, &err), &err);
    assert_int_not_equal(cache_inode(path, "train.atc"), first);
    at_cache *c = cache_must_open(path);
    cache_check_contents(dataset, c);
    at_cache_close(c);

    char *thesis = cache_file_path(path, "thesis.tex");
    cache_must(at_file_write(thesis, "x", 1, &err), &err);
    spec.frame.height = 5;
    assert_int_equal(at_cache_build(dataset, &spec, path, &err), AT_EINPUT);
    assert_true(at_file_exists(thesis));
    assert_int_equal(at_cache_build(dataset, &spec, dir, &err), AT_EINPUT);
    assert_int_equal(at_cache_build(path, &spec, path, &err) < 0, 1); /* not a data set */
    free(thesis);
    free(dataset);
    free(path);
    scratch_free(dir);
}

static void test_a_damaged_data_set_leaves_nothing(void **state)
{
    (void)state;
    char *dir = scratch_new(), *dataset = pictures_ingest(&cache_small, dir, "data");
    char *shards = at_path_join(dataset, "shards"), *caches = at_path_join(dir, "caches");
    char *out = at_path_join(caches, "cache");
    struct stat st;
    char *shard = cache_file_path(shards, "00000.atb");
    assert_int_equal(stat(shard, &st), 0);
    damage_bits(shards, "00000.atb", st.st_size / 2, 0xff);
    at_error err = {0};
    assert_int_equal(at_cache_build(dataset, &(at_cache_spec){0}, out, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, ".atb"));
    assert_null(at_cache_open(dataset, &(at_cache_spec){.dir = caches}, &err));
    assert_int_equal(err.code, AT_EINPUT);
    assert_int_equal(scratch_count(caches), 2); /* the two locks */
    free(shard);
    free(out);
    free(caches);
    free(shards);
    free(dataset);
    scratch_free(dir);
}

static void test_bad_sizes_are_refused(void **state)
{
    (void)state;
    static const at_cache_spec bad[] = {{.frame = {.height = -1}},  {.frame = {.width = 20000}},
                                        {.frame = {.channels = 2}}, {.frame = {.channels = 4}},
                                        {.form = AT_FORMS},         {.frame = {.fit = AT_FITS}}};
    char *dir = scratch_new(), *dataset = pictures_ingest(&cache_small, dir, "data");
    char *out = at_path_join(dir, "cache");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        at_error err = {0};
        assert_true(at_cache_build(dataset, &bad[i], out, &err) < 0);
        assert_true(err.code == AT_EUSAGE || err.code == AT_EINPUT);
        assert_false(at_dir_exists(out));
    }
    free(out);
    free(dataset);
    scratch_free(dir);
}

int main(void)
{
    at_progress_silence(true);
    at_log_set_level(AT_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_is_made_once_and_named_after_its_contents),
        cmocka_unit_test(test_a_broken_one_is_made_again),
        cmocka_unit_test(test_leftovers_of_the_killed_go),
        cmocka_unit_test(test_the_folder_is_chosen),
        cmocka_unit_test(test_local_disks_are_local),
        cmocka_unit_test(test_the_environment_names_the_folder),
        cmocka_unit_test(test_build_replaces_caches_only),
        cmocka_unit_test(test_a_damaged_data_set_leaves_nothing),
        cmocka_unit_test(test_bad_sizes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
