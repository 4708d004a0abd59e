/* SPDX-License-Identifier: Apache-2.0
 * pool: the largest or the average of each window. Maximum pooling keeps a byte an output element,
 * the place in its window, so that backward reads neither input nor output.
 */
#include "plan.h"

#include <string.h>

static const at_option attributes[] = {
    {"kind", AT_OPT_CHOICE, offsetof(nn_pool_attrs, kind), "max", "what is taken of a window",
     "KIND", .choices = "max|avg"},
    {"k", AT_OPT_STRING, offsetof(nn_pool_attrs, text.k), "2", "size of the window", "N|HxW"},
    {"stride", AT_OPT_STRING, offsetof(nn_pool_attrs, text.stride), "", "k unless told", "N|HxW"},
    {"pad", AT_OPT_STRING, offsetof(nn_pool_attrs, text.pad), "0", "padding on each side", "N|HxW"},
    {0},
};

static bool is_max(const nn_row *row)
{
    return !strcmp(((const nn_pool_attrs *)row->attrs)->kind, "max");
}

bool plan_is_max_pool(const nn_row *row)
{
    return row->layer == &at_layer_pool && is_max(row);
}

static int infer(nn_row *row, at_error *err)
{
    nn_pool_attrs *a = row->attrs;
    int status = nn_window_parse(row, &a->text, true, &a->window, err);
    if (!status && is_max(row) && a->window.kh * a->window.kw > NN_NOWHERE)
        status = nn_misfit(row, err, "a window of at most 255 elements for a maximum");
    return status ? status : nn_window_apply(row, &a->window, row->in[0].c, err);
}

typedef struct pool_state {
    nn_pool_shape shape;
    uint8_t *where; /* [elements of the output] */
} pool_state;

typedef struct pool_work {
    const plan_op *op;
    const pool_state *state;
    nn_view view; /* of the input */
} pool_work;

static pool_work work_of(const plan_op *op)
{
    return (pool_work){op, op->state, plan_view(op->plan, op->in[0])};
}

static void forward_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const pool_work *w = context;
    const plan_op *op = w->op;
    const nn_kernels *k = op->plan->kernels;
    if (is_max(op->row))
        k->max_pool(&w->view, &w->state->shape, op->in[0]->data, op->out->data, w->state->where,
                    begin, end);
    else
        k->average_pool(&w->view, &w->state->shape, op->in[0]->data, op->out->data, begin, end);
}

static int forward(plan_op *op, at_error *err)
{
    (void)err;
    pool_work w = work_of(op);
    plan_parallel_bytes(op->plan, w.view.n * w.view.blocks, plan_tensor_bytes(op->plan, op->in[0]),
                        forward_part, &w);
    return 0;
}

static void backward_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const pool_work *w = context;
    const plan_op *op = w->op;
    const nn_kernels *k = op->plan->kernels;
    if (is_max(op->row))
        k->max_pool_back(&w->view, &w->state->shape, op->out->grad, w->state->where, op->in_grad[0],
                         begin, end);
    else
        k->average_pool_back(&w->view, &w->state->shape, op->out->grad, op->in_grad[0], begin, end);
}

static int backward(plan_op *op, at_error *err)
{
    (void)err;
    pool_work w = work_of(op);
    plan_parallel_bytes(op->plan, w.view.n * w.view.blocks, plan_tensor_bytes(op->plan, op->in[0]),
                        backward_part, &w);
    return 0;
}

static int build(plan_op *op, at_error *err)
{
    const nn_pool_attrs *a = op->row->attrs;
    nn_shape in = op->in[0]->shape, out = op->out->shape;
    pool_state *s = plan_state(op, sizeof *s, err);
    if (!s)
        return AT_ENOMEM;
    s->shape = (nn_pool_shape){in.h, in.w, out.h, out.w, a->window, op->activation == NN_RELU};
    plan_follow(op);
    op->forward = forward;
    if (!op->plan->options.training || !op->in[0]->wants_grad)
        return 0;
    op->backward = backward;
    if (!is_max(op->row))
        return 0;
    /* The layout may not be decided yet: either side filled up to sixteens. */
    int64_t n = (op->plan->options.batch + 15) / 16 * 16, c = (out.c + 15) / 16 * 16;
    size_t most = (size_t)(n * c * out.h * out.w);
    return plan_want(op, (void **)&s->where, most, LIVES_BOTH, err);
}

static double bytes(const plan_op *op)
{
    double in = (double)plan_tensor_bytes(op->plan, op->in[0]);
    double out = (double)plan_tensor_bytes(op->plan, op->out);
    double where = is_max(op->row) ? (double)plan_tensor_elements(op->plan, op->out) : 0;
    return op->in[0]->wants_grad ? 2 * (in + out + where) : in + out;
}

const at_layer at_layer_pool = {
    .name = "pool",
    .probe = "kind=max k=2 stride=2",
    .attributes = attributes,
    .attributes_bytes = sizeof(nn_pool_attrs),
    .infer = infer,
    .build = build,
    .bytes = bytes,
};
