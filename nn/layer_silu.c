/* SPDX-License-Identifier: Apache-2.0
 * silu: x / (1 + exp(-x)), also named swish (Elfwing et al. 2017). Backward computes it again from
 * the input.
 */
#include "plan.h"

static int build(plan_op *op, at_error *err)
{
    op->value_in_place = !op->plan->options.training;
    return plan_activation_build(op, err);
}

const at_layer at_layer_silu = {
    .name = "silu",
    .probes = {""},
    .activation = NN_SILU,
    .infer = nn_same_shape,
    .build = build,
    .bytes = plan_activation_bytes,
};
