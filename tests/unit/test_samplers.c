/* SPDX-License-Identifier: Apache-2.0
 * Samplers: TPE is clearly better than random search, stays within bounds and conditions, and is a
 * pure function of history, seed and number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <atoll/coordinator.h>

enum { TRIALS = 100, SEEDS = 10, DIMS = 8 };

static double branin(const double *x)
{
    double a = x[1] - 5.1 / (4 * M_PI * M_PI) * x[0] * x[0] + 5 / M_PI * x[0] - 6;
    return a * a + 10 * (1 - 1 / (8 * M_PI)) * cos(x[0]) + 10 - 0.397887;
}

static double hartmann6(const double *x)
{
    static const double A[4][6] = {{10, 3, 17, 3.5, 1.7, 8},
                                   {.05, 10, 17, .1, 8, 14},
                                   {3, 3.5, 1.7, 10, 17, 8},
                                   {17, 8, .05, 10, .1, 14}};
    static const double P[4][6] = {{1312, 1696, 5569, 124, 8283, 5886},
                                   {2329, 4135, 8307, 3736, 1004, 9991},
                                   {2348, 1451, 3522, 2883, 3047, 6650},
                                   {4047, 8828, 8732, 5743, 1091, 381}};
    static const double alpha[4] = {1, 1.2, 3, 3.2};
    double sum = 3.32237;
    for (int i = 0; i < 4; i++) {
        double e = 0;
        for (int j = 0; j < 6; j++)
            e += A[i][j] * pow(x[j] - 1e-4 * P[i][j], 2);
        sum -= alpha[i] * exp(-e);
    }
    return sum;
}

static double rosenbrock4(const double *x)
{
    double sum = 0;
    for (int i = 0; i < 3; i++)
        sum += 100 * pow(x[i + 1] - x[i] * x[i], 2) + pow(1 - x[i], 2);
    return sum;
}

static at_space *space_of(const char *yaml)
{
    at_error err = {0};
    at_node *map = at_yaml_parse(yaml, strlen(yaml), "space", &err);
    at_space *s = at_space_parse(map, &err);
    if (!s)
        fail_msg("%s", err.message);
    at_node_free(map);
    return s;
}

static void suggest(const at_sampler_kind *kind, const at_ask *ask, double *values)
{
    at_error err = {0};
    assert_int_equal(kind->suggest(ask, values, &err), 0);
}

/* The least value of f that `waves` of trials find; sign -1 gives the sampler -f to maximize. */
static double search(const char *sampler, const at_space *s, double (*f)(const double *),
                     uint64_t seed, size_t wave, bool maximize)
{
    const at_sampler_kind *kind = at_sampler_find(sampler, NULL);
    static double values[TRIALS][DIMS];
    at_trial_result history[TRIALS];
    double best = INFINITY;
    for (size_t n = 0; n < TRIALS;) {
        size_t first = n;
        for (; n < TRIALS && n < first + wave; n++) {
            at_ask ask = {s, history, n, 10, maximize, seed, n, 0};
            suggest(kind, &ask, values[n]);
            history[n] = (at_trial_result){values[n], NAN, true};
        }
        for (size_t i = first; i < n; i++) {
            double y = f(values[i]);
            history[i] = (at_trial_result){values[i], maximize ? -y : y, false};
            best = fmin(best, y);
        }
    }
    return best;
}

static int by_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median_regret(const char *sampler, const at_space *s, double (*f)(const double *),
                            size_t wave, bool maximize)
{
    double regret[SEEDS];
    for (uint64_t seed = 0; seed < SEEDS; seed++)
        regret[seed] = search(sampler, s, f, seed, wave, maximize);
    qsort(regret, SEEDS, sizeof *regret, by_double);
    return 0.5 * (regret[SEEDS / 2 - 1] + regret[SEEDS / 2]);
}

static void compare(const char *name, const char *yaml, double (*f)(const double *), double least)
{
    at_space *s = space_of(yaml);
    double random = median_regret("random", s, f, 1, false);
    double start = at_now();
    double tpe = median_regret("tpe", s, f, 1, false);
    double ms = 1e3 * (at_now() - start) / (TRIALS * SEEDS);
    double waves = median_regret("tpe", s, f, 4, true);
    print_message("%s: median regret over %d seeds, %d trials: random %.3f, tpe %.3f, tpe in waves "
                  "of 4 %.3f; %.3f ms a suggestion\n",
                  name, SEEDS, TRIALS, random, tpe, waves, ms);
    assert_true(tpe < least * random);
    assert_true(waves < least * random);
    at_space_free(s);
}

static void tpe_beats_random(void **state)
{
    (void)state;
    compare("branin", "x: {uniform: [-5, 10]}\ny: {uniform: [0, 15]}\n", branin, 0.35);
    compare("hartmann6",
            "a: {uniform: [0, 1]}\nb: {uniform: [0, 1]}\nc: {uniform: [0, 1]}\n"
            "d: {uniform: [0, 1]}\ne: {uniform: [0, 1]}\nf: {uniform: [0, 1]}\n",
            hartmann6, 0.35);
    compare("rosenbrock4",
            "a: {uniform: [-2, 2]}\nb: {uniform: [-2, 2]}\nc: {uniform: [-2, 2]}\n"
            "d: {uniform: [-2, 2]}\n",
            rosenbrock4, 0.35);
}

static const char mixed[] =
    "lr: {loguniform: [0.001, 0.3]}\n"
    "batch: {choice: [32, 64, 128]}\n"
    "limit: {quniform: [0.1, 0.9, 0.1]}\n"
    "epochs: {int: [1, 5]}\n"
    "optimizer:\n"
    "  choice:\n"
    "    - sgd: {momentum: {uniform: [0.5, 0.99]}, nesterov: {choice: [true, false]}}\n"
    "    - adam: {beta2: {uniform: [0.9, 0.9999]}}\n"
    "    - plain\n";

/* Rewards a learning rate near 0.03, sgd with much momentum. */
static double mixed_value(const double *v)
{
    double y = -fabs(log10(v[0]) + 1.5) - 0.1 * fabs(v[3] - 3) - (v[1] == 0 ? 0.2 : 0);
    return v[4] == 0 ? y + v[5] : y;
}

static void check_values(const at_space *s, const double *v)
{
    for (size_t i = 0; i < s->count; i++) {
        const at_dist *d = &s->dists[i];
        assert_int_equal(isnan(v[i]), !at_space_active(s, v, i));
        if (isnan(v[i]))
            continue;
        if (d->kind == AT_DIST_CHOICE) {
            assert_true(v[i] >= 0 && v[i] < (double)d->choice_count && v[i] == floor(v[i]));
            continue;
        }
        assert_true(v[i] >= d->low && v[i] <= d->high);
        if (d->step > 0) {
            double k = (v[i] - d->low) / d->step;
            assert_true(fabs(k - round(k)) < 1e-9);
        }
    }
}

/* Runs waves of 5 with a failed trial here and there; checks each proposal. */
static void run_mixed(const at_space *s, const at_sampler_kind *kind, uint64_t seed,
                      double values[TRIALS][DIMS], at_trial_result *history)
{
    for (size_t n = 0; n < TRIALS; n += 5) {
        for (size_t i = n; i < n + 5; i++) {
            at_ask ask = {s, history, i, 5, true, seed, i, 0};
            suggest(kind, &ask, values[i]);
            check_values(s, values[i]);
            history[i] = (at_trial_result){values[i], NAN, true};
        }
        for (size_t i = n; i < n + 5; i++)
            history[i] = (at_trial_result){values[i], i % 7 ? mixed_value(values[i]) : NAN, false};
    }
}

static void bounds_conditions_and_learning(void **state)
{
    (void)state;
    at_space *s = space_of(mixed);
    assert_int_equal(s->count, DIMS);
    static double values[TRIALS][DIMS];
    at_trial_result history[TRIALS];
    size_t sgd = 0, proposals = 0;
    for (size_t k = 0; at_sampler_at(k); k++) {
        for (uint64_t seed = 0; seed < 20; seed++) {
            run_mixed(s, at_sampler_at(k), seed, values, history);
            proposals += TRIALS;
            for (size_t i = TRIALS / 2; i < TRIALS && !strcmp(at_sampler_at(k)->name, "tpe"); i++)
                sgd += values[i][4] == 0;
        }
    }
    print_message("%zu proposals within bounds; tpe chose the best branch in %zu of %d\n",
                  proposals, sgd, 20 * TRIALS / 2);
    assert_true(sgd > 20 * TRIALS / 2 * 3 / 4);
    at_space_free(s);
}

static void proposals_depend_on_history_seed_and_number_alone(void **state)
{
    (void)state;
    at_space *s = space_of(mixed);
    static double once[TRIALS][DIMS], again[TRIALS][DIMS], other[TRIALS][DIMS];
    at_trial_result history[TRIALS];
    for (size_t k = 0; at_sampler_at(k); k++) {
        memset(once, 0, sizeof once);
        memset(again, 0, sizeof again);
        run_mixed(s, at_sampler_at(k), 3, once, history);
        run_mixed(s, at_sampler_at(k), 3, again, history);
        run_mixed(s, at_sampler_at(k), 4, other, history);
        assert_memory_equal(once, again, sizeof once);
        assert_true(memcmp(once, other, sizeof once) != 0);
    }
    at_space_free(s);
}

static void a_wave_spreads_out(void **state)
{
    (void)state;
    at_space *s = space_of("c: {choice: [a, b, c, d, e, f, g, h]}\n");
    double values[40][1];
    at_trial_result history[40];
    for (size_t i = 0; i < 8; i++) {
        values[i][0] = (double)i;
        history[i] = (at_trial_result){values[i], i == 3, false};
    }
    bool seen[8] = {0};
    for (size_t i = 8; i < 20; i++) {
        at_ask ask = {s, history, i, 4, true, 1, i, 0};
        suggest(at_sampler_find("tpe", NULL), &ask, values[i]);
        history[i] = (at_trial_result){values[i], NAN, true};
        seen[(size_t)values[i][0]] = true;
    }
    size_t distinct = 0;
    for (size_t i = 0; i < 8; i++)
        distinct += seen[i];
    assert_true(seen[3]);
    assert_true(distinct >= 3);
    at_space_free(s);
}

static void unknown_samplers_are_named(void **state)
{
    (void)state;
    at_error err = {0};
    assert_null(at_sampler_find("tpee", &err));
    assert_int_equal(err.code, AT_EINPUT);
    assert_non_null(strstr(err.message, "did you mean \"tpe\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tpe_beats_random),
        cmocka_unit_test(bounds_conditions_and_learning),
        cmocka_unit_test(proposals_depend_on_history_seed_and_number_alone),
        cmocka_unit_test(a_wave_spreads_out),
        cmocka_unit_test(unknown_samplers_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
