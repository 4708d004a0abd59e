/* SPDX-License-Identifier: Apache-2.0
 * What the catalog tells of pictures: how files hold them, statistics, EXIF, the views for people;
 * and catalogs of an earlier format. */
#include "../../datasets/internal.h"

#include "exif_block.h"
#include "place.h"
#include "scratch.h"
#include "sources.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void put_encoded(const struct place *p, const char *name, encoded file)
{
    put_file(p->source, name, file.bytes, file.size);
    free(file.bytes);
}

static encoded jpeg_of(int width, int height, int channels, uint64_t seed)
{
    at_image m = paint_image(width, height, channels, seed);
    encoded file = encode_jpeg(&m, &(jpeg_spec){.quality = 95});
    at_image_fini(&m);
    return file;
}

static encoded constant_png(int width, int height, int value)
{
    size_t bytes = (size_t)width * (size_t)height;
    uint8_t *rows = malloc(bytes);
    assert_non_null(rows);
    memset(rows, value, bytes);
    encoded file =
        encode_png(&(png_spec){.width = width, .height = height, .depth = 8}, rows, (size_t)width);
    free(rows);
    return file;
}

/* ---- modes ----------------------------------------------------------------------------------- */

static void test_how_files_hold_their_pixels(void **state)
{
    struct place *p = *state;
    static const uint8_t rows[16 * 16 * 8] = {0x1B, 0x77, 0x20};
    static const uint8_t palette[] = {10, 20, 30, 200, 100, 0};
    static const struct {
        const char *name, *expected;
        png_spec spec;
        size_t stride;
    } pngs[] = {
        {"a/1.png", "grey 1 1", {.depth = 1, .type = 0}, 2},
        {"a/2.png", "grey 16 1", {.depth = 16, .type = 0}, 32},
        {"a/3.png", "palette 1 3", {.depth = 1, .type = 3, .palette = palette, .colours = 2}, 2},
        {"a/4.png", "rgb 8 3", {.depth = 8, .type = 2}, 48},
        {"a/5.png", "rgba 16 3", {.depth = 16, .type = 6}, 128},
        {"a/6.png", "grey-alpha 8 1", {.depth = 8, .type = 4}, 32},
    };
    for (size_t i = 0; i < sizeof pngs / sizeof *pngs; i++) {
        png_spec spec = pngs[i].spec;
        spec.width = spec.height = 16;
        spec.transparent_grey = -1;
        put_encoded(p, pngs[i].name, encode_png(&spec, rows, pngs[i].stride));
    }
    at_image m = paint_image(16, 16, 3, 5);
    put_encoded(p, "a/7.jpg", encode_jpeg(&m, &(jpeg_spec){.quality = 90, .cmyk = true}));
    put_encoded(p, "a/8.jpg", encode_jpeg(&m, &(jpeg_spec){.quality = 90}));
    at_image_fini(&m);
    put_encoded(p, "a/9.jpg", jpeg_of(16, 16, 1, 6));
    ingest_must(p->source, p->out, 0);
    static const char how[] = "SELECT mode || ' ' || bit_depth || ' ' || channels FROM images JOIN "
                              "blobs USING(hash) WHERE path = '%s'";
    for (size_t i = 0; i < sizeof pngs / sizeof *pngs; i++) {
        char sql[200];
        snprintf(sql, sizeof sql, how, pngs[i].name);
        place_expect(p, sql, pngs[i].expected);
    }
    place_expect(
        p,
        "SELECT group_concat(mode || bit_depth, ' ') FROM (SELECT * FROM images JOIN blobs "
        "USING(hash) WHERE format = 'jpeg' ORDER BY path)",
        "cmyk8 rgb8 grey8");
}

static void test_statistics_are_in_the_catalog(void **state)
{
    struct place *p = *state;
    put_encoded(p, "a/1.png", constant_png(20, 10, 130));
    put_encoded(p, "b/2.jpg", jpeg_of(40, 30, 3, 3));
    ingest_must(p->source, p->out, 0);
    place_expect(
        p,
        "SELECT mean_0 || ' ' || min_0 || ' ' || max_0 || ' ' || entropy || ' ' || sharpness "
        "|| ' ' || (mean_1 IS NULL) || ' ' || length(histogram) || ' ' || hex(histogram) "
        "|| ' ' || typeof(min_0) FROM images JOIN blobs USING(hash) WHERE path = 'a/1.png'",
        "130.0 130 130 0.0 0.0 1 32 00000000000000000000000000000000FFFF"
        "0000000000000000000000000000 integer");
    place_expect(
        p,
        "SELECT length(stats.histogram) || ' ' || (stats.entropy > 1) || (stats.sharpness > 1) || "
        "(stats.mean_2 > 0) || (exif IS NULL) FROM images JOIN stats USING(hash) JOIN blobs "
        "USING(hash) WHERE path = 'b/2.jpg'",
        "96 1111");
}

/* ---- EXIF ------------------------------------------------------------------------------------ */

static void test_exif(void **state)
{
    struct place *p = *state;
    exif_spec e = {.make = "Canon",
                   .model = "Canon EOS 5D",
                   .time = "2024:05:31 12:30:01",
                   .orientation = 6,
                   .latitude = -33.8568,
                   .longitude = 151.2153};
    put_encoded(p, "a/1.jpg", exif_into(jpeg_of(32, 24, 3, 1), &e));
    put_encoded(p, "b/0.jpg", jpeg_of(32, 24, 3, 2));
    e = (exif_spec){
        .make = "Ren\xC3\xA9 \xFF", .model = "X\"<1>", .longitude = -0.5, .big_endian = true};
    at_image m = paint_image(20, 20, 3, 4);
    put_encoded(p, "b/2.png",
                exif_into(encode_png(&(png_spec){.width = 20, .height = 20, .depth = 8, .type = 2},
                                     m.pixels, 60),
                          &e));
    at_image_fini(&m);
    ingest_must(p->source, p->out, 0);
    place_expect(
        p,
        "SELECT group_concat(tag || '=' || value, '; ') FROM (SELECT * FROM exif JOIN images "
        "USING(hash) WHERE path = 'a/1.jpg' AND tag IN ('camera', 'time', 'orientation', "
        "'Make') ORDER BY tag)",
        "Make=Canon; camera=Canon EOS 5D; orientation=6; time=2024-05-31T12:30:01");
    place_expect(p,
                 "SELECT group_concat(tag || printf('%.4f', value), ' ') FROM (SELECT * FROM exif "
                 "WHERE tag IN ('latitude', 'longitude') ORDER BY value, tag)",
                 "latitude-33.8568 longitude-0.5000 latitude0.0000 longitude151.2153");
    place_expect(p,
                 "SELECT json_extract(exif, '$.camera') || '|' || json_extract(exif, '$.time') "
                 "FROM images JOIN blobs USING(hash) WHERE path = 'a/1.jpg'",
                 "Canon EOS 5D|2024-05-31T12:30:01");
    place_expect(
        p,
        "SELECT json_extract(exif, '$.camera') FROM images JOIN blobs USING(hash) WHERE path "
        "= 'b/2.png'",
        "Ren\xC3\xA9 \\xFF X\"<1>");
    place_expect(p,
                 "SELECT count(*) FROM exif GROUP BY hash HAVING count(*) <> (SELECT count(*) FROM "
                 "blobs, json_each(blobs.exif) WHERE blobs.hash = exif.hash)",
                 "");
    place_expect(p, "SELECT count(*) FROM blobs WHERE exif IS NULL", "1");
}

/* Cut and flipped blocks: whatever they say, the picture is taken and the JSON is valid. */
static void test_broken_exif(void **state)
{
    (void)state;
    encoded block = exif_block(&(exif_spec){.make = "Canon",
                                            .model = "Canon EOS 5D",
                                            .time = "2024:05:31 12:30:01",
                                            .orientation = 6,
                                            .latitude = 10,
                                            .longitude = 20});
    size_t cases = 0, told = 0;
    at_rng rng = at_rng_stream(1, "exif", 0);
    for (size_t i = 0; i < 4000; i++, cases++) {
        uint8_t *bytes = malloc(block.size);
        assert_non_null(bytes);
        memcpy(bytes, block.bytes, block.size);
        size_t size = i < block.size ? i : block.size;
        for (int k = 0; k < 3 && i >= block.size; k++)
            bytes[at_rng_below(&rng, block.size)] = (uint8_t)at_rng_next(&rng);
        encoded file = exif_bytes_into(jpeg_of(8, 8, 3, 1), bytes, size);
        size_t length = 0;
        const uint8_t *found = at_exif_find(file.bytes, file.size, &length);
        at_text json = {0};
        if (found)
            at_exif_read(found, length, &json);
        at_node *tree = json.length ? at_json_parse(json.data, json.length, "exif", NULL) : NULL;
        assert_int_equal(tree != NULL, json.length > 0);
        int64_t orientation = at_node_int(at_node_get(tree, "orientation"), 1);
        double latitude = at_node_real(at_node_get(tree, "latitude"), 0);
        assert_in_range(orientation, 1, 8);
        assert_true(fabs(latitude) <= 90);
        told += tree != NULL;
        at_node_free(tree);
        at_text_fini(&json);
        free(file.bytes);
        free(bytes);
    }
    free(block.bytes);
    assert_in_range(told, 1000, cases);
    print_message("%zu broken EXIF blocks, %zu of them told something\n", cases, told);
}

/* ---- views ----------------------------------------------------------------------------------- */

static void test_views_for_people(void **state)
{
    struct place *p = *state;
    for (int i = 0; i < 6; i++) {
        char name[40];
        snprintf(name, sizeof name, "%s/%s/%d.jpg", i < 4 ? "train" : "test", i % 2 ? "cat" : "dog",
                 i);
        put_encoded(p, name, jpeg_of(32, 32, 3, (uint64_t)i));
    }
    put_encoded(p, "train/cat/again.jpg", jpeg_of(32, 32, 3, 1)); /* as train/cat/1.jpg */
    put_encoded(p, "test/dog/leak.jpg", jpeg_of(32, 32, 3, 1));
    put_encoded(p, "train/dog/grey.png", constant_png(32, 32, 99));
    put_encoded(p, "train/dog/wide.png", constant_png(64, 15, 5));
    put_encoded(p, "train/cat/tiny.jpg", jpeg_of(5, 5, 3, 9));
    ingest_must(p->source, p->out, 0);
    place_expect(p,
                 "SELECT group_concat(name || ' ' || train || ' ' || val || ' ' || test || ' ' || "
                 "images, '; ') FROM class_counts",
                 "cat 4 0 1 5; dog 4 0 2 6");
    place_expect(p,
                 "SELECT width || 'x' || height || ' ' || sum(images) FROM size_histogram GROUP BY "
                 "width ORDER BY 1 LIMIT 1",
                 "32x32 9");
    place_expect(
        p,
        "SELECT group_concat(path || ' ' || places || ' ' || split || ' ' || class, '; ') "
        "FROM duplicates",
        "test/dog/leak.jpg 3 test dog; train/cat/1.jpg 3 train cat; train/cat/again.jpg 3 train "
        "cat");
    static const char *const suspects[][2] = {
        {"train/dog/grey.png", "constant: every pixel is 99"},
        {"train/dog/wide.png", "constant: every pixel is 5; extreme-aspect: 64 x 15"},
        {"train/cat/tiny.jpg", "tiny: 5 x 5"},
        {"test/dog/leak.jpg", "two-classes: cat,dog; two-splits: test,train"},
        {"train/cat/1.jpg", "two-classes: cat,dog; two-splits: test,train"},
        {"train/cat/3.jpg", ""},
    };
    for (size_t i = 0; i < sizeof suspects / sizeof *suspects; i++) {
        char sql[300];
        snprintf(sql, sizeof sql,
                 "SELECT group_concat(reason || ': ' || detail, '; ') FROM (SELECT * FROM suspects "
                 "WHERE path = '%s' ORDER BY reason)",
                 suspects[i][0]);
        const char *got = query(p->out, sql);
        if (strstr(suspects[i][1], "two-")
                ? !strstr(got, "two-classes") || !strstr(got, "two-splits")
                : strcmp(got, suspects[i][1]) != 0)
            fail_msg("%s: %s", suspects[i][0], got);
    }
    place_expect(p, "SELECT count(DISTINCT path) FROM suspects", "6");
}

static void test_queries_have_their_indexes(void **state)
{
    struct place *p = *state;
    put_pictures(p->source, "", 2, 3, 1);
    ingest_must(p->source, p->out, 0);
    static const char *const plans[][2] = {
        {"SELECT count(*) FROM images WHERE label = 1", "images_label"},
        {"SELECT path FROM images WHERE hash = 'x'", "images_hash"},
        {"SELECT * FROM blobs WHERE hash = 'x'", "blobs_hash"},
        {"SELECT * FROM images WHERE path = 'x'", "images_path"},
        {"SELECT value FROM exif WHERE hash = 'x'", "exif_hash"},
        {"SELECT hash FROM exif WHERE tag = 'camera' AND value = 'x'", "exif_tag"},
    };
    at_error err = {0};
    char *catalog = at_path_join(p->out, "catalog.db");
    at_db *db = at_db_open(catalog, AT_DB_READ, &err);
    assert_non_null(db);
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++) {
        char *sql = at_format("EXPLAIN QUERY PLAN %s", plans[i][0]);
        at_stmt *s = at_db_prepare(db, sql, &err);
        assert_non_null(s);
        assert_int_equal(at_stmt_step(s, &err), 1);
        if (!strstr(at_stmt_text(s, 3), plans[i][1]))
            fail_msg("%s: %s", plans[i][0], at_stmt_text(s, 3));
        at_stmt_free(s);
        free(sql);
    }
    at_db_close(db);
    free(catalog);
}

/* ---- earlier formats ------------------------------------------------------------------------- */

/* As atoll wrote catalogs of format 1. */
static const char to_format_1[] =
    "DROP VIEW suspects; DROP VIEW duplicates; DROP VIEW size_histogram; DROP VIEW class_counts;"
    "DROP VIEW stats; DROP TABLE exif; DROP INDEX images_label; DROP INDEX images_hash;"
    "ALTER TABLE blobs DROP COLUMN bit_depth; ALTER TABLE blobs DROP COLUMN mode;"
    "ALTER TABLE blobs DROP COLUMN sharpness; ALTER TABLE blobs DROP COLUMN entropy;"
    "ALTER TABLE blobs DROP COLUMN dhash; ALTER TABLE blobs DROP COLUMN histogram;"
    "ALTER TABLE blobs DROP COLUMN exif; UPDATE meta SET value = 1 WHERE key = 'format';"
    "PRAGMA user_version = 0";

static void test_an_earlier_format(void **state)
{
    struct place *p = *state;
    at_error err = {0};
    put_pictures(p->source, "", 2, 3, 1);
    ingest_must(p->source, p->out, 0);
    char *catalog = at_path_join(p->out, "catalog.db"), *page = at_path_join(p->dir, "page.html");
    at_db *db = at_db_open(catalog, AT_DB_WRITE, &err);
    if (!db || at_db_exec(db, to_format_1, &err) ||
        at_db_exec(db, "PRAGMA journal_mode = DELETE", &err))
        fail_msg("%s", err.message);
    at_db_close(db);
    at_dataset *d = at_dataset_open(p->out, &err); /* training goes on with it */
    if (!d)
        fail_msg("%s", err.message);
    assert_int_equal(at_dataset_count(d, AT_TRAIN), 6);
    at_sample sample;
    assert_int_equal(at_dataset_sample(d, AT_TRAIN, 5, &sample, &err), 0);
    at_dataset_close(d);
    assert_int_equal(at_dataset_report(p->out, page, &err), AT_EINPUT); /* a page is not */
    assert_non_null(strstr(err.message, "earlier version of atoll"));
    assert_non_null(strstr(err.message, p->source));
    assert_false(at_file_exists(page));
    at_catalog *c = at_catalog_open(p->out, &err); /* nor can an ingest go on with it */
    assert_null(c);
    assert_int_equal(err.code, AT_EINPUT);
    assert_non_null(strstr(err.message, "another version of atoll"));
    free(catalog);
    free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_how_files_hold_their_pixels, place_set_up,
                                        place_tear_down),
        cmocka_unit_test_setup_teardown(test_statistics_are_in_the_catalog, place_set_up,
                                        place_tear_down),
        cmocka_unit_test_setup_teardown(test_exif, place_set_up, place_tear_down),
        cmocka_unit_test(test_broken_exif),
        cmocka_unit_test_setup_teardown(test_views_for_people, place_set_up, place_tear_down),
        cmocka_unit_test_setup_teardown(test_queries_have_their_indexes, place_set_up,
                                        place_tear_down),
        cmocka_unit_test_setup_teardown(test_an_earlier_format, place_set_up, place_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
