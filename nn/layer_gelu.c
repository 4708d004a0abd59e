/* SPDX-License-Identifier: Apache-2.0
 * gelu: x * Phi(x) with the exact normal distribution (Hendrycks and Gimpel 2016), not the tanh
 * approximation. Backward computes it again from the input.
 */
#include "plan.h"

static int build(plan_op *op, at_error *err)
{
    op->value_in_place = !op->plan->options.training;
    return plan_activation_build(op, err);
}

const at_layer at_layer_gelu = {
    .name = "gelu",
    .probes = {""},
    .activation = NN_GELU,
    .infer = nn_same_shape,
    .build = build,
    .bytes = plan_activation_bytes,
};
