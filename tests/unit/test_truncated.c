/* SPDX-License-Identifier: Apache-2.0
 * Pictures that end early: twenty of every kind, cut at every byte. Not one is taken, even where its
 * pixels are all there and only the end marker is missing; the reason is always the right one. */
#include "encode.h"
#include "exif_block.h"
#include "place.h"
#include "sources.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GREY = 0, RGB = 2, PALETTE = 3, GREY_ALPHA = 4, RGB_ALPHA = 6 };
enum { WIDTH = 21, HEIGHT = 17 };
static const exif_spec exif = {
    .make = "Canon", .orientation = 6, .latitude = 52.5, .longitude = 13};

/* ---- twenty pictures ------------------------------------------------------------------------- */

static const struct sample {
    const char *name;
    bool png, exif;
    int channels;
    png_spec as_png; /* its width and height are filled in */
    jpeg_spec as_jpeg;
} samples[] = {
    {"png-1", true, .as_png = {.depth = 1, .type = GREY}},
    {"png-grey-2-interlaced", true, .as_png = {.depth = 2, .type = GREY, .interlaced = true}},
    {"png-grey-8", true, .as_png = {.depth = 8, .type = GREY}},
    {"png-grey-16-interlaced", true, .as_png = {.depth = 16, .type = GREY, .interlaced = true}},
    {"png-palette", true, .as_png = {.depth = 4, .type = PALETTE}},
    {"png-grey-alpha", true, .as_png = {.depth = 8, .type = GREY_ALPHA}},
    {"png-rgb", true, .as_png = {.depth = 8, .type = RGB}},
    {"png-rgb-16", true, .as_png = {.depth = 16, .type = RGB}},
    {"png-rgba-interlaced", true, .as_png = {.depth = 8, .type = RGB_ALPHA, .interlaced = true}},
    {"png-exif", true, true, .as_png = {.depth = 8, .type = RGB}},
    {"jpeg-grey", .channels = 1, .as_jpeg = {.quality = 85}},
    {"jpeg", .channels = 3, .as_jpeg = {.quality = 85}},
    {"jpeg-best", .channels = 3, .as_jpeg = {.quality = 100}},
    {"jpeg-restart", .channels = 3, .as_jpeg = {.quality = 85, .restart = 1}},
    {"jpeg-cmyk", .channels = 3, .as_jpeg = {.quality = 85, .cmyk = true}},
    {"jpeg-exif", .exif = true, .channels = 3, .as_jpeg = {.quality = 85}},
    {"jpeg-progressive-grey", .channels = 1, .as_jpeg = {.quality = 85, .progressive = true}},
    {"jpeg-progressive", .channels = 3, .as_jpeg = {.quality = 85, .progressive = true}},
    {"jpeg-progressive-cmyk", .channels = 3,
     .as_jpeg = {.quality = 85, .progressive = true, .cmyk = true}},
    {"jpeg-progressive-exif", .exif = true, .channels = 3,
     .as_jpeg = {.quality = 85, .progressive = true, .restart = 1}},
};
enum { SAMPLES = sizeof samples / sizeof *samples };

static encoded make_png(const struct sample *s)
{
    static const uint8_t colours[3 * 16] = {10, 20, 30, 200, 100, 50, 1, 2, 3, 9, 9, 9};
    static const int channels[] = {
        [GREY] = 1, [RGB] = 3, [PALETTE] = 1, [GREY_ALPHA] = 2, [RGB_ALPHA] = 4};
    png_spec spec = s->as_png;
    spec.width = WIDTH;
    spec.height = HEIGHT;
    spec.palette = spec.type == PALETTE ? colours : NULL;
    spec.colours = 16;
    size_t stride = (size_t)(WIDTH * channels[spec.type] * spec.depth + 7) / 8;
    uint8_t *rows = malloc(stride * HEIGHT);
    assert_non_null(rows);
    at_rng rng = at_rng_stream(1, s->name, 0);
    for (size_t i = 0; i < stride * HEIGHT; i++)
        rows[i] = (uint8_t)(at_rng_below(&rng, 16) + i % 64);
    encoded file = encode_png(&spec, rows, stride);
    free(rows);
    return file;
}

static encoded make(const struct sample *s)
{
    encoded file;
    if (s->png) {
        file = make_png(s);
    } else {
        at_image image = paint_image(WIDTH, HEIGHT, s->channels, 3);
        file = encode_jpeg(&image, &s->as_jpeg);
        at_image_fini(&image);
    }
    return s->exif ? exif_into(file, &exif) : file;
}

/* Of a picture cut to this length. */
static const char *reason_of(const struct sample *s, size_t cut)
{
    return cut == 0 ? "empty" : cut < (s->png ? 8 : 3) ? "not-an-image" : "truncated";
}

/* ---- at every byte --------------------------------------------------------------------------- */

static void expect_whole(at_decoder *d, const encoded *file, const char *name)
{
    at_image view;
    at_error err = {0};
    if (at_decoder_decode(d, file->bytes, file->size, NULL, &view, NULL, &err))
        fail_msg("%s: %s", name, err.message);
    assert_int_equal(view.width * view.height, WIDTH * HEIGHT);
}

static void test_cut_at_every_byte(void **state)
{
    (void)state;
    size_t cases = 0;
    at_decoder *d = at_decoder_new();
    assert_non_null(d);
    for (int i = 0; i < SAMPLES; i++) {
        encoded file = make(&samples[i]);
        for (size_t cut = 0; cut < file.size; cut++, cases++) {
            uint8_t *copy = malloc(cut ? cut : 1); /* it ends where the allocation does */
            assert_non_null(copy);
            memcpy(copy, file.bytes, cut);
            at_image view;
            const char *reason = NULL;
            int code = at_decoder_decode(d, copy, cut, NULL, &view, &reason, NULL);
            if (code != AT_EINPUT || strcmp(reason, reason_of(&samples[i], cut)))
                fail_msg("%s cut to %zu of %zu bytes: %s", samples[i].name, cut, file.size,
                         reason ? reason : "taken");
            assert_null(view.pixels);
            free(copy);
        }
        expect_whole(d, &file, samples[i].name);
        free(file.bytes);
    }
    at_decoder_free(d);
    print_message("%d pictures cut at every byte: %zu files, none taken, each with its reason\n",
                  SAMPLES, cases);
}

/* The same as an ingest records them; some cuts of each. */
static void test_cut_files_are_in_errors(void **state)
{
    struct place *p = *state;
    size_t cases = 0, counts[3] = {0};
    static const char *const reasons[3] = {"empty", "not-an-image", "truncated"};
    for (int i = 0; i < SAMPLES; i++) {
        encoded file = make(&samples[i]);
        char name[80];
        snprintf(name, sizeof name, "whole/%s", samples[i].name);
        put_file(p->source, name, file.bytes, file.size);
        for (size_t cut = 0; cut < file.size; cut += 1 + cut / 4, cases++) {
            snprintf(name, sizeof name, "cut/%s-%zu", samples[i].name, cut);
            put_file(p->source, name, file.bytes, cut);
            for (int r = 0; r < 3; r++)
                counts[r] += !strcmp(reasons[r], reason_of(&samples[i], cut));
        }
        free(file.bytes);
    }
    at_ingest_result r = ingest_must(p->source, p->out, 0);
    assert_int_equal(r.images, SAMPLES);
    assert_int_equal(r.errors, cases);
    for (int i = 0; i < 3; i++) {
        char sql[100], want[24];
        snprintf(sql, sizeof sql, "SELECT count(*) FROM errors WHERE reason = '%s'", reasons[i]);
        snprintf(want, sizeof want, "%zu", counts[i]);
        place_expect(p, sql, want);
    }
    print_message("%zu cut files, each in errors with its reason\n", cases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut_at_every_byte),
        cmocka_unit_test_setup_teardown(test_cut_files_are_in_errors, place_set_up,
                                        place_tear_down),
    };
    at_log_set_level(AT_LOG_WARN);
    at_progress_silence(true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
