/* SPDX-License-Identifier: Apache-2.0
 * Pictures decoded at a part of their size: which part, how far the pixels are from those of the full
 * picture, that a broken file is found broken all the same, and what a catalog tells of a large one. */
#include "../../datasets/internal.h"
#include "exif_block.h"
#include "place.h"
#include "sources.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static at_image view_of(at_decoder *d, encoded file, at_reduction r)
{
    at_image view;
    at_error err = {0};
    at_decoder_reduce(d, r);
    if (at_decoder_decode(d, file.bytes, file.size, NULL, &view, NULL, &err) < 0)
        fail_msg("%s", err.message);
    return view;
}

static encoded jpeg_of(int width, int height, int channels, jpeg_spec spec)
{
    at_image image = paint_image(width, height, channels, 3);
    encoded file = encode_jpeg(&image, &spec);
    at_image_fini(&image);
    return file;
}

/* ---- which part ---- */

static void test_parts(void **state)
{
    (void)state;
    static const struct {
        int width, height, orientation;
        at_reduction r;
        int wide, high; /* what comes */
    } cases[] = {
        {640, 480, 1, {0}, 640, 480},
        {640, 480, 1, {60, 80, 0}, 80, 60},
        {640, 480, 1, {61, 80, 0}, 160, 120},
        {640, 480, 1, {60, 81, 0}, 160, 120},
        {640, 480, 1, {200, 200, 0}, 320, 240},
        {640, 480, 1, {240, 320, 0}, 320, 240},
        {640, 480, 1, {241, 320, 0}, 640, 480},
        {640, 480, 1, {900, 900, 0}, 640, 480},
        {640, 480, 1, {60, 80, 640 * 480}, 640, 480},
        {640, 480, 1, {60, 80, 640 * 480 - 1}, 80, 60},
        {641, 481, 1, {61, 81, 0}, 81, 61}, /* rounded up */
        {641, 481, 1, {62, 81, 0}, 161, 121},
        {640, 480, 6, {80, 60, 0}, 60, 80}, /* on its side */
        {640, 480, 6, {60, 80, 0}, 120, 160},
        {640, 480, 3, {60, 80, 0}, 80, 60},
    };
    enum { CASES = sizeof cases / sizeof *cases };
    at_decoder *d = at_decoder_new();
    for (size_t i = 0; i < CASES; i++) {
        encoded file = jpeg_of(cases[i].width, cases[i].height, 3, (jpeg_spec){.quality = 80});
        file = exif_into(file, &(exif_spec){.orientation = cases[i].orientation});
        at_image view = view_of(d, file, cases[i].r);
        bool side = cases[i].orientation > 4;
        assert_int_equal(view.width, cases[i].wide);
        assert_int_equal(view.height, cases[i].high);
        at_stored stored = at_decoder_stored(d);
        assert_int_equal(stored.width, side ? cases[i].height : cases[i].width);
        assert_int_equal(stored.height, side ? cases[i].width : cases[i].height);
        free(file.bytes);
    }
    at_decoder_free(d);
    print_message("%d sizes\n", CASES);
}

/* What has no parts comes in full. */
static void test_png_stays(void **state)
{
    (void)state;
    uint8_t *rows = calloc(64 * 48, 1);
    encoded png = encode_png(&(png_spec){.width = 64, .height = 48, .depth = 8}, rows, 64);
    at_decoder *d = at_decoder_new();
    at_image view = view_of(d, png, (at_reduction){4, 4, 0});
    assert_int_equal(view.width, 64);
    assert_int_equal(at_decoder_stored(d).height, 48);
    at_decoder_free(d);
    free(png.bytes);
    free(rows);
}

/* ---- how near ---- */

struct distance {
    double mean;
    int most;
};

static struct distance distance_of(encoded file, int height, int width, int channels)
{
    size_t n = (size_t)(height * width * channels);
    uint8_t *full = malloc(n), *reduced = malloc(n);
    at_decoder *d = at_decoder_new();
    at_error err = {0};
    at_image view = view_of(d, file, (at_reduction){0});
    assert_int_equal(at_image_fit(&view, height, width, channels, full, &err), 0);
    int before = view.width;
    view = view_of(d, file, (at_reduction){height, width, 0});
    assert_true(view.width < before);
    assert_int_equal(at_image_fit(&view, height, width, channels, reduced, &err), 0);
    struct distance out = {0};
    for (size_t i = 0; i < n; i++) {
        int apart = abs(full[i] - reduced[i]);
        out.mean += apart / (double)n;
        out.most = apart > out.most ? apart : out.most;
    }
    at_decoder_free(d);
    free(full);
    free(reduced);
    return out;
}

/* Sides that are multiples of a block and not, exactly a part and between two. */
static void test_pixels_are_near(void **state)
{
    (void)state;
    static const struct {
        int width, height, channels, to_height, to_width;
        jpeg_spec spec;
    } cases[] = {
        {1792, 1792, 3, 224, 224, {.quality = 88}}, /* an eighth */
        {1600, 1200, 3, 100, 100, {.quality = 88}},
        {1603, 1209, 3, 151, 201, {.quality = 88}},
        {1603, 1209, 3, 224, 224, {.quality = 88}}, /* a quarter, then a little smaller */
        {903, 701, 3, 224, 224, {.quality = 70}},   /* a half */
        {903, 701, 3, 224, 224, {.quality = 95, .progressive = true}},
        {903, 701, 1, 80, 80, {.quality = 80}},
        {903, 701, 3, 80, 80, {.quality = 90, .cmyk = true}},
    };
    enum { CASES = sizeof cases / sizeof *cases };
    for (size_t i = 0; i < CASES; i++) {
        encoded file = jpeg_of(cases[i].width, cases[i].height, cases[i].channels, cases[i].spec);
        struct distance d =
            distance_of(file, cases[i].to_height, cases[i].to_width, cases[i].channels);
        print_message("%d x %d to %d x %d: mean %.3f, at most %d of 255\n", cases[i].width,
                      cases[i].height, cases[i].to_width, cases[i].to_height, d.mean, d.most);
        assert_true(d.mean < 1);
        assert_true(d.most <= 8);
        free(file.bytes);
    }
}

/* The worst for any resize: black discs on white, edges that lie anywhere in a block. */
static void test_edges_are_near(void **state)
{
    (void)state;
    enum { SIDE = 1200, APART = 75 };
    at_image image = paint_image(SIDE, SIDE, 3, 9);
    for (int i = 0; i < SIDE * SIDE; i++) {
        int x = i % SIDE % APART - APART / 2, y = i / SIDE % APART - APART / 2;
        memset(image.pixels + 3 * i, x * x + y * y < 800 ? 0 : 255, 3);
    }
    encoded file = encode_jpeg(&image, &(jpeg_spec){.quality = 95});
    for (int side = 150; side <= 600; side += 75) {
        struct distance d = distance_of(file, side, side, 3);
        print_message("discs to %d x %d: mean %.2f, at most %d of 255\n", side, side, d.mean,
                      d.most);
        assert_true(d.mean < 5);
        assert_true(d.most < 64);
    }
    free(file.bytes);
    at_image_fini(&image);
}

/* ---- broken files ---- */

static const char *verdict(at_decoder *d, const uint8_t *bytes, size_t size, at_reduction r)
{
    at_image view;
    const char *reason = NULL;
    at_error err = {0};
    at_decoder_reduce(d, r);
    at_decoder_decode(d, bytes, size, NULL, &view, &reason, &err);
    return reason ? reason : "good";
}

static size_t compare_verdicts(encoded file, size_t cuts, size_t flips, size_t *refused)
{
    static const at_reduction whole = {0}, part = {16, 16, 0};
    at_decoder *d = at_decoder_new();
    at_rng rng = at_rng_stream(4, "flips", file.size);
    uint8_t *copy = malloc(file.size);
    for (size_t i = 0; i < cuts + flips; i++) {
        size_t size = i < cuts ? file.size * i / cuts : file.size;
        memcpy(copy, file.bytes, file.size);
        for (int k = 0; i >= cuts && k < 4; k++)
            copy[600 + at_rng_below(&rng, size - 600)] ^= (uint8_t)(1 + at_rng_below(&rng, 255));
        const char *full = verdict(d, copy, size, whole), *reduced = verdict(d, copy, size, part);
        if (strcmp(full, reduced))
            fail_msg("%s %zu of %zu bytes: in full %s, in part %s", i < cuts ? "cut at" : "flipped",
                     size, file.size, full, reduced);
        *refused += strcmp(full, "good") != 0;
    }
    free(copy);
    at_decoder_free(d);
    return cuts + flips;
}

static void test_broken_files_are_found(void **state)
{
    (void)state;
    static const jpeg_spec specs[] = {{.quality = 85},
                                      {.quality = 85, .progressive = true},
                                      {.quality = 85, .restart = 1},
                                      {.quality = 85, .cmyk = true}};
    size_t cases = 0, refused = 0;
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        encoded file = jpeg_of(200, 150, 3, specs[i]);
        cases += compare_verdicts(file, 250, 250, &refused);
        free(file.bytes);
    }
    print_message("%zu broken files, %zu refused, all alike in part and in full\n", cases, refused);
    assert_true(refused >= 1000);
}

/* ---- an ingest ---- */

static void test_catalog_tells_the_full_size(void **state)
{
    struct place *p = *state;
    encoded file = jpeg_of(1500, 1003, 3, (jpeg_spec){.quality = 90});
    file = exif_into(file, &(exif_spec){.orientation = 6});
    put_file(p->source, "train/a/large.jpg", file.bytes, file.size);
    at_decoder *d = at_decoder_new();
    at_image full = view_of(d, file, (at_reduction){0});
    at_pixel_stats stats;
    at_pixel_stats_of(&full, &stats);
    ingest_must(p->source, p->out, 0);
    place_expect(p, "SELECT width || ' x ' || height FROM blobs", "1003 x 1500");
    char sql[200];
    snprintf(sql, sizeof sql,
             "SELECT abs(mean_0 - %f) < 0.5 AND abs(mean_2 - %f) < 0.5 AND"
             " abs(deviation_1 - %f) < 4 FROM blobs",
             stats.mean[0], stats.mean[2], stats.deviation[1]);
    place_expect(p, sql, "1");
    int32_t label;
    at_image kept = place_pixels(p->out, AT_TRAIN, 0, &label);
    assert_int_equal(kept.width, 1003); /* who asks for it in full gets that */
    at_image_fini(&kept);
    at_decoder_free(d);
    free(file.bytes);
}

int main(void)
{
    at_progress_silence(true);
    at_log_set_level(AT_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_png_stays),
        cmocka_unit_test(test_pixels_are_near),
        cmocka_unit_test(test_edges_are_near),
        cmocka_unit_test(test_broken_files_are_found),
        cmocka_unit_test_setup_teardown(test_catalog_tells_the_full_size, place_set_up,
                                        place_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
