/* SPDX-License-Identifier: Apache-2.0
 * Random data trees for property tests, and whether two are equal.
 *
 *     at_node *tree = random_tree(&rng, 4);     // at most 4 levels of lists and maps
 *     assert_true(trees_equal(tree, parsed));
 */
#ifndef ATOLL_TEST_RANDOM_TREE_H
#define ATOLL_TEST_RANDOM_TREE_H

#include "atoll/base.h"

/* Keys and strings are drawn to be awkward: look-alikes of other types, syntax, control characters,
 * other scripts, very long ones. */
at_node *random_tree(at_rng *rng, int depth);
/* Same kinds, values (NaN equals NaN, -0.0 differs from 0.0), keys in the same order. */
bool trees_equal(const at_node *a, const at_node *b);
/* Changes a few random bytes of a malloc'd text in place; returns its new length. */
size_t random_damage(at_rng *rng, char *text, size_t bytes);

#endif
