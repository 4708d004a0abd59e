/* SPDX-License-Identifier: Apache-2.0
 * timing: see timing.h. Medians say what a user gets, the fastest what the machine can do.
 */
#include "timing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { WARM_UP = 3, COPIES = 7 };
static const size_t copied = (size_t)128 << 20;

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int time_one(bench_step step, void *context, double *seconds, at_error *err)
{
    double start = at_now();
    int status = step(context, err);
    *seconds = at_now() - start;
    if (!status && at_interrupted())
        status = at_fail(err, AT_EINTERRUPTED, "interrupted");
    return status;
}

static int time_steps(bench_step step, void *context, int warm_up, int steps, bench_times *out,
                      at_error *err)
{
    double unused = 0, *seconds = calloc((size_t)steps + 1, sizeof *seconds);
    if (!seconds)
        return at_nomem(err);
    int status = 0;
    for (int i = 0; i < warm_up && !status; i++)
        status = time_one(step, context, &unused, err);
    for (int i = 0; i < steps && !status; i++)
        status = time_one(step, context, &seconds[i], err);
    qsort(seconds, (size_t)steps, sizeof *seconds, ascending);
    *out = (bench_times){seconds[steps / 2], seconds[0]};
    free(seconds);
    return status;
}

/* Some more steps, timed layer by layer. */
static int profile(at_plan *plan, bench_step step, void *context, int steps, at_error *err)
{
    bench_times unused;
    at_plan_profile(plan, true);
    int status = time_steps(step, context, 0, steps, &unused, err);
    at_plan_profile(plan, false);
    return status;
}

/* Bytes read and written a second by the fastest of some plain copies. */
static int copy_bandwidth(int threads, double *bandwidth, at_error *err)
{
    char *from = at_alloc_aligned(copied), *to = at_alloc_aligned(copied);
    double best = 1e30;
    for (int k = 0; k < COPIES && from && to; k++) {
        double start = at_now();
#pragma omp parallel for schedule(static) num_threads(threads)
        for (int i = 0; i < threads; i++) {
            size_t begin = copied / (size_t)threads * (size_t)i;
            memcpy(to + begin, from + begin, copied / (size_t)threads);
        }
        double seconds = at_now() - start;
        best = seconds < best ? seconds : best;
    }
    int status = from && to ? 0 : at_nomem(err);
    *bandwidth = 2 * (double)copied / best;
    at_free_aligned(from);
    at_free_aligned(to);
    return status;
}

int bench_measure(const at_bench_net_options *o, at_plan *plan, bench_step step, void *context,
                  int threads, bench_measured *out, at_error *err)
{
    *out = (bench_measured){0};
    int status = time_steps(step, context, WARM_UP, o->steps, &out->times, err);
    if (!status && o->profile)
        status = profile(plan, step, context, o->steps, err);
    out->peak = at_peak_rss();
    if (!status)
        status = copy_bandwidth(threads, &out->bandwidth, err);
    return status ? status : at_plan_measure_floor(plan, &out->floor, err);
}

uint8_t *bench_pixels(const at_net *net, int batch, at_rng *rng, at_error *err)
{
    int channels, height, width;
    at_net_input_shape(net, &channels, &height, &width);
    size_t bytes = (size_t)batch * (size_t)channels * (size_t)height * (size_t)width;
    uint8_t *pixels = malloc(bytes);
    if (!pixels)
        at_nomem(err);
    for (size_t i = 0; pixels && i < bytes; i++)
        pixels[i] = (uint8_t)at_rng_next(rng);
    return pixels;
}

double bench_floor_seconds(const at_plan_floor *floor, double bandwidth)
{
    return floor->conv_seconds + floor->other_bytes / bandwidth;
}

int bench_make_folder(char folder[BENCH_FOLDER], at_error *err)
{
    const char *tmp = getenv("TMPDIR");
    tmp = tmp && *tmp ? tmp : "/tmp";
    snprintf(folder, BENCH_FOLDER, "%.150s/atoll-bench-XXXXXX", tmp);
    if (mkdtemp(folder))
        return 0;
    folder[0] = 0;
    return at_fail_errno(err, errno, "cannot make a folder in %s", tmp);
}

void bench_remove_folder(const char *folder)
{
    if (folder[0])
        at_remove_tree(folder, NULL);
}
