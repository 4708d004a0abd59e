/* SPDX-License-Identifier: Apache-2.0
 * dense: y = W x + b over vectors, W [O,I]: a convolution of planes of one pixel (conv.h). In fp32 it
 * reads its weights and writes their gradient right in the network's flat buffers.
 */
#include "conv.h"

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
    conv_pass passes[DNN_DIRECTIONS]; /* not made where a pass is not needed */
    bool ready;                       /* the weights are where forward reads them, for good */
} dense_state;

static int forward(plan_op *op, at_error *err)
{
    dense_state *s = op->state;
    int status = s->ready ? 0 : conv_pass_weights(&s->passes[DNN_FORWARD], err);
    s->ready = !status && op->plan->options.constant;
    return status ? status : conv_pass_run(&s->passes[DNN_FORWARD], err);
}

static int backward(plan_op *op, at_error *err)
{
    const dense_state *s = op->state;
    return conv_passes_back(op, s->passes, err);
}

static int bind(plan_op *op, at_error *err)
{
    dense_state *s = op->state;
    bool bias = op->row->param_count > 1;
    const conv_memory memory[DNN_DIRECTIONS] = {
        [DNN_FORWARD] = {.src = op->in[0]->data,
                         .weights = plan_param(op, 0),
                         .bias = bias ? plan_param(op, 1) : NULL,
                         .dst = op->out->data},
        [DNN_BACKWARD_DATA] = {.src = op->in_grad[0],
                               .weights = plan_param(op, 0),
                               .dst = op->out->grad},
        [DNN_BACKWARD_WEIGHTS] = {.src = op->in[0]->data,
                                  .weights = op->trains ? plan_param_grad(op, 0) : NULL,
                                  .bias = op->trains && bias ? plan_param_grad(op, 1) : NULL,
                                  .dst = op->out->grad}};
    int status = 0;
    for (int i = 0; i < DNN_DIRECTIONS && !status; i++)
        if (conv_pass_made(&s->passes[i]))
            status = conv_pass_bind(&s->passes[i], &memory[i], err);
    return status;
}

static int measure(plan_op *op, double *seconds, at_error *err)
{
    const dense_state *s = op->state;
    return conv_floor(op, s->passes, seconds, err);
}

static int add_pass(plan_op *op, dnn_direction direction, at_error *err)
{
    dense_state *s = op->state;
    dnn_conv_spec spec = {.direction = direction,
                          .bias = op->row->param_count > 1 && direction != DNN_BACKWARD_DATA,
                          .precision = op->plan->options.precision,
                          .n = op->plan->options.batch,
                          .src = op->row->in[0],
                          .dst = op->row->out,
                          .window = {.kh = 1, .kw = 1, .sh = 1, .sw = 1, .dh = 1, .dw = 1},
                          .groups = 1};
    int status = conv_tune(&s->passes[direction], op->plan, &spec, plan_lanes(op->in[0]),
                           plan_lanes(op->out), 0, err);
    return status ? status : conv_pass_plan(&s->passes[direction], op, err);
}

static int build(plan_op *op, at_error *err)
{
    if (!plan_state(op, sizeof(dense_state), err))
        return AT_ENOMEM;
    op->bind = bind;
    op->forward = forward;
    op->measure = measure;
    op->keeps_input = op->trains;
    op->backward = op->out->wants_grad ? backward : NULL;
    int status = add_pass(op, DNN_FORWARD, err);
    if (!status && op->trains)
        status = add_pass(op, DNN_BACKWARD_WEIGHTS, err);
    if (!status && op->in[0]->wants_grad)
        status = add_pass(op, DNN_BACKWARD_DATA, err);
    return status;
}

static void fini(plan_op *op)
{
    dense_state *s = op->state;
    conv_passes_fini(s->passes);
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
