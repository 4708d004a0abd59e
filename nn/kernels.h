/* SPDX-License-Identifier: Apache-2.0
 * kernels: the loops that are ours rather than oneDNN's, compiled once for AVX-512, once for AVX2
 * and once for any CPU; a plan takes the best table that the machine can run.
 *
 * They work on planes: a tensor is [n][blocks] planes of [pixels][lanes] (plan.h); a kernel gets
 * the planes [begin, end) so that the caller can share them out among threads. Arrays "a channel"
 * have blocks*lanes floats, zero beyond the real channels. bf16 tensors are widened in small
 * pieces.
 */
#ifndef NN_KERNELS_H
#define NN_KERNELS_H

#include "internal.h"

typedef struct nn_view {
    int64_t n, blocks, pixels, lanes, channels;
    int64_t samples; /* real ones: n, but where `grouped` is set */
    bool grouped;    /* lanes are samples (plan.h): n groups of channels planes */
    bool bf16;
} nn_view;

/* What dropout's mask depends on: the element is kept where hash(keys[sample], element) >= bar. */
typedef struct nn_dropout_keys {
    const uint64_t *keys; /* [n] */
    uint32_t bar;
    float scale; /* of what is kept */
} nn_dropout_keys;

enum { NN_NOWHERE = 255, NN_NOWHERE_WIDE = 65535 };

/* An average's window along one side: pixels [from, to), each with this share. The other way round:
 * the windows that a pixel is in. */
typedef struct nn_pool_span {
    int32_t from, to;
    float share;
} nn_pool_span;

/* A plane of h*w pixels, the window over it, and what comes out. */
typedef struct nn_pool_shape {
    int64_t h, w, oh, ow;
    nn_window window;
    bool relu; /* of what comes out of a maximum */
    bool wide; /* its window has so many elements that where[] takes two bytes each */
    const nn_pool_span *rows, *columns;               /* of averages: [oh], [ow] */
    const nn_pool_span *row_windows, *column_windows; /* [h], [w] */
} nn_pool_shape;

/* Convolution of groups of `lanes` samples (kernels_conv.h): a plane of the input has ih rows and
 * iw columns, padding included, of which [x0, x1) are real; a window's first row is `top` above its
 * place. */
typedef struct nn_conv_shape {
    int64_t ic, ih, iw, oc, oh, ow, kh, kw, sh, sw, top, x0, x1;
    bool bf16; /* of what is written */
} nn_conv_shape;
typedef struct nn_spread {
    int64_t planes, h, w, oh, ow, left, sh, sw;
} nn_spread;

/* Winograd's convolution (kernels_winograd.h): planes of h*w to oh*ow; blocks of channels; th*tw tiles
 * of tile x tile outputs a plane, 4 for windows of 3x3, 2 for those of 5x5. A tile's number counts
 * through all samples. */
enum {
    NN_WINOGRAD_POINTS = 36,
    NN_WINOGRAD_SIDES = 7 /* of the tile and of the window, together */
};
typedef struct nn_winograd {
    int64_t h, w, oh, ow, ph, pw, ins, outs, tile, th, tw;
} nn_winograd;
/* Floats from one point's tiles to the next one's, of which there is room for so many: an odd number
 * of vectors, so that the 36 do not fall into a few sets of the first-level cache. */
static inline int64_t nn_winograd_step(int64_t room, int64_t blocks, int64_t lanes)
{
    return (room * blocks | 1) * lanes;
}
/* Batch normalisation, in the pass that reads what comes out of it: y = act(x*a + b), arrays a channel. */
typedef enum { NN_AFFINE_NONE, NN_AFFINE_ALONE, NN_AFFINE_RELU } nn_affine_kind;
typedef struct nn_affine {
    nn_affine_kind kind; /* NN_AFFINE_NONE: what is read is y */
    const float *a, *b;
} nn_affine;
/* Sums a channel that batch normalisation takes of a tensor while another op writes it: of the values
 * and of their squares, or of a gradient, g = dy * act'(z), which is written instead of dy, and of
 * g*(x-mean). */
typedef enum {
    NN_WATCH_NOTHING,
    NN_WATCH_VALUES,
    NN_WATCH_GRADIENT,   /* without activation */
    NN_WATCH_RELU,       /* z = x*a + b */
    NN_WATCH_RELU_OUTPUT /* by its output y */
} nn_watch_kind;
typedef struct nn_watch {
    nn_watch_kind kind;
    const void *x, *y;         /* laid out as what is written, and in its precision */
    const float *a, *b, *mean; /* what the kind needs, as of x and y */
    double *sum, *product;     /* [blocks][VF], added to */
    int64_t step;              /* from a thread's sums to the next one's */
} nn_watch;
typedef struct nn_conv_end { /* y = act(result + bias, or y before as well) */
    const float *bias;       /* [blocks out][VF] or NULL */
    bool sum;
    nn_activation activation; /* none where something is watched */
    nn_watch watch;           /* of this thread */
} nn_conv_end;
typedef struct nn_filters { /* a window each, of (channel out, channel in) */
    const float *weights;
    int64_t outs, ins, out_step, in_step;
    int64_t
        folded;  /* 0, or channels in of each place of a window's row, which count as channels in */
    bool turned; /* by 180 degrees */
} nn_filters;

/* Channels [first, first+count) of a tensor. */
typedef struct nn_channels {
    nn_view view;
    int64_t first, count;
} nn_channels;

/* kernels_gelu.c: for x >= 0 Phi(-x), and the derivative of z*Phi(z) at z = -x. Part k is [k, k + 1) of
 * x * NN_GELU_PARTS_IN_ONE; there it is the sum of table[i][k] * u^i, u being the place in the part. */
enum { NN_GELU_PARTS = 32 };
#define NN_GELU_PARTS_IN_ONE 5.8f
typedef struct nn_gelu_tables {
    _Alignas(64) float tail[4][NN_GELU_PARTS], slope[4][NN_GELU_PARTS];
} nn_gelu_tables;
extern nn_gelu_tables nn_gelu;
void nn_gelu_ready(void); /* fills them, before their first use */

/* Local response normalisation (kernels_lrn.h); `share` is alpha / size. */
enum { NN_LRN_LINES = 4 };
typedef struct nn_lrn_shape {
    int64_t before, behind; /* neighbours that count */
    float share, beta, k;
} nn_lrn_shape;

typedef struct nn_kernels {
    const char *name;
    int64_t lanes; /* floats in a vector */
    /* Elementwise, over elements [begin, end). The backward of relu, sigmoid and tanh reads the
     * output, of the others the input. */
    void (*activate)(nn_activation act, bool bf16, const void *x, void *y, int64_t begin,
                     int64_t end);
    void (*activate_back)(nn_activation act, bool bf16, const void *value, const void *dy, void *dx,
                          int64_t begin, int64_t end);
    void (*add)(bool bf16, const void *x, void *y, int64_t begin, int64_t end); /* y += x */

    /* Batch normalisation; a, b, ... are arrays a channel. Sums are added to. */
    void (*sums)(const nn_view *v, const void *x, const float *shift, double *sum, double *square,
                 int64_t begin, int64_t end); /* of x-shift and its square */
    void (*affine)(const nn_view *v, const void *x, void *y, const float *a, const float *b,
                   nn_activation act, int64_t begin, int64_t end); /* y = act(x*a+b) */
    /* y = act(x*a+b + skip), act being NN_RELU or NN_IDENTITY; g = dy * act'(by its output y), and
     * the sums of g and of g*(x-mean). */
    void (*affine_sum)(const nn_view *v, const void *x, const void *skip, void *y, const float *a,
                       const float *b, nn_activation act, int64_t begin, int64_t end);
    void (*affine_sum_back)(const nn_view *v, const void *x, const void *y, const void *dy, void *g,
                            const float *mean, nn_activation act, double *sum, double *product,
                            int64_t begin, int64_t end);
    /* g = dy * act'(x*a+b): sums of g and of g*(x-mean). */
    void (*affine_back_sums)(const nn_view *v, const void *x, const void *dy, const float *a,
                             const float *b, const float *mean, nn_activation act, double *sum,
                             double *product, int64_t begin, int64_t end);
    /* dx = g*a + (x-mean)*m + c */
    void (*affine_back)(const nn_view *v, const void *x, const void *dy, void *dx, const float *a,
                        const float *b, const float *mean, const float *m, const float *c,
                        nn_activation act, int64_t begin, int64_t end);

    /* Pooling; where[] has a byte an output element, or two: which element of the window was the
     * largest, or NN_NOWHERE where a relu behind it made that 0. */
    void (*max_pool)(const nn_view *v, const nn_pool_shape *s, const void *x, void *y, void *where,
                     int64_t begin, int64_t end);
    void (*max_pool_back)(const nn_view *v, const nn_pool_shape *s, const void *dy,
                          const void *where, void *dx, int64_t begin, int64_t end);
    void (*average_pool)(const nn_view *v, const nn_pool_shape *s, const void *x, void *y,
                         int64_t begin, int64_t end);
    void (*average_pool_back)(const nn_view *v, const nn_pool_shape *s, const void *dy, void *dx,
                              int64_t begin, int64_t end);

    /* Lines [begin, end), as many as pixels of all samples or groups; memory for NN_LRN_LINES lines
     * with their borders, (5*channels + 8) * lanes floats each. */
    void (*lrn)(const nn_view *v, const nn_lrn_shape *s, const void *x, void *y, float *memory,
                int64_t begin, int64_t end);
    void (*lrn_back)(const nn_view *v, const nn_lrn_shape *s, const void *x, const void *dy,
                     void *dx, float *memory, int64_t begin, int64_t end);

    /* One group of samples each; x and dy are fp32. Weights [oc][ic][kh][kw]. */
    void (*conv_group)(const nn_conv_shape *s, const float *weights, const float *bias,
                       const float *x, void *y);
    /* Adds to sums [oc][ic][kh][kw][lanes] and bias [oc][lanes] (or NULL), of the output channels
     * [begin, end). */
    void (*conv_weights_group)(const nn_conv_shape *s, const float *x, const float *dy, float *sums,
                               float *bias, int64_t begin, int64_t end);
    void (*sum_lanes)(const float *vectors, float *out, int64_t n);

    /* Winograd's steps, over tiles [begin, end) for which v, z and m have `room`. */
    int64_t winograd_tiles; /* that are multiplied at a time, or half as many: multiples do best */
    void (*winograd_input)(const nn_winograd *s, const nn_affine *in, const float *x, float *v,
                           int64_t room, int64_t begin, int64_t end);
    void (*winograd_multiply)(const nn_winograd *s, const float *u, const float *v, float *m,
                              int64_t room, int64_t tiles);
    void (*winograd_output)(const nn_winograd *s, const nn_conv_end *e, const float *m, float *y,
                            int64_t room, int64_t begin, int64_t end);
    void (*winograd_gradient)(const nn_winograd *s, const float *dy, float *z, double *bias,
                              int64_t room, int64_t begin, int64_t end);
    void (*winograd_accumulate)(const nn_winograd *s, const float *v, const float *z, float *sums,
                                int64_t room, int64_t tiles);
    /* u of the blocks out [begin, end); gradients of the channels in [begin, end). */
    void (*winograd_filters)(const nn_winograd *s, const nn_filters *f, float *u, int64_t begin,
                             int64_t end);
    void (*winograd_filters_back)(const nn_winograd *s, const nn_filters *f, const float *sums,
                                  int64_t parts, int64_t part_floats, float *gradients,
                                  int64_t begin, int64_t end);
    void (*spread)(const nn_spread *s, bool bf16, const void *x, float *out);

    void (*dropout)(const nn_view *v, const nn_dropout_keys *keys, const void *x, void *y,
                    int64_t begin, int64_t end);
    /* Samples, or groups, [begin, end): uint8 [pixels][channels] to x*scale+offset, in v's layout. */
    void (*pixels)(const nn_view *v, const uint8_t *in, const float *scale, const float *offset,
                   void *out, int64_t begin, int64_t end);
    /* Samples [begin, end): planes → [channels*pixels] in NCHW order, and back. */
    void (*flatten)(const nn_view *v, const void *x, void *y, int64_t begin, int64_t end);
    void (*unflatten)(const nn_view *v, const void *y, void *x, int64_t begin, int64_t end);
    /* Samples [begin, end) from one layout into another, or added to what is there. */
    void (*convert)(const nn_view *from, const void *x, const nn_view *to, void *y, bool add,
                    int64_t begin, int64_t end);
    /* Samples [begin, end): zeros into lanes beyond the last channel. */
    void (*clear_padding)(const nn_view *v, void *x, int64_t begin, int64_t end);
    /* Samples [begin, end): channels of one tensor to others of another, in any two layouts. Behind
     * the last channel comes the padding. */
    void (*copy_channels)(const nn_channels *from, const void *x, const nn_channels *to, void *y,
                          int64_t begin, int64_t end);
} nn_kernels;

extern const nn_kernels nn_kernels_avx512_bf16, nn_kernels_avx512, nn_kernels_avx2,
    nn_kernels_generic;
const nn_kernels *nn_kernels_best(void); /* that dnn_isa_allowed() allows */

#endif
