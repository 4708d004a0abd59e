/* SPDX-License-Identifier: Apache-2.0
 * Getting well-known data sets: from local files and folders, from a server; what is wrong leaves
 * nothing that looks complete. */
#include "../../datasets/internal.h"
#include "http_server.h"
#include "scratch.h"
#include "sources.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct place {
    char *dir, *from, *out, *label, *dataset;
};

static int set_up(void **state)
{
    struct place *p = malloc(sizeof *p);
    assert_non_null(p);
    p->dir = scratch_new();
    p->from = at_path_join(p->dir, "from");
    p->out = at_path_join(p->dir, "out");
    p->label = at_path_join(p->out, "dataset.yaml");
    p->dataset = at_path_join(p->dir, "dataset");
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    struct place *p = *state;
    free(p->from);
    free(p->out);
    free(p->label);
    free(p->dataset);
    scratch_free(p->dir);
    free(p);
    return 0;
}

static void get_must(const char *name, const char *from, const char *out)
{
    at_error err = {0};
    if (at_dataset_get(name, from, NULL, out, &err))
        fail_msg("%s", err.message);
}

static const char *get_must_fail(const char *name, const char *from, const char *url,
                                 const char *out, int code)
{
    static at_error err;
    err = (at_error){0};
    int got = at_dataset_get(name, from, url, out, &err);
    if (got != code)
        fail_msg("%s: %s", at_error_name(got), err.message);
    return err.message;
}

static void test_the_table_makes_sense(void **state)
{
    (void)state;
    size_t n;
    const at_known_dataset *known = at_known_datasets(&n);
    assert_int_equal(n, 4);
    for (size_t i = 0; i < n; i++) {
        uint64_t bytes = 0;
        assert_int_equal(strncmp(known[i].url, "http", 4), 0);
        assert_int_equal(known[i].url[strlen(known[i].url) - 1], '/');
        for (size_t f = 0; f < 4 && known[i].files[f].name; f++) {
            assert_int_equal(strspn(known[i].files[f].sha256, "0123456789abcdef"), 64);
            bytes += known[i].files[f].bytes;
        }
        assert_int_equal(bytes, known[i].bytes);
    }
}

static void test_from_a_folder(void **state)
{
    struct place *p = *state;
    put_idx(p->from, "train", &(idx_spec){.images = 9, .labels = 9, .gzip = true});
    put_idx(p->from, "t10k", &(idx_spec){.images = 6, .labels = 6, .gzip = true});
    get_must("mnist", p->from, p->out);
    at_node *label = at_yaml_read(p->label, NULL);
    assert_string_equal(at_node_string(at_node_get(label, "name"), ""), "mnist");
    assert_string_equal(at_node_string(at_node_get(label, "origin"), ""), p->from);
    const at_node *files = at_node_get(label, "files");
    assert_int_equal(at_node_count(files), 4);
    assert_int_equal(strlen(at_node_text(at_node_get(at_node_at(files, 0), "sha256"))), 64);
    at_node_free(label);
    assert_int_equal(ingest_must(p->out, p->dataset, 0).images, 15);
    get_must("mnist", p->from, p->out); /* again */
    assert_non_null(
        strstr(get_must_fail("cifar10", p->from, NULL, p->out, AT_EINPUT), "holds mnist from"));
    char *other = at_path_join(p->dir, "other");
    put_idx(other, "train", &(idx_spec){.images = 9, .labels = 9});
    get_must_fail("mnist", other, NULL, p->out, AT_EINPUT);
    assert_non_null(
        strstr(get_must_fail("mnist", p->from, NULL, p->from, AT_EINPUT), "is the source already"));
    assert_int_equal(scratch_count(p->from), 4);
    free(other);
    assert_int_equal(scratch_count(p->dir), 4);
}

static void test_from_a_tar(void **state)
{
    struct place *p = *state;
    put_pictures(p->from, "train", 2, 20, 0);
    put_pictures(p->from, "test", 2, 5, 100);
    put_tar(p->dir, "from", "pictures.tar.gz", true, false);
    char *tar = at_path_join(p->dir, "pictures.tar.gz");
    get_must("cifar10", tar, p->out);
    assert_int_equal(scratch_count(p->out), 2); /* the tar and its label */
    assert_int_equal(ingest_must(p->out, p->dataset, 0).images, 50);
    free(tar);
}

static void test_a_folder_of_pictures(void **state)
{
    struct place *p = *state;
    put_pictures(p->from, "", 2, 20, 0);
    get_must("cifar100", p->from, p->out);
    at_ingest_result r = ingest_must(p->out, p->dataset, 0);
    assert_int_equal(r.images, 40);
    assert_int_equal(r.errors, 0); /* the label is no image, and no error */
}

static void test_what_is_broken_leaves_nothing(void **state)
{
    struct place *p = *state;
    put_pictures(p->from, "train", 2, 40, 0);
    put_tar(p->dir, "from", "pictures.tar", false, false);
    char *tar = at_path_join(p->dir, "pictures.tar"), *nothing = at_path_join(p->dir, "nothing");
    assert_int_equal(truncate(tar, 30000), 0);
    assert_non_null(
        strstr(get_must_fail("cifar10", tar, NULL, p->out, AT_EINPUT), "pictures.tar: at byte"));
    assert_non_null(strstr(get_must_fail("cifar10", nothing, NULL, p->out, AT_ENOENT), nothing));
    put_text(p->dir, "empty/notes.txt", "no pictures");
    char *empty = at_path_join(p->dir, "empty");
    assert_non_null(strstr(get_must_fail("cifar10", empty, NULL, p->out, AT_EINPUT),
                           "no file in a class folder"));
    assert_false(at_dir_exists(p->out));
    free(tar);
    free(nothing);
    free(empty);
}

static void test_an_unknown_name(void **state)
{
    struct place *p = *state;
    assert_non_null(strstr(get_must_fail("fashion-mnits", NULL, NULL, p->out, AT_EINPUT),
                           "\"fashion-mnist\"?"));
    assert_false(at_dir_exists(p->out));
}

static void test_other_files_are_not_mixed_in(void **state)
{
    struct place *p = *state;
    put_pictures(p->from, "", 2, 2, 0);
    put_text(p->out, "thesis.tex", "precious");
    assert_non_null(
        strstr(get_must_fail("cifar10", p->from, NULL, p->out, AT_EINPUT), "thesis.tex"));
    assert_int_equal(scratch_count(p->out), 1);
}

static void test_from_a_server(void **state)
{
    struct place *p = *state;
    put_text(p->dir, "cifar-10-binary.tar.gz", "not the real one");
    http_server *s = http_server_start(p->dir, &(http_habits){0});
    char *url = http_server_url(s, ""), *away = http_server_url(s, "elsewhere/");
    assert_non_null(
        strstr(get_must_fail("cifar10", NULL, url, p->out, AT_EINPUT),
               "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd belongs there"));
    assert_non_null(strstr(get_must_fail("cifar10", NULL, away, p->out, AT_EIO), "--from PATH"));
    assert_false(at_file_exists(p->label));
    http_server_stop(s);
    free(url);
    free(away);
}

/* Debian's files are the official ones, but that gzip was told to leave out the name and another time was set:
 * with these two put back they must have the pinned SHA-256. So a download can be shown to its end. */
static bool restore_official_files(const char *dir, const at_known_dataset *set)
{
    static const uint32_t times[4] = {1504176606, 1504176606, 1504176627, 1504176627};
    for (int i = 0; i < 4; i++) {
        char *path = at_path_join(set->system_path, set->files[i].name), *data;
        size_t size, name_length = strlen(set->files[i].name) - 3; /* without .gz */
        int code = at_file_read(path, 1 << 30, &data, &size, NULL);
        free(path);
        if (code < 0)
            return false;
        at_text official = {0};
        uint8_t header[10] = {0x1F, 0x8B, 8, 8, 0, 0, 0, 0, 0, 3}; /* 8: a name follows */
        at_put_u32(header + 4, times[i]);
        at_text_append(&official, header, sizeof header);
        at_text_append(&official, set->files[i].name, name_length);
        at_text_append(&official, "", 1);
        at_text_append(&official, data + 10, size - 10);
        put_file(dir, set->files[i].name, official.data, official.length);
        assert_int_equal(official.length, set->files[i].bytes);
        at_text_fini(&official);
        free(data);
    }
    return true;
}

static void test_a_whole_data_set_from_a_server(void **state)
{
    struct place *p = *state;
    size_t n;
    const at_known_dataset *fashion = &at_known_datasets(&n)[0];
    if (!at_dir_exists(fashion->system_path) || !restore_official_files(p->from, fashion))
        skip();
    http_server *s = http_server_start(p->from, &(http_habits){.break_after = 10000000});
    char *url = http_server_url(s, "");
    at_error err = {0};
    if (at_dataset_get("fashion-mnist", NULL, url, p->out, &err))
        fail_msg("%s", err.message);
    int requests, ranges;
    size_t bytes;
    http_server_counts(s, &requests, &ranges, &bytes);
    http_server_stop(s);
    assert_int_equal(bytes, fashion->bytes);
    assert_int_equal(requests, 6); /* the largest file broke off twice */
    assert_int_equal(ranges, 2);
    assert_int_equal(scratch_count(p->out), 5);
    assert_int_equal(ingest_must(p->out, p->dataset, 0).images, 70000);
    assert_string_equal(query(p->dataset, "SELECT name FROM classes WHERE label = 9"),
                        "Ankle boot");
    free(url);
}

static void test_debians_package(void **state)
{
    struct place *p = *state;
    size_t n;
    const char *system_path = at_known_datasets(&n)[0].system_path;
    if (!at_dir_exists(system_path))
        skip();
    get_must("fashion-mnist", NULL, p->out);
    at_node *label = at_yaml_read(p->label, NULL);
    assert_string_equal(at_node_string(at_node_get(label, "origin"), ""), system_path);
    at_node_free(label);
    assert_int_equal(scratch_count(p->out), 5);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_table_makes_sense),
        CASE(test_from_a_folder),
        CASE(test_from_a_tar),
        CASE(test_a_folder_of_pictures),
        CASE(test_what_is_broken_leaves_nothing),
        CASE(test_an_unknown_name),
        CASE(test_other_files_are_not_mixed_in),
        CASE(test_from_a_server),
        CASE(test_a_whole_data_set_from_a_server),
        CASE(test_debians_package),
    };
#undef CASE
    at_log_set_level(AT_LOG_WARN);
    at_progress_silence(true);
    unsetenv("http_proxy"); /* the server is here */
    unsetenv("all_proxy");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
