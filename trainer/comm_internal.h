/* SPDX-License-Identifier: Apache-2.0
 * What the files of communication share: comm.c (start and end), comm_window.c (shared memory),
 * comm_wait.c (every wait), collectives.c, allreduce.c, ring.c.
 *
 * Ranks are laid out as nodes × local ranks. Local rank r of every node is on rail r, one ring over
 * the nodes; there are as many rails as the smallest node has ranks. The ranks of a node meet on a
 * board in shared memory.
 *
 * Every collective runs in the same order on every rank, and one thread at a time calls in here.
 */
#ifndef ATOLL_TRAINER_COMM_INTERNAL_H
#define ATOLL_TRAINER_COMM_INTERNAL_H

#include "atoll/trainer.h"

#include <mpi.h>
#include <stdatomic.h>

enum {
    AT_HOST_BYTES = 64,
    AT_CACHE_LINE = 64,
    AT_STAGE_FLOATS =
        64 << 10, /* a block of data from outside the windows; stays in the L2 cache */
    AT_PIECE_FLOATS = 64 << 10, /* one message of a ring */
};

/* What one rank is about to reduce: plain memory, written before the barrier that publishes it. */
typedef struct at_post {
    size_t count, offset;
    int64_t window; /* 0: outside every window */
} at_post;

/* One cache line a rank. steps tells the others how far it is, for stall messages. */
typedef struct at_slot {
    _Alignas(AT_CACHE_LINE) atomic_uint_least64_t steps;
    at_post post;
} at_slot;

/* In the shared memory of a node, zeroed at first. */
typedef struct at_board {
    _Alignas(AT_CACHE_LINE) atomic_uint arrived; /* of this round of the barrier */
    _Alignas(AT_CACHE_LINE) atomic_uint round;   /* rounds passed; a futex */
    atomic_uint sleepers;                        /* on that futex */
    at_slot slot[];                              /* [local_size] */
} at_board;

typedef struct at_window {
    struct at_window *next;
    MPI_Win handle; /* MPI_WIN_NULL: this rank's own memory, on a node of one rank */
    int64_t id;     /* the same on every rank, from 1 */
    size_t count;   /* floats of each rank */
    bool dead;      /* freed by this rank; goes at the next collective that may free it */
    float *base[];  /* [local_size] */
} at_window;

struct at_comm {
    int rank, size;
    int local_rank, local_size, nodes;
    int rails;                  /* of each node */
    bool started;               /* MPI runs: MPI_Finalize is due */
    bool broken;                /* an MPI call failed: only MPI_Abort is left */
    bool staged;                /* some node has several ranks */
    MPI_Comm world, node, rail; /* rail: MPI_COMM_NULL on a rank that drives none */
    int rail_rank;
    int *members;                 /* [local_size] world ranks of this node */
    int *rail_peers;              /* [nodes] world ranks of this rail */
    char (*hosts)[AT_HOST_BYTES]; /* [size] */
    MPI_Win board_window;
    at_board *board; /* NULL on a node of one rank */
    float **stage;   /* [local_size] 2 × AT_STAGE_FLOATS each; NULL on a node of one rank */
    float **sources; /* [local_size] scratch of a staged allreduce */
    float *pieces;   /* 2 × AT_PIECE_FLOATS that a ring receives into; NULL on one node */
    at_window *windows;
    int64_t last_window;
    uint64_t steps;
    unsigned round; /* of the node's barrier */
    double stall_seconds;
};

/* A share of [0, count): whole cache lines, so that two ranks never write to one. */
typedef struct at_part {
    size_t begin, end;
} at_part;
at_part at_part_of(size_t count, int parts, int i);

/* ---- comm.c ---- */
/* 0, or AT_EPEER with the rank, the call and MPI's message; the communicator is broken then. */
int at_comm_check(at_comm *c, int rc, const char *call, at_error *err);

/* ---- comm_window.c ---- */
/* Board and staging memory, on nodes of several ranks. Collective. */
int at_comm_open_board(at_comm *c, at_error *err);
void at_comm_close_board(at_comm *c);
/* The window that holds all of [data, data + count), or NULL. */
const at_window *at_comm_find_window(const at_comm *c, const float *data, size_t count);
void at_comm_free_windows(at_comm *c, bool all); /* the dead ones, or all; collective */

/* ---- comm_wait.c: all waiting; none burns a core for long, each names whom it waits for ---- */
/* Counts a step on the board; at the start of every collective. */
void at_comm_step(at_comm *c);
/* Waits for all ranks of the node; what they wrote before is visible after. */
void at_comm_node_barrier(at_comm *c, const char *phase);
/* Waits for a request; peer: the world rank that it depends on, or -1. */
int at_comm_await(at_comm *c, MPI_Request *request, const char *call, int peer, at_error *err);

/* ---- ring.c ---- */
/* Sums data[count] over the ranks of the rail, in place. */
int at_ring_allreduce(at_comm *c, float *data, size_t count, at_error *err);

#endif
