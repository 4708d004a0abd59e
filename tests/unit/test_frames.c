/* SPDX-License-Identifier: Apache-2.0
 * A cache that is filled from what the ingest fitted has the same bytes as one that decodes, whatever
 * the pictures, the frame, and however many of them the ingest kept. */
#include "../../datasets/internal.h"

#include <atoll/cache.h>

#include "encode.h"
#include "exif_block.h"
#include "place.h"
#include "scratch.h"
#include "sources.h"
#include "spoilt_jpeg.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- pictures of all kinds ---- */

static void put(const struct place *p, int i, encoded e)
{
    char *name = at_format("train/%d/%d.%s", i % 2, i, e.bytes[0] == 0xFF ? "jpg" : "png");
    put_file(p->source, name, e.bytes, e.size);
    free(name);
    free(e.bytes);
}

/* Small ones and some of over a megapixel, which are looked at in a part of their size. */
static encoded some_picture(int i, bool colours)
{
    static const int sides[][2] = {{32, 32},    {7, 50},     {1, 1},      {300, 200},
                                   {1200, 900}, {900, 1200}, {2100, 520}, {1030, 1030}};
    const int *side = sides[i % 8];
    at_image image = paint_image(side[0], side[1], colours && i % 3 ? 3 : 1, (uint64_t)i + 1);
    encoded e;
    if (i % 5 == 4) {
        png_spec png = {.width = image.width,
                        .height = image.height,
                        .depth = 8,
                        .type = image.channels == 3 ? 2 : 0};
        e = encode_png(&png, image.pixels, (size_t)image.width * (size_t)image.channels);
    } else {
        bool cmyk = image.channels == 3 && i % 7 == 2;
        e = encode_jpeg(&image,
                        &(jpeg_spec){.quality = 90, .progressive = i % 4 == 3, .cmyk = cmyk});
        if (i % 2)
            e = exif_into(e, &(exif_spec){.orientation = 1 + i % 8});
    }
    at_image_fini(&image);
    return e;
}

/* 40 of them, two of them twice, and what is no picture. */
static void put_sources(const struct place *p, bool colours)
{
    for (int i = 0; i < 40; i++)
        put(p, i, some_picture(i, colours));
    for (int i = 0; i < 2; i++)
        put(p, 40 + i, some_picture(5 * i, colours));
    put_text(p->source, "train/0/letter.jpg", "no picture");
    encoded half = some_picture(3, colours);
    put_file(p->source, "train/1/half.jpg", half.bytes, half.size / 2);
    free(half.bytes);
}

/* ---- caches ---- */

static at_frames *ingest(const struct place *p, const at_frame *frame, const char *out)
{
    at_error err = {0};
    at_frames *frames = at_frames_new(frame, p->dir, &err);
    if (!frames)
        fail_msg("%s", err.message);
    at_ingest_options o = {.source = p->source,
                           .out = out,
                           .val_fraction = 0.2,
                           .jobs = 2,
                           .allow_missing_classes = true,
                           .frames = frames};
    if (at_ingest(&o, NULL, &err))
        fail_msg("%s", err.message);
    return frames;
}

static char *build(const struct place *p, const char *dataset, const at_frame *frame,
                   at_frames *frames)
{
    at_error err = {0};
    char *out = at_path_join(p->dir, frames ? "kept" : "decoded");
    at_cache_spec spec = {.frame = *frame, .threads = 2, .frames = frames};
    at_remove_tree(out, NULL);
    if (at_cache_build(dataset, &spec, out, &err))
        fail_msg("%s", err.message);
    return out;
}

static void expect_same_file(const char *a, const char *b, const char *name)
{
    char *paths[2] = {at_path_join(a, name), at_path_join(b, name)};
    size_t sizes[2];
    char *bytes[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(at_file_read(paths[i], SIZE_MAX, &bytes[i], &sizes[i], NULL), 0);
    assert_int_equal(sizes[0], sizes[1]);
    assert_memory_equal(bytes[0], bytes[1], sizes[0]);
    for (int i = 0; i < 2; i++) {
        free(bytes[i]);
        free(paths[i]);
    }
}

/* How many of the data set's pictures are kept. */
static size_t kept(const char *dataset, const at_frames *frames)
{
    at_dataset *d = at_dataset_open(dataset, NULL);
    const at_frame *f = at_frames_frame(frames);
    uint8_t *out = malloc((size_t)f->height * (size_t)f->width * 3);
    size_t count = 0;
    assert_true(d && out);
    for (int split = 0; split < AT_SPLITS; split++)
        for (size_t i = 0; i < at_dataset_count(d, (at_split)split); i++) {
            int32_t label;
            int channels = 3;
            count += at_frames_read(frames, d, (at_split)split, i, out, &channels, &label);
        }
    at_dataset_close(d);
    free(out);
    return count;
}

static void expect_same_caches(const struct place *p, const char *dataset, const at_frame *frame,
                               at_frames *frames)
{
    static const char *const files[] = {"train.atc", "val.atc", "test.atc", "meta.json"};
    char *with = build(p, dataset, frame, frames), *without = build(p, dataset, frame, NULL);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        expect_same_file(with, without, files[i]);
    free(with);
    free(without);
}

/* ---- tests ---- */

static void test_the_same_bytes_in_every_frame(void **state)
{
    struct place *p = *state;
    static const int sides[][2] = {{8, 8}, {100, 100}, {64, 224}, {260, 250}, {1, 3}};
    int tried = 0;
    for (int colours = 0; colours < 2; colours++) {
        at_remove_tree(p->source, NULL);
        put_sources(p, colours);
        for (int fit = 0; fit < AT_FITS; fit++)
            for (int channels = 0; channels <= 3; channels++) {
                if (channels == 2)
                    continue;
                const int *side = sides[tried++ % 5];
                at_frame frame = {side[0], side[1], channels, (at_fit)fit};
                at_remove_tree(p->out, NULL);
                at_frames *frames = ingest(p, &frame, p->out);
                place_expect(p, "SELECT count(*) FROM errors", "2");
                assert_int_equal(kept(p->out, frames), 42);
                expect_same_caches(p, p->out, &frame, frames);
                at_frames_free(frames);
            }
    }
    print_message("%d frames of 42 pictures: caches with the same bytes\n", tried);
}

/* Another frame's are not taken. */
static void test_frames_of_another_cache(void **state)
{
    struct place *p = *state;
    const at_frame kept_as = {8, 8, 0, AT_FIT_STRETCH};
    const at_frame wanted[] = {{8, 9, 0, AT_FIT_STRETCH},
                               {9, 8, 0, AT_FIT_STRETCH},
                               {8, 8, 0, AT_FIT_CROP},
                               {8, 8, 1, AT_FIT_STRETCH}};
    put_sources(p, true);
    at_frames *frames = ingest(p, &kept_as, p->out);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        expect_same_caches(p, p->out, &wanted[i], frames);
    at_frames_free(frames);
}

/* An append keeps what is new; the rest is decoded. */
static void test_what_is_not_kept_is_decoded(void **state)
{
    struct place *p = *state;
    const at_frame frame = {40, 30, 0, AT_FIT_LETTERBOX};
    for (int i = 0; i < 10; i++)
        put(p, i, some_picture(i, true));
    at_frames_free(ingest(p, &frame, p->out));
    for (int i = 10; i < 20; i++)
        put(p, i, some_picture(i, true));
    at_error err = {0};
    at_frames *frames = at_frames_new(&frame, p->dir, &err);
    at_ingest_options o = {
        .source = p->source, .out = p->out, .append = true, .jobs = 1, .frames = frames};
    if (at_ingest(&o, NULL, &err))
        fail_msg("%s", err.message);
    assert_int_equal(kept(p->out, frames), 10);
    expect_same_caches(p, p->out, &frame, frames);
    at_frames_free(frames);
}

/* What ends a decoder has no frame, the others have theirs; nothing of it is left behind. */
static void test_spoilt_pictures(void **state)
{
    struct place *p = *state;
    const at_frame frame = {16, 16, 3, AT_FIT_STRETCH};
    for (int i = 0; i < 12; i++)
        put(p, i, encode_spoilt(i % 4 == 1 ? SPOILT_SEGV : SPOILT_GOOD, (uint64_t)i));
    size_t before = scratch_count(p->dir);
    at_frames *frames = ingest(p, &frame, p->out);
    place_expect(p, "SELECT count(*) FROM errors", "3");
    assert_int_equal(kept(p->out, frames), 9);
    assert_int_equal(scratch_count(p->dir), before + 1); /* the data set */
    expect_same_caches(p, p->out, &frame, frames);
    at_frames_free(frames);
}

/* To fit takes longer than a picture may: it is good all the same, without a frame. */
static void test_what_takes_too_long_to_fit(void **state)
{
    struct place *p = *state;
    const at_frame frame = {9000, 9000, 3, AT_FIT_STRETCH};
    at_error err = {0};
    put_pictures(p->source, "train", 2, 2, 1);
    at_frames *frames = at_frames_new(&frame, p->dir, &err);
    at_ingest_options o = {.source = p->source,
                           .out = p->out,
                           .jobs = 1,
                           .limits = {.seconds = 0.2},
                           .frames = frames};
    if (at_ingest(&o, NULL, &err))
        fail_msg("%s", err.message);
    place_expect(p, "SELECT count(*) FROM errors", "0");
    place_expect(p, "SELECT count(*) FROM images", "4");
    at_frames_free(frames);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_same_bytes_in_every_frame, place_set_up,
                                        place_tear_down),
        cmocka_unit_test_setup_teardown(test_frames_of_another_cache, place_set_up,
                                        place_tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_not_kept_is_decoded, place_set_up,
                                        place_tear_down),
        cmocka_unit_test_setup_teardown(test_spoilt_pictures, place_set_up, place_tear_down),
        cmocka_unit_test_setup_teardown(test_what_takes_too_long_to_fit, place_set_up,
                                        place_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
