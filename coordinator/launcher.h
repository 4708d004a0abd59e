/* SPDX-License-Identifier: Apache-2.0
 * Who trains: local:N, mpi:N, slurm:N, listen:HOST:PORT; and the processes that make it so. */
#ifndef ATOLL_COORDINATOR_LAUNCHER_H
#define ATOLL_COORDINATOR_LAUNCHER_H

#include "address.h"

typedef enum {
    AT_WORKERS_LOCAL,  /* N children of the coordinator */
    AT_WORKERS_MPI,    /* N processes of one mpirun */
    AT_WORKERS_SLURM,  /* N tasks of one srun job step */
    AT_WORKERS_LISTEN, /* whoever joins */
} at_workers_kind;
typedef struct at_workers {
    at_workers_kind kind;
    int count;         /* 0 with listen */
    at_address listen; /* what to bind; port 0: any */
} at_workers;
int at_workers_parse(const char *text, at_workers *out, at_error *err); /* AT_EUSAGE */

typedef struct at_launch {
    const at_workers *workers;
    const char *program, *join, *key;
    /* No process is left and none will be started again. */
    void (*dead)(void *context, const at_error *why);
    /* After at_launcher_end: the last process has gone. */
    void (*gone)(void *context);
    void *context;
} at_launch;
typedef struct at_launcher at_launcher;
/* Starts the processes; one that dies is started again, three times at most. Borrows all. */
at_launcher *at_launcher_new(uv_loop_t *loop, const at_launch *launch, at_error *err);
/* From now on a process may go; calls gone, maybe at once. */
void at_launcher_end(at_launcher *l);
void at_launcher_kill(at_launcher *l, int signal); /* what is left */
void at_launcher_free(at_launcher *l);             /* after gone, or where nothing was started */
/* mpirun's own arguments, NULL-terminated: as root, more ranks than cores, no binding. malloc'd. */
const char **at_mpirun_words(const char *ranks);

#endif
