/* SPDX-License-Identifier: Apache-2.0
 * Learning-rate schedules: a linear warm-up, then constant, cosine (Loshchilov & Hutter 2017),
 * step, or one-cycle (Smith & Topin 2018: up to the peak over the first 30%, down to a
 * ten-thousandth of it).
 */
#include "internal.h"

#include <math.h>
#include <string.h>

static double constant(const at_train_config *c, double t, double epoch)
{
    (void)t;
    (void)epoch;
    return c->lr;
}

static double cosine(const at_train_config *c, double t, double epoch)
{
    (void)epoch;
    return c->lr * 0.5 * (1 + cos(M_PI * t));
}

static double step(const at_train_config *c, double t, double epoch)
{
    (void)t;
    return c->lr * pow(c->step_factor, floor(epoch / (double)c->step_epochs));
}

static double onecycle(const at_train_config *c, double t, double epoch)
{
    (void)epoch;
    const double peak_at = 0.3, start = 1.0 / 25, end = 1e-4;
    if (t < peak_at)
        return c->lr * (start + (1 - start) * 0.5 * (1 - cos(M_PI * t / peak_at)));
    return c->lr * (end + (1 - end) * 0.5 * (1 + cos(M_PI * (t - peak_at) / (1 - peak_at))));
}

static const struct {
    const char *name;
    double (*lr)(const at_train_config *c, double t, double epoch); /* t: 0..1 after the warm-up */
} schedules[] = {
    {"constant", constant}, {"cosine", cosine}, {"step", step}, {"onecycle", onecycle}};

double at_schedule_lr(const at_train_config *c, double epoch)
{
    double total = (double)c->epochs;
    double warmup = fmin(c->warmup, total);
    if (epoch < warmup)
        return c->lr * epoch / warmup;
    double t = total > warmup ? fmin((epoch - warmup) / (total - warmup), 1) : 0;
    for (size_t i = 0; i < sizeof schedules / sizeof *schedules; i++)
        if (!strcmp(schedules[i].name, c->schedule))
            return schedules[i].lr(c, t, epoch);
    return c->lr;
}
