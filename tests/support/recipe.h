/* SPDX-License-Identifier: Apache-2.0
 * Numbers that need no file: the integer recipe of tests/golden/make_torch.py, exact on both sides.
 *
 *     recipe_weights(net);                                    // every parameter
 *     uint8_t *pixels = recipe_pixels(n * height * width * channels);
 */
#ifndef ATOLL_TEST_RECIPE_H
#define ATOLL_TEST_RECIPE_H

#include <atoll/nn.h>

/* The i-th number of the stream `name`. */
uint32_t recipe_noise(const char *name, size_t i);
/* Gives every parameter of the net its value. */
void recipe_weights(at_net *net);
/* Gives the moving statistics values in (1/2, 3/2), which suit means and variances. */
void recipe_state(at_net *net);
uint8_t *recipe_pixels(size_t count);              /* malloc'd */
int32_t *recipe_labels(size_t count, int classes); /* malloc'd */

#endif
