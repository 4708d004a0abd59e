/* SPDX-License-Identifier: Apache-2.0
 * dense: y = W x + b over vectors, W [O,I]. In fp32 it reads its weights and writes their gradient
 * right in the network's flat buffers; in bf16 the weights are narrowed once a step.
 */
#include "plan.h"

#include <math.h>

enum { FLOOR_ROUNDS = 6 };

static const at_option attributes[] = {
    {"out", AT_OPT_INT, offsetof(nn_dense_attrs, out), "0", "size of the output", "N", .min = 0,
     .max = 1 << 24},
    {"init", AT_OPT_CHOICE, offsetof(nn_dense_attrs, init), "uniform", "how its kernel begins",
     "NAME", .choices = "uniform|kaiming|xavier|zeros"},
    {"bias", AT_OPT_BOOL, offsetof(nn_dense_attrs, bias), "1", "whether a number is added", "0|1"},
    {0},
};

static int infer(nn_row *row, at_error *err)
{
    const nn_dense_attrs *a = row->attrs;
    if (a->out < 1)
        return nn_misfit(row, err, "out=N, the size of its output");
    if (!row->in[0].vector)
        return nn_misfit(row, err, "a vector: put a row \"flatten\" before it");
    int64_t dims[] = {a->out, row->in[0].c};
    nn_init init = nn_init_named(a->init);
    double fan_in = (double)row->in[0].c;
    row->out = (nn_shape){.c = a->out, .h = 1, .w = 1, .vector = true};
    int status = nn_add_param(row, "kernel", init, fan_in, 2, dims, err);
    if (!status && a->bias)
        status = nn_add_param(row, "bias", nn_init_of_bias(init), fan_in, 1, dims, err);
    return status;
}

static double flops(const nn_row *row)
{
    return 2.0 * (double)row->in[0].c * (double)row->out.c;
}

typedef struct dense_state {
    dnn_call *forward, *data, *weights, *narrow;
    void *narrowed; /* bf16 weights; NULL in fp32 */
    void *scratch[3];
} dense_state;

static int forward(plan_op *op, at_error *err)
{
    const dense_state *s = op->state;
    int status = s->narrow ? dnn_call_run(s->narrow, err) : 0;
    return status ? status : dnn_call_run(s->forward, err);
}

static int backward(plan_op *op, at_error *err)
{
    const dense_state *s = op->state;
    int status = s->weights ? dnn_call_run(s->weights, err) : 0;
    return status || !s->data ? status : dnn_call_run(s->data, err);
}

static int bind_call(dnn_call *call, const void *const memory[DNN_SLOTS], at_error *err)
{
    int status = 0;
    for (dnn_slot slot = DNN_SRC; slot < DNN_SLOTS && !status; slot++)
        status = dnn_call_bind(call, slot, memory[slot], err);
    return status;
}

static int bind(plan_op *op, at_error *err)
{
    const dense_state *s = op->state;
    const void *x = op->in[0]->data, *w = s->narrowed ? s->narrowed : plan_param(op, 0);
    bool bias = op->row->param_count > 1;
    int status = 0;
    if (s->narrow)
        status = bind_call(
            s->narrow, (const void *[DNN_SLOTS]){plan_param(op, 0), NULL, NULL, s->narrowed}, err);
    if (!status)
        status = bind_call(s->forward,
                           (const void *[DNN_SLOTS]){x, w, bias ? plan_param(op, 1) : NULL,
                                                     op->out->data, s->scratch[0]},
                           err);
    if (!status && s->weights)
        status = bind_call(s->weights,
                           (const void *[DNN_SLOTS]){x, plan_param_grad(op, 0),
                                                     bias ? plan_param_grad(op, 1) : NULL,
                                                     op->out->grad, s->scratch[1]},
                           err);
    if (!status && s->data)
        status = bind_call(
            s->data,
            (const void *[DNN_SLOTS]){op->in_grad[0], w, NULL, op->out->grad, s->scratch[2]}, err);
    return status;
}

static dnn_dense_spec spec_of(const plan_op *op, dnn_direction direction)
{
    return (dnn_dense_spec){.direction = direction,
                            .bias = op->row->param_count > 1,
                            .precision = op->plan->options.precision,
                            .n = op->plan->options.batch,
                            .in = op->row->in[0].c,
                            .out = op->row->out.c};
}

/* A call and the scratch memory that it asks for. */
static dnn_call *make(plan_op *op, dnn_direction direction, void **scratch, plan_life life,
                      at_error *err)
{
    dnn_dense_spec spec = spec_of(op, direction);
    dnn_call *call = dnn_dense_new(op->plan->engine, &spec, err);
    if (call && plan_want(op, scratch, dnn_call_bytes(call, DNN_SCRATCH), life, err)) {
        dnn_call_free(call);
        return NULL;
    }
    return call;
}

/* Seconds of one direction's primitive alone, in memory of its own. */
static int measure_one(const plan_op *op, dnn_direction direction, double *least, at_error *err)
{
    dnn_dense_spec spec = spec_of(op, direction);
    dnn_call *call = dnn_dense_new(op->plan->engine, &spec, err);
    void *memory[DNN_SLOTS] = {0};
    int status = call ? 0 : AT_EFAIL;
    for (dnn_slot slot = DNN_SRC; slot < DNN_SLOTS && !status; slot++) {
        memory[slot] = at_alloc_aligned(dnn_call_bytes(call, slot) + 1);
        status = memory[slot] ? dnn_call_bind(call, slot, memory[slot], err) : at_nomem(err);
    }
    *least = 1e30;
    for (int i = 0; i < FLOOR_ROUNDS && !status; i++) {
        double start = at_now();
        status = dnn_call_run(call, err);
        double seconds = at_now() - start;
        *least = seconds < *least ? seconds : *least;
    }
    for (dnn_slot slot = DNN_SRC; slot < DNN_SLOTS; slot++)
        at_free_aligned(memory[slot]);
    dnn_call_free(call);
    return status;
}

static int measure(plan_op *op, double *seconds, at_error *err)
{
    const dense_state *s = op->state;
    const dnn_call *const calls[] = {s->forward, s->data, s->weights};
    static const dnn_direction directions[] = {DNN_FORWARD, DNN_BACKWARD_DATA,
                                               DNN_BACKWARD_WEIGHTS};
    int status = 0;
    *seconds = 0;
    for (int i = 0; i < 3 && !status; i++) {
        double one = 0;
        if (calls[i])
            status = measure_one(op, directions[i], &one, err);
        *seconds += one;
    }
    return status;
}

static int build(plan_op *op, at_error *err)
{
    dense_state *s = plan_state(op, sizeof *s, err);
    if (!s)
        return AT_ENOMEM;
    op->bind = bind;
    op->forward = forward;
    op->measure = measure;
    op->keeps_input = op->trains;
    s->forward = make(op, DNN_FORWARD, &s->scratch[0], LIVES_FORWARD, err);
    if (!s->forward)
        return AT_EFAIL;
    if (!dnn_weights_plain(s->forward)) {
        s->narrow = dnn_weights_reorder_new(op->plan->engine, s->forward, err);
        if (!s->narrow ||
            plan_want(op, &s->narrowed, dnn_call_bytes(s->forward, DNN_WEIGHTS), LIVES_BOTH, err))
            return AT_EFAIL;
    }
    op->backward = op->out->wants_grad ? backward : NULL;
    if (op->trains &&
        !(s->weights = make(op, DNN_BACKWARD_WEIGHTS, &s->scratch[1], LIVES_FOR_PARAMS, err)))
        return AT_EFAIL;
    if (op->in[0]->wants_grad &&
        !(s->data = make(op, DNN_BACKWARD_DATA, &s->scratch[2], LIVES_FOR_INPUTS, err)))
        return AT_EFAIL;
    return 0;
}

static void fini(plan_op *op)
{
    dense_state *s = op->state;
    dnn_call_free(s->forward);
    dnn_call_free(s->data);
    dnn_call_free(s->weights);
    dnn_call_free(s->narrow);
}

const at_layer at_layer_dense = {
    .name = "dense",
    .probes = {"out=7 bias=1", "out=20 bias=0"},
    .attributes = attributes,
    .attributes_bytes = sizeof(nn_dense_attrs),
    .infer = infer,
    .flops = flops,
    .build = build,
    .fini = fini,
};
