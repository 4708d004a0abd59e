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
/* What a plan's steps take, and the floor that this machine sets them. */
typedef struct bench_measured {
    bench_times times;
    at_plan_floor floor;
    double bandwidth; /* bytes a second */
    size_t peak;      /* bytes resident, before the floor was measured */
} bench_measured;
/* Runs step(context) a few times, then o->steps times on the clock, and with o->profile some more for
 * at_plan_profile_result(); then the floor, copies with that many threads. AT_EINTERRUPTED on a signal. */
int bench_measure(const at_bench_net_options *o, at_plan *plan, bench_step step, void *context,
                  int threads, bench_measured *out, at_error *err);
/* A batch of random pixels for the network, malloc'd; `rng` goes on behind them. NULL: no memory. */
uint8_t *bench_pixels(const at_net *net, int batch, at_rng *rng, at_error *err);
/* Makes a new folder in $TMPDIR, or /tmp; removes it with all in it. */
enum { BENCH_FOLDER = 200 };
int bench_make_folder(char folder[BENCH_FOLDER], at_error *err);
void bench_remove_folder(const char *folder); /* "": does nothing */
/* Seconds that a plan's step takes at least, its convolutions and fully connected layers alone and
 * the others' bytes at that bandwidth. */
double bench_floor_seconds(const at_plan_floor *floor, double bandwidth);

#endif
