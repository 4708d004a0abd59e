/* SPDX-License-Identifier: Apache-2.0
 * trainer: data-parallel training, alone or under mpirun/srun, and what it leaves behind.
 *
 *     at_train_config c;
 *     at_options_init(at_train_options, &c, &err);
 *     at_options_set(at_train_options, &c, "lr", "0.1", "-s", &err);
 *     at_train_job job = {.data = "data/fashion", .model = "lenet", .out = "runs/1", .config = &c};
 *     at_node *summary = at_train(&job, &err);
 *
 * One rank: compute threads, a loader thread, one communication thread that alone calls MPI between start and end.
 */
#ifndef ATOLL_TRAINER_H
#define ATOLL_TRAINER_H

#include <atoll/base.h>
#include <atoll/cache.h>
#include <atoll/nn.h>

/* ---- communication (comm.c, allreduce.c) -------------------------------------------------------- */
typedef struct at_comm at_comm;
/* Calls MPI_Init_thread only under a launcher (OMPI_*, PMIX_* or SLURM step in the environment), so that one process
 * alone starts in milliseconds. One at_comm a process. */
at_comm *at_comm_new(at_error *err);
void at_comm_free(at_comm *c); /* MPI_Finalize */
int at_comm_rank(const at_comm *c);
int at_comm_size(const at_comm *c);
int at_comm_local_rank(const at_comm *c); /* within the node */
int at_comm_local_size(const at_comm *c);
void at_comm_abort(at_comm *c, int status); /* ends every rank: a rank that fails must not leave others waiting; alone: returns */
int at_comm_barrier(at_comm *c, at_error *err);
int at_comm_broadcast(at_comm *c, void *data, size_t bytes, int root, at_error *err);
int at_comm_sum_doubles(at_comm *c, double *values, size_t n, at_error *err); /* same bits on every rank */
int at_comm_max_int(at_comm *c, int64_t *value, at_error *err);
int at_comm_gather_text(at_comm *c, const char *mine, char **all, at_error *err); /* rank 0: lines of all ranks; malloc'd, others NULL */
/* Sum over ranks in place, fp32, 64-bit counts. Ring reduce-scatter + allgather over point-to-point messages
 * (Patarasuk & Yuan 2009); slices of one node's ranks meet in a shared-memory window. The same bits on every rank and
 * for every run with the same ranks. Every rank calls it with the same count, and with data at the same place of
 * memory from at_comm_alloc, or else elsewhere on every rank. */
int at_comm_allreduce(at_comm *c, float *data, size_t count, at_error *err);
/* The MPI library's own, which `atoll bench allreduce` measures against; training never calls it. */
int at_comm_allreduce_mpi(at_comm *c, float *data, size_t count, at_error *err);
/* Memory in the node's shared window, where allreduce needs no copies; collective; zeroed. */
float *at_comm_alloc(at_comm *c, size_t count, at_error *err);
void at_comm_dealloc(at_comm *c, float *data);
/* Buckets that start while backward still runs: begin, ready(done) from the computing thread as gradients become final,
 * then finish waits for the sums. The communication thread does the work. */
typedef struct at_reducer at_reducer;
at_reducer *at_reducer_new(at_comm *c, float *grads, size_t count, size_t bucket_bytes, at_error *err);
void at_reducer_begin(at_reducer *r);
void at_reducer_ready(at_reducer *r, size_t done);
int at_reducer_finish(at_reducer *r, at_error *err);
/* Between begin and finish: sums values[n] over ranks, behind the buckets that are complete by then. All ranks call it
 * at the same places. Waits for the communication thread, which alone calls MPI. */
int at_reducer_sum(at_reducer *r, double *values, size_t n, at_error *err);
double at_reducer_waited(const at_reducer *r); /* seconds that finish() has waited in all */
void at_reducer_free(at_reducer *r);

/* ---- configuration (config.c) -------------------------------------------------------------------- */
typedef struct at_train_config {
    int64_t epochs, batch; /* batch: samples a rank and step */
    double lr, momentum, weight_decay;
    char *optimizer, *schedule, *precision; /* sgd|adam, cosine|step|onecycle|constant, fp32|bf16 */
    bool nesterov;
    double beta2, epsilon;             /* adam */
    double warmup;                     /* epochs of linear warm-up */
    int64_t step_epochs;               /* schedule.step_epochs: every so many epochs */
    double step_factor;                /* schedule.step_factor: lr times this */
    char *memory;                      /* of a rank, "1.5G"; "": what is there */
    int64_t threads, seed;             /* threads of a rank; 0: its share of the CPUs */
    at_augment augment;                /* augment.* */
    char *sampler, *sampler_weights;   /* uniform|balanced|weighted; sampler.weights: a number a class */
    int64_t train_limit;               /* only the first N of each epoch's plan; 0: all */
    double checkpoint_every;           /* epochs; checkpoint.every */
    int64_t checkpoint_keep;
    at_cache_keys input;               /* size channels fit form */
    char *cache;                       /* cache folder; "" : made on first use */
    char *cache_dir, *cache_limit;     /* cache.dir: where; cache.limit: of all caches there, "50G" */
    bool normalize;                    /* by the data set's own mean and deviation */
    char *preprocess;                  /* dataset|caffe|torch|tf */
    char *init;                        /* file of weights to begin with; "" : none */
    bool replace_head;                 /* all of them but the last dense row's */
    char *freeze;                      /* globs of rows that are not trained */
    int64_t log_every;                 /* log.every, steps */
    int64_t bucket_kib;                /* allreduce buckets */
    double label_smoothing;            /* share of the target that all classes have */
    char *class_weights;               /* none|balanced */
    bool sync_bn;                      /* batch normalisation over all ranks' samples */
} at_train_config;
extern const at_option at_train_options[];

/* ---- training (train.c, loop.c, optimizer_*.c by optimizers.def, schedule.c, metrics.c, checkpoint.c) -- */
typedef struct at_train_job {
    const char *data, *model, *out;
    const at_train_config *config;
    bool resume;
    bool trial;    /* one of a search: no test split, no model.h5, no report */
    int events_fd; /* JSON lines {"event":"start"|"epoch"|"end", ...} for a coordinator; <= 0: none */
} at_train_job;
/* Trains, evaluates, writes RUN/ (config.yaml metrics.jsonl checkpoints/ model.h5 summary.json report.html). Returns the
 * summary (rank 0; other ranks an empty map). AT_EINTERRUPTED: a checkpoint was written, resume continues. */
at_node *at_train(const at_train_job *job, at_comm *comm, at_error *err);

/* ---- metrics (metrics.c): sums and counts, so that they add over ranks ----------------------------- */
typedef struct at_metrics at_metrics;
at_metrics *at_metrics_new(size_t classes);
void at_metrics_free(at_metrics *m);
void at_metrics_add(at_metrics *m, const float *scores, const int32_t *labels, const float *weights, size_t batch);
int at_metrics_reduce(at_metrics *m, at_comm *comm, at_error *err); /* comm NULL: alone */
/* {accuracy, loss, classes[], confusion[][], per_class[]{class, precision, recall, f1, support}} */
at_node *at_metrics_result(const at_metrics *m, const char *const *class_names);
/* A model over one split of a cache; tta "none", "flip" or "shift". */
at_node *at_evaluate(at_net *net, at_cache *cache, at_split split, const char *tta, int threads, at_comm *comm,
                     at_error *err);

/* ---- report (report.c, report_*.c): one self-contained HTML file ------------------------------------ */
/* The page of a training: study adds the trials, data sample pictures, job its stages. */
typedef struct at_report_sources {
    const char *run;                /* folder of a training that has ended */
    const char *study, *data, *job; /* each may be NULL; job: the folder of `atoll run`, for its stages' times */
} at_report_sources;
int at_report_write(const at_report_sources *from, const char *out, at_error *err);

#endif
