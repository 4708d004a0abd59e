/* SPDX-License-Identifier: Apache-2.0
 * plan: compiles a network and runs its steps. See plan.h for how the parts fit together.
 *
 * A step walks the ops forward, then backward; it allocates nothing and makes no primitive. oneDNN
 * takes the number of threads from the calling thread's OpenMP setting, which is put back
 * afterwards.
 */
#include "conv.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

int at_precision_parse(const char *text, at_precision *out, at_error *err)
{
    if (strcmp(text, "fp32") && strcmp(text, "bf16"))
        return at_fail(err, AT_EINPUT, "unknown precision \"%s\"; it is fp32 or bf16", text);
    *out = strcmp(text, "bf16") ? AT_FP32 : AT_BF16;
    return 0;
}

int at_precision_check(at_precision precision, at_error *err)
{
    if (precision == AT_BF16 && dnn_isa_allowed() < DNN_AVX512_BF16)
        return at_fail(
            err, AT_EINPUT,
            "this CPU does not compute in bf16 (its instructions: %s); use precision fp32",
            at_cpu_instructions());
    return 0;
}

const char *at_cpu_instructions(void)
{
    return dnn_isa_name(dnn_isa_allowed());
}

void at_onednn_version(char out[32])
{
    dnn_version(out);
}

/* ---- making ---------------------------------------------------------------------------------- */

/* Inference runs what the last row needs: no auxiliary losses, nor what feeds only those. Rows are
 * walked from behind, so that each has been marked by its readers before. */
static void leave_out(at_plan *p)
{
    for (int i = 0; i + 1 < p->op_count; i++)
        p->ops[i].absorbed = !p->options.training;
    for (int i = p->op_count; i-- > 0;)
        for (int k = 0; k < p->ops[i].row->input_count && !p->ops[i].absorbed; k++)
            p->ops[p->ops[i].row->inputs[k]].absorbed = false;
}

static void connect_inputs(at_plan *p, plan_op *op)
{
    if (op->absorbed)
        op->out->producer = NULL;
    for (int k = 0; k < op->row->input_count; k++) {
        plan_tensor *in = op->in[k] = &p->tensors[op->row->inputs[k]];
        op->out->wants_grad |= in->wants_grad;
        if (op->absorbed)
            continue;
        in->consumers++;
        in->consumer = op;
    }
}

static int make_ops(at_plan *p, at_error *err)
{
    size_t n = p->net->row_count;
    p->ops = calloc(n, sizeof *p->ops);
    p->tensors = calloc(n, sizeof *p->tensors);
    size_t scores = p->sizing ? 1 : (size_t)p->options.batch * (size_t)at_net_classes(p->net) * 4;
    p->logits = at_alloc_aligned(scores);
    p->scores = at_alloc_aligned(scores);
    if (!p->ops || !p->tensors || !p->logits || !p->scores)
        return at_nomem(err);
    p->op_count = (int)n;
    for (int i = 0; i < p->op_count; i++) {
        plan_op *op = &p->ops[i];
        size_t elements = (size_t)nn_elements(p->net->rows[i].out);
        if (!at_mul(elements, (size_t)p->options.batch, NN_LIMIT / sizeof(float), &elements))
            return at_fail(err, AT_EINPUT, "row \"%s\": a batch of %d of them is too large",
                           p->net->rows[i].row.name, p->options.batch);
        *op = (plan_op){.plan = p, .row = &p->net->rows[i], .index = i, .out = &p->tensors[i]};
        op->input_count = op->row->input_count;
        op->out->shape = op->row->out;
        op->out->precision = p->options.precision;
        op->out->producer = op;
        op->out->lanes = op->row->out.vector ? op->row->out.c : 0;
        op->trains = p->options.training && op->row->param_count > 0 && !op->row->frozen;
        op->out->wants_grad = op->trains;
    }
    leave_out(p);
    for (int i = 0; i < p->op_count; i++)
        connect_inputs(p, &p->ops[i]);
    return 0;
}

/* Where several ops add to one gradient, the first in backward writes it; the others come through
 * memory of their own, or add to it themselves. */
static int share_gradients(at_plan *p, at_error *err)
{
    for (int i = 0; i < p->op_count; i++) {
        plan_op *op = &p->ops[i];
        for (int k = 0; k < op->input_count && !op->absorbed; k++) {
            plan_tensor *in = op->in[k];
            bool adds = k == 0 && op->adds_grad;
            if (in->wants_grad && !adds && plan_grad_is_there(op, k) &&
                plan_want(op, &op->in_grad[k], plan_tensor_bytes(p, in), LIVES_BACKWARD, err))
                return AT_ENOMEM;
        }
    }
    return 0;
}

static int bind_all(at_plan *p, at_error *err)
{
    int status = 0;
    for (int i = 0; i < p->op_count && !status; i++) {
        plan_op *op = &p->ops[i];
        for (int k = 0; k < op->input_count; k++)
            if (!op->in_grad[k] && op->in[k]->wants_grad)
                op->in_grad[k] = op->in[k]->grad;
        if (op->bind && !op->absorbed)
            status = op->bind(op, err);
    }
    return status;
}

/* Blocks of 16 channels, multiplied out of n real ones. */
static double blocked(int64_t n)
{
    return (double)((n + 15) / 16 * 16);
}

/* Whether the convolutions, in blocks of 16 channels, would compute with padding more than half of
 * the time. Batch normalisation would see the samples that fill up the last group. */
static bool wants_groups(const at_plan *p)
{
    double real = 0, padded = 0;
    bool normalises = false;
    for (int i = 0; i < p->op_count; i++) {
        const nn_row *row = p->ops[i].row;
        if (row->layer == &at_layer_conv && !conv_grouped_can(row))
            return false;
        normalises |= row->layer == &at_layer_bn && !row->out.vector;
        if (row->layer != &at_layer_conv)
            continue;
        double flops = row->layer->flops(row);
        real += flops;
        padded += flops * blocked(row->in[0].c) * blocked(row->out.c) /
                  (double)(row->in[0].c * row->out.c);
    }
    if (normalises && p->options.batch % p->kernels->lanes)
        return false;
    return p->options.batch >= p->kernels->lanes / 2 && real < 0.5 * padded;
}

static int compile(at_plan *p, at_error *err)
{
    int status = make_ops(p, err);
    if (status)
        return status;
    p->grouped = wants_groups(p);
    plan_absorb(p);
    for (int i = 0; i < p->op_count && !status; i++) {
        plan_op *op = &p->ops[i];
        if (!op->absorbed)
            status = op->row->layer->build(op, err);
        if (!op->backward)
            op->keeps_input = op->keeps_output = false;
        if (status)
            return at_fail_in(err, "row \"%s\" (%s)", op->row->row.name, op->row->row.layer);
    }
    for (int i = 0; i < p->op_count; i++)
        if (!plan_lanes(&p->tensors[i]))
            plan_set_lanes(&p->tensors[i], p->tensors[i].shape.c);
    plan_remake(p);
    if (p->options.training)
        status = share_gradients(p, err);
    if (!status)
        status = plan_memory(p, err);
    return status || p->sizing ? status : bind_all(p, err);
}

static at_plan *make_plan(at_net *net, const at_plan_options *options, bool sizing, at_error *err)
{
    if (options->batch < 1 || options->batch > 1 << 20 || options->threads < 0) {
        at_fail(err, AT_EINPUT, "a plan needs a batch of 1 to %d and no negative threads", 1 << 20);
        return NULL;
    }
    at_plan *p = calloc(1, sizeof *p);
    if (!p) {
        at_nomem(err);
        return NULL;
    }
    p->net = net;
    p->options = *options;
    p->sizing = sizing;
    if (p->options.threads == 0)
        p->options.threads = at_cpu_count();
    p->kernels = nn_kernels_best();
    p->engine = dnn_engine_new(err);
    int before = omp_get_max_threads();
    omp_set_num_threads(p->options.threads);
    int status = p->engine ? compile(p, err) : AT_EFAIL;
    omp_set_num_threads(before);
    if (!status)
        return p;
    at_plan_free(p);
    return NULL;
}

at_plan *plan_new_unchecked(at_net *net, const at_plan_options *options, at_error *err)
{
    return make_plan(net, options, false, err);
}

at_plan *plan_new_sizes(at_net *net, const at_plan_options *options, at_error *err)
{
    return make_plan(net, options, true, err);
}

at_plan *at_plan_new(at_net *net, const at_plan_options *options, at_error *err)
{
    return at_precision_check(options->precision, err) ? NULL
                                                       : plan_new_unchecked(net, options, err);
}

void at_plan_free(at_plan *p)
{
    if (!p)
        return;
    for (int i = 0; i < p->op_count; i++) {
        plan_op *op = &p->ops[i];
        if (op->state && op->row->layer->fini)
            op->row->layer->fini(op);
        free(op->state);
    }
    plan_memory_free(p);
    free(p->buffers);
    free(p->ops);
    free(p->tensors);
    at_free_aligned(p->logits);
    at_free_aligned(p->scores);
    dnn_engine_free(p->engine);
    free(p);
}

/* ---- running --------------------------------------------------------------------------------- */

static int run_forward(at_plan *p, at_error *err)
{
    int status = 0;
    for (int i = 0; i < p->op_count && !status; i++) {
        plan_op *op = &p->ops[i];
        if (!op->forward)
            continue;
        double start = p->profiling ? at_now() : 0;
        status = op->forward(op, err);
        if (p->profiling)
            plan_note_time(&op->forward_seconds, start);
    }
    return status;
}

typedef struct add_work {
    const plan_op *op;
    const plan_tensor *to;
    const void *from;
} add_work;

static void add_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const add_work *w = context;
    w->op->plan->kernels->add(w->to->precision == AT_BF16, w->from, w->to->grad, begin, end);
}

static void add_gradients(plan_op *op)
{
    at_plan *p = op->plan;
    for (int k = 0; k < op->input_count; k++) {
        plan_tensor *in = op->in[k];
        add_work w = {op, in, op->in_grad[k]};
        if (in->wants_grad && w.from != in->grad)
            plan_parallel_bytes(p, plan_tensor_elements(p, in), plan_tensor_bytes(p, in), add_part,
                                &w);
    }
}

/* After each op with parameters the gradients up to its last one are final. */
static void tell_ready(const plan_op *op)
{
    const at_plan_input *in = op->plan->input;
    int n = op->row->param_count;
    if (!n || !in->ready)
        return;
    const at_param *last = &op->row->params[n - 1].info;
    in->ready(in->context, last->offset + last->count);
}

static int run_backward(at_plan *p, at_error *err)
{
    int status = 0;
    for (int i = p->op_count; i-- > 0 && !status;) {
        plan_op *op = &p->ops[i];
        if (!op->backward || op->absorbed)
            continue;
        double start = p->profiling ? at_now() : 0;
        if (op->in[0] && op->in[0]->remade)
            op->in[0]->producer->remake(op->in[0]->producer);
        status = op->backward(op, err);
        add_gradients(op);
        if (p->profiling)
            plan_note_time(&op->backward_seconds, start);
        if (!status)
            tell_ready(op);
    }
    return status;
}

static int run(at_plan *p, const at_plan_input *in, at_plan_stats *stats, at_error *err)
{
    at_plan_stats unused = {0};
    int before = omp_get_max_threads();
    omp_set_num_threads(p->options.threads);
    p->input = in;
    p->stats = stats ? stats : &unused;
    int status = run_forward(p, err);
    if (!status && p->options.training)
        status = run_backward(p, err);
    p->input = NULL;
    p->stats = NULL;
    omp_set_num_threads(before);
    return status;
}

int at_plan_train(at_plan *p, const at_plan_input *in, at_plan_stats *stats, at_error *err)
{
    if (!p->options.training || !in->labels)
        return at_fail(err, AT_EFAIL, "training needs labels and a plan that was made for it");
    return run(p, in, stats, err);
}

int at_plan_infer(at_plan *p, const at_plan_input *in, at_plan_stats *stats, at_error *err)
{
    if (p->options.training)
        return at_fail(err, AT_EFAIL, "inference needs a plan that was not made for training");
    return run(p, in, stats, err);
}

const float *at_plan_logits(const at_plan *p)
{
    return p->logits;
}

const float *at_plan_scores(const at_plan *p)
{
    return p->scores;
}

size_t at_plan_bytes(const at_plan *p)
{
    return p->arena_bytes;
}
