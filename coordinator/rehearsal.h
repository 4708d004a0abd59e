/* SPDX-License-Identifier: Apache-2.0
 * One step of a trial before the first lease. */
#ifndef ATOLL_COORDINATOR_REHEARSAL_H
#define ATOLL_COORDINATOR_REHEARSAL_H

#include "internal.h"
#include "launcher.h"

typedef struct at_rehearsal {
    const at_sweep *sweep;
    const at_trial *trial;
    const at_workers *workers;
    const char *program, *out; /* out: STUDY/, absolute */
} at_rehearsal;
/* Trains for one step with the trial's settings and throws the result away: what a machine learns
 * once (the fastest convolutions, a batch cache) is there when trials begin. AT_EINTERRUPTED; any
 * other failure is only logged, for the trial itself will tell it and be counted. */
int at_rehearse(const at_rehearsal *r, at_error *err);

#endif
