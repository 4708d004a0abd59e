/* SPDX-License-Identifier: Apache-2.0
 * Steps of small networks on random pixels, for the tests of plans.
 *
 *     steps *f = steps_new(steps_plain);
 *     at_plan *p = steps_plan(f, 32, true, 2);          // batch, training, threads
 *     at_plan_input in = steps_input(f, 0);             // samples from the first on
 *     at_plan_stats stats = steps_train(p, &in);
 */
#ifndef ATOLL_TEST_STEPS_H
#define ATOLL_TEST_STEPS_H

#include <atoll/nn.h>

enum {
    STEPS_CLASSES = 10,
    STEPS_MOST = 64,
    STEPS_CHANNELS = 3,
    STEPS_SIDE = 12,
    STEPS_PIXELS = STEPS_CHANNELS * STEPS_SIDE * STEPS_SIDE
};

extern const char steps_plain[];      /* convolutions, a branch, dropout, dense */
extern const char steps_normalised[]; /* with batch normalisation */

typedef struct steps {
    at_net *net;
    uint8_t pixels[STEPS_MOST * STEPS_PIXELS];
    int32_t labels[STEPS_MOST];
    float weights[STEPS_MOST];
    uint32_t ids[STEPS_MOST];
} steps;

void steps_check(int status, const at_error *err); /* fails the test */
at_net *steps_net(const char *rows);
steps *steps_new(const char *rows);
void steps_free(steps *f);
at_plan *steps_plan(steps *f, int batch, bool training, int threads);
at_plan_input steps_input(steps *f, int first);
at_plan_stats steps_train(at_plan *p, const at_plan_input *in);
float *steps_copy(const float *from, size_t n); /* malloc'd */
/* No element is further off than the tolerance, as a share of the largest. */
void steps_assert_near(const float *a, const float *b, size_t n, double tolerance);

#endif
