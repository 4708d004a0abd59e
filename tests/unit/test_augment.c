/* SPDX-License-Identifier: Apache-2.0
 * Where the pixels of augmented pictures come from, against a pixel-by-pixel reference: every
 * picture must be one of the (mirror, dy, dx) that are allowed, all of them must come up evenly,
 * enlarged parts must be what torchvision's RandomResizedCrop makes, and nothing outside the
 * picture is touched. What keys are refused. */
#include "../../cache/internal.h"
#include "augmented.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int reflected(int i, int n)
{
    while (i < 0 || i >= n)
        i = i < 0 ? -i : 2 * (n - 1) - i;
    return i;
}

/* Mirror first, then crop: numpy.pad(a[:, ::-1], shift, "reflect")[shift+dy:, shift+dx:]. */
static void reference(augmented *p, bool mirrored, int dy, int dx)
{
    for (int y = 0; y < p->height; y++)
        for (int x = 0; x < p->width; x++)
            for (int c = 0; c < p->channels; c++) {
                int sy = reflected(y + dy, p->height), sx = reflected(x + dx, p->width);
                if (mirrored)
                    sx = p->width - 1 - sx;
                p->expected[(y * p->width + x) * p->channels + c] =
                    p->in[(sy * p->width + sx) * p->channels + c];
            }
}

/* Which of the allowed views `out` is, the mirrored ones behind the others: -1 where none. */
static int find_view(augmented *p, bool flip, int shift)
{
    int ry = shift < p->height ? shift : p->height - 1;
    int rx = shift < p->width ? shift : p->width - 1;
    int index = 0;
    for (int mirrored = 0; mirrored <= flip; mirrored++)
        for (int dy = -ry; dy <= ry; dy++)
            for (int dx = -rx; dx <= rx; dx++, index++) {
                reference(p, mirrored, dy, dx);
                if (memcmp(p->expected, p->out, augmented_bytes(p)) == 0)
                    return index;
            }
    return -1;
}

static void test_every_picture_is_an_allowed_view(void **state)
{
    (void)state;
    static const int widths[] = {1, 2, 3, 5, 6, 7, 11, 15, 16, 17, 28, 31, 32, 33, 64};
    at_rng rng = at_rng_stream(3, "test_augment", 0);
    size_t cases = 0;
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        for (int channels = 1; channels <= 3; channels++)
            for (int shift = 0; shift <= 4; shift += 2)
                for (int flip = 0; flip <= 1; flip++) {
                    augmented p;
                    at_augment a = {.flip = flip ? "random" : "false", .shift = shift};
                    int height = 1 + (int)at_rng_below(&rng, 9);
                    augmented_init(&p, &a, height, widths[w], channels, &rng);
                    for (uint32_t key = 0; key < 8; key++, cases++) {
                        augmented_apply(&p, 2, key);
                        assert_true(find_view(&p, flip, shift) >= 0);
                    }
                    augmented_fini(&p);
                }
    print_message("%zu augmented pictures\n", cases);
}

/* Any view of any size, by the table of moves and without it. */
static void test_any_view(void **state)
{
    (void)state;
    enum { CASES = 3000, MOST_WIDTH = 400 };
    at_rng rng = at_rng_stream(2, "test_augment", 0);
    size_t by_table = 0;
    for (int k = 0; k < CASES; k++) {
        at_error err = {0};
        at_row_moves *moves;
        augmented p;
        augmented_init(&p, &(at_augment){0}, 1 + (int)at_rng_below(&rng, 12),
                       1 + (int)at_rng_below(&rng, k % 4 ? 50 : MOST_WIDTH),
                       1 + (int)at_rng_below(&rng, 3), &rng);
        int reach = (int)at_rng_below(&rng, (uint64_t)p.width < 24 ? (uint64_t)p.width : 24);
        at_view v = {.height = p.height, .width = p.width, .channels = p.channels};
        v.box_height = p.height;
        v.box_width = p.width;
        v.mirrored = k & 1;
        v.left = (int)at_rng_below(&rng, 2 * (uint64_t)reach + 1) - reach;
        v.top = (int)at_rng_below(&rng, 2 * (uint64_t)p.height - 1) - (p.height - 1);
        reference(&p, v.mirrored, v.top, v.left);
        at_view_move(&v, NULL, p.in, p.out, NULL);
        assert_memory_equal(p.out, p.expected, augmented_bytes(&p));
        assert_int_equal(at_row_moves_new(p.width, p.channels, reach, &moves, &err), 0);
        by_table += moves != NULL;
        memset(p.out, 0, augmented_bytes(&p));
        at_view_move(&v, moves, p.in, p.out, NULL);
        assert_memory_equal(p.out, p.expected, augmented_bytes(&p));
        at_row_moves_free(moves);
        augmented_fini(&p);
    }
    print_message("%d views, %zu of them by a table\n", CASES, by_table);
}

static void test_views_come_up_evenly(void **state)
{
    (void)state;
    enum { SHIFT = 2, VIEWS = 2 * 5 * 5, TRIES = 10000 };
    size_t seen[VIEWS] = {0};
    at_rng rng = at_rng_stream(4, "test_augment", 0);
    augmented p;
    augmented_init(&p, &(at_augment){.flip = "true", .shift = SHIFT}, 6, 7, 3, &rng);
    for (uint32_t key = 0; key < TRIES; key++) {
        augmented_apply(&p, 0, key);
        int view = find_view(&p, true, SHIFT);
        assert_in_range(view, 0, VIEWS - 1);
        seen[view]++;
    }
    for (int i = 0; i < VIEWS; i++)
        assert_in_range(seen[i], TRIES / VIEWS - 70, TRIES / VIEWS + 70); /* 5 sigma */
    augmented_fini(&p);
}

/* A sample is mirrored in every other epoch; half of them begin so. */
static void test_alternating_flips(void **state)
{
    (void)state;
    enum { KEYS = 1000, EPOCHS = 6 };
    at_rng rng = at_rng_stream(7, "test_augment", 0);
    size_t begin = 0;
    augmented p;
    augmented_init(&p, &(at_augment){.flip = "alternate"}, 5, 4, 3, &rng);
    for (uint32_t key = 0; key < KEYS; key++)
        for (uint64_t epoch = 0, first = 0; epoch < EPOCHS; epoch++) {
            augmented_apply(&p, epoch, key);
            int view = find_view(&p, true, 0);
            assert_in_range(view, 0, 1);
            if (epoch == 0)
                begin += first = (uint64_t)view;
            assert_int_equal(view, (first + epoch) & 1);
        }
    assert_in_range(begin, KEYS / 2 - 80, KEYS / 2 + 80); /* 5 sigma */
    augmented_fini(&p);
}

static const at_augment everything = {.flip = "random",
                                      .crop = 0.3,
                                      .cutout = 6,
                                      .brightness = 0.4,
                                      .contrast = 0.4,
                                      .saturation = 0.4,
                                      .hue = 0.2};

static void test_pure_in_seed_epoch_and_key(void **state)
{
    (void)state;
    at_rng rng = at_rng_stream(5, "test_augment", 0);
    const at_augment keys[] = {{.flip = "random", .shift = 4}, everything};
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        augmented p;
        augmented_init(&p, &keys[k], 32, 32, 3, &rng);
        size_t differ[2] = {0}, of_seed = 0, bytes = augmented_bytes(&p);
        uint8_t *first = malloc(bytes);
        const float mean[3] = {0.2f, 0.5f, 0.7f};
        at_augmenter *other = at_augmenter_new(&keys[k], 12, 32, 32, 3, mean, NULL);
        for (uint32_t key = 0; key < 200; key++) {
            augmented_apply(&p, 0, key);
            memcpy(first, p.out, bytes);
            augmented_apply(&p, 1, key);
            differ[0] += memcmp(first, p.out, bytes) != 0;
            augmented_apply(&p, 0, key + 1);
            differ[1] += memcmp(first, p.out, bytes) != 0;
            at_augmenter_apply(other, 0, key, p.in, p.out, p.scratch, NULL);
            of_seed += memcmp(first, p.out, bytes) != 0;
            augmented_apply(&p, 0, key);
            assert_memory_equal(first, p.out, bytes);
        }
        assert_in_range(differ[0], 190, 200); /* of at least 162 views: 199 expected */
        assert_in_range(differ[1], 190, 200);
        assert_in_range(of_seed, 190, 200);
        at_augmenter_free(other);
        free(first);
        augmented_fini(&p);
    }
}

/* One more augmentation leaves alone what the others draw. */
static void test_augmentations_do_not_disturb_each_other(void **state)
{
    (void)state;
    at_rng rng = at_rng_stream(8, "test_augment", 0);
    augmented flipped, shifted;
    augmented_init(&flipped, &(at_augment){.flip = "random"}, 9, 8, 3, &rng);
    augmented_init(&shifted, &(at_augment){.flip = "random", .shift = 1}, 9, 8, 3, &rng);
    for (uint32_t key = 0; key < 100; key++) {
        augmented_apply(&flipped, 3, key);
        augmented_apply(&shifted, 3, key);
        assert_int_equal(find_view(&flipped, true, 0), find_view(&shifted, true, 1) / 9);
    }
    augmented_fini(&flipped);
    augmented_fini(&shifted);
}

static void test_without_augmentation_it_is_a_copy(void **state)
{
    (void)state;
    at_rng rng = at_rng_stream(6, "test_augment", 0);
    augmented p;
    augmented_init(&p, &(at_augment){0}, 9, 13, 3, &rng);
    augmented_apply(&p, 2, 3);
    assert_memory_equal(p.in, p.out, augmented_bytes(&p));
    assert_false(at_augmenter_mixes(p.augmenter));
    augmented_fini(&p);
}

/* ---- enlarged parts ---- */

/* Position of the result in the box, cut to its outermost centres. */
static double source(int at, int n, int box)
{
    double x = (at + 0.5) * box / n - 0.5;
    return x < 0 ? 0 : x > box - 1 ? box - 1 : x;
}

/* torch.nn.functional.interpolate(box, mode="bilinear", align_corners=False), in doubles. */
static double interpolated(const augmented *p, const at_view *v, int y, int x, int c)
{
    double sy = v->top + source(y, p->height, v->box_height), sum = 0;
    double sx = v->left + source(x, p->width, v->box_width);
    for (int dy = 0; dy < 2; dy++)
        for (int dx = 0; dx < 2; dx++) {
            int iy = (int)sy + dy, ix = (int)sx + dx;
            double share = (1 - fabs(sy - iy)) * (1 - fabs(sx - ix));
            if (share <= 0)
                continue;
            ix = v->mirrored ? p->width - 1 - ix : ix;
            sum += share * p->in[(iy * p->width + ix) * p->channels + c];
        }
    return sum;
}

static void test_enlarged_parts(void **state)
{
    (void)state;
    enum { CASES = 400 };
    at_rng rng = at_rng_stream(9, "test_augment", 0);
    double worst = 0;
    for (int k = 0; k < CASES; k++) {
        augmented p;
        augmented_init(&p, &(at_augment){.crop = 0.1}, 1 + (int)at_rng_below(&rng, 40),
                       1 + (int)at_rng_below(&rng, 40), 1 + (int)at_rng_below(&rng, 3), &rng);
        at_view v = {.height = p.height, .width = p.width, .channels = p.channels};
        v.mirrored = k & 1;
        v.box_height = 1 + (int)at_rng_below(&rng, (uint64_t)p.height);
        v.box_width = 1 + (int)at_rng_below(&rng, (uint64_t)p.width);
        v.top = (int)at_rng_below(&rng, (uint64_t)(p.height - v.box_height) + 1);
        v.left = (int)at_rng_below(&rng, (uint64_t)(p.width - v.box_width) + 1);
        at_view_move(&v, NULL, p.in, p.out, p.scratch);
        for (size_t i = 0; i < augmented_bytes(&p); i++) {
            int c = (int)i % p.channels, at = (int)i / p.channels;
            double off = fabs(p.out[i] - interpolated(&p, &v, at / p.width, at % p.width, c));
            worst = off > worst ? off : worst;
        }
        augmented_fini(&p);
    }
    print_message("%d enlarged parts, off by at most %g\n", CASES, worst);
    assert_true(worst < 0.5 + 2.0 / 64); /* rounded, after three roundings to 1/64 */
}

extern const at_augment_kind at_augment_crop;

/* Shares of the area are uniform in their range, ratios within theirs, places inside. */
static void test_parts_are_drawn_as_told(void **state)
{
    (void)state;
    enum { TRIES = 20000, SIDE = 400 };
    at_rng rng = at_rng_stream(10, "test_augment", 0);
    at_augment keys = {.crop = 0.2, .crop_most = 0.6, .crop_ratio = 1.5};
    double sum = 0, log_sum = 0, least = 1, most = 0;
    augmented p;
    augmented_init(&p, &keys, SIDE, SIDE, 1, &rng);
    for (uint32_t key = 0; key < TRIES; key++) {
        at_view v = {.height = SIDE, .width = SIDE, .channels = 1};
        at_draw d = {p.augmenter, 0, key, at_rng_stream(1, "crop", key)};
        at_augment_crop.place(&d, &v);
        assert_true(v.top >= 0 && v.top + v.box_height <= SIDE);
        assert_true(v.left >= 0 && v.left + v.box_width <= SIDE);
        double share = (double)(v.box_height * v.box_width) / (SIDE * SIDE);
        double ratio = (double)v.box_width / v.box_height;
        assert_true(ratio > 1 / 1.51 && ratio < 1.51);
        sum += share;
        log_sum += log(ratio);
        least = share < least ? share : least;
        most = share > most ? share : most;
    }
    assert_true(least > 0.198 && least < 0.202 && most > 0.598 && most < 0.602);
    assert_true(fabs(sum / TRIES - 0.4) < 0.005 && fabs(log_sum / TRIES) < 0.01); /* 5 sigma */
    augmented_fini(&p);
}

/* In a strip no box of such a ratio has such an area: its middle is taken, as wide as allowed. */
static void test_a_strip_has_its_middle_taken(void **state)
{
    (void)state;
    at_rng rng = at_rng_stream(12, "test_augment", 0);
    augmented p;
    augmented_init(&p, &(at_augment){.crop = 0.9, .crop_ratio = 2}, 10, 100, 1, &rng);
    at_view v = {.height = 10, .width = 100, .channels = 1};
    at_draw d = {p.augmenter, 0, 1, rng};
    at_augment_crop.place(&d, &v);
    assert_true(v.box_height == 10 && v.box_width == 20 && v.top == 0 && v.left == 40);
    augmented_fini(&p);
    augmented_init(&p, &(at_augment){.crop = 0.9}, 40, 1, 1, &rng);
    v = (at_view){.height = 40, .width = 1, .channels = 1};
    d.a = p.augmenter;
    at_augment_crop.place(&d, &v);
    assert_true(v.box_width == 1 && v.box_height == 1 && v.top == 19);
    augmented_fini(&p);
}

/* ---- keys that cannot be ---- */

static void test_bad_keys_are_refused(void **state)
{
    (void)state;
    static const struct {
        at_augment keys;
        int channels;
        const char *message;
    } bad[] = {
        {{.flip = "sideways"}, 3, "augment.flip: \"sideways\" is not one of"},
        {{.shift = -1}, 3, "augment.shift: -1"},
        {{.crop = 0.5, .crop_most = 0.4}, 3, "augment.crop: from 0.5 to augment.crop_most=0.4"},
        {{.crop = -0.1}, 3, "augment.crop: from -0.1"},
        {{.crop = 1.5, .crop_most = 2}, 3, "no range of shares"},
        {{.crop = NAN}, 3, "augment.crop"},
        {{.crop = 0.5, .crop_ratio = 0.5}, 3, "augment.crop_ratio: 0.5 is below 1"},
        {{.crop = 0.5, .shift = 2}, 3, "augment.crop and augment.shift"},
        {{.cutout = 64}, 3, "would hide every 32x32 image"},
        {{.cutout = -2}, 3, "augment.cutout"},
        {{.brightness = -1}, 3, "augment.brightness: -1"},
        {{.hue = 0.6}, 3, "augment.hue: 0.6 is not in 0..0.5"},
        {{.hue = 0.1}, 1, "augment.hue needs colour images: these have 1 channel"},
        {{.saturation = 0.1}, 1, "augment.saturation needs colour images"},
        {{.contrast = 0.1}, 2, "these have 2 channels"},
        {{.mixup = -1}, 3, "augment.mixup"},
        {{.cutmix = NAN}, 3, "augment.cutmix"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        at_error err = {0};
        assert_null(augmented_new(&bad[i].keys, 32, 32, bad[i].channels, &err));
        assert_int_equal(err.code, AT_EINPUT);
        if (!strstr(err.message, bad[i].message))
            fail_msg("\"%s\" does not hold \"%s\"", err.message, bad[i].message);
    }
    print_message("%zu bad combinations of keys refused\n", sizeof bad / sizeof *bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_picture_is_an_allowed_view),
        cmocka_unit_test(test_any_view),
        cmocka_unit_test(test_views_come_up_evenly),
        cmocka_unit_test(test_alternating_flips),
        cmocka_unit_test(test_pure_in_seed_epoch_and_key),
        cmocka_unit_test(test_augmentations_do_not_disturb_each_other),
        cmocka_unit_test(test_without_augmentation_it_is_a_copy),
        cmocka_unit_test(test_enlarged_parts),
        cmocka_unit_test(test_parts_are_drawn_as_told),
        cmocka_unit_test(test_a_strip_has_its_middle_taken),
        cmocka_unit_test(test_bad_keys_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
