/* SPDX-License-Identifier: Apache-2.0
 * Processes that a test watches from outside.
 */
#ifndef ATOLL_TEST_PROCESSES_H
#define ATOLL_TEST_PROCESSES_H

#include <stddef.h>
#include <sys/types.h>

/* The processes whose parent this is, `most` at most. */
size_t children_of(pid_t parent, pid_t *out, size_t most);
/* Waits until the process has a sandbox: a guard with a worker. */
void await_worker(pid_t process, pid_t *guard, pid_t *worker);
/* Waits for the end of a child: its exit status, or negative: the signal. */
int status_of(pid_t pid);
/* Seconds that it has used of a CPU; negative: it has ended. */
double cpu_seconds_of(pid_t pid);

#endif
