/* SPDX-License-Identifier: Apache-2.0
 * Parzen estimator over several parameters at once: a mixture with one kernel an observation and a
 * wide one for the prior; a kernel is a product of truncated normals and categorical weights.
 *
 * After Bergstra et al. 2011 with the choices that Watanabe 2023 (arXiv 2304.11127) found to matter
 * and Optuna uses: kernels span all parameters jointly, the width is the larger gap to the
 * neighbours, not below range / min(100, kernels + 1) ("magic clip"), older observations fade. */
#include "internal.h"

#include <math.h>
#include <stdlib.h>

enum { FLAT_WEIGHTS = 25 };
static const double prior_weight = 1;

typedef struct axis {
    const at_dist *dist;
    bool log;
    double low, high;              /* in the axis's own scale; half a step wider where quantised */
    double *mu, *sigma, *log_mass; /* [kernels]; a category's index is mu */
} axis;
struct at_parzen {
    size_t kernels, dims;
    double *log_weight; /* [kernels] */
    axis *axes;         /* [dims] */
    double *numbers;    /* all of the above in one block */
};

/* Probability of a standard normal between a and b, from the tail that keeps its digits. */
static double normal_mass(double a, double b)
{
    if (a > 0) {
        double t = a;
        a = -b;
        b = -t;
    }
    return fmax(0.5 * (erfc(-b * M_SQRT1_2) - erfc(-a * M_SQRT1_2)), 1e-300);
}

static double to_axis(const axis *x, double value)
{
    return x->log ? log(value) : value;
}

/* ---- building ---- */

/* 25 latest observations count fully, older ones less in proportion to their age. */
static void set_weights(at_parzen *p)
{
    size_t n = p->kernels - 1, ramp = n > FLAT_WEIGHTS ? n - FLAT_WEIGHTS : 0;
    double sum = prior_weight, first = n ? 1 / (double)n : 1;
    for (size_t k = 0; k < n; k++) {
        double w = 1;
        if (k < ramp)
            w = ramp > 1 ? first + (1 - first) * (double)k / (double)(ramp - 1) : first;
        p->log_weight[k] = w;
        sum += w;
    }
    p->log_weight[n] = prior_weight;
    for (size_t k = 0; k <= n; k++)
        p->log_weight[k] = log(p->log_weight[k] / sum);
}

typedef struct placed {
    double mu;
    size_t kernel;
} placed;

static int by_mu(const void *a, const void *b)
{
    const placed *x = a, *y = b;
    if (x->mu != y->mu)
        return x->mu < y->mu ? -1 : 1;
    return x->kernel < y->kernel ? -1 : x->kernel > y->kernel;
}

/* A kernel reaches to the farther of its neighbours; the ends of the range are no neighbours. */
static void set_sigmas(axis *x, placed *order, size_t n)
{
    double range = x->high - x->low, least = range / fmin(100, 2 + (double)n);
    for (size_t k = 0; k < n; k++)
        order[k] = (placed){x->mu[k], k};
    qsort(order, n, sizeof *order, by_mu);
    for (size_t i = 0; i < n; i++) {
        double left = i ? order[i].mu - order[i - 1].mu : 0;
        double right = i + 1 < n ? order[i + 1].mu - order[i].mu : 0;
        double sigma =
            n == 1 ? fmax(order[0].mu - x->low, x->high - order[0].mu) : fmax(left, right);
        x->sigma[order[i].kernel] = fmin(fmax(sigma, least), range);
    }
    x->mu[n] = 0.5 * (x->low + x->high);
    x->sigma[n] = range;
    for (size_t k = 0; k <= n; k++)
        x->log_mass[k] =
            log(normal_mass((x->low - x->mu[k]) / x->sigma[k], (x->high - x->mu[k]) / x->sigma[k]));
}

static void set_axis(axis *x, const at_dist *d, const double *const *rows, size_t n, size_t column)
{
    x->dist = d;
    x->log = d->kind == AT_DIST_LOGUNIFORM;
    x->low = to_axis(x, d->low) - 0.5 * d->step;
    x->high = to_axis(x, d->high) + 0.5 * d->step;
    for (size_t k = 0; k < n; k++)
        x->mu[k] = to_axis(x, rows[k][column]);
}

at_parzen *at_parzen_new(const at_space *space, const size_t *columns, size_t dims,
                         const double *const *rows, size_t n)
{
    at_parzen *p = calloc(1, sizeof *p);
    placed *order = calloc(n + 1, sizeof *order);
    if (!p || !order)
        goto fail;
    p->kernels = n + 1;
    p->dims = dims;
    p->axes = calloc(dims, sizeof *p->axes);
    p->numbers = calloc(p->kernels * (3 * dims + 1), sizeof *p->numbers);
    if (!p->axes || !p->numbers)
        goto fail;
    p->log_weight = p->numbers;
    set_weights(p);
    for (size_t i = 0; i < dims; i++) {
        axis *x = &p->axes[i];
        x->mu = p->numbers + p->kernels * (3 * i + 1);
        x->sigma = x->mu + p->kernels;
        x->log_mass = x->sigma + p->kernels;
        set_axis(x, &space->dists[columns[i]], rows, n, columns[i]);
        if (x->dist->kind != AT_DIST_CHOICE)
            set_sigmas(x, order, n);
    }
    free(order);
    return p;
fail:
    free(order);
    at_parzen_free(p);
    return NULL;
}

void at_parzen_free(at_parzen *p)
{
    if (!p)
        return;
    free(p->axes);
    free(p->numbers);
    free(p);
}

/* ---- sampling ---- */

static size_t pick_kernel(const at_parzen *p, at_rng *rng)
{
    double u = at_rng_uniform(rng);
    for (size_t k = 0; k + 1 < p->kernels; k++)
        if ((u -= exp(p->log_weight[k])) < 0)
            return k;
    return p->kernels - 1;
}

/* Probability of a category under a kernel: its observation, softened by the prior. */
static double category_mass(const at_parzen *p, const axis *x, size_t kernel, double category)
{
    double share = prior_weight / (double)p->kernels, n = (double)x->dist->choice_count;
    if (kernel == p->kernels - 1)
        return 1 / n;
    return (share + (x->mu[kernel] == category)) / (1 + n * share);
}

static double draw_category(const at_parzen *p, const axis *x, size_t kernel, at_rng *rng)
{
    double u = at_rng_uniform(rng);
    size_t c = 0;
    while (c + 1 < x->dist->choice_count && (u -= category_mass(p, x, kernel, (double)c)) >= 0)
        c++;
    return (double)c;
}

/* By rejection: the centre lies within the range and sigma is no larger, so a third is accepted. */
static double draw_number(const axis *x, size_t kernel, at_rng *rng)
{
    double v;
    do
        v = x->mu[kernel] + x->sigma[kernel] * at_rng_normal(rng);
    while (v < x->low || v > x->high);
    return at_dist_clip(x->dist, x->log ? exp(v) : v);
}

void at_parzen_draw(const at_parzen *p, at_rng *rng, double *point)
{
    size_t kernel = pick_kernel(p, rng);
    for (size_t i = 0; i < p->dims; i++) {
        const axis *x = &p->axes[i];
        point[i] = x->dist->kind == AT_DIST_CHOICE ? draw_category(p, x, kernel, rng)
                                                   : draw_number(x, kernel, rng);
    }
}

/* ---- density ---- */

static double axis_log_density(const at_parzen *p, const axis *x, size_t k, double value)
{
    if (x->dist->kind == AT_DIST_CHOICE)
        return log(category_mass(p, x, k, value));
    double half = 0.5 * x->dist->step / x->sigma[k];
    double z = (to_axis(x, value) - x->mu[k]) / x->sigma[k];
    if (half > 0)
        return log(normal_mass(z - half, z + half)) - x->log_mass[k];
    return -0.5 * z * z - log(x->sigma[k]) - x->log_mass[k];
}

double at_parzen_log_density(const at_parzen *p, const double *point)
{
    double most = -INFINITY, sum = 0; /* sum is relative to exp(most) */
    for (size_t k = 0; k < p->kernels; k++) {
        double v = p->log_weight[k];
        for (size_t i = 0; i < p->dims; i++)
            v += axis_log_density(p, &p->axes[i], k, point[i]);
        if (v > most) {
            sum = sum * exp(most - v) + 1;
            most = v;
        } else {
            sum += exp(v - most);
        }
    }
    return most + log(sum);
}
