/* SPDX-License-Identifier: Apache-2.0
 * Parts of a training for tests: a configuration from a line of keys, and small networks.
 *
 *     at_train_config c = training_config("optimizer=adam lr=0.1");    // others as by default
 *     at_net *net = training_dense_net(32, 100, seed);
 *     at_options_fini(at_train_options, &c);
 */
#ifndef ATOLL_TEST_TRAININGS_H
#define ATOLL_TEST_TRAININGS_H

#include <atoll/trainer.h>

at_train_config training_config(const char *keys);
/* side x side pixels → one dense layer: a kernel with weight decay, a bias without. */
at_net *training_dense_net(int side, int classes, uint64_t seed);
/* The same with batch normalisation before it: moving statistics too. */
at_net *training_normed_net(int side, int classes, uint64_t seed);

#endif
