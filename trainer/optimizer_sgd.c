/* SPDX-License-Identifier: Apache-2.0
 * Stochastic gradient descent with (Nesterov) momentum and coupled L2, as torch.optim.SGD
 * (Sutskever et al. 2013).
 */
#include "internal.h"

static void update(const at_update *u, size_t begin, size_t end, float decay)
{
    const float momentum = (float)u->config->momentum, lr = u->lr;
    const float own = u->config->nesterov ? 1 : 0, along = u->config->nesterov ? momentum : 1;
    float *restrict w = u->params, *restrict v = u->slots[0];
    const float *restrict grads = u->grads;
#pragma omp simd
    for (size_t i = begin; i < end; i++) {
        float g = grads[i] + decay * w[i];
        v[i] = momentum * v[i] + g;
        w[i] -= lr * (own * g + along * v[i]);
    }
}

const at_optimizer_kind at_optimizer_sgd = {.name = "sgd", .slots = 1, .update = update};
