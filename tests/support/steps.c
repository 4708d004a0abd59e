/* SPDX-License-Identifier: Apache-2.0
 * Steps of small networks: see steps.h.
 */
#include "steps.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

const char steps_plain[] = "data | input | | channels=3 height=12 width=12\n"
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
const char steps_normalised[] = "data | input | | channels=3 height=12 width=12\n"
                                "rescale | rescale | data |\n"
                                "c1 | conv | rescale | out=6 k=3\n"
                                "n1 | bn | c1 | momentum=0.25\n"
                                "r1 | relu | n1 |\n"
                                "p1 | pool | r1 | k=2\n"
                                "flat | flatten | p1 |\n"
                                "d2 | dense | flat | out=10\n"
                                "loss | softmax_loss | d2 |\n";

void steps_check(int status, const at_error *err)
{
    if (status)
        fail_msg("%s", err->message);
}

at_net *steps_net(const char *rows)
{
    at_error err = {0};
    at_graph *g = at_graph_parse(rows, &err);
    at_net *net = g ? at_net_new(g, 11, &err) : NULL;
    steps_check(net ? 0 : err.code, &err);
    at_graph_free(g);
    return net;
}

steps *steps_new(const char *rows)
{
    steps *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->net = steps_net(rows);
    at_rng rng = at_rng_stream(5, "pixels", 0);
    for (size_t i = 0; i < sizeof f->pixels; i++)
        f->pixels[i] = (uint8_t)at_rng_next(&rng);
    for (int i = 0; i < STEPS_MOST; i++) {
        f->labels[i] = (int32_t)at_rng_below(&rng, STEPS_CLASSES);
        f->weights[i] = 1;
        f->ids[i] = 1000 + 7 * (uint32_t)i;
    }
    return f;
}

void steps_free(steps *f)
{
    at_net_free(f->net);
    free(f);
}

at_plan *steps_plan(steps *f, int batch, bool training, int threads)
{
    at_error err = {0};
    at_plan_options o = {.batch = batch, .training = training, .threads = threads, .seed = 3};
    at_plan *p = at_plan_new(f->net, &o, &err);
    steps_check(p ? 0 : err.code, &err);
    return p;
}

at_plan_input steps_input(steps *f, int first)
{
    return (at_plan_input){.pixels = f->pixels + (size_t)first * STEPS_PIXELS,
                           .labels = f->labels + first,
                           .weights = f->weights + first,
                           .ids = f->ids + first,
                           .epoch = 2,
                           .scale = 1.0f / STEPS_MOST};
}

at_plan_stats steps_train(at_plan *p, const at_plan_input *in)
{
    at_error err = {0};
    at_plan_stats stats = {0};
    steps_check(at_plan_train(p, in, &stats, &err), &err);
    return stats;
}

float *steps_copy(const float *from, size_t n)
{
    float *to = malloc((n + 1) * sizeof *to);
    assert_non_null(to);
    memcpy(to, from, n * sizeof *to);
    return to;
}

void steps_assert_near(const float *a, const float *b, size_t n, double tolerance)
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
