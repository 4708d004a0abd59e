/* SPDX-License-Identifier: Apache-2.0
 * atoll bench predict: seconds of one inference pass over synthetic pixels, of a model file or of
 * an architecture by name, beside its floor (bench_train.c). The model is loaded and planned
 * before.
 */
#include "timing.h"

#include <stdlib.h>
#include <string.h>

typedef struct bench {
    at_net *net;
    at_plan *plan;
    uint8_t *pixels;
} bench;

static at_net *open_net(const at_bench_net_options *o, at_error *err)
{
    size_t n = strlen(o->model);
    if (n > 3 && !strcmp(o->model + n - 3, ".h5"))
        return at_model_load(o->model, NULL, err);
    at_graph *g = at_model_graph(o->model, &o->spec, err);
    at_net *net = g ? at_net_new(g, 1, err) : NULL;
    at_graph_free(g);
    return net;
}

static int prepare(bench *b, const at_bench_net_options *o, double *plan_seconds, at_error *err)
{
    b->net = open_net(o, err);
    if (!b->net)
        return AT_EFAIL;
    double start = at_now();
    at_plan_options options = {.batch = o->batch,
                               .precision = o->precision,
                               .threads = o->threads,
                               .constant = true,
                               .seed = 1};
    b->plan = at_plan_new(b->net, &options, err);
    *plan_seconds = at_now() - start;
    at_rng rng = at_rng_stream(1, "bench", 0);
    b->pixels = b->plan ? bench_pixels(b->net, o->batch, &rng, err) : NULL;
    return b->pixels ? 0 : AT_EFAIL;
}

static int step(void *context, at_error *err)
{
    const bench *b = context;
    at_plan_input in = {.pixels = b->pixels};
    return at_plan_infer(b->plan, &in, NULL, err);
}

at_node *at_bench_predict(const at_bench_net_options *o, at_error *err)
{
    bench b = {0};
    bench_measured got = {0};
    double plan_seconds = 0;
    int threads = o->threads > 0 ? o->threads : at_cpu_count();
    int status = prepare(&b, o, &plan_seconds, err);
    if (!status)
        status = bench_measure(o, b.plan, step, &b, threads, &got, err);
    at_node *out = status ? NULL : at_node_new(AT_MAP);
    if (out) {
        at_set_string(out, "model", o->model);
        at_set_int(out, "batch", o->batch);
        at_set_real(out, "seconds", got.times.median);
        at_set_real(out, "best", got.times.best);
        at_set_real(out, "images_per_second", o->batch / got.times.median);
        at_set_real(out, "floor_seconds", bench_floor_seconds(&got.floor, got.bandwidth));
        at_set_real(out, "plan_seconds", plan_seconds);
        at_set_real(out, "copy_gigabytes_per_second", got.bandwidth / 1e9);
        at_set_int(out, "peak_rss_bytes", (int64_t)got.peak);
        if (o->profile)
            at_node_set(out, "profile", at_plan_profile_result(b.plan));
    }
    at_plan_free(b.plan);
    at_net_free(b.net);
    free(b.pixels);
    return out;
}
