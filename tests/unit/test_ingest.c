/* SPDX-License-Identifier: Apache-2.0
 * Ingest of folders: layouts, labels, splits, what is set aside, what is refused. The other sources
 * are in test_sources.c, interruption in test_resume.c. */
#include "../../datasets/internal.h"
#include "place.h"
#include "scratch.h"
#include "sources.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- layouts and labels ---------------------------------------------------------------------- */

static void test_splits_and_classes_are_folders(void **state)
{
    struct place *p = *state;
    put_picture(p->source, "train/dog/a.png", 1);
    put_picture(p->source, "train/cat/b.JPG", 2);
    put_picture(p->source, "train/cat/2021/deep/c.jpeg", 3);
    put_picture(p->source, "Validation/dog/d.png", 4);
    put_picture(p->source, "Validation/cat/e.png", 5);
    put_picture(p->source, "test/dog/f.jpg", 6);
    put_picture(p->source, "test/cat/no extension", 7);
    at_ingest_result r = ingest_must(p->source, p->out, 0);
    assert_int_equal(r.images, 7);
    assert_int_equal(r.errors, 0);
    place_expect(p, "SELECT group_concat(label || name) FROM classes", "0cat,1dog");
    place_expect(
        p, "SELECT group_concat(split || label, ' ') FROM (SELECT * FROM images ORDER BY path)",
        "val0 val1 test0 test1 train0 train0 train1");
    place_expect(
        p, "SELECT format FROM images JOIN blobs USING(hash) WHERE path = 'test/cat/no extension'",
        "png");
    place_expect(p, "SELECT count(*) FROM images WHERE mtime > 1600000000", "7");
}

static void test_classes_alone(void **state)
{
    struct place *p = *state;
    put_picture(p->source, "b/1.png", 1);
    put_picture(p->source, "a/2.png", 2);
    put_picture(p->source, "test/3.png", 3); /* a class: no class folder below it */
    ingest_must(p->source, p->out, 0);
    place_expect(p, "SELECT group_concat(name) FROM classes", "a,b,test");
    place_expect(p, "SELECT count(*) FROM images WHERE split = 'train'", "3");
}

static void test_a_leading_folder_is_no_class(void **state)
{
    struct place *p = *state;
    put_picture(p->source, "photos/raw/b/1.png", 1);
    put_picture(p->source, "photos/raw/a/2.png", 2);
    ingest_must(p->source, p->out, 0);
    place_expect(p, "SELECT group_concat(name) FROM classes", "a,b");
    place_expect(
        p, "SELECT group_concat(path || label, ' ') FROM (SELECT * FROM images ORDER BY path)",
        "photos/raw/a/2.png0 photos/raw/b/1.png1");
}

static void test_numbers_sort_by_value(void **state)
{
    struct place *p = *state;
    static const char *const names[] = {"10/a.png", "9/a.png", "0/a.png", "2/a.png"};
    for (int i = 0; i < 4; i++)
        put_picture(p->source, names[i], (uint64_t)i);
    ingest_must(p->source, p->out, 0);
    place_expect(p, "SELECT group_concat(name) FROM (SELECT name FROM classes ORDER BY label)",
                 "0,2,9,10");
    place_expect(p, "SELECT group_concat(label) FROM (SELECT label FROM images ORDER BY path)",
                 "0,3,1,2");
}

static void test_names_that_are_no_utf8(void **state)
{
    struct place *p = *state;
    put_picture(p->source, "caf\xE9/1.png", 1);
    put_picture(p->source, "\xC3\xA9tat/1.png", 2);
    ingest_must(p->source, p->out, 0);
    place_expect(p, "SELECT group_concat(path, ' ') FROM (SELECT path FROM images ORDER BY path)",
                 "caf\\xE9/1.png \xC3\xA9tat/1.png");
    place_expect(p, "SELECT group_concat(name, ' ') FROM classes", "caf\\xE9 \xC3\xA9tat");
}

static void test_links(void **state)
{
    struct place *p = *state;
    put_picture(p->source, "a/1.png", 1);
    put_picture(p->dir, "elsewhere/2.png", 2);
    char *loop = at_path_join(p->source, "a/loop"), *link = at_path_join(p->source, "b"),
         *dead = at_path_join(p->source, "a/dead.png");
    assert_int_equal(symlink("..", loop), 0);
    assert_int_equal(symlink("../elsewhere", link), 0);
    assert_int_equal(symlink("nowhere", dead), 0);
    at_ingest_result r = ingest_must(p->source, p->out, 0);
    assert_int_equal(r.images, 2);
    place_expect(p, "SELECT path || reason FROM errors", "a/dead.pngunreadable");
    free(loop);
    free(link);
    free(dead);
}

/* A pipe that nobody writes to, a device without end: never waited for. */
static void test_no_files(void **state)
{
    struct place *p = *state;
    put_picture(p->source, "a/1.png", 1);
    char *pipe = at_path_join(p->source, "a/pipe.png");
    char *zero = at_path_join(p->source, "a/zero.png");
    assert_int_equal(mkfifo(pipe, 0600), 0);
    assert_int_equal(symlink("/dev/zero", zero), 0);
    at_ingest_result r = ingest_must(p->source, p->out, 0);
    assert_int_equal(r.images, 1);
    place_expect(p,
                 "SELECT group_concat(row, ', ') FROM "
                 "(SELECT path || ' ' || reason AS row FROM errors ORDER BY path)",
                 "a/pipe.png unreadable, a/zero.png unreadable");
    free(pipe);
    free(zero);
}

/* ---- contents -------------------------------------------------------------------------------- */

static void test_a_content_is_stored_once(void **state)
{
    struct place *p = *state;
    for (int i = 0; i < 6; i++) {
        char name[40];
        snprintf(name, sizeof name, "%c/%d.png", 'a' + i % 2, i);
        put_picture(p->source, name, (uint64_t)(i / 3)); /* two contents */
    }
    ingest_must(p->source, p->out, 0);
    place_expect(p, "SELECT count(*) || ' ' || count(DISTINCT hash) FROM images", "6 2");
    place_expect(p, "SELECT count(*) FROM blobs", "2");
    place_expect(
        p,
        "SELECT count(*) FROM images JOIN blobs ON blobs.id = images.blob AND blobs.hash = "
        "images.hash",
        "6");
}

static void test_statistics(void **state)
{
    struct place *p = *state;
    static const uint8_t rgb[] = {0, 10, 255, 4, 10, 0, 8, 10, 255, 0, 10, 0},
                         grey[] = {1, 3, 5, 7};
    encoded file = encode_png(&(png_spec){2, 2, 8, 2}, rgb, 6);
    put_file(p->source, "a/rgb.png", file.bytes, file.size);
    free(file.bytes);
    file = encode_png(&(png_spec){4, 1, 8, 0}, grey, 4);
    put_file(p->source, "b/grey.png", file.bytes, file.size);
    free(file.bytes);
    ingest_must(p->source, p->out, 0);
    place_expect(
        p,
        "SELECT mean_0 || ' ' || mean_1 || ' ' || mean_2 || ' ' || round(deviation_0, 6) || ' ' "
        "|| deviation_1 || "
        "' ' || deviation_2 || ' ' || min_0 || max_0 || min_1 || max_1 || min_2 || max_2 "
        "FROM images JOIN stats USING(hash) WHERE path = 'a/rgb.png'",
        "3.0 10.0 127.5 3.316625 0.0 127.5 0810100255");
    place_expect(
        p,
        "SELECT mean_0 || ' ' || round(deviation_0, 6) || ' ' || min_0 || max_0 || "
        "(mean_1 IS NULL AND max_2 IS NULL) FROM images JOIN stats USING(hash) WHERE path = "
        "'b/grey.png'",
        "4.0 2.236068 171");
}

/* Larger than the lanes of the statistics, against sums over all pixels. */
static void test_statistics_of_a_large_picture(void **state)
{
    struct place *p = *state;
    at_image image = paint_image(123, 77, 3, 5);
    encoded file = encode_png(&(png_spec){123, 77, 8, 2}, image.pixels, 369);
    put_file(p->source, "a/1.png", file.bytes, file.size);
    ingest_must(p->source, p->out, 0);
    for (int c = 0; c < 3; c++) {
        double sum = 0;
        int low = 255, high = 0;
        for (int i = c; i < 123 * 77 * 3; i += 3) {
            sum += image.pixels[i];
            low = image.pixels[i] < low ? image.pixels[i] : low;
            high = image.pixels[i] > high ? image.pixels[i] : high;
        }
        char sql[100], want[100];
        snprintf(sql, sizeof sql,
                 "SELECT printf('%%.9f %%d %%d', mean_%d, min_%d, max_%d) FROM stats", c, c, c);
        snprintf(want, sizeof want, "%.9f %d %d", sum / (123 * 77), low, high);
        place_expect(p, sql, want);
    }
    free(file.bytes);
    at_image_fini(&image);
}

/* ---- what is set aside ----------------------------------------------------------------------- */

static void test_one_bad_picture_is_set_aside(void **state)
{
    struct place *p = *state;
    put_pictures(p->source, "", 2, 300, 0);
    at_image image = paint_image(30, 30, 3, 1);
    encoded jpeg = encode_jpeg(&image, &(jpeg_spec){.quality = 90});
    put_file(p->source, "class_1/broken.jpg", jpeg.bytes, jpeg.size / 2);
    put_text(p->source, "class_0/README.txt", "what these are");
    put_text(p->source, "class_0/empty.png", "");
    put_text(p->source, "class_0/anim.gif", "GIF89a..........");
    put_text(p->source, ".DS_Store", "Bud1");
    put_text(p->source, "dataset.yaml", "name: x\n");
    put_text(p->source, ".git/config", "[core]");
    put_picture(p->source, "stray.png", 1);
    at_ingest_result r = ingest_must(p->source, p->out, 0);
    assert_int_equal(r.images, 600);
    assert_int_equal(r.errors, 6);
    place_expect(p, "SELECT reason FROM errors WHERE path = 'class_1/broken.jpg'", "truncated");
    place_expect(p, "SELECT reason FROM errors WHERE path = 'class_0/README.txt'", "not-an-image");
    place_expect(p, "SELECT reason FROM errors WHERE path = 'class_0/empty.png'", "empty");
    place_expect(p, "SELECT reason FROM errors WHERE path = 'class_0/anim.gif'", "unsupported");
    place_expect(p, "SELECT reason FROM errors WHERE path = '.DS_Store'", "not-an-image");
    place_expect(p, "SELECT reason FROM errors WHERE path = 'stray.png'", "unsupported");
    place_expect(p, "SELECT count(*) FROM errors WHERE detail = ''", "0");
    at_image_fini(&image);
    free(jpeg.bytes);
}

/* The limits stay with the data set: what it took can be decoded again. */
static void test_limits_are_options(void **state)
{
    struct place *p = *state;
    put_pictures(p->source, "", 2, 2, 0); /* 8 x 6 */
    at_image image = paint_image(30, 20, 3, 1);
    encoded png = encode_png(&(png_spec){30, 20, 8, 2}, image.pixels, 90);
    put_file(p->source, "class_0/large.png", png.bytes, png.size);
    static const struct {
        at_decode_limits limits;
        int images;
    } cases[] = {{{0, 0}, 5}, {{599, 0}, 4}, {{600, 0}, 5}, {{0, 0}, 4}, {{0, 0}, 5}};
    for (int i = 0; i < 5; i++) {
        char *out = at_format("%s/%d", p->dir, i);
        at_ingest_options o = {.source = p->source, .out = out, .limits = cases[i].limits};
        o.limits.bytes = i == 3 ? png.size - 1 : i == 4 ? png.size : 0;
        at_ingest_result r;
        assert_int_equal(at_ingest(&o, &r, NULL), 0);
        assert_int_equal(r.images, cases[i].images);
        if (r.errors)
            assert_string_equal(query(out, "SELECT path || ' ' || reason FROM errors"),
                                "class_0/large.png too-large");
        at_decode_limits want = at_limits_resolved(o.limits);
        at_dataset *d = at_dataset_open(out, NULL);
        assert_memory_equal(at_dataset_limits(d), &want, sizeof want);
        at_dataset_close(d);
        o.resume = true;
        assert_int_equal(at_ingest(&o, &r, NULL), 0);
        o.limits.pixels = 1000;
        assert_int_equal(at_ingest(&o, &r, NULL), AT_EINPUT);
        free(out);
    }
    at_image_fini(&image);
    free(png.bytes);
}

/* ---- what is refused ------------------------------------------------------------------------- */

static void test_no_image(void **state)
{
    struct place *p = *state;
    at_ingest_options o = {.source = p->source, .out = p->out};
    assert_non_null(strstr(ingest_must_fail(&o, AT_ENOENT), p->source));
    assert_int_equal(mkdir(p->source, 0777), 0);
    assert_non_null(strstr(ingest_must_fail(&o, AT_EINPUT), "no image"));
    put_text(p->source, "a/notes.txt", "x");
    assert_non_null(strstr(ingest_must_fail(&o, AT_EINPUT), "a/notes.txt: not-an-image"));
    assert_int_equal(scratch_count(p->dir), 1); /* nothing is left but the source */
}

static void test_a_class_in_one_split_only(void **state)
{
    struct place *p = *state;
    put_pictures(p->source, "train", 3, 2, 0);
    put_pictures(p->source, "test", 2, 2, 100);
    at_ingest_options o = {.source = p->source, .out = p->out};
    const char *message = ingest_must_fail(&o, AT_EINPUT);
    assert_non_null(strstr(message, "\"class_2\""));
    assert_non_null(strstr(message, "train"));
    assert_non_null(strstr(message, "none in test"));
    o.allow_missing_classes = o.resume = true; /* the work so far is not lost */
    at_ingest_result r;
    assert_int_equal(at_ingest(&o, &r, NULL), 0);
    assert_int_equal(r.images, 10);
    assert_int_equal(r.resumed, 10);
}

static void test_a_class_that_train_lacks(void **state)
{
    struct place *p = *state;
    put_pictures(p->source, "train", 2, 2, 0);
    put_pictures(p->source, "val", 3, 2, 50);
    put_pictures(p->source, "test", 3, 2, 100);
    at_ingest_options o = {.source = p->source, .out = p->out};
    assert_non_null(strstr(ingest_must_fail(&o, AT_EINPUT), "none in train"));
}

static void test_an_existing_place_is_refused(void **state)
{
    struct place *p = *state;
    put_pictures(p->source, "", 2, 2, 0);
    ingest_must(p->source, p->out, 0);
    at_error err = {0};
    at_ingest_options o = {.source = p->source, .out = p->out};
    assert_int_equal(at_ingest(&o, NULL, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, "exists already"));
    o.resume = true; /* a job that is run again finds it done */
    at_ingest_result r;
    assert_int_equal(at_ingest(&o, &r, &err), 0);
    assert_int_equal(r.images, 4);
    o.val_fraction = 0.5;
    assert_int_equal(at_ingest(&o, &r, &err), AT_EINPUT);
    o.val_fraction = 0;
    char *other = at_path_join(p->dir, "other");
    put_pictures(other, "", 2, 2, 9);
    o.source = other;
    assert_int_equal(at_ingest(&o, &r, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, "made from another source"));
    free(other);
}

static void test_a_place_within_the_source_is_refused(void **state)
{
    struct place *p = *state;
    put_pictures(p->source, "", 2, 2, 0);
    char *inside = at_path_join(p->source, "new/data");
    at_ingest_options o = {.source = p->source, .out = inside};
    assert_non_null(strstr(ingest_must_fail(&o, AT_EINPUT), "within its source"));
    assert_int_equal(ingest_must(p->source, p->out, 0).images, 4);
    place_expect(p, "SELECT count(*) FROM errors", "0");
    free(inside);
}

static void test_wrong_options(void **state)
{
    struct place *p = *state;
    put_pictures(p->source, "", 2, 2, 0);
    at_ingest_options o = {.source = p->source, .out = p->out, .val_fraction = 1};
    ingest_must_fail(&o, AT_EUSAGE);
    o.val_fraction = -0.1;
    ingest_must_fail(&o, AT_EUSAGE);
    put_pictures(p->source, "val", 2, 2, 0);
    o = (at_ingest_options){
        .source = p->source, .out = p->out, .val_fraction = 0.5, .allow_missing_classes = true};
    assert_non_null(strstr(ingest_must_fail(&o, AT_EINPUT), "validation split of its own"));
}

/* ---- the validation split -------------------------------------------------------------------- */

static void test_val_is_stratified_and_keeps_copies_together(void **state)
{
    struct place *p = *state;
    put_pictures(p->source, "train", 3, 40, 0);
    put_pictures(p->source, "test", 3, 5, 1000);
    for (int i = 0; i < 40; i++) { /* each picture of class 0 a second time */
        char name[60];
        snprintf(name, sizeof name, "train/class_0/again_%d.%s", i, i % 2 ? "jpg" : "png");
        put_picture(p->source, name, (uint64_t)i);
    }
    ingest_must(p->source, p->out, 0.25);
    place_expect(
        p,
        "SELECT group_concat(n) FROM (SELECT count(*) AS n FROM images WHERE split = 'val' "
        "GROUP BY label "
        "ORDER BY label)",
        "20,10,10");
    place_expect(p, "SELECT count(*) FROM images WHERE split = 'test'", "15");
    place_expect(
        p,
        "SELECT count(*) FROM images a JOIN images b USING(hash) WHERE a.split = 'val' AND "
        "b.split = 'train'",
        "0");
}

static void test_val_depends_on_seed_alone(void **state)
{
    struct place *p = *state;
    put_pictures(p->source, "", 2, 50, 0);
    static const char sql[] = "SELECT group_concat(path) FROM (SELECT path FROM images WHERE split "
                              "= 'val' ORDER BY path)";
    char *chosen[4];
    for (int i = 0; i < 4; i++) {
        char *out = at_format("%s/%d", p->dir, i);
        at_ingest_options o = {
            .source = p->source, .out = out, .val_fraction = 0.1, .seed = i == 3};
        o.jobs = 1 + i;
        assert_int_equal(at_ingest(&o, NULL, NULL), 0);
        chosen[i] = strdup(query(out, sql));
        free(out);
    }
    assert_string_equal(chosen[0], chosen[1]);
    assert_string_equal(chosen[0], chosen[2]);
    assert_string_not_equal(chosen[0], chosen[3]);
    for (int i = 0; i < 4; i++)
        free(chosen[i]);
}

static void test_small_classes_keep_a_training_image(void **state)
{
    struct place *p = *state;
    put_picture(p->source, "one/1.png", 1);
    put_picture(p->source, "two/1.png", 2);
    put_picture(p->source, "two/2.png", 3);
    ingest_must(p->source, p->out, 0.9);
    place_expect(
        p,
        "SELECT group_concat(split) FROM (SELECT split FROM images WHERE label = 0 ORDER BY split)",
        "train");
    place_expect(
        p,
        "SELECT group_concat(split) FROM (SELECT split FROM images WHERE label = 1 ORDER BY split)",
        "train,val");
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, place_set_up, place_tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_splits_and_classes_are_folders),
        CASE(test_classes_alone),
        CASE(test_a_leading_folder_is_no_class),
        CASE(test_numbers_sort_by_value),
        CASE(test_names_that_are_no_utf8),
        CASE(test_links),
        CASE(test_no_files),
        CASE(test_a_content_is_stored_once),
        CASE(test_statistics),
        CASE(test_statistics_of_a_large_picture),
        CASE(test_one_bad_picture_is_set_aside),
        CASE(test_limits_are_options),
        CASE(test_no_image),
        CASE(test_a_class_in_one_split_only),
        CASE(test_a_class_that_train_lacks),
        CASE(test_an_existing_place_is_refused),
        CASE(test_a_place_within_the_source_is_refused),
        CASE(test_wrong_options),
        CASE(test_val_is_stratified_and_keeps_copies_together),
        CASE(test_val_depends_on_seed_alone),
        CASE(test_small_classes_keep_a_training_image),
    };
#undef CASE
    at_log_set_level(AT_LOG_WARN);
    at_progress_silence(true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
