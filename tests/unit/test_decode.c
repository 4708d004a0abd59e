/* SPDX-License-Identifier: Apache-2.0
 * Decoding: every kind of PNG and JPEG gives the right pixels, everything else the right reason,
 * and damaged files do no harm. Those that end early are in test_truncated.c. */
#include "encode.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GREY = 0, RGB = 2, PALETTE = 3, GREY_ALPHA = 4, RGB_ALPHA = 6 }; /* libpng's colour types */

static at_image decode(const encoded *file)
{
    at_image image;
    at_error err = {0};
    const char *reason = "x";
    if (at_image_decode(file->bytes, file->size, NULL, &image, &reason, &err))
        fail_msg("%s", err.message);
    assert_null(reason);
    return image;
}

static const char *refuse(const void *bytes, size_t size, const at_decode_limits *limits)
{
    at_image image = {.width = 1};
    at_error err = {0};
    const char *reason = NULL;
    assert_int_equal(at_image_decode(bytes, size, limits, &image, &reason, &err), AT_EINPUT);
    assert_non_null(reason);
    assert_null(image.pixels);
    assert_memory_equal(err.message, reason, strlen(reason));
    return reason;
}

/* The decoded file must have this shape and these pixels; frees it. */
static void expect(encoded file, int width, int height, int channels, const uint8_t *pixels)
{
    at_image image = decode(&file);
    assert_int_equal(image.width, width);
    assert_int_equal(image.height, height);
    assert_int_equal(image.channels, channels);
    assert_memory_equal(image.pixels, pixels, (size_t)(width * height * channels));
    at_image_fini(&image);
    free(file.bytes);
}

/* ---- PNG ----------------------------------------------------------------------------------- */

static void test_png_keeps_8_bit_pixels(void **state)
{
    (void)state;
    static const int sizes[][2] = {{1, 1}, {2, 3}, {7, 5}, {64, 33}, {301, 2}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int channels = 1; channels <= 3; channels += 2)
            for (int interlaced = 0; interlaced < 2; interlaced++) {
                int w = sizes[i][0], h = sizes[i][1];
                at_image image = paint_image(w, h, channels, i);
                png_spec spec = {w, h, 8, channels == 1 ? GREY : RGB, .interlaced = interlaced};
                expect(encode_png(&spec, image.pixels, (size_t)(w * channels)), w, h, channels,
                       image.pixels);
                at_image_fini(&image);
            }
}

static void test_png_widens_few_bits(void **state)
{
    (void)state;
    static const uint8_t one_bit[] = {0xA0}, four_bits[] = {0x0F, 0x80};
    expect(encode_png(&(png_spec){4, 1, 1, GREY}, one_bit, 1), 4, 1, 1,
           (const uint8_t[]){255, 0, 255, 0});
    expect(encode_png(&(png_spec){3, 1, 4, GREY}, four_bits, 2), 3, 1, 1,
           (const uint8_t[]){0, 255, 136});
}

static void test_png_narrows_16_bits(void **state)
{
    (void)state;
    static const uint8_t deep[] = {0x00, 0x00, 0xFF, 0xFF, 0x80, 0x80,
                                   0x12, 0x34, 0x7F, 0xFF, 0x01, 0x01};
    expect(encode_png(&(png_spec){6, 1, 16, GREY}, deep, 12), 6, 1, 1,
           (const uint8_t[]){0, 255, 128, 18, 127, 1});
    expect(encode_png(&(png_spec){2, 1, 16, RGB}, deep, 12), 2, 1, 3,
           (const uint8_t[]){0, 255, 128, 18, 127, 1});
}

static void test_png_looks_palettes_up(void **state)
{
    (void)state;
    static const uint8_t colours[] = {10, 20, 30, 200, 100, 50, 1, 2, 3}, rows[] = {0, 1, 2, 1};
    png_spec spec = {4, 1, 8, PALETTE, .palette = colours, .colours = 3};
    expect(encode_png(&spec, rows, 4), 4, 1, 3,
           (const uint8_t[]){10, 20, 30, 200, 100, 50, 1, 2, 3, 200, 100, 50});
    spec.palette_alpha = (const uint8_t[]){255, 0, 128};
    expect(encode_png(&spec, rows, 4), 4, 1, 3,
           (const uint8_t[]){10, 20, 30, 0, 0, 0, 1, 1, 2, 0, 0, 0});
}

static void test_png_lays_alpha_over_black(void **state)
{
    (void)state;
    static const uint8_t grey[] = {200, 255, 200, 0, 200, 128, 77, 51};
    expect(encode_png(&(png_spec){4, 1, 8, GREY_ALPHA}, grey, 8), 4, 1, 1,
           (const uint8_t[]){200, 0, 100, 15});
    static const uint8_t rgba[] = {10, 20, 30, 255, 90, 60, 30, 85};
    expect(encode_png(&(png_spec){2, 1, 8, RGB_ALPHA}, rgba, 8), 2, 1, 3,
           (const uint8_t[]){10, 20, 30, 30, 20, 10});
    static const uint8_t key[] = {5, 6, 7};
    expect(encode_png(&(png_spec){3, 1, 8, GREY, .transparent_grey = 6}, key, 3), 3, 1, 1,
           (const uint8_t[]){5, 0, 7});
}

static void test_png_is_written_and_read_back(void **state)
{
    (void)state;
    for (int channels = 1; channels <= 3; channels += 2) {
        at_image image = paint_image(37, 11, channels, 5);
        void *bytes;
        size_t size;
        assert_int_equal(at_image_encode_png(&image, &bytes, &size, NULL), 0);
        expect((encoded){bytes, size}, 37, 11, channels, image.pixels);
        at_image_fini(&image);
    }
    assert_int_equal(at_image_encode_png(&(at_image){.channels = 3}, NULL, NULL, NULL), AT_EINPUT);
}

/* ---- JPEG ---------------------------------------------------------------------------------- */

static double mean_difference(const at_image *a, const at_image *b)
{
    size_t n = (size_t)(a->width * a->height * a->channels);
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += abs(a->pixels[i] - b->pixels[i]);
    return sum / (double)n;
}

static void test_jpeg_of_every_kind(void **state)
{
    (void)state;
    static const jpeg_spec specs[] = {{.quality = 95},
                                      {.quality = 95, .progressive = true},
                                      {.quality = 95, .restart = 1},
                                      {.quality = 95, .cmyk = true},
                                      {.quality = 95, .cmyk = true, .progressive = true}};
    static const int sizes[][2] = {{1, 1}, {8, 8}, {17, 31}, {200, 3}};
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++)
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
            for (int channels = specs[i].cmyk ? 3 : 1; channels <= 3; channels += 2) {
                at_image image = paint_image(sizes[k][0], sizes[k][1], channels, k);
                encoded file = encode_jpeg(&image, &specs[i]);
                at_image back = decode(&file);
                assert_int_equal(back.channels, channels);
                assert_int_equal(back.width, image.width);
                assert_int_equal(back.height, image.height);
                assert_true(mean_difference(&image, &back) < 4);
                at_image_fini(&back);
                at_image_fini(&image);
                free(file.bytes);
            }
}

static void test_a_decoder_is_as_good_after_a_failure(void **state)
{
    (void)state;
    at_image image = paint_image(40, 30, 3, 1), view, again;
    encoded file = encode_jpeg(&image, &(jpeg_spec){.quality = 80});
    at_decoder *d = at_decoder_new();
    assert_non_null(d);
    at_image first = decode(&file);
    for (size_t cut = 2; cut < file.size; cut += 37) {
        const char *reason = NULL;
        assert_int_equal(at_decoder_decode(d, file.bytes, cut, NULL, &view, &reason, NULL),
                         AT_EINPUT);
        assert_null(view.pixels);
        assert_int_equal(at_decoder_decode(d, file.bytes, file.size, NULL, &again, &reason, NULL),
                         0);
        assert_null(reason);
        assert_memory_equal(again.pixels, first.pixels, 40 * 30 * 3);
    }
    at_decoder_free(d);
    at_image_fini(&first);
    at_image_fini(&image);
    free(file.bytes);
}

/* ---- the raw form --------------------------------------------------------------------------- */

static void test_raw(void **state)
{
    (void)state;
    uint8_t raw[16 + 6] = {'A', 'T', 'R', 'W', 2, 0, 0, 0, 1, 0, 0,
                           0,   3,   0,   0,   0, 1, 2, 3, 4, 5, 6};
    encoded file = {raw, sizeof raw};
    at_image image = decode(&file);
    assert_int_equal(image.width, 2);
    assert_int_equal(image.height, 1);
    assert_int_equal(image.channels, 3);
    assert_memory_equal(image.pixels, raw + 16, 6);
    at_image_fini(&image);
    for (size_t cut = 4; cut < sizeof raw; cut++)
        assert_string_equal(refuse(raw, cut, NULL), "truncated");
    assert_string_equal(refuse(raw, 21, NULL), "truncated");
    raw[8] = 0;
    assert_string_equal(refuse(raw, sizeof raw, NULL), "corrupt");
    raw[8] = 1;
    raw[12] = 2;
    assert_string_equal(refuse(raw, sizeof raw, NULL), "corrupt");
    raw[12] = 1;
    assert_string_equal(refuse(raw, sizeof raw, NULL), "corrupt"); /* too many bytes */
    memset(raw + 4, 0xFF, 8);
    assert_string_equal(refuse(raw, sizeof raw, NULL), "too-large");
}

/* ---- what is refused ------------------------------------------------------------------------- */

static void test_reasons(void **state)
{
    (void)state;
    assert_string_equal(refuse("", 0, NULL), "empty");
    assert_string_equal(refuse("hello, world", 12, NULL), "not-an-image");
    assert_string_equal(refuse("GIF89a..........", 16, NULL), "unsupported");
    assert_string_equal(refuse("RIFF\x24\0\0\0WEBPVP8 ", 16, NULL), "unsupported");
    assert_string_equal(refuse("II*\0\x08\0\0\0........", 16, NULL), "unsupported");
    assert_string_equal(refuse("\x89PNG\r\n\x1A\n", 8, NULL), "truncated");
    at_image image = paint_image(50, 40, 3, 3);
    encoded png = encode_png(&(png_spec){50, 40, 8, RGB}, image.pixels, 150);
    encoded jpeg = encode_jpeg(&image, &(jpeg_spec){.quality = 90});
    at_decode_limits small = {.pixels = 1999}, enough = {.pixels = 2000},
                     few_bytes = {.bytes = 100};
    assert_string_equal(refuse(png.bytes, png.size, &small), "too-large");
    assert_string_equal(refuse(jpeg.bytes, jpeg.size, &small), "too-large");
    assert_string_equal(refuse(jpeg.bytes, jpeg.size, &few_bytes), "too-large");
    at_image out;
    assert_int_equal(at_image_decode(png.bytes, png.size, &enough, &out, NULL, NULL), 0);
    at_image_fini(&out);
    png.bytes[png.size / 2] ^= 0x40; /* inside the pixels: their CRC is wrong now */
    assert_string_equal(refuse(png.bytes, png.size, NULL), "corrupt");
    at_image_fini(&image);
    free(png.bytes);
    free(jpeg.bytes);
}

/* A PNG that claims 2^31-1 x 2^31-1 pixels must not make anyone allocate them. */
static void test_a_bomb_is_refused_by_its_header(void **state)
{
    (void)state;
    at_image image = paint_image(1, 1, 1, 0);
    encoded png = encode_png(&(png_spec){1, 1, 8, GREY}, image.pixels, 1);
    memset(png.bytes + 16, 0xFF, 8);
    png.bytes[16] = png.bytes[20] = 0x7F;
    const char *reason = refuse(png.bytes, png.size, NULL); /* the header's CRC is wrong, too */
    assert_true(!strcmp(reason, "corrupt") || !strcmp(reason, "too-large"));
    at_image_fini(&image);
    free(png.bytes);
}

/* ---- damage ---------------------------------------------------------------------------------- */

enum { SAMPLES = 7 };

static void make_samples(encoded out[SAMPLES])
{
    at_image rgb = paint_image(19, 13, 3, 1), grey = paint_image(9, 21, 1, 2);
    out[0] = encode_png(&(png_spec){19, 13, 8, RGB}, rgb.pixels, 57);
    out[1] = encode_png(&(png_spec){9, 21, 8, GREY, .interlaced = true}, grey.pixels, 9);
    static const uint8_t colours[] = {10, 20, 30, 200, 100, 50, 1, 2, 3, 9, 9, 9},
                         rows[] = {0x1B, 0xE4};
    out[2] = encode_png(&(png_spec){4, 2, 2, PALETTE, .palette = colours, .colours = 4}, rows, 1);
    out[3] = encode_jpeg(&rgb, &(jpeg_spec){.quality = 85});
    out[4] = encode_jpeg(&grey, &(jpeg_spec){.quality = 85});
    out[5] = encode_jpeg(&rgb, &(jpeg_spec){.quality = 85, .progressive = true});
    out[6] = encode_jpeg(&rgb, &(jpeg_spec){.quality = 85, .cmyk = true, .restart = 1});
    at_image_fini(&rgb);
    at_image_fini(&grey);
}

static void test_random_damage_does_no_harm(void **state)
{
    (void)state;
    encoded files[SAMPLES];
    make_samples(files);
    at_rng rng = at_rng_stream(1, "damage", 0);
    at_decoder *d = at_decoder_new();
    at_decode_limits limits = {.pixels = 1 << 20};
    size_t cases = 0, refused = 0;
    for (int i = 0; i < SAMPLES; i++) {
        uint8_t *copy = malloc(files[i].size);
        assert_true(copy && d);
        for (int round = 0; round < 3000; round++, cases++) {
            memcpy(copy, files[i].bytes, files[i].size);
            for (uint64_t flips = 1 + at_rng_below(&rng, 8); flips; flips--)
                copy[at_rng_below(&rng, files[i].size)] ^= (uint8_t)(1 << at_rng_below(&rng, 8));
            at_image view;
            const char *reason = NULL;
            int code = at_decoder_decode(d, copy, files[i].size, &limits, &view, &reason, NULL);
            assert_int_equal(code, reason ? AT_EINPUT : 0);
            refused += reason != NULL;
        }
        free(copy);
        free(files[i].bytes);
    }
    at_decoder_free(d);
    print_message("%zu files with flipped bits: %zu refused, none did harm\n", cases, refused);
    assert_true(refused > cases / 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_png_keeps_8_bit_pixels),
        cmocka_unit_test(test_png_widens_few_bits),
        cmocka_unit_test(test_png_narrows_16_bits),
        cmocka_unit_test(test_png_looks_palettes_up),
        cmocka_unit_test(test_png_lays_alpha_over_black),
        cmocka_unit_test(test_png_is_written_and_read_back),
        cmocka_unit_test(test_jpeg_of_every_kind),
        cmocka_unit_test(test_a_decoder_is_as_good_after_a_failure),
        cmocka_unit_test(test_raw),
        cmocka_unit_test(test_reasons),
        cmocka_unit_test(test_a_bomb_is_refused_by_its_header),
        cmocka_unit_test(test_random_damage_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
