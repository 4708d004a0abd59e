/* SPDX-License-Identifier: Apache-2.0
 * Plans: what layers promise beyond their gradients: pixels, moving statistics, dropout's mask, bf16.
 */
#include "../../nn/plan.h"
#include "steps.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The length of a-b as a share of b's. */
static double distance(const float *a, const float *b, size_t n)
{
    double difference = 0, length = 0;
    for (size_t i = 0; i < n; i++) {
        difference += pow((double)a[i] - (double)b[i], 2);
        length += (double)b[i] * (double)b[i];
    }
    return sqrt(difference / length);
}

/* The moving statistics of one step, against what a step without them says of its convolution. */
static void test_moving_statistics(void **state)
{
    (void)state;
    steps *f = steps_new(steps_normalised);
    at_plan *p = steps_plan(f, 32, true, 2);
    at_plan_input in = steps_input(f, 0);
    steps_train(p, &in);
    const at_param *kernel = at_net_find_param(f->net, "c1", "kernel");
    const at_param *bias = at_net_find_param(f->net, "c1", "bias");
    const float *w = at_net_params(f->net) + kernel->offset,
                *b = at_net_params(f->net) + bias->offset;
    enum { OUT = STEPS_SIDE - 2, COUNT = 32 * OUT * OUT };
    for (int o = 0; o < 6; o++) {
        double sum = 0, square = 0;
        for (int i = 0; i < COUNT; i++) {
            int n = i / (OUT * OUT), y = i / OUT % OUT, x = i % OUT;
            double v = (double)b[o];
            for (int t = 0; t < 27; t++) {
                int c = t / 9, at = ((n * STEPS_SIDE + y + t / 3 % 3) * STEPS_SIDE + x + t % 3) *
                                        STEPS_CHANNELS +
                                    c;
                v += (double)w[o * 27 + t] * f->pixels[at] / 255;
            }
            sum += v;
            square += v * v;
        }
        double mean = sum / COUNT, variance = (square / COUNT - mean * mean) * COUNT / (COUNT - 1);
        assert_true(fabs((double)at_net_state(f->net)[o] - 0.25 * mean) < 1e-5);
        assert_true(fabs((double)at_net_state(f->net)[6 + o] - (0.75 + 0.25 * variance)) < 1e-5);
    }
    at_plan_free(p);
    steps_free(f);
}

/* A chain of rows between pixels and numbers, read back through an identity. */
static void test_pixels(void **state)
{
    (void)state;
    at_error err = {0};
    steps *f = steps_new("data | input | | channels=3 height=12 width=12\n"
                         "rescale | rescale | data | scale=0.01 offset=-0.5\n"
                         "normalize | normalize | rescale | mean=0.1,0.2,0.3 deviation=2,4,0.5\n"
                         "flat | flatten | normalize |\n"
                         "d | dense | flat | out=432 bias=0\nloss | softmax_loss | d |\n");
    float *w = at_net_params(f->net);
    for (int i = 0; i < STEPS_PIXELS * STEPS_PIXELS; i++)
        w[i] = i % (STEPS_PIXELS + 1) ? 0 : 1;
    at_plan *p = steps_plan(f, 5, false, 1);
    at_plan_input in = {.pixels = f->pixels};
    steps_check(at_plan_infer(p, &in, NULL, &err), &err);
    const double mean[] = {0.1, 0.2, 0.3}, deviation[] = {2, 4, 0.5};
    for (int i = 0; i < 5 * STEPS_PIXELS; i++) {
        int n = i / STEPS_PIXELS, c = i % STEPS_PIXELS / (STEPS_SIDE * STEPS_SIDE),
            at = i % (STEPS_SIDE * STEPS_SIDE);
        double pixel = f->pixels[(n * STEPS_SIDE * STEPS_SIDE + at) * STEPS_CHANNELS + c];
        double expected = (pixel * 0.01 - 0.5 - mean[c]) / deviation[c];
        assert_true(fabs((double)at_plan_logits(p)[i] - expected) < 1e-5);
    }
    at_plan_free(p);
    steps_free(f);
}

/* ---- dropout ---- */

static void test_dropout(void **state)
{
    (void)state;
    steps *f = steps_new("data | input | | channels=3 height=12 width=12\n"
                         "rescale | rescale | data |\nflat | flatten | rescale |\n"
                         "drop | dropout | flat | p=0.3\nd | dense | drop | out=432 bias=0\n"
                         "loss | softmax_loss | d |\n");
    float *w = at_net_params(f->net);
    for (int i = 0; i < STEPS_PIXELS * STEPS_PIXELS; i++)
        w[i] = i % (STEPS_PIXELS + 1) ? 0 : 1;
    memset(f->pixels, 255, sizeof f->pixels);
    at_plan *p = steps_plan(f, STEPS_MOST, true, 2);
    at_plan_input in = steps_input(f, 0);
    steps_train(p, &in);
    size_t n = (size_t)STEPS_MOST * STEPS_PIXELS, dropped = 0, changed = 0;
    float *first = steps_copy(at_plan_logits(p), n);
    for (size_t i = 0; i < n; i++) {
        dropped += first[i] == 0;
        assert_true(first[i] == 0 || fabsf(first[i] - 1 / 0.7f) < 1e-5f);
    }
    assert_true(fabs((double)dropped / (double)n - 0.3) < 5 * sqrt(0.21 / (double)n));
    steps_train(p, &in);
    assert_memory_equal(first, at_plan_logits(p), n * sizeof *first);
    in.epoch++;
    steps_train(p, &in);
    for (size_t i = 0; i < n; i++)
        changed += first[i] != at_plan_logits(p)[i];
    assert_true(fabs((double)changed / (double)n - 2 * 0.21) < 0.02);
    free(first);
    at_plan_free(p);
    steps_free(f);
}

/* ---- bf16 ---- */

static void test_bf16(void **state)
{
    (void)state;
    at_error err = {0};
    if (dnn_isa_allowed() < DNN_AVX512) {
        print_message("no AVX-512: oneDNN has no bf16 here\n");
        skip();
    }
    const char *const nets[] = {steps_plain, steps_normalised};
    for (int k = 0; k < 2; k++) {
        steps *f = steps_new(nets[k]);
        size_t n = at_net_param_count(f->net);
        at_plan_options o = {.batch = 32, .training = true, .threads = 2, .seed = 3};
        at_plan *wide = steps_plan(f, 32, true, 2);
        o.precision = AT_BF16;
        at_plan *half = plan_new_unchecked(f->net, &o, &err);
        steps_check(half ? 0 : err.code, &err);
        at_plan_input in = steps_input(f, 0);
        at_plan_stats expected = steps_train(wide, &in);
        float *grads = steps_copy(at_net_grads(f->net), n);
        at_plan_stats stats = steps_train(half, &in);
        assert_true(distance(at_net_grads(f->net), grads, n) < 0.1);
        steps_assert_near(at_plan_logits(half), at_plan_logits(wide), 32 * STEPS_CLASSES, 0.03);
        assert_true(fabs(stats.loss_sum - expected.loss_sum) < 0.01 * expected.loss_sum);
        assert_true(at_plan_bytes(half) <= at_plan_bytes(wide));
        free(grads);
        at_plan_free(wide);
        at_plan_free(half);
        steps_free(f);
    }
}

/* Without a plan, for any number of samples and pixels: whole vectors and what is left of them. */
static void test_pixels_alone(void **state)
{
    (void)state;
    enum { MOST = 5, AREA = 23, CHANNELS = 6 };
    const float mean[] = {0.1f, 0.5f, 0.9f, 0.2f, 0.3f, 0.4f};
    const float deviation[] = {0.2f, 0.3f, 1, 0.25f, 0.5f, 0.125f};
    uint8_t pixels[MOST * AREA * CHANNELS];
    float out[MOST * AREA * CHANNELS + 1];
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(i * 37);
    for (int channels = 1; channels <= CHANNELS; channels++)
        for (size_t samples = 0; samples <= MOST; samples++)
            for (size_t area = 1; area <= AREA; area++) {
                size_t n = samples * area * (size_t)channels;
                out[n] = 77;
                at_pixels_normalize(pixels, samples, area, channels, mean, deviation, out);
                for (size_t i = 0; i < n; i++) {
                    size_t c = i % (size_t)channels;
                    double want = (pixels[i] / 255.0 - (double)mean[c]) / (double)deviation[c];
                    assert_true(fabs((double)out[i] - want) < 1e-5);
                }
                assert_true(out[n] == 77);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moving_statistics),
        cmocka_unit_test(test_pixels),
        cmocka_unit_test(test_pixels_alone),
        cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
