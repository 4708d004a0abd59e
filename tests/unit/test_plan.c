/* SPDX-License-Identifier: Apache-2.0
 * Plans: what a step promises beside the numbers of single layers (those: tests/grad, tests/golden).
 */
#include "../../nn/conv.h"
#include "scratch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { CLASSES = 10, MOST = 64, CHANNELS = 3, SIDE = 12, PIXELS = CHANNELS * SIDE * SIDE };

static const char plain[] = "data | input | | channels=3 height=12 width=12\n"
                            "rescale | rescale | data |\n"
                            "c1 | conv | rescale | out=20 k=3 pad=1\n"
                            "g1 | gelu | c1 |\n"
                            "c2 | conv | g1 | out=20 k=3 pad=1\n"
                            "s2 | add | c2 g1 |\n"
                            "r2 | relu | s2 |\n"
                            "p2 | pool | r2 | k=2\n"
                            "flat | flatten | p2 |\n"
                            "drop | dropout | flat | p=0.25\n"
                            "d1 | dense | drop | out=30\n"
                            "r3 | relu | d1 |\n"
                            "d2 | dense | r3 | out=10\n"
                            "loss | softmax_loss | d2 |\n";
static const char normalised[] = "data | input | | channels=3 height=12 width=12\n"
                                 "rescale | rescale | data |\n"
                                 "c1 | conv | rescale | out=6 k=3\n"
                                 "n1 | bn | c1 | momentum=0.25\n"
                                 "r1 | relu | n1 |\n"
                                 "p1 | pool | r1 | k=2\n"
                                 "flat | flatten | p1 |\n"
                                 "d2 | dense | flat | out=10\n"
                                 "loss | softmax_loss | d2 |\n";

typedef struct fixture {
    at_net *net;
    uint8_t pixels[MOST * PIXELS];
    int32_t labels[MOST];
    float weights[MOST];
    uint32_t ids[MOST];
} fixture;

static void check(int status, const at_error *err)
{
    if (status)
        fail_msg("%s", err->message);
}

static at_net *net_of(const char *rows)
{
    at_error err = {0};
    at_graph *g = at_graph_parse(rows, &err);
    at_net *net = g ? at_net_new(g, 11, &err) : NULL;
    check(net ? 0 : err.code, &err);
    at_graph_free(g);
    return net;
}

static fixture *fixture_new(const char *rows)
{
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->net = net_of(rows);
    at_rng rng = at_rng_stream(5, "pixels", 0);
    for (size_t i = 0; i < sizeof f->pixels; i++)
        f->pixels[i] = (uint8_t)at_rng_next(&rng);
    for (int i = 0; i < MOST; i++) {
        f->labels[i] = (int32_t)at_rng_below(&rng, CLASSES);
        f->weights[i] = 1;
        f->ids[i] = 1000 + 7 * (uint32_t)i;
    }
    return f;
}

static void fixture_free(fixture *f)
{
    at_net_free(f->net);
    free(f);
}

static at_plan *plan_of(fixture *f, int batch, bool training, int threads)
{
    at_error err = {0};
    at_plan_options o = {.batch = batch, .training = training, .threads = threads, .seed = 3};
    at_plan *p = at_plan_new(f->net, &o, &err);
    check(p ? 0 : err.code, &err);
    return p;
}

static at_plan_input input_from(fixture *f, int first)
{
    return (at_plan_input){.pixels = f->pixels + (size_t)first * PIXELS,
                           .labels = f->labels + first,
                           .weights = f->weights + first,
                           .ids = f->ids + first,
                           .epoch = 2,
                           .scale = 1.0f / MOST};
}

static at_plan_stats train(at_plan *p, const at_plan_input *in)
{
    at_error err = {0};
    at_plan_stats stats = {0};
    check(at_plan_train(p, in, &stats, &err), &err);
    return stats;
}

static float *copy(const float *from, size_t n)
{
    float *to = malloc((n + 1) * sizeof *to);
    assert_non_null(to);
    memcpy(to, from, n * sizeof *to);
    return to;
}

static void assert_near(const float *a, const float *b, size_t n, double tolerance)
{
    double largest = 0, worst = 0;
    for (size_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs((double)b[i]));
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
        assert_true(isfinite(a[i]));
    }
    if (!(worst <= tolerance * largest))
        fail_msg("%g apart, the largest is %g", worst, largest);
}

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

/* ---- splitting, padding, determinism ---- */

/* The gradients of a batch are the sums of its parts', with dropout, whatever the layout. */
static void check_split(int parts, int threads)
{
    fixture *f = fixture_new(plain);
    size_t n = at_net_param_count(f->net);
    at_plan *whole = plan_of(f, MOST, true, threads), *part = plan_of(f, MOST / parts, true, 1);
    at_plan_input in = input_from(f, 0);
    at_plan_stats stats = train(whole, &in), sum = {0};
    float *expected = copy(at_net_grads(f->net), n), *total = calloc(n, sizeof *total);
    for (int k = 0; k < parts; k++) {
        in = input_from(f, k * MOST / parts);
        at_plan_stats one = train(part, &in);
        sum.loss_sum += one.loss_sum;
        sum.correct += one.correct;
        sum.samples += one.samples;
        for (size_t i = 0; i < n; i++)
            total[i] += at_net_grads(f->net)[i];
    }
    assert_near(total, expected, n, 1e-5);
    assert_true(fabs(sum.loss_sum - stats.loss_sum) < 1e-4 * stats.loss_sum);
    assert_true(sum.samples == MOST && stats.samples == MOST && sum.correct == stats.correct);
    free(expected);
    free(total);
    at_plan_free(whole);
    at_plan_free(part);
    fixture_free(f);
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
    fixture *f = fixture_new(plain);
    size_t n = at_net_param_count(f->net);
    at_plan *long_one = plan_of(f, 24, true, 2), *short_one = plan_of(f, 17, true, 2);
    at_plan_input in = input_from(f, 0);
    at_plan_stats expected = train(short_one, &in);
    float *grads = copy(at_net_grads(f->net), n);
    for (int i = 17; i < 24; i++) {
        f->weights[i] = 0;
        f->labels[i] = -1;
    }
    at_plan_stats stats = train(long_one, &in);
    assert_near(at_net_grads(f->net), grads, n, 1e-5);
    assert_int_equal(stats.samples, 17);
    assert_int_equal(stats.correct, expected.correct);
    assert_true(fabs(stats.loss_sum - expected.loss_sum) < 1e-4 * expected.loss_sum);
    free(grads);
    at_plan_free(long_one);
    at_plan_free(short_one);
    fixture_free(f);
}

static float *weights_after(const char *rows, int threads, int steps)
{
    fixture *f = fixture_new(rows);
    size_t n = at_net_param_count(f->net);
    at_plan *p = plan_of(f, 32, true, threads);
    for (int k = 0; k < steps; k++) {
        at_plan_input in = input_from(f, k % 2 * 32);
        in.epoch = (uint64_t)k;
        train(p, &in);
        for (size_t i = 0; i < n; i++)
            at_net_params(f->net)[i] -= 0.5f * at_net_grads(f->net)[i];
    }
    float *weights = copy(at_net_params(f->net), n);
    at_plan_free(p);
    fixture_free(f);
    return weights;
}

static void test_same_bits(void **state)
{
    (void)state;
    const char *const nets[] = {plain, normalised};
    for (int k = 0; k < 2; k++) {
        at_net *net = net_of(nets[k]);
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
    fixture *f = fixture_new(plain);
    size_t n = at_net_param_count(f->net);
    float *window = at_alloc_aligned(n * sizeof *window);
    at_net_use_grads(f->net, window);
    at_plan *p = plan_of(f, 32, true, 2);
    ready_log log = {.grads = window, .seen = calloc(n, sizeof(float))};
    at_plan_input in = input_from(f, 0);
    in.ready = note_ready;
    in.context = &log;
    train(p, &in);
    assert_int_equal(log.done, n);
    assert_int_equal(log.calls, 4); /* layers with parameters */
    assert_memory_equal(log.seen, window, n * sizeof *window);
    free(log.seen);
    at_plan_free(p);
    fixture_free(f);
    at_free_aligned(window);
}

/* ---- inference ---- */

static void test_inference(void **state)
{
    (void)state;
    at_error err = {0};
    fixture *f = fixture_new(normalised);
    at_plan *p = plan_of(f, 32, false, 2);
    at_plan_input in = {.pixels = f->pixels};
    at_plan_stats stats = {0};
    check(at_plan_infer(p, &in, &stats, &err), &err);
    assert_int_equal(stats.samples, 0);
    for (int i = 0; i < 32; i++) {
        double sum = 0, exponentials = 0;
        for (int c = 0; c < CLASSES; c++) {
            sum += (double)at_plan_scores(p)[i * CLASSES + c];
            exponentials += exp((double)at_plan_logits(p)[i * CLASSES + c]);
        }
        double first = exp((double)at_plan_logits(p)[i * CLASSES]) / exponentials;
        assert_true(fabs(sum - 1) < 1e-5);
        assert_true(fabs(first - (double)at_plan_scores(p)[i * CLASSES]) < 1e-6);
    }
    in = input_from(f, 0);
    f->weights[3] = f->weights[5] = 0;
    check(at_plan_infer(p, &in, &stats, &err), &err);
    assert_int_equal(stats.samples, 30);
    assert_true(stats.loss_sum > 0);
    at_plan_free(p);
    fixture_free(f);
}

/* Each sample's logits do not depend on the batch that it is in. */
static void test_inference_by_batches(void **state)
{
    (void)state;
    const int sizes[] = {1, 3, 8, 16, 20};
    const char *const nets[] = {plain, normalised};
    at_error err = {0};
    for (int k = 0; k < 2; k++) {
        fixture *f = fixture_new(nets[k]);
        at_plan *whole = plan_of(f, MOST, false, 2);
        at_plan_input in = input_from(f, 0);
        check(at_plan_infer(whole, &in, NULL, &err), &err);
        for (int i = 0; i < 5; i++) {
            at_plan *p = plan_of(f, sizes[i], false, 1);
            in = input_from(f, 40);
            check(at_plan_infer(p, &in, NULL, &err), &err);
            assert_near(at_plan_logits(p), at_plan_logits(whole) + (size_t)40 * CLASSES,
                        (size_t)(sizes[i] * CLASSES), 1e-5);
            at_plan_free(p);
        }
        at_plan_free(whole);
        fixture_free(f);
    }
}

/* The moving statistics of one step, against what a step without them says of its convolution. */
static void test_moving_statistics(void **state)
{
    (void)state;
    fixture *f = fixture_new(normalised);
    at_plan *p = plan_of(f, 32, true, 2);
    at_plan_input in = input_from(f, 0);
    train(p, &in);
    const at_param *kernel = at_net_find_param(f->net, "c1", "kernel");
    const at_param *bias = at_net_find_param(f->net, "c1", "bias");
    const float *w = at_net_params(f->net) + kernel->offset,
                *b = at_net_params(f->net) + bias->offset;
    enum { OUT = SIDE - 2, COUNT = 32 * OUT * OUT };
    for (int o = 0; o < 6; o++) {
        double sum = 0, square = 0;
        for (int i = 0; i < COUNT; i++) {
            int n = i / (OUT * OUT), y = i / OUT % OUT, x = i % OUT;
            double v = (double)b[o];
            for (int t = 0; t < 27; t++) {
                int c = t / 9, at = ((n * SIDE + y + t / 3 % 3) * SIDE + x + t % 3) * CHANNELS + c;
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
    fixture_free(f);
}

/* A chain of rows between pixels and numbers, read back through an identity. */
static void test_pixels(void **state)
{
    (void)state;
    at_error err = {0};
    fixture *f =
        fixture_new("data | input | | channels=3 height=12 width=12\n"
                    "rescale | rescale | data | scale=0.01 offset=-0.5\n"
                    "normalize | normalize | rescale | mean=0.1,0.2,0.3 deviation=2,4,0.5\n"
                    "flat | flatten | normalize |\n"
                    "d | dense | flat | out=432 bias=0\nloss | softmax_loss | d |\n");
    float *w = at_net_params(f->net);
    for (int i = 0; i < PIXELS * PIXELS; i++)
        w[i] = i % (PIXELS + 1) ? 0 : 1;
    at_plan *p = plan_of(f, 5, false, 1);
    at_plan_input in = {.pixels = f->pixels};
    check(at_plan_infer(p, &in, NULL, &err), &err);
    const double mean[] = {0.1, 0.2, 0.3}, deviation[] = {2, 4, 0.5};
    for (int i = 0; i < 5 * PIXELS; i++) {
        int n = i / PIXELS, c = i % PIXELS / (SIDE * SIDE), at = i % (SIDE * SIDE);
        double pixel = f->pixels[(n * SIDE * SIDE + at) * CHANNELS + c];
        double expected = (pixel * 0.01 - 0.5 - mean[c]) / deviation[c];
        assert_true(fabs((double)at_plan_logits(p)[i] - expected) < 1e-5);
    }
    at_plan_free(p);
    fixture_free(f);
}

/* ---- dropout ---- */

static void test_dropout(void **state)
{
    (void)state;
    fixture *f = fixture_new("data | input | | channels=3 height=12 width=12\n"
                             "rescale | rescale | data |\nflat | flatten | rescale |\n"
                             "drop | dropout | flat | p=0.3\nd | dense | drop | out=432 bias=0\n"
                             "loss | softmax_loss | d |\n");
    float *w = at_net_params(f->net);
    for (int i = 0; i < PIXELS * PIXELS; i++)
        w[i] = i % (PIXELS + 1) ? 0 : 1;
    memset(f->pixels, 255, sizeof f->pixels);
    at_plan *p = plan_of(f, MOST, true, 2);
    at_plan_input in = input_from(f, 0);
    train(p, &in);
    size_t n = (size_t)MOST * PIXELS, dropped = 0, changed = 0;
    float *first = copy(at_plan_logits(p), n);
    for (size_t i = 0; i < n; i++) {
        dropped += first[i] == 0;
        assert_true(first[i] == 0 || fabsf(first[i] - 1 / 0.7f) < 1e-5f);
    }
    assert_true(fabs((double)dropped / (double)n - 0.3) < 5 * sqrt(0.21 / (double)n));
    train(p, &in);
    assert_memory_equal(first, at_plan_logits(p), n * sizeof *first);
    in.epoch++;
    train(p, &in);
    for (size_t i = 0; i < n; i++)
        changed += first[i] != at_plan_logits(p)[i];
    assert_true(fabs((double)changed / (double)n - 2 * 0.21) < 0.02);
    free(first);
    at_plan_free(p);
    fixture_free(f);
}

/* ---- bf16 ---- */

static void test_bf16(void **state)
{
    (void)state;
    at_error err = {0};
    if (!__builtin_cpu_supports("avx512bw")) {
        print_message("no AVX-512: oneDNN has no bf16 here\n");
        skip();
    }
    const char *const nets[] = {plain, normalised};
    for (int k = 0; k < 2; k++) {
        fixture *f = fixture_new(nets[k]);
        size_t n = at_net_param_count(f->net);
        at_plan_options o = {.batch = 32, .training = true, .threads = 2, .seed = 3};
        at_plan *wide = plan_of(f, 32, true, 2);
        o.precision = AT_BF16;
        at_plan *half = plan_new_unchecked(f->net, &o, &err);
        check(half ? 0 : err.code, &err);
        at_plan_input in = input_from(f, 0);
        at_plan_stats expected = train(wide, &in);
        float *grads = copy(at_net_grads(f->net), n);
        at_plan_stats stats = train(half, &in);
        assert_true(distance(at_net_grads(f->net), grads, n) < 0.1);
        assert_near(at_plan_logits(half), at_plan_logits(wide), 32 * CLASSES, 0.03);
        assert_true(fabs(stats.loss_sum - expected.loss_sum) < 0.01 * expected.loss_sum);
        assert_true(at_plan_bytes(half) <= at_plan_bytes(wide));
        free(grads);
        at_plan_free(wide);
        at_plan_free(half);
        fixture_free(f);
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
    if (!dnn_has_bf16()) {
        assert_int_equal(at_precision_check(AT_BF16, &err), AT_EINPUT);
        assert_non_null(strstr(err.message, "fp32"));
    }
}

/* ---- misuse ---- */

static void test_misuse(void **state)
{
    (void)state;
    at_error err = {0};
    fixture *f = fixture_new(normalised);
    at_plan *learns = plan_of(f, 4, true, 1), *infers = plan_of(f, 4, false, 1);
    at_plan_input in = input_from(f, 0);
    assert_true(at_plan_train(infers, &in, NULL, &err) < 0);
    assert_true(at_plan_infer(learns, &in, NULL, &err) < 0);
    f->labels[2] = CLASSES;
    assert_int_equal(at_plan_train(learns, &in, NULL, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, "sample 2 has label 10"));
    at_plan_options none = {.batch = 0};
    assert_null(at_plan_new(f->net, &none, &err));
    at_plan_free(learns);
    at_plan_free(infers);
    at_plan_free(NULL);
    fixture_free(f);
}

/* ---- profile and floor ---- */

static void test_profile(void **state)
{
    (void)state;
    at_error err = {0};
    fixture *f = fixture_new(plain);
    at_plan *p = plan_of(f, 16, true, 1);
    at_plan_input in = input_from(f, 0);
    at_plan_profile(p, true);
    train(p, &in);
    train(p, &in);
    at_node *items = at_plan_profile_result(p);
    double sum = 0;
    for (size_t i = 0; i < at_node_count(items); i++)
        sum += at_node_real(at_node_get(at_node_at(items, i), "seconds"), -1e9);
    assert_true(sum > 0 && at_node_count(items) > 15);
    at_node_free(items);
    at_plan_floor floor;
    check(at_plan_measure_floor(p, &floor, &err), &err);
    assert_true(floor.conv_seconds > 0 && floor.other_bytes > 0);
    at_plan_free(p);
    fixture_free(f);
}

/* ---- memory ---- */

/* Two buffers that live at the same time never share a byte, over random lives and sizes. */
static void test_arena(void **state)
{
    (void)state;
    size_t pairs = 0;
    for (uint64_t round = 0; round < 200; round++) {
        at_rng rng = at_rng_stream(round, "lives", 0);
        void *places[60];
        at_plan p = {.options = {.batch = 1}};
        plan_op ops[30] = {0};
        for (int i = 0; i < 30; i++)
            ops[i] = (plan_op){.plan = &p, .index = i};
        p.op_count = 30;
        p.options.training = true;
        for (int i = 0; i < 60; i++)
            assert_int_equal(plan_want(&ops[at_rng_below(&rng, 30)], &places[i],
                                       1 + at_rng_below(&rng, 5000),
                                       (plan_life)at_rng_below(&rng, 3), NULL),
                             0);
        p.op_count = 0; /* no tensors beside the buffers */
        assert_int_equal(plan_memory(&p, NULL), 0);
        for (int i = 0; i < 60; i++) {
            for (int j = 0; j < i; j++, pairs++) {
                const plan_buffer *a = &p.buffers[i], *b = &p.buffers[j];
                bool meet = a->from <= b->until && b->from <= a->until;
                bool apart = a->offset + a->bytes <= b->offset || b->offset + b->bytes <= a->offset;
                assert_true(apart || !meet);
                assert_ptr_equal(places[i], (char *)p.arena + a->offset);
            }
        }
        plan_memory_free(&p);
        free(p.buffers);
    }
    print_message("%zu pairs of buffers\n", pairs);
}

/* ---- choices on disk ---- */

static void test_choices(void **state)
{
    char *dir = *state;
    assert_int_equal(conv_choice_find("a, b"), -1);
    conv_choice_add("a, b", 2, 0.5);
    conv_choice_add("a, b, c", 1, 0.25);
    assert_int_equal(conv_choice_find("a, b"), 2);
    assert_int_equal(conv_choice_find("a, b, c"), 1);
    assert_int_equal(conv_choice_find("a, "), -1);
    conv_choice_add("a, b", 3, 0.5);
    assert_int_equal(conv_choice_find("a, b"), 3);
    char *command =
        at_format("f=$(ls %s/conv*); printf 'x\\n7\\n3 z a, b\\n\\377\\n-1 1 q' > $f", dir);
    assert_int_equal(system(command), 0);
    assert_int_equal(conv_choice_find("a, b"), -1);
    assert_int_equal(conv_choice_find("q"), -1);
    conv_choice_add("q", 0, 1);
    assert_int_equal(conv_choice_find("q"), 0);
    free(command);
    setenv("ATOLL_CACHE_DIR", "/proc/nowhere", 1);
    conv_choice_add("q", 1, 1);
    assert_int_equal(conv_choice_find("q"), -1);
    setenv("ATOLL_CACHE_DIR", dir, 1);
}

static int make_cache(void **state)
{
    char *dir = scratch_new();
    setenv("ATOLL_CACHE_DIR", dir, 1);
    *state = dir;
    return 0;
}

static int remove_cache(void **state)
{
    scratch_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_split_batches),
        cmocka_unit_test(test_padding_has_no_weight),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_ready),
        cmocka_unit_test(test_inference),
        cmocka_unit_test(test_inference_by_batches),
        cmocka_unit_test(test_moving_statistics),
        cmocka_unit_test(test_pixels),
        cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_precisions),
        cmocka_unit_test(test_misuse),
        cmocka_unit_test(test_profile),
        cmocka_unit_test(test_arena),
    };
    return cmocka_run_group_tests(tests, make_cache, remove_cache);
}
