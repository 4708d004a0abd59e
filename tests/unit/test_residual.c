/* SPDX-License-Identifier: Apache-2.0
 * Residual blocks: batch normalisation does the sum and the relu behind it in its own passes. The
 * same network with rows "dropout p=0" in between, which keeps every row to itself, must compute the
 * same: with the addend in the same layout and in another one, in fp32 and in bf16.
 */
#include "../../nn/plan.h"
#include "scratch.h"

#include <glob.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BATCH = 16, SIDE = 8, CLASSES = 5, PIXELS = BATCH * SIDE * SIDE * 3 };

/* Three blocks: its input is added; a normalised convolution of it; and no relu behind. */
static const char network[] = "data | input | | channels=3 height=8 width=8\n"
                              "unit | rescale | data | scale=0.00392156862745098\n"
                              "stem | conv | unit | out=16 k=3 pad=1\n"
                              "r0 | relu | stem | \n"
                              "a | conv | r0 | out=16 k=3 pad=1 bias=0\n"
                              "a_bn | bn | a | \n"
                              "%s"
                              "s1 | add | a_%s r0 | \n"
                              "r1 | relu | s1 | \n"
                              "p | conv | r1 | out=24 k=1 stride=2 bias=0\n"
                              "p_bn | bn | p | \n"
                              "b | conv | r1 | out=24 k=3 pad=1 stride=2 bias=0\n"
                              "b_bn | bn | b | \n"
                              "%s"
                              "s2 | add | p_bn b_%s | \n"
                              "r2 | relu | s2 | \n"
                              "c | conv | r2 | out=24 k=3 pad=1 bias=0\n"
                              "c_bn | bn | c | \n"
                              "%s"
                              "s3 | add | c_%s r2 | \n"
                              "flat | flatten | s3 | \n"
                              "logits | dense | flat | out=5\n"
                              "loss | softmax_loss | logits | \n";

typedef struct side {
    at_net *net;
    at_plan *plan;
} side;

static int sums_absorbed(const at_plan *p)
{
    int n = 0;
    for (int i = 0; i < p->op_count; i++)
        n += p->ops[i].adds_input && !p->ops[i].absorbed;
    return n;
}

static side make(bool fused, at_precision precision)
{
    at_error err = {0};
    const char *name = fused ? "bn" : "keep";
    char text[4000];
    snprintf(text, sizeof text, network, fused ? "" : "a_keep | dropout | a_bn | p=0\n", name,
             fused ? "" : "b_keep | dropout | b_bn | p=0\n", name,
             fused ? "" : "c_keep | dropout | c_bn | p=0\n", name);
    at_graph *g = at_graph_parse(text, &err);
    if (!g)
        fail_msg("%s", err.message);
    side s = {.net = at_net_new(g, 7, &err)};
    at_graph_free(g);
    if (!s.net)
        fail_msg("%s", err.message);
    at_plan_options options = {
        .batch = BATCH, .precision = precision, .training = true, .threads = 2};
    s.plan = plan_new_unchecked(s.net, &options, &err);
    if (!s.plan)
        fail_msg("%s", err.message);
    assert_int_equal(sums_absorbed(s.plan), fused ? 3 : 0);
    return s;
}

static void drop(side *s)
{
    at_plan_free(s->plan);
    at_net_free(s->net);
}

static void step(side *s, at_plan_stats *stats)
{
    static uint8_t pixels[PIXELS];
    static int32_t labels[BATCH];
    at_error err = {0};
    at_rng rng = at_rng_stream(3, "pixels", 0);
    for (int i = 0; i < PIXELS; i++)
        pixels[i] = (uint8_t)at_rng_next(&rng);
    for (int i = 0; i < BATCH; i++)
        labels[i] = i % CLASSES;
    at_plan_input in = {.pixels = pixels, .labels = labels, .scale = 1.0f / BATCH};
    if (at_plan_train(s->plan, &in, stats, &err))
        fail_msg("%s", err.message);
}

/* The length of the difference of all gradients, as a share of their length. */
static double gradients_apart(const side *a, const side *b)
{
    double difference = 0, length = 0;
    for (size_t i = 0; i < at_net_params_listed(a->net); i++) {
        const at_param *p = at_net_param(a->net, i);
        const at_param *q = at_net_find_param(b->net, p->layer, p->name);
        const float *x = at_net_grads(a->net) + p->offset, *y = at_net_grads(b->net) + q->offset;
        for (size_t k = 0; k < p->count; k++) {
            difference += pow((double)x[k] - (double)y[k], 2);
            length += (double)y[k] * (double)y[k];
        }
    }
    assert_true(length > 0);
    return sqrt(difference / length);
}

static double compare(at_precision precision)
{
    side fused = make(true, precision), apart = make(false, precision);
    at_plan_stats a = {0}, b = {0};
    step(&fused, &a);
    step(&apart, &b);
    double loss = fabs(a.loss_sum - b.loss_sum) / b.loss_sum;
    double apart_by = gradients_apart(&fused, &apart);
    print_message("%s: loss differs by %.1e, gradients by %.1e\n",
                  precision == AT_BF16 ? "bf16" : "fp32", loss, apart_by);
    double most = loss > apart_by ? loss : apart_by;
    drop(&fused);
    drop(&apart);
    return most;
}

static void test_fp32(void **state)
{
    (void)state;
    assert_true(compare(AT_FP32) < 2e-5);
}

/* A rounding more or less of eight bits' significands. */
static void test_bf16(void **state)
{
    (void)state;
    if (dnn_isa_allowed() < DNN_AVX512) {
        print_message("no AVX-512: oneDNN has no bf16 here\n");
        skip();
    }
    assert_true(compare(AT_BF16) < 0.05);
}

/* The remembered choice of a convolution becomes another one. */
static void choose(char *text, const char *key, char choice)
{
    char *line = strstr(text, key);
    assert_non_null(line);
    while (line > text && line[-1] != '\n')
        line--;
    *line = choice;
}

/* Of the two that are added, one gives NHWC, the other NCHW. */
static void remember_layouts(const char *folder)
{
    at_error err = {0};
    char *pattern = at_path_join(folder, "convolutions-*.txt"), *text = NULL;
    size_t bytes = 0;
    glob_t found;
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    assert_int_equal(found.gl_pathc, 1);
    const char *path = found.gl_pathv[0];
    assert_int_equal(at_file_read(path, 1 << 20, &text, &bytes, &err), 0);
    choose(text, "forward, fp32, n 16, 16x8x8 to 24x4x4, k 1x1", '4');
    choose(text, "forward, fp32, n 16, 16x8x8 to 24x4x4, k 3x3", '5');
    assert_int_equal(at_file_write(path, text, bytes, &err), 0);
    free(text);
    free(pattern);
    globfree(&found);
}

static const plan_op *op_of(const side *s, const char *name)
{
    return &s->plan->ops[nn_net_row(s->net, name) - s->net->rows];
}

static void test_another_layout(void **state)
{
    (void)state;
    char *folder = scratch_new();
    setenv("ATOLL_CACHE_DIR", folder, 1);
    side first = make(true, AT_FP32);
    drop(&first);
    remember_layouts(folder);
    side fused = make(true, AT_FP32), apart = make(false, AT_FP32);
    const plan_op *sum = op_of(&fused, "b_bn");
    bool differ = plan_lanes(sum->in[0]) != plan_lanes(sum->in[1]);
    print_message("lanes %d and %d\n", (int)plan_lanes(sum->in[0]), (int)plan_lanes(sum->in[1]));
    at_plan_stats a = {0}, b = {0};
    step(&fused, &a);
    step(&apart, &b);
    assert_true(differ);
    assert_true(fabs(a.loss_sum - b.loss_sum) < 1e-5 * b.loss_sum);
    assert_true(gradients_apart(&fused, &apart) < 2e-5);
    drop(&fused);
    drop(&apart);
    unsetenv("ATOLL_CACHE_DIR");
    scratch_free(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fp32),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_another_layout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
