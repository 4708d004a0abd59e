/* SPDX-License-Identifier: Apache-2.0
 * The one resize: exact where it must be, within one grey value of the same sums in floating point
 * elsewhere. */
#include "encode.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint8_t *fit(const at_image *image, int height, int width, int channels)
{
    at_error err = {0};
    uint8_t *out = malloc((size_t)(height * width * channels));
    assert_non_null(out);
    if (at_image_fit(image, height, width, channels, out, &err))
        fail_msg("%s", err.message);
    return out;
}

static void test_the_same_size_is_a_copy(void **state)
{
    (void)state;
    for (int channels = 1; channels <= 3; channels += 2) {
        at_image image = paint_image(28, 28, channels, 1);
        uint8_t *out = fit(&image, 28, 28, channels);
        assert_memory_equal(out, image.pixels, (size_t)(28 * 28 * channels));
        free(out);
        at_image_fini(&image);
    }
}

/* Halving averages 2 x 2 pixels, halves rounded up. */
static void test_halving_averages(void **state)
{
    (void)state;
    at_image image = paint_image(64, 48, 3, 2);
    uint8_t *out = fit(&image, 24, 32, 3);
    for (int y = 0; y < 24; y++)
        for (int x = 0; x < 32; x++)
            for (int c = 0; c < 3; c++) {
                const uint8_t *p = image.pixels + (2 * y * 64 + 2 * x) * 3 + c;
                int sum = p[0] + p[3] + p[192] + p[195];
                assert_int_equal(out[(y * 32 + x) * 3 + c], (sum + 2) / 4);
            }
    free(out);
    at_image_fini(&image);
}

static double keys(double x)
{
    x = fabs(x);
    return x < 1   ? 1.5 * x * x * x - 2.5 * x * x + 1
           : x < 2 ? -0.5 * x * x * x + 2.5 * x * x - 4 * x + 2
                   : 0;
}

/* Weight of input k for output i, after its definition; k may lie outside. */
static double weight(int in, int out, int i, int k)
{
    double scale = (double)in / out;
    if (in <= out)
        return keys(k + 0.5 - (i + 0.5) * scale);
    return fmax(0, fmin((i + 1) * scale, k + 1) - fmax(i * scale, k)) / scale;
}

static double reference(const at_image *image, int height, int width, int y, int x, int c)
{
    double sum = 0, norm = 0;
    for (int j = -3; j < image->height + 3; j++)
        for (int i = -3; i < image->width + 3; i++) {
            double w = weight(image->height, height, y, j) * weight(image->width, width, x, i);
            int row = j < 0 ? 0 : j >= image->height ? image->height - 1 : j;
            int column = i < 0 ? 0 : i >= image->width ? image->width - 1 : i;
            sum += w * image->pixels[(row * image->width + column) * image->channels + c];
            norm += w;
        }
    assert_true(fabs(norm - 1) < 1e-9 || image->height > height || image->width > width);
    return fmin(255, fmax(0, sum / norm));
}

static void test_against_floating_point(void **state)
{
    (void)state;
    static const int cases[][4] = {/* in, out as width x height */
                                   {5, 7, 11, 13},  {13, 11, 7, 5},   {1, 1, 6, 9},
                                   {2, 3, 9, 4},    {3, 1, 3, 8},     {17, 40, 16, 41},
                                   {40, 17, 8, 34}, {32, 32, 28, 28}, {28, 28, 32, 32},
                                   {50, 9, 1, 1},   {9, 50, 4, 7}};
    size_t compared = 0;
    double worst = 0;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
        for (int channels = 1; channels <= 3; channels += 2) {
            at_image image = paint_image(cases[k][0], cases[k][1], channels, k);
            at_rng rng = at_rng_stream(k, "resize", 0);
            for (int i = 0; i < image.width * image.height * channels; i++)
                image.pixels[i] = (uint8_t)at_rng_below(&rng, 256); /* the worst case: noise */
            int width = cases[k][2], height = cases[k][3];
            uint8_t *out = fit(&image, height, width, channels);
            for (int y = 0; y < height; y++)
                for (int x = 0; x < width; x++)
                    for (int c = 0; c < channels; c++, compared++) {
                        double want = reference(&image, height, width, y, x, c);
                        worst = fmax(worst, fabs(want - out[(y * width + x) * channels + c]));
                    }
            free(out);
            at_image_fini(&image);
        }
    print_message("%zu pixels, at most %.3f from floating point\n", compared, worst);
    assert_true(worst < 0.53);
}

static void test_a_flat_picture_stays_flat(void **state)
{
    (void)state;
    for (int value = 0; value < 256; value += 5)
        for (int size = 1; size < 70; size += 7) {
            at_image image = paint_image(23, 31, 3, 0);
            memset(image.pixels, value, 23 * 31 * 3);
            uint8_t *out = fit(&image, size, 70 - size, 3);
            for (int i = 0; i < size * (70 - size) * 3; i++)
                assert_int_equal(out[i], value);
            free(out);
            at_image_fini(&image);
        }
}

static void test_large_pictures(void **state)
{
    (void)state;
    at_image image = paint_image(3000, 2000, 1, 9);
    double sum = 0;
    for (size_t i = 0; i < 6000000; i++)
        sum += image.pixels[i];
    uint8_t *out = fit(&image, 1, 1, 1);
    assert_true(fabs(out[0] - sum / 6e6) <= 1);
    free(out);
    at_image_fini(&image);
}

static void test_grey_and_colour(void **state)
{
    (void)state;
    uint8_t colours[] = {255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 90, 90, 90};
    at_image image = {.width = 6, .height = 1, .channels = 3, .pixels = colours};
    uint8_t *grey = fit(&image, 1, 6, 1);
    assert_memory_equal(grey, ((uint8_t[]){76, 150, 29, 255, 0, 90}), 6); /* 0.299, 0.587, 0.114 */
    at_image back = {.width = 6, .height = 1, .channels = 1, .pixels = grey};
    uint8_t *rgb = fit(&back, 2, 12, 3);
    for (int i = 0; i < 24; i++)
        assert_true(rgb[3 * i] == rgb[3 * i + 1] && rgb[3 * i] == rgb[3 * i + 2]);
    free(rgb);
    free(grey);
}

/* Crop: the middle part alone, fitted; letterbox: all of it, fitted into the middle. */
static void test_frames(void **state)
{
    (void)state;
    static const struct {
        int width, height, to_width, to_height; /* of the picture, of the frame */
        int left, top, part_width, part_height; /* what a crop takes */
        int at_x, at_y, box_width, box_height;  /* where a letterbox puts it */
    } cases[] = {
        {40, 20, 10, 10, 10, 0, 20, 20, 0, 2, 10, 5},
        {20, 40, 10, 10, 0, 10, 20, 20, 2, 0, 5, 10},
        {30, 20, 12, 8, 0, 0, 30, 20, 0, 0, 12, 8},
        {7, 5, 21, 30, 1, 0, 4, 5, 0, 7, 21, 15}, /* 5 * 21 / 30 = 3.5 */
        {100, 1, 8, 8, 49, 0, 1, 1, 0, 3, 8, 1},
        {640, 480, 224, 224, 80, 0, 480, 480, 0, 28, 224, 168},
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
        for (int from = 1; from <= 3; from += 2)
            for (int to = 1; to <= 3; to += 2) {
                at_image image = paint_image(cases[k].width, cases[k].height, from, k);
                int w = cases[k].to_width, h = cases[k].to_height;
                at_frame f = {h, w, to, AT_FIT_CROP};
                uint8_t *got = malloc((size_t)(h * w * to));
                at_image part = paint_image(cases[k].part_width, cases[k].part_height, from, 0);
                size_t row = (size_t)(part.width * from);
                for (int y = 0; y < part.height; y++)
                    memcpy(part.pixels + (size_t)y * row,
                           image.pixels + ((size_t)(y + cases[k].top) * (size_t)image.width +
                                           (size_t)cases[k].left) *
                                              (size_t)from,
                           row);
                uint8_t *want = fit(&part, h, w, to);
                assert_int_equal(at_image_frame(&image, &f, got, NULL), 0);
                assert_memory_equal(got, want, (size_t)(h * w * to));
                free(want);

                f.fit = AT_FIT_LETTERBOX;
                int bw = cases[k].box_width, bh = cases[k].box_height;
                want = fit(&image, bh, bw, to);
                memset(got, 9, (size_t)(h * w * to));
                assert_int_equal(at_image_frame(&image, &f, got, NULL), 0);
                for (int i = 0; i < h * w * to; i++) {
                    int x = i / to % w - cases[k].at_x, y = i / to / w - cases[k].at_y;
                    bool inside = x >= 0 && x < bw && y >= 0 && y < bh;
                    assert_int_equal(got[i], inside ? want[(y * bw + x) * to + i % to] : 0);
                }
                free(want);
                free(got);
                at_image_fini(&part);
                at_image_fini(&image);
            }
}

static void test_impossible_shapes_are_refused(void **state)
{
    (void)state;
    uint8_t pixel[3] = {0};
    at_image image = {.width = 1, .height = 1, .channels = 3, .pixels = pixel};
    static const int shapes[][3] = {{0, 1, 1}, {1, -1, 1}, {1, 1, 2}, {1, 1, 4}, {1 << 20, 1, 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        assert_int_equal(
            at_image_fit(&image, shapes[i][0], shapes[i][1], shapes[i][2], pixel, NULL), AT_EINPUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_same_size_is_a_copy),
        cmocka_unit_test(test_halving_averages),
        cmocka_unit_test(test_against_floating_point),
        cmocka_unit_test(test_a_flat_picture_stays_flat),
        cmocka_unit_test(test_large_pictures),
        cmocka_unit_test(test_grey_and_colour),
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_impossible_shapes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
