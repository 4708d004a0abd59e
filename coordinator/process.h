/* SPDX-License-Identifier: Apache-2.0
 * Running one stage of a job as a child process, to its end. */
#ifndef ATOLL_COORDINATOR_PROCESS_H
#define ATOLL_COORDINATOR_PROCESS_H

#include <atoll/base.h>

typedef struct at_process {
    const char *const *words; /* NULL-terminated; words[0] is looked for in PATH */
    char *const *environment; /* NULL: ours */
    int interrupt;            /* what it gets when we are interrupted */
    const at_lock *inherit;   /* NULL, or held until it, too, has ended */
} at_process;
/* Its stderr is ours, its stdout goes nowhere. 0, or the code that its exit status stands for. It
 * dies with us, and the terminal's Ctrl-C reaches it only through us. */
int at_process_run(const at_process *p, at_error *err);

#endif
