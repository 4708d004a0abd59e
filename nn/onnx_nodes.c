/* SPDX-License-Identifier: Apache-2.0
 * onnx_nodes: what each layer becomes in ONNX (the operators of opset 17), a function a layer.
 *
 * Tensors are NCHW, so that our kernels [O,I,KH,KW] and [O,I] and our order of flattened maps are
 * ONNX's own. Padding is written out, also that of windows that are cut off by the border: ONNX and
 * PyTorch do not agree on which of those count.
 */
#include "onnx.h"

#include <string.h>

typedef struct emitter {
    onnx *x;
    const at_net *net;
    const nn_row *row;
    const char *const *in;
    const char *out;
} emitter;

/* ---- pieces ---------------------------------------------------------------------------------- */
static const char *part(const emitter *e, const char *name)
{
    return onnx_text(e->x, "%s/%s", e->row->row.name, name);
}

static Onnx__NodeProto *unary(const emitter *e, const char *op, const char *from, const char *to)
{
    return onnx_node(e->x, op, to, 1, (const char *[]){from});
}

static Onnx__NodeProto *binary(const emitter *e, const char *op, const char *a, const char *b,
                               const char *to)
{
    return onnx_node(e->x, op, to, 2, (const char *[]){a, b});
}

static const char *param(const emitter *e, int k)
{
    const at_param *p = &e->row->params[k].info;
    return onnx_floats(e->x, part(e, p->name), (size_t)p->ndims, p->dims,
                       e->net->params + p->offset);
}

static const char *state(const emitter *e, int k)
{
    const nn_state *s = &e->row->states[k];
    int64_t dims = (int64_t)s->count;
    return onnx_floats(e->x, part(e, s->name), 1, &dims, e->net->state + s->offset);
}

static const char *number(const emitter *e, const char *name, double value)
{
    return onnx_number(e->x, part(e, name), value);
}

/* [channels,1,1], copied. */
static const char *per_channel(const emitter *e, const char *name, const float *values)
{
    int64_t dims[] = {e->row->out.c, 1, 1};
    size_t bytes = (size_t)e->row->out.c * sizeof *values;
    float *own = onnx_alloc(e->x, bytes);
    if (own)
        memcpy(own, values, bytes);
    return onnx_floats(e->x, part(e, name), 3, dims, own);
}

/* ---- pixels ---------------------------------------------------------------------------------- */
static void emit_input(const emitter *e)
{
    Onnx__NodeProto *node = unary(e, "Transpose", e->in[0], e->out);
    onnx_ints(e->x, node, "perm", 4, (int64_t[]){0, 3, 1, 2});
}

static void emit_rescale(const emitter *e)
{
    const nn_rescale_attrs *a = e->row->attrs;
    const char *scaled = a->offset != 0 ? part(e, "scaled") : e->out;
    binary(e, "Mul", e->in[0], number(e, "scale", a->scale), scaled);
    if (a->offset != 0)
        binary(e, "Add", scaled, number(e, "offset", a->offset), e->out);
}

static void emit_normalize(const emitter *e)
{
    const nn_normalize_attrs *a = e->row->attrs;
    const char *centred = part(e, "centred");
    binary(e, "Sub", e->in[0], per_channel(e, "mean", a->mean), centred);
    binary(e, "Div", centred, per_channel(e, "deviation", a->deviation), e->out);
}

/* ---- windows --------------------------------------------------------------------------------- */
static void add_window(const emitter *e, Onnx__NodeProto *node, const nn_window *w)
{
    onnx_ints(e->x, node, "kernel_shape", 2, (int64_t[]){w->kh, w->kw});
    onnx_ints(e->x, node, "strides", 2, (int64_t[]){w->sh, w->sw});
}

static void emit_conv(const emitter *e)
{
    const nn_conv_attrs *a = e->row->attrs;
    const nn_window *w = &a->window;
    const char *in[] = {e->in[0], param(e, 0), a->bias ? param(e, 1) : NULL};
    Onnx__NodeProto *node = onnx_node(e->x, "Conv", e->out, a->bias ? 3 : 2, in);
    add_window(e, node, w);
    onnx_ints(e->x, node, "pads", 4, (int64_t[]){w->ph, w->pw, w->ph, w->pw});
    onnx_ints(e->x, node, "dilations", 2, (int64_t[]){w->dh, w->dw});
    onnx_int(e->x, node, "group", a->groups);
}

/* Zeros behind the input, so that the last window is whole. */
static int64_t behind(int64_t in, int64_t out, int64_t k, int64_t stride, int64_t pad)
{
    int64_t need = (out - 1) * stride + k - in - pad;
    return need > pad ? need : pad;
}

/* An average that counts the padding but not what a last window reaches beyond it. */
static void emit_counted_average(const emitter *e, const nn_window *w, int64_t bottom,
                                 int64_t right)
{
    const char *padded = part(e, "padded");
    const int64_t pads[] = {0, 0, w->ph, w->pw, 0, 0, w->ph, w->pw};
    binary(e, "Pad", e->in[0], onnx_int64s(e->x, part(e, "pads"), 8, pads), padded);
    Onnx__NodeProto *node = unary(e, "AveragePool", padded, e->out);
    add_window(e, node, w);
    onnx_ints(e->x, node, "pads", 4, (int64_t[]){0, 0, bottom - w->ph, right - w->pw});
    onnx_int(e->x, node, "count_include_pad", 0);
}

static void emit_window_pool(const emitter *e, bool max)
{
    const nn_pool_attrs *a = e->row->attrs;
    const nn_window *w = &a->window;
    nn_shape in = e->row->in[0], out = e->row->out;
    int64_t bottom = behind(in.h, out.h, w->kh, w->sh, w->ph);
    int64_t right = behind(in.w, out.w, w->kw, w->sw, w->pw);
    bool whole = bottom == w->ph && right == w->pw;
    if (!max && a->count_pad && !whole) {
        emit_counted_average(e, w, bottom, right);
        return;
    }
    Onnx__NodeProto *node = unary(e, max ? "MaxPool" : "AveragePool", e->in[0], e->out);
    add_window(e, node, w);
    onnx_ints(e->x, node, "pads", 4, (int64_t[]){w->ph, w->pw, bottom, right});
    if (!max)
        onnx_int(e->x, node, "count_include_pad", a->count_pad);
}

/* Row i of [out,in] averages window i of `out` that share `in` out; transposed where that is
 * wanted. */
static const char *averaging(const emitter *e, const char *name, int64_t out, int64_t in,
                             bool transposed)
{
    float *m = onnx_alloc(e->x, (size_t)(out * in) * sizeof *m);
    for (int64_t i = 0; m && i < out; i++) {
        int64_t from = i * in / out, until = ((i + 1) * in + out - 1) / out;
        for (int64_t k = from; k < until; k++)
            m[transposed ? k * out + i : i * in + k] = 1.0f / (float)(until - from);
    }
    int64_t dims[] = {transposed ? in : out, transposed ? out : in};
    return onnx_floats(e->x, part(e, name), 2, dims, m);
}

/* Windows that overlap are no pooling of ONNX's, but two small products. */
static void emit_adaptive(const emitter *e)
{
    nn_shape in = e->row->in[0], out = e->row->out;
    const char *narrow = part(e, "narrow");
    binary(e, "MatMul", e->in[0], averaging(e, "columns", out.w, in.w, true), narrow);
    binary(e, "MatMul", averaging(e, "rows", out.h, in.h, false), narrow, e->out);
}

static void emit_pool(const emitter *e)
{
    const nn_pool_attrs *a = e->row->attrs;
    bool max = !strcmp(a->kind, "max"), adaptive = *a->out_text;
    nn_shape in = e->row->in[0], out = e->row->out;
    bool even = adaptive && in.h % out.h == 0 && in.w % out.w == 0;
    bool global = adaptive ? out.h == 1 && out.w == 1
                           : a->window.kh == in.h && a->window.kw == in.w && out.h == 1 &&
                                 out.w == 1 && !a->window.ph && !a->window.pw;
    if (global) {
        unary(e, max ? "GlobalMaxPool" : "GlobalAveragePool", e->in[0], e->out);
    } else if (even) {
        nn_window share = {.kh = in.h / out.h, .kw = in.w / out.w};
        share.sh = share.kh;
        share.sw = share.kw;
        add_window(e, unary(e, "AveragePool", e->in[0], e->out), &share);
    } else if (adaptive) {
        emit_adaptive(e);
    } else {
        emit_window_pool(e, max);
    }
}

/* ---- activations ----------------------------------------------------------------------------- */
static void emit_relu(const emitter *e)
{
    unary(e, "Relu", e->in[0], e->out);
}

static void emit_sigmoid(const emitter *e)
{
    unary(e, "Sigmoid", e->in[0], e->out);
}

static void emit_tanh(const emitter *e)
{
    unary(e, "Tanh", e->in[0], e->out);
}

static void emit_silu(const emitter *e)
{
    const char *gate = part(e, "gate");
    unary(e, "Sigmoid", e->in[0], gate);
    binary(e, "Mul", e->in[0], gate, e->out);
}

/* x * (erf(x / sqrt(2)) + 1) / 2 */
static void emit_gelu(const emitter *e)
{
    const char *scaled = part(e, "scaled"), *erf = part(e, "erf"), *twice = part(e, "twice_cdf"),
               *product = part(e, "product");
    binary(e, "Mul", e->in[0], number(e, "sqrt_half", 0.70710678118654752), scaled);
    unary(e, "Erf", scaled, erf);
    binary(e, "Add", erf, number(e, "one", 1), twice);
    binary(e, "Mul", e->in[0], twice, product);
    binary(e, "Mul", product, number(e, "half", 0.5), e->out);
}

/* ---- normalisation --------------------------------------------------------------------------- */
static void emit_bn(const emitter *e)
{
    const nn_bn_attrs *a = e->row->attrs;
    const char *in[] = {e->in[0], param(e, 0), param(e, 1), state(e, 0), state(e, 1)};
    onnx_float(e->x, onnx_node(e->x, "BatchNormalization", e->out, 5, in), "epsilon", a->eps);
}

/* ONNX has LRN of odd sizes only as we mean it; of an even one the sum over neighbours is a 1x1
 * convolution. */
static void emit_even_lrn(const emitter *e)
{
    const nn_lrn_attrs *a = e->row->attrs;
    int64_t c = e->row->out.c, before = a->size / 2, after = (a->size - 1) / 2;
    float *m = onnx_alloc(e->x, (size_t)(c * c) * sizeof *m);
    for (int64_t o = 0; m && o < c; o++)
        for (int64_t i = 0; i < c; i++)
            if (i >= o - before && i <= o + after)
                m[o * c + i] = (float)(a->alpha / (double)a->size);
    const char *square = part(e, "square"), *sum = part(e, "sum"), *biased = part(e, "biased"),
               *power = part(e, "power");
    binary(e, "Mul", e->in[0], e->in[0], square);
    const char *band = onnx_floats(e->x, part(e, "band"), 4, (int64_t[]){c, c, 1, 1}, m);
    binary(e, "Conv", square, band, sum);
    binary(e, "Add", sum, number(e, "k", a->k), biased);
    binary(e, "Pow", biased, number(e, "beta", a->beta), power);
    binary(e, "Div", e->in[0], power, e->out);
}

static void emit_lrn(const emitter *e)
{
    const nn_lrn_attrs *a = e->row->attrs;
    if (a->size % 2 == 0) {
        emit_even_lrn(e);
        return;
    }
    Onnx__NodeProto *node = unary(e, "LRN", e->in[0], e->out);
    onnx_int(e->x, node, "size", a->size);
    onnx_float(e->x, node, "alpha", a->alpha);
    onnx_float(e->x, node, "beta", a->beta);
    onnx_float(e->x, node, "bias", a->k);
}

/* ---- the rest -------------------------------------------------------------------------------- */
static void emit_dropout(const emitter *e)
{
    unary(e, "Identity", e->in[0], e->out);
}

static void emit_flatten(const emitter *e)
{
    onnx_int(e->x, unary(e, "Flatten", e->in[0], e->out), "axis", 1);
}

static void emit_add(const emitter *e)
{
    onnx_node(e->x, e->row->input_count == 2 ? "Add" : "Sum", e->out, e->row->input_count, e->in);
}

static void emit_concat(const emitter *e)
{
    onnx_int(e->x, onnx_node(e->x, "Concat", e->out, e->row->input_count, e->in), "axis", 1);
}

static void emit_dense(const emitter *e)
{
    const nn_dense_attrs *a = e->row->attrs;
    const char *in[] = {e->in[0], param(e, 0), a->bias ? param(e, 1) : NULL};
    onnx_int(e->x, onnx_node(e->x, "Gemm", e->out, a->bias ? 3 : 2, in), "transB", 1);
}

static void emit_softmax_loss(const emitter *e)
{
    onnx_int(e->x, unary(e, "Softmax", e->in[0], e->out), "axis", 1);
}

static const struct {
    const at_layer *layer;
    void (*emit)(const emitter *e);
} forms[] = {
    {&at_layer_input, emit_input},     {&at_layer_rescale, emit_rescale},
    {&at_layer_conv, emit_conv},       {&at_layer_normalize, emit_normalize},
    {&at_layer_pool, emit_pool},       {&at_layer_relu, emit_relu},
    {&at_layer_gelu, emit_gelu},       {&at_layer_sigmoid, emit_sigmoid},
    {&at_layer_tanh, emit_tanh},       {&at_layer_silu, emit_silu},
    {&at_layer_bn, emit_bn},           {&at_layer_lrn, emit_lrn},
    {&at_layer_dropout, emit_dropout}, {&at_layer_flatten, emit_flatten},
    {&at_layer_add, emit_add},         {&at_layer_concat, emit_concat},
    {&at_layer_dense, emit_dense},     {&at_layer_softmax_loss, emit_softmax_loss},
};
enum { FORMS = sizeof forms / sizeof *forms };

bool onnx_knows(const at_layer *layer)
{
    for (size_t i = 0; i < FORMS; i++)
        if (forms[i].layer == layer)
            return true;
    return false;
}

int onnx_row(onnx *x, const at_net *net, const nn_row *row, const char *const *in, const char *out,
             at_error *err)
{
    for (size_t i = 0; i < FORMS; i++) {
        if (forms[i].layer != row->layer)
            continue;
        forms[i].emit(&(emitter){x, net, row, in, out});
        return x->failed ? at_nomem(err) : 0;
    }
    return at_fail(err, AT_EINPUT, "row \"%s\": the layer %s has no form in ONNX", row->row.name,
                   row->layer->name);
}
