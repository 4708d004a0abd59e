/* SPDX-License-Identifier: Apache-2.0
 * timing: what benchmarks share: pixels, sorted seconds, a profile, the machine's copy bandwidth,
 * and a folder to work in.
 */
#ifndef BENCH_TIMING_H
#define BENCH_TIMING_H

#include <atoll/bench.h>

typedef struct bench_times {
    double median, best; /* seconds of a step */
} bench_times;

typedef int (*bench_step)(void *context, at_error *err);
/* Runs step(context) `warm_up` times, then `steps` times on the clock. AT_EINTERRUPTED on a
 * signal. */
int bench_time_steps(bench_step step, void *context, int warm_up, int steps, bench_times *out,
                     at_error *err);
/* Some more steps, timed layer by layer, for at_plan_profile_result(). */
int bench_profile(at_plan *plan, bench_step step, void *context, int steps, at_error *err);
/* A batch of random pixels for the network, malloc'd; `rng` goes on behind them. NULL: no memory. */
uint8_t *bench_pixels(const at_net *net, int batch, at_rng *rng, at_error *err);
/* Bytes read and written a second by the fastest of some plain copies with that many threads. */
int bench_copy_bandwidth(int threads, double *bandwidth, at_error *err);
/* Makes a new folder in $TMPDIR, or /tmp; removes it with all in it. */
enum { BENCH_FOLDER = 200 };
int bench_make_folder(char folder[BENCH_FOLDER], at_error *err);
void bench_remove_folder(const char *folder); /* "": does nothing */
/* Seconds that a plan's step takes at least, its convolutions and fully connected layers alone and
 * the others' bytes at that bandwidth. */
double bench_floor_seconds(const at_plan_floor *floor, double bandwidth);

#endif
