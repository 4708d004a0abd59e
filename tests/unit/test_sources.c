/* SPDX-License-Identifier: Apache-2.0
 * Sources other than folders: tar and idx; recognised by content, whole or broken. CIFAR and zip
 * have tests of their own. */
#include "../../datasets/internal.h"
#include "place.h"
#include "scratch.h"
#include "sources.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char fashion[] = "/usr/share/datasets/fashion-mnist";

/* ---- tar ------------------------------------------------------------------------------------- */

static void test_a_tar_is_as_good_as_its_folder(void **state)
{
    struct place *p = *state;
    put_pictures(p->source, "train", 2, 5, 0);
    put_pictures(p->source, "test", 2, 3, 50);
    put_text(p->source, "train/class_0/notes.txt", "nothing to see");
    ingest_must(p->source, p->out, 0);
    char *wanted = strdup(
        query(p->out, "SELECT group_concat(path || split || label || hash) FROM (SELECT * FROM "
                      "images ORDER BY path)"));
    char *hash = strdup(query(p->out, "SELECT value FROM meta WHERE key = 'dataset_hash'"));
    put_tar(p->dir, "source", "plain.tar", false, false);
    put_tar(p->dir, "source", "zipped.anything", true, false);
    static const char *const names[] = {"plain.tar", "zipped.anything"};
    for (int i = 0; i < 2; i++) {
        char *tar = at_path_join(p->dir, names[i]), *out = at_format("%s/from-tar-%d", p->dir, i);
        at_ingest_result r = ingest_must(tar, out, 0);
        assert_int_equal(r.images, 16);
        assert_int_equal(r.errors, 1);
        assert_string_equal(
            query(out, "SELECT group_concat(path || split || label || hash) FROM (SELECT * FROM "
                       "images ORDER BY path)"),
            wanted);
        assert_string_equal(query(out, "SELECT value FROM meta WHERE key = 'dataset_hash'"), hash);
        assert_string_equal(query(out, "SELECT reason FROM errors"), "not-an-image");
        assert_string_equal(query(out, "SELECT min(mtime) FROM images"), "1600000000");
        free(tar);
        free(out);
    }
    free(wanted);
    free(hash);
}

static void test_leading_folders_of_a_tar(void **state)
{
    struct place *p = *state;
    put_pictures(p->source, "", 3, 4, 0);
    put_tar(p->dir, "source", "a.tar.gz", true, true);
    char *tar = at_path_join(p->dir, "a.tar.gz");
    ingest_must(tar, p->out, 0);
    place_expect(p, "SELECT group_concat(name) FROM classes", "class_0,class_1,class_2");
    place_expect(p, "SELECT group_concat(n) FROM (SELECT count(*) AS n FROM images GROUP BY label)",
                 "4,4,4");
    place_expect(p, "SELECT path FROM images WHERE label = 2 ORDER BY path LIMIT 1",
                 "source/class_2/00000.png");
    free(tar);
}

static void test_splits_below_a_leading_folder(void **state)
{
    struct place *p = *state;
    put_pictures(p->source, "train", 2, 4, 0);
    put_pictures(p->source, "test", 2, 2, 50);
    put_tar(p->dir, "source", "a.tar.gz", true, true);
    char *tar = at_path_join(p->dir, "a.tar.gz");
    ingest_must(tar, p->out, 0);
    place_expect(p, "SELECT group_concat(name) FROM classes", "class_0,class_1");
    place_expect(p, "SELECT count(*) FROM images WHERE split = 'test'", "4");
    free(tar);
}

static void test_a_folder_with_only_a_tar(void **state)
{
    struct place *p = *state;
    put_pictures(p->source, "", 2, 4, 0);
    char *folder = at_path_join(p->dir, "holder");
    put_text(folder, "dataset.yaml", "name: x\n");
    put_tar(p->dir, "source", "holder/a.tar.gz", true, false);
    assert_int_equal(ingest_must(folder, p->out, 0).images, 8);
    place_expect(p, "SELECT value FROM meta WHERE key = 'source_kind'", "tar");
    free(folder);
}

static void test_a_broken_tar_names_file_and_place(void **state)
{
    struct place *p = *state;
    put_pictures(p->source, "", 2, 40, 0);
    for (int gzip = 0; gzip < 2; gzip++) {
        put_tar(p->dir, "source", "a.tar", gzip, false);
        place_cut(p->dir, "a.tar", 0.6);
        char *tar = at_path_join(p->dir, "a.tar");
        at_ingest_options o = {.source = tar, .out = p->out};
        const char *message = ingest_must_fail(&o, AT_EINPUT);
        if (!strstr(message, "a.tar: at byte "))
            fail_msg("%s", message);
        free(tar);
    }
    put_text(p->dir, "text", "this is no tar at all, whatever one may think of it");
    char *text = at_path_join(p->dir, "text");
    at_ingest_options o = {.source = text, .out = p->out};
    assert_non_null(
        strstr(ingest_must_fail(&o, AT_EINPUT), "no folder and no readable tar or zip: "));
    free(text);
}

/* ---- idx ------------------------------------------------------------------------------------- */

static void test_idx_pictures_and_labels(void **state)
{
    struct place *p = *state;
    for (int gzip = 0; gzip < 2; gzip++) {
        char *source = at_format("%s/idx%d", p->dir, gzip),
             *out = at_format("%s/out%d", p->dir, gzip);
        put_idx(source, "train", &(idx_spec){.images = 12, .labels = 12, .gzip = gzip});
        put_idx(source, "t10k", &(idx_spec){.images = 6, .labels = 6, .gzip = gzip});
        assert_int_equal(ingest_must(source, out, 0).images, 18);
        assert_string_equal(query(out, "SELECT group_concat(label || name) FROM classes"),
                            "00,11,22");
        assert_string_equal(
            query(out,
                  "SELECT group_concat(path, ' ') FROM (SELECT path FROM images WHERE label = 1 "
                  "AND split = 'test' ORDER BY path)"),
            "test/00001 test/00004");
        int32_t label;
        at_image image = place_pixels(out, AT_TRAIN, 5, &label);
        assert_int_equal(label, 2);
        assert_int_equal(image.height, 4);
        assert_int_equal(image.width, 5);
        assert_int_equal(image.channels, 1);
        for (int i = 0; i < 20; i++)
            assert_int_equal(image.pixels[i], (uint8_t)((100 + i) * 7 + 5));
        at_image_fini(&image);
        free(source);
        free(out);
    }
}

static void test_broken_idx_files(void **state)
{
    struct place *p = *state;
    static const struct {
        idx_spec spec;
        const char *message;
    } cases[] = {
        {{.images = 5, .labels = 5, .images_magic = 0x802},
         "train-images-idx3-ubyte: offset 0: magic 0x00000802 where 0x00000803 belongs"},
        {{.images = 5, .labels = 5, .labels_magic = 0x803},
         "train-labels-idx1-ubyte: offset 0: magic 0x00000803 where 0x00000801 belongs"},
        {{.images = 5, .labels = 4}, "train-images-idx3-ubyte: offset 4: 5 images, but "},
        {{.images = 5, .labels = 5, .images_there = 3},
         "train-images-idx3-ubyte: offset 76: the file ends early"},
        {{.images = 5, .labels = 5, .labels_there = 3},
         "train-labels-idx1-ubyte: offset 11: the file ends early"},
        {{.images = 5, .labels = 5, .images_there = 6},
         "offset 116: more data than its header counts"},
        {{.images = 5, .labels = 5, .labels_there = 6},
         "offset 13: more data than its header counts"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_idx(p->source, "train", &cases[i].spec);
        at_ingest_options o = {.source = p->source, .out = p->out};
        const char *message = ingest_must_fail(&o, AT_EINPUT);
        if (!strstr(message, cases[i].message))
            fail_msg("case %zu: %s", i, message);
    }
}

static void test_half_an_idx_pair(void **state)
{
    struct place *p = *state;
    put_idx(p->source, "train", &(idx_spec){.images = 5, .labels = 5, .gzip = true});
    char *labels = at_path_join(p->source, "train-labels-idx1-ubyte.gz");
    assert_int_equal(unlink(labels), 0);
    at_ingest_options o = {.source = p->source, .out = p->out};
    assert_non_null(
        strstr(ingest_must_fail(&o, AT_EINPUT), "train-labels-idx1-ubyte(.gz) is missing"));
    free(labels);
}

static void test_a_truncated_gzip(void **state)
{
    struct place *p = *state;
    put_idx(p->source, "train", &(idx_spec){.images = 2000, .labels = 2000, .gzip = true});
    place_cut(p->source, "train-images-idx3-ubyte.gz", 0.5);
    at_ingest_options o = {.source = p->source, .out = p->out};
    assert_non_null(strstr(ingest_must_fail(&o, AT_EINPUT), "train-images-idx3-ubyte.gz: offset "));
}

static void test_fashion_mnist_is_recognised(void **state)
{
    struct place *p = *state;
    if (!at_dir_exists(fashion))
        skip();
    at_ingest_result r = ingest_must(fashion, p->out, 0);
    assert_int_equal(r.images, 70000);
    assert_int_equal(r.errors, 0);
    place_expect(p, "SELECT group_concat(name) FROM (SELECT name FROM classes ORDER BY label)",
                 "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot");
    place_expect(
        p,
        "SELECT group_concat(DISTINCT n) FROM (SELECT count(*) AS n FROM images GROUP BY split, "
        "label)",
        "1000,6000");
    place_expect(
        p,
        "SELECT printf('%.2f', avg(mean_0)) FROM images JOIN stats USING(hash) WHERE split = "
        "'train'",
        "72.94"); /* the published 0.2860 of 255 */
    int32_t label;
    at_image image = place_pixels(p->out, AT_TRAIN, 0, &label);
    assert_int_equal(label, 9);
    at_image_fini(&image);
}

static void put_cifar10(const char *dir)
{
    put_cifar(dir, "data_batch_1.bin", 20, false, 1);
    put_cifar(dir, "data_batch_2.bin", 10, false, 2);
    put_cifar(dir, "test_batch.bin", 10, false, 3);
}

/* ---- damage ------------------------------------------------------------------------------- */

/* Reads all of a source as ingest does; the items are not decoded. */
static int read_through(const char *path, size_t *items)
{
    at_error err = {0};
    at_source *s = at_source_open(path, NULL, &err);
    if (!s)
        return err.code;
    at_item item = {0};
    int code;
    while ((code = at_source_next(s, &item, &err)) == 1)
        ++*items;
    at_item_fini(&item);
    at_source_close(s);
    assert_true(code == 0 || err.message[0]);
    return code;
}

/* Flips bits of dir/name and reads `source`. */
static void damage(const char *dir, const char *name, const char *source, uint64_t seed)
{
    char *path = at_path_join(dir, name), *data;
    size_t size, items = 0, refused = 0;
    enum { CASES = 400 };
    assert_int_equal(at_file_read(path, 1 << 20, &data, &size, NULL), 0);
    at_rng rng = at_rng_stream(seed, "damage", 0);
    for (int i = 0; i < CASES; i++) {
        char *copy = malloc(size);
        assert_non_null(copy);
        memcpy(copy, data, size);
        for (uint64_t flips = 1 + at_rng_below(&rng, 6); flips; flips--)
            copy[at_rng_below(&rng, size)] ^= (char)(1 << at_rng_below(&rng, 8));
        size_t cut = i % 3 ? size : (size_t)at_rng_below(&rng, size);
        put_file(dir, name, copy, cut);
        refused += read_through(source, &items) < 0;
        free(copy);
    }
    put_file(dir, name, data, size);
    print_message("%s: %d damaged versions, %zu refused, %zu items\n", name, CASES, refused, items);
    free(data);
    free(path);
}

static void test_random_damage_does_no_harm(void **state)
{
    struct place *p = *state;
    put_pictures(p->source, "train", 2, 6, 0);
    put_tar(p->dir, "source", "a.tar", false, false);
    put_tar(p->dir, "source", "a.tar.gz", true, true);
    char *tar = at_path_join(p->dir, "a.tar"), *gz = at_path_join(p->dir, "a.tar.gz");
    char *idx = at_path_join(p->dir, "idx"), *cifar = at_path_join(p->dir, "cifar");
    put_idx(idx, "train", &(idx_spec){.images = 40, .labels = 40});
    put_cifar10(cifar);
    damage(p->dir, "a.tar", tar, 1);
    damage(p->dir, "a.tar.gz", gz, 2);
    damage(idx, "train-images-idx3-ubyte", idx, 3);
    damage(idx, "train-labels-idx1-ubyte", idx, 4);
    damage(cifar, "data_batch_2.bin", cifar, 5);
    free(tar);
    free(gz);
    free(idx);
    free(cifar);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, place_set_up, place_tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_a_tar_is_as_good_as_its_folder),
        CASE(test_leading_folders_of_a_tar),
        CASE(test_splits_below_a_leading_folder),
        CASE(test_a_folder_with_only_a_tar),
        CASE(test_a_broken_tar_names_file_and_place),
        CASE(test_idx_pictures_and_labels),
        CASE(test_broken_idx_files),
        CASE(test_half_an_idx_pair),
        CASE(test_a_truncated_gzip),
        CASE(test_fashion_mnist_is_recognised),
        CASE(test_random_damage_does_no_harm),
    };
#undef CASE
    at_log_set_level(AT_LOG_WARN);
    at_progress_silence(true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
