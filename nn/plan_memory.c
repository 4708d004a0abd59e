/* SPDX-License-Identifier: Apache-2.0
 * plan_memory: one arena for every value, gradient and buffer of a plan.
 *
 * Each gets a life [from, until] in the plan's time (plan.h). The largest are placed first, each at
 * the lowest offset where it meets none that lives at the same time; so a layer's scratch memory,
 * values that backward does not need and gradients that were passed on share bytes. Where an op may
 * work in place, its output joins its input's memory and the two lives become one. A remade value
 * has two lives and two places.
 */
#include "plan.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { ALIGN = 128, HUGE_PAGE = 2 << 20 };

static plan_tensor *value_root(plan_tensor *t)
{
    while (t->value_of)
        t = t->value_of;
    return t;
}

static plan_tensor *grad_root(plan_tensor *t)
{
    while (t->grad_of)
        t = t->grad_of;
    return t;
}

static void share(at_plan *p)
{
    for (int i = 0; i < p->op_count; i++) {
        plan_op *op = &p->ops[i];
        plan_tensor *in = op->in[0];
        if (op->sum_in_place)
            op->out->value_of = op->in[1];
        if (op->absorbed || !in)
            continue;
        if (op->adds_input && op->out->grad_watched) {
            op->out->grad_of = op->in[1]; /* it is that already */
            continue;
        }
        if (in->consumers != 1)
            continue;
        if (op->value_in_place && !in->no_value && !in->producer->keeps_output)
            op->out->value_of = in;
        if (op->grad_in_place && in->wants_grad && op->out->wants_grad)
            op->out->grad_of = in;
    }
}

static int until_of(const at_plan *p, const plan_tensor *t)
{
    int until = t->producer->index;
    if (p->options.training && t->producer->keeps_output)
        until = plan_back(t->producer) + 1;
    for (int i = 0; i < p->op_count; i++) {
        const plan_op *op = &p->ops[i];
        for (int k = 0; k < op->input_count && !op->absorbed; k++) {
            if (op->in[k] != t)
                continue;
            bool keeps = op->keeps_input && !(op->adds_input && k == 1) && !t->remade;
            int last = p->options.training && keeps ? plan_back(op) + 1 : op->index;
            if (op->out->read_through && k == 0) {
                int through = until_of(p, op->out);
                last = last > through ? last : through;
            }
            until = until > last ? until : last;
        }
    }
    return until;
}

static void join(plan_buffer *to, plan_buffer from)
{
    if (!to->bytes) {
        *to = from;
        return;
    }
    to->bytes = to->bytes > from.bytes ? to->bytes : from.bytes;
    to->from = to->from < from.from ? to->from : from.from;
    to->until = to->until > from.until ? to->until : from.until;
}

/* One buffer a root: values at [3*i], gradients at [3*i+1]; at [3*i+2] values that are remade. */
static void collect(at_plan *p, plan_buffer *of)
{
    for (int i = 0; i < p->op_count; i++) {
        plan_tensor *t = &p->tensors[i];
        if (!t->producer || t->no_value)
            continue;
        plan_buffer value = {
            .bytes = plan_tensor_bytes(p, t), .from = t->producer->index, .until = until_of(p, t)};
        if (!t->read_through)
            join(&of[3 * (value_root(t) - p->tensors)], value);
        int again = plan_back(t->consumer);
        if (t->remade)
            of[3 * i + 2] = (plan_buffer){.bytes = value.bytes, .from = again, .until = again};
        if (!p->options.training || !t->wants_grad)
            continue;
        plan_buffer grad = {.bytes = value.bytes,
                            .from = plan_back(t->consumer),
                            .until = plan_back(t->producer) + 1};
        join(&of[3 * (grad_root(t) - p->tensors) + 1], grad);
    }
    for (int i = 0; i < p->op_count; i++) {
        of[3 * i].to = &p->tensors[i].data;
        of[3 * i + 1].to = &p->tensors[i].grad;
        of[3 * i + 2].to = &p->tensors[i].again;
    }
}

static int by_size(const void *a, const void *b)
{
    const plan_buffer *x = *(plan_buffer *const *)a, *y = *(plan_buffer *const *)b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x->from != y->from ? x->from - y->from : x < y ? -1 : x > y;
}

/* The lowest offset for b beside those placed before; they are sorted by offset. */
static size_t lowest(const plan_buffer *b, plan_buffer *const *placed, size_t n)
{
    size_t offset = 0;
    for (size_t i = 0; i < n; i++) {
        const plan_buffer *o = placed[i];
        if (o->until < b->from || b->until < o->from || o->offset + o->bytes <= offset)
            continue;
        if (offset + b->bytes <= o->offset)
            break;
        offset = (o->offset + o->bytes + ALIGN - 1) / ALIGN * ALIGN;
    }
    return offset;
}

static size_t place_all(plan_buffer **order, plan_buffer **placed, size_t n)
{
    size_t top = 0;
    for (size_t i = 0; i < n; i++) {
        plan_buffer *b = order[i];
        b->offset = lowest(b, placed, i);
        top = top > b->offset + b->bytes ? top : b->offset + b->bytes;
        size_t at = i;
        for (; at > 0 && placed[at - 1]->offset > b->offset; at--)
            placed[at] = placed[at - 1];
        placed[at] = b;
    }
    return top;
}

static int map_arena(at_plan *p, size_t bytes, at_error *err)
{
    p->arena_bytes = (bytes + HUGE_PAGE) / HUGE_PAGE * HUGE_PAGE;
    if (p->sizing)
        return 0;
    p->arena =
        mmap(NULL, p->arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p->arena == MAP_FAILED) {
        p->arena = NULL;
        return at_fail(err, AT_ENOMEM, "no %zu MB for a plan of batch %d", p->arena_bytes >> 20,
                       p->options.batch);
    }
    madvise(p->arena, p->arena_bytes, MADV_HUGEPAGE);
    return 0;
}

static void hand_out(at_plan *p, plan_buffer *const *order, size_t n)
{
    for (size_t i = 0; i < n; i++)
        *order[i]->to = (char *)p->arena + order[i]->offset;
    for (int i = 0; i < p->op_count; i++) {
        plan_tensor *t = &p->tensors[i];
        t->data = value_root(t)->data;
        t->grad = grad_root(t)->grad;
    }
}

int plan_memory(at_plan *p, at_error *err)
{
    size_t tensors = 3 * (size_t)p->op_count, most = tensors + p->buffer_count, n = 0;
    plan_buffer *of = calloc(tensors, sizeof *of);
    plan_buffer **order = calloc(most, sizeof *order), **placed = calloc(most, sizeof *placed);
    int status = AT_ENOMEM;
    if (!of || !order || !placed) {
        at_nomem(err);
        goto done;
    }
    share(p);
    collect(p, of);
    for (size_t i = 0; i < tensors; i++)
        if (of[i].bytes)
            order[n++] = &of[i];
    for (size_t i = 0; i < p->buffer_count; i++)
        if (p->buffers[i].bytes)
            order[n++] = &p->buffers[i];
    qsort(order, n, sizeof *order, by_size);
    status = map_arena(p, place_all(order, placed, n), err);
    if (!status)
        hand_out(p, order, n);

done:
    free(of);
    free(order);
    free(placed);
    return status;
}

void plan_memory_free(at_plan *p)
{
    if (p->arena)
        munmap(p->arena, p->arena_bytes);
}
