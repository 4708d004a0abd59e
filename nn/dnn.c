/* SPDX-License-Identifier: Apache-2.0
 * dnn: the only file that includes oneDNN's headers. Written to the C API of 2.6; what 3.x spells
 * otherwise (descriptors of operations, memory descriptors as values) is in the functions between
 * the two rulers below, the rest is the same in both.
 *
 * Primitives get their scratch memory from the caller (scratchpad_mode_user), so that it comes from
 * the plan's arena. All memory is bound before the first run: a step makes no oneDNN object.
 */
#include "dnn.h"

#include <oneapi/dnnl/dnnl.h>
#include <oneapi/dnnl/dnnl_debug.h>
#include <stdlib.h>
#include <string.h>

#if DNNL_VERSION_MAJOR != 2
#error "nn/dnn.c speaks oneDNN 2.x"
#endif

struct dnn_engine {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
};

typedef enum { KIND_CONV, KIND_DENSE, KIND_REORDER } call_kind;

struct dnn_call {
    dnn_engine *engine;
    call_kind kind;
    dnn_direction direction;
    nn_shape src, dst;
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t primitive;
    dnnl_memory_desc_t plain; /* the weights as in at_net_params */
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

/* ---- 2.x ------------------------------------------------------------------------------------- */

static dnnl_memory_desc_t make_desc(int ndims, const dnnl_dims_t dims, dnnl_data_type_t type,
                                    dnnl_format_tag_t tag)
{
    dnnl_memory_desc_t desc = {0};
    /* Dimensions and tags are the callers' constants: it cannot fail on them. */
    dnnl_memory_desc_init_by_tag(&desc, ndims, dims, type, tag);
    return desc;
}

typedef struct conv_descs {
    dnnl_memory_desc_t src, weights, bias, dst;
    dnnl_dims_t strides, padding;
    dnnl_alg_kind_t algorithm;
} conv_descs;

static dnnl_status_t conv_desc_forward(dnnl_primitive_desc_t *out, const dnn_engine *e,
                                       const conv_descs *d, bool bias,
                                       const_dnnl_primitive_attr_t attr)
{
    dnnl_convolution_desc_t op;
    dnnl_status_t status = dnnl_convolution_forward_desc_init(
        &op, dnnl_forward_training, d->algorithm, &d->src, &d->weights, bias ? &d->bias : NULL,
        &d->dst, d->strides, d->padding, d->padding);
    return status ? status : dnnl_primitive_desc_create(out, &op, attr, e->engine, NULL);
}

static dnnl_status_t conv_desc_backward(dnnl_primitive_desc_t *out, const dnn_engine *e,
                                        const conv_descs *d, bool bias, dnn_direction direction,
                                        const_dnnl_primitive_attr_t attr)
{
    dnnl_convolution_desc_t op;
    dnnl_primitive_desc_t hint = NULL;
    dnnl_status_t status = conv_desc_forward(&hint, e, d, bias, NULL);
    if (status)
        return status;
    if (direction == DNN_BACKWARD_DATA)
        status = dnnl_convolution_backward_data_desc_init(
            &op, d->algorithm, &d->src, &d->weights, &d->dst, d->strides, d->padding, d->padding);
    else
        status = dnnl_convolution_backward_weights_desc_init(
            &op, d->algorithm, &d->src, &d->weights, bias ? &d->bias : NULL, &d->dst, d->strides,
            d->padding, d->padding);
    if (!status)
        status = dnnl_primitive_desc_create(out, &op, attr, e->engine, hint);
    dnnl_primitive_desc_destroy(hint);
    return status;
}

typedef struct dense_descs {
    dnnl_memory_desc_t src, weights, bias, dst;
} dense_descs;

static dnnl_status_t dense_desc(dnnl_primitive_desc_t *out, const dnn_engine *e,
                                const dense_descs *d, bool bias, dnn_direction direction,
                                const_dnnl_primitive_attr_t attr, const_dnnl_primitive_desc_t hint)
{
    dnnl_inner_product_desc_t op;
    const dnnl_memory_desc_t *b = bias ? &d->bias : NULL;
    dnnl_status_t status = dnnl_success;
    if (direction == DNN_BACKWARD_DATA)
        status = dnnl_inner_product_backward_data_desc_init(&op, &d->src, &d->weights, &d->dst);
    else if (direction == DNN_BACKWARD_WEIGHTS)
        status =
            dnnl_inner_product_backward_weights_desc_init(&op, &d->src, &d->weights, b, &d->dst);
    else
        status = dnnl_inner_product_forward_desc_init(&op, dnnl_forward_training, &d->src,
                                                      &d->weights, b, &d->dst);
    return status ? status : dnnl_primitive_desc_create(out, &op, attr, e->engine, hint);
}

static const dnnl_memory_desc_t *query_desc(const dnn_call *call, dnn_slot slot)
{
    if (slot == DNN_SCRATCH)
        return dnnl_primitive_desc_query_md(call->desc, dnnl_query_scratchpad_md, 0);
    return dnnl_primitive_desc_query_md(call->desc, dnnl_query_exec_arg_md, call->arg_of[slot]);
}

/* ---- both ------------------------------------------------------------------------------------ */

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

bool dnn_has_bf16(void)
{
    return __builtin_cpu_supports("avx512bf16");
}

static dnnl_format_tag_t tag_of(int64_t lanes, int64_t channels)
{
    if (lanes == 0)
        return dnnl_format_tag_any;
    if (lanes == channels)
        return dnnl_nhwc;
    return lanes == 16 ? dnnl_nChw16c : lanes == 8 ? dnnl_nChw8c : dnnl_nchw;
}

static dnnl_memory_desc_t image_desc(int64_t n, nn_shape s, at_precision precision, int64_t lanes)
{
    dnnl_dims_t dims = {n, s.c, s.h, s.w};
    return make_desc(4, dims, type_of(precision), tag_of(lanes, s.c));
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

static dnnl_status_t make_attr(dnnl_primitive_attr_t *attr)
{
    dnnl_status_t status = dnnl_primitive_attr_create(attr);
    return status ? status
                  : dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user);
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

dnn_call *dnn_conv_new(dnn_engine *e, const dnn_conv_spec *s, at_error *err)
{
    dnn_call *call = new_call(e, KIND_CONV, s->direction, err);
    if (!call)
        return NULL;
    call->src = s->src;
    call->dst = s->dst;
    const nn_window *w = &s->window;
    dnnl_dims_t kernel = {s->dst.c, s->src.c, w->kh, w->kw}, bias = {s->dst.c};
    dnnl_data_type_t weights =
        s->direction == DNN_BACKWARD_WEIGHTS ? dnnl_f32 : type_of(s->precision);
    conv_descs d = {
        .src = image_desc(s->n, s->src, s->precision, s->src_lanes),
        .dst = image_desc(s->n, s->dst, s->precision, s->dst_lanes),
        .weights = make_desc(4, kernel, weights, dnnl_format_tag_any),
        .bias = make_desc(1, bias, dnnl_f32, dnnl_x),
        .strides = {w->sh, w->sw},
        .padding = {w->ph, w->pw},
        .algorithm = s->winograd ? dnnl_convolution_auto : dnnl_convolution_direct,
    };
    call->plain = make_desc(4, kernel, dnnl_f32, dnnl_oihw);
    if (s->bias)
        add_bias(call);
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t status = make_attr(&attr);
    if (!status && s->direction == DNN_FORWARD)
        status = conv_desc_forward(&call->desc, e, &d, s->bias, attr);
    else if (!status)
        status = conv_desc_backward(&call->desc, e, &d, s->bias, s->direction, attr);
    dnnl_primitive_attr_destroy(attr);
    if (!status && !known_layouts(call))
        status = dnnl_unimplemented;
    return finish(call, status, "convolution", err);
}

dnn_call *dnn_dense_new(dnn_engine *e, const dnn_dense_spec *s, at_error *err)
{
    dnn_call *call = new_call(e, KIND_DENSE, s->direction, err);
    if (!call)
        return NULL;
    call->src = (nn_shape){s->in, 1, 1};
    call->dst = (nn_shape){s->out, 1, 1};
    dnnl_dims_t src = {s->n, s->in}, weights = {s->out, s->in}, bias = {s->out},
                dst = {s->n, s->out};
    dnnl_data_type_t type = type_of(s->precision);
    bool gradient = s->direction == DNN_BACKWARD_WEIGHTS;
    dense_descs d = {
        .src = make_desc(2, src, type, dnnl_ab),
        .weights = make_desc(2, weights, type, dnnl_ab),
        .bias = make_desc(1, bias, dnnl_f32, dnnl_x),
        .dst = make_desc(2, dst, type, dnnl_ab),
    };
    call->plain = make_desc(2, weights, dnnl_f32, dnnl_ab);
    if (s->bias)
        add_bias(call);
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t hint = NULL;
    dnnl_status_t status = make_attr(&attr);
    bool backward = s->direction == DNN_BACKWARD_DATA || gradient;
    if (!status && backward)
        status = dense_desc(&hint, e, &d, s->bias, DNN_FORWARD, NULL, NULL);
    if (gradient)
        d.weights = call->plain;
    if (!status)
        status = dense_desc(&call->desc, e, &d, s->bias, s->direction, attr, hint);
    if (hint)
        dnnl_primitive_desc_destroy(hint);
    dnnl_primitive_attr_destroy(attr);
    return finish(call, status, "inner product", err);
}

static dnn_call *new_reorder(dnn_engine *e, const dnnl_memory_desc_t *from,
                             const dnnl_memory_desc_t *to, at_error *err)
{
    dnn_call *call = new_call(e, KIND_REORDER, DNN_FORWARD, err);
    if (!call)
        return NULL;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t status = make_attr(&attr);
    if (!status)
        status =
            dnnl_reorder_primitive_desc_create(&call->desc, from, e->engine, to, e->engine, attr);
    dnnl_primitive_attr_destroy(attr);
    return finish(call, status, "reorder", err);
}

dnn_call *dnn_weights_reorder_new(dnn_engine *e, const dnn_call *of, at_error *err)
{
    const dnnl_memory_desc_t *theirs = query_desc(of, DNN_WEIGHTS);
    if (of->direction == DNN_BACKWARD_WEIGHTS)
        return new_reorder(e, theirs, &of->plain, err);
    return new_reorder(e, &of->plain, theirs, err);
}

bool dnn_weights_plain(const dnn_call *call)
{
    return dnnl_memory_desc_equal(query_desc(call, DNN_WEIGHTS), &call->plain);
}

dnn_call *dnn_tensor_reorder_new(dnn_engine *e, int64_t n, nn_shape shape, at_precision precision,
                                 int64_t from_lanes, int64_t to_lanes, at_error *err)
{
    dnnl_memory_desc_t from = image_desc(n, shape, precision, from_lanes);
    dnnl_memory_desc_t to = image_desc(n, shape, precision, to_lanes);
    return new_reorder(e, &from, &to, err);
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
    free(call);
}

size_t dnn_call_bytes(const dnn_call *call, dnn_slot slot)
{
    if (!call->arg_of[slot])
        return 0;
    const dnnl_memory_desc_t *desc = query_desc(call, slot);
    return desc ? dnnl_memory_desc_get_size(desc) : 0;
}

int64_t dnn_call_lanes(const dnn_call *call, dnn_slot slot)
{
    nn_shape s = slot == DNN_SRC ? call->src : call->dst;
    if (call->kind != KIND_CONV)
        return s.c;
    const dnnl_memory_desc_t *desc = query_desc(call, slot);
    const int64_t tries[] = {s.c, 16, 8, 1};
    for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
        dnnl_dims_t dims;
        memcpy(dims, desc->dims, sizeof dims);
        dnnl_memory_desc_t like = make_desc(4, dims, desc->data_type, tag_of(tries[i], s.c));
        if (dnnl_memory_desc_equal(desc, &like))
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
    dnnl_status_t status = dnnl_memory_create(&object, query_desc(call, slot), call->engine->engine,
                                              (void *)(uintptr_t)memory);
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
