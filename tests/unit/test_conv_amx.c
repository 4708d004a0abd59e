/* SPDX-License-Identifier: Apache-2.0
 * Convolution on tile registers against loops in double precision over the same bf16 numbers: random
 * shapes, windows, strides, paddings, layouts, batches that fill no group; forward with all that may be
 * behind it and batch normalisation in front, both gradients, sums that are taken on the way.
 */
#include "../../nn/kernels_amx.h"
#include "../../nn/conv.h"
#include "steps.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ROUNDS = 30, MOST_PIECES = 16 };
/* Of the largest: half a unit in the last place of bf16, twice where a sum is rounded again; of what is
 * fp32, what other orders of adding make. */
static const double bf16_tolerance = 1.0 / 128, fp32_tolerance = 2e-4;

typedef struct tensor {
    nn_shape shape;
    int64_t n, lanes;
    uint16_t *data;
    double *values; /* [n][c][h][w] */
} tensor;

static void *memory(size_t bytes)
{
    void *p = at_alloc_aligned(bytes + 64);
    assert_non_null(p);
    memset(p, 0xff, bytes + 64); /* NaN: nothing may be read that was not written */
    return p;
}

static double of_bf16(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return (double)x;
}

static uint16_t to_bf16(double value)
{
    float x = (float)value;
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static int64_t channels_of(const tensor *t)
{
    return (t->shape.c + t->lanes - 1) / t->lanes * t->lanes;
}

static int64_t place(const tensor *t, int64_t n, int64_t c, int64_t pixel)
{
    int64_t pixels = t->shape.h * t->shape.w;
    return n * channels_of(t) * pixels + c / t->lanes * pixels * t->lanes + pixel * t->lanes +
           c % t->lanes;
}

static tensor make_tensor(nn_shape shape, int64_t n, int64_t lanes, at_rng *rng)
{
    tensor t = {.shape = shape, .n = n, .lanes = lanes};
    int64_t pixels = shape.h * shape.w;
    t.data = memory((size_t)(n * channels_of(&t) * pixels) * sizeof *t.data);
    t.values = memory((size_t)(n * shape.c * pixels) * sizeof *t.values);
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < channels_of(&t); c++)
            for (int64_t p = 0; p < pixels; p++) {
                uint16_t half = to_bf16(c < shape.c ? at_rng_uniform(rng) - 0.4 : 0);
                t.data[place(&t, i, c, p)] = half;
                if (c < shape.c)
                    t.values[(i * shape.c + c) * pixels + p] = of_bf16(half);
            }
    return t;
}

static void drop_tensor(tensor *t)
{
    at_free_aligned(t->data);
    at_free_aligned(t->values);
}

typedef struct scene {
    at_plan *plan;
    dnn_conv_spec spec;
    conv_pass pass;
    void *pieces[MOST_PIECES];
    int count;
    tensor src, dst;
    float *weights, *bias;
    nn_affine before; /* of src */
    nn_watch watch;   /* of what is written */
    tensor x;         /* that it reads */
    float *numbers;   /* a, b, mean */
    double *sums;
} scene;

static int want(void *context, bool weights, void **to, size_t bytes, at_error *err)
{
    scene *s = context;
    (void)weights;
    (void)err;
    assert_true(s->count < MOST_PIECES);
    *to = s->pieces[s->count++] = memory(bytes);
    return 0;
}

static int64_t between(at_rng *rng, int64_t least, int64_t most)
{
    return least + (int64_t)at_rng_below(rng, (uint64_t)(most - least + 1));
}

static int64_t filters_of(const dnn_conv_spec *s)
{
    return s->src.c * s->dst.c * s->window.kh * s->window.kw;
}

static dnn_conv_spec random_spec(at_rng *rng, dnn_direction direction)
{
    static const nn_activation behind[] = {NN_IDENTITY, NN_RELU, NN_GELU, NN_TANH, NN_SILU};
    bool forward = direction == DNN_FORWARD, back = direction == DNN_BACKWARD_DATA;
    bool wide = at_rng_below(rng, 4) == 0, square = at_rng_below(rng, 2);
    int64_t kh = between(rng, 1, 5), kw = square ? kh : between(rng, 1, 7);
    int64_t stride = between(rng, 1, back && kh < 3 ? kh : 3);
    nn_window w = {kh,
                   kw,
                   stride,
                   square ? stride : between(rng, 1, back && kw < 2 ? kw : 2),
                   between(rng, 0, kh - 1),
                   between(rng, 0, kw - 1),
                   1,
                   1};
    nn_shape src = {between(rng, 8, wide ? 150 : 50), between(rng, kh, 13), between(rng, kw, 13),
                    false};
    nn_shape dst = {between(rng, 8, wide ? 150 : 50), (src.h + 2 * w.ph - kh) / w.sh + 1,
                    (src.w + 2 * w.pw - kw) / w.sw + 1, false};
    return (dnn_conv_spec){.direction = direction,
                           .bias = !back && at_rng_below(rng, 2),
                           .sum = (forward || back) && at_rng_below(rng, 2),
                           .activation = forward ? behind[at_rng_below(rng, 5)] : NN_IDENTITY,
                           .precision = AT_BF16,
                           .n = between(rng, 1, 70),
                           .src = src,
                           .dst = dst,
                           .window = w,
                           .groups = 1};
}

/* Planes of few pixels, of samples that several groups of are taken at once; one pixel is a fully
 * connected layer's. */
static void make_small(dnn_conv_spec *spec, at_rng *rng)
{
    nn_window *w = &spec->window;
    *w = (nn_window){between(rng, 1, 3), between(rng, 1, 3), 1, 1, 0, 0, 1, 1};
    w->ph = w->kh - 1;
    w->pw = w->kw - 1;
    w->sh = w->sw = between(rng, 1, w->kh < w->kw ? w->kh : w->kw);
    spec->src.h = between(rng, 1, 3);
    spec->src.w = between(rng, 1, 3);
    spec->dst.h = (spec->src.h + w->kh - 2) / w->sh + 1;
    spec->dst.w = (spec->src.w + w->kw - 2) / w->sw + 1;
    spec->n = between(rng, 33, 200);
}

/* A first convolution's: NHWC of few channels. */
static void make_first(dnn_conv_spec *spec, at_rng *rng)
{
    spec->src.c = between(rng, 1, 7);
    spec->src_lanes = spec->src.c;
}

/* Now and then NHWC, for which channels have to fill their blocks. */
static int64_t random_lanes(at_rng *rng, nn_shape *s)
{
    if (at_rng_below(rng, 3))
        return AMX_LANES;
    s->c = (s->c + 15) / 16 * 16;
    return s->c;
}

/* The sums that are wanted, if any; those of a gradient need numbers of the layer's. */
static void add_watch(scene *s, at_rng *rng)
{
    bool back = s->spec.direction == DNN_BACKWARD_DATA;
    const tensor *out = back ? &s->src : &s->dst;
    s->watch.kind =
        back ? NN_WATCH_GRADIENT + (nn_watch_kind)at_rng_below(rng, 3) : NN_WATCH_VALUES;
    s->spec.activation = NN_IDENTITY;
    s->x = make_tensor(out->shape, s->spec.n, out->lanes, rng);
    int64_t threads = s->plan->options.threads, padded = (out->shape.c + 15) / 16 * 16;
    s->watch.x = s->watch.y = s->x.data;
    s->watch.a = s->numbers;
    s->watch.b = s->numbers + padded;
    s->watch.mean = s->numbers + 2 * padded;
    s->watch.step = 2 * padded;
    s->sums = memory((size_t)(2 * padded * threads) * sizeof *s->sums);
    s->watch.sum = s->sums;
    s->watch.product = s->sums + padded;
}

static scene make_scene(at_plan *p, dnn_direction direction, at_rng *rng)
{
    at_error err = {0};
    scene s = {.plan = p, .spec = random_spec(rng, direction)};
    dnn_conv_spec *spec = &s.spec;
    if (at_rng_below(rng, 4) == 0)
        make_small(spec, rng);
    spec->src_lanes = random_lanes(rng, &spec->src);
    if (direction != DNN_BACKWARD_DATA && at_rng_below(rng, 4) == 0)
        make_first(spec, rng);
    spec->dst_lanes = random_lanes(rng, &spec->dst);
    s.src = make_tensor(spec->src, spec->n, spec->src_lanes, rng);
    s.dst = make_tensor(spec->dst, spec->n, spec->dst_lanes, rng);
    int64_t most = (spec->src.c > spec->dst.c ? spec->src.c : spec->dst.c) + 16;
    s.numbers = memory((size_t)(4 * most) * sizeof(float));
    for (int64_t i = 0; i < 4 * most; i++)
        s.numbers[i] = (float)at_rng_normal(rng);
    s.weights = memory((size_t)filters_of(spec) * sizeof(float));
    for (int64_t i = 0; i < filters_of(spec); i++)
        s.weights[i] = (float)of_bf16(to_bf16(at_rng_normal(rng)));
    s.bias = memory((size_t)(spec->dst.c + 16) * sizeof(float));
    for (int64_t i = 0; i < spec->dst.c + 16; i++)
        s.bias[i] = i < spec->dst.c ? (float)at_rng_normal(rng) : 0;
    if (direction != DNN_BACKWARD_DATA && spec->src.c > 7 && at_rng_below(rng, 3) == 0)
        s.before = (nn_affine){NN_AFFINE_ALONE + (nn_affine_kind)at_rng_below(rng, 2),
                               s.numbers + 2 * most, s.numbers + 3 * most};
    if (direction != DNN_BACKWARD_WEIGHTS && at_rng_below(rng, 3) == 0)
        add_watch(&s, rng);
    steps_check(conv_pass_new(&s.pass, p, spec, CONV_OWN, spec->src_lanes, spec->dst_lanes, &err),
                &err);
    assert_string_equal(conv_pass_name(&s.pass), "amx");
    steps_check(conv_pass_memory(&s.pass, want, &s, &err), &err);
    return s;
}

static void drop_scene(scene *s)
{
    conv_pass_fini(&s->pass);
    for (int i = 0; i < s->count; i++)
        at_free_aligned(s->pieces[i]);
    drop_tensor(&s->src);
    drop_tensor(&s->dst);
    drop_tensor(&s->x);
    at_free_aligned(s->weights);
    at_free_aligned(s->bias);
    at_free_aligned(s->numbers);
    at_free_aligned(s->sums);
}

/* ---- what it should be ---- */

/* Where the pixel under a window's place is, or -1. */
static int64_t under(const dnn_conv_spec *s, int64_t y, int64_t x, int64_t ky, int64_t kx)
{
    int64_t row = y * s->window.sh - s->window.ph + ky,
            column = x * s->window.sw - s->window.pw + kx;
    bool in = row >= 0 && row < s->src.h && column >= 0 && column < s->src.w;
    return in ? row * s->src.w + column : -1;
}

typedef void (*visit)(const scene *s, double *out, int64_t n, int64_t o, int64_t i, int64_t at,
                      int64_t under, int64_t tap);

static void visit_all(const scene *s, visit f, double *out)
{
    const dnn_conv_spec *p = &s->spec;
    for (int64_t ky = 0; ky < p->window.kh; ky++)
        for (int64_t kx = 0; kx < p->window.kw; kx++)
            for (int64_t y = 0; y < p->dst.h; y++)
                for (int64_t x = 0; x < p->dst.w; x++) {
                    int64_t from = under(p, y, x, ky, kx), tap = ky * p->window.kw + kx;
                    for (int64_t n = 0; n < p->n && from >= 0; n++)
                        for (int64_t o = 0; o < p->dst.c; o++)
                            for (int64_t i = 0; i < p->src.c; i++)
                                f(s, out, n, o, i, y * p->dst.w + x, from, tap);
                }
}

static double *src_value(const scene *s, int64_t n, int64_t c, int64_t pixel)
{
    return &s->src.values[(n * s->src.shape.c + c) * s->src.shape.h * s->src.shape.w + pixel];
}

static int64_t dst_place(const scene *s, int64_t n, int64_t c, int64_t pixel)
{
    return (n * s->dst.shape.c + c) * s->dst.shape.h * s->dst.shape.w + pixel;
}

static int64_t filter_place(const scene *s, int64_t o, int64_t i, int64_t tap)
{
    return (o * s->spec.src.c + i) * s->spec.window.kh * s->spec.window.kw + tap;
}

static void visit_forward(const scene *s, double *out, int64_t n, int64_t o, int64_t i, int64_t at,
                          int64_t from, int64_t tap)
{
    out[dst_place(s, n, o, at)] +=
        *src_value(s, n, i, from) * (double)s->weights[filter_place(s, o, i, tap)];
}

static void visit_data(const scene *s, double *out, int64_t n, int64_t o, int64_t i, int64_t at,
                       int64_t from, int64_t tap)
{
    int64_t to = (n * s->src.shape.c + i) * s->src.shape.h * s->src.shape.w + from;
    out[to] +=
        s->dst.values[dst_place(s, n, o, at)] * (double)s->weights[filter_place(s, o, i, tap)];
}

static void visit_weights(const scene *s, double *out, int64_t n, int64_t o, int64_t i, int64_t at,
                          int64_t from, int64_t tap)
{
    out[filter_place(s, o, i, tap)] +=
        *src_value(s, n, i, from) * s->dst.values[dst_place(s, n, o, at)];
}

/* Batch normalisation in front, rounded as what is multiplied. */
static void normalise(scene *s)
{
    int64_t pixels = s->src.shape.h * s->src.shape.w;
    for (int64_t k = 0; k < s->spec.n * s->src.shape.c * pixels && s->before.kind; k++) {
        int64_t c = k / pixels % s->src.shape.c;
        double y =
            (double)(float)(s->src.values[k] * (double)s->before.a[c] + (double)s->before.b[c]);
        s->src.values[k] = of_bf16(to_bf16(s->before.kind == NN_AFFINE_RELU && y < 0 ? 0 : y));
    }
}

static double activated(nn_activation act, double z)
{
    switch (act) {
    case NN_RELU:
        return z > 0 ? z : 0;
    case NN_GELU:
        return z * 0.5 * erfc(-z * sqrt(0.5));
    case NN_TANH:
        return tanh(z);
    case NN_SILU:
        return z / (1 + exp(-z));
    default:
        return z;
    }
}

/* What comes of the sums; watched, with those of each channel: [2][channels]. */
static void finish(const scene *s, const tensor *to, double *out, double *sums)
{
    bool forward = s->spec.direction == DNN_FORWARD;
    int64_t pixels = to->shape.h * to->shape.w, channels = to->shape.c;
    for (int64_t k = 0; k < s->spec.n * channels * pixels; k++) {
        int64_t c = k / pixels % channels;
        out[k] +=
            (forward && s->spec.bias ? (double)s->bias[c] : 0) + (s->spec.sum ? to->values[k] : 0);
        out[k] = activated(s->spec.activation, out[k]);
        const nn_watch *w = &s->watch;
        if (!w->kind)
            continue;
        double x = s->x.values[k], z = x * (double)w->a[c] + (double)w->b[c];
        if ((w->kind == NN_WATCH_RELU && (float)z <= 0) ||
            (w->kind == NN_WATCH_RELU_OUTPUT && x <= 0))
            out[k] = 0;
        sums[c] += out[k];
        sums[channels + c] +=
            w->kind == NN_WATCH_VALUES ? out[k] * out[k] : out[k] * (x - (double)w->mean[c]);
    }
}

static void compare_tensor(const tensor *t, const double *expected, double *worst)
{
    int64_t pixels = t->shape.h * t->shape.w;
    double largest = 0, apart = 0;
    for (int64_t k = 0; k < t->n * t->shape.c * pixels; k++)
        largest = fmax(largest, fabs(expected[k]));
    for (int64_t n = 0; n < t->n; n++)
        for (int64_t c = 0; c < channels_of(t); c++)
            for (int64_t p = 0; p < pixels; p++) {
                double got = of_bf16(t->data[place(t, n, c, p)]);
                double right = c < t->shape.c ? expected[(n * t->shape.c + c) * pixels + p] : 0;
                apart = fmax(apart, isfinite(got) ? fabs(got - right) : 1e30);
            }
    assert_true(apart <= bf16_tolerance * largest);
    *worst = fmax(*worst, apart / largest);
}

static void compare_sums(const scene *s, const tensor *t, const double *expected)
{
    int64_t padded = (t->shape.c + 15) / 16 * 16;
    for (int half = 0; half < 2 && s->watch.kind; half++) {
        double largest = 0, apart = 0;
        for (int64_t c = 0; c < t->shape.c; c++) {
            double got = 0;
            for (int k = 0; k < s->plan->options.threads; k++)
                got += s->sums[k * 2 * padded + half * padded + c];
            double right = expected[half * t->shape.c + c];
            apart = fmax(apart, isfinite(got) ? fabs(got - right) : 1e30);
            largest = fmax(largest, fabs(right));
        }
        assert_true(apart <= fp32_tolerance * largest);
    }
}

static void compare_floats(const float *got, const double *expected, int64_t n, double *worst)
{
    double largest = 0, apart = 0;
    for (int64_t k = 0; k < n; k++) {
        apart = fmax(apart, isfinite(got[k]) ? fabs((double)got[k] - expected[k]) : 1e30);
        largest = fmax(largest, fabs(expected[k]));
    }
    assert_true(apart <= fp32_tolerance * largest);
    *worst = fmax(*worst, apart / largest);
}

static void check_tensor(scene *s, tensor *out, visit f, double *worst)
{
    int64_t size = s->spec.n * out->shape.c * out->shape.h * out->shape.w;
    double *right = calloc((size_t)size, sizeof *right);
    double *sums = calloc(2 * (size_t)out->shape.c, sizeof *sums);
    assert_true(right && sums);
    normalise(s);
    visit_all(s, f, right);
    finish(s, out, right, sums);
    compare_tensor(out, right, worst);
    compare_sums(s, out, sums);
    free(right);
    free(sums);
}

static void check_filters(scene *s, double *worst)
{
    double *right = calloc((size_t)filters_of(&s->spec), sizeof *right);
    double *bias = calloc((size_t)s->spec.dst.c, sizeof *bias);
    int64_t pixels = s->spec.dst.h * s->spec.dst.w;
    assert_true(right && bias);
    normalise(s);
    visit_all(s, visit_weights, right);
    for (int64_t k = 0; k < s->spec.n * s->spec.dst.c * pixels; k++)
        bias[k / pixels % s->spec.dst.c] += s->dst.values[k];
    compare_floats(s->weights, right, filters_of(&s->spec), worst);
    if (s->spec.bias)
        compare_floats(s->bias, bias, s->spec.dst.c, worst);
    free(right);
    free(bias);
}

static void check_one(scene *s, double *worst)
{
    at_error err = {0};
    conv_memory m = {.src = s->src.data,
                     .weights = s->weights,
                     .bias = s->spec.bias ? s->bias : NULL,
                     .dst = s->dst.data,
                     .watch = s->watch.kind ? &s->watch : NULL,
                     .before = s->before};
    steps_check(conv_pass_bind(&s->pass, &m, &err), &err);
    steps_check(conv_pass_weights(&s->pass, &err), &err);
    steps_check(conv_pass_run(&s->pass, &err), &err);
    if (s->spec.direction == DNN_FORWARD)
        check_tensor(s, &s->dst, visit_forward, worst);
    else if (s->spec.direction == DNN_BACKWARD_DATA)
        check_tensor(s, &s->src, visit_data, worst);
    else
        check_filters(s, worst);
}

static void check(dnn_direction direction)
{
    if (!amx_usable()) {
        print_message("this CPU has no tile registers, or may not use them\n");
        skip();
    }
    steps *f = steps_new(steps_plain);
    double worst = 0;
    int tried = 0;
    for (int threads = 1; threads <= 3; threads++) {
        at_plan *p = steps_plan(f, 8, false, threads);
        at_rng rng = at_rng_stream(9, "tiles", (uint64_t)threads);
        for (int round = 0; round < ROUNDS; round++, tried++) {
            scene s = make_scene(p, direction, &rng);
            check_one(&s, &worst);
            drop_scene(&s);
        }
        at_plan_free(p);
    }
    steps_free(f);
    print_message("%d shapes tried, apart by %g at most\n", tried, worst);
}

static void test_forward(void **state)
{
    (void)state;
    check(DNN_FORWARD);
}

static void test_backward_data(void **state)
{
    (void)state;
    check(DNN_BACKWARD_DATA);
}

static void test_backward_weights(void **state)
{
    (void)state;
    check(DNN_BACKWARD_WEIGHTS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_backward_data),
        cmocka_unit_test(test_backward_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
