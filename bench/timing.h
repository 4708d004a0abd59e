/* SPDX-License-Identifier: Apache-2.0
 * timing: what the benchmarks of networks share: sorted seconds and the machine's copy bandwidth.
 */
#ifndef BENCH_TIMING_H
#define BENCH_TIMING_H

#include <atoll/bench.h>

typedef struct bench_times {
    double median, best; /* seconds of a step */
} bench_times;

/* Runs step(context) `warm_up` times, then `steps` times on the clock. AT_EINTERRUPTED on a signal. */
int bench_time_steps(int (*step)(void *context, at_error *err), void *context, int warm_up,
                     int steps, bench_times *out, at_error *err);
/* Bytes read and written a second by the fastest of some plain copies with that many threads. */
int bench_copy_bandwidth(int threads, double *bandwidth, at_error *err);
/* Seconds that a plan's step takes at least, its convolutions and fully connected layers alone and
 * the others' bytes at that bandwidth. */
double bench_floor_seconds(const at_plan_floor *floor, double bandwidth);

#endif
