/* SPDX-License-Identifier: Apache-2.0
 * A network over one split of a cache, shared by the ranks, with test-time augmentation: the scores
 * of several views of each image (mirrored; moved by a pixel) are averaged.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

/* Pictures at once: fewer of large ones, so that a plan's memory stays within bounds. */
enum { EVAL_BATCH = 250, EVAL_PIXELS = EVAL_BATCH * 64 * 64 };

typedef struct view {
    int flip, down, right;
} view;

static const struct {
    const char *name;
    size_t count;
    view views[6];
} ttas[] = {
    {"none", 1, {{0, 0, 0}}},
    {"flip", 2, {{0, 0, 0}, {1, 0, 0}}},
    {"shift", 6, {{0, 0, 0}, {1, 0, 0}, {0, 1, 1}, {1, 1, 1}, {0, -1, -1}, {1, -1, -1}}},
};
enum { TTAS = sizeof ttas / sizeof *ttas };

static int clamp(int v, int below)
{
    return v < 0 ? 0 : v >= below ? below - 1 : v;
}

/* One view of an image [H,W,C]; what moves in from outside repeats the edge. */
static void make_view(const view *v, const uint8_t *in, int height, int width, int channels,
                      uint8_t *out)
{
    for (int y = 0; y < height; y++) {
        const uint8_t *row =
            in + (size_t)clamp(y - v->down, height) * (size_t)width * (size_t)channels;
        for (int x = 0; x < width; x++, out += channels) {
            int from = clamp(x - v->right, width);
            from = v->flip ? width - 1 - from : from;
            memcpy(out, row + (size_t)from * (size_t)channels, (size_t)channels);
        }
    }
}

typedef struct evaluation {
    at_plan *plan;
    at_loader *loader;
    at_metrics *metrics;
    uint8_t *pixels; /* [B,H,W,C] of one view */
    float *scores;   /* [B,classes], the mean over views */
    size_t tta, batch, classes;
    int height, width, channels;
} evaluation;

static const uint8_t *view_of(evaluation *e, const at_batch *batch, const view *v)
{
    if (!v->flip && !v->down && !v->right)
        return batch->pixels;
    size_t bytes = (size_t)e->height * (size_t)e->width * (size_t)e->channels;
    for (size_t i = 0; i < e->batch; i++)
        make_view(v, batch->pixels + i * bytes, e->height, e->width, e->channels,
                  e->pixels + i * bytes);
    return e->pixels;
}

static int score_batch(evaluation *e, const at_batch *batch, at_error *err)
{
    size_t views = ttas[e->tta].count;
    const float share = 1.0f / (float)views;
    memset(e->scores, 0, e->batch * e->classes * sizeof *e->scores);
    for (size_t v = 0; v < views; v++) {
        at_plan_input in = {.pixels = view_of(e, batch, &ttas[e->tta].views[v])};
        int code = at_plan_infer(e->plan, &in, NULL, err);
        if (code < 0)
            return code;
        const float *scores = at_plan_scores(e->plan);
        for (size_t i = 0; i < e->batch * e->classes; i++)
            e->scores[i] += share * scores[i];
    }
    at_metrics_add(e->metrics, e->scores, batch->labels, batch->weights, e->batch);
    return 0;
}

static int score_all(evaluation *e, at_error *err)
{
    at_batch batch;
    int more;
    while ((more = at_loader_next(e->loader, &batch, err)) == 1) {
        int code = score_batch(e, &batch, err);
        if (code < 0)
            return code;
    }
    return more;
}

static int find_tta(const char *name, size_t *out, at_error *err)
{
    for (size_t i = 0; i < TTAS; i++)
        if (!strcmp(ttas[i].name, name ? name : "none")) {
            *out = i;
            return 0;
        }
    return at_fail(err, AT_EUSAGE, "tta: there is no \"%s\" (none, flip or shift)", name);
}

static int check_fits(at_net *net, at_cache *cache, at_error *err)
{
    int nc, nh, nw, h, w, c;
    at_net_input_shape(net, &nc, &nh, &nw);
    at_cache_shape(cache, &h, &w, &c);
    if (nc != c || nh != h || nw != w)
        return at_fail(err, AT_EINPUT,
                       "the model takes %dx%dx%d pictures, the cache %s holds %dx%dx%d", nh, nw, nc,
                       at_cache_path(cache), h, w, c);
    if ((size_t)at_net_classes(net) != at_cache_classes(cache))
        return at_fail(err, AT_EINPUT, "the model knows %d classes, the data set has %zu",
                       at_net_classes(net), at_cache_classes(cache));
    return 0;
}

static int evaluation_begin(evaluation *e, at_net *net, at_cache *cache, at_split split,
                            int threads, at_comm *comm, at_error *err)
{
    at_cache_shape(cache, &e->height, &e->width, &e->channels);
    size_t area = (size_t)e->height * (size_t)e->width, fit = EVAL_PIXELS / area;
    e->batch = fit < 1 ? 1 : fit < EVAL_BATCH ? fit : EVAL_BATCH;
    e->classes = at_cache_classes(cache);
    e->metrics = at_metrics_new(e->classes);
    e->pixels = at_alloc_aligned(e->batch * area * (size_t)e->channels);
    e->scores = at_alloc_aligned(e->batch * e->classes * sizeof *e->scores);
    at_plan_options options = {.batch = (int)e->batch, .threads = threads};
    e->plan = at_build_plan(comm, net, &options, err);
    if (!e->plan)
        return err->code;
    if (!e->metrics || !e->pixels || !e->scores)
        return at_nomem(err);
    at_loader_spec spec = {
        .cache = cache,
        .split = split,
        .sampler = {.ranks = comm ? (size_t)at_comm_size(comm) : 1, .batch = e->batch},
        .rank = comm ? (size_t)at_comm_rank(comm) : 0,
        .epochs = 1,
        .threads = at_cache_loader_threads(cache, threads)};
    e->loader = at_loader_new(&spec, err);
    return e->loader ? 0 : err->code;
}

static void evaluation_end(evaluation *e)
{
    at_loader_free(e->loader);
    at_plan_free(e->plan);
    at_metrics_free(e->metrics);
    at_free_aligned(e->pixels);
    at_free_aligned(e->scores);
}

static at_node *result(const evaluation *e, const at_cache *cache)
{
    const char **names = calloc(e->classes ? e->classes : 1, sizeof *names);
    if (!names)
        return NULL;
    for (size_t i = 0; i < e->classes; i++)
        names[i] = at_cache_class_name(cache, i);
    at_node *node = at_metrics_result(e->metrics, names);
    free(names);
    return node;
}

/* Names the split that it can be measured on instead: rather val than train. */
static void fail_for_no_images(const at_cache *cache, at_split split, at_error *err)
{
    static const at_split others[] = {AT_TEST, AT_VAL, AT_TRAIN};
    const char *has = NULL;
    for (size_t i = 0; i < AT_SPLITS && !has; i++)
        has = at_cache_count(cache, others[i]) > 0 ? at_split_name(others[i]) : NULL;
    at_fail(err, AT_EINPUT, "the data set has no images in its %s split%s%s%s",
            at_split_name(split), has ? "; --split " : "", has ? has : "", has ? " has some" : "");
}

at_node *at_evaluate(at_net *net, at_cache *cache, at_split split, const char *tta, int threads,
                     at_comm *comm, at_error *err)
{
    evaluation e = {0};
    at_node *node = NULL;
    at_error local = {0};
    err = err ? err : &local;
    if (find_tta(tta, &e.tta, err) < 0 || check_fits(net, cache, err) < 0)
        return NULL;
    if (at_cache_count(cache, split) == 0) {
        fail_for_no_images(cache, split, err);
        return NULL;
    }
    int code = evaluation_begin(&e, net, cache, split, threads, comm, err);
    code = at_agree(comm, code < 0 ? code : score_all(&e, err), err);
    code = code < 0 ? code : at_metrics_reduce(e.metrics, comm, err);
    if (code == 0 && !(node = result(&e, cache)))
        at_nomem(err);
    evaluation_end(&e);
    return node;
}
