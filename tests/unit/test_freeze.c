/* SPDX-License-Identifier: Apache-2.0
 * Frozen rows: which they are, that they stay bit by bit, that the others learn as they would, and
 * that a plan does not compute for them. */
#include "scratch.h"
#include "steps.h"
#include "trainings.h"

#include "../../nn/plan.h"
#include "../../trainer/internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BATCH = 32, STEPS = 5, THREADS = 2 };

/* A residual block, whose end its last normalisation computes where all of it trains. */
static const char residual[] = "data | input | | channels=3 height=12 width=12\n"
                               "rescale | rescale | data |\n"
                               "c1 | conv | rescale | out=20 k=3 pad=1 stride=2\n"
                               "n1 | bn | c1 |\n"
                               "r1 | relu | n1 |\n"
                               "c2 | conv | r1 | out=20 k=3 pad=1\n"
                               "n2 | bn | c2 |\n"
                               "sum | add | n2 r1 |\n"
                               "r2 | relu | sum |\n"
                               "flat | flatten | r2 |\n"
                               "d1 | dense | flat | out=10\n"
                               "loss | softmax_loss | d1 |\n";

static void freeze(at_net *net, const char *globs)
{
    at_error err = {0};
    steps_check(at_net_freeze(net, globs, &err), &err);
}

static bool frozen(const at_net *net, const char *row)
{
    return at_net_find_param(net, row, "kernel")->frozen;
}

static void globs_name_rows(void **state)
{
    (void)state;
    static const struct {
        const char *globs;
        bool c1, c2, d1, d2;
    } cases[] = {
        {"", false, false, false, false},      {"c1", true, false, false, false},
        {"c*", true, true, false, false},      {"c[12]", true, true, false, false},
        {"c1,d1", true, false, true, false},   {"c1, d1", true, false, true, false},
        {"?1", true, false, true, false},      {"[!d]*,d1", true, true, true, false},
        {"c2,c2,", false, true, false, false}, {"d2", false, false, false, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        at_net *net = steps_net(steps_plain);
        freeze(net, cases[i].globs);
        assert_int_equal(frozen(net, "c1"), cases[i].c1);
        assert_int_equal(frozen(net, "c2"), cases[i].c2);
        assert_int_equal(frozen(net, "d1"), cases[i].d1);
        assert_int_equal(frozen(net, "d2"), cases[i].d2);
        at_net_free(net);
    }
}

static void globs_without_a_row_name_the_nearest(void **state)
{
    (void)state;
    static const struct {
        const char *globs, *message;
    } cases[] = {
        {"c3", "\"c1\", \"c2\""},
        {"c1,dd*", "\"d1\", \"d2\""},
        {"x*", "\"c1\", \"c2\", \"d1\", \"d2\""}, /* none is near: the first */
        {"p2", "no row with parameters"},         /* a row without any */
        {"*", "no row to be trained"},
        {"c*,d*", "no row to be trained"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        at_net *net = steps_net(steps_plain);
        at_error err = {0};
        assert_int_equal(at_net_freeze(net, cases[i].globs, &err), AT_EINPUT);
        if (!strstr(err.message, cases[i].message))
            fail_msg("%s: %s", cases[i].globs, err.message);
        at_net_free(net);
    }
    print_message("%zu bad lists of globs\n", sizeof cases / sizeof *cases);
}

static void gradients_travel_up_to_the_last_trained_row(void **state)
{
    (void)state;
    at_net *net = steps_net(steps_plain);
    size_t all = at_net_param_count(net);
    assert_int_equal(at_net_trained_count(net), all);
    freeze(net, "d1"); /* c1, behind it in the flat order, trains */
    assert_int_equal(at_net_trained_count(net), all);
    freeze(net, "c1");
    assert_int_equal(at_net_trained_count(net), at_net_find_param(net, "c1", "kernel")->offset);
    at_net_free(net);
}

static void moving_statistics_of_frozen_rows_are_left_out(void **state)
{
    (void)state;
    static const char rows[] = "data | input | | channels=3 height=12 width=12\n"
                               "rescale | rescale | data |\n"
                               "n1 | bn | rescale |\n"
                               "c1 | conv | n1 | out=5 k=3\n"
                               "n2 | bn | c1 |\n"
                               "flat | flatten | n2 |\n"
                               "d2 | dense | flat | out=10\n"
                               "loss | softmax_loss | d2 |\n";
    at_net *net = steps_net(rows);
    size_t begin = 0, end = 0, seen = 0;
    while (at_net_next_moving(net, &begin, &end))
        seen += end - begin;
    assert_int_equal(seen, at_net_state_count(net));
    freeze(net, "n1");
    begin = end = seen = 0;
    while (at_net_next_moving(net, &begin, &end)) {
        assert_true(begin >= 6); /* n1's mean and variance of 3 channels come first */
        seen += end - begin;
    }
    assert_int_equal(seen, 10);
    at_net_free(net);
}

/* ---- training -------------------------------------------------------------------------------- */

/* Steps with momentum and weight decay. */
static void train(steps *f, at_plan *p, const char *keys)
{
    at_error err = {0};
    at_train_config c = training_config(keys);
    at_optimizer *o = at_optimizer_new(f->net, &c, 1, &err);
    steps_check(o ? 0 : err.code, &err);
    for (int i = 0; i < STEPS; i++) {
        at_plan_input in = steps_input(f, 0);
        steps_train(p, &in);
        at_optimizer_step(o, at_net_grads(f->net), 0.05);
    }
    at_optimizer_free(o);
    at_options_fini(at_train_options, &c);
}

static void check_rows(const at_net *net, const float *now, const float *before, const float *grads)
{
    for (size_t i = 0; i < at_net_params_listed(net); i++) {
        const at_param *p = at_net_param(net, i);
        bool same = !memcmp(now + p->offset, before + p->offset, p->count * sizeof *now);
        if (same != p->frozen)
            fail_msg("%s %s %s", p->layer, p->name, same ? "did not move" : "moved");
        for (size_t k = 0; k < p->count && p->frozen; k++)
            assert_true(grads[p->offset + k] == 0);
    }
}

static void frozen_rows_stay_bit_by_bit(const char *rows, const char *globs, int batch)
{
    static const char *const optimizers[] = {"optimizer=sgd weight_decay=0.01",
                                             "optimizer=adam weight_decay=0.01"};
    for (size_t i = 0; i < sizeof optimizers / sizeof *optimizers; i++) {
        steps *f = steps_new(rows);
        freeze(f->net, globs);
        float *before = steps_copy(at_net_params(f->net), at_net_param_count(f->net));
        at_plan *p = steps_plan(f, batch, true, THREADS);
        train(f, p, optimizers[i]);
        check_rows(f->net, at_net_params(f->net), before, at_net_grads(f->net));
        at_plan_free(p);
        free(before);
        steps_free(f);
    }
}

static void frozen_parameters_stay(void **state)
{
    (void)state;
    static const char *const globs[] = {"c1", "c*", "c2", "d1", "c1,d2", "c*,d1", "d*"};
    for (size_t i = 0; i < sizeof globs / sizeof *globs; i++)
        frozen_rows_stay_bit_by_bit(steps_plain, globs[i], BATCH);
    frozen_rows_stay_bit_by_bit(steps_normalised, "c1", BATCH); /* a grouped plan */
    frozen_rows_stay_bit_by_bit(steps_normalised, "n1", BATCH);
    frozen_rows_stay_bit_by_bit(steps_normalised, "c1,n1", 5); /* one of blocks */
    frozen_rows_stay_bit_by_bit(steps_normalised, "n1", 5);
    frozen_rows_stay_bit_by_bit(residual, "c1", BATCH);
    frozen_rows_stay_bit_by_bit(residual, "c1,n1", BATCH);
    frozen_rows_stay_bit_by_bit(residual, "n2", BATCH);
    frozen_rows_stay_bit_by_bit(residual, "?1", BATCH);
    frozen_rows_stay_bit_by_bit(residual, "c*,n*", BATCH);
}

/* Statistics that are not the first ones, so that a use of the batch's would show. */
static void set_statistics(at_net *net)
{
    at_rng rng = at_rng_stream(9, "statistics", 0);
    for (size_t i = 0; i < at_net_state_count(net); i++)
        at_net_state(net)[i] = 0.1f + (float)at_rng_uniform(&rng);
}

static void a_frozen_normalisation_uses_and_keeps_its_statistics(void **state)
{
    (void)state;
    at_error err = {0};
    steps *f = steps_new(steps_normalised);
    set_statistics(f->net);
    freeze(f->net, "n1");
    size_t states = at_net_state_count(f->net);
    float *before = steps_copy(at_net_state(f->net), states);
    at_plan *inference = steps_plan(f, BATCH, false, THREADS);
    at_plan *training = steps_plan(f, BATCH, true, THREADS);
    at_plan_input in = steps_input(f, 0);
    at_plan_stats expected = {0};
    steps_check(at_plan_infer(inference, &in, &expected, &err), &err);
    at_plan_stats got = steps_train(training, &in);
    assert_true(fabs(got.loss_sum - expected.loss_sum) <= 1e-5 * expected.loss_sum);
    train(f, training, "optimizer=sgd");
    assert_memory_equal(at_net_state(f->net), before, states * sizeof *before);
    at_plan_free(training);
    at_plan_free(inference);
    free(before);
    steps_free(f);
}

/* dLoss/dw of a kernel by differences: behind it a frozen normalisation is a fixed scale. first: the
 * moving statistics are the first ones, mean 0 and variance 1. */
static void check_gradient(const char *rows, const char *globs, const char *layer, bool first)
{
    steps *f = steps_new(rows);
    if (!first)
        set_statistics(f->net);
    freeze(f->net, globs);
    at_plan *p = steps_plan(f, BATCH, true, THREADS);
    at_plan_input in = steps_input(f, 0);
    in.scale = 1.0f / BATCH;
    const at_param *kernel = at_net_find_param(f->net, layer, "kernel");
    float *w = at_net_params(f->net) + kernel->offset;
    steps_train(p, &in);
    float *grads = steps_copy(at_net_grads(f->net) + kernel->offset, kernel->count);
    for (size_t i = 0; i < kernel->count; i += kernel->count / 15) {
        const float h = 1e-3f, at = w[i];
        w[i] = at + h;
        double above = steps_train(p, &in).loss_sum;
        w[i] = at - h;
        double below = steps_train(p, &in).loss_sum;
        w[i] = at;
        double slope = (above - below) / (2 * (double)h * BATCH);
        if (fabs((double)grads[i] - slope) > 2e-3 + 0.02 * fabs(slope))
            fail_msg("%s at %zu: %g, by differences %g", layer, i, (double)grads[i], slope);
    }
    at_plan_free(p);
    free(grads);
    steps_free(f);
}

static void gradients_pass_a_frozen_normalisation(void **state)
{
    (void)state;
    static const char rows[] = "data | input | | channels=3 height=12 width=12\n"
                               "rescale | rescale | data |\n"
                               "c1 | conv | rescale | out=4 k=3 stride=2\n"
                               "n1 | bn | c1 |\n"
                               "g1 | gelu | n1 |\n"
                               "flat | flatten | g1 |\n"
                               "d2 | dense | flat | out=10\n"
                               "loss | softmax_loss | d2 |\n";
    check_gradient(rows, "n1", "c1", false);
    check_gradient(residual, "n*", "c1", false);
    check_gradient(residual, "n2", "c2", false);
    check_gradient(residual, "c1,n1", "c2", true); /* the block's input wants no gradient */
}

static void the_others_learn_as_without_freezing(const char *rows, const char *globs)
{
    steps *free_one = steps_new(rows), *f = steps_new(rows);
    freeze(f->net, globs);
    at_plan *all = steps_plan(free_one, BATCH, true, THREADS);
    at_plan *some = steps_plan(f, BATCH, true, THREADS);
    at_plan_input in = steps_input(f, 0);
    at_plan_stats a = steps_train(all, &in), b = steps_train(some, &in);
    assert_true(a.loss_sum == b.loss_sum);
    for (size_t i = 0; i < at_net_params_listed(f->net); i++) {
        const at_param *p = at_net_param(f->net, i);
        const float *expected = at_net_grads(free_one->net) + p->offset;
        const float *got = at_net_grads(f->net) + p->offset;
        if (!p->frozen)
            steps_assert_near(got, expected, p->count, 1e-6);
    }
    at_plan_free(all);
    at_plan_free(some);
    steps_free(free_one);
    steps_free(f);
}

static void other_gradients_are_those_without_freezing(void **state)
{
    (void)state;
    static const char *const globs[] = {"c1", "c*", "c2", "d1", "c1,d2", "c*,d1", "d*"};
    for (size_t i = 0; i < sizeof globs / sizeof *globs; i++)
        the_others_learn_as_without_freezing(steps_plain, globs[i]);
    the_others_learn_as_without_freezing(residual, "c1");
    the_others_learn_as_without_freezing(residual, "c2");
    the_others_learn_as_without_freezing(residual, "c*,d1");
}

/* ---- what the plan leaves out ---------------------------------------------------------------- */

static int ops_backward(const at_plan *p)
{
    int n = 0;
    for (int i = 0; i < p->op_count; i++)
        n += p->ops[i].backward && !p->ops[i].absorbed;
    return n;
}

static void backward_ends_behind_the_first_trained_row(void **state)
{
    (void)state;
    static const struct {
        const char *globs, *first; /* the earliest row that runs backward */
    } cases[] = {{"", "c1"}, {"c1", "c2"}, {"c*", "d1"}, {"c*,d1", "d2"}, {"c2", "c1"}};
    size_t most = 0;
    int before = 1 << 20;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        steps *f = steps_new(steps_plain);
        freeze(f->net, cases[i].globs);
        at_plan *p = steps_plan(f, BATCH, true, THREADS);
        int first = 0;
        while (!p->ops[first].backward || p->ops[first].absorbed)
            first++;
        assert_string_equal(p->ops[first].row->row.name, cases[i].first);
        if (i == 0)
            most = at_plan_bytes(p);
        assert_true(at_plan_bytes(p) <= most);
        if (i < 4) {
            assert_true(ops_backward(p) < before);
            before = ops_backward(p);
        }
        at_plan_free(p);
        steps_free(f);
    }
}

static size_t told[64], told_count;

static void on_ready(void *context, size_t done)
{
    (void)context;
    told[told_count++] = done;
}

static void ready_counts_up_to_what_is_trained(void **state)
{
    (void)state;
    steps *f = steps_new(steps_plain);
    freeze(f->net, "c1,d1");
    at_plan *p = steps_plan(f, BATCH, true, THREADS);
    at_plan_input in = steps_input(f, 0);
    in.ready = on_ready;
    told_count = 0;
    steps_train(p, &in);
    assert_true(told_count >= 2);
    for (size_t i = 1; i < told_count; i++)
        assert_true(told[i] > told[i - 1]);
    assert_int_equal(told[told_count - 1], at_net_trained_count(f->net));
    at_plan_free(p);
    steps_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(globs_name_rows),
        cmocka_unit_test(globs_without_a_row_name_the_nearest),
        cmocka_unit_test(gradients_travel_up_to_the_last_trained_row),
        cmocka_unit_test(moving_statistics_of_frozen_rows_are_left_out),
        cmocka_unit_test(frozen_parameters_stay),
        cmocka_unit_test(a_frozen_normalisation_uses_and_keeps_its_statistics),
        cmocka_unit_test(gradients_pass_a_frozen_normalisation),
        cmocka_unit_test(other_gradients_are_those_without_freezing),
        cmocka_unit_test(backward_ends_behind_the_first_trained_row),
        cmocka_unit_test(ready_counts_up_to_what_is_trained),
    };
    return cmocka_run_group_tests(tests, scratch_caches, scratch_caches_gone);
}
