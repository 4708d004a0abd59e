/* SPDX-License-Identifier: Apache-2.0
 * The sum of every rank's gradients, on every rank.
 *
 * Inside a node rank r reads slice r of all the ranks' buffers, adds them in the order of the ranks
 * and writes the sum back to all: each buffer crosses the memory bus once each way, which is the
 * least. Over nodes the slices are sums of the node first, and each rail's ring sums its slice
 * before it is written to all: every rank of a node drives the network with its share. Where nodes
 * have unequal numbers of ranks, the slices are as many as the smallest has.
 *
 * Data outside the windows goes through staging memory block by block. One element is summed by one
 * rank and then copied, so every rank ends with the same bits. */
#include "comm_internal.h"

#include <string.h>

enum { BLOCK = 1024 }; /* floats added at a time: a page of each rank's buffer, in the L1 cache */

/* Whole cache lines, dealt out evenly. */
at_part at_part_of(size_t count, int parts, int i)
{
    size_t line = AT_CACHE_LINE / sizeof(float);
    size_t lines = count / line + (count % line > 0), n = (size_t)parts, k = (size_t)i;
    size_t each = lines / n, more = lines % n;
    size_t begin = (each * k + (k < more ? k : more)) * line;
    size_t end = begin + (each + (k < more)) * line;
    return (at_part){begin < count ? begin : count, end < count ? end : count};
}

/* ---- sums within the node ---- */

/* sum[i] = base[0][at + i] + base[1][at + i] + ... */
static void add_block(float *restrict sum, float *const *base, int n, size_t at, size_t count)
{
    const float *restrict first = base[0] + at, *restrict second = base[1] + at;
    for (size_t i = 0; i < count; i++)
        sum[i] = first[i] + second[i];
    for (int r = 2; r < n; r++) {
        const float *restrict next = base[r] + at;
        for (size_t i = 0; i < count; i++)
            sum[i] += next[i];
    }
}

/* Adds a slice of the n buffers into those from `to` to `to_end`. */
static void add_slice(float *const *base, int n, at_part slice, int to, int to_end)
{
    float sum[BLOCK];
    for (size_t at = slice.begin; at < slice.end; at += BLOCK) {
        size_t count = slice.end - at < BLOCK ? slice.end - at : BLOCK;
        add_block(sum, base, n, at, count);
        for (int r = to; r < to_end; r++)
            memcpy(base[r] + at, sum, count * sizeof *sum);
    }
}

/* The slice of [offset, offset + count) that this rank drives; empty where it has no rail. */
static at_part own_slice(const at_comm *c, size_t offset, size_t count)
{
    if (c->local_rank >= c->rails)
        return (at_part){offset, offset};
    at_part part = at_part_of(count, c->rails, c->local_rank);
    return (at_part){offset + part.begin, offset + part.end};
}

/* Into this rank's buffer: the sum of a slice over every rank of every node. */
static int sum_slice(at_comm *c, float *const *base, at_part slice, at_error *err)
{
    int me = c->local_rank;
    if (me >= c->rails)
        return 0;
    if (c->local_size > 1)
        add_slice(base, c->local_size, slice, me, me + 1);
    return at_ring_allreduce(c, base[me] + slice.begin, slice.end - slice.begin, err);
}

/* ---- data in a window ---- */

static void share_slice(const at_comm *c, float *const *base, at_part slice)
{
    for (int r = 0; r < c->local_size; r++)
        if (r != c->local_rank)
            memcpy(base[r] + slice.begin, base[c->local_rank] + slice.begin,
                   (slice.end - slice.begin) * sizeof **base);
}

/* All ranks of the node have come, so all buffers are final. */
static int reduce_window(at_comm *c, float *const *base, size_t offset, size_t count, at_error *err)
{
    at_part mine = own_slice(c, offset, count);
    if (c->nodes == 1) {
        add_slice(base, c->local_size, mine, 0, c->local_size);
    } else {
        int code = sum_slice(c, base, mine, err);
        if (code)
            return code;
        share_slice(c, base, mine);
    }
    at_comm_node_barrier(c, "allreduce (adding)");
    return 0;
}

/* ---- data elsewhere ---- */

/* Copies the slices of all ranks but this one: in to its stage, or out of theirs. */
static void copy_slices(const at_comm *c, float *data, size_t count, int turn, bool in)
{
    for (int r = 0; r < c->rails; r++) {
        at_part slice = at_part_of(count, c->rails, r);
        float *stage = c->stage[in ? c->local_rank : r] + (size_t)turn * AT_STAGE_FLOATS;
        float *to = in ? stage : data, *from = in ? data : stage;
        if (r != c->local_rank)
            memcpy(to + slice.begin, from + slice.begin, (slice.end - slice.begin) * sizeof *data);
    }
}

/* The own slice stays where it is: only what others need is staged. There are two stages in turn:
 * whoever fills one again knows by the barrier in between that all have read it. */
static int reduce_block(at_comm *c, float *data, size_t count, int turn, at_error *err)
{
    at_part mine = own_slice(c, 0, count);
    copy_slices(c, data, count, turn, true);
    at_comm_node_barrier(c, "allreduce (staging)");
    for (int r = 0; r < c->local_size; r++)
        c->sources[r] = c->stage[r] + (size_t)turn * AT_STAGE_FLOATS;
    float *staged = c->sources[c->local_rank];
    c->sources[c->local_rank] = data;
    int code = sum_slice(c, c->sources, mine, err);
    if (code)
        return code;
    memcpy(staged + mine.begin, data + mine.begin, (mine.end - mine.begin) * sizeof *data);
    at_comm_node_barrier(c, "allreduce (adding)");
    copy_slices(c, data, count, turn, false);
    return 0;
}

/* A node of one rank follows the others' blocks, for the rings' sake. */
static int reduce_staged(at_comm *c, float *data, size_t count, at_error *err)
{
    int turn = 0, code = 0;
    size_t block = c->staged ? AT_STAGE_FLOATS : count;
    for (size_t at = 0; !code && at < count; at += block) {
        size_t n = count - at < block ? count - at : block;
        code = c->local_size > 1 ? reduce_block(c, data + at, n, turn, err)
                                 : at_ring_allreduce(c, data + at, n, err);
        turn = !turn;
    }
    return code;
}

/* ---- the call ---- */

/* All ranks of the node meet; fails where they reduce unequal counts. *same: all in one window at
 * one offset. */
static int meet(at_comm *c, at_post mine, bool *same, at_error *err)
{
    *same = mine.window != 0;
    if (!c->board)
        return 0;
    at_slot *slot = c->board->slot;
    slot[c->local_rank].post = mine;
    at_comm_node_barrier(c, "allreduce");
    for (int r = 0; r < c->local_size; r++) {
        at_post other = slot[r].post;
        if (other.count != mine.count)
            return at_fail(err, AT_EFAIL, "rank %d reduces %zu values where rank %d reduces %zu",
                           c->rank, mine.count, c->members[r], other.count);
        *same = *same && other.window == mine.window && other.offset == mine.offset;
    }
    return 0;
}

int at_comm_allreduce(at_comm *c, float *data, size_t count, at_error *err)
{
    if (c->size == 1)
        return 0;
    at_comm_step(c);
    const at_window *w = at_comm_find_window(c, data, count);
    at_post mine = {.count = count, .window = w ? w->id : 0};
    if (w)
        mine.offset = (size_t)(data - w->base[c->local_rank]);
    bool same;
    int code = meet(c, mine, &same, err);
    if (code || !count)
        return code;
    return same ? reduce_window(c, w->base, mine.offset, count, err)
                : reduce_staged(c, data, count, err);
}
