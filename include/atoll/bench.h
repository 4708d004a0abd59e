/* SPDX-License-Identifier: Apache-2.0
 * bench: what `atoll bench` runs. Each returns one JSON object with images_per_second, seconds or gigabytes_per_second,
 * floor_* of the same kind measured in the same run, and peak_rss_bytes; NULL and *err on failure.
 */
#ifndef ATOLL_BENCH_H
#define ATOLL_BENCH_H

#include <atoll/nn.h>

typedef struct at_bench_net_options {
    const char *model;
    at_model_spec spec;
    at_precision precision;
    int batch, threads, steps; /* threads 0: one a CPU of the cpuset */
    bool profile; /* adds "profile": seconds and floor by layer and direction */
} at_bench_net_options;
/* Forward, backward and a Nesterov update on synthetic pixels. */
at_node *at_bench_train(const at_bench_net_options *o, at_error *err);
/* Inference alone; the model may also be a file. */
at_node *at_bench_predict(const at_bench_net_options *o, at_error *err);
typedef struct at_bench_ingest_options {
    const char *source; /* as at_ingest takes it */
    int threads;        /* 0: one a CPU of the cpuset */
    int height, width;  /* of a cache that is filled and timed with it; 0: none */
} at_bench_ingest_options;
/* From the source to a data set; the floor is decoding by libjpeg and libpng alone. */
at_node *at_bench_ingest(const at_bench_ingest_options *o, at_error *err);
typedef struct at_bench_loader_options {
    const char *cache; /* a folder */
    int batch, threads; /* threads 0: one a CPU of the cpuset */
    int epochs;         /* at least so many, and */
    double seconds;     /* so long */
} at_bench_loader_options;
/* One pass after another over the train split of a cache, flip and shift-crop on. */
at_node *at_bench_loader(const at_bench_loader_options *o, at_error *err);
/* Opens and asks a data set, or, NULL, one of so many images that is made first; "seconds" is that of opening it, the
 * others those of queries. */
at_node *at_bench_catalog(const char *dataset, size_t images, at_error *err);
/* Our allreduce against MPI_Allreduce for sizes from 64 KiB to 64 MiB; under mpirun; the result on rank 0, else an
 * empty object. */
at_node *at_bench_allreduce(int repeats, at_error *err);

#endif
