/* SPDX-License-Identifier: Apache-2.0
 * Adam with bias correction and coupled L2, as torch.optim.Adam (Kingma & Ba 2015).
 */
#include "internal.h"

#include <math.h>

static void update(const at_update *u, size_t begin, size_t end, float decay)
{
    const double beta1 = u->config->momentum, beta2 = u->config->beta2;
    const float keep1 = (float)beta1, take1 = (float)(1 - beta1);
    const float keep2 = (float)beta2, take2 = (float)(1 - beta2);
    const float epsilon = (float)u->config->epsilon;
    const double t = (double)u->step;
    const float rate = (float)(u->lr / (1 - pow(beta1, t)));
    const float root = (float)(1 / sqrt(1 - pow(beta2, t)));
    float *restrict w = u->params, *restrict m = u->slots[0], *restrict s = u->slots[1];
    const float *restrict grads = u->grads;
#pragma omp simd
    for (size_t i = begin; i < end; i++) {
        float g = grads[i] + decay * w[i];
        m[i] = keep1 * m[i] + take1 * g;
        s[i] = keep2 * s[i] + take2 * g * g;
        w[i] -= rate * m[i] / (sqrtf(s[i]) * root + epsilon);
    }
}

const at_optimizer_kind at_optimizer_adam = {.name = "adam", .slots = 2, .update = update};
