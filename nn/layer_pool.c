/* SPDX-License-Identifier: Apache-2.0
 * pool: the largest or the average of each window; of the whole plane with k=global; averages also
 * over out=HxW windows that share the plane out (PyTorch's adaptive pooling). Maximum pooling keeps
 * the place in its window of each output element, so that backward reads neither input nor output.
 */
#include "plan.h"

#include <stdlib.h>
#include <string.h>

static const at_option attributes[] = {
    {"kind", AT_OPT_CHOICE, offsetof(nn_pool_attrs, kind), "max", "what is taken of a window",
     "KIND", .choices = "max|avg"},
    {"k", AT_OPT_STRING, offsetof(nn_pool_attrs, text.k), "2", "size of the window",
     "N|HxW|global"},
    {"stride", AT_OPT_STRING, offsetof(nn_pool_attrs, text.stride), "", "k unless told", "N|HxW"},
    {"pad", AT_OPT_STRING, offsetof(nn_pool_attrs, text.pad), "0", "padding on each side", "N|HxW"},
    {"ceil", AT_OPT_BOOL, offsetof(nn_pool_attrs, ceil), "0",
     "whether a last window may be cut off by the border", "0|1"},
    {"count_pad", AT_OPT_BOOL, offsetof(nn_pool_attrs, count_pad), "1",
     "whether an average counts the padding's zeros", "0|1"},
    {"out", AT_OPT_STRING, offsetof(nn_pool_attrs, out_text), "",
     "averages: size of the output, in place of k and stride", "N|HxW"},
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

static bool is_adaptive(const nn_row *row)
{
    return *((const nn_pool_attrs *)row->attrs)->out_text;
}

static int infer_adaptive(nn_row *row, at_error *err)
{
    const nn_pool_attrs *a = row->attrs;
    nn_shape *out = &row->out;
    if (is_max(row))
        return nn_misfit(row, err, "kind=avg where out=HxW is given");
    out->c = row->in[0].c;
    return nn_pair_parse(row, "out", a->out_text, 1, &out->h, &out->w, err);
}

static int infer(nn_row *row, at_error *err)
{
    nn_pool_attrs *a = row->attrs;
    if (is_adaptive(row))
        return infer_adaptive(row, err);
    int status = nn_window_parse(row, &a->text, true, &a->window, err);
    if (!status && is_max(row) && a->window.kh * a->window.kw >= NN_NOWHERE_WIDE)
        status =
            nn_misfit(row, err, "a window of less than %d elements for a maximum", NN_NOWHERE_WIDE);
    return status ? status : nn_window_apply(row, &a->window, row->in[0].c, a->ceil, err);
}

typedef struct pool_state {
    nn_pool_shape shape;
    void *where;           /* [elements of the output], one or two bytes each */
    nn_pool_span *storage; /* of the shape's tables */
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

/* One side of the windows of an average: size pixels to `out` windows. */
typedef struct side {
    int64_t size, out, k, stride, pad;
    bool adaptive, count_pad;
} side;

static nn_pool_span window_at(const side *s, int64_t o)
{
    int64_t from = s->adaptive ? o * s->size / s->out : o * s->stride - s->pad;
    int64_t to = s->adaptive ? ((o + 1) * s->size + s->out - 1) / s->out : from + s->k;
    int64_t padded_to = to < s->size + s->pad ? to : s->size + s->pad, counted = padded_to - from;
    from = from > 0 ? from : 0;
    to = to < s->size ? to : s->size;
    if (!s->count_pad)
        counted = to - from;
    return (nn_pool_span){(int32_t)from, (int32_t)to, 1.0f / (float)counted};
}

/* Both begin and end of windows grow with their number, so a pixel's windows are neighbours. */
static void fill_side(const side *s, nn_pool_span *windows, nn_pool_span *readers)
{
    for (int64_t o = 0; o < s->out; o++)
        windows[o] = window_at(s, o);
    int32_t first = 0, end = 0;
    for (int64_t i = 0; i < s->size; i++) {
        while (first < s->out && windows[first].to <= i)
            first++;
        while (end < s->out && windows[end].from <= i)
            end++;
        readers[i] = (nn_pool_span){first, end > first ? end : first, 0};
    }
}

static int make_tables(const plan_op *op, at_error *err)
{
    pool_state *s = op->state;
    const nn_pool_attrs *a = op->row->attrs;
    nn_pool_shape *p = &s->shape;
    bool adaptive = is_adaptive(op->row), counts = a->count_pad && !adaptive;
    const nn_window *w = &p->window;
    s->storage = calloc((size_t)(p->oh + p->ow + p->h + p->w), sizeof *s->storage);
    if (!s->storage)
        return at_nomem(err);
    nn_pool_span *columns = s->storage + p->oh, *down = columns + p->ow, *across = down + p->h;
    fill_side(&(side){p->h, p->oh, w->kh, w->sh, w->ph, adaptive, counts}, s->storage, down);
    fill_side(&(side){p->w, p->ow, w->kw, w->sw, w->pw, adaptive, counts}, columns, across);
    p->rows = s->storage;
    p->columns = columns;
    p->row_windows = down;
    p->column_windows = across;
    return 0;
}

static int build(plan_op *op, at_error *err)
{
    const nn_pool_attrs *a = op->row->attrs;
    nn_shape in = op->in[0]->shape, out = op->out->shape;
    pool_state *s = plan_state(op, sizeof *s, err);
    if (!s)
        return AT_ENOMEM;
    s->shape = (nn_pool_shape){in.h,
                               in.w,
                               out.h,
                               out.w,
                               a->window,
                               op->activation == NN_RELU,
                               .wide = a->window.kh * a->window.kw > NN_NOWHERE};
    plan_follow(op);
    op->forward = forward;
    if (!is_max(op->row) && make_tables(op, err))
        return AT_ENOMEM;
    if (!op->plan->options.training || !op->in[0]->wants_grad)
        return 0;
    op->backward = backward;
    if (!is_max(op->row))
        return 0;
    /* The layout may not be decided yet: either side filled up to sixteens. */
    int64_t n = (op->plan->options.batch + 15) / 16 * 16, c = (out.c + 15) / 16 * 16;
    size_t most = (size_t)(n * c * out.h * out.w) * (s->shape.wide ? 2 : 1);
    return plan_want(op, &s->where, most, LIVES_BOTH, err);
}

static void fini(plan_op *op)
{
    pool_state *s = op->state;
    free(s->storage);
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
    .probes = {"kind=max k=2 stride=2", "kind=max k=2 ceil=1", "kind=max k=3 stride=2 pad=1 ceil=1",
               "kind=max k=2x3 stride=3", "kind=max k=global", "kind=avg k=2 ceil=1",
               "kind=avg k=3 stride=1 pad=1", "kind=avg k=3 stride=2 pad=1 ceil=1 count_pad=0",
               "kind=avg out=3x4"},
    .attributes = attributes,
    .attributes_bytes = sizeof(nn_pool_attrs),
    .infer = infer,
    .build = build,
    .fini = fini,
    .bytes = bytes,
};
