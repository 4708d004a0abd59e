/* SPDX-License-Identifier: Apache-2.0
 * tanh: the hyperbolic tangent, in place where the input is read by nobody else; backward needs
 * only its output.
 */
#include "plan.h"

static int build(plan_op *op, at_error *err)
{
    op->value_in_place = true;
    return plan_activation_build(op, err);
}

const at_layer at_layer_tanh = {
    .name = "tanh",
    .probes = {""},
    .activation = NN_TANH,
    .infer = nn_same_shape,
    .build = build,
    .bytes = plan_activation_bytes,
};
