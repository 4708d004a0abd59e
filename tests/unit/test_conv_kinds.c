/* SPDX-License-Identifier: Apache-2.0
 * Our own kinds of convolution against oneDNN's direct one, at random shapes, paddings and channel
 * counts: Winograd's, forward with all that may be behind it, and both gradients; the input's gradient
 * of the pixels alone that a 1x1 with a stride reads. An input's gradient also on top of another.
 */
#include "../../nn/conv.h"
#include "steps.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ROUNDS = 10, MOST_PIECES = 16 };
static const double tolerance = 1e-4; /* of the largest */

typedef struct side {
    conv_pass pass;
    void *pieces[MOST_PIECES];
    int count;
    float *src, *dst, *weights, *bias;
} side;

static float *memory(size_t bytes)
{
    float *p = at_alloc_aligned(bytes + 64);
    assert_non_null(p);
    return p;
}

static int want(void *context, bool weights, void **to, size_t bytes, at_error *err)
{
    side *s = context;
    (void)weights;
    (void)err;
    assert_true(s->count < MOST_PIECES);
    *to = s->pieces[s->count++] = memory(bytes);
    memset(*to, 0xff, bytes); /* NaN: nothing may be read that was not written */
    return 0;
}

static size_t filters_of(const dnn_conv_spec *s)
{
    return (size_t)(s->src.c * s->dst.c * s->window.kh * s->window.kw);
}

static void make(side *s, at_plan *p, const dnn_conv_spec *spec, conv_kind kind)
{
    at_error err = {0};
    int64_t lanes = p->kernels->lanes;
    dnn_conv_spec direct = *spec;
    direct.src_lanes = direct.dst_lanes = lanes;
    *s = (side){0};
    steps_check(conv_pass_new(&s->pass, p, &direct, kind, lanes, lanes, &err), &err);
    s->src = memory(conv_pass_bytes(&s->pass, DNN_SRC));
    s->dst = memory(conv_pass_bytes(&s->pass, DNN_DST));
    s->weights = memory(filters_of(spec) * sizeof(float));
    s->bias = memory((size_t)spec->dst.c * sizeof(float));
    steps_check(conv_pass_memory(&s->pass, want, s, &err), &err);
    conv_memory m = {s->src, s->weights, spec->bias ? s->bias : NULL, s->dst};
    steps_check(conv_pass_bind(&s->pass, &m, &err), &err);
}

static void drop(side *s)
{
    conv_pass_fini(&s->pass);
    for (int i = 0; i < s->count; i++)
        at_free_aligned(s->pieces[i]);
    at_free_aligned(s->src);
    at_free_aligned(s->dst);
    at_free_aligned(s->weights);
    at_free_aligned(s->bias);
}

/* Random numbers; zeros in channels that only fill up a block. */
static void fill_tensor(float *x, int64_t n, nn_shape s, int64_t lanes, at_rng *rng)
{
    int64_t blocks = (s.c + lanes - 1) / lanes, pixels = s.h * s.w;
    for (int64_t i = 0; i < n * blocks * pixels * lanes; i++)
        x[i] = i / (pixels * lanes) % blocks * lanes + i % lanes < s.c
                   ? (float)at_rng_uniform(rng) - 0.5f
                   : 0;
}

static void fill(side *s, const dnn_conv_spec *spec, int64_t lanes, uint64_t seed)
{
    at_rng rng = at_rng_stream(seed, "values", 0);
    fill_tensor(s->src, spec->n, spec->src, lanes, &rng);
    fill_tensor(s->dst, spec->n, spec->dst, lanes, &rng);
    for (size_t i = 0; i < filters_of(spec); i++)
        s->weights[i] =
            (float)at_rng_normal(&rng) / sqrtf((float)(filters_of(spec) / (size_t)spec->dst.c));
    for (int64_t i = 0; i < spec->dst.c; i++)
        s->bias[i] = (float)at_rng_normal(&rng);
}

static double apart(const float *a, const float *b, size_t n)
{
    double difference = 0, largest = 0;
    for (size_t i = 0; i < n; i++) {
        difference = fmax(difference, isfinite(a[i]) ? fabs((double)a[i] - (double)b[i]) : 1e30);
        largest = fmax(largest, fabs((double)b[i]));
    }
    assert_true(largest > 0);
    return difference / largest;
}

/* How far the two are apart in what the direction writes. */
static double compare(const side *own, const side *other, const dnn_conv_spec *spec)
{
    size_t src = conv_pass_bytes(&own->pass, DNN_SRC), dst = conv_pass_bytes(&own->pass, DNN_DST);
    if (spec->direction == DNN_FORWARD)
        return apart(own->dst, other->dst, dst / sizeof(float));
    if (spec->direction == DNN_BACKWARD_DATA)
        return apart(own->src, other->src, src / sizeof(float));
    double weights = apart(own->weights, other->weights, filters_of(spec));
    return spec->bias ? fmax(weights, apart(own->bias, other->bias, (size_t)spec->dst.c)) : weights;
}

static int64_t between(at_rng *rng, int64_t least, int64_t most)
{
    return least + (int64_t)at_rng_below(rng, (uint64_t)(most - least + 1));
}

static dnn_conv_spec random_winograd(at_rng *rng, dnn_direction direction)
{
    static const nn_activation behind[] = {NN_IDENTITY, NN_RELU, NN_GELU, NN_TANH, NN_SILU};
    bool forward = direction == DNN_FORWARD, wide = at_rng_below(rng, 4) == 0;
    bool back = direction == DNN_BACKWARD_DATA;
    int64_t k = at_rng_below(rng, 2) ? 5 : 3;
    nn_window w = {k, k, 1, 1, between(rng, 0, k - 1), between(rng, 0, k - 1), 1, 1};
    nn_shape src = {between(rng, 8, wide ? 80 : 33), between(rng, k, 19), between(rng, k, 19),
                    false};
    nn_shape dst = {between(rng, 8, wide ? 80 : 33), src.h + 2 * w.ph - k + 1,
                    src.w + 2 * w.pw - k + 1, false};
    return (dnn_conv_spec){.direction = direction,
                           .bias = !back && at_rng_below(rng, 2),
                           .sum = (forward || back) && at_rng_below(rng, 2),
                           .activation = forward ? behind[at_rng_below(rng, 5)] : NN_IDENTITY,
                           .precision = AT_FP32,
                           .n = between(rng, 1, 9),
                           .src = src,
                           .dst = dst,
                           .window = w,
                           .groups = 1};
}

static dnn_conv_spec random_thin(at_rng *rng, dnn_direction direction)
{
    nn_window w = {1, 1, between(rng, 1, 3), between(rng, 2, 3), 0, 0, 1, 1};
    nn_shape src = {between(rng, 1, 40), between(rng, 1, 19), between(rng, 1, 19), false};
    nn_shape dst = {between(rng, 1, 40), (src.h - 1) / w.sh + 1, (src.w - 1) / w.sw + 1, false};
    return (dnn_conv_spec){.direction = direction,
                           .sum = at_rng_below(rng, 2),
                           .precision = AT_FP32,
                           .n = between(rng, 1, 9),
                           .src = src,
                           .dst = dst,
                           .window = w,
                           .groups = 1};
}

static double check_one(at_plan *p, conv_kind kind, const dnn_conv_spec *spec, uint64_t seed)
{
    at_error err = {0};
    int64_t lanes = p->kernels->lanes;
    side own, other;
    make(&own, p, spec, kind);
    make(&other, p, spec, CONV_LIBRARY);
    double worst = 0;
    for (int twice = 0; twice < 2; twice++) {
        fill(&own, spec, lanes, seed + (uint64_t)twice);
        fill(&other, spec, lanes, seed + (uint64_t)twice);
        steps_check(conv_pass_weights(&own.pass, &err), &err);
        steps_check(conv_pass_run(&own.pass, &err), &err);
        steps_check(conv_pass_weights(&other.pass, &err), &err);
        steps_check(conv_pass_run(&other.pass, &err), &err);
        worst = fmax(worst, compare(&own, &other, spec));
    }
    drop(&own);
    drop(&other);
    return worst;
}

static void check(conv_kind kind, dnn_direction direction)
{
    steps *f = steps_new(steps_plain);
    double worst = 0;
    int tried = 0;
    for (int threads = 1; threads <= 3; threads++) {
        at_plan *p = steps_plan(f, 8, false, threads);
        at_rng rng = at_rng_stream(5, "shapes", (uint64_t)threads);
        for (int round = 0; round < ROUNDS && p->kernels->lanes >= 8; round++, tried++) {
            dnn_conv_spec spec =
                kind == CONV_THIN ? random_thin(&rng, direction) : random_winograd(&rng, direction);
            double d = check_one(p, kind, &spec, (uint64_t)round);
            if (!(d <= tolerance))
                fail_msg("%lldx%lldx%lld to %lld, window %lld, pad %lldx%lld, n %lld, activation "
                         "%d: apart by %g",
                         (long long)spec.src.c, (long long)spec.src.h, (long long)spec.src.w,
                         (long long)spec.dst.c, (long long)spec.window.kh,
                         (long long)spec.window.ph, (long long)spec.window.pw, (long long)spec.n,
                         spec.activation, d);
            worst = fmax(worst, d);
        }
        at_plan_free(p);
    }
    steps_free(f);
    print_message("%d shapes tried, apart by %g at most\n", tried, worst);
    if (!tried)
        skip(); /* vectors of less than 8 floats */
}

static void test_forward(void **state)
{
    (void)state;
    check(CONV_OWN, DNN_FORWARD);
}

static void test_backward_data(void **state)
{
    (void)state;
    check(CONV_OWN, DNN_BACKWARD_DATA);
}

static void test_backward_weights(void **state)
{
    (void)state;
    check(CONV_OWN, DNN_BACKWARD_WEIGHTS);
}

static void test_thin(void **state)
{
    (void)state;
    check(CONV_THIN, DNN_BACKWARD_DATA);
}

static void test_not_for_all(void **state)
{
    (void)state;
    steps *f = steps_new(steps_plain);
    at_plan *p = steps_plan(f, 8, false, 1);
    int64_t lanes = p->kernels->lanes;
    at_rng rng = at_rng_stream(5, "shapes", 0);
    dnn_conv_spec good = random_winograd(&rng, DNN_FORWARD);
    assert_int_equal(conv_winograd.can(p, &good, 0, lanes), lanes >= 8);
    assert_false(conv_winograd.can(p, &good, 3, lanes));
    dnn_conv_spec stride = good, dilated = good, grouped = good, bf16 = good, sigmoid = good,
                  narrow = good;
    stride.window.sh = 2;
    dilated.window.dw = 2;
    grouped.groups = 2;
    bf16.precision = AT_BF16;
    sigmoid.activation = NN_SIGMOID;
    narrow.src.c = 1;
    const dnn_conv_spec *const wrong[] = {&stride, &dilated, &grouped, &bf16, &sigmoid, &narrow};
    for (int i = 0; i < 6; i++)
        assert_false(conv_winograd.can(p, wrong[i], 0, 0));
    dnn_conv_spec thin = random_thin(&rng, DNN_BACKWARD_DATA), forward = thin, padded = thin,
                  whole = thin;
    assert_true(conv_thin_can(&thin, 8));
    forward.direction = DNN_FORWARD;
    padded.window.ph = 1;
    whole.window.sh = whole.window.sw = 1;
    assert_false(conv_thin_can(&thin, 1) || conv_thin_can(&forward, 8) ||
                 conv_thin_can(&padded, 8) || conv_thin_can(&whole, 8));
    at_plan_free(p);
    steps_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),          cmocka_unit_test(test_backward_data),
        cmocka_unit_test(test_backward_weights), cmocka_unit_test(test_thin),
        cmocka_unit_test(test_not_for_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
