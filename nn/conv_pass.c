/* SPDX-License-Identifier: Apache-2.0
 * conv_pass: see conv.h. The master weights are fp32 [O,I,KH,KW]; in training each pass reorders
 * them once a step, which is cheap beside the convolution and keeps the flat buffers canonical.
 */
#include "conv.h"

#include <stdlib.h>

static bool is_forward(const conv_pass *pass)
{
    return pass->spec.direction == DNN_FORWARD;
}

/* A reorder between the tensor's layout and the primitive's. */
static int add_reorder(conv_pass *pass, dnn_engine *e, dnn_slot slot, int64_t lanes, at_error *err)
{
    int64_t theirs = dnn_call_lanes(pass->main, slot);
    bool out = pass->spec.direction == DNN_BACKWARD_DATA && slot == DNN_SRC;
    if (lanes == 0 || lanes == theirs || (is_forward(pass) && slot == DNN_DST))
        return 0;
    nn_shape shape = slot == DNN_SRC ? pass->spec.src : pass->spec.dst;
    dnn_call *call = dnn_tensor_reorder_new(e, pass->spec.n, shape, pass->spec.precision,
                                            out ? theirs : lanes, out ? lanes : theirs, err);
    *(slot == DNN_SRC ? &pass->src : &pass->dst) = call;
    return call ? 0 : AT_EFAIL;
}

/* Of our own kernels, those that can do it. */
static const conv_own *own_for(const at_plan *p, const dnn_conv_spec *spec, int64_t src_lanes,
                               int64_t dst_lanes)
{
    static const conv_own *const all[] = {&conv_winograd, &conv_amx};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]->can(p, spec, src_lanes, dst_lanes))
            return all[i];
    return NULL;
}

bool conv_own_can(const at_plan *p, const dnn_conv_spec *spec, int64_t src_lanes, int64_t dst_lanes)
{
    return own_for(p, spec, src_lanes, dst_lanes);
}

static int new_own(conv_pass *out, at_plan *p, const dnn_conv_spec *spec, int64_t src_lanes,
                   int64_t dst_lanes, at_error *err)
{
    const conv_own *own = own_for(p, spec, src_lanes, dst_lanes);
    if (!own)
        return at_fail(err, AT_EFAIL, "no kernel of our own for this convolution");
    *out = (conv_pass){.plan = p, .kind = CONV_OWN, .spec = *spec, .own = own};
    int64_t blocked = p->kernels->lanes;
    if (!src_lanes)
        src_lanes = own->can(p, spec, blocked, dst_lanes) ? blocked : spec->src.c;
    if (!dst_lanes) /* NHWC stays so, if it can */
        dst_lanes = src_lanes == spec->src.c && src_lanes > blocked &&
                            own->can(p, spec, src_lanes, spec->dst.c)
                        ? spec->dst.c
                        : blocked;
    out->spec.src_lanes = src_lanes;
    out->spec.dst_lanes = dst_lanes;
    out->own_state = own->new (p, &out->spec, err);
    return out->own_state ? 0 : AT_ENOMEM;
}

static int new_thin(conv_pass *out, at_plan *p, const dnn_conv_spec *spec, int64_t src_lanes,
                    at_error *err)
{
    if (!conv_thin_can(spec, src_lanes))
        return at_fail(err, AT_EFAIL, "this convolution reads every pixel");
    dnn_conv_spec thin = conv_thin_spec(spec);
    *out = (conv_pass){
        .plan = p, .kind = CONV_THIN, .spec = *spec, .main = dnn_conv_new(p->engine, &thin, err)};
    if (out->main && dnn_call_lanes(out->main, DNN_SRC) == src_lanes)
        return 0;
    conv_pass_fini(out);
    return at_fail(err, AT_EFAIL, "no kernel for the input's layout");
}

static int new_dense(conv_pass *out, at_plan *p, const dnn_conv_spec *spec, at_error *err)
{
    dnn_dense_spec dense = {.direction = spec->direction,
                            .bias = spec->bias,
                            .precision = spec->precision,
                            .n = spec->n,
                            .in = spec->src.c,
                            .out = spec->dst.c};
    *out = (conv_pass){.plan = p,
                       .kind = CONV_DENSE,
                       .spec = *spec,
                       .main = dnn_dense_new(p->engine, &dense, err)};
    return out->main ? 0 : AT_EFAIL;
}

static int new_library(conv_pass *out, at_plan *p, const dnn_conv_spec *spec, at_error *err)
{
    *out = (conv_pass){.plan = p, .spec = *spec, .main = dnn_conv_new(p->engine, spec, err)};
    return out->main ? 0 : AT_EFAIL;
}

int conv_pass_new(conv_pass *out, at_plan *p, const dnn_conv_spec *spec, conv_kind kind,
                  int64_t src_lanes, int64_t dst_lanes, at_error *err)
{
    dnn_engine *e = p->engine;
    if (kind == CONV_OWN)
        return new_own(out, p, spec, src_lanes, dst_lanes, err);
    int status = kind == CONV_THIN    ? new_thin(out, p, spec, src_lanes, err)
                 : kind == CONV_DENSE ? new_dense(out, p, spec, err)
                                      : new_library(out, p, spec, err);
    if (status)
        return status;
    status = add_reorder(out, e, DNN_SRC, src_lanes, err);
    if (!status)
        status = add_reorder(out, e, DNN_DST, dst_lanes, err);
    if (!status && !dnn_weights_plain(out->main)) {
        out->weights = dnn_weights_reorder_new(e, out->main, err);
        status = out->weights ? 0 : AT_EFAIL;
    }
    if (status)
        conv_pass_fini(out);
    return status;
}

void conv_pass_fini(conv_pass *pass)
{
    free(pass->own_state);
    dnn_call_free(pass->main);
    dnn_call_free(pass->weights);
    dnn_call_free(pass->src);
    dnn_call_free(pass->dst);
    *pass = (conv_pass){0};
}

bool conv_pass_made(const conv_pass *pass)
{
    return pass->own || pass->main;
}

const char *conv_pass_name(const conv_pass *pass)
{
    return pass->own ? pass->own->name : dnn_call_name(pass->main);
}

int64_t conv_pass_lanes(const conv_pass *pass, dnn_slot slot)
{
    if (pass->own)
        return slot == DNN_SRC ? pass->spec.src_lanes : pass->spec.dst_lanes;
    return dnn_call_lanes(pass->main, slot);
}

bool conv_pass_copies(const conv_pass *pass)
{
    return pass->own || pass->weights;
}

bool conv_pass_is_own(const conv_pass *pass)
{
    return pass->own;
}

bool conv_pass_watches(const conv_pass *pass)
{
    return pass->own && pass->spec.activation == NN_IDENTITY;
}

bool conv_pass_reads_through(const conv_pass *pass)
{
    return pass->own && pass->spec.src_lanes % pass->plan->kernels->lanes == 0;
}

static size_t own_bytes(const conv_pass *pass, dnn_slot slot)
{
    nn_shape s = slot == DNN_SRC ? pass->spec.src : pass->spec.dst;
    int64_t lanes = conv_pass_lanes(pass, slot);
    size_t number = pass->spec.precision == AT_BF16 ? sizeof(uint16_t) : sizeof(float);
    return (size_t)(pass->spec.n * ((s.c + lanes - 1) / lanes * lanes) * s.h * s.w) * number;
}

size_t conv_pass_bytes(const conv_pass *pass, dnn_slot slot)
{
    if (pass->own)
        return own_bytes(pass, slot);
    bool thin = pass->kind == CONV_THIN && slot == DNN_SRC;
    return thin ? conv_thin_bytes(pass) : dnn_call_bytes(pass->main, slot);
}

int conv_pass_memory(conv_pass *pass, conv_want want, void *context, at_error *err)
{
    if (pass->own)
        return pass->own->memory(pass->own_state, want, context, err);
    struct {
        dnn_call *call, *scratch_of;
        dnn_slot slot;
        void **memory, **scratch;
    } pieces[] = {
        {pass->weights, pass->weights, DNN_WEIGHTS, &pass->weights_memory, &pass->weights_scratch},
        {pass->src, pass->src, DNN_SRC, &pass->src_memory, &pass->src_scratch},
        {pass->dst, pass->dst, DNN_DST, &pass->dst_memory, &pass->dst_scratch},
    };
    int status = want(context, false, &pass->scratch, dnn_call_bytes(pass->main, DNN_SCRATCH), err);
    if (!status && conv_spread_needed(pass))
        status = want(context, false, &pass->part, conv_part_bytes(pass), err);
    for (size_t i = 0; i < 3 && !status; i++) {
        if (!pieces[i].call)
            continue;
        status = want(context, i == 0, pieces[i].memory, dnn_call_bytes(pass->main, pieces[i].slot),
                      err);
        size_t scratch = dnn_call_bytes(pieces[i].scratch_of, DNN_SCRATCH);
        if (!status && scratch)
            status = want(context, false, pieces[i].scratch, scratch, err);
    }
    return status;
}

typedef struct want_for {
    plan_op *op;
    plan_life life, weights_life;
} want_for;

static int want_of_plan(void *context, bool weights, void **to, size_t bytes, at_error *err)
{
    const want_for *w = context;
    return plan_want(w->op, to, bytes, weights ? w->weights_life : w->life, err);
}

int conv_pass_plan(conv_pass *pass, plan_op *op, at_error *err)
{
    static const plan_life lives[DNN_DIRECTIONS] = {LIVES_FORWARD, LIVES_FOR_INPUTS,
                                                    LIVES_FOR_PARAMS};
    plan_life life = lives[pass->spec.direction];
    want_for w = {op, life, op->plan->options.constant ? LIVES_ALWAYS : life};
    return conv_pass_memory(pass, want_of_plan, &w, err);
}

static int bind_reorder(dnn_call *call, const void *from, const void *to, const void *scratch,
                        at_error *err)
{
    int status = dnn_call_bind(call, DNN_SRC, from, err);
    if (!status)
        status = dnn_call_bind(call, DNN_DST, to, err);
    return status ? status : dnn_call_bind(call, DNN_SCRATCH, scratch, err);
}

int conv_pass_bind(conv_pass *pass, const conv_memory *m, at_error *err)
{
    if (pass->own) {
        pass->own->bind(pass->own_state, m);
        return 0;
    }
    bool spread = conv_spread_needed(pass);
    const void *end = spread ? pass->part : m->src; /* of what is computed for the input */
    const void *src = pass->src ? pass->src_memory : end;
    const void *dst = pass->dst ? pass->dst_memory : m->dst;
    pass->whole = spread ? (void *)(uintptr_t)m->src : NULL;
    const void *weights = pass->weights ? pass->weights_memory : m->weights;
    bool src_out = pass->spec.direction == DNN_BACKWARD_DATA;
    bool weights_out = pass->spec.direction == DNN_BACKWARD_WEIGHTS;
    int status = 0;
    if (pass->src)
        status = bind_reorder(pass->src, src_out ? src : end, src_out ? end : src,
                              pass->src_scratch, err);
    if (!status && pass->dst)
        status = bind_reorder(pass->dst, m->dst, dst, pass->dst_scratch, err);
    if (!status && pass->weights)
        status = bind_reorder(pass->weights, weights_out ? weights : m->weights,
                              weights_out ? m->weights : weights, pass->weights_scratch, err);
    const void *const memory[DNN_SLOTS] = {src, weights, m->bias, dst, pass->scratch};
    for (dnn_slot slot = DNN_SRC; slot < DNN_SLOTS && !status; slot++)
        status = dnn_call_bind(pass->main, slot, memory[slot], err);
    return status;
}

static int run_if(dnn_call *call, bool when, at_error *err)
{
    return call && when ? dnn_call_run(call, err) : 0;
}

int conv_pass_weights(const conv_pass *pass, at_error *err)
{
    if (pass->own)
        pass->own->weights(pass->own_state);
    return run_if(pass->weights, pass->spec.direction != DNN_BACKWARD_WEIGHTS, err);
}

int conv_pass_run(const conv_pass *pass, at_error *err)
{
    if (pass->own) {
        pass->own->run(pass->own_state);
        return 0;
    }
    bool src_out = pass->spec.direction == DNN_BACKWARD_DATA;
    bool weights_out = pass->spec.direction == DNN_BACKWARD_WEIGHTS;
    int status = run_if(pass->src, !src_out, err);
    if (!status)
        status = run_if(pass->dst, true, err);
    if (!status)
        status = dnn_call_run(pass->main, err);
    if (!status)
        status = run_if(pass->src, src_out, err);
    if (!status && pass->whole)
        conv_spread(pass);
    return status ? status : run_if(pass->weights, weights_out, err);
}

int conv_passes_back(const plan_op *op, const conv_pass passes[DNN_DIRECTIONS], at_error *err)
{
    const conv_pass *data = &passes[DNN_BACKWARD_DATA];
    int status = op->trains ? conv_pass_run(&passes[DNN_BACKWARD_WEIGHTS], err) : 0;
    if (status || !op->in_grad[0])
        return status;
    status = conv_pass_weights(data, err);
    return status ? status : conv_pass_run(data, err);
}

void conv_passes_fini(conv_pass passes[DNN_DIRECTIONS])
{
    for (int i = 0; i < DNN_DIRECTIONS; i++)
        conv_pass_fini(&passes[i]);
}
