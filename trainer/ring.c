/* SPDX-License-Identifier: Apache-2.0
 * The ring: reduce-scatter, then allgather (Patarasuk and Yuan, "Bandwidth optimal all-reduce
 * algorithms for clusters of workstations", 2009). Each of m ranks sends and receives 2(m-1)/m of
 * the data, the least that any algorithm can.
 *
 * A segment travels in pieces: while one is added the next is on its way, and no message is near
 * MPI's int counts. Each segment is summed in one order along the ring and then copied, so that
 * every rank ends with the same bits. */
#include "comm_internal.h"

#include <string.h>

enum { IN_FLIGHT = 2 };

/* One step: segment `out` goes to the right neighbour while segment `in` comes from the left. */
typedef struct step {
    at_comm *c;
    float *data;
    at_part out, in;
    bool add; /* reduce-scatter: add what comes; allgather: keep it */
    int right, left;
    MPI_Request sent[IN_FLIGHT], received[IN_FLIGHT];
} step;

static at_part piece_of(at_part segment, size_t i)
{
    size_t begin = segment.begin + i * AT_PIECE_FLOATS;
    if (begin > segment.end)
        begin = segment.end;
    size_t left = segment.end - begin;
    return (at_part){begin, begin + (left < AT_PIECE_FLOATS ? left : AT_PIECE_FLOATS)};
}

static size_t piece_count(at_part segment)
{
    return (segment.end - segment.begin + AT_PIECE_FLOATS - 1) / AT_PIECE_FLOATS;
}

static float *landing(const step *s, size_t i)
{
    return s->add ? s->c->pieces + i % IN_FLIGHT * AT_PIECE_FLOATS
                  : s->data + piece_of(s->in, i).begin;
}

static int await_sent(step *s, size_t i, at_error *err)
{
    return at_comm_await(s->c, &s->sent[i % IN_FLIGHT], "allreduce (ring, sending)",
                         s->c->rail_peers[s->right], err);
}

/* The allgather sends synchronously: once the ring is done the neighbour has matched everything,
 * and needs no more progress from this rank, which may compute for long before its next MPI call.
 * (What the reduce-scatter sent is known to have arrived by what comes back.) */
static int start_piece(step *s, size_t i, at_error *err)
{
    int code = await_sent(s, i, err);
    at_part in = piece_of(s->in, i), out = piece_of(s->out, i);
    if (!code && in.end > in.begin)
        code = at_comm_check(s->c,
                             MPI_Irecv(landing(s, i), (int)(in.end - in.begin), MPI_FLOAT, s->left,
                                       0, s->c->rail, &s->received[i % IN_FLIGHT]),
                             "MPI_Irecv", err);
    if (!code && out.end > out.begin) {
        int (*send)(const void *, int, MPI_Datatype, int, int, MPI_Comm, MPI_Request *) =
            s->add ? MPI_Isend : MPI_Issend;
        code = at_comm_check(s->c,
                             send(s->data + out.begin, (int)(out.end - out.begin), MPI_FLOAT,
                                  s->right, 0, s->c->rail, &s->sent[i % IN_FLIGHT]),
                             "MPI_Isend", err);
    }
    return code;
}

static int finish_piece(step *s, size_t i, at_error *err)
{
    int code = at_comm_await(s->c, &s->received[i % IN_FLIGHT], "allreduce (ring, receiving)",
                             s->c->rail_peers[s->left], err);
    if (code || !s->add)
        return code;
    at_part in = piece_of(s->in, i);
    float *restrict to = s->data + in.begin;
    const float *restrict from = landing(s, i);
    for (size_t k = 0; k < in.end - in.begin; k++)
        to[k] += from[k];
    return 0;
}

/* No deadlock: the rank that is furthest behind always finds its neighbours' pieces posted. */
static int run_step(step *s, at_error *err)
{
    size_t out = piece_count(s->out), in = piece_count(s->in), pieces = out > in ? out : in;
    for (int i = 0; i < IN_FLIGHT; i++)
        s->sent[i] = s->received[i] = MPI_REQUEST_NULL;
    for (size_t i = 0; i <= pieces; i++) {
        int code = i < pieces ? start_piece(s, i, err) : 0;
        if (!code && i > 0)
            code = finish_piece(s, i - 1, err);
        if (code)
            return code;
    }
    for (size_t i = 0; i < IN_FLIGHT; i++) {
        int code = await_sent(s, i, err);
        if (code)
            return code;
    }
    return 0;
}

/* In step k rank r sends segment r-k and adds to segment r-k-1; it ends with the sum of segment
 * r+1, which it sends first in the allgather. */
int at_ring_allreduce(at_comm *c, float *data, size_t count, at_error *err)
{
    int m = c->nodes, r = c->rail_rank;
    for (int k = 0; k < 2 * (m - 1); k++) {
        int shift =
            k < m - 1 ? k : k - m; /* the allgather goes on where the reduce-scatter ended */
        step s = {
            .c = c, .data = data, .add = k < m - 1, .right = (r + 1) % m, .left = (r + m - 1) % m};
        s.out = at_part_of(count, m, (r - shift + 2 * m) % m);
        s.in = at_part_of(count, m, (r - shift - 1 + 2 * m) % m);
        int code = run_step(&s, err);
        if (code)
            return code;
    }
    return 0;
}
