/* SPDX-License-Identifier: Apache-2.0
 * kernels_table: the table of kernels of the instruction set that the including file chose: TABLE,
 * TABLE_NAME, and VF, the floats in one of its registers.
 */
#include "kernels_conv.h"
#include "kernels_data.h"
#include "kernels_lrn.h"
#include "kernels_norm.h"
#include "kernels_pool.h"
#include "kernels_winograd.h"

const nn_kernels TABLE = {
    .name = TABLE_NAME,
    .lanes = VF,
    .activate = activate,
    .activate_back = activate_back,
    .add = add,
    .sums = sums,
    .affine = affine,
    .affine_sum = affine_sum,
    .affine_sum_back = affine_sum_back,
    .affine_back_sums = affine_back_sums,
    .affine_back = affine_back,
    .max_pool = max_pool,
    .max_pool_back = max_pool_back,
    .average_pool = average_pool,
    .average_pool_back = average_pool_back,
    .lrn = lrn,
    .lrn_back = lrn_back,
    .conv_group = conv_group,
    .conv_weights_group = conv_weights_group,
    .sum_lanes = sum_lanes,
    .winograd_tiles = TILES_BY_ONE,
    .winograd_input = winograd_input,
    .winograd_multiply = winograd_multiply,
    .winograd_output = winograd_output,
    .winograd_gradient = winograd_gradient,
    .winograd_accumulate = winograd_accumulate,
    .winograd_filters = winograd_filters,
    .winograd_filters_back = winograd_filters_back,
    .spread = spread,
    .dropout = dropout,
    .pixels = pixels,
    .flatten = flatten,
    .unflatten = unflatten,
    .convert = convert,
    .clear_padding = clear_padding,
    .copy_channels = copy_channels,
};
