/* SPDX-License-Identifier: Apache-2.0
 * atoll bench allreduce, under mpirun or srun: our allreduce on memory in the shared window and
 * outside it, and the MPI library's, in turn, so that all three meet the same noise.
 *
 * A time is that of the slowest rank. Bandwidth is the "bus bandwidth" of nccl-tests,
 * bytes·2(n-1)/n over time, comparable for any number of ranks. The floor: inside a node every
 * buffer must be read once and written once, which each rank does here in place, all ranks at once.
 */
#include "atoll/bench.h"
#include "atoll/trainer.h"

#include <stdlib.h>

enum { SIZES = 4, WARM_UP = 2 };
static const size_t size_bytes[SIZES] = {64 << 10, 512 << 10, 4 << 20, 32 << 20};

typedef enum { INSIDE, OUTSIDE, LIBRARY, PASS, METHODS } method;

typedef struct bench {
    at_comm *comm;
    float *window, *plain;
    int repeats;
    double *seconds[METHODS]; /* [repeats] */
} bench;

/* Reads and writes every cache line, with the least arithmetic. */
static void pass_over(float *data, size_t count)
{
    for (size_t i = 0; i < count; i++)
        data[i] = -data[i];
}

static int run_once(const bench *b, method how, size_t bytes, at_error *err)
{
    size_t count = bytes / sizeof(float);
    switch (how) {
    case INSIDE:
        return at_comm_allreduce(b->comm, b->window, count, err);
    case OUTSIDE:
        return at_comm_allreduce(b->comm, b->plain, count, err);
    case LIBRARY:
        return at_comm_allreduce_mpi(b->comm, b->plain, count, err);
    default:
        pass_over(b->window, count);
        return 0;
    }
}

/* The second barrier finds all ranks awake, so that they start together. */
static int time_once(const bench *b, method how, size_t bytes, double *seconds, at_error *err)
{
    int code = at_comm_barrier(b->comm, err);
    if (!code)
        code = at_comm_barrier(b->comm, err);
    double began = at_now();
    if (!code)
        code = run_once(b, how, bytes, err);
    int64_t nanoseconds = (int64_t)((at_now() - began) * 1e9);
    if (!code)
        code = at_comm_max_int(b->comm, &nanoseconds, err);
    *seconds = 1e-9 * (double)(nanoseconds > 0 ? nanoseconds : 1);
    return code;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Leaves each method's seconds in ascending order. */
static int measure(const bench *b, size_t bytes, at_error *err)
{
    for (int i = -WARM_UP; i < b->repeats; i++)
        for (int how = 0; how < METHODS; how++) {
            double seconds;
            int code = time_once(b, (method)how, bytes, &seconds, err);
            if (code)
                return code;
            if (i >= 0)
                b->seconds[how][i] = seconds;
        }
    for (int how = 0; how < METHODS; how++)
        qsort(b->seconds[how], (size_t)b->repeats, sizeof(double), ascending);
    return 0;
}

static double bandwidth(const bench *b, method how, size_t bytes, int rank_of_time)
{
    double n = at_comm_size(b->comm);
    double moved = n > 1 ? 2 * (n - 1) / n : 1;
    return 1e-9 * (double)bytes * moved / b->seconds[how][rank_of_time];
}

static at_node *describe(const bench *b, size_t bytes)
{
    at_node *size = at_node_new(AT_MAP);
    int median = b->repeats / 2;
    at_set_int(size, "bytes", (int64_t)bytes);
    at_set_real(size, "gigabytes_per_second", bandwidth(b, INSIDE, bytes, 0));
    at_set_real(size, "outside_gigabytes_per_second", bandwidth(b, OUTSIDE, bytes, 0));
    at_set_real(size, "mpi_gigabytes_per_second", bandwidth(b, LIBRARY, bytes, 0));
    at_set_real(size, "floor_gigabytes_per_second", bandwidth(b, PASS, bytes, 0));
    at_set_real(size, "median_gigabytes_per_second", bandwidth(b, INSIDE, bytes, median));
    at_set_real(size, "median_outside_gigabytes_per_second", bandwidth(b, OUTSIDE, bytes, median));
    at_set_real(size, "median_mpi_gigabytes_per_second", bandwidth(b, LIBRARY, bytes, median));
    at_set_real(size, "ratio", b->seconds[LIBRARY][0] / b->seconds[INSIDE][0]);
    at_set_real(size, "median_ratio", b->seconds[LIBRARY][median] / b->seconds[INSIDE][median]);
    return size;
}

static int measure_all(const bench *b, at_node *result, at_error *err)
{
    at_node *sizes = at_node_set(result, "sizes", at_node_new(AT_LIST));
    for (int s = 0; s < SIZES; s++) {
        int code = measure(b, size_bytes[s], err);
        if (code)
            return code;
        if (!at_node_add(sizes, describe(b, size_bytes[s])))
            return at_nomem(err);
    }
    size_t largest = size_bytes[SIZES - 1]; /* the one that `measure` saw last */
    at_set_int(result, "ranks", at_comm_size(b->comm));
    at_set_int(result, "repeats", b->repeats);
    at_set_int(result, "bytes", (int64_t)largest);
    at_set_real(result, "gigabytes_per_second", bandwidth(b, INSIDE, largest, 0));
    at_set_real(result, "mpi_gigabytes_per_second", bandwidth(b, LIBRARY, largest, 0));
    at_set_real(result, "floor_gigabytes_per_second", bandwidth(b, PASS, largest, 0));
    at_set_int(result, "peak_rss_bytes", (int64_t)at_peak_rss());
    return 0;
}

static int open_bench(bench *b, int repeats, at_error *err)
{
    size_t largest = size_bytes[SIZES - 1];
    b->repeats = repeats;
    b->comm = at_comm_new(err);
    if (!b->comm)
        return AT_EFAIL;
    if (at_comm_size(b->comm) < 2)
        return at_fail(err, AT_EUSAGE, "the allreduce bench needs ranks: start it with mpirun");
    b->window = at_comm_alloc(b->comm, largest / sizeof(float), err);
    if (!b->window)
        return AT_EFAIL;
    b->plain = at_alloc_aligned(largest);
    bool enough = b->plain != NULL;
    for (int how = 0; how < METHODS; how++) {
        b->seconds[how] = calloc((size_t)repeats, sizeof(double));
        enough = enough && b->seconds[how];
    }
    return enough ? 0 : at_nomem(err);
}

static void close_bench(bench *b)
{
    for (int how = 0; how < METHODS; how++)
        free(b->seconds[how]);
    at_free_aligned(b->plain);
    if (b->comm)
        at_comm_dealloc(b->comm, b->window);
    at_comm_free(b->comm);
}

at_node *at_bench_allreduce(int repeats, at_error *err)
{
    bench b = {0};
    at_error local = {0};
    at_error *why = err ? err : &local;
    at_node *result = at_node_new(AT_MAP);
    int code = result ? open_bench(&b, repeats > 0 ? repeats : 1, why) : at_nomem(why);
    if (!code)
        code = measure_all(&b, result, why);
    if (code && b.comm && at_comm_size(b.comm) > 1) { /* the others wait */
        at_log(AT_LOG_ERROR, "%s", why->message);
        at_comm_abort(b.comm, at_error_exit_status(code));
    }
    bool first = b.comm && at_comm_rank(b.comm) == 0;
    close_bench(&b);
    if (!code && first)
        return result;
    at_node_free(result);
    return code ? NULL : at_node_new(AT_MAP);
}
