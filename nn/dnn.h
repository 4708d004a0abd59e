/* SPDX-License-Identifier: Apache-2.0
 * dnn: the part of oneDNN that plans use, without its types. dnn.c alone includes its headers.
 *
 *     dnn_call *call = dnn_conv_new(engine, &spec, &err);          // a primitive
 *     dnn_call_bind(call, DNN_SRC, data, &err); ...                // once
 *     dnn_call_run(call, &err);                                    // each step
 *
 * Layouts are told as lanes (plan.h). A call runs on OpenMP threads, as many as
 * omp_get_max_threads() said when it was made.
 */
#ifndef NN_DNN_H
#define NN_DNN_H

#include "internal.h"

typedef enum { DNN_SSE, DNN_AVX2, DNN_AVX512, DNN_AVX512_BF16, DNN_AMX } dnn_isa;
typedef struct dnn_engine dnn_engine;
typedef struct dnn_call dnn_call;
typedef enum { DNN_SRC, DNN_WEIGHTS, DNN_BIAS, DNN_DST, DNN_SCRATCH, DNN_SLOTS } dnn_slot;
/* Backward: the gradient of what forward reads is written, of what it writes is read. */
typedef enum {
    DNN_FORWARD,
    DNN_BACKWARD_DATA,
    DNN_BACKWARD_WEIGHTS,
    DNN_DIRECTIONS
} dnn_direction;

typedef struct dnn_conv_spec {
    dnn_direction direction;
    bool winograd; /* lets the library choose Winograd */
    bool bias;
    bool sum; /* forward: onto what dst holds; backward data, of which conv_pass takes care: src */
    nn_activation activation; /* of the sum */
    at_precision precision;
    int64_t n;
    nn_shape src, dst;
    nn_window window;
    int64_t groups;
    int64_t src_lanes, dst_lanes; /* 0: the library's choice */
} dnn_conv_spec;

typedef struct dnn_dense_spec {
    dnn_direction direction;
    bool bias;
    at_precision precision;
    int64_t n, in, out;
} dnn_dense_spec;

dnn_engine *dnn_engine_new(at_error *err);
void dnn_engine_free(dnn_engine *e);
void dnn_version(char out[32]); /* "2.6.3" */
/* What the CPU has, within the limit that ONEDNN_MAX_CPU_ISA sets: for the library's kernels and
 * for ours. */
dnn_isa dnn_isa_allowed(void);
const char *dnn_isa_name(dnn_isa isa); /* "avx512" */

/* NULL: no implementation for it. */
dnn_call *dnn_conv_new(dnn_engine *e, const dnn_conv_spec *spec, at_error *err);
/* Vectors are plain; the weights are [O,I] as in at_net_params, in the call's precision. */
dnn_call *dnn_dense_new(dnn_engine *e, const dnn_dense_spec *spec, at_error *err);
/* From fp32 weights as in at_net_params to what the call reads (backward weights: from what it
 * writes). */
dnn_call *dnn_weights_reorder_new(dnn_engine *e, const dnn_call *of, at_error *err);
/* Whether the call's weights are already as in at_net_params. */
bool dnn_weights_plain(const dnn_call *call);
dnn_call *dnn_tensor_reorder_new(dnn_engine *e, int64_t n, nn_shape shape, at_precision precision,
                                 int64_t from_lanes, int64_t to_lanes, at_error *err);
void dnn_call_free(dnn_call *call);

size_t dnn_call_bytes(const dnn_call *call, dnn_slot slot); /* 0: it has no such slot */
int64_t dnn_call_lanes(const dnn_call *call, dnn_slot slot);
const char *
dnn_call_name(const dnn_call *call); /* of the implementation: "jit_wino_4x3:avx512_core" */
/* The memory must stay; binding a slot again replaces it. */
int dnn_call_bind(dnn_call *call, dnn_slot slot, const void *memory, at_error *err);
int dnn_call_run(dnn_call *call, at_error *err);

#endif
