/* SPDX-License-Identifier: Apache-2.0
 * Learning-rate schedules at points worked out by hand, and what must hold everywhere: within (0,
 * lr], no jumps but the steps', warm-up a straight line from 0. */
#include "../../trainer/internal.h"
#include "trainings.h"

#include <math.h>
#include <setjmp.h>

#include <cmocka.h>

static at_train_config configure(const char *schedule, int epochs, int warmup)
{
    char keys[100];
    snprintf(keys, sizeof keys, "lr=0.4 schedule=%s epochs=%d warmup=%d", schedule, epochs, warmup);
    return training_config(keys);
}

static void assert_rate(const at_train_config *c, double epoch, double expected)
{
    double lr = at_schedule_lr(c, epoch);
    if (!(fabs(lr - expected) <= 1e-12))
        fail_msg("%s after %g epochs: %.12g, expected %.12g", c->schedule, epoch, lr, expected);
}

static void test_constant(void **state)
{
    (void)state;
    at_train_config c = configure("constant", 10, 2);
    assert_rate(&c, 0, 0);
    assert_rate(&c, 0.5, 0.1);
    assert_rate(&c, 1, 0.2);
    assert_rate(&c, 2, 0.4);
    assert_rate(&c, 9.9, 0.4);
    at_options_fini(at_train_options, &c);
}

static void test_cosine(void **state)
{
    (void)state;
    at_train_config c = configure("cosine", 8, 0);
    assert_rate(&c, 0, 0.4);
    assert_rate(&c, 2, 0.2 * (1 + sqrt(0.5)));
    assert_rate(&c, 4, 0.2);
    assert_rate(&c, 8, 0);
    at_options_fini(at_train_options, &c);
    c = configure("cosine", 10, 2);
    assert_rate(&c, 1, 0.2);
    assert_rate(&c, 2, 0.4);
    assert_rate(&c, 6, 0.2);
    assert_rate(&c, 10, 0);
    at_options_fini(at_train_options, &c);
}

/* Counted from the first epoch, warm-up or not, as the key says: every so many epochs. */
static void test_step(void **state)
{
    (void)state;
    at_train_config c = configure("step", 9, 1);
    c.step_epochs = 3;
    c.step_factor = 0.5;
    assert_rate(&c, 0.25, 0.1);
    assert_rate(&c, 2.999, 0.4);
    assert_rate(&c, 3, 0.2);
    assert_rate(&c, 5.999, 0.2);
    assert_rate(&c, 6, 0.1);
    at_options_fini(at_train_options, &c);
}

static void test_onecycle(void **state)
{
    (void)state;
    at_train_config c = configure("onecycle", 10, 0);
    assert_rate(&c, 0, 0.4 / 25);
    assert_rate(&c, 1.5, 0.4 * (1 + 1.0 / 25) / 2);
    assert_rate(&c, 3, 0.4);
    assert_rate(&c, 6.5, 0.4 * (1 + 1e-4) / 2);
    assert_rate(&c, 10, 0.4e-4);
    at_options_fini(at_train_options, &c);
}

/* Warm-up as long as the training, or longer, ends at the peak and never divides by nothing. */
static void test_long_warmup(void **state)
{
    (void)state;
    static const char *const schedules[] = {"constant", "cosine", "step", "onecycle"};
    for (size_t i = 0; i < 4; i++) {
        at_train_config c = configure(schedules[i], 4, 9);
        assert_rate(&c, 1, 0.1);
        assert_true(isfinite(at_schedule_lr(&c, 4)));
        at_options_fini(at_train_options, &c);
    }
}

static void test_smooth_and_bounded(void **state)
{
    (void)state;
    static const char *const smooth[] = {"constant", "cosine", "onecycle"};
    enum { POINTS = 10000 };
    for (size_t i = 0; i < 3; i++) {
        at_train_config c = configure(smooth[i], 20, 3);
        if (i == 2)
            c.warmup = 0; /* the cycle begins low by itself */
        double before = at_schedule_lr(&c, 0);
        for (int k = 1; k < POINTS; k++) {
            double lr = at_schedule_lr(&c, 20.0 * k / POINTS);
            assert_true(lr > 0 && lr <= 0.4);
            if (fabs(lr - before) > 0.001)
                fail_msg("%s jumps from %g to %g at %g", smooth[i], before, lr, 20.0 * k / POINTS);
            before = lr;
        }
        at_options_fini(at_train_options, &c);
    }
    print_message("%d points of each schedule\n", POINTS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_constant),    cmocka_unit_test(test_cosine),
        cmocka_unit_test(test_step),        cmocka_unit_test(test_onecycle),
        cmocka_unit_test(test_long_warmup), cmocka_unit_test(test_smooth_and_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
