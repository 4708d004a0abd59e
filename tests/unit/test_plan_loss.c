/* SPDX-License-Identifier: Apache-2.0
 * Losses: label smoothing and class weights against numbers of PyTorch's CrossEntropyLoss, labels
 * of mixed samples against two samples and central differences, and auxiliary losses, which help training and are left out of inference.
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

enum { CLASSES = 3, SAMPLES = 4 };

/* Logits are pixels / 100. */
static const char identity[] = "data | input | | channels=3 height=1 width=1\n"
                               "rescale | rescale | data | scale=0.01\nflat | flatten | rescale |\n"
                               "d | dense | flat | out=3\nloss | softmax_loss | d |\n";
static const uint8_t pixels[] = {10, 200, 30, 90, 80, 250, 255, 0, 128, 60, 61, 62};
static const int32_t labels[] = {1, 0, 2, 1};
static const float class_weights[] = {0.5f, 2.0f, 1.25f};

/* torch.nn.CrossEntropyLoss(weight, label_smoothing=...) in double precision. */
static const struct {
    const float *weights;
    float smoothing;
    double loss, bias[CLASSES], kernel[CLASSES * CLASSES];
} expected[] = {
    {NULL,
     0.2f,
     1.2570663353749714,
     {0.0643266, -0.1483339, 0.0840072},
     {0.3050747, -0.0812102, -0.1921439, -0.0740862, -0.1263091, -0.0535225, -0.2309885, 0.2075192,
      0.2456664}},
    {class_weights,
     0,
     0.9921022681498195,
     {0.2395318, -0.2946685, 0.0551367},
     {0.4138613, 0.0886963, 0.1019567, -0.1056292, -0.3057627, -0.1251225, -0.3082322, 0.2170664,
      0.0231657}},
    {class_weights,
     0.2f,
     1.0432005974836187,
     {0.2260011, -0.2731262, 0.0471251},
     {0.4034209, 0.0747756, 0.1214824, -0.157243, -0.2449828, -0.1727685, -0.2461779, 0.1702072,
      0.0512862}},
};

static at_net *identity_net(void)
{
    at_net *net = steps_net(identity);
    const at_param *kernel = at_net_find_param(net, "d", "kernel");
    memset(at_net_params(net), 0, at_net_param_count(net) * sizeof(float));
    for (size_t i = 0; i < CLASSES; i++)
        at_net_params(net)[kernel->offset + i * (CLASSES + 1)] = 1;
    return net;
}

static at_plan *loss_plan(at_net *net, size_t k, int batch, bool training)
{
    at_error err = {0};
    at_plan_options o = {.batch = batch,
                         .training = training,
                         .threads = 1,
                         .label_smoothing = expected[k].smoothing,
                         .class_weights = expected[k].weights};
    at_plan *p = at_plan_new(net, &o, &err);
    steps_check(p ? 0 : err.code, &err);
    return p;
}

static void check_gradient(at_net *net, const char *name, const double *want)
{
    const at_param *p = at_net_find_param(net, "d", name);
    for (size_t i = 0; i < p->count; i++)
        assert_true(fabs((double)at_net_grads(net)[p->offset + i] - want[i]) < 1e-6);
}

static void test_against_torch(void **state)
{
    (void)state;
    at_net *net = identity_net();
    for (size_t k = 0; k < sizeof expected / sizeof *expected; k++) {
        at_plan *p = loss_plan(net, k, SAMPLES, true);
        double sum = 0;
        for (int i = 0; i < SAMPLES; i++)
            sum += expected[k].weights ? (double)expected[k].weights[labels[i]] : 1;
        at_plan_input in = {.pixels = pixels, .labels = labels, .scale = (float)(1 / sum)};
        at_plan_stats stats = steps_train(p, &in);
        assert_true(fabs(stats.loss_sum / sum - expected[k].loss) < 1e-6);
        assert_int_equal(stats.samples, SAMPLES);
        check_gradient(net, "bias", expected[k].bias);
        check_gradient(net, "kernel", expected[k].kernel);
        at_plan_free(p);
    }
    at_net_free(net);
}

/* ---- labels of mixed samples ---- */

static const int32_t other_labels[] = {2, 0, 1, 0};
static const float shares[] = {0.25f, 0.5f, 0.875f, 1};

static const at_plan_input mixed = {
    .pixels = pixels, .labels = labels, .other_labels = other_labels, .shares = shares, .scale = 1};

/* The loss and the gradients are those of each sample taken twice, once with each label, its weight
 * the label's share. */
static void test_mixed_labels_are_two_samples(void **state)
{
    (void)state;
    uint8_t twice[2 * sizeof pixels];
    int32_t both_labels[2 * SAMPLES];
    float weights[2 * SAMPLES];
    memcpy(twice, pixels, sizeof pixels);
    memcpy(twice + sizeof pixels, pixels, sizeof pixels);
    for (int i = 0; i < SAMPLES; i++) {
        both_labels[i] = labels[i];
        both_labels[SAMPLES + i] = other_labels[i];
        weights[i] = shares[i];
        weights[SAMPLES + i] = 1 - shares[i];
    }
    at_net *net = identity_net();
    size_t n = at_net_param_count(net);
    for (size_t k = 0; k < sizeof expected / sizeof *expected; k++) {
        at_plan *p = loss_plan(net, k, SAMPLES, true), *q = loss_plan(net, k, 2 * SAMPLES, true);
        at_plan_stats stats = steps_train(p, &mixed);
        float *grads = steps_copy(at_net_grads(net), n);
        at_plan_input in = {.pixels = twice, .labels = both_labels, .weights = weights, .scale = 1};
        at_plan_stats want = steps_train(q, &in);
        assert_true(fabs(stats.loss_sum - want.loss_sum) < 1e-6);
        assert_int_equal(stats.samples, SAMPLES);
        steps_assert_near(grads, at_net_grads(net), n, 1e-6);
        free(grads);
        at_plan_free(p);
        at_plan_free(q);
    }
    at_net_free(net);
}

static double mixed_loss(at_plan *p)
{
    at_error err = {0};
    at_plan_stats stats = {0};
    steps_check(at_plan_infer(p, &mixed, &stats, &err), &err);
    return stats.loss_sum;
}

/* Central differences over every parameter. */
static void test_gradient_of_mixed_labels(void **state)
{
    (void)state;
    const float step = 1e-2f;
    at_net *net = identity_net();
    for (size_t k = 0; k < sizeof expected / sizeof *expected; k++) {
        at_plan *p = loss_plan(net, k, SAMPLES, true), *q = loss_plan(net, k, SAMPLES, false);
        steps_train(p, &mixed);
        for (size_t i = 0; i < at_net_param_count(net); i++) {
            float *param = at_net_params(net) + i, kept = *param;
            *param = kept + step;
            double above = mixed_loss(q);
            *param = kept - step;
            double below = mixed_loss(q);
            *param = kept;
            double slope = (above - below) / (2 * (double)step);
            assert_true(fabs(slope - (double)at_net_grads(net)[i]) < 2e-3);
        }
        at_plan_free(p);
        at_plan_free(q);
    }
    at_net_free(net);
}

/* Right is the label with the larger share. */
static void test_mixed_labels_that_are_right(void **state)
{
    (void)state;
    at_error err = {0};
    at_net *net = identity_net(); /* the largest pixel is the class: 1, 2, 0, 2 */
    at_plan *p = loss_plan(net, 0, SAMPLES, false);
    static const int32_t first[] = {1, 2, 0, 2}, second[] = {0, 0, 1, 0}, bad[] = {0, 0, 3, 0};
    static const float large[] = {0.9f, 0.9f, 0.9f, 0.9f}, small[] = {0.1f, 0.1f, 0.9f, 0.1f};
    at_plan_input in = {.pixels = pixels, .labels = first, .other_labels = second, .shares = large};
    at_plan_stats stats = {0};
    steps_check(at_plan_infer(p, &in, &stats, &err), &err);
    assert_int_equal(stats.correct, 4);
    in.shares = small;
    steps_check(at_plan_infer(p, &in, &stats, &err), &err);
    assert_int_equal(stats.correct, 5);
    in.other_labels = bad;
    assert_int_equal(at_plan_infer(p, &in, &stats, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, "sample 2 has label 3, the network has 3 classes"));
    at_plan_free(p);
    at_net_free(net);
}

/* ---- auxiliary losses ---- */

#define TRUNK                                                                                      \
    "data | input | | channels=3 height=12 width=12\nrescale | rescale | data |\n"                 \
    "c1 | conv | rescale | out=16 k=3\nr1 | relu | c1 |\n"
#define AUXILIARY "ap | pool | r1 | kind=avg out=4\naf | flatten | ap |\nad | dense | af | out=10\n"
#define MAIN      "c2 | conv | r1 | out=16 k=3\nf | flatten | c2 |\nd | dense | f | out=10\n"

static const char both[] =
    TRUNK AUXILIARY "aux | softmax_loss | ad | weight=0.3\n" MAIN "loss | softmax_loss | d |\n";
static const char only_main[] = TRUNK MAIN "loss | softmax_loss | d |\n";
static const char only_auxiliary[] = TRUNK AUXILIARY "aux | softmax_loss | ad |\n";

static const float *gradient_of(const steps *f, const char *layer)
{
    return at_net_grads(f->net) + at_net_find_param(f->net, layer, "kernel")->offset;
}

/* The trunk's gradient is the main one plus 0.3 of the auxiliary one; the statistics are the main
 * row's. Equal names make equal first weights. */
static void test_weighted_gradients(void **state)
{
    (void)state;
    const char *const rows[] = {both, only_main, only_auxiliary};
    steps *f[3];
    at_plan_stats stats[3];
    for (int i = 0; i < 3; i++) {
        f[i] = steps_new(rows[i]);
        at_plan *p = steps_plan(f[i], 32, true, 2);
        at_plan_input in = steps_input(f[i], 0);
        stats[i] = steps_train(p, &in);
        at_plan_free(p);
    }
    size_t n = at_net_find_param(f[0]->net, "c1", "kernel")->count;
    float *sum = steps_copy(gradient_of(f[1], "c1"), n);
    for (size_t i = 0; i < n; i++)
        sum[i] += 0.3f * gradient_of(f[2], "c1")[i];
    steps_assert_near(gradient_of(f[0], "c1"), sum, n, 1e-5);
    assert_true(stats[0].loss_sum == stats[1].loss_sum && stats[0].samples == stats[1].samples);
    assert_int_equal(stats[0].correct, stats[1].correct);
    free(sum);
    for (int i = 0; i < 3; i++)
        steps_free(f[i]);
}

static void test_inference_without(void **state)
{
    (void)state;
    at_error err = {0};
    steps *f = steps_new(both), *alone = steps_new(only_main);
    at_plan *p = steps_plan(f, 32, false, 2), *q = steps_plan(alone, 32, false, 2);
    at_plan_input in = steps_input(f, 0);
    steps_check(at_plan_infer(p, &in, NULL, &err), &err);
    steps_check(at_plan_infer(q, &in, NULL, &err), &err);
    assert_memory_equal(at_plan_logits(p), at_plan_logits(q), 32 * STEPS_CLASSES * sizeof(float));
    assert_int_equal(at_plan_bytes(p), at_plan_bytes(q));
    for (int i = 0; i < p->op_count; i++)
        if (p->ops[i].row->row.name[0] == 'a')
            assert_null(p->ops[i].forward);
    at_plan_free(p);
    at_plan_free(q);
    steps_free(f);
    steps_free(alone);
}

static void test_misfits(void **state)
{
    (void)state;
    static const struct {
        const char *rows, *message;
    } bad[] = {
        {TRUNK AUXILIARY "aux | softmax_loss | ad |\nr | relu | aux |\nloss | softmax_loss | r |",
         "its input \"aux\" is a loss"},
        {TRUNK "f | flatten | r1 |\nad | dense | f | out=9\naux | softmax_loss | ad |\n"
               "d | dense | f | out=10\nloss | softmax_loss | d |",
         "needs as many classes as the last row \"loss\" has: 10"},
        {TRUNK "f | flatten | r1 |\nloss | softmax_loss | f | weight=0.5", "needs weight=1"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        at_error err = {0};
        at_graph *g = at_graph_parse(bad[i].rows, &err);
        assert_non_null(g);
        assert_null(at_net_new(g, 1, &err));
        assert_int_equal(err.code, AT_EINPUT);
        if (!strstr(err.message, bad[i].message))
            fail_msg("\"%s\" does not hold \"%s\"", err.message, bad[i].message);
        at_graph_free(g);
    }
    print_message("%zu bad networks tried\n", sizeof bad / sizeof *bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_torch),
        cmocka_unit_test(test_mixed_labels_are_two_samples),
        cmocka_unit_test(test_gradient_of_mixed_labels),
        cmocka_unit_test(test_mixed_labels_that_are_right),
        cmocka_unit_test(test_weighted_gradients),
        cmocka_unit_test(test_inference_without),
        cmocka_unit_test(test_misfits),
    };
    return cmocka_run_group_tests(tests, scratch_caches, scratch_caches_gone);
}
