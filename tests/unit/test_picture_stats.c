/* SPDX-License-Identifier: Apache-2.0
 * Statistics of a picture's pixels against their definitions, pixel by pixel. */
#include "../../datasets/internal.h"

#include "encode.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int value_at(const at_image *m, int x, int y, int c)
{
    return m->pixels[((size_t)y * (size_t)m->width + (size_t)x) * (size_t)m->channels + (size_t)c];
}

static double share_of(const at_image *m, int channel, int bin, int step)
{
    double hits = 0, n = 0;
    for (int y = 0; y < m->height; y += step)
        for (int x = 0; x < m->width; x++, n++)
            hits += value_at(m, x, y, channel) / 16 == bin;
    return hits / n;
}

static double entropy_of(const at_image *m, int step)
{
    double bits = 0;
    for (int c = 0; c < m->channels; c++)
        for (int bin = 0; bin < 16; bin++) {
            double share = share_of(m, c, bin, step);
            bits -= share > 0 ? share * log2(share) : 0;
        }
    return bits / m->channels;
}

static double sharpness_of(const at_image *m, int step)
{
    double sum = 0, square = 0, n = 0;
    for (int y = 0; y < m->height - 1; y += step)
        for (int x = 1; x < m->width - 1 && y > 0; x++)
            for (int c = 0; c < m->channels; c++, n++) {
                double v = 4 * value_at(m, x, y, c) - value_at(m, x - 1, y, c) -
                           value_at(m, x + 1, y, c) - value_at(m, x, y - 1, c) -
                           value_at(m, x, y + 1, c);
                sum += v;
                square += v * v;
            }
    return n > 0 ? square / n - sum / n * (sum / n) : 0;
}

static double grey_at(const at_image *m, int x, int y)
{
    return m->channels == 1
               ? 256 * value_at(m, x, y, 0)
               : 77 * value_at(m, x, y, 0) + 150 * value_at(m, x, y, 1) + 29 * value_at(m, x, y, 2);
}

/* Mean grey of area (column, row) of 9 x 8. */
static double cell_of(const at_image *m, int column, int row, int step)
{
    double sum = 0, n = 0;
    for (int y = 0; y < m->height; y += step)
        for (int x = m->width * column / 9; x < m->width * (column + 1) / 9; x++)
            if (y * 8 / m->height == row) {
                sum += grey_at(m, x, y);
                n++;
            }
    return sum / n;
}

static uint64_t dhash_of(const at_image *m, int step)
{
    uint64_t hash = 0;
    for (int row = 0; row < 8; row++)
        for (int c = 0; c < 8; c++)
            hash = hash << 1 | (cell_of(m, c, row, step) > cell_of(m, c + 1, row, step) + 1e-9);
    return hash;
}

static void assert_near(double value, double expected, double within)
{
    if (!(fabs(value - expected) <= within))
        fail_msg("%.9g, not %.9g", value, expected);
}

static void test_statistics_are_as_defined(void **state)
{
    (void)state;
    static const struct {
        int width, height, step; /* step: rows that are looked at, of over 0.5 Mpixel */
    } sizes[] = {{32, 32, 1},   {9, 8, 1},     {28, 28, 1},   {33, 47, 1},   {1024, 11, 1},
                 {1025, 9, 1},  {2500, 40, 1}, {40, 2500, 1}, {800, 700, 2}, {1000, 1100, 3},
                 {70000, 9, 1}, {5, 20, 1},    {16, 16, 1},   {257, 300, 1}, {12, 3, 1},
                 {3, 12, 1},    {1, 1, 1},     {2, 2, 1}};
    size_t cases = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int channels = 1; channels <= 3; channels += 2, cases++) {
            at_image m = paint_image(sizes[i].width, sizes[i].height, channels, i);
            int step = sizes[i].step;
            at_pixel_stats s, generic = {0};
            at_pixel_stats_of(&m, &s);
            at_picture_look_by(&at_look_kernels_generic, &m, &generic);
            assert_memory_equal(s.histogram, generic.histogram, (size_t)channels * 32);
            assert_true(s.entropy == generic.entropy && s.sharpness == generic.sharpness &&
                        s.dhash == generic.dhash);
            assert_near(s.entropy, entropy_of(&m, step), 1e-12);
            assert_near(s.sharpness, sharpness_of(&m, step), 1e-6 * (1 + s.sharpness));
            for (int c = 0; c < channels; c++)
                for (int bin = 0; bin < AT_HISTOGRAM_BINS; bin++)
                    assert_near(s.histogram[c][bin] / (double)AT_HISTOGRAM_ONE,
                                share_of(&m, c, bin, step), 1e-5);
            if (m.width >= 9 && m.height >= 8 && s.dhash != dhash_of(&m, step))
                fail_msg("%d x %d x %d: dHash %016llx", m.width, m.height, channels,
                         (unsigned long long)s.dhash);
            at_image_fini(&m);
        }
    print_message("%zu pictures\n", cases);
}

/* Vectors end with rows of any length, within the picture's bytes (a sanitizer watches). */
static void test_every_small_size(void **state)
{
    (void)state;
    size_t cases = 0;
    for (int channels = 1; channels <= 3; channels += 2)
        for (int width = 1; width < 40; width++)
            for (int height = 1; height < 20; height++, cases++) {
                at_image m = paint_image(width, height, channels, cases);
                at_pixel_stats best, generic;
                at_pixel_stats_of(&m, &best);
                generic = best;
                at_picture_look_by(&at_look_kernels_generic, &m, &generic);
                assert_memory_equal(&best, &generic, sizeof best);
                assert_near(best.entropy, entropy_of(&m, 1), 1e-12);
                assert_near(best.sharpness, sharpness_of(&m, 1), 1e-6 * (1 + best.sharpness));
                at_image_fini(&m);
            }
    print_message("%zu pictures\n", cases);
}

static at_pixel_stats stats_of(const at_image *m)
{
    at_pixel_stats s;
    at_pixel_stats_of(m, &s);
    return s;
}

static void test_extremes(void **state)
{
    (void)state;
    at_image m = {40, 30, 3, malloc(3600)};
    assert_non_null(m.pixels);
    memset(m.pixels, 17, 3600);
    at_pixel_stats flat = stats_of(&m);
    assert_true(flat.entropy == 0 && flat.sharpness == 0 && flat.dhash == 0);
    assert_int_equal(flat.histogram[2][1], AT_HISTOGRAM_ONE);
    for (size_t i = 0; i < 3600; i++) /* a chequerboard: the sharpest there is */
        m.pixels[i] = (i / 3 % 40 + i / 120) % 2 ? 255 : 0;
    at_pixel_stats sharp = stats_of(&m);
    assert_near(sharp.entropy, 1, 1e-5);
    assert_near(sharp.sharpness, 1020.0 * 1020, 1);
    assert_int_equal(sharp.histogram[0][0] + sharp.histogram[0][15], AT_HISTOGRAM_ONE + 1);
    at_image_fini(&m);
}

/* The same picture smaller, and saved as JPEG, keeps its hash but for a few bits; another does not. */
static void test_dhash_follows_looks(void **state)
{
    (void)state;
    at_image m = {200, 160, 3, malloc(200 * 160 * 3)}, half = {100, 80, 3, malloc(100 * 80 * 3)};
    assert_true(m.pixels && half.pixels);
    for (int y = 0; y < 160; y++)
        for (int x = 0; x < 200; x++)
            for (int c = 0; c < 3; c++)
                m.pixels[(y * 200 + x) * 3 + c] =
                    (uint8_t)(127 + 120 * sin(x * 0.07 + c) * cos(y * 0.05 + x * 0.01));
    assert_int_equal(at_image_fit(&m, 80, 100, 3, half.pixels, NULL), 0);
    encoded jpeg = encode_jpeg(&m, &(jpeg_spec){.quality = 50});
    at_image again;
    assert_int_equal(at_image_decode(jpeg.bytes, jpeg.size, NULL, &again, NULL, NULL), 0);
    uint64_t whole = stats_of(&m).dhash;
    assert_in_range(__builtin_popcountll(whole), 12, 52);
    assert_in_range(__builtin_popcountll(whole ^ stats_of(&half).dhash), 0, 3);
    assert_in_range(__builtin_popcountll(whole ^ stats_of(&again).dhash), 0, 3);
    for (size_t i = 0; i < 200 * 160 * 3; i++)
        m.pixels[i] = (uint8_t)(255 - m.pixels[i]);
    assert_in_range(__builtin_popcountll(whole ^ stats_of(&m).dhash), 50, 64);
    free(jpeg.bytes);
    at_image_fini(&again);
    at_image_fini(&half);
    at_image_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_statistics_are_as_defined),
        cmocka_unit_test(test_every_small_size),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_dhash_follows_looks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
