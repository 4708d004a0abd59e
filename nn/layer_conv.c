/* SPDX-License-Identifier: Apache-2.0
 * conv: cross-correlation, PyTorch's Conv2d. The first convolution behind the pixels chooses the
 * layout that those are turned into, each one the layout of its output; what lies between follows.
 * Which implementation it takes is conv_tune.c's. The activation behind it, in inference also batch
 * normalisation and a sum, are done by the primitive before it writes its result.
 */
#include "conv.h"

static const at_option attributes[] = {
    {"out", AT_OPT_INT, offsetof(nn_conv_attrs, out), "0", "channels of the output", "N", .min = 0,
     .max = 1 << 20},
    {"k", AT_OPT_STRING, offsetof(nn_conv_attrs, text.k), "", "size of the window", "N|HxW"},
    {"stride", AT_OPT_STRING, offsetof(nn_conv_attrs, text.stride), "1", "step of the window",
     "N|HxW"},
    {"pad", AT_OPT_STRING, offsetof(nn_conv_attrs, text.pad), "0", "zeros on each side", "N|HxW"},
    {"dilation", AT_OPT_STRING, offsetof(nn_conv_attrs, text.dilation), "1",
     "distance of the window's elements", "N|HxW"},
    {"groups", AT_OPT_INT, offsetof(nn_conv_attrs, groups), "1",
     "channels in as many parts that do not see each other", "N", .min = 1, .max = 1 << 20},
    {"init", AT_OPT_CHOICE, offsetof(nn_conv_attrs, init), "uniform", "how its kernel begins",
     "NAME", .choices = "uniform|kaiming|xavier|dirac|whitening|zeros"},
    {"bias", AT_OPT_BOOL, offsetof(nn_conv_attrs, bias), "1", "whether a number is added", "0|1"},
    {0},
};

static int infer(nn_row *row, at_error *err)
{
    nn_conv_attrs *a = row->attrs;
    if (a->out < 1)
        return nn_misfit(row, err, "out=N, the channels of its output");
    if (row->in[0].c % a->groups || a->out % a->groups)
        return nn_misfit(row, err, "channels in and out (%lld) that its %lld groups share evenly",
                         (long long)a->out, (long long)a->groups);
    int status = nn_window_parse(row, &a->text, false, &a->window, err);
    if (!status)
        status = nn_window_apply(row, &a->window, a->out, false, err);
    nn_init init = nn_init_named(a->init);
    if (!status && init == NN_WHITENING)
        status = nn_whitening_check(row, err);
    if (status)
        return status;
    int64_t dims[] = {a->out, row->in[0].c / a->groups, a->window.kh, a->window.kw};
    double fan_in = (double)(dims[1] * dims[2] * dims[3]);
    status = nn_add_param(row, "kernel", init, fan_in, 4, dims, err);
    if (!status && a->bias)
        status = nn_add_param(row, "bias", nn_init_of_bias(init), fan_in, 1, dims, err);
    return status;
}

static double flops(const nn_row *row)
{
    const nn_conv_attrs *a = row->attrs;
    const nn_window *w = &a->window;
    return 2.0 * (double)nn_elements(row->out) * (double)(row->in[0].c / a->groups * w->kh * w->kw);
}

typedef struct conv_state {
    conv_pass passes[DNN_DIRECTIONS]; /* not made where a pass is not needed */
    conv_weights weights;
    bool ready; /* the weights are where forward reads them, for good */
} conv_state;

static int bring_weights(const plan_op *op, at_error *err)
{
    conv_state *s = op->state;
    if (s->ready)
        return 0;
    conv_weights_take(op, &s->weights);
    int status = conv_pass_weights(&s->passes[DNN_FORWARD], err);
    s->ready = !status && op->plan->options.constant;
    return status;
}

static int forward(plan_op *op, at_error *err)
{
    const conv_state *s = op->state;
    int status = bring_weights(op, err);
    if (op->adds_input && op->in[1]->data != op->out->data)
        plan_convert(op->plan, op->in[1], op->in[1]->data, op->out, op->out->data, false);
    return status ? status : conv_pass_run(&s->passes[DNN_FORWARD], err);
}

static int backward(plan_op *op, at_error *err)
{
    const conv_state *s = op->state;
    if (op->activation)
        plan_activation_back(op);
    return conv_passes_back(op, s->passes, err);
}

static int bind(plan_op *op, at_error *err)
{
    conv_state *s = op->state;
    const plan_tensor *in = op->in[0], *out = op->out;
    bool bias = op->row->param_count > 1;
    const float *kernel = s->weights.kernel ? s->weights.kernel : plan_param(op, 0);
    bool through = in->read_through;
    conv_memory m = {.src = through ? in->producer->in[0]->data : in->data,
                     .weights = kernel,
                     .bias = s->weights.bias,
                     .dst = out->data,
                     .watch = out->value_watched ? out->value_watch : NULL};
    if (through)
        m.before = *in->affine;
    int status = conv_pass_bind(&s->passes[DNN_FORWARD], &m, err);
    m.src = through ? m.src : plan_kept(op);
    m.dst = out->grad;
    m.watch = NULL;
    if (!status && conv_pass_made(&s->passes[DNN_BACKWARD_WEIGHTS])) {
        m.weights = plan_param_grad(op, 0);
        m.bias = bias ? plan_param_grad(op, 1) : NULL;
        status = conv_pass_bind(&s->passes[DNN_BACKWARD_WEIGHTS], &m, err);
    }
    if (!status && conv_pass_made(&s->passes[DNN_BACKWARD_DATA])) {
        m = (conv_memory){.src = op->in_grad[0],
                          .weights = plan_param(op, 0),
                          .dst = out->grad,
                          .watch = in->grad_watched ? in->grad_watch : NULL};
        status = conv_pass_bind(&s->passes[DNN_BACKWARD_DATA], &m, err);
    }
    return status;
}

static int measure(plan_op *op, double *seconds, at_error *err)
{
    const conv_state *s = op->state;
    return conv_floor(op, s->passes, seconds, err);
}

/* Bytes that batch normalisation need not move where the pass is done by our own kernels: the values
 * that they read for its sums, or write and read for it; in backward, two gradients' sums. */
static double spared_bytes(const plan_op *op, dnn_direction direction)
{
    const conv_state *s = op->state;
    const plan_tensor *in = op->in[0];
    double src = (double)(op->plan->options.batch * nn_elements(op->row->in[0]));
    double dst = (double)(op->plan->options.batch * nn_elements(op->row->out));
    double number = op->plan->options.precision == AT_BF16 ? sizeof(uint16_t) : sizeof(float);
    bool through = in->affine && in->consumers == 1;
    const nn_row *behind = op->out->consumers == 1 ? op->out->consumer->row : NULL;
    if (direction == DNN_FORWARD)
        return number * ((through ? 2 * src : 0) +
                         (behind && behind->layer == &at_layer_bn && op->trains ? dst : 0));
    if (direction == DNN_BACKWARD_WEIGHTS)
        return through && conv_pass_is_own(&s->passes[DNN_FORWARD]) ? number * 2 * src : 0;
    return in->grad_watch && plan_grad_is_final(op, 0) ? number * 2 * src : 0;
}

static int add_pass(plan_op *op, dnn_direction direction, at_error *err)
{
    conv_state *s = op->state;
    const nn_conv_attrs *a = op->row->attrs;
    bool first = direction == DNN_FORWARD;
    dnn_conv_spec spec = {.direction = direction,
                          .bias = (a->bias && direction != DNN_BACKWARD_DATA) || op->norm,
                          .sum = first ? op->adds_input
                                       : direction == DNN_BACKWARD_DATA && op->adds_grad,
                          .activation = first ? op->activation : NN_IDENTITY,
                          .precision = op->plan->options.precision,
                          .n = op->plan->options.batch,
                          .src = op->row->in[0],
                          .dst = op->row->out,
                          .window = a->window,
                          .groups = a->groups};
    const plan_tensor *out = first && spec.sum ? op->in[1] : op->out;
    int status =
        conv_tune(&s->passes[direction], op->plan, &spec, plan_lanes(op->in[0]), plan_lanes(out),
                  op->plan->options.training ? spared_bytes(op, direction) : 0, err);
    return status ? status : conv_pass_plan(&s->passes[direction], op, err);
}

static bool absorbs(const plan_op *op, const plan_op *next)
{
    const at_layer *layer = next->row->layer;
    bool before_maximum = next->out->consumers == 1 && plan_is_max_pool(next->out->consumer->row);
    if (op->plan->grouped)
        return false;
    if (op->plan->options.training)
        return plan_activation_from_output(layer->activation) && !before_maximum;
    return layer->activation || (layer == &at_layer_add && !op->adds_input) ||
           (layer == &at_layer_bn && !op->norm && !op->adds_input);
}

/* What is done behind the convolution itself. */
static void build_behind(plan_op *op)
{
    plan_tensor *addend = op->in[1];
    op->keeps_output = op->activation != NN_IDENTITY;
    if (op->adds_input && !plan_lanes(addend))
        plan_set_lanes(addend, plan_lanes(op->out));
    op->sum_in_place = op->adds_input && plan_lanes(addend) == plan_lanes(op->out) &&
                       addend->consumer == op && addend != op->in[0];
}

/* What our own kernels do for the batch normalisation in front. */
static void agree_with_norm(const plan_op *op)
{
    const conv_state *s = op->state;
    plan_tensor *in = op->in[0];
    in->grad_watched |= in->grad_watch && conv_pass_watches(&s->passes[DNN_BACKWARD_DATA]) &&
                        plan_grad_is_final(op, 0);
    in->read_through = in->affine && in->consumers == 1 &&
                       conv_pass_reads_through(&s->passes[DNN_FORWARD]) &&
                       (!op->trains || conv_pass_reads_through(&s->passes[DNN_BACKWARD_WEIGHTS]));
}

static int build(plan_op *op, at_error *err)
{
    if (op->plan->grouped)
        return conv_grouped_build(op, err);
    conv_state *s = plan_state(op, sizeof *s, err);
    if (!s)
        return AT_ENOMEM;
    op->bind = bind;
    op->forward = forward;
    op->measure = measure;
    op->keeps_input = op->reads_again = op->trains;
    int status = add_pass(op, DNN_FORWARD, err);
    if (status)
        return status;
    if (!plan_lanes(op->in[0]))
        plan_set_lanes(op->in[0], conv_pass_lanes(&s->passes[DNN_FORWARD], DNN_SRC));
    op->out->lanes = conv_pass_lanes(&s->passes[DNN_FORWARD], DNN_DST);
    op->out->value_watched = conv_pass_watches(&s->passes[DNN_FORWARD]);
    build_behind(op);
    status = conv_weights_build(op, &s->weights, conv_pass_copies(&s->passes[DNN_FORWARD]), err);
    op->backward = op->out->wants_grad ? backward : NULL;
    if (!status && op->trains)
        status = add_pass(op, DNN_BACKWARD_WEIGHTS, err);
    plan_tensor *in = op->in[0];
    op->adds_grad = in->wants_grad && plan_grad_is_there(op, 0);
    if (!status && in->wants_grad)
        status = add_pass(op, DNN_BACKWARD_DATA, err);
    if (!status)
        agree_with_norm(op);
    return status;
}

static void fini(plan_op *op)
{
    conv_state *s = op->state;
    if (!op->plan->grouped)
        conv_passes_fini(s->passes);
}

/* Those of the activation's gradient: the rest is the primitives' own time. */
static double bytes(const plan_op *op)
{
    bool back = op->activation && op->plan->options.training && !op->plan->grouped;
    return back ? 3 * (double)plan_tensor_bytes(op->plan, op->out) : 0;
}

const at_layer at_layer_conv = {
    .name = "conv",
    .probes = {"out=5 k=3 stride=1 pad=1 bias=1", "out=17 k=1 bias=0",
               "out=16 k=3x2 stride=2x1 pad=1x0", "out=8 k=2 stride=2",
               "out=10 k=2 dilation=3x2 pad=1", "out=10 k=3 groups=5 pad=1",
               "out=5 k=3 stride=2 groups=5 bias=0"},
    .attributes = attributes,
    .attributes_bytes = sizeof(nn_conv_attrs),
    .infer = infer,
    .flops = flops,
    .absorbs = absorbs,
    .build = build,
    .fini = fini,
    .bytes = bytes,
};
