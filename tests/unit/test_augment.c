/* SPDX-License-Identifier: Apache-2.0
 * Augmentation against a pixel-by-pixel reference: every picture must be one of the (mirror, dy,
 * dx) that are allowed, all of them must come up evenly, and nothing outside the picture is
 * touched. */
#include "atoll/cache.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct picture {
    int height, width, channels;
    uint8_t *in, *out, *expected; /* each a block of exactly its size */
} picture;

static size_t size_of(const picture *p)
{
    return (size_t)(p->height * p->width * p->channels);
}

static void init(picture *p, int height, int width, int channels, at_rng *rng)
{
    *p = (picture){height, width, channels, NULL, NULL, NULL};
    p->in = malloc(size_of(p));
    p->out = malloc(size_of(p));
    p->expected = malloc(size_of(p));
    for (size_t i = 0; i < size_of(p); i++)
        p->in[i] = (uint8_t)at_rng_next(rng);
}

static void fini(picture *p)
{
    free(p->in);
    free(p->out);
    free(p->expected);
}

static int reflected(int i, int n)
{
    while (i < 0 || i >= n)
        i = i < 0 ? -i : 2 * (n - 1) - i;
    return i;
}

/* Mirror first, then crop: numpy.pad(a[:, ::-1], shift, "reflect")[shift+dy:, shift+dx:]. */
static void reference(picture *p, bool mirrored, int dy, int dx)
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

/* Which of the allowed views `out` is: -1 where none. */
static int find_view(picture *p, const at_augment *a)
{
    int ry = a->shift < p->height ? a->shift : p->height - 1;
    int rx = a->shift < p->width ? a->shift : p->width - 1;
    int index = 0;
    for (int mirrored = 0; mirrored <= a->flip; mirrored++)
        for (int dy = -ry; dy <= ry; dy++)
            for (int dx = -rx; dx <= rx; dx++, index++) {
                reference(p, mirrored, dy, dx);
                if (memcmp(p->expected, p->out, size_of(p)) == 0)
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
        for (int channels = 1; channels <= 4; channels++)
            for (int shift = 0; shift <= 4; shift += 2)
                for (int flip = 0; flip <= 1; flip++) {
                    picture p;
                    at_augment a = {.flip = flip, .shift = shift};
                    init(&p, 1 + (int)at_rng_below(&rng, 9), widths[w], channels, &rng);
                    for (uint32_t id = 0; id < 8; id++, cases++) {
                        at_augment_apply(&a, 11, 2, id, p.in, p.height, p.width, channels, p.out);
                        assert_true(find_view(&p, &a) >= 0);
                    }
                    fini(&p);
                }
    print_message("%zu augmented pictures\n", cases);
}

static void test_views_come_up_evenly(void **state)
{
    (void)state;
    enum { SHIFT = 2, VIEWS = 2 * 5 * 5, TRIES = 10000 };
    size_t seen[VIEWS] = {0};
    at_rng rng = at_rng_stream(4, "test_augment", 0);
    at_augment a = {.flip = true, .shift = SHIFT};
    picture p;
    init(&p, 6, 7, 3, &rng);
    for (uint32_t id = 0; id < TRIES; id++) {
        at_augment_apply(&a, 1, 0, id, p.in, p.height, p.width, p.channels, p.out);
        int view = find_view(&p, &a);
        assert_in_range(view, 0, VIEWS - 1);
        seen[view]++;
    }
    for (int i = 0; i < VIEWS; i++)
        assert_in_range(seen[i], TRIES / VIEWS - 70, TRIES / VIEWS + 70); /* 5 sigma */
    fini(&p);
}

static void test_pure_in_seed_epoch_and_id(void **state)
{
    (void)state;
    at_rng rng = at_rng_stream(5, "test_augment", 0);
    at_augment a = {.flip = true, .shift = 4};
    picture p;
    init(&p, 32, 32, 3, &rng);
    size_t differ[3] = {0};
    uint8_t *first = malloc(size_of(&p));
    for (uint32_t id = 0; id < 200; id++) {
        at_augment_apply(&a, 1, 0, id, p.in, 32, 32, 3, first);
        at_augment_apply(&a, 1, 0, id, p.in, 32, 32, 3, p.out);
        assert_memory_equal(first, p.out, size_of(&p));
        const uint64_t other[3][3] = {{2, 0, id}, {1, 1, id}, {1, 0, id + 1}};
        for (int k = 0; k < 3; k++) {
            at_augment_apply(&a, other[k][0], other[k][1], (uint32_t)other[k][2], p.in, 32, 32, 3,
                             p.out);
            differ[k] += memcmp(first, p.out, size_of(&p)) != 0;
        }
    }
    for (int k = 0; k < 3; k++)
        assert_in_range(differ[k], 190, 200); /* of 162 views each: 199 expected */
    free(first);
    fini(&p);
}

static void test_without_augmentation_it_is_a_copy(void **state)
{
    (void)state;
    at_rng rng = at_rng_stream(6, "test_augment", 0);
    at_augment a = {0};
    picture p;
    init(&p, 9, 13, 3, &rng);
    at_augment_apply(&a, 1, 2, 3, p.in, p.height, p.width, p.channels, p.out);
    assert_memory_equal(p.in, p.out, size_of(&p));
    fini(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_picture_is_an_allowed_view),
        cmocka_unit_test(test_views_come_up_evenly),
        cmocka_unit_test(test_pure_in_seed_epoch_and_id),
        cmocka_unit_test(test_without_augmentation_it_is_a_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
