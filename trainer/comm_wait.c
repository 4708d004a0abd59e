/* SPDX-License-Identifier: Apache-2.0
 * Waiting for other ranks. The communication thread usually shares its core with a computing one,
 * so a wait spins only for about the time of a wake-up, then sleeps: on a futex inside the node,
 * between polls for MPI's requests. (A loop around sched_yield would take half of the core.)
 *
 * A wait longer than ATOLL_STALL_SECONDS is logged with the ranks that it waits for: inside the
 * node those whose count of steps on the board is behind, in a ring the neighbour. */
#include "comm_internal.h"

#include <limits.h>
#include <linux/futex.h>
#include <math.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { BARRIER_SPINS = 300 };           /* 5 to 20 µs, about a wake-up by futex */
static const double poll_spin = 100e-6; /* seconds; a nap takes at least 60 µs */
static const double longest_nap = 1e-3;

/* ---- stalls ---- */

typedef struct watch {
    double began, next;
} watch;

static watch watch_start(const at_comm *c)
{
    double now = at_now();
    return (watch){now, now + c->stall_seconds};
}

static void name_rank(const at_comm *c, at_text *line, int rank, int already)
{
    at_text_add(line, "%s rank %d on %s", already ? "," : "", rank, c->hosts[rank]);
}

/* The ranks of this node that are behind; returns how many. */
static int name_laggards(const at_comm *c, at_text *line)
{
    int found = 0;
    for (int i = 0; c->board && i < c->local_size; i++)
        if (atomic_load_explicit(&c->board->slot[i].steps, memory_order_relaxed) < c->steps)
            name_rank(c, line, c->members[i], found++);
    return found;
}

static void log_stall(const at_comm *c, double waited, const char *phase, int peer)
{
    at_text line = {0};
    at_text_add(&line, "rank %d on %s has waited %.1f s in %s for", c->rank, c->hosts[c->rank],
                waited, phase);
    int found = name_laggards(c, &line);
    if (peer >= 0)
        name_rank(c, &line, peer, found++);
    if (!found)
        at_text_add(&line, " a rank of another node");
    if (!line.failed)
        at_log(AT_LOG_WARN, "%s", line.data);
    at_text_fini(&line);
}

/* Returns the seconds waited so far. */
static double watch_look(watch *w, const at_comm *c, const char *phase, int peer)
{
    double now = at_now();
    if (now >= w->next) {
        log_stall(c, now - w->began, phase, peer);
        w->next = now + c->stall_seconds;
    }
    return now - w->began;
}

void at_comm_step(at_comm *c)
{
    c->steps++;
    if (c->board)
        atomic_store_explicit(&c->board->slot[c->local_rank].steps, c->steps, memory_order_relaxed);
}

/* ---- the barrier of a node ---- */

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Sleeps while *word is still `seen`; the word is shared between processes. */
static void futex_wait(atomic_uint *word, unsigned seen, double seconds)
{
    struct timespec t = {.tv_sec = (time_t)seconds,
                         .tv_nsec = (long)(1e9 * (seconds - floor(seconds)))};
    syscall(SYS_futex, word, FUTEX_WAIT, seen, &t, NULL, 0);
}

static void futex_wake(atomic_uint *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* sleepers is raised before the kernel compares the round, and the last rank stores the round
 * before it reads sleepers, both sequentially consistent: one of them sees the other. */
static void await_round(at_comm *c, const char *phase)
{
    at_board *board = c->board;
    for (int i = 0; i < BARRIER_SPINS; i++) {
        if (atomic_load_explicit(&board->round, memory_order_acquire) == c->round)
            return;
        relax();
    }
    watch w = watch_start(c);
    atomic_fetch_add(&board->sleepers, 1);
    while (atomic_load(&board->round) != c->round) {
        futex_wait(&board->round, c->round - 1, fmin(c->stall_seconds, 1));
        watch_look(&w, c, phase, -1);
    }
    atomic_fetch_sub(&board->sleepers, 1);
}

void at_comm_node_barrier(at_comm *c, const char *phase)
{
    at_board *board = c->board;
    if (!board)
        return;
    at_comm_step(c);
    c->round++;
    if (atomic_fetch_add(&board->arrived, 1) + 1 < (unsigned)c->local_size) {
        await_round(c, phase);
        return;
    }
    atomic_store(&board->arrived, 0);
    atomic_store(&board->round, c->round);
    if (atomic_load(&board->sleepers))
        futex_wake(&board->round);
}

/* ---- MPI's requests ---- */

/* An eighth of what was waited already: short waits end in time, long ones cost little. */
static void nap(double waited)
{
    double seconds = fmin(waited / 8, longest_nap);
    nanosleep(&(struct timespec){.tv_nsec = (long)(1e9 * seconds)}, NULL);
}

int at_comm_await(at_comm *c, MPI_Request *request, const char *call, int peer, at_error *err)
{
    watch w = watch_start(c);
    for (;;) {
        int done = 0;
        int code = at_comm_check(c, MPI_Test(request, &done, MPI_STATUS_IGNORE), call, err);
        if (code || done)
            return code;
        double waited = watch_look(&w, c, call, peer);
        if (waited > poll_spin)
            nap(waited);
    }
}
