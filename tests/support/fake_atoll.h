/* SPDX-License-Identifier: Apache-2.0
 * A test program in the part of atoll, so that searches and jobs are tested without training.
 *
 *     int main(int argc, char **argv)
 *     {
 *         int status = fake_main(argc, argv);   // -1: it is the test itself
 *         if (status >= 0)
 *             return status;
 */
#ifndef ATOLL_TEST_FAKE_ATOLL_H
#define ATOLL_TEST_FAKE_ATOLL_H

#include <atoll/coordinator.h>

#define FAKE_ATOLL "/proc/self/exe"

/* Plays `ingest`, `cache build`, `report`, the final `train` and `run JOB OUT` of a job;
 * an ingest of "missing" fails, of "slow" takes a second, deaf to SIGTERM;
 * `train --trial` (the metric comes from -s lr alone; -s nap_ms, fail_at, fail_all, status,
 * crash_at and kill_worker_of make trouble; a rehearsal is noted), `worker` and `tune SWEEP STUDY WORKERS new|resume`. */
int fake_main(int argc, char **argv);
double fake_metric(double lr);
at_node *fake_tune(const char *sweep, const char *out, const char *workers, bool resume,
                   at_error *err);
at_node *fake_job(const char *yaml, const char *out, bool resume, at_error *err);

#endif
