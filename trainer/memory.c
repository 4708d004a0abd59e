/* SPDX-License-Identifier: Apache-2.0
 * Whether a training fits into memory, told before it begins: a rank's share of what the machine, its
 * cgroups and its resource limits leave (base/memory_limit.c), or what the key `memory` allows it.
 *
 * Weights, gradients and the optimizer's values are there when the batch is judged, so only the
 * plan's arena is still to come. A tenth stays for images in flight and for libraries; a plan that is
 * made may take half of that, being a little larger than foreseen, or the process.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

static const double usable = 0.9, usable_once_made = 0.95;

/* What a process takes beside the plan differs by some MB from one start to the next, so the batch
 * that is offered instead of one refused needs this part of what is left now. */
static const double offered = 0.95;

/* Bytes that this rank may still take for its arena. */
static int left(const at_training *t, double part, size_t *out, at_error *err)
{
    double told;
    int code = at_parse_bytes("memory", t->job->config->memory, &told, err);
    bool shared = false;
    double bytes = (double)at_memory_available(&shared);
    if (shared)
        bytes /= at_comm_local_size(t->comm);
    if (told > 0)
        bytes = told - (double)at_current_rss();
    *out = bytes > 0 ? (size_t)(part * bytes) : 0;
    return code;
}

static double mega(size_t bytes)
{
    return 1e-6 * (double)bytes;
}

int at_check_weights_fit(const at_training *t, const at_graph *graph, at_error *err)
{
    size_t free_bytes, count = at_graph_param_count(graph, err);
    int code = count ? left(t, usable, &free_bytes, err) : AT_EINPUT;
    size_t least = 3 * count * sizeof(float); /* values, gradients, momentum */
    if (code || least <= free_bytes)
        return code;
    return at_fail(err, AT_EINPUT,
                   "the %zu weights of %s need %.0f MB with gradients and momentum, and %.0f MB "
                   "are left: take a smaller model or image, or give it more memory",
                   count, t->job->model, mega(least), mega(free_bytes));
}

/* largest 0: not even one image. */
static int refuse(const at_training *t, size_t needed, size_t free_bytes, int largest,
                  at_error *err)
{
    char remedy[100] = "a single image does not fit either: take a smaller model or image";
    if (largest)
        snprintf(remedy, sizeof remedy, "the largest batch that fits is %d (--batch %d)", largest,
                 largest);
    return at_fail(err, AT_EINPUT,
                   "a batch of %lld needs %.0f MB beside the weights, and %.0f MB are left; %s",
                   (long long)t->job->config->batch, mega(needed), mega(free_bytes), remedy);
}

int at_check_batch_fits(const at_training *t, const at_plan_options *options, at_error *err)
{
    size_t free_bytes, needed = at_plan_size(t->net, options, err);
    int code = needed ? left(t, usable, &free_bytes, err) : AT_EINPUT;
    if (code || needed <= free_bytes)
        return code;
    size_t enough = (size_t)(offered * (double)free_bytes);
    int largest = at_plan_largest_batch(t->net, options, enough);
    if (!largest)
        largest = at_plan_largest_batch(t->net, options, free_bytes);
    return refuse(t, needed, free_bytes, largest, err);
}

int at_check_plan_fits(const at_training *t, at_error *err)
{
    size_t free_bytes, needed = at_plan_bytes(t->plan);
    int code = left(t, usable_once_made, &free_bytes, err);
    if (code || needed <= free_bytes)
        return code;
    double batch = (double)t->job->config->batch;
    int largest = (int)(offered * usable * (double)free_bytes / (double)needed * batch);
    return refuse(t, needed, free_bytes, largest || batch < 2 ? largest : 1, err);
}
