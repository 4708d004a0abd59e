/* SPDX-License-Identifier: Apache-2.0
 * conv: one direction of a convolution with all that it takes: the primitive, the weights brought
 * into its layout (or their gradient out of it), and tensors brought into its layouts where those
 * differ.
 */
#ifndef NN_CONV_H
#define NN_CONV_H

#include "plan.h"

typedef struct conv_own conv_own;
typedef enum {
    CONV_LIBRARY, /* a primitive */
    CONV_OWN,     /* our kernels */
    CONV_THIN,    /* the input's gradient of a 1x1 with a stride: of the pixels that have one */
    CONV_DENSE    /* the primitive of a fully connected layer: vectors are planes of one pixel */
} conv_kind;
typedef struct conv_pass {
    const at_plan *plan;
    conv_kind kind;
    dnn_conv_spec spec;  /* with the layouts that the primitive was asked for */
    const conv_own *own; /* our kernels; then there are no calls */
    void *own_state;
    dnn_call *main, *weights, *src, *dst; /* reorders: NULL where none is needed */
    void *weights_memory, *src_memory, *dst_memory, *scratch, *weights_scratch, *src_scratch,
        *dst_scratch;
    void *part, *whole; /* conv_spread.c; NULL: not needed */
} conv_pass;

/* What a pass reads and writes, in the tensors' own layouts; bias may be NULL, and watch, the sums that
 * are wanted of what it writes. That and `before` are for kernels of our own alone. */
typedef struct conv_memory {
    const void *src, *weights, *bias, *dst;
    const nn_watch *watch;
    nn_affine before; /* done to src as it is read */
} conv_memory;

/* Lanes of the tensors; 0: not decided, it takes what the primitive wants. An error: this kind cannot. */
int conv_pass_new(conv_pass *out, at_plan *p, const dnn_conv_spec *spec, conv_kind kind,
                  int64_t src_lanes, int64_t dst_lanes, at_error *err);
/* Whether kernels of ours can do it. */
bool conv_own_can(const at_plan *p, const dnn_conv_spec *spec, int64_t src_lanes,
                  int64_t dst_lanes);
void conv_pass_fini(conv_pass *pass);
bool conv_pass_made(const conv_pass *pass);
const char *conv_pass_name(const conv_pass *pass); /* of the implementation */
int64_t conv_pass_lanes(const conv_pass *pass, dnn_slot slot);
bool conv_pass_copies(const conv_pass *pass);  /* the weights, into a layout of its own */
bool conv_pass_is_own(const conv_pass *pass);  /* by our kernels */
bool conv_pass_watches(const conv_pass *pass); /* it can take sums of what it writes */
/* It can do what is `before`, which takes whole blocks of channels. */
bool conv_pass_reads_through(const conv_pass *pass);
size_t conv_pass_bytes(const conv_pass *pass, dnn_slot slot); /* of a tensor in that layout */
/* Calls want(context, where, bytes, ...) for each piece of memory that the pass needs beside its
 * tensors; `weights`: it holds these, from conv_pass_weights on. */
typedef int (*conv_want)(void *context, bool weights, void **to, size_t bytes, at_error *err);
int conv_pass_memory(conv_pass *pass, conv_want want, void *context, at_error *err);
/* Asks the op's plan for it. */
int conv_pass_plan(conv_pass *pass, plan_op *op, at_error *err);
int conv_pass_bind(conv_pass *pass, const conv_memory *memory, at_error *err);
/* Brings the weights into the primitive's layout; before the first run and whenever they change. */
int conv_pass_weights(const conv_pass *pass, at_error *err);
int conv_pass_run(const conv_pass *pass, at_error *err);

/* Of a row's passes, one a direction, those that are made: */
int conv_passes_back(const plan_op *op, const conv_pass passes[DNN_DIRECTIONS], at_error *err);
void conv_passes_fini(conv_pass passes[DNN_DIRECTIONS]);

/* ---- conv_spread.c: an input's gradient that is computed into `part` before it gets to `whole` ------ */
bool conv_thin_can(const dnn_conv_spec *spec, int64_t src_lanes);
/* The convolution of the pixels that are read. */
dnn_conv_spec conv_thin_spec(const dnn_conv_spec *spec);
size_t conv_thin_bytes(const conv_pass *pass); /* of the whole gradient of a thin pass */
bool conv_spread_needed(const conv_pass *pass);
size_t conv_part_bytes(const conv_pass *pass);
void conv_spread(const conv_pass *pass);

/* ---- conv_winograd.c, conv_amx.c: convolutions by our own kernels ----------------------------- */
struct conv_own {
    const char *name;
    /* Lanes as in conv_pass_new; 0: any. */
    bool (*can)(const at_plan *p, const dnn_conv_spec *spec, int64_t src_lanes, int64_t dst_lanes);
    /* The state of the functions below, of a spec with decided lanes; freed by free(). */
    void *(*new)(at_plan *p, const dnn_conv_spec *spec, at_error *err);
    int (*memory)(void *state, conv_want want, void *context, at_error *err);
    void (*bind)(void *state, const conv_memory *memory);
    void (*weights)(const void *state);
    void (*run)(const void *state);
};
extern const conv_own conv_winograd; /* 3x3 or 5x5, stride 1, fp32 */
extern const conv_own conv_amx;      /* bf16, on tile registers */

/* ---- conv_own.c: what both have in common ------------------------------------------------------- */
typedef struct conv_piece {
    void **to;
    size_t bytes; /* 0: not needed */
} conv_piece;
/* The first one is the weights'. */
int conv_want_pieces(const conv_piece *pieces, size_t n, conv_want want, void *context,
                     at_error *err);
/* As the direction reads them: a gradient of the input, turned and from out to in. */
nn_filters conv_filters_of(const dnn_conv_spec *spec, const float *weights);
/* bias[o]: the sum of sums[t * step + o] over threads t. */
void conv_total_bias(const double *sums, int64_t threads, int64_t step, int64_t channels,
                     float *bias);
/* What a thread sums up of what it writes; sums of all threads, of so many channels, set to 0. */
nn_watch conv_watch_of(const conv_memory *memory, int thread);
void conv_watch_clear(const at_plan *p, const conv_memory *memory, int64_t channels);

/* ---- conv_weights.c: what forward reads where that is not the parameters themselves ----------- */
typedef struct conv_weights {
    float *kernel, *bias; /* NULL: the parameter, or none */
    float *scale;         /* a channel, of a folded normalisation */
} conv_weights;
/* Asks for memory; `reordered`: the primitive reads a copy of the kernel in a layout of its own. */
int conv_weights_build(plan_op *op, conv_weights *w, bool reordered, at_error *err);
void conv_weights_take(const plan_op *op,
                       const conv_weights *w); /* from the parameters as they are */

/* ---- conv_tune.c ---------------------------------------------------------------------------- */
/* The fastest pass for this direction; timed once for a shape, machine and number of threads, and
 * remembered on disk. Nothing is timed where the candidates are all the same primitive. Our own spare
 * other ops so many bytes of their passes. */
int conv_tune(conv_pass *out, at_plan *p, const dnn_conv_spec *spec, int64_t src_lanes,
              int64_t dst_lanes, double spared, at_error *err);
/* Seconds of the fastest candidates' primitives alone, of all of the op's passes that are made. */
int conv_floor(const plan_op *op, const conv_pass passes[DNN_DIRECTIONS], double *seconds,
               at_error *err);

/* ---- conv_grouped.c ------------------------------------------------------------------------- */
/* Not of vectors, nor with dilation or groups of channels. */
bool conv_grouped_can(const nn_row *row);
int conv_grouped_build(plan_op *op, at_error *err);

/* ---- conv_choice.c: what was found to be fastest, on disk ----------------------------------- */
/* -1: not known. The key is text without newlines; the choice a number of conv_tune's. */
int conv_choice_find(const char *key);
void conv_choice_add(const char *key, int choice, double seconds);

#endif
