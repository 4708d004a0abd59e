/* SPDX-License-Identifier: Apache-2.0
 * A folder of a test's own.
 *
 *     char *dir = scratch_new();             // below $TMPDIR or /tmp; fails the test if it cannot
 *     char *path = at_path_join(dir, "x");
 *     scratch_free(dir);                     // removes it with all in it
 */
#ifndef ATOLL_TEST_SCRATCH_H
#define ATOLL_TEST_SCRATCH_H

#include <stddef.h>

char *scratch_new(void);
void scratch_free(char *dir);
/* For tests of thousands of files or of killed processes, whose syncs cost nothing there: from now on
 * folders are made in memory, where the system has such a place and $TMPDIR tells no other. */
void scratch_in_memory(void);
/* Of a group: a folder in *state, which is where atoll keeps its caches as long as the group runs. */
int scratch_caches(void **state);
int scratch_caches_gone(void **state);
/* How many entries the folder has. */
size_t scratch_count(const char *dir);

#endif
