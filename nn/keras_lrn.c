/* SPDX-License-Identifier: Apache-2.0
 * Local response normalisation out of layers that Keras 2 and 3 both have built in.
 *
 * y = x * (k + alpha m)^-beta with m the mean of x*x over neighbouring channels. Keras has no layer
 * that raises to a power; but it has softsign, and for v >= 0, 1/(1+v) = 1 - softsign(v). By Euler's
 * integral
 *
 *     (1+u)^-beta = sin(pi beta)/pi * integral over 0 < s < 1 of
 *                   s^(beta-1) (1-s)^-beta / (1 + s u)
 *
 * Gauss-Jacobi quadrature (Golub and Welsch 1969) of FRACTIONS nodes is a sum of such fractions,
 * weights and all known beforehand. It is taken around k + alpha m = MIDDLE k, and so is exact to
 * 2e-7 from k to MIDDLE^2 k, which no sensible network leaves.
 */
#include <math.h>

#include "keras_export.h"

enum { FRACTIONS = 12, MIDDLE = 10 };

/* (1+u)^-beta = sum of weight / (1 + slope u) */
typedef struct fractions {
    double slope[FRACTIONS], weight[FRACTIONS];
} fractions;

/* The recurrence of the orthogonal polynomials: x p_n = b_n+1 p_n+1 + a_n p_n + b_n p_n-1. */
static void recurrence(double beta, double *a, double *b)
{
    a[0] = 2 * beta - 1;
    b[0] = 0;
    for (int n = 1; n < FRACTIONS; n++) {
        double odd = 2 * n - 1;
        a[n] = (1 - 2 * beta) / (odd * (odd + 2));
        b[n] = sqrt((n == 1 ? 2 : 1) * (n - beta) * (n + beta - 1)) / odd;
    }
}

/* How many eigenvalues of the tridiagonal matrix lie below x (Sturm's sequence). */
static int count_below(const double *a, const double *b, double x)
{
    int n = 0;
    double q = 1;
    for (int i = 0; i < FRACTIONS; i++) {
        q = a[i] - x - (i ? b[i] * b[i] / (q != 0 ? q : 1e-300) : 0);
        n += q < 0;
    }
    return n;
}

/* The i-th node in -1..1, and its weight: one over the sum of the orthonormal polynomials squared. */
static void find_node(const double *a, const double *b, int i, double *node, double *weight)
{
    double low = -1, high = 1, before = 0, here = 1, sum = 1;
    for (int step = 0; step < 60; step++) {
        double middle = (low + high) / 2;
        *(count_below(a, b, middle) > i ? &high : &low) = middle;
    }
    for (int n = 0; n + 1 < FRACTIONS; n++) {
        double next = ((low - a[n]) * here - b[n] * before) / b[n + 1];
        before = here;
        here = next;
        sum += here * here;
    }
    *node = low;
    *weight = 1 / sum;
}

static fractions find_fractions(double beta)
{
    fractions f = {0};
    double a[FRACTIONS], b[FRACTIONS];
    recurrence(beta, a, b);
    for (int i = 0; i < FRACTIONS; i++) {
        double x, weight;
        find_node(a, b, i, &x, &weight);
        double s = (1 + x) / 2, rest = 1 - s + s / MIDDLE;
        f.slope[i] = s / MIDDLE / rest;
        f.weight[i] = weight * pow(MIDDLE, -beta) / rest;
    }
    return f;
}

/* (values - mean) * scale, a number a channel. */
static const char *scale_channels(exporter *e, const nn_row *row, const char *suffix,
                                  const char *from, double mean, const double *scale)
{
    double means[FRACTIONS], variances[FRACTIONS];
    for (int i = 0; i < FRACTIONS; i++) {
        means[i] = mean;
        variances[i] = 1 / (scale[i] * scale[i]);
    }
    at_node *config = export_config_of(row, suffix);
    at_node_set(config, "axis", export_list((int64_t[]){-1}, 1));
    at_node_set(config, "mean", export_reals(means, FRACTIONS));
    at_node_set(config, "variance", export_reals(variances, FRACTIONS));
    return export_layer(e, "Normalization", config, from);
}

static const char *reshape(exporter *e, const nn_row *row, const char *suffix, const char *from,
                           int64_t a, int64_t b, int64_t c)
{
    at_node *config = export_config_of(row, suffix);
    at_node_set(config, "target_shape", export_list((int64_t[]){a, b, c}, 3));
    return export_layer(e, "Reshape", config, from);
}

static const char *average_row(exporter *e, const nn_row *row, const char *suffix, const char *from,
                               int64_t width, int64_t stride)
{
    at_node *config = export_config_of(row, suffix);
    at_node_set(config, "pool_size", export_pair(1, width));
    at_node_set(config, "strides", export_pair(1, stride));
    at_set_string(config, "padding", "valid");
    at_set_string(config, "data_format", "channels_last");
    return export_layer(e, "AveragePooling2D", config, from);
}

/* [h,w,c] to [h*w, c, 1]: the mean of each channel's neighbours, zeros where there are none. */
static const char *mean_square(exporter *e, const nn_row *row, const char *from, int64_t size)
{
    nn_shape s = row->out;
    const char *twice[] = {from, from};
    from = export_layer_of(e, "Multiply", export_config_of(row, "square"), twice, 2);
    from = reshape(e, row, "channels", from, s.h * s.w, s.c, 1);
    from = export_padding(e, row, from, 0, 0, size / 2, (size - 1) / 2);
    return average_row(e, row, "mean", from, size, 1);
}

/* [h*w, c, 1] of mean squares m to [h,w,c] of (1 + share m)^-beta, times scale. */
static const char *power(exporter *e, const nn_row *row, const char *from, double beta,
                         double share, double scale)
{
    nn_shape s = row->out;
    fractions f = find_fractions(beta);
    const char *copies[FRACTIONS];
    for (int i = 0; i < FRACTIONS; i++) {
        copies[i] = from;
        f.slope[i] *= share;
    }
    at_node *config = export_config_of(row, "copies");
    at_set_int(config, "axis", -1);
    from = export_layer_of(e, "Concatenate", config, copies, FRACTIONS);
    from = scale_channels(e, row, "slopes", from, 0, f.slope);
    config = export_config_of(row, "softsign");
    at_set_string(config, "activation", "softsign");
    from = export_layer(e, "Activation", config, from);
    from = scale_channels(e, row, "weights", from, 1, f.weight); /* -weight/(1 + slope m) */
    from = reshape(e, row, "fractions", from, s.h * s.w * s.c, FRACTIONS, 1);
    from = average_row(e, row, "power", from, FRACTIONS, FRACTIONS);
    config = export_config_of(row, "scale");
    at_set_real(config, "scale", -FRACTIONS * scale);
    at_set_real(config, "offset", 0);
    from = export_layer(e, "Rescaling", config, from);
    return reshape(e, row, "map", from, s.h, s.w, s.c);
}

const char *export_lrn(exporter *e, const nn_row *row, at_error *err)
{
    const nn_lrn_attrs *a = row->attrs;
    const char *from = export_input(e, row, 0);
    if (a->alpha == 0 || a->beta == 0) {
        at_node *config = export_config(row->row.name);
        at_set_real(config, "scale", pow(a->k, -a->beta));
        at_set_real(config, "offset", 0);
        return export_layer(e, "Rescaling", config, from);
    }
    if (a->beta >= 1 || row->out.vector) {
        at_fail(err, AT_EINPUT, "row '%s': Keras has no local response normalisation %s",
                row->row.name, row->out.vector ? "of vectors" : "with beta of 1 and more");
        return NULL;
    }
    const char *factor = mean_square(e, row, from, a->size);
    factor = power(e, row, factor, a->beta, a->alpha / a->k, pow(a->k, -a->beta));
    const char *both[] = {from, factor};
    return export_layer_of(e, "Multiply", export_config(row->row.name), both, 2);
}
