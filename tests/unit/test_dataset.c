/* SPDX-License-Identifier: Apache-2.0
 * Reading a data set: order, contents, identity; damage to shards and catalog is noticed and named.
 */
#include "../../datasets/internal.h"
#include "place.h"
#include "scratch.h"
#include "sources.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static at_dataset *open_it(const struct place *p)
{
    at_error err = {0};
    at_dataset *d = at_dataset_open(p->out, &err);
    if (!d)
        fail_msg("%s", err.message);
    return d;
}

static const char *open_must_fail(const struct place *p, int code)
{
    static at_error err;
    err = (at_error){0};
    assert_null(at_dataset_open(p->out, &err));
    assert_int_equal(err.code, code);
    return err.message;
}

/* ---- whole ----------------------------------------------------------------------------------- */

static void test_samples_are_the_files(void **state)
{
    struct place *p = *state;
    at_dataset *d = open_it(p);
    assert_int_equal(at_dataset_count(d, AT_TRAIN), 54);
    assert_int_equal(at_dataset_count(d, AT_VAL), 6);
    assert_int_equal(at_dataset_count(d, AT_TEST), 15);
    assert_int_equal(at_dataset_classes(d), 3);
    assert_string_equal(at_dataset_class_name(d, 2), "class_2");
    assert_null(at_dataset_class_name(d, 3));
    int height, width, channels;
    at_dataset_shape(d, &height, &width, &channels);
    assert_true(height == 6 && width == 8 && channels == 3);
    for (int split = 0; split < AT_SPLITS; split++) {
        const char *before = "";
        for (size_t i = 0; i < at_dataset_count(d, (at_split)split); i++) {
            at_sample s;
            assert_int_equal(at_dataset_sample(d, (at_split)split, i, &s, NULL), 0);
            const char *name = at_dataset_sample_path(d, (at_split)split, i);
            assert_true(strcmp(before, name) < 0);
            before = name;
            char *path = at_path_join(p->source, name), *data;
            size_t size;
            assert_int_equal(at_file_read(path, 1 << 20, &data, &size, NULL), 0);
            assert_int_equal(s.size, size);
            assert_memory_equal(s.bytes, data, size);
            assert_int_equal(s.label, strstr(name, "class_")[6] - '0');
            free(data);
            free(path);
        }
        at_sample s;
        assert_int_equal(
            at_dataset_sample(d, (at_split)split, at_dataset_count(d, (at_split)split), &s, NULL),
            AT_EINPUT);
    }
    at_dataset_close(d);
}

static void test_identity(void **state)
{
    struct place *p = *state;
    char *again = at_path_join(p->dir, "again"), *other = at_path_join(p->dir, "other");
    ingest_must(p->source, again, 0.1); /* other shards, the same content */
    at_dataset *a = open_it(p), *b = at_dataset_open(again, NULL);
    assert_non_null(b);
    assert_int_equal(strlen(at_dataset_hash(a)), 64);
    assert_string_equal(at_dataset_hash(a), at_dataset_hash(b));
    put_picture(p->source, "train/class_0/00000.png", 99999);
    ingest_must(p->source, other, 0.1);
    at_dataset *c = at_dataset_open(other, NULL);
    assert_non_null(c);
    assert_string_not_equal(at_dataset_hash(a), at_dataset_hash(c));
    at_dataset_close(a);
    at_dataset_close(b);
    at_dataset_close(c);
    free(again);
    free(other);
}

/* The format's promise: without the catalog, by the index and by the records alone. */
static void test_a_shard_reads_without_its_catalog(void **state)
{
    struct place *p = *state;
    at_error err = {0};
    char *folder = at_path_join(p->out, "shards");
    size_t records = 0;
    for (int64_t n = 0; n < 3; n++) {
        at_shard shard;
        assert_int_equal(at_shard_map(folder, n, &shard, &err), 0);
        const uint8_t *footer = shard.data + shard.size - 32;
        assert_memory_equal(footer, "ATOLLEND", 8);
        uint64_t index = at_get_u64(footer + 8), count = at_get_u64(footer + 16), at = 32;
        assert_int_equal(index + 56 * count + 32, shard.size);
        assert_int_equal(at_crc32c(0, shard.data + index, 56 * count), at_get_u32(footer + 24));
        for (uint64_t i = 0; i < count; i++, records++) {
            const uint8_t *entry = shard.data + index + 56 * i, *record = shard.data + at;
            uint64_t offset = at_get_u64(entry + 32), bytes = at_get_u64(entry + 40);
            assert_memory_equal(record, "ATBR", 4);
            assert_int_equal(offset, at + 48);
            assert_int_equal(bytes, at_get_u64(record + 8));
            assert_memory_equal(entry, record + 16, 32);
            assert_int_equal(at_crc32c(0, shard.data + offset, bytes), at_get_u32(entry + 48));
            char hash[65], hex[65] = "";
            at_content_hash(shard.data + offset, bytes, hash);
            for (int k = 0; k < 32; k++)
                snprintf(hex + 2 * k, 3, "%02x", (unsigned)entry[k]);
            assert_string_equal(hash, hex);
            at = (offset + bytes + 7) / 8 * 8;
        }
        assert_int_equal(at, index);
        at_shard_unmap(&shard);
    }
    assert_true(records > 30);
    free(folder);
}

struct reader {
    const at_dataset *d;
    size_t bad;
};

static void *read_all(void *context)
{
    struct reader *r = context;
    at_sample s;
    for (int round = 0; round < 50; round++)
        for (size_t i = 0; i < at_dataset_count(r->d, AT_TRAIN); i++)
            r->bad += at_dataset_sample(r->d, AT_TRAIN, i, &s, NULL) != 0;
    return NULL;
}

static void test_many_threads_read(void **state)
{
    struct place *p = *state;
    at_dataset *d = open_it(p);
    pthread_t threads[4];
    struct reader readers[4];
    for (int i = 0; i < 4; i++) {
        readers[i] = (struct reader){d, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, read_all, &readers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(readers[i].bad, 0);
    }
    at_dataset_close(d);
}

/* ---- damaged --------------------------------------------------------------------------------- */

static char *shard_path(const struct place *p, int n)
{
    return at_format("%s/shards/%05d.atb", p->out, n);
}

static void test_every_flipped_byte_of_a_content_is_noticed(void **state)
{
    struct place *p = *state;
    char *path = shard_path(p, 1), *data;
    size_t size, cases = 0;
    assert_int_equal(at_file_read(path, 1 << 20, &data, &size, NULL), 0);
    uint64_t first = 32 + 48, bytes = at_get_u64((uint8_t *)data + 32 + 8);
    for (uint64_t at = first; at < first + bytes; at += 7, cases++) {
        data[at] ^= 0x10;
        FILE *f = fopen(path, "r+b");
        assert_non_null(f);
        assert_int_equal(fwrite(data, 1, size, f), size);
        fclose(f);
        data[at] ^= 0x10;
        at_dataset *d = open_it(p);
        size_t bad = 0;
        for (int split = 0; split < AT_SPLITS; split++)
            for (size_t i = 0; i < at_dataset_count(d, (at_split)split); i++) {
                at_sample s;
                at_error err = {0};
                if (at_dataset_sample(d, (at_split)split, i, &s, &err)) {
                    assert_int_equal(err.code, AT_EINPUT);
                    assert_non_null(strstr(err.message, "00001.atb"));
                    bad++;
                }
            }
        assert_int_equal(bad, 1);
        at_dataset_close(d);
    }
    print_message("%zu flipped bytes, all noticed\n", cases);
    free(data);
    free(path);
}

static void test_shards_cut_off_missing_or_foreign(void **state)
{
    struct place *p = *state;
    char *path = shard_path(p, 1);
    at_error err = {0};
    char *data;
    size_t size;
    assert_int_equal(at_file_read(path, 1 << 20, &data, &size, &err), 0);
    assert_int_equal(truncate(path, 4000), 0);
    assert_non_null(strstr(open_must_fail(p, AT_EINPUT), "00001.atb: "));
    assert_int_equal(truncate(path, 10), 0);
    assert_non_null(strstr(open_must_fail(p, AT_EINPUT), "are no shard"));
    data[12] = 7; /* another shard's number */
    put_file(p->out, "shards/00001.atb", data, size);
    assert_non_null(strstr(open_must_fail(p, AT_EINPUT), "not that of shard 1"));
    assert_int_equal(unlink(path), 0);
    assert_non_null(strstr(open_must_fail(p, AT_ENOENT), "00001.atb"));
    free(data);
    free(path);
}

static void change(const struct place *p, const char *sql)
{
    char *path = at_path_join(p->out, "catalog.db");
    at_error err = {0};
    at_db *db = at_db_open(path, AT_DB_WRITE, &err);
    if (!db || at_db_exec(db, sql, &err))
        fail_msg("%s", err.message);
    at_db_close(db);
    free(path);
}

static void test_catalogs_that_make_no_sense(void **state)
{
    struct place *p = *state;
    static const struct {
        const char *sql, *message;
    } cases[] = {
        {"UPDATE meta SET value = '3' WHERE key = 'format'", "its format is 3"},
        {"UPDATE meta SET value = '1' WHERE key = 'format'; UPDATE images SET label = 3 WHERE id = "
         "5",
         "out of range"},
        {"UPDATE images SET label = 0, split = 'dev' WHERE id = 5", "\"dev\" is no split"},
        {"UPDATE images SET split = 'test' WHERE id = 5; UPDATE blobs SET offset = -1 WHERE id = 3",
         "out of range"},
        {"UPDATE blobs SET offset = 1000000 WHERE id = 3", "beyond its end"},
        {"UPDATE classes SET label = 9 WHERE label = 1", "are not 0, 1, 2"},
        {"DELETE FROM meta WHERE key = 'dataset_hash'", "not that of a complete data set"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        change(p, cases[i].sql);
        const char *message = open_must_fail(p, AT_EINPUT);
        if (!strstr(message, cases[i].message))
            fail_msg("case %zu: %s", i, message);
    }
}

static void test_no_data_set(void **state)
{
    struct place *p = *state;
    char *catalog = at_path_join(p->out, "catalog.db");
    put_text(p->out, "catalog.db",
             "this is no database, it only has the name of one, and some more bytes");
    open_must_fail(p, AT_EINPUT);
    assert_int_equal(unlink(catalog), 0);
    assert_non_null(strstr(open_must_fail(p, AT_ENOENT), "is no data set"));
    free(catalog);
}

static void test_splits_by_name(void **state)
{
    (void)state;
    at_split split;
    at_error err = {0};
    for (int i = 0; i < AT_SPLITS; i++) {
        assert_int_equal(at_split_parse(at_split_name((at_split)i), &split, NULL), 0);
        assert_int_equal(split, i);
    }
    assert_int_equal(at_split_parse("dev", &split, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, "\"dev\""));
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, place_set_up_dataset, place_tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_samples_are_the_files),
        CASE(test_identity),
        CASE(test_a_shard_reads_without_its_catalog),
        CASE(test_many_threads_read),
        CASE(test_every_flipped_byte_of_a_content_is_noticed),
        CASE(test_shards_cut_off_missing_or_foreign),
        CASE(test_catalogs_that_make_no_sense),
        CASE(test_no_data_set),
        cmocka_unit_test(test_splits_by_name),
    };
#undef CASE
    at_log_set_level(AT_LOG_WARN);
    at_progress_silence(true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
