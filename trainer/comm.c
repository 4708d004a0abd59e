/* SPDX-License-Identifier: Apache-2.0
 * Start and end of communication: whether there are other ranks, MPI's start, the layout of ranks
 * over nodes and rails (comm_internal.h), the end.
 *
 * OMPI_COMM_WORLD_SIZE (mpirun) or PMIX_RANK (srun --mpi=pmix) in the environment decide that there
 * is a launcher. What a batch script or a shell in an allocation starts has neither and runs alone.
 * ATOLL_RANKS_PER_NODE=k pretends nodes of k ranks, to test on one machine what spans several. */
#include "comm_internal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const double default_stall_seconds = 30;

/* ---- is there a launcher? ---- */

static long number_in_environment(const char *name, long otherwise)
{
    const char *text = getenv(name);
    char *end = NULL;
    long value = text ? strtol(text, &end, 10) : 0;
    return text && end != text && !*end ? value : otherwise;
}

static bool launched(void)
{
    return number_in_environment("OMPI_COMM_WORLD_SIZE", 0) > 1 ||
           (!getenv("OMPI_COMM_WORLD_SIZE") && getenv("PMIX_RANK"));
}

/* A task of srun among others, but without PMIx: each would train alone into the same folder. What
 * a task starts (a worker's trial) is not a task itself. */
static int check_srun(at_error *err)
{
    long tasks = number_in_environment("SLURM_STEP_NUM_TASKS", 1);
    if (tasks < 2 || !getenv("SLURM_STEP_ID") ||
        number_in_environment("SLURM_TASK_PID", -1) != (long)getpid())
        return 0;
    return at_fail(err, AT_EUSAGE,
                   "started by srun as one of %ld tasks that cannot find each other; "
                   "use srun --mpi=pmix",
                   tasks);
}

/* ---- MPI's start ---- */

int at_comm_check(at_comm *c, int rc, const char *call, at_error *err)
{
    if (rc == MPI_SUCCESS)
        return 0;
    char reason[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_Error_string(rc, reason, &length);
    c->broken = true;
    return at_fail(err, AT_EPEER, "rank %d of %d: %s: %s", c->rank, c->size, call, reason);
}

static int start_mpi(at_comm *c, at_error *err)
{
    int running = 0, provided = 0;
    MPI_Initialized(&running);
    if (running)
        return at_fail(err, AT_EFAIL, "MPI runs already: one at_comm a process");
    int code = at_comm_check(c, MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &provided),
                             "MPI_Init_thread", err);
    if (code)
        return code;
    c->started = true;
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN); /* what is made of it inherits it */
    if (provided < MPI_THREAD_SERIALIZED)
        return at_fail(err, AT_EFAIL, "this MPI library cannot be called from a second thread");
    code = at_comm_check(c, MPI_Comm_dup(MPI_COMM_WORLD, &c->world), "MPI_Comm_dup", err);
    if (code)
        return code;
    MPI_Comm_rank(c->world, &c->rank);
    MPI_Comm_size(c->world, &c->size);
    return 0;
}

/* ---- nodes and rails ---- */

static int split_nodes(at_comm *c, at_error *err)
{
    MPI_Comm machine;
    int code = at_comm_check(
        c, MPI_Comm_split_type(c->world, MPI_COMM_TYPE_SHARED, c->rank, MPI_INFO_NULL, &machine),
        "MPI_Comm_split_type", err);
    if (code)
        return code;
    long pretended = number_in_environment("ATOLL_RANKS_PER_NODE", 0);
    int rank;
    MPI_Comm_rank(machine, &rank);
    int color = pretended > 0 && pretended < c->size ? rank / (int)pretended : 0;
    code = at_comm_check(c, MPI_Comm_split(machine, color, rank, &c->node), "MPI_Comm_split", err);
    MPI_Comm_free(&machine);
    if (code)
        return code;
    MPI_Comm_rank(c->node, &c->local_rank);
    MPI_Comm_size(c->node, &c->local_size);
    return 0;
}

/* The number of nodes, their least and their largest number of ranks. */
static int survey_nodes(at_comm *c, at_error *err)
{
    int leader = c->local_rank == 0, extremes[2] = {-c->local_size, c->local_size};
    int code = at_comm_check(c, MPI_Allreduce(&leader, &c->nodes, 1, MPI_INT, MPI_SUM, c->world),
                             "MPI_Allreduce", err);
    if (!code)
        code =
            at_comm_check(c, MPI_Allreduce(MPI_IN_PLACE, extremes, 2, MPI_INT, MPI_MAX, c->world),
                          "MPI_Allreduce", err);
    c->rails = -extremes[0];
    c->staged = extremes[1] > 1;
    return code;
}

static int split_rails(at_comm *c, at_error *err)
{
    int rail = c->local_rank < c->rails ? c->local_rank : MPI_UNDEFINED;
    int code =
        at_comm_check(c, MPI_Comm_split(c->world, rail, c->rank, &c->rail), "MPI_Comm_split", err);
    if (!code && c->rail != MPI_COMM_NULL)
        MPI_Comm_rank(c->rail, &c->rail_rank);
    return code;
}

/* World ranks of the node and of the rail, and everyone's host. */
static int exchange_names(at_comm *c, at_error *err)
{
    char host[AT_HOST_BYTES];
    at_host_name(host, sizeof host);
    int code = at_comm_check(
        c,
        MPI_Allgather(host, AT_HOST_BYTES, MPI_CHAR, c->hosts, AT_HOST_BYTES, MPI_CHAR, c->world),
        "MPI_Allgather", err);
    if (!code)
        code =
            at_comm_check(c, MPI_Allgather(&c->rank, 1, MPI_INT, c->members, 1, MPI_INT, c->node),
                          "MPI_Allgather", err);
    if (!code && c->rail != MPI_COMM_NULL)
        code = at_comm_check(
            c, MPI_Allgather(&c->rank, 1, MPI_INT, c->rail_peers, 1, MPI_INT, c->rail),
            "MPI_Allgather", err);
    return code;
}

static int lay_out(at_comm *c, at_error *err)
{
    int code = split_nodes(c, err);
    if (!code)
        code = survey_nodes(c, err);
    if (!code)
        code = split_rails(c, err);
    if (code)
        return code;
    c->hosts = calloc((size_t)c->size, sizeof *c->hosts);
    c->members = calloc((size_t)c->local_size, sizeof *c->members);
    c->rail_peers = calloc((size_t)c->nodes, sizeof *c->rail_peers);
    if (c->nodes > 1)
        c->pieces = at_alloc_aligned(2 * AT_PIECE_FLOATS * sizeof *c->pieces);
    if (!c->hosts || !c->members || !c->rail_peers || (c->nodes > 1 && !c->pieces))
        return at_nomem(err);
    code = exchange_names(c, err);
    return code ? code : at_comm_open_board(c, err);
}

at_comm *at_comm_new(at_error *err)
{
    at_comm *c = calloc(1, sizeof *c);
    if (!c) {
        at_nomem(err);
        return NULL;
    }
    c->size = c->local_size = c->nodes = c->rails = 1;
    c->world = c->node = c->rail = MPI_COMM_NULL;
    c->board_window = MPI_WIN_NULL;
    const char *stall = getenv("ATOLL_STALL_SECONDS");
    c->stall_seconds = stall ? strtod(stall, NULL) : 0;
    if (!(c->stall_seconds > 0))
        c->stall_seconds = default_stall_seconds;
    int code = launched() ? start_mpi(c, err) : check_srun(err);
    if (!code && c->size > 1)
        code = lay_out(c, err);
    if (!code)
        return c;
    if (c->started && c->size > 1)
        c->broken = true; /* the others may wait for this rank: at_comm_free ends them */
    if (c->broken && err)
        at_log(AT_LOG_ERROR, "%s", err->message);
    at_comm_free(c);
    return NULL;
}

/* ---- the end ---- */

void at_comm_abort(at_comm *c, int status)
{
    if (c && c->started)
        MPI_Abort(MPI_COMM_WORLD, status ? status : 1);
}

static void free_comm(MPI_Comm *comm)
{
    if (*comm != MPI_COMM_NULL)
        MPI_Comm_free(comm);
}

void at_comm_free(at_comm *c)
{
    if (!c)
        return;
    if (c->broken)
        at_comm_abort(c, 1);
    at_comm_free_windows(c, true);
    at_comm_close_board(c);
    free_comm(&c->rail);
    free_comm(&c->node);
    free_comm(&c->world);
    if (c->started)
        MPI_Finalize();
    at_free_aligned(c->pieces);
    free(c->rail_peers);
    free(c->members);
    free(c->hosts);
    free(c);
}

int at_comm_rank(const at_comm *c)
{
    return c->rank;
}

int at_comm_size(const at_comm *c)
{
    return c->size;
}

int at_comm_local_rank(const at_comm *c)
{
    return c->local_rank;
}

int at_comm_local_size(const at_comm *c)
{
    return c->local_size;
}
