/* SPDX-License-Identifier: Apache-2.0
 * GELU and its derivative by this CPU's kernels (ONEDNN_MAX_CPU_ISA chooses others) against erfc in double
 * precision, and what they make of what is no number, infinite or huge.
 */
#include "../../nn/kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { COUNT = 400003 }; /* not a multiple of a vector */
static const double reach = 20, value_error = 2e-6, slope_error = 3e-6;

typedef struct numbers {
    float x[COUNT], ones[COUNT], value[COUNT], slope[COUNT];
} numbers;

static void compute(numbers *all)
{
    const nn_kernels *k = nn_kernels_best();
    k->activate(NN_GELU, false, all->x, all->value, 0, COUNT);
    k->activate_back(NN_GELU, false, all->x, all->ones, all->slope, 0, COUNT);
}

static void test_numbers(void **state)
{
    (void)state;
    numbers *all = calloc(1, sizeof *all);
    double apart = 0, slope_apart = 0;
    assert_non_null(all);
    for (int i = 0; i < COUNT; i++) {
        all->x[i] = (float)(reach * (2.0 * i / (COUNT - 1) - 1));
        all->ones[i] = 1;
    }
    compute(all);
    for (int i = 0; i < COUNT; i++) {
        double x = (double)all->x[i], cdf = 0.5 * erfc(-x * sqrt(0.5));
        double slope = cdf + x * exp(-0.5 * x * x) / sqrt(2 * acos(-1));
        apart = fmax(apart, fabs((double)all->value[i] - x * cdf) / fmax(1, fabs(x)));
        slope_apart = fmax(slope_apart, fabs((double)all->slope[i] - slope));
    }
    print_message("%d numbers, apart by %g and %g\n", COUNT, apart, slope_apart);
    assert_true(apart < value_error);
    assert_true(slope_apart < slope_error);
    free(all);
}

static void test_no_numbers(void **state)
{
    (void)state;
    numbers *all = calloc(1, sizeof *all);
    assert_non_null(all);
    for (int i = 0; i < COUNT; i++)
        all->ones[i] = 1;
    const float x[] = {NAN, INFINITY, 1e30f, -1e30f, -0.0f, 1e-40f};
    for (size_t i = 0; i < sizeof x / sizeof *x; i++)
        all->x[i] = x[i];
    compute(all);
    assert_true(isnan(all->value[0]) && isnan(all->slope[0]));
    assert_true(isinf(all->value[1]) && all->value[1] > 0);
    assert_true(all->value[2] == 1e30f && all->slope[2] == 1);
    assert_true(all->value[3] == 0 && all->slope[3] == 0);
    assert_true(all->value[4] == 0 && fabsf(all->slope[4] - 0.5f) < 1e-6f);
    assert_true(fabsf(all->value[5]) < 1e-39f);
    free(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_numbers),
                                       cmocka_unit_test(test_no_numbers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
