/* SPDX-License-Identifier: Apache-2.0
 * eigen: eigenvalues and eigenvectors of symmetric matrices by cyclic Jacobi rotations (Golub and
 * Van Loan, section 8.5): as accurate as any method, and the same bits whatever the threads, which
 * a library's blocked algorithm does not promise. For matrices of at most some hundred rows.
 */
#include <atoll/base.h>

#include <math.h>
#include <stdlib.h>

enum { MOST_SWEEPS = 60 };

/* The rotation that makes a[p][q] zero, in rows and columns p and q of a and in columns of v. */
static void rotate(double *a, double *v, size_t n, size_t p, size_t q)
{
    double apq = a[p * n + q];
    double theta = (a[q * n + q] - a[p * n + p]) / (2 * apq);
    double t = (theta >= 0 ? 1 : -1) / (fabs(theta) + sqrt(theta * theta + 1));
    double c = 1 / sqrt(t * t + 1), s = t * c;
    for (size_t k = 0; k < n; k++) {
        double kp = a[k * n + p], kq = a[k * n + q];
        a[k * n + p] = c * kp - s * kq;
        a[k * n + q] = s * kp + c * kq;
    }
    for (size_t k = 0; k < n; k++) {
        double pk = a[p * n + k], qk = a[q * n + k], vp = v[p * n + k], vq = v[q * n + k];
        a[p * n + k] = c * pk - s * qk;
        a[q * n + k] = s * pk + c * qk;
        v[p * n + k] = c * vp - s * vq;
        v[q * n + k] = s * vp + c * vq;
    }
}

static void swap_rows(double *values, double *v, size_t n, size_t i, size_t j)
{
    double value = values[i];
    values[i] = values[j];
    values[j] = value;
    for (size_t k = 0; k < n; k++) {
        double x = v[i * n + k];
        v[i * n + k] = v[j * n + k];
        v[j * n + k] = x;
    }
}

/* The largest first; of each vector the largest component positive, so that it is one of two. */
static void put_in_order(double *values, double *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t best = i, top = 0;
        for (size_t j = i + 1; j < n; j++)
            best = values[j] > values[best] ? j : best;
        if (best != i)
            swap_rows(values, v, n, i, best);
        for (size_t k = 1; k < n; k++)
            top = fabs(v[i * n + k]) > fabs(v[i * n + top]) ? k : top;
        for (size_t k = 0, turn = v[i * n + top] < 0; turn && k < n; k++)
            v[i * n + k] = -v[i * n + k];
    }
}

int at_eigen_symmetric(double *a, size_t n, double *values, double *vectors, at_error *err)
{
    double all = 0;
    for (size_t i = 0; i < n * n; i++) {
        vectors[i] = i % (n + 1) == 0;
        all += a[i] * a[i];
    }
    if (!isfinite(all))
        return at_fail(err, AT_EFAIL,
                       "a matrix with values that are no numbers has no eigenvalues");
    double small = 1e-15 * sqrt(all) / (double)(n ? n : 1), largest = INFINITY;
    for (int sweep = 0; sweep < MOST_SWEEPS && largest > small; sweep++) {
        largest = 0;
        for (size_t p = 0; p + 1 < n; p++) {
            for (size_t q = p + 1; q < n; q++) {
                double off = fabs(a[p * n + q]);
                largest = fmax(largest, off);
                if (off > small)
                    rotate(a, vectors, n, p, q);
            }
        }
    }
    for (size_t i = 0; i < n; i++)
        values[i] = a[i * n + i];
    put_in_order(values, vectors, n);
    return 0;
}
