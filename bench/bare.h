/* SPDX-License-Identifier: Apache-2.0
 * bare: how fast libjpeg and libpng alone decode the pictures of a data set.
 *
 *     double seconds;
 *     int code = bench_bare_decode(dataset, threads, &seconds, &err);
 */
#ifndef BENCH_BARE_H
#define BENCH_BARE_H

#include <atoll/datasets.h>

/* Seconds in which that many threads decode every image of the data set in full, each as its own
 * file would be, and look at nothing. Its bytes are read, and so in memory, before the clock runs. */
int bench_bare_decode(const at_dataset *d, int threads, double *seconds, at_error *err);

#endif
