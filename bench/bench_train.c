/* SPDX-License-Identifier: Apache-2.0
 * atoll bench train: images a second of whole training steps (forward, loss, backward, update) on
 * synthetic pixels, beside their floor, measured in the same run.
 *
 * The floor is the convolutions' own time (each primitive alone and warm, the fastest candidate)
 * plus the bytes that every other layer must move, each tensor once each way, at the bandwidth of a
 * plain copy with as many threads. An activation done in another layer's pass moves nothing; update
 * and reorders are not in it either: it cannot be reached.
 */
#include <atoll/bench.h>

#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { WARM_UP = 3, COPIES = 7 };
static const size_t copied = (size_t)128 << 20;

typedef struct bench {
    at_net *net;
    at_plan *plan;
    int batch, threads, classes;
    uint8_t *pixels;
    int32_t *labels;
    float *velocity;
} bench;

/* Nesterov's momentum as torch.optim.SGD has it, without weight decay. */
static void update(bench *b)
{
    const float rate = 1e-3f, momentum = 0.9f;
    float *weights = at_net_params(b->net), *velocity = b->velocity;
    const float *grads = at_net_grads(b->net);
    size_t n = at_net_param_count(b->net);
#pragma omp parallel for simd schedule(static) num_threads(b->threads)
    for (size_t i = 0; i < n; i++) {
        velocity[i] = momentum * velocity[i] + grads[i];
        weights[i] -= rate * (grads[i] + momentum * velocity[i]);
    }
}

static int step(bench *b, double *seconds, at_error *err)
{
    at_plan_input in = {.pixels = b->pixels, .labels = b->labels, .scale = 1 / (float)b->batch};
    at_plan_stats stats = {0};
    double start = at_now();
    int status = at_plan_train(b->plan, &in, &stats, err);
    if (!status)
        update(b);
    *seconds = at_now() - start;
    return status;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds of the median and of the fastest step; then some more that are timed layer by layer. */
static int time_steps(bench *b, int steps, int profiled, double *median, double *best,
                      at_error *err)
{
    double unused = 0;
    double *seconds = calloc((size_t)steps + WARM_UP, sizeof *seconds);
    if (!seconds)
        return at_nomem(err);
    int status = 0;
    for (int i = 0; i < WARM_UP + steps && !status; i++) {
        status = step(b, &seconds[i < WARM_UP ? 0 : i - WARM_UP], err);
        if (!status && at_interrupted())
            status = at_fail(err, AT_EINTERRUPTED, "interrupted");
    }
    at_plan_profile(b->plan, true);
    for (int i = 0; i < profiled && !status; i++)
        status = step(b, &unused, err);
    at_plan_profile(b->plan, false);
    qsort(seconds, (size_t)steps, sizeof *seconds, ascending);
    *median = seconds[steps / 2];
    *best = seconds[0];
    free(seconds);
    return status;
}

/* Bytes read and written a second by the fastest of some copies. */
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

static int prepare(bench *b, const at_bench_train_options *o, at_error *err)
{
    const at_model_spec *spec = &o->spec;
    at_graph *g = at_model_graph(o->model, spec, err);
    b->net = g ? at_net_new(g, 1, err) : NULL;
    at_graph_free(g);
    at_plan_options options = {.batch = b->batch,
                               .precision = o->precision,
                               .training = true,
                               .threads = b->threads,
                               .seed = 1};
    b->plan = b->net ? at_plan_new(b->net, &options, err) : NULL;
    if (!b->plan)
        return AT_EFAIL;
    size_t bytes = (size_t)b->batch * (size_t)spec->channels * (size_t)spec->height;
    bytes *= (size_t)spec->width;
    b->pixels = malloc(bytes);
    b->labels = malloc((size_t)b->batch * sizeof *b->labels);
    b->velocity = at_alloc_aligned(at_net_param_count(b->net) * sizeof(float));
    if (!b->pixels || !b->labels || !b->velocity)
        return at_nomem(err);
    at_rng rng = at_rng_stream(1, "bench", 0);
    for (size_t i = 0; i < bytes; i++)
        b->pixels[i] = (uint8_t)at_rng_next(&rng);
    for (int i = 0; i < b->batch; i++)
        b->labels[i] = (int32_t)at_rng_below(&rng, (uint64_t)spec->classes);
    return 0;
}

static void finish(bench *b)
{
    at_plan_free(b->plan);
    at_net_free(b->net);
    free(b->pixels);
    free(b->labels);
    at_free_aligned(b->velocity);
}

static at_node *report(const bench *b, const at_bench_train_options *o, double median, double best,
                       const at_plan_floor *floor, double bandwidth)
{
    double images = (double)b->batch;
    double least = floor->conv_seconds + floor->other_bytes / bandwidth;
    at_node *out = at_node_new(AT_MAP);
    at_set_string(out, "model", o->model);
    at_set_string(out, "precision", o->precision == AT_BF16 ? "bf16" : "fp32");
    at_set_int(out, "channels", o->spec.channels);
    at_set_int(out, "height", o->spec.height);
    at_set_int(out, "width", o->spec.width);
    at_set_int(out, "classes", o->spec.classes);
    at_set_int(out, "batch", b->batch);
    at_set_int(out, "threads", b->threads);
    at_set_real(out, "images_per_second", images / median);
    at_set_real(out, "best", images / best);
    at_set_real(out, "floor_images_per_second", images / least);
    at_set_real(out, "floor_fraction", least / median);
    at_set_real(out, "step_seconds", median);
    at_set_real(out, "conv_seconds", floor->conv_seconds);
    at_set_real(out, "other_bytes", floor->other_bytes);
    at_set_real(out, "copy_gigabytes_per_second", bandwidth / 1e9);
    at_set_int(out, "arena_bytes", (int64_t)at_plan_bytes(b->plan));
    at_set_int(out, "peak_rss_bytes", (int64_t)at_peak_rss());
    if (o->profile)
        at_node_set(out, "profile", at_plan_profile_result(b->plan));
    return out;
}

at_node *at_bench_train(const at_bench_train_options *o, at_error *err)
{
    bench b = {.batch = o->batch, .threads = o->threads > 0 ? o->threads : at_cpu_count()};
    double median = 0, best = 0, bandwidth = 0;
    at_plan_floor floor = {0};
    at_node *result = NULL;
    int status = o->steps > 0 ? 0 : at_fail(err, AT_EUSAGE, "bench train: needs a step at least");
    if (!status)
        status = prepare(&b, o, err);
    if (!status)
        status = time_steps(&b, o->steps, o->profile ? o->steps : 0, &median, &best, err);
    if (!status)
        status = copy_bandwidth(b.threads, &bandwidth, err);
    if (!status)
        status = at_plan_measure_floor(b.plan, &floor, err);
    if (!status)
        result = report(&b, o, median, best, &floor, bandwidth);
    finish(&b);
    return result;
}
