/* SPDX-License-Identifier: Apache-2.0
 * A worker made by hand, over a blocking socket, that says what a real one would not. */
#ifndef ATOLL_TEST_HAND_H
#define ATOLL_TEST_HAND_H

#include "../../coordinator/wire.h"

typedef struct hand {
    int fd;
    at_wire *wire;
    at_node *latest; /* message that is no heartbeat */
} hand;

int connect_to(const char *join); /* a socket; fails the test if it cannot */
void hand_join(hand *h, const char *join, const char *key_path);
void hand_say(hand *h, at_node *message);             /* takes it */
const at_node *hand_await(hand *h, const char *type); /* reads until such a message has come */
at_node *hand_result(int64_t trial, int64_t epoch);
void hand_leave(hand *h);

#endif
