/* SPDX-License-Identifier: Apache-2.0
 * Plans: what a step promises beside the numbers of single layers (tests/grad, tests/golden).
 */
#include "../../nn/plan.h"
#include "scratch.h"
#include "steps.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- splitting, padding, determinism ---- */

/* The gradients of a batch are the sums of its parts', with dropout, whatever the layout. */
static void check_split(int parts, int threads)
{
    steps *f = steps_new(steps_plain);
    size_t n = at_net_param_count(f->net);
    at_plan *whole = steps_plan(f, STEPS_MOST, true, threads),
            *part = steps_plan(f, STEPS_MOST / parts, true, 1);
    at_plan_input in = steps_input(f, 0);
    at_plan_stats stats = steps_train(whole, &in), sum = {0};
    float *expected = steps_copy(at_net_grads(f->net), n), *total = calloc(n, sizeof *total);
    for (int k = 0; k < parts; k++) {
        in = steps_input(f, k * STEPS_MOST / parts);
        at_plan_stats one = steps_train(part, &in);
        sum.loss_sum += one.loss_sum;
        sum.correct += one.correct;
        sum.samples += one.samples;
        for (size_t i = 0; i < n; i++)
            total[i] += at_net_grads(f->net)[i];
    }
    steps_assert_near(total, expected, n, 1e-5);
    assert_true(fabs(sum.loss_sum - stats.loss_sum) < 1e-4 * stats.loss_sum);
    assert_true(sum.samples == STEPS_MOST && stats.samples == STEPS_MOST &&
                sum.correct == stats.correct);
    free(expected);
    free(total);
    at_plan_free(whole);
    at_plan_free(part);
    steps_free(f);
}

static void test_split_batches(void **state)
{
    (void)state;
    check_split(2, 1);
    check_split(4, 2);
    check_split(16, 2); /* batches of 4 are not grouped by samples, those of 64 may be */
}

static void test_padding_has_no_weight(void **state)
{
    (void)state;
    steps *f = steps_new(steps_plain);
    size_t n = at_net_param_count(f->net);
    at_plan *long_one = steps_plan(f, 24, true, 2), *short_one = steps_plan(f, 17, true, 2);
    at_plan_input in = steps_input(f, 0);
    at_plan_stats expected = steps_train(short_one, &in);
    float *grads = steps_copy(at_net_grads(f->net), n);
    for (int i = 17; i < 24; i++) {
        f->weights[i] = 0;
        f->labels[i] = -1;
    }
    at_plan_stats stats = steps_train(long_one, &in);
    steps_assert_near(at_net_grads(f->net), grads, n, 1e-5);
    assert_int_equal(stats.samples, 17);
    assert_int_equal(stats.correct, expected.correct);
    assert_true(fabs(stats.loss_sum - expected.loss_sum) < 1e-4 * expected.loss_sum);
    free(grads);
    at_plan_free(long_one);
    at_plan_free(short_one);
    steps_free(f);
}

static float *weights_after(const char *rows, int threads, int count)
{
    steps *f = steps_new(rows);
    size_t n = at_net_param_count(f->net);
    at_plan *p = steps_plan(f, 32, true, threads);
    for (int k = 0; k < count; k++) {
        at_plan_input in = steps_input(f, k % 2 * 32);
        in.epoch = (uint64_t)k;
        steps_train(p, &in);
        for (size_t i = 0; i < n; i++)
            at_net_params(f->net)[i] -= 0.5f * at_net_grads(f->net)[i];
    }
    float *weights = steps_copy(at_net_params(f->net), n);
    at_plan_free(p);
    steps_free(f);
    return weights;
}

static void test_same_bits(void **state)
{
    (void)state;
    const char *const nets[] = {steps_plain, steps_normalised};
    for (int k = 0; k < 2; k++) {
        at_net *net = steps_net(nets[k]);
        size_t n = at_net_param_count(net);
        for (int threads = 1; threads <= 3; threads++) {
            float *a = weights_after(nets[k], threads, 6);
            float *b = weights_after(nets[k], threads, 6);
            assert_memory_equal(a, b, n * sizeof *a);
            free(a);
            free(b);
        }
        at_net_free(net);
    }
}

/* ---- ready ---- */

typedef struct ready_log {
    const float *grads;
    float *seen;
    size_t done, calls;
} ready_log;

static void note_ready(void *context, size_t done)
{
    ready_log *log = context;
    assert_true(done > log->done);
    memcpy(log->seen + log->done, log->grads + log->done, (done - log->done) * sizeof(float));
    log->done = done;
    log->calls++;
}

static void test_ready(void **state)
{
    (void)state;
    steps *f = steps_new(steps_plain);
    size_t n = at_net_param_count(f->net);
    float *window = at_alloc_aligned(n * sizeof *window);
    at_net_use_grads(f->net, window);
    at_plan *p = steps_plan(f, 32, true, 2);
    ready_log log = {.grads = window, .seen = calloc(n, sizeof(float))};
    at_plan_input in = steps_input(f, 0);
    in.ready = note_ready;
    in.context = &log;
    steps_train(p, &in);
    assert_int_equal(log.done, n);
    assert_int_equal(log.calls, 4); /* layers with parameters */
    assert_memory_equal(log.seen, window, n * sizeof *window);
    free(log.seen);
    at_plan_free(p);
    steps_free(f);
    at_free_aligned(window);
}

/* ---- inference ---- */

static void test_inference(void **state)
{
    (void)state;
    at_error err = {0};
    steps *f = steps_new(steps_normalised);
    at_plan *p = steps_plan(f, 32, false, 2);
    at_plan_input in = {.pixels = f->pixels};
    at_plan_stats stats = {0};
    steps_check(at_plan_infer(p, &in, &stats, &err), &err);
    assert_int_equal(stats.samples, 0);
    for (int i = 0; i < 32; i++) {
        double sum = 0, exponentials = 0;
        for (int c = 0; c < STEPS_CLASSES; c++) {
            sum += (double)at_plan_scores(p)[i * STEPS_CLASSES + c];
            exponentials += exp((double)at_plan_logits(p)[i * STEPS_CLASSES + c]);
        }
        double first = exp((double)at_plan_logits(p)[i * STEPS_CLASSES]) / exponentials;
        assert_true(fabs(sum - 1) < 1e-5);
        assert_true(fabs(first - (double)at_plan_scores(p)[i * STEPS_CLASSES]) < 1e-6);
    }
    in = steps_input(f, 0);
    f->weights[3] = f->weights[5] = 0;
    steps_check(at_plan_infer(p, &in, &stats, &err), &err);
    assert_int_equal(stats.samples, 30);
    assert_true(stats.loss_sum > 0);
    at_plan_free(p);
    steps_free(f);
}

/* Each sample's logits do not depend on the batch that it is in. */
static void test_inference_by_batches(void **state)
{
    (void)state;
    const int sizes[] = {1, 3, 8, 16, 20};
    const char *const nets[] = {steps_plain, steps_normalised};
    at_error err = {0};
    for (int k = 0; k < 2; k++) {
        steps *f = steps_new(nets[k]);
        at_plan *whole = steps_plan(f, STEPS_MOST, false, 2);
        at_plan_input in = steps_input(f, 0);
        steps_check(at_plan_infer(whole, &in, NULL, &err), &err);
        for (int i = 0; i < 5; i++) {
            at_plan *p = steps_plan(f, sizes[i], false, 1);
            in = steps_input(f, 40);
            steps_check(at_plan_infer(p, &in, NULL, &err), &err);
            steps_assert_near(at_plan_logits(p), at_plan_logits(whole) + (size_t)40 * STEPS_CLASSES,
                              (size_t)(sizes[i] * STEPS_CLASSES), 1e-5);
            at_plan_free(p);
        }
        at_plan_free(whole);
        steps_free(f);
    }
}

static void test_precisions(void **state)
{
    (void)state;
    at_error err = {0};
    at_precision precision = AT_BF16;
    assert_int_equal(at_precision_parse("fp32", &precision, &err), 0);
    assert_int_equal(precision, AT_FP32);
    assert_int_equal(at_precision_parse("bf16", &precision, &err), 0);
    assert_int_equal(precision, AT_BF16);
    assert_int_equal(at_precision_parse("fp16", &precision, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, "\"fp16\""));
    assert_int_equal(at_precision_check(AT_FP32, &err), 0);
    if (dnn_isa_allowed() >= DNN_AVX512_BF16) {
        assert_int_equal(at_precision_check(AT_BF16, &err), 0);
        return;
    }
    assert_int_equal(at_precision_check(AT_BF16, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, "fp32"));
    assert_non_null(strstr(err.message, at_cpu_instructions()));
}

/* The limit that the tests labelled isa set, and the CPU's own, hold for our kernels too. */
static void test_instructions(void **state)
{
    (void)state;
    static const struct {
        const char *limit;
        dnn_isa most;
    } limits[] = {{"SSE41", DNN_SSE}, {"AVX2", DNN_AVX2}, {"AVX512_CORE", DNN_AVX512}};
    const char *limit = getenv("ONEDNN_MAX_CPU_ISA");
    dnn_isa isa = dnn_isa_allowed();
    for (size_t i = 0; limit && i < sizeof limits / sizeof *limits; i++)
        if (!strcmp(limit, limits[i].limit))
            assert_true(isa <= limits[i].most);
    const char *kernels = nn_kernels_best()->name;
    assert_string_equal(kernels, isa >= DNN_AVX512_BF16 ? "avx512-bf16"
                                 : isa >= DNN_AVX512    ? "avx512"
                                 : isa == DNN_AVX2      ? "avx2"
                                                        : "generic");
    steps *f = steps_new(steps_normalised);
    at_plan *p = steps_plan(f, 16, true, 1);
    for (int i = 0; i < p->op_count; i++)
        assert_true(plan_lanes(&p->tensors[i]) != 16 || isa >= DNN_AVX512 ||
                    p->tensors[i].shape.c == 16);
    print_message("instructions: %s, kernels: %s\n", at_cpu_instructions(), kernels);
    at_plan_free(p);
    steps_free(f);
}

/* ---- misuse ---- */

static void test_misuse(void **state)
{
    (void)state;
    at_error err = {0};
    steps *f = steps_new(steps_normalised);
    at_plan *learns = steps_plan(f, 4, true, 1), *infers = steps_plan(f, 4, false, 1);
    at_plan_input in = steps_input(f, 0);
    assert_true(at_plan_train(infers, &in, NULL, &err) < 0);
    assert_true(at_plan_infer(learns, &in, NULL, &err) < 0);
    f->labels[2] = STEPS_CLASSES;
    assert_int_equal(at_plan_train(learns, &in, NULL, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, "sample 2 has label 10"));
    at_plan_options none = {.batch = 0};
    assert_null(at_plan_new(f->net, &none, &err));
    at_plan_free(learns);
    at_plan_free(infers);
    at_plan_free(NULL);
    steps_free(f);
}

/* ---- profile and floor ---- */

static void test_profile(void **state)
{
    (void)state;
    at_error err = {0};
    steps *f = steps_new(steps_plain);
    at_plan *p = steps_plan(f, 16, true, 1);
    at_plan_input in = steps_input(f, 0);
    at_plan_profile(p, true);
    steps_train(p, &in);
    steps_train(p, &in);
    at_node *items = at_plan_profile_result(p);
    double sum = 0;
    for (size_t i = 0; i < at_node_count(items); i++)
        sum += at_node_real(at_node_get(at_node_at(items, i), "seconds"), -1e9);
    assert_true(sum > 0 && at_node_count(items) > 15);
    at_node_free(items);
    at_plan_floor floor;
    steps_check(at_plan_measure_floor(p, &floor, &err), &err);
    assert_true(floor.conv_seconds > 0 && floor.other_bytes > 0);
    at_plan_free(p);
    steps_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split_batches), cmocka_unit_test(test_padding_has_no_weight),
        cmocka_unit_test(test_same_bits),     cmocka_unit_test(test_ready),
        cmocka_unit_test(test_inference),     cmocka_unit_test(test_inference_by_batches),
        cmocka_unit_test(test_precisions),    cmocka_unit_test(test_instructions),
        cmocka_unit_test(test_misuse),        cmocka_unit_test(test_profile),
    };
    return cmocka_run_group_tests(tests, scratch_caches, scratch_caches_gone);
}
