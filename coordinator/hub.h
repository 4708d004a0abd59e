/* SPDX-License-Identifier: Apache-2.0
 * The coordinator's loop: workers join, trials are leased to the free ones, results are kept. */
#ifndef ATOLL_COORDINATOR_HUB_H
#define ATOLL_COORDINATOR_HUB_H

#include "internal.h"
#include "launcher.h"
#include "wire.h"

typedef struct at_hub_options {
    const at_sweep *sweep;
    at_schedule *schedule;
    const at_workers *workers;
    const char *out; /* STUDY/, absolute */
    const char *program, *key_path;
    at_key key;
} at_hub_options;
/* Until the schedule has ended, or AT_EINTERRUPTED, or an error. most: workers at one time. */
int at_hub_run(const at_hub_options *options, int64_t *most, at_error *err);

#endif
