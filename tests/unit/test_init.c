/* SPDX-License-Identifier: Apache-2.0
 * ctest: once
 * First values: every init= by its definition, and whitening by what it is for.
 */
#include "../../nn/plan.h"
#include "steps.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const float *values_of(at_net *net, const char *row, const char *name, size_t *n)
{
    const at_param *p = at_net_find_param(net, row, name);
    *n = p->count;
    return at_net_params(net) + p->offset;
}

static void moments(const float *v, size_t n, double *mean, double *deviation, double *largest)
{
    double sum = 0, square = 0;
    *largest = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)v[i];
        square += (double)v[i] * (double)v[i];
        *largest = fmax(*largest, fabs((double)v[i]));
    }
    *mean = sum / (double)n;
    *deviation = sqrt(square / (double)n - *mean * *mean);
}

static void assert_zero(at_net *net, const char *row, const char *name)
{
    size_t n;
    const float *v = values_of(net, row, name, &n);
    for (size_t i = 0; i < n; i++)
        assert_true(v[i] == 0);
}

static void test_kaiming_and_xavier(void **state)
{
    (void)state;
    at_net *net = steps_net("data | input | | channels=8 height=9 width=9\n"
                            "k | conv | data | out=64 k=3 init=kaiming\n"
                            "g | conv | k | out=64 k=3 groups=4 init=kaiming\n"
                            "x | conv | g | out=32 k=3 init=xavier\nf | flatten | x |\n"
                            "dk | dense | f | out=50 init=kaiming\n"
                            "dx | dense | dk | out=300 init=xavier\n"
                            "dz | dense | dx | out=5 init=zeros\nloss | softmax_loss | dz |\n");
    const struct {
        const char *row;
        double deviation, bound; /* bound 0: normal */
    } rows[] = {{"k", sqrt(2.0 / (64 * 9)), 0},
                {"g", sqrt(2.0 / (64 * 9)), 0},
                {"x", sqrt(2.0 / (96 * 9)), sqrt(6.0 / (96 * 9))},
                {"dk", sqrt(2.0 / 50), 0},
                {"dx", sqrt(2.0 / 350), sqrt(6.0 / 350)}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double mean, deviation, largest;
        size_t n;
        const float *v = values_of(net, rows[i].row, "kernel", &n);
        moments(v, n, &mean, &deviation, &largest);
        assert_true(fabs(mean) < 5 * deviation / sqrt((double)n));
        assert_true(fabs(deviation / rows[i].deviation - 1) < 5 / sqrt((double)n));
        assert_true(rows[i].bound > 0 ? largest <= rows[i].bound : largest > 3 * deviation);
        assert_zero(net, rows[i].row, "bias");
    }
    assert_zero(net, "dz", "kernel");
    assert_zero(net, "dz", "bias");
    at_net_free(net);
}

/* A chain of such convolutions passes pixels on, whatever their groups; further channels are 0. */
static void test_dirac(void **state)
{
    (void)state;
    at_error err = {0};
    steps *f = steps_new("data | input | | channels=3 height=12 width=12\n"
                         "c1 | conv | data | out=6 k=3 pad=1 init=dirac\n"
                         "c2 | conv | c1 | out=6 k=3x5 pad=1x2 groups=2 init=dirac\n"
                         "f | flatten | c2 |\nd | dense | f | out=864 bias=0\n"
                         "loss | softmax_loss | d |\n");
    enum { ALL = 864 };
    float *w = at_net_params(f->net) + at_net_find_param(f->net, "d", "kernel")->offset;
    for (int i = 0; i < ALL * ALL; i++)
        w[i] = i % (ALL + 1) == 0;
    at_plan *p = steps_plan(f, 2, false, 1);
    at_plan_input in = {.pixels = f->pixels};
    steps_check(at_plan_infer(p, &in, NULL, &err), &err);
    for (int i = 0; i < 2 * ALL; i++) {
        int n = i / ALL, c = i % ALL / 144, at = i % 144;
        float want = c < 3 ? f->pixels[(n * 144 + at) * 3 + c] : 0;
        assert_true(at_plan_logits(p)[i] == want);
    }
    at_plan_free(p);
    steps_free(f);
}

/* ---- whitening ---- */

enum { SIDE = 16, IMAGES = 200, PATCH = 12, IMAGE = 3 * SIDE * SIDE };

/* Neighbouring pixels and channels are alike, as in pictures. */
static uint8_t *make_images(void)
{
    uint8_t *pixels = malloc(IMAGES * IMAGE);
    at_rng rng = at_rng_stream(3, "images", 0);
    assert_non_null(pixels);
    for (int n = 0; n < IMAGES; n++) {
        double slope = at_rng_normal(&rng), level = at_rng_normal(&rng);
        for (int i = 0; i < IMAGE; i++) {
            double v = 128 + 30 * level + 3 * slope * (i / 3 % SIDE - SIDE / 2);
            v += 15 * at_rng_normal(&rng) + 10 * (i % 3);
            pixels[n * IMAGE + i] = (uint8_t)fmin(fmax(v, 0), 255);
        }
    }
    return pixels;
}

static const char whitened[] = "data | input | | channels=3 height=16 width=16\n"
                               "rescale | rescale | data |\n"
                               "normalize | normalize | rescale | mean=0.5,0.5,0.55 deviation=0.2\n"
                               "w | conv | normalize | out=24 k=2 init=whitening bias=0\n"
                               "f | flatten | w |\nd | dense | f | out=2\n"
                               "loss | softmax_loss | d |\n";

/* The filters' answers to all patches have the unit matrix for second moments, less what the small
 * number takes from weak directions; the second half is the first one's negative. */
static void test_whitening(void **state)
{
    (void)state;
    at_error err = {0};
    uint8_t *pixels = make_images();
    at_net *net = steps_net(whitened), *again = steps_net(whitened);
    assert_true(at_net_wants_whitening(net));
    steps_check(at_net_whiten(net, pixels, IMAGES, &err), &err);
    steps_check(at_net_whiten(again, pixels, IMAGES, &err), &err);
    size_t bytes = at_net_param_count(net) * sizeof(float), n;
    assert_memory_equal(at_net_params(net), at_net_params(again), bytes);
    const float *w = values_of(net, "w", "kernel", &n);
    double second[PATCH][PATCH] = {0}, count = 0;
    for (int i = 0; i < IMAGES * SIDE * SIDE; i++) {
        int y = i / SIDE % SIDE, x = i % SIDE, image = i / (SIDE * SIDE);
        if (y + 1 == SIDE || x + 1 == SIDE)
            continue;
        double answer[PATCH] = {0};
        for (int o = 0; o < PATCH; o++)
            for (int t = 0; t < PATCH; t++) {
                int c = t / 4, at = ((y + t % 4 / 2) * SIDE + x + t % 2) * 3 + c;
                double mean = c == 2 ? 0.55 : 0.5;
                answer[o] +=
                    (double)w[o * PATCH + t] * (pixels[image * IMAGE + at] / 255.0 - mean) / 0.2;
            }
        for (int a = 0; a < PATCH; a++)
            for (int b = 0; b < PATCH; b++)
                second[a][b] += answer[a] * answer[b];
        count++;
    }
    for (int a = 0; a < PATCH; a++)
        for (int b = 0; b < PATCH; b++)
            assert_true(fabs(second[a][b] / count - (a == b)) < 0.02);
    for (int i = 0; i < PATCH * PATCH; i++)
        assert_true(w[PATCH * PATCH + i] == -w[i]);
    at_net_free(net);
    at_net_free(again);
    free(pixels);
}

static void test_eigen(void **state)
{
    (void)state;
    enum { N = 40 };
    at_error err = {0};
    at_rng rng = at_rng_stream(8, "matrix", 0);
    double a[N * N], copy[N * N], values[N], vectors[N * N];
    for (int i = 0; i < N; i++)
        for (int j = 0; j <= i; j++)
            a[i * N + j] = a[j * N + i] = at_rng_normal(&rng);
    memcpy(copy, a, sizeof copy);
    steps_check(at_eigen_symmetric(a, N, values, vectors, &err), &err);
    for (int e = 0; e < N; e++) {
        const double *v = vectors + e * N;
        assert_true(e == 0 || values[e] <= values[e - 1]);
        for (int i = 0; i < N; i++) {
            double image = 0, product = 0;
            for (int j = 0; j < N; j++) {
                image += copy[i * N + j] * v[j];
                product += v[j] * vectors[i * N + j];
            }
            assert_true(fabs(image - values[e] * v[i]) < 1e-12);
            assert_true(fabs(product - (i == e)) < 1e-12);
        }
    }
    double bad[4] = {1, NAN, NAN, 1};
    assert_int_equal(at_eigen_symmetric(bad, 2, values, vectors, &err), AT_EFAIL);
}

static void test_misfits(void **state)
{
    (void)state;
    static const struct {
        const char *row, *message;
    } bad[] = {
        {"c | conv | data | out=25 k=2 init=whitening", "out of at most twice as many"},
        {"c | conv | data | out=25 k=15 init=whitening", "patches of at most 512 values"},
        {"c | conv | data | out=24 k=2 init=orthogonal", "\"orthogonal\" is not one of"},
        {"r | relu | data |\nc | conv | r | out=24 k=2 init=whitening", "needs pixels before it"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        at_error err = {0};
        char *text =
            at_format("data | input | | channels=3 height=16 width=16\n%s\n"
                      "f | flatten | c |\nd | dense | f | out=2\nloss | softmax_loss | d |",
                      bad[i].row);
        at_graph *g = at_graph_parse(text, &err);
        assert_non_null(g);
        assert_null(at_net_new(g, 1, &err));
        if (!strstr(err.message, bad[i].message))
            fail_msg("\"%s\" does not hold \"%s\"", err.message, bad[i].message);
        at_graph_free(g);
        free(text);
    }
    print_message("%zu bad rows tried\n", sizeof bad / sizeof *bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kaiming_and_xavier),
        cmocka_unit_test(test_dirac),
        cmocka_unit_test(test_whitening),
        cmocka_unit_test(test_eigen),
        cmocka_unit_test(test_misfits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
