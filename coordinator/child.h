/* SPDX-License-Identifier: Apache-2.0
 * A trial's process: `atoll train` with its events on descriptor 3 and its stderr in a log. */
#ifndef ATOLL_COORDINATOR_CHILD_H
#define ATOLL_COORDINATOR_CHILD_H

#include <atoll/base.h>

#include <uv.h>

enum { AT_EVENTS_FD = 3 };

typedef struct at_child at_child;
typedef struct at_child_end {
    int status, signal;
    double seconds;
    const char *tail; /* its last lines on stderr */
} at_child_end;
typedef struct at_child_handlers {
    void (*event)(void *context, const at_node *event);
    void (*ended)(void *context, const at_child_end *end); /* once; the child is gone after it */
} at_child_handlers;

typedef struct at_child_spec {
    const char *program;
    const at_node *args;    /* the list after the program's name */
    const char *log;        /* appended to */
    const at_lock *inherit; /* held until the child is gone too, even where we are killed */
} at_child_spec;
at_child *at_child_new(uv_loop_t *loop, const at_child_spec *spec,
                       const at_child_handlers *handlers, void *context, at_error *err);
/* SIGTERM, so that it leaves a checkpoint; SIGKILL if it is still there after a grace. */
void at_child_interrupt(at_child *c);
/* A NULL-terminated environment without what tells a process that it is a rank or a job step, and
 * without OMP_NUM_THREADS; the strings are borrowed from environ, the array is malloc'd. */
char **at_child_environment(void);

#endif
