/* SPDX-License-Identifier: Apache-2.0
 * Optimizers against the formulas of torch.optim.SGD and torch.optim.Adam, evaluated in double
 * precision; and the number of threads must not change a bit. */
#include "../../trainer/internal.h"
#include "trainings.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    SIDE = 32,
    CLASSES = 400,
    STEPS = 25
}; /* 410,000 parameters: several segments and threads */

/* A training's numbers in double: what torch keeps for each parameter. */
typedef struct reference {
    double *w, *slot[2];
    bool *decays;
    size_t count;
} reference;

static reference reference_new(at_net *net)
{
    size_t n = at_net_param_count(net);
    reference r = {.w = calloc(n, sizeof *r.w),
                   .slot = {calloc(n, sizeof *r.w), calloc(n, sizeof *r.w)},
                   .decays = calloc(n, sizeof *r.decays),
                   .count = n};
    for (size_t i = 0; i < n; i++)
        r.w[i] = (double)at_net_params(net)[i];
    size_t with = 0;
    for (size_t p = 0; p < at_net_params_listed(net); p++)
        for (size_t i = 0; at_net_param(net, p)->decay && i < at_net_param(net, p)->count;
             i++, with++)
            r.decays[at_net_param(net, p)->offset + i] = true;
    assert_int_equal(with, SIDE * SIDE * CLASSES); /* the kernel, not the bias */
    return r;
}

static void reference_free(reference *r)
{
    free(r->w);
    free(r->slot[0]);
    free(r->slot[1]);
    free(r->decays);
}

/* torch.optim.SGD, "Algorithm" in its documentation, dampening 0. */
static void sgd(const at_train_config *c, reference *r, size_t i, double g, double lr, int t)
{
    double *b = &r->slot[0][i];
    if (r->decays[i])
        g += c->weight_decay * r->w[i];
    if (c->momentum != 0) {
        *b = t > 1 ? c->momentum * *b + g : g;
        g = c->nesterov ? g + c->momentum * *b : *b;
    }
    r->w[i] -= lr * g;
}

/* torch.optim.Adam, "Algorithm" in its documentation, amsgrad off. */
static void adam(const at_train_config *c, reference *r, size_t i, double g, double lr, int t)
{
    double *m = &r->slot[0][i], *v = &r->slot[1][i];
    if (r->decays[i])
        g += c->weight_decay * r->w[i];
    *m = c->momentum * *m + (1 - c->momentum) * g;
    *v = c->beta2 * *v + (1 - c->beta2) * g * g;
    double mean = *m / (1 - pow(c->momentum, t)), square = *v / (1 - pow(c->beta2, t));
    r->w[i] -= lr * mean / (sqrt(square) + c->epsilon);
}

static void fill_grads(float *grads, size_t n, int step)
{
    at_rng rng = at_rng_stream(9, "grads", (uint64_t)step);
    for (size_t i = 0; i < n; i++)
        grads[i] = (float)((at_rng_uniform(&rng) - 0.5) * (i % 7 == 0 ? 1e-4 : 1));
}

static double rate(const at_train_config *c, int step)
{
    return c->lr * (1 + step % 3);
}

static void compare(const at_train_config *c, const reference *r, const float *w)
{
    double worst = 0;
    for (size_t i = 0; i < r->count; i++) {
        double moved = c->lr * STEPS, error = fabs((double)w[i] - r->w[i]) / moved;
        if (!(error <= 1e-5))
            fail_msg("%s, parameter %zu: %.9g, reference %.9g", c->optimizer, i, (double)w[i],
                     r->w[i]);
        worst = fmax(worst, error);
    }
    print_message("%s: %zu parameters, %d steps, worst error %.2g of the way moved\n", c->optimizer,
                  r->count, STEPS, worst);
}

static void check_against(const char *keys, void (*update)(const at_train_config *, reference *,
                                                           size_t, double, double, int))
{
    at_train_config c = training_config(keys);
    at_net *net = training_dense_net(SIDE, CLASSES, 1);
    at_error err = {0};
    at_optimizer *o = at_optimizer_new(net, &c, 2, &err);
    if (!o)
        fail_msg("%s", err.message);
    assert_string_equal(at_optimizer_name(o), c.optimizer);
    reference r = reference_new(net);
    float *grads = at_alloc_aligned(r.count * sizeof *grads);
    for (int t = 1; t <= STEPS; t++) {
        fill_grads(grads, r.count, t);
        at_optimizer_step(o, grads, rate(&c, t));
        assert_int_equal(at_optimizer_steps(o), t);
        for (size_t i = 0; i < r.count; i++)
            update(&c, &r, i, (double)grads[i], rate(&c, t), t);
    }
    compare(&c, &r, at_net_params(net));
    at_free_aligned(grads);
    reference_free(&r);
    at_optimizer_free(o);
    at_net_free(net);
    at_options_fini(at_train_options, &c);
}

static void test_sgd(void **state)
{
    (void)state;
    check_against("optimizer=sgd lr=0.05 momentum=0.9 nesterov=true weight_decay=0.01", sgd);
    check_against("optimizer=sgd lr=0.05 momentum=0.9 nesterov=false weight_decay=0.01", sgd);
    check_against("optimizer=sgd lr=0.05 momentum=0 nesterov=true weight_decay=0.01", sgd);
    check_against("optimizer=sgd lr=0.05 momentum=0 nesterov=false weight_decay=0", sgd);
}

static void test_adam(void **state)
{
    (void)state;
    check_against("optimizer=adam lr=0.01 weight_decay=0.01", adam);
    check_against("optimizer=adam lr=0.01 momentum=0.5 beta2=0.9 epsilon=1e-3 weight_decay=0",
                  adam);
    check_against("optimizer=adam lr=0.01 momentum=0 beta2=0.9", adam);
}

/* The weights after STEPS steps on this many threads. */
static float *train_on(const char *keys, int threads, size_t *count)
{
    at_train_config c = training_config(keys);
    at_net *net = training_dense_net(SIDE, CLASSES, 1);
    at_optimizer *o = at_optimizer_new(net, &c, threads, NULL);
    assert_non_null(o);
    *count = at_net_param_count(net);
    float *grads = at_alloc_aligned(*count * sizeof *grads);
    float *weights = malloc(*count * sizeof *weights);
    assert_true(grads && weights);
    for (int t = 1; t <= STEPS; t++) {
        fill_grads(grads, *count, t);
        at_optimizer_step(o, grads, rate(&c, t));
    }
    memcpy(weights, at_net_params(net), *count * sizeof *weights);
    at_free_aligned(grads);
    at_optimizer_free(o);
    at_net_free(net);
    at_options_fini(at_train_options, &c);
    return weights;
}

static void test_threads_change_no_bit(void **state)
{
    (void)state;
    static const char *const keys[] = {"optimizer=sgd lr=0.05", "optimizer=adam lr=0.01"};
    for (size_t k = 0; k < 2; k++) {
        size_t count;
        float *one = train_on(keys[k], 1, &count);
        for (int threads = 2; threads <= 5; threads++) {
            float *many = train_on(keys[k], threads, &count);
            assert_memory_equal(one, many, count * sizeof *one);
            free(many);
        }
        free(one);
    }
}

static void test_unknown_optimizer(void **state)
{
    (void)state;
    at_train_config c = training_config("");
    free(c.optimizer);
    c.optimizer = strdup("lion");
    at_net *net = training_dense_net(4, 3, 1);
    at_error err = {0};
    assert_null(at_optimizer_new(net, &c, 1, &err));
    assert_int_equal(err.code, AT_EINPUT);
    assert_non_null(strstr(err.message, "lion"));
    at_net_free(net);
    at_options_fini(at_train_options, &c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sgd),
        cmocka_unit_test(test_adam),
        cmocka_unit_test(test_threads_change_no_bit),
        cmocka_unit_test(test_unknown_optimizer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
