/* SPDX-License-Identifier: Apache-2.0
 * atoll bench train: images a second of whole training steps (forward, loss, backward, update) on
 * synthetic pixels, beside their floor, measured in the same run.
 *
 * The floor is the own time of convolutions and fully connected layers (each primitive alone and
 * warm, the fastest candidate) plus the bytes that every other layer must move, each tensor once
 * each way, at the bandwidth of a plain copy with as many threads. An activation done in another
 * layer's pass moves nothing; update and reorders are not in it either: it cannot be reached.
 */
#include "timing.h"

#include <stdlib.h>
#include <string.h>

typedef struct bench {
    at_net *net;
    at_plan *plan;
    int batch, threads;
    double plan_seconds;
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

static int step(void *context, at_error *err)
{
    bench *b = context;
    at_plan_input in = {.pixels = b->pixels, .labels = b->labels, .scale = 1 / (float)b->batch};
    at_plan_stats stats = {0};
    int status = at_plan_train(b->plan, &in, &stats, err);
    if (!status)
        update(b);
    return status;
}

static int prepare(bench *b, const at_bench_net_options *o, at_error *err)
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
    double start = at_now();
    b->plan = b->net ? at_plan_new(b->net, &options, err) : NULL;
    b->plan_seconds = at_now() - start;
    if (!b->plan)
        return AT_EFAIL;
    at_rng rng = at_rng_stream(1, "bench", 0);
    b->pixels = bench_pixels(b->net, b->batch, &rng, err);
    b->labels = malloc((size_t)b->batch * sizeof *b->labels);
    b->velocity = at_alloc_aligned(at_net_param_count(b->net) * sizeof(float));
    if (!b->pixels || !b->labels || !b->velocity)
        return at_nomem(err);
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

static at_node *report(const bench *b, const at_bench_net_options *o, const bench_measured *got)
{
    double images = (double)b->batch, least = bench_floor_seconds(&got->floor, got->bandwidth);
    at_node *out = at_node_new(AT_MAP);
    at_set_string(out, "model", o->model);
    at_set_string(out, "precision", o->precision == AT_BF16 ? "bf16" : "fp32");
    at_set_int(out, "channels", o->spec.channels);
    at_set_int(out, "height", o->spec.height);
    at_set_int(out, "width", o->spec.width);
    at_set_int(out, "classes", o->spec.classes);
    at_set_int(out, "batch", b->batch);
    at_set_int(out, "threads", b->threads);
    at_set_real(out, "images_per_second", images / got->times.median);
    at_set_real(out, "best", images / got->times.best);
    at_set_real(out, "floor_images_per_second", images / least);
    at_set_real(out, "floor_fraction", least / got->times.median);
    at_set_real(out, "step_seconds", got->times.median);
    at_set_real(out, "conv_seconds", got->floor.conv_seconds);
    at_set_real(out, "other_bytes", got->floor.other_bytes);
    at_set_real(out, "copy_gigabytes_per_second", got->bandwidth / 1e9);
    at_set_real(out, "plan_seconds", b->plan_seconds);
    at_set_int(out, "arena_bytes", (int64_t)at_plan_bytes(b->plan));
    at_set_int(out, "peak_rss_bytes", (int64_t)got->peak);
    if (o->profile)
        at_node_set(out, "profile", at_plan_profile_result(b->plan));
    return out;
}

at_node *at_bench_train(const at_bench_net_options *o, at_error *err)
{
    bench b = {.batch = o->batch, .threads = o->threads > 0 ? o->threads : at_cpu_count()};
    bench_measured got = {0};
    int status = o->steps > 0 ? 0 : at_fail(err, AT_EUSAGE, "bench train: needs a step at least");
    if (!status)
        status = prepare(&b, o, err);
    if (!status)
        status = bench_measure(o, b.plan, step, &b, b.threads, &got, err);
    at_node *result = status ? NULL : report(&b, o, &got);
    finish(&b);
    return result;
}
