/* SPDX-License-Identifier: Apache-2.0
 * ctest: timeout=1200
 * What convolutions of our own do for the batch normalisation around them: sums of what they write,
 * its output made as they read it. A network whose convolutions are all ours, where they can be, against
 * the same one computed by the library's, which do nothing of that kind.
 */
#include "../../nn/conv.h"
#include "../../nn/kernels_amx.h"
#include "scratch.h"
#include "steps.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    BATCH = 32,
    MOST_THREADS = 3,
    ROUNDS = 10,
    LIBRARY = 1,
    OURS = 6 /* choices of conv_tune.c */
};

/* Residual blocks as in ResNet: with an identity, with a projection, without a relu behind. Planes of 10x10 are no whole number of tiles; one mean is far from 0. */
static const char network[] = "data | input | | channels=3 height=12 width=12\n"
                              "unit | rescale | data | scale=0.00392156862745098\n"
                              "far | conv | unit | out=32 k=3 bias=1\n"
                              "far_bn | bn | far | \n"
                              "a | relu | far_bn | \n"
                              "b1 | conv | a | out=24 k=3 pad=1 bias=0\n"
                              "b1_bn | bn | b1 | \n"
                              "b1_relu | relu | b1_bn | \n"
                              "b2 | conv | b1_relu | out=32 k=3 pad=1 bias=0\n"
                              "b2_bn | bn | b2 | \n"
                              "b_sum | add | b2_bn a | \n"
                              "b | relu | b_sum | \n"
                              "c1 | conv | b | out=40 k=3 pad=1 bias=0\n"
                              "c1_bn | bn | c1 | \n"
                              "c2 | conv | c1_bn | out=48 k=5 pad=2 bias=0\n"
                              "c2_bn | bn | c2 | \n"
                              "c0 | conv | b | out=48 k=1 bias=0\n"
                              "c0_bn | bn | c0 | \n"
                              "c | add | c2_bn c0_bn | \n"
                              "d1 | conv | c | out=40 k=3 pad=1 bias=0\n"
                              "d1_bn | bn | d1 | \n"
                              "d1_relu | relu | d1_bn | \n"
                              "d2 | conv | d1_relu | out=48 k=3 pad=1 bias=0\n"
                              "d2_bn | bn | d2 | \n"
                              "d_sum | add | d2_bn c | \n"
                              "d | relu | d_sum | \n"
                              "pool | pool | d | kind=avg k=global\n"
                              "flat | flatten | pool | \n"
                              "logits | dense | flat | out=10\n"
                              "loss | softmax_loss | logits | \n";

/* The first convolution's few channels are no block: it does not make normalised values as it reads. */
static const char normalised_pixels[] = "data | input | | channels=3 height=13 width=13\n"
                                        "unit | rescale | data | scale=0.00392156862745098\n"
                                        "unit_bn | bn | unit | \n"
                                        "far | conv | unit_bn | out=32 k=3 bias=1\n"
                                        "a | relu | far | \n"
                                        "pool | pool | a | kind=avg k=global\n"
                                        "flat | flatten | pool | \n"
                                        "logits | dense | flat | out=10\n"
                                        "loss | softmax_loss | logits | \n";

typedef struct counts {
    int values, gradients, read_through;
} counts;

static counts count(const at_plan *p)
{
    counts c = {0};
    for (int i = 0; i < p->op_count; i++) {
        const plan_tensor *t = &p->tensors[i];
        c.values += t->value_watch && t->value_watched;
        c.gradients += t->grad_watched;
        c.read_through += t->read_through;
    }
    return c;
}

/* Makes the lines of the choices' file begin with this choice, or the library's where ours cannot. */
static void choose(const char *folder, int choice)
{
    char command[600];
    snprintf(command, sizeof command,
             "sed -i 's/^[0-9]*/%d/; /3x12x12 to\\|k 1x1/s/^[0-9]*/%d/' '%s'/convolutions-*.txt",
             choice, LIBRARY, folder);
    assert_int_equal(system(command), 0);
}

typedef struct outcome {
    double loss;
    float *gradients, *state;
    size_t count, states;
} outcome;

static at_plan *make_plan(steps *f, at_precision precision, int threads)
{
    at_error err = {0};
    at_plan_options o = {
        .batch = BATCH, .training = true, .threads = threads, .seed = 3, .precision = precision};
    at_plan *p = at_plan_new(f->net, &o, &err);
    steps_check(p ? 0 : err.code, &err);
    return p;
}

static outcome train(const char *rows, const char *folder, int choice, at_precision precision,
                     int threads, counts *found)
{
    steps *f = steps_new(rows);
    at_param bias = *at_net_find_param(f->net, "far", "bias");
    for (size_t i = 0; i < bias.count; i++)
        at_net_params(f->net)[bias.offset + i] = 50;
    for (int i = 0; i < ROUNDS;
         i++) { /* a choice may lead to another layout behind it; there are 9 */
        at_plan_free(make_plan(f, precision, threads)); /* writes down what it took */
        choose(folder, choice);
    }
    at_plan *p = make_plan(f, precision, threads);
    *found = count(p);
    at_plan_input in = steps_input(f, 0);
    outcome out = {.loss = steps_train(p, &in).loss_sum,
                   .count = at_net_param_count(f->net),
                   .states = f->net->state_count};
    out.gradients = steps_copy(at_net_grads(f->net), out.count);
    out.state = steps_copy(f->net->state, out.states);
    at_plan_free(p);
    steps_free(f);
    return out;
}

/* How far apart: of the largest. */
typedef struct tolerances {
    double loss, gradients, state;
} tolerances;

static void compare(const char *rows, const char *folder, at_precision precision,
                    const counts *expected, const tolerances *most)
{
    for (int threads = 1; threads <= MOST_THREADS; threads++) {
        counts none, some;
        outcome library = train(rows, folder, LIBRARY, precision, threads, &none);
        outcome ours = train(rows, folder, OURS, precision, threads, &some);
        print_message("%d threads: %d values and %d gradients watched, %d values read through\n",
                      threads, some.values, some.gradients, some.read_through);
        assert_int_equal(none.values + none.gradients + none.read_through, 0);
        assert_int_equal(some.values, expected->values);
        assert_int_equal(some.gradients, expected->gradients);
        assert_int_equal(some.read_through, expected->read_through);
        assert_true(library.loss > 0);
        steps_assert_near(&(float){(float)ours.loss}, &(float){(float)library.loss}, 1, most->loss);
        steps_assert_near(ours.gradients, library.gradients, library.count, most->gradients);
        steps_assert_near(ours.state, library.state, library.states, most->state);
        free(library.gradients);
        free(library.state);
        free(ours.gradients);
        free(ours.state);
    }
}

/* A relu may take a value next to 0 for the other side of it. */
static void test_as_the_library(void **state)
{
    bool vectors = nn_kernels_best()->lanes >= 8;
    compare(network, *state, AT_FP32, vectors ? &(counts){6, 6, 3} : &(counts){0},
            &(tolerances){1e-5, 3e-3, 1e-5});
}

static void test_bf16(void **state)
{
    if (!amx_usable()) {
        print_message("this CPU has no tile registers, or may not use them\n");
        skip();
    }
    /* The first sum's addends have two layouts, and gradients of their own. */
    const tolerances most = {1e-2, 5e-2, 1e-2};
    compare(network, *state, AT_BF16, &(counts){6, 5, 3}, &most);
    compare(normalised_pixels, *state, AT_BF16, &(counts){0}, &most);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_as_the_library),
                                       cmocka_unit_test(test_bf16)};
    return cmocka_run_group_tests(tests, scratch_caches, scratch_caches_gone);
}
