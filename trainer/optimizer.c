/* SPDX-License-Identifier: Apache-2.0
 * One optimizer over the flat buffers: the parameters are cut once into segments of equal weight
 * decay and cache size, and every step is one parallel pass over them. Elements are independent, so
 * threads do not change a bit.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

enum { SEGMENT = 32768, SERIAL_BELOW = 262144 };

typedef struct segment {
    size_t begin, end;
    float decay;
} segment;

struct at_optimizer {
    const at_optimizer_kind *kind;
    at_update update;
    segment *segments;
    size_t count, params;
    int threads;
};

#define OPTIMIZER(name) extern const at_optimizer_kind at_optimizer_##name;
#include "optimizers.def"
#undef OPTIMIZER

static const at_optimizer_kind *const kinds[] = {
#define OPTIMIZER(name) &at_optimizer_##name,
#include "optimizers.def"
#undef OPTIMIZER
};

static const at_optimizer_kind *find(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kinds[i]->name, name))
            return kinds[i];
    return NULL;
}

static bool cut_segments(at_optimizer *o, at_net *net, float decay)
{
    size_t most = o->params / SEGMENT + 2 * at_net_params_listed(net) + 1;
    o->segments = calloc(most, sizeof *o->segments);
    if (!o->segments)
        return false;
    for (size_t i = 0; i < at_net_params_listed(net); i++) {
        const at_param *p = at_net_param(net, i);
        if (p->frozen)
            continue;
        for (size_t at = p->offset; at < p->offset + p->count; at += SEGMENT) {
            size_t end = p->offset + p->count < at + SEGMENT ? p->offset + p->count : at + SEGMENT;
            o->segments[o->count++] = (segment){at, end, p->decay ? decay : 0};
        }
    }
    return true;
}

at_optimizer *at_optimizer_new(at_net *net, const at_train_config *config, int threads,
                               at_error *err)
{
    at_optimizer *o = calloc(1, sizeof *o);
    if (!o)
        goto fail;
    o->kind = find(config->optimizer);
    if (!o->kind) {
        at_fail(err, AT_EINPUT, "optimizer: there is no \"%s\"", config->optimizer);
        goto fail_told;
    }
    o->params = at_net_param_count(net);
    o->threads = threads;
    o->update = (at_update){.params = at_net_params(net), .config = config};
    for (size_t i = 0; i < o->kind->slots; i++)
        if (!(o->update.slots[i] = at_alloc_aligned(o->params * sizeof(float))))
            goto fail;
    if (!cut_segments(o, net, (float)config->weight_decay))
        goto fail;
    return o;
fail:
    at_nomem(err);
fail_told:
    at_optimizer_free(o);
    return NULL;
}

void at_optimizer_free(at_optimizer *o)
{
    if (!o)
        return;
    for (size_t i = 0; i < AT_OPTIMIZER_SLOTS; i++)
        at_free_aligned(o->update.slots[i]);
    free(o->segments);
    free(o);
}

void at_optimizer_step(at_optimizer *o, const float *grads, double lr)
{
    o->update.grads = grads;
    o->update.lr = (float)lr;
    o->update.step++;
#pragma omp parallel for num_threads(o->threads) schedule(static) if (o->params >= SERIAL_BELOW)
    for (size_t i = 0; i < o->count; i++)
        o->kind->update(&o->update, o->segments[i].begin, o->segments[i].end, o->segments[i].decay);
}

const char *at_optimizer_name(const at_optimizer *o)
{
    return o->kind->name;
}

size_t at_optimizer_slots(const at_optimizer *o)
{
    return o->kind->slots;
}

float *at_optimizer_slot(at_optimizer *o, size_t i)
{
    return o->update.slots[i];
}

uint64_t at_optimizer_steps(const at_optimizer *o)
{
    return o->update.step;
}

void at_optimizer_set_steps(at_optimizer *o, uint64_t steps)
{
    o->update.step = steps;
}
