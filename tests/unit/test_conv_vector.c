/* SPDX-License-Identifier: Apache-2.0
 * A convolution behind a flatten sees planes of one pixel: what it computes, and its gradients, are those
 * of the same convolution without the flatten. It is no fully connected layer: it may have a window,
 * padding, groups and an activation.
 */
#include "steps.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const char rows[] = "data | input | | channels=3 height=2 width=2\n"
                           "unit | rescale | data | scale=0.00392156862745098\n"
                           "first | conv | unit | out=24 k=2\n"
                           "%s"
                           "second | conv | %s | out=32 %s\n"
                           "act | relu | second | \n"
                           "end | flatten | act | \n"
                           "logits | dense | end | out=10\n"
                           "loss | softmax_loss | logits | \n";
static const char *const windows[] = {"k=1", "k=3 pad=1", "k=2 pad=1", "k=1 groups=2",
                                      "k=3 pad=1 groups=4 bias=0"};

typedef struct outcome {
    double loss;
    float *gradients;
    size_t count;
} outcome;

/* Every parameter is a value of its place. */
static outcome train(const char *window, int batch, bool flat)
{
    char text[1024];
    snprintf(text, sizeof text, rows, flat ? "flat | flatten | first | \n" : "",
             flat ? "flat" : "first", window);
    steps *f = steps_new(text);
    for (size_t i = 0; i < at_net_param_count(f->net); i++)
        at_net_params(f->net)[i] = 0.2f * sinf((float)(i * i));
    at_plan *p = steps_plan(f, batch, true, 2);
    at_plan_input in = steps_input(f, 0);
    outcome out = {.loss = steps_train(p, &in).loss_sum, .count = at_net_param_count(f->net)};
    out.gradients = steps_copy(at_net_grads(f->net), out.count);
    at_plan_free(p);
    steps_free(f);
    return out;
}

static void test_behind_a_flatten(void **state)
{
    (void)state;
    enum { WINDOWS = sizeof windows / sizeof *windows, BATCHES = 2 };
    static const int batches[BATCHES] = {7, 32}; /* the larger one in groups, without a flatten */
    int tried = 0;
    for (; tried < WINDOWS * BATCHES; tried++) {
        const char *window = windows[tried % WINDOWS];
        int batch = batches[tried / WINDOWS];
        outcome plane = train(window, batch, false), vector = train(window, batch, true);
        assert_int_equal(plane.count, vector.count);
        assert_true(plane.loss > 0);
        steps_assert_near(&(float){(float)vector.loss}, &(float){(float)plane.loss}, 1, 1e-5);
        steps_assert_near(vector.gradients, plane.gradients, plane.count, 1e-4);
        free(plane.gradients);
        free(vector.gradients);
    }
    print_message("%d windows tried\n", tried);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_behind_a_flatten)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
