/* SPDX-License-Identifier: Apache-2.0
 * nn, inside: what a network is made of before it is compiled (compiling it: plan.h).
 *
 *     const at_layer at_layer_x = {.name = "x", .probes = {"k=2"}, .infer = infer, .build = build};
 *
 * A layer is one file layer_x.c and one row of layers.def. at_net_new() walks the graph's rows
 * once: it parses each row's attributes into the layer's own struct and calls infer(), which checks
 * the inputs' shapes, sets the output's and declares parameters and state. Everything here is
 * read-only afterwards but the contents of the flat buffers.
 */
#ifndef NN_INTERNAL_H
#define NN_INTERNAL_H

#include <atoll/nn.h>

enum { NN_INPUTS = 32, NN_PARAMS = 2, NN_STATES = 2, NN_CHANNELS = 64, NN_PROBES = 9 };
#define NN_LIMIT ((size_t)1 << 40) /* bytes of any one thing */

typedef struct nn_shape { /* of one sample */
    int64_t c, h, w;
    bool vector; /* [c,1,1], made by flatten or dense */
} nn_shape;

typedef enum { NN_IDENTITY, NN_RELU, NN_GELU, NN_SIGMOID, NN_TANH, NN_SILU } nn_activation;

typedef struct nn_window { /* of convolution and pooling */
    int64_t kh, kw, sh, sw, ph, pw;
    int64_t dh, dw; /* 1: the window's elements are neighbours */
} nn_window;

/* ---- the layers' attributes ------------------------------------------------------------------ */
typedef struct nn_window_text { /* as written: N or HxW */
    char *k, *stride, *pad, *dilation;
} nn_window_text;
typedef struct nn_input_attrs {
    int64_t channels, height, width;
} nn_input_attrs;
typedef struct nn_rescale_attrs {
    double scale, offset; /* out = in * scale + offset */
} nn_rescale_attrs;
typedef struct nn_normalize_attrs {
    char *mean_text, *deviation_text;
    float mean[NN_CHANNELS], deviation[NN_CHANNELS]; /* out = (in - mean) / deviation */
} nn_normalize_attrs;
typedef struct nn_conv_attrs {
    char *init;          /* of the kernel: init.c */
    int64_t out, groups; /* groups: output channels read only their group's share of the input */
    bool bias;
    nn_window_text text;
    nn_window window;
} nn_conv_attrs;
typedef struct nn_pool_attrs {
    char *kind;     /* "max" or "avg" */
    char *out_text; /* "" or HxW: an average over as many windows, PyTorch's adaptive pooling */
    bool ceil;      /* the last window may go beyond the padding */
    bool count_pad; /* the average counts padding, as PyTorch's does */
    nn_window_text text;
    nn_window window; /* k=global: the whole plane; unused where out_text is given */
} nn_pool_attrs;
typedef struct nn_lrn_attrs {
    int64_t size;
    double alpha, beta, k; /* y = x / (k + alpha / size * sum of squares) ^ beta */
} nn_lrn_attrs;
typedef struct nn_bn_attrs {
    double eps, momentum; /* moving = (1 - momentum) * moving + momentum * batch's */
} nn_bn_attrs;
typedef struct nn_dropout_attrs {
    double p;
} nn_dropout_attrs;
typedef struct nn_dense_attrs {
    char *init;
    int64_t out;
    bool bias;
} nn_dense_attrs;

typedef struct nn_loss_attrs {
    double weight; /* of an auxiliary row's gradient */
} nn_loss_attrs;

/* ---- rows, resolved -------------------------------------------------------------------------- */
typedef struct at_layer at_layer;
struct plan_op;

/* How a parameter begins (init.c). */
typedef enum {
    NN_ZEROS,
    NN_ONES,
    NN_UNIFORM,  /* in ±1/sqrt(fan_in) */
    NN_KAIMING,  /* normal of variance 2/fan_out */
    NN_XAVIER,   /* uniform in ±sqrt(6/(fan_in + fan_out)) */
    NN_DIRAC,    /* what goes in comes out, of as many channels as there are on both sides */
    NN_WHITENING /* as NN_UNIFORM until at_net_whiten */
} nn_init;

typedef struct nn_param {
    at_param info; /* conv: kernel, bias; dense: kernel, bias; bn: gamma, beta */
    nn_init init;
    double fan_in;
} nn_param;
typedef struct nn_state { /* bn: moving_mean, moving_variance */
    const char *layer, *name;
    size_t offset, count;
    float initial;
} nn_state;

typedef struct nn_row {
    at_row row; /* borrowed from the net's graph */
    const at_layer *layer;
    void *attrs; /* the layer's struct from above; NULL where it has none */
    int input_count;
    bool of_pixels;         /* its first input is pixels on their way to numbers */
    int inputs[NN_INPUTS];  /* earlier rows */
    nn_shape in[NN_INPUTS]; /* their outputs' shapes */
    nn_shape out;
    bool frozen; /* not trained; its moving statistics are used and stay */
    int param_count, state_count;
    nn_param params[NN_PARAMS];
    nn_state states[NN_STATES];
} nn_row;

struct at_net {
    at_graph *graph;
    size_t row_count;
    nn_row *rows;
    size_t param_count, params_listed, state_count; /* floats, parameters, floats */
    const at_param **listed;                        /* in flat order */
    float *params, *grads, *own_grads, *state;
};

struct at_layer {
    const char *name;
    const char *probes[NN_PROBES]; /* attributes that the gradient check of this layer uses */
    const at_option *attributes;   /* what the row may say; NULL: nothing */
    size_t attributes_bytes;       /* of the layer's struct */
    int inputs_min, inputs_max;    /* 0: exactly one */
    bool pixels;                   /* a step from uint8 towards numbers; has no gradient */
    /* Of such a step: out = in * scale + offset in channel c. */
    void (*pixel)(const nn_row *row, int64_t c, float *scale, float *offset);
    nn_activation activation; /* which one this layer is */
    /* Attributes and inputs' shapes → output's shape, parameters, state. */
    int (*infer)(nn_row *row, at_error *err);
    double (*flops)(const nn_row *row); /* multiply-adds x 2 of a sample, forward; NULL: 0 */
    /* Whether op, of this layer, can do the work of `next` in its own passes too: an activation, an
     * "add" of its output and another tensor, a "bn" (plan_absorb.c). NULL: never. */
    bool (*absorbs)(const struct plan_op *op, const struct plan_op *next);
    /* Compiles the row for a plan (plan.h); fini frees what it made. */
    int (*build)(struct plan_op *op, at_error *err);
    void (*fini)(struct plan_op *op);
    /* The bytes that a training step must move for it, each tensor once each way. */
    double (*bytes)(const struct plan_op *op);
};

#define LAYER(x) extern const at_layer at_layer_##x;
#include "layers.def"
#undef LAYER

/* ---- layers.c: the table and what layers share ---------------------------------------------- */
size_t nn_layer_count(void);
const at_layer *nn_layer_at(size_t i);
const at_layer *nn_layer_find(const char *name, at_error *err); /* AT_EINPUT with the nearest */
/* "5" or "5x3", each in [least, 65535]. */
int nn_pair_parse(const nn_row *row, const char *key, const char *text, int64_t least, int64_t *a,
                  int64_t *b, at_error *err);
/* "k" or "HxW" each, k=global is the input's plane; stride "" is k where stride_is_k, else 1;
 * dilation NULL: 1. Names the row on error. */
int nn_window_parse(const nn_row *row, const nn_window_text *text, bool stride_is_k, nn_window *out,
                    at_error *err);
/* [c,h,w] → [channels,h',w']; AT_EINPUT where the window does not fit. ceil: a last window that
 * begins inside the plane counts although it ends behind the padding. */
int nn_window_apply(nn_row *row, const nn_window *window, int64_t channels, bool ceil,
                    at_error *err);
/* AT_EINPUT: row "c1" (conv) on 3x32x32 needs <what>. */
int nn_misfit(const nn_row *row, at_error *err, const char *needs, ...) AT_PRINTF(3, 4);
int64_t nn_elements(nn_shape s);
/* Declare, inside infer(). Their order is kept within the layer. */
int nn_add_param(nn_row *row, const char *name, nn_init init, double fan_in, int ndims,
                 const int64_t *dims, at_error *err);
int nn_same_shape(nn_row *row, at_error *err); /* an infer(): the output's shape is the input's */
void nn_add_state(nn_row *row, const char *name, int64_t count, float initial);

/* ---- init.c ---------------------------------------------------------------------------------- */
/* The value of a row's attribute init=, of its kernel; its bias begins as the second says. */
nn_init nn_init_named(const char *name);
nn_init nn_init_of_bias(nn_init kernel);
/* First values of a row's parameters and state. They depend on the seed and the row's name alone. */
void nn_initialise(const nn_row *row, uint64_t seed, float *params, float *state);

/* ---- whiten.c -------------------------------------------------------------------------------- */
int nn_whitening_check(const nn_row *row, at_error *err); /* in infer(), once its window is known */

/* ---- graph.c -------------------------------------------------------------------------------- */
at_graph *nn_graph_copy(const at_graph *g);           /* NULL: out of memory */
int nn_graph_check(const at_graph *g, at_error *err); /* the first bad row, if any */
/* Where the rows to come are written, "my-model.yaml:7:3", for messages; NULL: nowhere. */
int nn_graph_place(at_graph *g, const char *place);
/* Puts row i's place before the message in err; returns err's code. */
int nn_graph_blame(const at_graph *g, size_t i, at_error *err);

/* ---- net.c ---------------------------------------------------------------------------------- */
/* at_net_new in two: shapes and offsets, then the zeroed buffers. A model file is judged in
 * between. */
at_net *nn_net_resolve(const at_graph *g, at_error *err);
int nn_net_allocate(at_net *net, at_error *err);
const nn_row *nn_net_row(const at_net *net, const char *name); /* NULL: none */
const nn_state *nn_net_state(const at_net *net, const char *layer, const char *name);

#endif
