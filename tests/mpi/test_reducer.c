/* SPDX-License-Identifier: Apache-2.0
 * ctest: ranks=4 timeout=120
 * Buckets behind backward: right sums however gradients become ready, the same bits on every rank
 * and run, and a bucket is summed before the rest is ready. */
#include "ranks.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Small integers: their fp32 sums are exact in any order. */
static float gradient(int rank, size_t step, size_t i)
{
    return (float)((i * 7 + step * 13 + (size_t)rank * 29) % 1000);
}

static float gradient_sum(size_t step, size_t i)
{
    float sum = 0;
    for (int r = 0; r < at_comm_size(ranks_comm()); r++)
        sum += gradient(r, step, i);
    return sum;
}

static size_t first_wrong(const float *grads, size_t count, size_t step)
{
    for (size_t i = 0; i < count; i++)
        if (grads[i] != gradient_sum(step, i))
            return i;
    return count;
}

/* Backward, layer by layer of random sizes; each rank at its own pace. */
static void backward(at_reducer *r, float *grads, size_t count, size_t step, at_rng *rng)
{
    int rank = at_comm_rank(ranks_comm());
    for (size_t done = 0; done < count;) {
        size_t layer = 1 + at_rng_below(rng, count / 4 + 1);
        size_t end = count - done < layer ? count : done + layer;
        for (; done < end; done++)
            grads[done] = gradient(rank, step, done);
        at_reducer_ready(r, done);
        if (at_rng_below(rng, 3) == 0)
            usleep((useconds_t)at_rng_below(rng, 300));
    }
}

static void run_steps(float *grads, size_t count, size_t bucket_bytes, uint64_t seed)
{
    enum { STEPS = 4 };
    at_error err = {0};
    at_reducer *r = at_reducer_new(ranks_comm(), grads, count, bucket_bytes, &err);
    ranks_assert(r != NULL, "%s", err.message);
    at_rng rng = at_rng_stream(seed, "pace", (uint64_t)at_comm_rank(ranks_comm()));
    for (size_t step = 0; step < STEPS; step++) {
        at_reducer_begin(r);
        backward(r, grads, count, step, &rng);
        int code = at_reducer_finish(r, &err);
        ranks_assert(code == 0, "%s", err.message);
        size_t wrong = first_wrong(grads, count, step);
        ranks_assert(wrong == count, "%zu gradients, buckets of %zu bytes: [%zu] is wrong", count,
                     bucket_bytes, wrong);
        ranks_assert(at_comm_barrier(ranks_comm(), &err) == 0, "%s", err.message);
    }
    at_reducer_free(r);
}

static void sums_for_any_bucket(void **state)
{
    (void)state;
    enum { CASES = 24, MOST = 200000 };
    at_error err = {0};
    float *window = at_comm_alloc(ranks_comm(), MOST, &err);
    float *plain = at_alloc_aligned(MOST * sizeof *plain);
    ranks_assert(window && plain, "%s", err.message);
    at_rng rng = at_rng_stream(2, "buckets", 0);
    for (uint64_t i = 0; i < CASES; i++) {
        size_t count = i ? 1 + at_rng_below(&rng, i % 2 ? 1000 : MOST) : MOST;
        size_t bucket = i == 1 ? 0 : at_rng_below(&rng, 2 * count * sizeof(float)) + count / 10;
        run_steps(i % 3 ? window : plain, count, bucket, i);
    }
    print_message("%d random sizes and buckets, 4 steps each\n", CASES);
    at_free_aligned(plain);
    at_comm_dealloc(ranks_comm(), window);
}

static void starts_while_backward_still_runs(void **state)
{
    (void)state;
    enum { COUNT = 100000, BUCKET = 10000 };
    at_error err = {0};
    float *grads = at_comm_alloc(ranks_comm(), COUNT, &err);
    ranks_assert(grads != NULL, "%s", err.message);
    at_reducer *r = at_reducer_new(ranks_comm(), grads, COUNT, BUCKET * sizeof *grads, &err);
    ranks_assert(r != NULL, "%s", err.message);
    int rank = at_comm_rank(ranks_comm());
    for (size_t i = 0; i < COUNT; i++)
        grads[i] = gradient(rank, 0, i);
    at_reducer_begin(r);
    at_reducer_ready(r, BUCKET + 1);
    volatile float *last = &grads[BUCKET / 16 * 16 - 1]; /* buckets are whole cache lines */
    double deadline = at_now() + 30;
    while (*last != gradient_sum(0, BUCKET / 16 * 16 - 1) && at_now() < deadline)
        usleep(100);
    bool early = *last == gradient_sum(0, BUCKET / 16 * 16 - 1);
    bool untouched = grads[COUNT - 1] == gradient(rank, 0, COUNT - 1);
    int code = at_reducer_finish(r, &err);
    ranks_assert(code == 0, "%s", err.message);
    ranks_assert(early, "the first bucket waited for the others");
    ranks_assert(untouched, "a bucket was summed before it was ready");
    size_t wrong = first_wrong(grads, COUNT, 0);
    ranks_assert(wrong == COUNT, "[%zu] is wrong", wrong);
    at_reducer_free(r);
    at_comm_dealloc(ranks_comm(), grads);
}

/* Values whose sum depends on the order of adding: two runs and all ranks agree to the bit. */
static void same_bits_in_every_run(void **state)
{
    (void)state;
    enum { COUNT = 70001 };
    at_error err = {0};
    uint32_t crc[2];
    float *grads = at_comm_alloc(ranks_comm(), COUNT, &err);
    ranks_assert(grads != NULL, "%s", err.message);
    for (int run = 0; run < 2; run++) {
        at_reducer *r = at_reducer_new(ranks_comm(), grads, COUNT, 40000, &err);
        ranks_assert(r != NULL, "%s", err.message);
        at_rng rng = at_rng_stream(3, "bits", (uint64_t)at_comm_rank(ranks_comm()));
        at_reducer_begin(r);
        for (size_t i = 0; i < COUNT; i++) {
            grads[i] = (float)at_rng_normal(&rng);
            if (i % 9999 == 0)
                at_reducer_ready(r, i);
        }
        int code = at_reducer_finish(r, &err);
        ranks_assert(code == 0, "%s", err.message);
        crc[run] = at_crc32c(0, grads, COUNT * sizeof *grads);
        ranks_assert(ranks_agree(grads, COUNT * sizeof *grads), "ranks differ");
        ranks_assert(isfinite(at_reducer_waited(r)) && at_reducer_waited(r) >= 0, "waited");
        at_reducer_free(r);
    }
    ranks_assert(crc[0] == crc[1], "a second run differs");
    at_comm_dealloc(ranks_comm(), grads);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_for_any_bucket),
        cmocka_unit_test(starts_while_backward_still_runs),
        cmocka_unit_test(same_bits_in_every_run),
    };
    return ranks_run(tests, sizeof tests / sizeof *tests);
}
