/* SPDX-License-Identifier: Apache-2.0
 * Tests that run under mpirun: one communicator a program, and assertions that all ranks share, so
 * that a failure on one does not leave the others waiting.
 *
 *     int main(void)
 *     {
 *         const struct CMUnitTest tests[] = {cmocka_unit_test(sums)};
 *         return ranks_run(tests, 1);
 *     }
 */
#ifndef TESTS_RANKS_H
#define TESTS_RANKS_H

#include "atoll/trainer.h"

struct CMUnitTest;

at_comm *ranks_comm(void);
/* Collective: fails on every rank where it fails on one, which says why. */
void ranks_assert(bool ok, const char *format, ...) AT_PRINTF(2, 3);
/* Whether all ranks hold the same bytes. Collective. */
bool ranks_agree(const void *data, size_t bytes);
/* Starts communication, runs the tests (only rank 0 prints to stdout), ends it; for main to return.
 */
int ranks_run(const struct CMUnitTest *tests, size_t n);

#endif
