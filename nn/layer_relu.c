/* SPDX-License-Identifier: Apache-2.0
 * relu: max(x, 0), in place where the input is read by nobody else; backward needs only its output.
 */
#include "plan.h"

static int build(plan_op *op, at_error *err)
{
    op->value_in_place = true;
    return plan_activation_build(op, err);
}

const at_layer at_layer_relu = {
    .name = "relu",
    .probes = {""},
    .activation = NN_RELU,
    .infer = nn_same_shape,
    .build = build,
    .bytes = plan_activation_bytes,
};
