/* SPDX-License-Identifier: Apache-2.0
 * plan_support: what the layers' build() and kernels need of a plan: buffers, layouts, views,
 * threads.
 *
 * Work is shared out in fixed parts, so the order of every sum depends on the number of threads
 * alone.
 */
#include "plan.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { WORTH_WAKING = 64 << 10 }; /* bytes */

int plan_back(const plan_op *op)
{
    int n = op->plan->op_count;
    return op->plan->options.training ? n + 2 * (n - 1 - op->index) : op->index;
}

bool plan_grad_is_there(const plan_op *op, int k)
{
    bool there = op->in[k]->consumer != op;
    for (int j = 0; j < k; j++)
        there |= op->in[j] == op->in[k];
    return there;
}

bool plan_grad_is_final(const plan_op *op, int k)
{
    for (int i = 0; i < op->index; i++) {
        const plan_op *other = &op->plan->ops[i];
        for (int j = 0; j < other->input_count && !other->absorbed; j++)
            if (other->in[j] == op->in[k])
                return false;
    }
    return true;
}

int plan_want(plan_op *op, void **to, size_t bytes, plan_life life, at_error *err)
{
    at_plan *p = op->plan;
    if (p->buffer_count == p->buffer_capacity) {
        size_t capacity = p->buffer_capacity ? 2 * p->buffer_capacity : 64;
        plan_buffer *grown = realloc(p->buffers, capacity * sizeof *grown);
        if (!grown)
            return at_nomem(err);
        p->buffers = grown;
        p->buffer_capacity = capacity;
    }
    int forth = op->index, back = plan_back(op);
    const struct {
        int from, until;
    } lives[PLAN_LIVES] = {
        [LIVES_FORWARD] = {forth, forth},  [LIVES_BACKWARD] = {back, back + 1},
        [LIVES_FOR_PARAMS] = {back, back}, [LIVES_FOR_INPUTS] = {back + 1, back + 1},
        [LIVES_BOTH] = {forth, back + 1},  [LIVES_ALWAYS] = {0, 3 * p->op_count},
    };
    p->buffers[p->buffer_count++] = (plan_buffer){
        .to = to, .bytes = bytes, .from = lives[life].from, .until = lives[life].until};
    return 0;
}

void *plan_state(plan_op *op, size_t bytes, at_error *err)
{
    op->state = calloc(1, bytes);
    if (!op->state)
        at_nomem(err);
    return op->state;
}

int64_t plan_lanes(const plan_tensor *t)
{
    while (t->lanes == 0 && t->like)
        t = t->like;
    return t->lanes;
}

void plan_set_lanes(plan_tensor *t, int64_t lanes)
{
    plan_tensor *root = t;
    while (root->lanes == 0 && root->like)
        root = root->like;
    root->lanes = lanes;
    t->lanes = lanes;
}

void plan_decide_lanes(plan_tensor *t, int64_t lanes)
{
    if (!plan_lanes(t))
        plan_set_lanes(t, t->producer->plan->grouped && !t->shape.vector ? PLAN_GROUPED : lanes);
}

void plan_follow(plan_op *op)
{
    op->out->like = op->in[0];
}

nn_view plan_view(const at_plan *p, const plan_tensor *t)
{
    int64_t lanes = plan_lanes(t), batch = p->options.batch;
    nn_view v = {.n = batch,
                 .blocks = t->shape.c,
                 .pixels = t->shape.h * t->shape.w,
                 .lanes = lanes,
                 .channels = t->shape.c,
                 .samples = batch,
                 .grouped = lanes == PLAN_GROUPED,
                 .bf16 = t->precision == AT_BF16};
    if (v.grouped) {
        v.lanes = p->kernels->lanes;
        v.n = (batch + v.lanes - 1) / v.lanes;
    } else {
        v.blocks = (t->shape.c + lanes - 1) / lanes;
    }
    return v;
}

int64_t plan_slots(const nn_view *v)
{
    return v->grouped ? v->n * v->lanes : v->n;
}

int64_t plan_tensor_elements(const at_plan *p, const plan_tensor *t)
{
    nn_view v = plan_view(p, t);
    return v.n * v.blocks * v.pixels * v.lanes;
}

size_t plan_tensor_bytes(const at_plan *p, const plan_tensor *t)
{
    return (size_t)plan_tensor_elements(p, t) * (t->precision == AT_BF16 ? 2 : 4);
}

const float *plan_param(const plan_op *op, int k)
{
    return op->plan->net->params + op->row->params[k].info.offset;
}

float *plan_param_grad(const plan_op *op, int k)
{
    return op->plan->net->grads + op->row->params[k].info.offset;
}

void plan_parallel(const at_plan *p, int64_t n, plan_part part, void *context)
{
    int threads = p->options.threads;
    if (threads == 1 || n <= 1) {
        part(context, 0, n, 0);
        return;
    }
#pragma omp parallel num_threads(threads)
    {
        /* The runtime may give fewer threads than asked for: the parts stay the same. */
        for (int i = omp_get_thread_num(); i < threads; i += omp_get_num_threads())
            part(context, n * i / threads, n * (i + 1) / threads, i);
    }
}

void plan_parallel_bytes(const at_plan *p, int64_t n, size_t bytes, plan_part part, void *context)
{
    if (bytes < WORTH_WAKING)
        part(context, 0, n, 0);
    else
        plan_parallel(p, n, part, context);
}

typedef struct convert_work {
    const at_plan *plan;
    nn_view from, to;
    const void *source;
    void *target;
    bool add;
} convert_work;

static void convert_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const convert_work *w = context;
    w->plan->kernels->convert(&w->from, w->source, &w->to, w->target, w->add, begin, end);
}

void plan_convert(const at_plan *p, const plan_tensor *from, const void *source,
                  const plan_tensor *to, void *target, bool add)
{
    convert_work w = {p, plan_view(p, from), plan_view(p, to), source, target, add};
    if (!add && plan_lanes(from) == plan_lanes(to))
        memcpy(target, source, plan_tensor_bytes(p, to));
    else
        plan_parallel_bytes(p, plan_slots(&w.to), plan_tensor_bytes(p, to), convert_part, &w);
}
