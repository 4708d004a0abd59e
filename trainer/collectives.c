/* SPDX-License-Identifier: Apache-2.0
 * The small collectives around training. They are MPI's non-blocking ones, waited for by
 * at_comm_await: a rank that waits for another's checkpoint sleeps and does not spin in MPI. */
#include "comm_internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    MESSAGE_BYTES = 64 << 20,
    SUM_BLOCK = 4096, /* doubles of each rank in one round of at_comm_sum_doubles */
};

/* Checks a non-blocking call and waits for its request; in_flight is its return code. */
static int complete(at_comm *c, int in_flight, MPI_Request *request, const char *what, int peer,
                    at_error *err)
{
    int code = at_comm_check(c, in_flight, what, err);
    return code ? code : at_comm_await(c, request, what, peer, err);
}

static int message_bytes(size_t left)
{
    return (int)(left < MESSAGE_BYTES ? left : MESSAGE_BYTES);
}

int at_comm_barrier(at_comm *c, at_error *err)
{
    at_comm_step(c);
    int code = 0;
    at_comm_node_barrier(c, "barrier");
    if (c->nodes > 1 && c->local_rank == 0) {
        MPI_Request request;
        code = complete(c, MPI_Ibarrier(c->rail, &request), &request, "barrier", -1, err);
    }
    at_comm_node_barrier(c, "barrier");
    return code;
}

int at_comm_broadcast(at_comm *c, void *data, size_t bytes, int root, at_error *err)
{
    at_comm_step(c);
    for (size_t done = 0; c->size > 1 && done < bytes;) {
        MPI_Request request;
        int part = message_bytes(bytes - done);
        int code =
            complete(c, MPI_Ibcast((char *)data + done, part, MPI_BYTE, root, c->world, &request),
                     &request, "broadcast", -1, err);
        if (code)
            return code;
        done += (size_t)part;
    }
    return 0;
}

/* Gathered, summed in the order of the ranks and sent back: MPI promises that order to nobody. */
static int sum_block(at_comm *c, double *values, int n, double *all, at_error *err)
{
    MPI_Request request;
    int code =
        complete(c, MPI_Igather(values, n, MPI_DOUBLE, all, n, MPI_DOUBLE, 0, c->world, &request),
                 &request, "sum", -1, err);
    if (code)
        return code;
    for (int r = 1; c->rank == 0 && r < c->size; r++)
        for (int i = 0; i < n; i++)
            values[i] += all[(size_t)r * (size_t)n + (size_t)i];
    return complete(c, MPI_Ibcast(values, n, MPI_DOUBLE, 0, c->world, &request), &request, "sum",
                    -1, err);
}

int at_comm_sum_doubles(at_comm *c, double *values, size_t n, at_error *err)
{
    if (c->size == 1)
        return 0;
    at_comm_step(c);
    double *all = NULL;
    size_t block = n < SUM_BLOCK ? n : SUM_BLOCK;
    if (c->rank == 0 && !(all = malloc((block ? block : 1) * (size_t)c->size * sizeof *all)))
        return at_nomem(err);
    int code = 0;
    for (size_t done = 0; !code && done < n; done += block) {
        size_t left = n - done;
        code = sum_block(c, values + done, (int)(left < block ? left : block), all, err);
    }
    free(all);
    return code;
}

int at_comm_max_int(at_comm *c, int64_t *value, at_error *err)
{
    if (c->size == 1)
        return 0;
    at_comm_step(c);
    MPI_Request request;
    return complete(
        c, MPI_Iallreduce(MPI_IN_PLACE, value, 1, MPI_INT64_T, MPI_MAX, c->world, &request),
        &request, "maximum", -1, err);
}

/* ---- text ---- */

static int send_text(at_comm *c, const char *text, size_t length, at_error *err)
{
    int code = 0;
    for (size_t done = 0; !code && done < length;) {
        MPI_Request request;
        int part = message_bytes(length - done);
        code = complete(c, MPI_Isend(text + done, part, MPI_BYTE, 0, 0, c->world, &request),
                        &request, "gather", 0, err);
        done += (size_t)part;
    }
    return code;
}

static int receive_text(at_comm *c, int from, char *text, size_t length, at_error *err)
{
    int code = 0;
    for (size_t done = 0; !code && done < length;) {
        MPI_Request request;
        int part = message_bytes(length - done);
        code = complete(c, MPI_Irecv(text + done, part, MPI_BYTE, from, 0, c->world, &request),
                        &request, "gather", from, err);
        done += (size_t)part;
    }
    return code;
}

static size_t end_line(char *text, size_t length)
{
    if (length && text[length - 1] != '\n')
        text[length++] = '\n';
    return length;
}

static int receive_all(at_comm *c, const char *mine, const int64_t *lengths, char **all,
                       at_error *err)
{
    size_t total = 1, used = (size_t)lengths[0];
    for (int r = 0; r < c->size; r++)
        if (__builtin_add_overflow(total, (size_t)lengths[r] + 1, &total))
            return at_nomem(err);
    char *text = malloc(total);
    if (!text)
        return at_nomem(err);
    memcpy(text, mine, used);
    used = end_line(text, used);
    for (int r = 1; r < c->size; r++) {
        size_t length = (size_t)lengths[r];
        int code = receive_text(c, r, text + used, length, err);
        if (code) {
            free(text);
            return code;
        }
        used += end_line(text + used, length);
    }
    text[used] = 0;
    *all = text;
    return 0;
}

int at_comm_gather_text(at_comm *c, const char *mine, char **all, at_error *err)
{
    int64_t length = (int64_t)strlen(mine), *lengths = NULL;
    *all = NULL;
    if (c->size == 1)
        return receive_all(c, mine, &length, all, err);
    at_comm_step(c);
    if (c->rank == 0 && !(lengths = calloc((size_t)c->size, sizeof *lengths)))
        return at_nomem(err);
    MPI_Request request;
    int code = complete(
        c, MPI_Igather(&length, 1, MPI_INT64_T, lengths, 1, MPI_INT64_T, 0, c->world, &request),
        &request, "gather", -1, err);
    if (!code)
        code = c->rank == 0 ? receive_all(c, mine, lengths, all, err)
                            : send_text(c, mine, (size_t)length, err);
    free(lengths);
    return code;
}

/* ---- the peer ---- */

int at_comm_allreduce_mpi(at_comm *c, float *data, size_t count, at_error *err)
{
    enum { MOST = 1 << 28 };
    int code = 0;
    for (size_t done = 0; c->size > 1 && !code && done < count;) {
        int part = (int)(count - done < MOST ? count - done : MOST);
        code = at_comm_check(
            c, MPI_Allreduce(MPI_IN_PLACE, data + done, part, MPI_FLOAT, MPI_SUM, c->world),
            "MPI_Allreduce", err);
        done += (size_t)part;
    }
    return code;
}
