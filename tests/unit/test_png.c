/* SPDX-License-Identifier: Apache-2.0
 * Every PNG that there can be: colour type x bit depth x interlace x transparency x size, as in
 * PngSuite, written by libpng and held against pixels worked out here from the samples. */
#include "encode.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GREY = 0, RGB = 2, PALETTE = 3, GREY_ALPHA = 4, RGB_ALPHA = 6 }; /* libpng's colour types */
enum { MOST = 40 * 40 * 4 };

static const struct kind {
    int type, channels; /* in the file */
    int depths[6];      /* 0 ends them */
    bool key;           /* may name a transparent colour, or alphas of its palette */
} kinds[] = {{GREY, 1, {1, 2, 4, 8, 16}, true},
             {RGB, 3, {8, 16}, true},
             {PALETTE, 1, {1, 2, 4, 8}, true},
             {GREY_ALPHA, 2, {8, 16}, false},
             {RGB_ALPHA, 4, {8, 16}, false}};

static const int sizes[][2] = {{1, 1}, {2, 1}, {1, 5}, {7, 7}, {8, 8}, {9, 3}, {33, 17}, {40, 40}};

/* One case: what is in the file. */
struct picture {
    const struct kind *kind;
    int depth, width, height;
    bool key;
    uint16_t samples[MOST]; /* [H,W,C] */
    uint8_t palette[3 * 256], alphas[256];
    uint16_t transparent[3];
};

static size_t sample_count(const struct picture *p)
{
    return (size_t)(p->width * p->height * p->kind->channels);
}

static void fill(struct picture *p, at_rng *rng)
{
    uint64_t values = 1u << p->depth;
    for (size_t i = 0; i < sample_count(p); i++)
        p->samples[i] = (uint16_t)at_rng_below(rng, values);
    for (int i = 0; i < 3 * 256; i++)
        p->palette[i] = (uint8_t)at_rng_below(rng, 256);
    for (int i = 0; i < 256; i++)
        p->alphas[i] = (uint8_t)(i % 3 == 0 ? 0 : i % 3 == 1 ? 255 : at_rng_below(rng, 256));
    /* the colour of a pixel that is there; 0 is "none" to the grey form of the encoder */
    if (p->kind->type == GREY && p->samples[0] == 0)
        p->samples[0] = 1;
    for (int c = 0; c < 3; c++)
        p->transparent[c] = p->samples[c % p->kind->channels];
}

/* Most significant bit first, rows begin with a byte of their own. */
static encoded encode(const struct picture *p, bool interlaced)
{
    size_t row_samples = (size_t)(p->width * p->kind->channels);
    size_t stride = (row_samples * (size_t)p->depth + 7) / 8;
    uint8_t *rows = calloc((size_t)p->height, stride);
    assert_non_null(rows);
    for (size_t y = 0; y < (size_t)p->height; y++)
        for (size_t i = 0; i < row_samples; i++)
            for (int bit = 0; bit < p->depth; bit++) {
                size_t at = i * (size_t)p->depth + (size_t)bit;
                int value = p->samples[y * row_samples + i] >> (p->depth - 1 - bit) & 1;
                rows[y * stride + at / 8] |= (uint8_t)(value << (7 - at % 8));
            }
    png_spec spec = {p->width, p->height, p->depth, p->kind->type, .interlaced = interlaced};
    if (p->kind->type == PALETTE) {
        spec.palette = p->palette;
        spec.colours = 1 << p->depth;
        spec.palette_alpha = p->key ? p->alphas : NULL;
    } else if (p->key && p->kind->type == GREY) {
        spec.transparent_grey = p->transparent[0];
    } else if (p->key) {
        spec.transparent_rgb = p->transparent;
    }
    encoded file = encode_png(&spec, rows, stride);
    free(rows);
    return file;
}

/* ---- the expectation ------------------------------------------------------------------------- */

static double share(const struct picture *p, uint16_t sample) /* of full intensity, 0..1 */
{
    return (double)sample / (double)((1 << p->depth) - 1);
}

static int byte_of(double share_of_255)
{
    return (int)(share_of_255 * 255 + 0.5);
}

/* The pixel's colours and alpha as bytes. */
static void expect_pixel(const struct picture *p, const uint16_t *s, int colour[3], int *alpha)
{
    bool hit = p->key;
    *alpha = 255;
    for (int c = 0; c < 3; c++) {
        bool grey = p->kind->type == GREY || p->kind->type == GREY_ALPHA;
        colour[c] = p->kind->type == PALETTE ? p->palette[3 * s[0] + c]
                                             : byte_of(share(p, s[grey ? 0 : c]));
        hit = hit && p->kind->type != PALETTE && s[grey ? 0 : c] == p->transparent[c];
    }
    if (p->kind->type == GREY_ALPHA || p->kind->type == RGB_ALPHA)
        *alpha = byte_of(share(p, s[p->kind->channels - 1]));
    else if (p->kind->type == PALETTE && p->key)
        *alpha = p->alphas[s[0]];
    else if (hit)
        *alpha = 0;
}

static void check(const struct picture *p, const encoded *file, const char *name)
{
    at_image image;
    at_error err = {0};
    if (at_image_decode(file->bytes, file->size, NULL, &image, NULL, &err))
        fail_msg("%s: %s", name, err.message);
    bool grey = p->kind->type == GREY || p->kind->type == GREY_ALPHA;
    assert_int_equal(image.channels, grey ? 1 : 3);
    assert_int_equal(image.width, p->width);
    assert_int_equal(image.height, p->height);
    for (int i = 0; i < p->width * p->height; i++) {
        int colour[3], alpha;
        expect_pixel(p, p->samples + i * p->kind->channels, colour, &alpha);
        for (int c = 0; c < image.channels; c++) {
            int want = byte_of(colour[c] / 255.0 * alpha / 255.0); /* over black */
            if (image.pixels[i * image.channels + c] != want)
                fail_msg("%s: pixel %d channel %d: %d instead of %d", name, i, c,
                         image.pixels[i * image.channels + c], want);
        }
    }
    at_image_fini(&image);
}

static size_t check_kind(const struct kind *kind, int depth, bool key, at_rng *rng)
{
    size_t cases = 0;
    struct picture *p = calloc(1, sizeof *p);
    assert_non_null(p);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int interlaced = 0; interlaced < 2; interlaced++, cases++) {
            char name[100];
            snprintf(name, sizeof name, "type %d, %d bits%s%s, %d x %d", kind->type, depth,
                     interlaced ? ", interlaced" : "", key ? ", transparent" : "", sizes[i][0],
                     sizes[i][1]);
            p->kind = kind;
            p->depth = depth;
            p->key = key;
            p->width = sizes[i][0];
            p->height = sizes[i][1];
            fill(p, rng);
            encoded file = encode(p, interlaced);
            check(p, &file, name);
            free(file.bytes);
        }
    free(p);
    return cases;
}

static void test_the_whole_matrix(void **state)
{
    (void)state;
    at_rng rng = at_rng_stream(1, "png", 0);
    size_t cases = 0, forms = 0;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (const int *depth = kinds[k].depths; *depth; depth++)
            for (int key = 0; key <= kinds[k].key; key++, forms += 2)
                cases += check_kind(&kinds[k], *depth, key, &rng);
    print_message("%zu PNG files of %zu forms, all pixels right\n", cases, forms);
    assert_int_equal(forms, 52);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_the_whole_matrix)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
