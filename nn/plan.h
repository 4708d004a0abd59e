/* SPDX-License-Identifier: Apache-2.0
 * plan, inside: a network compiled for one batch size, precision and number of threads.
 *
 * Every row becomes an op with an output tensor. build() runs row by row: it chooses kernels and
 * the layout of its output, says which values backward needs and asks for buffers. Then
 * plan_memory.c gives every tensor, gradient and buffer a place in one arena, where two share bytes
 * when their lives do not meet; then bind() hands the final addresses to primitives. A step only
 * runs forward() and backward(). Time, for lives: op i runs forward at i; backward, the ops in
 * reverse, takes two moments each: one for the parameters' gradients, the next for the inputs'.
 *
 * Layouts: a tensor is [N][blocks][H*W][lanes] with blocks = ceil(C/lanes). lanes 8 or 16 are
 * oneDNN's nChw8c and nChw16c (channels beyond C are kept zero), lanes == C is NHWC, 1 is NCHW.
 * Vectors have lanes == C. In a grouped plan, for networks of few channels, images are instead
 * [groups][C][H*W][samples], as many samples as a vector of the machine has floats: PLAN_GROUPED. A
 * gradient has its tensor's layout and precision.
 */
#ifndef NN_PLAN_H
#define NN_PLAN_H

#include "dnn.h"
#include "internal.h"
#include "kernels.h"

enum { PLAN_GROUPED = -1 };

typedef struct plan_op plan_op;
typedef struct plan_tensor plan_tensor;

struct plan_tensor {
    nn_shape shape;
    int64_t lanes; /* 0: not decided yet; follows `like` where that is set */
    plan_tensor *like;
    at_precision precision;
    plan_op *producer;
    plan_op *consumer; /* the last one */
    int consumers;
    bool wants_grad; /* of a training, where a row up to here trains; else no backward comes here */
    /* value = pixel * scale[c] + offset[c], in the rows between uint8 and the first numbers. */
    float scale[NN_CHANNELS], offset[NN_CHANNELS];
    bool no_value;                   /* nobody reads it from memory */
    plan_tensor *value_of, *grad_of; /* shares that tensor's memory; NULL: its own */
    bool remade;                     /* backward does not find it kept, but in `again` */
    /* Sums that batch normalisation wants of the value or the gradient (NULL: none), and whether the
     * op that writes it last takes them. Watched, the gradient is the one behind the activation. */
    const nn_watch *value_watch, *grad_watch;
    bool value_watched, grad_watched;
    /* How to make the value out of the producer's input (NULL: not so), and whether its one reader does
     * that, instead of the producer. */
    const nn_affine *affine;
    bool read_through;
    void *data, *grad, *again;
};

struct plan_op {
    at_plan *plan;
    const nn_row *row;
    int index;
    int input_count; /* the row's, and one more where adds_input is set */
    plan_tensor *in[NN_INPUTS], *out;
    void *state;              /* the layer's own; its fini frees it */
    nn_activation activation; /* of another row, done in the same pass */
    bool adds_input;          /* in[1] is added before the activation: the work of a row "add" */
    const nn_row *norm;       /* in inference, a row "bn" done in the same pass; NULL: none */
    bool absorbed;            /* another op does this row's work, or nobody needs it */
    bool trains;              /* its parameters want gradients: of a training, and not frozen */
    /* Set by build(). */
    bool keeps_input, keeps_output; /* backward reads them */
    bool value_in_place;            /* output may lie over the input */
    bool grad_in_place;             /* input's gradient may lie over the output's */
    bool sum_in_place;              /* output may lie over in[1] of adds_input */
    int (*bind)(plan_op *op, at_error *err);
    int (*forward)(plan_op *op, at_error *err);
    int (*backward)(plan_op *op, at_error *err);
    /* The floor of a convolution: seconds of its primitives alone. */
    int (*measure)(plan_op *op, double *seconds, at_error *err);
    /* Writes the output once more, to out->again; NULL: it cannot, or not cheaply (plan_remake.c). */
    void (*remake)(plan_op *op);
    bool reads_again; /* the value that backward needs of in[0] may be a remade one: plan_kept() */
    /* Where backward writes, NULL: not wanted. Not in[i]->grad where another op wrote that before,
     * unless adds_grad. */
    void *in_grad[NN_INPUTS];
    bool adds_grad; /* backward adds in[0]'s gradient to what another op wrote before */
    double forward_seconds, backward_seconds; /* of the fastest step profiled; 0: none yet */
    double floor_seconds, floor_bytes;        /* of at_plan_measure_floor */
};

/* When a buffer is needed, by the op that asks for it. */
typedef enum {
    LIVES_FORWARD,
    LIVES_BACKWARD,
    LIVES_FOR_PARAMS, /* the first moment of backward */
    LIVES_FOR_INPUTS, /* the second */
    LIVES_BOTH,
    LIVES_ALWAYS,
    PLAN_LIVES
} plan_life;
typedef struct plan_buffer {
    void **to;
    size_t bytes, offset;
    int from, until;
} plan_buffer;

struct at_plan {
    at_net *net;
    at_plan_options options; /* threads resolved */
    dnn_engine *engine;
    const nn_kernels *kernels;
    bool grouped;
    bool sizing; /* made to be measured: nothing is timed, no memory mapped; cannot run */
    int op_count;
    plan_op *ops;         /* a row, one each */
    plan_tensor *tensors; /* a row's output, one each */
    size_t buffer_count, buffer_capacity;
    plan_buffer *buffers;
    void *arena;
    size_t arena_bytes;
    float *logits, *scores; /* [N,classes] */
    bool profiling;
    const at_plan_input *input; /* of the step that runs */
    at_plan_stats *stats;
};

/* When op's backward begins; without training its forward. */
int plan_back(const plan_op *op);
/* Whether in backward the gradient of in[k] is there already, written by another op, or for an input
 * before k. */
bool plan_grad_is_there(const plan_op *op, int k);
/* Whether no other op writes that gradient behind op. */
bool plan_grad_is_final(const plan_op *op, int k);

/* ---- for build() ---------------------------------------------------------------------------- */
/* *to points to `bytes` of the arena from bind() on; the contents live as long as `life` says. */
int plan_want(plan_op *op, void **to, size_t bytes, plan_life life, at_error *err);
void plan_set_lanes(plan_tensor *t, int64_t lanes); /* decides it, and what it follows */
/* Where it is open still: `lanes`, but grouped in a grouped plan. */
void plan_decide_lanes(plan_tensor *t, int64_t lanes);
int64_t plan_lanes(const plan_tensor *t); /* 0: not decided yet */
/* The output has the input's layout, whatever that will be. */
void plan_follow(plan_op *op);
void *plan_state(plan_op *op, size_t bytes,
                 at_error *err); /* zeroed, in op->state; freed by the plan */

/* ---- for forward() and backward() ----------------------------------------------------------- */
nn_view plan_view(const at_plan *p, const plan_tensor *t);
int64_t plan_slots(const nn_view *v); /* samples with those that only fill up the last group */
int64_t plan_tensor_elements(const at_plan *p, const plan_tensor *t); /* with padding */
size_t plan_tensor_bytes(const at_plan *p, const plan_tensor *t);
const float *plan_param(const plan_op *op, int k); /* the row's k-th parameter */
float *plan_param_grad(const plan_op *op, int k);
typedef void (*plan_part)(void *context, int64_t begin, int64_t end, int thread);
/* Calls part() for a fixed partition of [0, n), one a thread. */
void plan_parallel(const at_plan *p, int64_t n, plan_part part, void *context);
/* As above; on the calling thread alone where `bytes` of memory are too few to wake the others for.
 */
void plan_parallel_bytes(const at_plan *p, int64_t n, size_t bytes, plan_part part, void *context);
/* One tensor's values in another's layout; `add`: added to what is there. */
void plan_convert(const at_plan *p, const plan_tensor *from, const void *source,
                  const plan_tensor *to, void *target, bool add);

/* ---- plan_pixels.c: rows between uint8 and the first numbers -------------------------------- */
/* value = (value so far) * scale[c] + offset[c]; the last such row writes numbers. */
int plan_pixels_build(plan_op *op, at_error *err);

/* ---- plan_absorb.c: rows whose work another op does in its own passes; before any build() ---- */
void plan_absorb(at_plan *p);

/* ---- layer_pool.c ---------------------------------------------------------------------------- */
bool plan_is_max_pool(const nn_row *row);

/* ---- plan_activation.c: the build() and bytes() of relu, gelu, ... --------------------------- */
/* Behind an activation in another op's pass: of 0 it may not be 0, as the layout's padding must. */
void plan_activation_padding(const plan_op *op, nn_activation act);
/* Behind an activation in another op's pass, of those whose derivative its output tells: the
 * output's gradient becomes that of what went in. */
bool plan_activation_from_output(nn_activation act);
void plan_activation_back(const plan_op *op);
int plan_activation_build(plan_op *op, at_error *err);
double plan_activation_bytes(const plan_op *op);

/* ---- plan_remake.c: values that backward makes again -------------------------------------------- */
void plan_remake(at_plan *p); /* decides; behind all build() */
/* Where op's backward finds the value of in[0]. */
const void *plan_kept(const plan_op *op);

/* ---- plan_memory.c -------------------------------------------------------------------------- */
int plan_memory(at_plan *p, at_error *err);
void plan_memory_free(at_plan *p);

/* ---- plan_profile.c ------------------------------------------------------------------------- */
void plan_note_time(double *least, double start); /* since `start`, if that is less */

/* ---- plan.c --------------------------------------------------------------------------------- */
/* at_plan_new without asking whether the CPU has the precision: oneDNN emulates bf16 on AVX-512. */
at_plan *plan_new_unchecked(at_net *net, const at_plan_options *options, at_error *err);
at_plan *plan_new_sizes(at_net *net, const at_plan_options *options, at_error *err); /* sizing */

#endif
