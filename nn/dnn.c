/* SPDX-License-Identifier: Apache-2.0
 * dnn: oneDNN's objects as calls. Written to what the C APIs of 2.x and 3.x have in common; where
 * they differ, dnn_version.h stands between.
 *
 * Primitives get their scratch memory from the caller (scratchpad_mode_user), so that it comes from
 * the plan's arena. All memory is bound before the first run: a step makes no oneDNN object.
 */
#include "dnn_version.h"

#include <stdlib.h>

struct dnn_engine {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
};

typedef enum { KIND_CONV, KIND_DENSE, KIND_REORDER } call_kind;

struct dnn_call {
    dnn_engine *engine;
    call_kind kind;
    dnn_direction direction;
    at_precision precision;
    bool sum;
    nn_activation activation;
    int64_t n;
    nn_shape src, dst;
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t primitive;
    dnn_layout plain; /* the weights as in at_net_params */
    int args;
    dnnl_exec_arg_t arg[DNN_SLOTS];
    int arg_of[DNN_SLOTS]; /* DNNL_ARG_*; 0: no such slot */
};

static int fail(at_error *err, dnnl_status_t status, const char *what)
{
    int code = status == dnnl_out_of_memory ? AT_ENOMEM : AT_EFAIL;
    return at_fail(err, code, "oneDNN %s: %s", what, dnnl_status2str(status));
}

static dnnl_data_type_t type_of(at_precision precision)
{
    return precision == AT_BF16 ? dnnl_bf16 : dnnl_f32;
}

dnn_engine *dnn_engine_new(at_error *err)
{
    dnn_engine *e = calloc(1, sizeof *e);
    if (!e) {
        at_nomem(err);
        return NULL;
    }
    dnnl_status_t status = dnnl_engine_create(&e->engine, dnnl_cpu, 0);
    if (!status)
        status = dnnl_stream_create(&e->stream, e->engine, dnnl_stream_default_flags);
    if (status) {
        fail(err, status, "engine");
        dnn_engine_free(e);
        return NULL;
    }
    return e;
}

void dnn_engine_free(dnn_engine *e)
{
    if (!e)
        return;
    if (e->stream)
        dnnl_stream_destroy(e->stream);
    if (e->engine)
        dnnl_engine_destroy(e->engine);
    free(e);
}

void dnn_version(char out[32])
{
    const dnnl_version_t *v = dnnl_version();
    snprintf(out, 32, "%d.%d.%d", v->major, v->minor, v->patch);
}

dnn_isa dnn_isa_allowed(void)
{
    static const dnnl_cpu_isa_t sets[] = {[DNN_AVX2] = dnnl_cpu_isa_avx2,
                                          [DNN_AVX512] = dnnl_cpu_isa_avx512_core,
                                          [DNN_AVX512_BF16] = dnnl_cpu_isa_avx512_core_bf16,
                                          [DNN_AMX] = dnnl_cpu_isa_avx512_core_amx};
    unsigned int has = (unsigned int)dnnl_get_effective_cpu_isa();
    dnn_isa best = DNN_SSE;
    for (dnn_isa isa = DNN_AVX2; isa <= DNN_AMX; isa++)
        if ((has & (unsigned int)sets[isa]) == (unsigned int)sets[isa])
            best = isa;
    return best;
}

const char *dnn_isa_name(dnn_isa isa)
{
    static const char *const names[] = {"sse", "avx2", "avx512", "avx512-bf16", "amx"};
    return names[isa];
}

static dnnl_format_tag_t tag_of(int64_t lanes, int64_t channels)
{
    if (lanes == 0)
        return dnnl_format_tag_any;
    if (lanes == channels)
        return dnnl_nhwc;
    return lanes == 16 ? dnnl_nChw16c : lanes == 8 ? dnnl_nChw8c : dnnl_nchw;
}

static dnn_layout image_layout(int64_t n, nn_shape s, at_precision precision, int64_t lanes)
{
    dnnl_dims_t dims = {n, s.c, s.h, s.w};
    return dnn_layout_new(4, dims, type_of(precision), tag_of(lanes, s.c));
}

static dnn_layout query_layout(const dnn_call *call, dnn_slot slot)
{
    if (slot == DNN_SCRATCH)
        return dnnl_primitive_desc_query_md(call->desc, dnnl_query_scratchpad_md, 0);
    return dnnl_primitive_desc_query_md(call->desc, dnnl_query_exec_arg_md, call->arg_of[slot]);
}

static dnn_call *new_call(dnn_engine *e, call_kind kind, dnn_direction direction, at_error *err)
{
    dnn_call *call = calloc(1, sizeof *call);
    if (!call) {
        at_nomem(err);
        return NULL;
    }
    call->engine = e;
    call->kind = kind;
    call->direction = direction;
    bool backward = direction == DNN_BACKWARD_DATA || direction == DNN_BACKWARD_WEIGHTS;
    bool weights = direction == DNN_BACKWARD_WEIGHTS;
    call->arg_of[DNN_SRC] = direction == DNN_BACKWARD_DATA ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC;
    call->arg_of[DNN_DST] = backward ? DNNL_ARG_DIFF_DST : DNNL_ARG_DST;
    call->arg_of[DNN_SCRATCH] = DNNL_ARG_SCRATCHPAD;
    if (kind != KIND_REORDER)
        call->arg_of[DNN_WEIGHTS] = weights ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS;
    return call;
}

static void add_bias(dnn_call *call)
{
    if (call->direction != DNN_BACKWARD_DATA)
        call->arg_of[DNN_BIAS] =
            call->direction == DNN_BACKWARD_WEIGHTS ? DNNL_ARG_DIFF_BIAS : DNNL_ARG_BIAS;
}

/* What the call does behind its own work. */
static dnnl_status_t add_post_ops(dnnl_primitive_attr_t attr, bool sum, nn_activation activation)
{
    static const struct {
        dnnl_alg_kind_t algorithm;
        float alpha;
    } of[] = {[NN_RELU] = {dnnl_eltwise_relu, 0},
              [NN_GELU] = {dnnl_eltwise_gelu_erf, 0},
              [NN_SIGMOID] = {dnnl_eltwise_logistic, 0},
              [NN_TANH] = {dnnl_eltwise_tanh, 0},
              [NN_SILU] = {dnnl_eltwise_swish, 1}};
    dnnl_post_ops_t ops = NULL;
    dnnl_status_t status = dnnl_post_ops_create(&ops);
    if (!status && sum)
        status = dnn_append_sum(ops);
    if (!status && activation)
        status = dnn_append_eltwise(ops, of[activation].algorithm, of[activation].alpha);
    if (!status)
        status = dnnl_primitive_attr_set_post_ops(attr, ops);
    if (ops)
        dnnl_post_ops_destroy(ops);
    return status;
}

static dnnl_status_t make_attr(dnnl_primitive_attr_t *attr, const dnn_call *call)
{
    dnnl_status_t status = dnnl_primitive_attr_create(attr);
    if (!status)
        status = dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user);
    if (!status && (call->sum || call->activation))
        status = add_post_ops(*attr, call->sum, call->activation);
    return status;
}

/* The primitive of call->desc, or NULL and the call freed. */
static dnn_call *finish(dnn_call *call, dnnl_status_t status, const char *what, at_error *err)
{
    if (!status)
        status = dnnl_primitive_create(&call->primitive, call->desc);
    if (!status)
        return call;
    fail(err, status, what);
    dnn_call_free(call);
    return NULL;
}

/* Whether plans can tell the layouts that the library chose. */
static bool known_layouts(const dnn_call *call)
{
    return dnn_call_lanes(call, DNN_SRC) > 0 && dnn_call_lanes(call, DNN_DST) > 0;
}

/* The layouts of the forward direction, and that of the weights' gradient, which is fp32. */
typedef struct call_layouts {
    dnn_layouts forward;
    dnn_layout gradient;
} call_layouts;

static dnnl_status_t check_layouts(const dnn_call *call, const call_layouts *l, bool bias)
{
    const dnn_layouts *f = &l->forward;
    bool all = f->src && f->weights && f->dst && l->gradient && call->plain;
    return all && (f->bias || !bias) ? dnnl_success : dnnl_out_of_memory;
}

static void free_layouts(const call_layouts *l)
{
    dnn_layout_free(l->forward.src);
    dnn_layout_free(l->forward.weights);
    dnn_layout_free(l->forward.bias);
    dnn_layout_free(l->forward.dst);
    dnn_layout_free(l->gradient);
}

/* call->desc, of a convolution, or without a window of a fully connected layer. */
static dnnl_status_t describe(dnn_call *call, const call_layouts *l, const dnn_conv_window *window)
{
    dnnl_engine_t engine = call->engine->engine;
    dnn_layouts own = l->forward;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t hint = NULL;
    dnnl_status_t status = make_attr(&attr, call);
    if (call->direction == DNN_BACKWARD_WEIGHTS)
        own.weights = l->gradient;
    if (!status && call->direction != DNN_FORWARD)
        status = window ? dnn_conv_desc(&hint, engine, DNN_FORWARD, &l->forward, window, NULL, NULL)
                        : dnn_dense_desc(&hint, engine, DNN_FORWARD, &l->forward, NULL, NULL);
    if (!status)
        status = window
                     ? dnn_conv_desc(&call->desc, engine, call->direction, &own, window, attr, hint)
                     : dnn_dense_desc(&call->desc, engine, call->direction, &own, attr, hint);
    if (hint)
        dnnl_primitive_desc_destroy(hint);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    return status;
}

dnn_call *dnn_conv_new(dnn_engine *e, const dnn_conv_spec *s, at_error *err)
{
    dnn_call *call = new_call(e, KIND_CONV, s->direction, err);
    if (!call)
        return NULL;
    call->precision = s->precision;
    call->sum = s->sum && s->direction == DNN_FORWARD;
    call->activation = s->activation;
    call->n = s->n;
    call->src = s->src;
    call->dst = s->dst;
    if (s->bias)
        add_bias(call);
    const nn_window *w = &s->window;
    /* Grouped weights [g,O/g,I/g,h,w] lie in memory as [O,I/g,h,w]. */
    dnnl_dims_t one = {s->dst.c, s->src.c, w->kh, w->kw}, bias = {s->dst.c};
    dnnl_dims_t several = {s->groups, s->dst.c / s->groups, s->src.c / s->groups, w->kh, w->kw};
    bool grouped = s->groups > 1;
    const dnnl_dim_t *kernel = grouped ? several : one;
    int ndims = grouped ? 5 : 4;
    dnn_conv_window window = {
        .algorithm = s->winograd ? dnnl_convolution_winograd : dnnl_convolution_direct,
        .strides = {w->sh, w->sw},
        .dilation = {w->dh - 1, w->dw - 1},
        .padding = {w->ph, w->pw},
    };
    call_layouts l = {
        .forward.src = image_layout(s->n, s->src, s->precision, s->src_lanes),
        .forward.weights =
            dnn_layout_new(ndims, kernel, type_of(s->precision), dnnl_format_tag_any),
        .forward.bias = s->bias ? dnn_layout_new(1, bias, dnnl_f32, dnnl_x) : NULL,
        .forward.dst = image_layout(s->n, s->dst, s->precision, s->dst_lanes),
        .gradient = dnn_layout_new(ndims, kernel, dnnl_f32, dnnl_format_tag_any),
    };
    call->plain = dnn_layout_new(ndims, kernel, dnnl_f32, grouped ? dnnl_goihw : dnnl_oihw);
    dnnl_status_t status = check_layouts(call, &l, s->bias);
    if (!status)
        status = describe(call, &l, &window);
    free_layouts(&l);
    if (!status && !known_layouts(call))
        status = dnnl_unimplemented;
    return finish(call, status, "convolution", err);
}

dnn_call *dnn_dense_new(dnn_engine *e, const dnn_dense_spec *s, at_error *err)
{
    dnn_call *call = new_call(e, KIND_DENSE, s->direction, err);
    if (!call)
        return NULL;
    call->precision = s->precision;
    call->n = s->n;
    call->src = (nn_shape){s->in, 1, 1};
    call->dst = (nn_shape){s->out, 1, 1};
    if (s->bias)
        add_bias(call);
    dnnl_dims_t src = {s->n, s->in}, weights = {s->out, s->in}, bias = {s->out},
                dst = {s->n, s->out};
    dnnl_data_type_t type = type_of(s->precision);
    call_layouts l = {
        .forward.src = dnn_layout_new(2, src, type, dnnl_ab),
        .forward.weights = dnn_layout_new(2, weights, type, dnnl_ab),
        .forward.bias = s->bias ? dnn_layout_new(1, bias, dnnl_f32, dnnl_x) : NULL,
        .forward.dst = dnn_layout_new(2, dst, type, dnnl_ab),
        .gradient = dnn_layout_new(2, weights, dnnl_f32, dnnl_ab),
    };
    call->plain = dnn_layout_new(2, weights, dnnl_f32, dnnl_ab);
    dnnl_status_t status = check_layouts(call, &l, s->bias);
    if (!status)
        status = describe(call, &l, NULL);
    free_layouts(&l);
    return finish(call, status, "inner product", err);
}

static dnn_call *new_reorder(dnn_engine *e, dnn_layout from, dnn_layout to, at_error *err)
{
    dnn_call *call = new_call(e, KIND_REORDER, DNN_FORWARD, err);
    if (!call)
        return NULL;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t status = from && to ? make_attr(&attr, call) : dnnl_out_of_memory;
    if (!status)
        status =
            dnnl_reorder_primitive_desc_create(&call->desc, from, e->engine, to, e->engine, attr);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    return finish(call, status, "reorder", err);
}

dnn_call *dnn_weights_reorder_new(dnn_engine *e, const dnn_call *of, at_error *err)
{
    dnn_layout theirs = query_layout(of, DNN_WEIGHTS);
    if (of->direction == DNN_BACKWARD_WEIGHTS)
        return new_reorder(e, theirs, of->plain, err);
    return new_reorder(e, of->plain, theirs, err);
}

bool dnn_weights_plain(const dnn_call *call)
{
    return dnnl_memory_desc_equal(query_layout(call, DNN_WEIGHTS), call->plain);
}

dnn_call *dnn_tensor_reorder_new(dnn_engine *e, int64_t n, nn_shape shape, at_precision precision,
                                 int64_t from_lanes, int64_t to_lanes, at_error *err)
{
    dnn_layout from = image_layout(n, shape, precision, from_lanes);
    dnn_layout to = image_layout(n, shape, precision, to_lanes);
    dnn_call *call = new_reorder(e, from, to, err);
    dnn_layout_free(from);
    dnn_layout_free(to);
    return call;
}

void dnn_call_free(dnn_call *call)
{
    if (!call)
        return;
    for (int i = 0; i < call->args; i++)
        dnnl_memory_destroy(call->arg[i].memory);
    if (call->primitive)
        dnnl_primitive_destroy(call->primitive);
    if (call->desc)
        dnnl_primitive_desc_destroy(call->desc);
    dnn_layout_free(call->plain);
    free(call);
}

size_t dnn_call_bytes(const dnn_call *call, dnn_slot slot)
{
    if (!call->arg_of[slot])
        return 0;
    dnn_layout layout = query_layout(call, slot);
    return layout ? dnnl_memory_desc_get_size(layout) : 0;
}

int64_t dnn_call_lanes(const dnn_call *call, dnn_slot slot)
{
    nn_shape s = slot == DNN_SRC ? call->src : call->dst;
    if (call->kind != KIND_CONV)
        return s.c;
    dnn_layout layout = query_layout(call, slot);
    const int64_t tries[] = {s.c, 16, 8, 1};
    for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
        dnn_layout like = image_layout(call->n, s, call->precision, tries[i]);
        bool same = like && dnnl_memory_desc_equal(layout, like);
        dnn_layout_free(like);
        if (same)
            return tries[i];
    }
    return -1;
}

const char *dnn_call_name(const dnn_call *call)
{
    const char *name = "";
    dnnl_primitive_desc_query(call->desc, dnnl_query_impl_info_str, 0, &name);
    return name;
}

int dnn_call_bind(dnn_call *call, dnn_slot slot, const void *memory, at_error *err)
{
    if (!dnn_call_bytes(call, slot))
        return 0;
    dnnl_memory_t object = NULL;
    dnnl_status_t status = dnnl_memory_create(&object, query_layout(call, slot),
                                              call->engine->engine, (void *)(uintptr_t)memory);
    if (status)
        return fail(err, status, "memory");
    for (int i = 0; i < call->args; i++) {
        if (call->arg[i].arg == call->arg_of[slot]) {
            dnnl_memory_destroy(call->arg[i].memory);
            call->arg[i].memory = object;
            return 0;
        }
    }
    call->arg[call->args++] = (dnnl_exec_arg_t){call->arg_of[slot], object};
    return 0;
}

int dnn_call_run(dnn_call *call, at_error *err)
{
    dnnl_status_t status =
        dnnl_primitive_execute(call->primitive, call->engine->stream, call->args, call->arg);
    return status ? fail(err, status, "execution") : 0;
}
