/* SPDX-License-Identifier: Apache-2.0
 * kernels_gelu: the tables by which kernels of AVX-512 find GELU and its derivative: a cubic polynomial
 * for each part of equal width, through the values at Chebyshev's nodes of it (Trefethen,
 * "Approximation Theory and Approximation Practice", chapter 5). Behind the last part but one the values
 * are taken for 0. Absolute error: 2e-7 of the tail, 1.3e-6 of the slope.
 */
#include "kernels.h"

#include <math.h>
#include <pthread.h>

enum { TERMS = 4 };
static const double pi = 3.14159265358979323846;

nn_gelu_tables nn_gelu;

/* Phi(-x). */
static double tail(double x)
{
    return 0.5 * erfc(x * sqrt(0.5));
}

/* The derivative of z*Phi(z) at z = -x. */
static double slope(double x)
{
    return tail(x) - x * exp(-0.5 * x * x) / sqrt(2 * pi);
}

/* Through the values at four places u of [0, 1], by Newton's divided differences. */
static void fit(const double u[TERMS], const double value[TERMS], double c[TERMS])
{
    double d[TERMS];
    for (int i = 0; i < TERMS; i++) {
        d[i] = value[i];
        c[i] = 0;
    }
    for (int order = 1; order < TERMS; order++)
        for (int i = TERMS - 1; i >= order; i--)
            d[i] = (d[i] - d[i - 1]) / (u[i] - u[i - order]);
    for (int i = TERMS - 1; i >= 0; i--) { /* c = c * (x - u[i]) + d[i] */
        for (int k = TERMS - 1; k > 0; k--)
            c[k] = c[k - 1] - u[i] * c[k];
        c[0] = d[i] - u[i] * c[0];
    }
}

static void fill(double (*f)(double), float table[TERMS][NN_GELU_PARTS])
{
    for (int part = 0; part < NN_GELU_PARTS - 1; part++) {
        double u[TERMS], value[TERMS], c[TERMS];
        for (int i = 0; i < TERMS; i++) {
            u[i] = 0.5 - 0.5 * cos((2 * i + 1) * pi / (2 * TERMS));
            value[i] = f((part + u[i]) / (double)NN_GELU_PARTS_IN_ONE);
        }
        fit(u, value, c);
        for (int i = 0; i < TERMS; i++)
            table[i][part] = (float)c[i];
    }
}

static void fill_both(void)
{
    fill(tail, nn_gelu.tail);
    fill(slope, nn_gelu.slope);
}

void nn_gelu_ready(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fill_both);
}
