/* SPDX-License-Identifier: Apache-2.0
 * What is painted over augmented pictures, and how two of them are mixed: against plain references
 * in double precision, written after torchvision's definitions and the papers'. */
#include "../../cache/internal.h"
#include "augmented.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- cutout ---- */

typedef struct box {
    int top, bottom, left, right;
} box;

/* The smallest box around all pixels of `out` that are not those of `in`. */
static box changed(const augmented *p)
{
    box b = {p->height, 0, p->width, 0};
    size_t c = (size_t)p->channels;
    for (int y = 0; y < p->height; y++)
        for (int x = 0; x < p->width; x++) {
            size_t at = (size_t)(y * p->width + x) * c;
            if (memcmp(p->in + at, p->out + at, c) == 0)
                continue;
            b.top = y < b.top ? y : b.top;
            b.bottom = y + 1 > b.bottom ? y + 1 : b.bottom;
            b.left = x < b.left ? x : b.left;
            b.right = x + 1 > b.right ? x + 1 : b.right;
        }
    return b;
}

static void test_cutout(void **state)
{
    (void)state;
    enum { H = 20, W = 24, SIDE = 8, TRIES = 2000 };
    static const uint8_t mean[] = {51, 128, 179}; /* of 0.2, 0.5, 0.7 */
    at_rng rng = at_rng_stream(1, "test_augment_paint", 0);
    augmented p;
    augmented_init(&p, &(at_augment){.cutout = SIDE}, H, W, 3, &rng);
    for (size_t i = 0; i < augmented_bytes(&p); i++)
        p.in[i] = p.in[i] == mean[i % 3] ? 0 : p.in[i];
    size_t whole = 0;
    double area = 0;
    for (uint32_t key = 0; key < TRIES; key++) {
        augmented_apply(&p, 0, key);
        box b = changed(&p);
        int height = b.bottom - b.top, width = b.right - b.left;
        assert_true(height >= SIDE / 2 && height <= SIDE && width >= SIDE / 2 && width <= SIDE);
        assert_true(height == SIDE || b.top == 0 || b.bottom == H);
        assert_true(width == SIDE || b.left == 0 || b.right == W);
        for (int y = b.top; y < b.bottom; y++)
            for (int x = b.left; x < b.right; x++)
                assert_memory_equal(p.out + (y * W + x) * 3, mean, 3);
        whole += height == SIDE && width == SIDE;
        area += height * width;
    }
    double expected = (double)(H - SIDE + 1) * (W - SIDE + 1) / (H * W); /* of whole squares */
    assert_true(fabs((double)whole / TRIES - expected) < 0.06);          /* 5 sigma */
    assert_true(area / TRIES > 40 && area / TRIES < SIDE * SIDE);
    augmented_fini(&p);
}

/* ---- colours, as torchvision.transforms.functional has them for floats ---- */

typedef double colour[3];

static double cut(double x)
{
    return x < 0 ? 0 : x > 255 ? 255 : x;
}

static double grey_of(const double *p, int channels)
{
    return channels == 1 ? p[0] : 0.2989 * p[0] + 0.587 * p[1] + 0.114 * p[2];
}

/* adjust_hue: RGB to HSV, as colorsys does it, and back. */
static void turn(double *p, double part)
{
    double top = fmax(p[0], fmax(p[1], p[2])), low = fmin(p[0], fmin(p[1], p[2]));
    if (top == low)
        return;
    double range = top - low, r = (top - p[0]) / range, g = (top - p[1]) / range;
    double b = (top - p[2]) / range;
    double h = p[0] == top ? b - g : p[1] == top ? 2 + r - b : 4 + g - r;
    h = h / 6 + part;
    h -= floor(h);
    double s = range / top, f = h * 6 - floor(h * 6), v = top;
    double x = v * (1 - s), y = v * (1 - s * f), z = v * (1 - s * (1 - f));
    const colour of[6] = {{v, z, x}, {y, v, x}, {x, v, z}, {x, y, v}, {z, x, v}, {v, x, y}};
    memcpy(p, of[(int)(h * 6) % 6], sizeof(colour));
}

static void reference_step(colour *all, size_t n, int channels, uint32_t step, double amount)
{
    double mean = 0;
    for (size_t i = 0; i < n; i++)
        mean += grey_of(all[i], channels) / (double)n;
    for (size_t i = 0; i < n; i++) {
        double to = step == AT_BRIGHTNESS ? 0
                    : step == AT_CONTRAST ? mean
                                          : grey_of(all[i], channels);
        if (step == AT_HUE) {
            if (channels == 3)
                turn(all[i], amount);
            continue;
        }
        for (int c = 0; c < channels; c++)
            all[i][c] = cut(amount * all[i][c] + (1 - amount) * to);
    }
}

/* How far the painted picture is off the reference at most; `how` in its own order. */
static double compare(augmented *p, const at_colour *how)
{
    size_t n = (size_t)(p->height * p->width), channels = (size_t)p->channels;
    colour *all = calloc(n, sizeof *all);
    double worst = 0;
    for (size_t i = 0; i < n * channels; i++)
        all[i / channels][i % channels] = p->in[i];
    for (int k = 0; k < AT_COLOUR_STEPS; k++)
        reference_step(all, n, p->channels, how->order[k], (double)how->amount[how->order[k]]);
    for (size_t i = 0; i < n * channels; i++) {
        double off = fabs(p->out[i] - all[i / channels][i % channels]);
        worst = off > worst ? off : worst;
    }
    free(all);
    return worst;
}

/* Some pixels grey, black or white, or with two channels alike, where hue has no or two sixths. */
static void make_odd(augmented *p)
{
    size_t n = augmented_bytes(p) / 3;
    for (size_t i = 0; i < n && p->channels == 3; i += 4) {
        p->in[3 * i + 1] = p->in[3 * i];
        if (i % 8)
            p->in[3 * i + 2] = p->in[3 * i];
        if (i % 32 == 12)
            memset(p->in + 3 * i, i % 64 == 12 ? 0 : 255, 3);
    }
}

static void test_colours_against_torchvision(void **state)
{
    (void)state;
    enum { CASES = 600 };
    at_rng rng = at_rng_stream(2, "test_augment_paint", 0);
    double worst = 0;
    for (int k = 0; k < CASES; k++) {
        int channels = k % 4 ? 3 : 1;
        at_augment keys = {.brightness = 0.8, .contrast = 0.8};
        if (channels == 3) {
            keys.saturation = 1.2;
            keys.hue = 0.5;
        }
        augmented p;
        augmented_init(&p, &keys, 1 + (int)at_rng_below(&rng, 20), 1 + (int)at_rng_below(&rng, 20),
                       channels, &rng);
        make_odd(&p);
        at_colour how;
        at_colour_draw(&keys, &rng, &how);
        memcpy(p.out, p.in, augmented_bytes(&p));
        at_colour_paint(&how, p.out, channels, (size_t)(p.height * p.width), p.scratch);
        double off = compare(&p, &how);
        worst = off > worst ? off : worst;
        augmented_fini(&p);
    }
    assert_true(worst < 0.5 + 0.01); /* rounding, and floats beside doubles */
    print_message("%d pictures, off by at most %g\n", CASES, worst);
}

/* Factors and angles are uniform in their ranges, and every order comes up. */
static void test_colours_are_drawn_as_told(void **state)
{
    (void)state;
    enum { TRIES = 24000, ORDERS = 256 };
    static const double low[] = {0.7, 0, 1, -0.1}, high[] = {1.3, 2.5, 1, 0.1};
    at_augment keys = {.brightness = 0.3, .contrast = 1.5, .hue = 0.1};
    at_rng rng = at_rng_stream(3, "test_augment_paint", 0);
    double sum[AT_COLOUR_STEPS] = {0};
    size_t orders[ORDERS] = {0}, different = 0;
    for (int k = 0; k < TRIES; k++) {
        at_colour how;
        at_colour_draw(&keys, &rng, &how);
        size_t order = 0;
        for (int i = 0; i < AT_COLOUR_STEPS; i++) {
            double x = (double)how.amount[i];
            assert_true(x >= low[i] - 1e-6 && x <= high[i] + 1e-6);
            sum[i] += x;
            order = order * 4 + how.order[i];
        }
        orders[order]++;
    }
    for (int i = 0; i < AT_COLOUR_STEPS; i++)
        assert_true(fabs(sum[i] / TRIES - (low[i] + high[i]) / 2) <= 0.01 * (high[i] - low[i]));
    for (int i = 0; i < ORDERS; i++) {
        different += orders[i] > 0;
        assert_true(orders[i] == 0 || fabs((double)orders[i] - TRIES / 24.0) < 160);
    }
    assert_int_equal(different, 24);
}

/* All of it by its key: amounts of 0 change nothing, others do. */
static void test_colours_by_key(void **state)
{
    (void)state;
    at_rng rng = at_rng_stream(4, "test_augment_paint", 0);
    augmented p;
    augmented_init(&p, &(at_augment){.hue = 0.1}, 8, 9, 3, &rng);
    size_t differ = 0;
    for (uint32_t key = 0; key < 50; key++) {
        augmented_apply(&p, 1, key);
        differ += memcmp(p.in, p.out, augmented_bytes(&p)) != 0;
    }
    assert_in_range(differ, 45, 50);
    memset(p.in, 90, augmented_bytes(&p)); /* grey has no hue */
    augmented_apply(&p, 1, 7);
    assert_memory_equal(p.in, p.out, augmented_bytes(&p));
    augmented_fini(&p);
}

/* ---- two pictures ---- */

/* in: this one; expected: the other; out: mixed. */
static float mix(augmented *p, uint32_t key)
{
    memcpy(p->out, p->in, augmented_bytes(p));
    return at_augmenter_mix(p->augmenter, 0, key, p->out, p->expected);
}

static void draw_other(augmented *p, at_rng *rng)
{
    for (size_t i = 0; i < augmented_bytes(p); i++)
        p->expected[i] = (uint8_t)(p->in[i] + 1 + at_rng_below(rng, 255));
}

static bool is_blend(const augmented *p, float share)
{
    for (size_t i = 0; i < augmented_bytes(p); i++) {
        double blend = (double)share * p->in[i] + (1 - (double)share) * p->expected[i];
        if (fabs(p->out[i] - blend) > 0.5 + 1e-6)
            return false;
    }
    return true;
}

/* A rectangle of the other one whose area is what the share says. */
static bool is_patch(const augmented *p, float share)
{
    box b = changed(p);
    size_t c = (size_t)p->channels;
    double area = b.bottom > b.top ? (double)(b.bottom - b.top) * (b.right - b.left) : 0;
    if (fabs((double)share - (1 - area / (p->height * p->width))) > 1e-6)
        return false;
    for (int y = b.top; y < b.bottom; y++) {
        size_t at = (size_t)(y * p->width + b.left) * c;
        if (memcmp(p->out + at, p->expected + at, (size_t)(b.right - b.left) * c) != 0)
            return false;
    }
    return true;
}

static void test_mixes(void **state)
{
    (void)state;
    enum { TRIES = 4000 };
    static const at_augment keys[] = {{.mixup = 0.4}, {.cutmix = 1}, {.mixup = 1, .cutmix = 1}};
    at_rng rng = at_rng_stream(5, "test_augment_paint", 0);
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        augmented p;
        augmented_init(&p, &keys[k], 15, 18, 3, &rng);
        assert_true(at_augmenter_mixes(p.augmenter));
        size_t blends = 0, patches = 0;
        for (uint32_t key = 0; key < TRIES; key++) {
            draw_other(&p, &rng);
            float share = mix(&p, key);
            assert_true(share >= 0 && share <= 1);
            bool patch = is_patch(&p, share), blend = is_blend(&p, share);
            assert_true(patch || blend);
            blends += blend;
            patches += patch && !blend;
        }
        if (k == 2)
            assert_in_range(patches, TRIES / 2 - 300, TRIES / 2 + 300);
        else
            assert_true(k == 0 ? blends == TRIES : patches > TRIES / 2);
        augmented_fini(&p);
    }
}

/* Mean 1/2 and variance 1 / (4 (2a + 1)) of Beta(a, a), and of the shares that mixup takes. */
static void test_shares_are_of_the_beta_distribution(void **state)
{
    (void)state;
    enum { TRIES = 40000 };
    static const double alphas[] = {0.001, 0.05, 0.2, 0.4, 1, 2, 10};
    at_rng rng = at_rng_stream(6, "test_augment_paint", 0);
    for (size_t k = 0; k < sizeof alphas / sizeof *alphas; k++) {
        augmented p;
        augmented_init(&p, &(at_augment){.mixup = alphas[k]}, 1, 1, 1, &rng);
        double sum[2] = {0}, squares[2] = {0};
        for (uint32_t i = 0; i < TRIES; i++) {
            double x[2] = {at_draw_beta(&rng, alphas[k]), (double)mix(&p, i)};
            for (int j = 0; j < 2; j++) {
                assert_true(x[j] >= 0 && x[j] <= 1);
                sum[j] += x[j];
                squares[j] += (x[j] - 0.5) * (x[j] - 0.5);
            }
        }
        for (int j = 0; j < 2; j++) {
            assert_true(fabs(sum[j] / TRIES - 0.5) < 0.015); /* 5 sigma and more */
            assert_true(fabs(squares[j] / TRIES - 1 / (4 * (2 * alphas[k] + 1))) < 0.005);
        }
        augmented_fini(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cutout),
        cmocka_unit_test(test_colours_against_torchvision),
        cmocka_unit_test(test_colours_are_drawn_as_told),
        cmocka_unit_test(test_colours_by_key),
        cmocka_unit_test(test_mixes),
        cmocka_unit_test(test_shares_are_of_the_beta_distribution),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
