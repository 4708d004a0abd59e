/* SPDX-License-Identifier: Apache-2.0
 * nn: networks as rows, compiled over oneDNN.
 *
 *     at_graph *g = at_model_graph("lenet", &(at_model_spec){.classes = 10, .channels = 1, .height = 28, .width = 28}, &err);
 *     at_net *net = at_net_new(g, seed, &err);            // shapes, flat weights and gradients
 *     at_plan *p = at_plan_new(net, &(at_plan_options){.batch = 64, .training = true}, &err);
 *     at_plan_train(p, &input, &stats, &err);             // forward, loss, backward: fills at_net_grads(net)
 *
 * A graph is rows {name, layer, inputs, attrs}; the same rows lie in the model file, so serving needs no model code.
 * Pixels enter as uint8 [N,H,W,C]; the rows "rescale" and "normalize" turn them into numbers, in the network.
 * Weights and gradients are each one flat fp32 buffer, in the order in which backward finishes them.
 */
#ifndef ATOLL_NN_H
#define ATOLL_NN_H

#include <atoll/base.h>

/* ---- graphs (graph.c) -------------------------------------------------------------------------- */
typedef struct at_row {
    const char *name, *layer;
    const char *inputs; /* names separated by blanks */
    const char *attrs;  /* "out=6 k=5 pad=2", parsed by the layer; an unknown one is an error */
} at_row;
typedef struct at_graph at_graph;
at_graph *at_graph_new(void);
/* Copies the row. The first bad row is kept and reported by at_net_new, by name. */
void at_graph_add(at_graph *g, const char *name, const char *layer, const char *inputs, const char *attrs_format, ...)
    AT_PRINTF(5, 6);
size_t at_graph_rows(const at_graph *g);
at_row at_graph_row(const at_graph *g, size_t i);
char *at_graph_print(const at_graph *g); /* a line a row: name | layer | inputs | attrs; malloc'd */
at_graph *at_graph_parse(const char *text, at_error *err);
void at_graph_free(at_graph *g);

/* ---- models (model_*.c by models.def) ---------------------------------------------------------- */
typedef struct at_model_spec {
    int classes, channels, height, width;
    double scale, offset;          /* of the row "rescale", pixel * scale + offset; scale 0: to 0..1 */
    const float *mean, *deviation; /* [channels] of rescaled pixels, for the row "normalize"; NULL: no such row */
} at_model_spec;
size_t at_model_count(void);
const char *at_model_name(size_t i);
const char *at_model_summary(size_t i); /* a line for --help */
/* The images and classes that the model was published with; unknown: AT_EINPUT. Of a file of rows: 3x32x32 and 10. */
int at_model_published(const char *name, at_model_spec *out, at_error *err);
/* Whether the name is a model's or that of a readable file of rows; unknown: AT_EINPUT with the nearest. */
int at_model_check(const char *name, at_error *err);
/* A built-in model, or the rows of a file NAME.yaml (docs/extending.md). */
at_graph *at_model_graph(const char *name, const at_model_spec *spec, at_error *err);

/* ---- networks (net.c): shapes, parameters, state ------------------------------------------------ */
typedef struct at_param {
    const char *layer, *name; /* "c1", "kernel" */
    int ndims;
    int64_t dims[4]; /* kernel of conv: [O,I,KH,KW]; of dense: [O,I]; others [O] */
    size_t offset, count;
    bool decay; /* weight decay applies (kernels) */
    bool frozen; /* its gradient stays 0: at_net_freeze */
} at_param;
typedef struct at_net at_net;
at_net *at_net_new(const at_graph *g, uint64_t seed, at_error *err); /* copies g; initialised weights */
void at_net_free(at_net *net);
const at_graph *at_net_graph(const at_net *net);
void at_net_input_shape(const at_net *net, int *channels, int *height, int *width);
int at_net_classes(const at_net *net);
/* Rows with init=whitening get filters that decorrelate the patches of n images [H,W,C]; until then
 * their weights are random. The same pixels give the same bits. */
bool at_net_wants_whitening(const at_net *net);
int at_net_whiten(at_net *net, const uint8_t *pixels, size_t n, at_error *err);
size_t at_net_param_count(const at_net *net);
float *at_net_params(at_net *net); /* [param_count], 64-byte aligned */
float *at_net_grads(at_net *net);  /* [param_count] */
/* Gradients live in memory of the caller's from now on (an MPI window); NULL: its own again. Before any plan. */
void at_net_use_grads(at_net *net, float *grads);
size_t at_net_params_listed(const at_net *net);
const at_param *at_net_param(const at_net *net, size_t i); /* in flat order */
const at_param *at_net_find_param(const at_net *net, const char *layer, const char *name);
/* What training keeps but gradients do not change: moving means and variances. */
size_t at_net_state_count(const at_net *net);
float *at_net_state(at_net *net);
/* layers[] {name, layer, inputs, attrs, shape [c,h,w], parameters, flops}, and the sums: parameters (weights that
 * training changes), state (moving statistics), flops (of one image forward, a multiply-add is two). */
at_node *at_net_describe(const at_net *net);
/* {batch, weights_bytes, inference_bytes, training_bytes}: of the weights and of plans for that batch beside them; with
 * gradients and a momentum in training. */
at_node *at_net_describe_memory(at_net *net, int batch, at_error *err);
size_t at_graph_param_count(const at_graph *g, at_error *err); /* 0: *err, or none */
/* at_net_describe with "memory", without memory for the weights. */
at_node *at_graph_describe(const at_graph *g, int batch, at_error *err);

/* ---- transfer learning (transfer*.c) -------------------------------------------------------------- */
/* Rows whose names match one of the globs (fnmatch's, with commas between) are not trained: their parameters get no
 * gradient, their batch normalisation uses its moving statistics and leaves them, and backward ends behind the first
 * row that trains. Before any plan. AT_EINPUT: a glob without a row (names the nearest), or nothing left to train. */
int at_net_freeze(at_net *net, const char *globs, at_error *err);
/* Gradients that training may fill are at_net_grads()[0, this): what lies behind is of frozen rows. */
size_t at_net_trained_count(const at_net *net);
/* The next run [*begin, *end) behind *end of moving statistics that training changes; false: none. Begin with 0, 0. */
bool at_net_next_moving(const at_net *net, size_t *begin, size_t *end);
/* Preprocessing as Keras Applications' "caffe", "torch" or "tf" does it, in RGB: fills scale, offset, mean, deviation. */
int at_preprocess(at_model_spec *spec, const char *mode, at_error *err);
typedef struct at_init_options {
    bool replace_head; /* dense rows that a loss reads stay as they are; else other numbers of classes are AT_EINPUT */
    bool bgr;          /* weights of Keras want BGR: the first convolution's kernels are turned round */
} at_init_options;
/* Takes weights, by name and shape, from a model of ours or a file of Keras (legacy .h5, weights alone or whole, or
 * .weights.h5). Returns what became of each row: {file, layout, matched, missing, misshaped (weights), unused[] (layers),
 * rows[] {name, status, detail}}. AT_EINPUT where none fits; net is undefined then. */
at_node *at_net_init(at_net *net, const char *path, const at_init_options *options, at_error *err);

/* ---- plans (plan.c): a network compiled for one batch size and precision ------------------------- */
typedef enum { AT_FP32, AT_BF16 } at_precision;
typedef struct at_plan_options {
    int batch;
    at_precision precision;
    bool training; /* false: forward only, moving statistics, no dropout */
    /* Of inference: parameters and state stay as they are at the first pass, and are brought into
     * the kernels' layouts once. */
    bool constant;
    int threads;   /* OpenMP; 0: one a CPU of the cpuset */
    uint64_t seed; /* of dropout */
    /* Of the loss, as PyTorch's CrossEntropyLoss(weight, label_smoothing); its mean over samples is
     * one over their classes' weights (of a mixed sample both, by share), so at_plan_input.scale is
     * 1 / (global sum of these). */
    float label_smoothing;
    const float *class_weights; /* [classes], borrowed as long as the plan lives; NULL: all 1 */
    /* Synchronised batch normalisation: sums values[n] over ranks, in place. Called from the computing
     * thread, on every rank in the same order. NULL: statistics of this plan's batch alone. */
    int (*sum)(void *context, double *values, size_t n, at_error *err);
    void *sum_context;
} at_plan_options;
typedef struct at_plan at_plan;
typedef struct at_plan_input {
    const uint8_t *pixels; /* [N,H,W,C] 0..255 */
    const int32_t *labels; /* [N] */
    const float *weights;  /* [N], 0 marks padding; NULL: all 1 */
    /* Of samples that were mixed with others, else both NULL: the loss is shares[i] * loss(labels[i])
     * + (1 - shares[i]) * loss(other_labels[i]), and right is the label with the larger share. */
    const int32_t *other_labels; /* [N] */
    const float *shares;         /* [N] 0..1 */
    const uint32_t *ids;   /* [N] dropout's key with epoch; NULL: the index */
    uint64_t epoch;
    float scale; /* of the gradient: 1 / (global number of real samples) */
    /* Called from the computing thread whenever gradients [0, done) are final; NULL is fine. */
    void (*ready)(void *context, size_t done);
    void *context;
} at_plan_input;
typedef struct at_plan_stats {
    double loss_sum; /* over samples of weight 1: the last row's, auxiliary losses are not in it */
    uint64_t correct, samples;
} at_plan_stats;
int at_precision_parse(const char *text, at_precision *out, at_error *err); /* "fp32", "bf16" */
/* AT_EINPUT where the CPU has no bf16 (message offers fp32). */
int at_precision_check(at_precision precision, at_error *err);
/* What plans compute with: "sse", "avx2", "avx512", "avx512-bf16" or "amx"; ONEDNN_MAX_CPU_ISA limits it. */
const char *at_cpu_instructions(void);
void at_onednn_version(char out[32]); /* "2.6.3" */
at_plan *at_plan_new(at_net *net, const at_plan_options *options, at_error *err);
void at_plan_free(at_plan *p);
/* One training step: forward, loss, backward into at_net_grads. Adds to *stats. Allocates nothing. */
int at_plan_train(at_plan *p, const at_plan_input *in, at_plan_stats *stats, at_error *err);
/* Forward only; weights NULL: all. Adds to *stats if labels are given. */
int at_plan_infer(at_plan *p, const at_plan_input *in, at_plan_stats *stats, at_error *err);
const float *at_plan_logits(const at_plan *p); /* [N,classes] fp32, of the last call */
const float *at_plan_scores(const at_plan *p); /* [N,classes] softmax of them */
size_t at_plan_bytes(const at_plan *p);        /* arena */
/* What a plan's rows rescale and normalize do, alone: pixels [samples][area][channels] to
 * (pixel / 255 - mean) / deviation, in the same order, on the caller's thread. */
void at_pixels_normalize(const uint8_t *pixels, size_t samples, size_t area, int channels,
                         const float *mean, const float *deviation, float *out);
/* The arena that at_plan_new would take, found without timing or taking anything; 0: *err. The net may be without
 * memory. What is then chosen by timing can differ by a few percent. */
size_t at_plan_size(at_net *net, const at_plan_options *options, at_error *err);
/* The largest batch below options->batch whose arena is at most `bytes`; 0: none. */
int at_plan_largest_batch(at_net *net, const at_plan_options *options, size_t bytes);
/* What bounds a step: the own best times of convolutions and fully connected layers (each primitive alone, repeated,
 * the fastest candidate), and the bytes that every other layer must move, each tensor once each way. The profile tells both by
 * layer from then on. */
typedef struct at_plan_floor {
    double conv_seconds; /* and fully connected */
    double other_bytes;
} at_plan_floor;
int at_plan_measure_floor(at_plan *p, at_plan_floor *out, at_error *err);
/* Where a step's time goes, one item a layer and direction, of the fastest step since `on`. */
void at_plan_profile(at_plan *p, bool on);
at_node *at_plan_profile_result(const at_plan *p);

/* ---- model files (keras_write.c, keras_read.c, h5.c) ---------------------------------------------- */
typedef struct at_model_info {
    char *model;         /* "lenet" */
    char **classes;      /* [class_count] */
    size_t class_count;
    at_node *training;   /* what it was trained with, free form; NULL */
    char *fit;           /* how pictures came to its size: "stretch", "crop", "letterbox"; NULL: not known */
} at_model_info;
void at_model_info_fini(at_model_info *info);
/* 0, or AT_EINPUT with the row that at_model_save cannot write, and why. */
int at_model_savable(const at_net *net, at_error *err);
/* Keras legacy whole-model .h5 with our rows and classes as attributes; atomic. */
int at_model_save(at_net *net, const at_model_info *info, const char *path, at_error *err);
/* ONNX, opset 17: from float pixels [N,H,W,C] of 0..255 to softmax scores [N,classes]; the class names as JSON in
 * metadata_props. AT_EINPUT above the 2 GiB that such a file can have. Atomic. */
int at_model_export_onnx(at_net *net, const at_model_info *info, const char *path, at_error *err);
/* A model file of atoll or Keras, in any form that holds a model (the bytes say which, not the name): Keras 2's and 3's
 * whole .h5 and .keras, Sequential or Functional with layers that atoll has, and all that at_model_export writes but ONNX.
 * Not one, truncated, hostile: AT_EINPUT naming path and thing. info may be NULL. */
at_net *at_model_load(const char *path, at_model_info *info, at_error *err);
/* Weights alone, into the named model: .weights.h5 by class and number, legacy .h5 by the order of layers. */
at_net *at_model_load_weights(const char *path, const char *model, const at_model_spec *spec, at_model_info *info,
                              at_error *err);
/* The forms that `atoll export` writes (formats.c); each save() is atomic. */
typedef struct at_model_format {
    const char *name, *suffix, *summary; /* "keras-h5", ".h5" ("": none of its own), a line for --help */
    int (*save)(at_net *net, const at_model_info *info, const char *path, at_error *err);
} at_model_format;
size_t at_model_format_count(void);
const at_model_format *at_model_format_at(size_t i);
/* By its name, or where that is NULL by the path's suffix; AT_EUSAGE. */
const at_model_format *at_model_format_for(const char *name, const char *path, at_error *err);
int at_model_export(at_net *net, const at_model_info *info, const at_model_format *format, const char *path,
                    at_error *err);

/* Small typed access to H5 files, for checkpoints too. */
typedef struct at_h5 at_h5;
at_h5 *at_h5_create(const char *path, at_error *err); /* not atomic: give it at_atomic_path() */
at_h5 *at_h5_open(const char *path, at_error *err);
int at_h5_close(at_h5 *h, at_error *err); /* flushes; frees h even on error */
int at_h5_write_floats(at_h5 *h, const char *name, const float *data, int ndims, const int64_t *dims, at_error *err);
int at_h5_read_floats(at_h5 *h, const char *name, float *data, size_t count, at_error *err); /* count must match */
int at_h5_write_text(at_h5 *h, const char *name, const char *text, at_error *err); /* an attribute of "/" */
char *at_h5_read_text(at_h5 *h, const char *name, at_error *err);                  /* malloc'd */

#endif
