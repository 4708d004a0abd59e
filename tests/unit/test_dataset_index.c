/* SPDX-License-Identifier: Apache-2.0
 * images.idx: the same data set with and without it, and never that of another catalog. */
#include "../../datasets/rows.h"

#include "place.h"
#include "scratch.h"
#include "sources.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static int set_up(void **state)
{
    place_set_up(state);
    struct place *p = *state;
    put_pictures(p->source, "train", 3, 9, 1);
    put_pictures(p->source, "test", 3, 4, 100);
    ingest_must(p->source, p->out, 0.3);
    return place_name_file(p, "out/images.idx");
}

/* All that a data set tells of its images; malloc'd. */
static char *told(const struct place *p)
{
    at_error err = {0};
    at_text text = {0};
    at_dataset *d = at_dataset_open(p->out, &err);
    if (!d)
        fail_msg("%s", err.message);
    for (int split = 0; split < AT_SPLITS; split++)
        for (size_t i = 0; i < at_dataset_count(d, (at_split)split); i++) {
            at_sample s;
            char hash[65];
            if (at_dataset_sample(d, (at_split)split, i, &s, &err))
                fail_msg("%s", err.message);
            at_content_hash(s.bytes, s.size, hash);
            at_text_add(&text, "%d %lld %d %s %s\n", split, (long long)s.image_id, s.label, hash,
                        at_dataset_sample_path(d, (at_split)split, i));
        }
    at_dataset_close(d);
    return text.data;
}

static bool is_used(const struct place *p)
{
    at_index index;
    char hash[65];
    snprintf(hash, sizeof hash, "%s",
             query(p->out, "SELECT value FROM meta WHERE key = 'dataset_hash'"));
    bool used = at_index_map(p->out, hash, &index);
    at_index_fini(&index);
    return used;
}

static void assert_told(const struct place *p, const char *expected)
{
    char *now = told(p);
    assert_string_equal(now, expected);
    free(now);
}

static void test_the_same_with_and_without(void **state)
{
    struct place *p = *state;
    assert_true(is_used(p));
    char *with = told(p);
    assert_int_equal(unlink(p->file), 0);
    assert_false(is_used(p));
    assert_told(p, with);
    at_dataset_write_index(p->out, NULL);
    assert_true(is_used(p));
    assert_told(p, with);
    free(with);
}

/* Whoever changes the catalog by another client finds the change. */
static void test_a_changed_catalog_is_believed(void **state)
{
    struct place *p = *state;
    at_error err = {0};
    char *before = told(p), *catalog = at_path_join(p->out, "catalog.db");
    at_db *db = at_db_open(catalog, AT_DB_WRITE, &err);
    assert_non_null(db);
    assert_int_equal(at_db_exec(db, "UPDATE images SET label = 2 WHERE label = 0", &err), 0);
    assert_false(is_used(p)); /* while it is open for writing, and after */
    at_db_close(db);
    assert_false(is_used(p));
    char *after = told(p);
    assert_string_not_equal(before, after);
    free(before);
    free(after);
    free(catalog);
}

static void test_damage_is_noticed(void **state)
{
    struct place *p = *state;
    char *data = NULL, *expected = told(p);
    size_t bytes, cases = 0;
    at_error err = {0};
    at_rng rng = at_rng_stream(1, "index", 0);
    at_log_set_level(AT_LOG_ERROR);
    assert_int_equal(at_file_read(p->file, 1 << 20, &data, &bytes, &err), 0);
    for (size_t i = 0; i < 1000; i++, cases++) {
        size_t at = (size_t)at_rng_below(&rng, bytes), cut = i < 700 ? bytes : at;
        char bit = (char)(1 << at_rng_below(&rng, 8));
        data[at] = (char)(data[at] ^ bit);
        assert_int_equal(at_file_write(p->file, data, cut, &err), 0);
        data[at] = (char)(data[at] ^ bit);
        if (is_used(p))
            fail_msg("byte %zu of %zu was changed, and nobody noticed", at, cut);
        if (i % 50 == 0)
            assert_told(p, expected);
    }
    assert_int_equal(at_file_write(p->file, data, bytes, &err), 0);
    assert_true(is_used(p));
    at_log_set_level(AT_LOG_INFO);
    free(data);
    free(expected);
    print_message("%zu damaged indexes, all noticed\n", cases);
}

static void test_an_append_makes_it_anew(void **state)
{
    struct place *p = *state;
    at_error err = {0};
    char *more = at_path_join(p->dir, "more");
    for (int k = 0; k < 3; k++) {
        char name[60];
        snprintf(name, sizeof name, "train/class_%d/new.png", k);
        put_picture(more, name, (uint64_t)(700 + k));
    }
    at_ingest_options o = {.source = more, .out = p->out, .append = true};
    char *old = told(p);
    int code = at_ingest(&o, NULL, &err);
    if (code)
        fail_msg("%s", err.message);
    assert_true(is_used(p));
    char *now = told(p);
    assert_true(strlen(now) > strlen(old));
    free(old);
    free(now);
    free(more);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_same_with_and_without, set_up, place_tear_down),
        cmocka_unit_test_setup_teardown(test_a_changed_catalog_is_believed, set_up,
                                        place_tear_down),
        cmocka_unit_test_setup_teardown(test_damage_is_noticed, set_up, place_tear_down),
        cmocka_unit_test_setup_teardown(test_an_append_makes_it_anew, set_up, place_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
