/* SPDX-License-Identifier: Apache-2.0
 * CIFAR-10 and CIFAR-100 binary as sources, in folders and archives, whole or broken. */
#include "place.h"
#include "scratch.h"
#include "sources.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void check_cifar(const struct place *p, const char *names)
{
    place_expect(p, "SELECT count(*) FROM images WHERE split = 'train'", "30");
    place_expect(p, "SELECT count(*) FROM images WHERE split = 'test'", "10");
    place_expect(p, "SELECT group_concat(name) FROM (SELECT name FROM classes ORDER BY label)",
                 names);
    place_expect(p, "SELECT label FROM images WHERE path = 'train/data_batch_2/00007'", "7");
    int32_t label;
    at_image image = place_pixels(p->out, AT_TRAIN, 0, &label);
    assert_int_equal(label, 0);
    at_rng rng = at_rng_stream(1, "cifar", 0);
    for (int plane = 0; plane < 3; plane++)
        for (int i = 0; i < 1024; i++)
            assert_int_equal(image.pixels[3 * i + plane], (uint8_t)at_rng_below(&rng, 256));
    at_image_fini(&image);
}

static void put_cifar10(const char *dir)
{
    put_cifar(dir, "data_batch_1.bin", 20, false, 1);
    put_cifar(dir, "data_batch_2.bin", 10, false, 2);
    put_cifar(dir, "test_batch.bin", 10, false, 3);
}

static const char ten_names[] =
    "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n";

static void test_cifar10_folder(void **state)
{
    struct place *p = *state;
    put_cifar10(p->source);
    put_text(p->source, "batches.meta.txt", ten_names);
    put_text(p->source, "readme.html", "<html>");
    at_ingest_result r = ingest_must(p->source, p->out, 0);
    assert_int_equal(r.errors, 0);
    check_cifar(p, "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck");
}

static void test_cifar10_without_names(void **state)
{
    struct place *p = *state;
    put_cifar10(p->source);
    ingest_must(p->source, p->out, 0);
    check_cifar(p, "0,1,2,3,4,5,6,7,8,9");
}

/* As it is downloaded: the names come behind some of the pictures, in a folder of the tar. */
static void test_cifar10_tar(void **state)
{
    struct place *p = *state;
    char *inner = at_path_join(p->dir, "cifar-10-batches-bin");
    put_cifar10(inner);
    put_text(inner, "z/batches.meta.txt", ten_names);
    put_tar(p->dir, "cifar-10-batches-bin", "cifar.tar.gz", true, true);
    char *tar = at_path_join(p->dir, "cifar.tar.gz");
    ingest_must(tar, p->out, 0);
    check_cifar(p, "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck");
    free(tar);
    free(inner);
}

static void put_cifar100(const char *dir)
{
    at_text names = {0}, coarse = {0};
    for (int i = 0; i < 100; i++)
        at_text_add(&names, "fine %02d\n", i);
    for (int i = 0; i < 20; i++)
        at_text_add(&coarse, "coarse %02d\n", i);
    put_cifar(dir, "train.bin", 20, true, 1);
    put_cifar(dir, "test.bin", 10, true, 2);
    put_text(dir, "fine_label_names.txt", names.data);
    put_text(dir, "coarse_label_names.txt", coarse.data);
    at_text_fini(&names);
    at_text_fini(&coarse);
}

/* A folder, and as it is downloaded. */
static void test_cifar100_has_fine_labels(void **state)
{
    struct place *p = *state;
    char *inner = at_path_join(p->dir, "cifar-100-binary"), *tar = at_path_join(p->dir, "c.tar.gz");
    put_cifar100(inner);
    put_tar(p->dir, "cifar-100-binary", "c.tar.gz", true, true);
    for (int i = 0; i < 2; i++) {
        at_ingest_result r = ingest_must(i ? tar : inner, p->out, 0);
        assert_int_equal(r.images, 30);
        assert_int_equal(r.errors, 0);
        place_expect(p, "SELECT count(*) FROM classes", "100");
        place_expect(
            p,
            "SELECT split || ' ' || name FROM images JOIN classes USING(label) WHERE path = "
            "'train/train/00013'",
            "train fine 03");
        place_expect(p, "SELECT count(*) FROM images WHERE split = 'test'", "10");
        int32_t label;
        at_image image = place_pixels(p->out, AT_TRAIN, 0, &label);
        at_rng rng = at_rng_stream(1, "cifar", 0);
        for (int plane = 0; plane < 3; plane++)
            for (int k = 0; k < 1024; k++)
                assert_int_equal(image.pixels[3 * k + plane], (uint8_t)at_rng_below(&rng, 256));
        at_image_fini(&image);
        assert_int_equal(at_remove_tree(p->out, NULL), 0);
    }
    free(inner);
    free(tar);
}

/* Appends the records of split `split`, as the source has them, by what the data set holds. */
static void add_records(const char *dataset, const char *split, at_text *out)
{
    at_error err = {0};
    at_dataset *d = at_dataset_open(dataset, &err);
    char *catalog = at_path_join(dataset, "catalog.db");
    at_db *db = at_db_open(catalog, AT_DB_READ, &err);
    at_stmt *s = at_db_prepare(db,
                               "SELECT coarse_labels.label FROM images JOIN coarse_labels"
                               " ON image = id WHERE path = ?",
                               &err);
    at_split of;
    assert_true(d && s && at_split_parse(split, &of, &err) == 0);
    for (size_t i = 0; i < at_dataset_count(d, of); i++) {
        int32_t fine;
        at_image image = place_pixels(dataset, of, i, &fine);
        at_stmt_bind(s, "s", at_dataset_sample_path(d, of, i));
        assert_int_equal(at_stmt_step(s, &err), 1);
        uint8_t labels[2] = {(uint8_t)at_stmt_int(s, 0), (uint8_t)fine};
        assert_int_equal(at_stmt_step(s, &err), 0);
        at_text_append(out, labels, sizeof labels);
        for (int plane = 0; plane < 3; plane++)
            for (int k = 0; k < 1024; k++)
                at_text_append(out, &image.pixels[3 * k + plane], 1);
        at_image_fini(&image);
    }
    at_stmt_free(s);
    at_db_close(db);
    at_dataset_close(d);
    free(catalog);
}

static void expect_file(const char *dir, const char *name, const at_text *wanted)
{
    char *path = at_path_join(dir, name), *data;
    size_t size;
    assert_int_equal(at_file_read(path, 1 << 24, &data, &size, NULL), 0);
    assert_int_equal(size, wanted->length);
    assert_memory_equal(data, wanted->data, size);
    free(data);
    free(path);
}

/* The source's files can be made again from the data set: nothing of them was lost. */
static void test_cifar100_comes_back(void **state)
{
    struct place *p = *state;
    static const char *const splits[] = {"train", "test"};
    static const struct {
        const char *name, *sql;
    } names[] = {{"fine_label_names.txt", "SELECT group_concat(name || char(10), '') FROM "
                                          "(SELECT name FROM classes ORDER BY label)"},
                 {"coarse_label_names.txt", "SELECT group_concat(name || char(10), '') FROM "
                                            "(SELECT name FROM coarse_classes ORDER BY label)"}};
    size_t bytes = 0;
    put_cifar100(p->source);
    ingest_must(p->source, p->out, 0);
    for (int i = 0; i < 2; i++) {
        at_text file = {0}, text = {0};
        char *name = at_format("%s.bin", splits[i]);
        add_records(p->out, splits[i], &file);
        expect_file(p->source, name, &file);
        at_text_add(&text, "%s", query(p->out, names[i].sql));
        expect_file(p->source, names[i].name, &text);
        bytes += file.length + text.length;
        at_text_fini(&file);
        at_text_fini(&text);
        free(name);
    }
    print_message("%zu bytes of CIFAR-100 in 4 files, all found in the data set\n", bytes);
}

static void test_coarse_labels_of_an_append(void **state)
{
    struct place *p = *state;
    at_error err = {0};
    at_ingest_result r;
    put_cifar100(p->source);
    put_text(p->source, "coarse_label_names.txt", "water\nfish\n"); /* of 20 two have a name */
    ingest_must(p->source, p->out, 0);
    place_expect(p, "SELECT count(*) FROM coarse_labels", "30");
    place_expect(p, "SELECT group_concat(name) FROM coarse_classes WHERE label IN (0, 1, 3, 4)",
                 "water,fish,3,4");
    put_cifar(p->source, "train.bin", 35, true, 1); /* 15 more */
    put_text(p->source, "coarse_label_names.txt", "water\nbirds\n");
    at_ingest_options o = {.source = p->source, .out = p->out, .append = true};
    assert_int_equal(at_ingest(&o, &r, &err), AT_EINPUT);
    assert_non_null(
        strstr(err.message, "coarse label 1 is \"birds\", in the data set it is \"fish\""));
    place_expect(p, "SELECT count(*) FROM coarse_labels", "30");
    put_text(p->source, "coarse_label_names.txt", "water\nfish\n");
    o.resume = true;
    if (at_ingest(&o, &r, &err))
        fail_msg("%s", err.message);
    assert_int_equal(r.added, 15);
    place_expect(p,
                 "SELECT count(*) FROM coarse_labels JOIN images ON id = image JOIN coarse_classes"
                 " ON coarse_classes.label = coarse_labels.label"
                 " WHERE coarse_labels.label = (substr(path, -5) + 3) % 20",
                 "45");
}

/* What a statement on the catalog does is found by dataset verify, told as `told`. */
static void expect_found(const struct place *p, const char *sql, const char *told)
{
    at_error err = {0};
    at_dataset_checked checked;
    char *catalog = at_path_join(p->out, "catalog.db");
    at_db *db = at_db_open(catalog, AT_DB_WRITE, &err);
    assert_non_null(db);
    assert_int_equal(at_db_exec(db, sql, &err), 0);
    at_db_close(db);
    assert_int_equal(at_dataset_verify(p->out, 1, NULL, NULL, &checked, &err), AT_EINPUT);
    assert_int_equal(checked.damaged, 1);
    if (!strstr(err.message, told))
        fail_msg("%s: %s", sql, err.message);
    free(catalog);
}

static void test_damaged_coarse_labels_are_found(void **state)
{
    struct place *p = *state;
    at_error err = {0};
    at_dataset_checked checked;
    put_cifar100(p->source);
    ingest_must(p->source, p->out, 0);
    assert_int_equal(at_dataset_verify(p->out, 1, NULL, NULL, &checked, &err), 0);
    expect_found(p, "UPDATE coarse_labels SET label = 77 WHERE image = 3",
                 "its coarse label 77 is no coarse class");
    expect_found(p, "UPDATE coarse_labels SET label = 0, image = 5000 WHERE image = 3",
                 "coarse label 0 is of image 5000, which is not there");
}

static void test_others_have_no_coarse_labels(void **state)
{
    struct place *p = *state;
    put_cifar10(p->source);
    ingest_must(p->source, p->out, 0);
    place_expect(p, "SELECT count(*) FROM sqlite_master WHERE name LIKE 'coarse%'", "0");
}

static void test_broken_cifar100(void **state)
{
    struct place *p = *state;
    uint8_t record[3074] = {19, 99};
    put_cifar100(p->source);
    put_file(p->source, "train.bin", record, sizeof record);
    at_ingest_options o = {.source = p->source, .out = p->out, .allow_missing_classes = true};
    assert_int_equal(at_ingest(&o, NULL, NULL), 0); /* the largest labels */
    assert_int_equal(at_remove_tree(p->out, NULL), 0);
    record[0] = 20;
    put_file(p->source, "train.bin", record, sizeof record);
    assert_non_null(
        strstr(ingest_must_fail(&o, AT_EINPUT), "train.bin: offset 0: coarse label 20"));
    record[0] = 0;
    record[1] = 100;
    put_file(p->source, "train.bin", record, sizeof record);
    assert_non_null(strstr(ingest_must_fail(&o, AT_EINPUT), "train.bin: offset 0: label 100"));
    put_file(p->source, "train.bin", record, sizeof record - 1);
    assert_non_null(strstr(ingest_must_fail(&o, AT_EINPUT), "the file ends within a record"));
}

static void test_broken_cifar(void **state)
{
    struct place *p = *state;
    put_cifar10(p->source);
    place_cut(p->source, "data_batch_2.bin", 0.95);
    at_ingest_options o = {.source = p->source, .out = p->out};
    assert_non_null(strstr(ingest_must_fail(&o, AT_EINPUT),
                           "data_batch_2.bin: offset 29193: the file ends within"));
    uint8_t record[3073] = {10};
    put_file(p->source, "data_batch_2.bin", record, sizeof record);
    assert_non_null(
        strstr(ingest_must_fail(&o, AT_EINPUT), "data_batch_2.bin: offset 0: label 10"));
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, place_set_up, place_tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_cifar10_folder),
        CASE(test_cifar10_without_names),
        CASE(test_cifar10_tar),
        CASE(test_cifar100_has_fine_labels),
        CASE(test_cifar100_comes_back),
        CASE(test_coarse_labels_of_an_append),
        CASE(test_damaged_coarse_labels_are_found),
        CASE(test_others_have_no_coarse_labels),
        CASE(test_broken_cifar100),
        CASE(test_broken_cifar),
    };
#undef CASE
    at_log_set_level(AT_LOG_WARN);
    at_progress_silence(true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
