/* SPDX-License-Identifier: Apache-2.0
 * Metrics against numbers worked out by hand, and against a plain second way of counting: parts of
 * a batch add up to the whole, and padding counts for nothing. */
#include "atoll/trainer.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const animals[] = {"cat", "dog", "emu"};

static double number(const at_node *n, const char *key)
{
    assert_non_null(at_node_get(n, key));
    return at_node_real(at_node_get(n, key), NAN);
}

static void assert_near(double a, double b)
{
    if (!(fabs(a - b) <= 1e-6 * fmax(1, fabs(b))))
        fail_msg("%.9g is not %.9g", a, b);
}

static int64_t cell(const at_node *result, size_t truth, size_t predicted)
{
    const at_node *row = at_node_at(at_node_get(result, "confusion"), truth);
    return at_node_int(at_node_at(row, predicted), -1);
}

/* Six samples: cat→cat, cat→dog, dog→dog, dog→dog, emu→cat, emu→dog. */
static const float six_scores[] = {0.7f, 0.2f, 0.1f, 0.3f, 0.6f, 0.1f, 0.1f, 0.8f,  0.1f,
                                   0.2f, 0.5f, 0.3f, 0.5f, 0.1f, 0.4f, 0.3f, 0.45f, 0.25f};
static const int32_t six_labels[] = {0, 0, 1, 1, 2, 2};

static void check_six(const at_node *r)
{
    static const int64_t confusion[3][3] = {{1, 1, 0}, {0, 2, 0}, {1, 1, 0}};
    for (size_t i = 0; i < 3; i++)
        for (size_t k = 0; k < 3; k++)
            assert_int_equal(cell(r, i, k), confusion[i][k]);
    assert_int_equal(at_node_int(at_node_get(r, "samples"), 0), 6);
    assert_near(number(r, "accuracy"), 3.0 / 6);
    assert_near(number(r, "loss"),
                -(log(0.7) + log(0.3) + log(0.8) + log(0.5) + log(0.4) + log(0.25)) / 6);
    static const double precision[] = {1.0 / 2, 2.0 / 4, 0}, recall[] = {1.0 / 2, 1, 0};
    static const double f1[] = {1.0 / 2, 2.0 / 3, 0};
    const at_node *classes = at_node_get(r, "per_class");
    assert_int_equal(at_node_count(classes), 3);
    for (size_t k = 0; k < 3; k++) {
        const at_node *c = at_node_at(classes, k);
        assert_string_equal(at_node_string(at_node_get(c, "class"), ""), animals[k]);
        assert_string_equal(at_node_string(at_node_at(at_node_get(r, "classes"), k), ""),
                            animals[k]);
        assert_near(number(c, "precision"), precision[k]);
        assert_near(number(c, "recall"), recall[k]);
        assert_near(number(c, "f1"), f1[k]);
        assert_int_equal(at_node_int(at_node_get(c, "support"), 0), 2);
    }
}

static void test_by_hand(void **state)
{
    (void)state;
    at_metrics *m = at_metrics_new(3);
    at_metrics_add(m, six_scores, six_labels, NULL, 6);
    at_node *r = at_metrics_result(m, animals);
    check_six(r);
    at_node_free(r);
    at_metrics_free(m);
}

static void test_padding_is_ignored(void **state)
{
    (void)state;
    float scores[9 * 3];
    int32_t labels[9] = {0};
    float weights[9] = {0};
    for (size_t i = 0; i < 9; i++)
        memcpy(scores + 3 * i, (float[]){0, NAN, 1}, 3 * sizeof *scores);
    static const size_t places[] = {0, 2, 3, 5, 7, 8};
    for (size_t i = 0; i < 6; i++) {
        memcpy(scores + 3 * places[i], six_scores + 3 * i, 3 * sizeof *scores);
        labels[places[i]] = six_labels[i];
        weights[places[i]] = 1;
    }
    at_metrics *m = at_metrics_new(3);
    at_metrics_add(m, scores, labels, weights, 9);
    at_node *r = at_metrics_result(m, animals);
    check_six(r);
    at_node_free(r);
    at_metrics_free(m);
}

static void test_nothing_counted(void **state)
{
    (void)state;
    at_metrics *m = at_metrics_new(3);
    at_metrics_add(m, six_scores, six_labels, (float[6]){0}, 6);
    assert_int_equal(at_metrics_reduce(m, NULL, NULL), 0);
    at_node *r = at_metrics_result(m, animals);
    assert_near(number(r, "accuracy"), 0);
    assert_near(number(r, "loss"), 0);
    assert_near(number(at_node_at(at_node_get(r, "per_class"), 1), "f1"), 0);
    at_node_free(r);
    at_metrics_free(m);
    at_metrics_free(NULL);
}

/* A score of 0 has a large but finite loss; one that is no number stays visible. */
static void test_extreme_scores(void **state)
{
    (void)state;
    at_metrics *m = at_metrics_new(2);
    at_metrics_add(m, (float[]){0, 1}, (int32_t[]){0}, NULL, 1);
    at_node *r = at_metrics_result(m, animals);
    assert_true(number(r, "loss") > 60 && isfinite(number(r, "loss")));
    at_node_free(r);
    at_metrics_add(m, (float[]){NAN, NAN}, (int32_t[]){0}, NULL, 1);
    r = at_metrics_result(m, animals);
    assert_true(isnan(number(r, "loss")));
    at_node_free(r);
    at_metrics_free(m);
}

/* ---- many random samples --------------------------------------------------------------------- */

enum { SAMPLES = 5000, CLASSES = 7 };

typedef struct crowd {
    float *scores;
    int32_t labels[SAMPLES];
    float weights[SAMPLES];
} crowd;

static void make_crowd(crowd *c)
{
    at_rng rng = at_rng_stream(3, "crowd", 0);
    c->scores = calloc(SAMPLES * CLASSES, sizeof *c->scores);
    assert_non_null(c->scores);
    for (size_t i = 0; i < SAMPLES; i++) {
        float sum = 0, *row = c->scores + i * CLASSES;
        for (size_t k = 0; k < CLASSES; k++)
            sum += row[k] = (float)exp(2 * at_rng_normal(&rng));
        for (size_t k = 0; k < CLASSES; k++)
            row[k] /= sum;
        c->labels[i] = (int32_t)at_rng_below(&rng, CLASSES);
        c->weights[i] = at_rng_below(&rng, 10) > 0;
    }
}

static bool predicts(const crowd *c, size_t i, size_t class)
{
    for (size_t k = 0; k < CLASSES; k++)
        if (c->scores[i * CLASSES + k] > c->scores[i * CLASSES + class])
            return false;
    return true;
}

/* Precision, recall and F1 of one class, from true and false positives and negatives. */
static void check_class(const crowd *c, const at_node *result, size_t class)
{
    double tp = 0, fp = 0, fn = 0;
    for (size_t i = 0; i < SAMPLES; i++) {
        bool is = (size_t)c->labels[i] == class, said = predicts(c, i, class);
        tp += c->weights[i] > 0 && is && said;
        fp += c->weights[i] > 0 && !is && said;
        fn += c->weights[i] > 0 && is && !said;
    }
    const at_node *n = at_node_at(at_node_get(result, "per_class"), class);
    assert_near(number(n, "precision"), tp / (tp + fp));
    assert_near(number(n, "recall"), tp / (tp + fn));
    assert_near(number(n, "f1"), 2 * tp / (2 * tp + fp + fn));
    assert_near(number(n, "support"), tp + fn);
}

static void test_parts_add_up(void **state)
{
    (void)state;
    static const char *const names[CLASSES] = {"a", "b", "c", "d", "e", "f", "g"};
    crowd c;
    make_crowd(&c);
    at_metrics *whole = at_metrics_new(CLASSES), *parts = at_metrics_new(CLASSES);
    at_metrics_add(whole, c.scores, c.labels, c.weights, SAMPLES);
    at_rng rng = at_rng_stream(4, "parts", 0);
    size_t cuts = 0;
    for (size_t at = 0, n; at < SAMPLES; at += n, cuts++) {
        n = 1 + at_rng_below(&rng, 200);
        n = n < SAMPLES - at ? n : SAMPLES - at;
        at_metrics_add(parts, c.scores + at * CLASSES, c.labels + at, c.weights + at, n);
    }
    at_node *a = at_metrics_result(whole, names), *b = at_metrics_result(parts, names);
    char *text_a = at_json_print(a, false), *text_b = at_json_print(b, false);
    assert_string_equal(text_a, text_b);
    for (size_t k = 0; k < CLASSES; k++)
        check_class(&c, a, k);
    print_message("%d samples in %zu parts\n", SAMPLES, cuts);
    free(text_a);
    free(text_b);
    at_node_free(a);
    at_node_free(b);
    at_metrics_free(whole);
    at_metrics_free(parts);
    free(c.scores);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),         cmocka_unit_test(test_padding_is_ignored),
        cmocka_unit_test(test_nothing_counted), cmocka_unit_test(test_extreme_scores),
        cmocka_unit_test(test_parts_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
