/* SPDX-License-Identifier: Apache-2.0
 * --val-fraction takes the same share of every class, whatever the fraction, the seed and the sizes of
 * the classes; which images, seed and content decide alone. */
#include "place.h"
#include "scratch.h"
#include "sources.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CLASSES = 10, RECORD = 3073, TEST_IMAGES = 30 };
static const int sizes[CLASSES] = {1, 2, 3, 4, 7, 10, 33, 50, 101, 250};

/* Appends a CIFAR-10 record; `content` decides the pixels. */
static void add_record(at_text *out, int label, uint32_t content)
{
    uint8_t record[RECORD] = {(uint8_t)label};
    memcpy(record + 1, &content, sizeof content);
    at_text_append(out, record, sizeof record);
}

/* A source of classes of these sizes, each image `copies` times; backwards: the last one first. */
static void put_classes(const char *dir, const int counts[CLASSES], int copies, bool backwards)
{
    at_text train = {0}, test = {0};
    int all = 0;
    for (int k = 0; k < CLASSES; k++)
        all += counts[k];
    for (int i = 0; i < all * copies; i++) {
        int n = (backwards ? all * copies - 1 - i : i) % all, label = 0;
        for (int rest = n; rest >= counts[label]; label++)
            rest -= counts[label];
        add_record(&train, label, (uint32_t)n);
    }
    for (int i = 0; i < TEST_IMAGES; i++)
        add_record(&test, i % CLASSES, (uint32_t)(100000 + i));
    assert_false(train.failed || test.failed);
    put_file(dir, "data_batch_1.bin", train.data, train.length);
    put_file(dir, "test_batch.bin", test.data, test.length);
    at_text_fini(&train);
    at_text_fini(&test);
}

static void ingest(const struct place *p, double fraction, uint64_t seed)
{
    at_error err = {0};
    at_ingest_options o = {.source = p->source,
                           .out = p->out,
                           .val_fraction = fraction,
                           .seed = seed,
                           .allow_missing_classes = true};
    at_remove_tree(p->out, NULL);
    if (at_ingest(&o, NULL, &err))
        fail_msg("%s", err.message);
}

/* Of each class, in [class][split]. */
static void count(const struct place *p, int out[CLASSES][AT_SPLITS])
{
    const char *counts =
        query(p->out, "SELECT group_concat(train || ' ' || val || ' ' || test, ' ')"
                      " FROM (SELECT * FROM class_counts ORDER BY label)");
    for (int k = 0; k < CLASSES; k++)
        for (int split = 0; split < AT_SPLITS; split++) {
            char *end;
            out[k][split] = (int)strtol(counts, &end, 10);
            assert_true(end != counts);
            counts = end;
        }
}

/* The contents of the validation split, free it. */
static char *chosen(const struct place *p)
{
    return strdup(query(p->out, "SELECT group_concat(hash) FROM (SELECT DISTINCT hash FROM images"
                                " WHERE split = 'val' ORDER BY hash)"));
}

/* Rounded, but of two and more images one at least and never all. */
static int share_of(int n, double fraction)
{
    int share = (int)lround(n * fraction);
    share = share < 1 ? 1 : share;
    return share < n ? share : n - 1;
}

static void test_every_class_gives_its_share(void **state)
{
    struct place *p = *state;
    static const double fractions[] = {0.001, 0.05, 0.1, 1.0 / 3, 0.5, 0.9, 0.99};
    enum { FRACTIONS = sizeof fractions / sizeof *fractions, SEEDS = 4 };
    int checked = 0;
    put_classes(p->source, sizes, 1, false);
    for (int f = 0; f < FRACTIONS; f++)
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            ingest(p, fractions[f], seed * 1000003);
            int there[CLASSES][AT_SPLITS];
            count(p, there);
            for (int k = 0; k < CLASSES; k++, checked++) {
                int share = share_of(sizes[k], fractions[f]);
                assert_int_equal(there[k][AT_VAL], share);
                assert_int_equal(there[k][AT_TRAIN], sizes[k] - share);
                assert_int_equal(there[k][AT_TEST], TEST_IMAGES / CLASSES);
            }
        }
    print_message("%d classes: %d sizes, %d fractions, %d seeds\n", checked, CLASSES, FRACTIONS,
                  SEEDS);
}

/* Neither the order of the files nor what else is there has a part in it. */
static void test_seed_and_content_choose(void **state)
{
    struct place *p = *state;
    char *first, *again, *other;
    put_classes(p->source, sizes, 1, false);
    ingest(p, 0.2, 7);
    first = chosen(p);
    ingest(p, 0.2, 8);
    other = chosen(p);
    put_classes(p->source, sizes, 1, true);
    ingest(p, 0.2, 7);
    again = chosen(p);
    assert_string_equal(again, first);
    assert_string_not_equal(other, first);
    free(first);
    free(again);
    free(other);
}

/* Over many seeds every image has its turn, about as often as any. */
static void test_no_image_is_favoured(void **state)
{
    struct place *p = *state;
    enum { SEEDS = 60, SIZE = 20, LEAST = 5, MOST = 28 }; /* of 60, 15 are expected */
    static const int counts[CLASSES] = {SIZE, SIZE};
    int times[2 * SIZE] = {0};
    put_classes(p->source, counts, 1, false);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        ingest(p, 0.25, seed);
        const char *in_val =
            query(p->out, "SELECT group_concat(split = 'val', '') FROM (SELECT split"
                          " FROM images WHERE split != 'test' ORDER BY path)");
        assert_int_equal(strlen(in_val), 2 * SIZE);
        for (int i = 0; i < 2 * SIZE; i++)
            times[i] += in_val[i] == '1';
    }
    for (int i = 0; i < 2 * SIZE; i++)
        assert_in_range(times[i], LEAST, MOST);
    print_message("%d seeds, each of %d images in val %d to %d times\n", SEEDS, 2 * SIZE, LEAST,
                  MOST);
}

/* The same picture under several paths stays on one side, and the share is met as nearly as that
 * allows. */
static void test_copies_stay_together(void **state)
{
    struct place *p = *state;
    enum { COPIES = 5 };
    static const double fractions[] = {0.05, 0.3, 0.7};
    put_classes(p->source, sizes, COPIES, false);
    for (int f = 0; f < 3; f++) {
        ingest(p, fractions[f], 11);
        place_expect(p,
                     "SELECT count(*) FROM (SELECT hash FROM images GROUP BY hash"
                     " HAVING min(split) < max(split))",
                     "0");
        int there[CLASSES][AT_SPLITS];
        count(p, there);
        for (int k = 0; k < CLASSES; k++) {
            int n = COPIES * sizes[k], val = there[k][AT_VAL];
            assert_int_equal(val % COPIES, 0);
            assert_true(val < n && (val > 0 || sizes[k] == 1));
            assert_true(sizes[k] < 4 || fabs(val - n * fractions[f]) <= COPIES);
        }
    }
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, place_set_up, place_tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_every_class_gives_its_share),
        CASE(test_seed_and_content_choose),
        CASE(test_no_image_is_favoured),
        CASE(test_copies_stay_together),
    };
    at_progress_silence(true);
    scratch_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
