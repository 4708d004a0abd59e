/* SPDX-License-Identifier: Apache-2.0
 * The one resize of training, evaluation, prediction and serving.
 *
 * Separable: each axis has, for each output position, a run of input positions and their weights.
 * Shrinking weighs every input pixel by the area that it covers; growing is cubic convolution with
 * a = -0.5 (R. Keys, 1981), edges repeated. Weights are integers of 1/65536 that sum to exactly
 * 65536 and the arithmetic is integer, so all CPUs give the same bytes; an axis that keeps its size
 * has the weight 1 and copies. */
#include "internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    WEIGHT_BITS = 16,
    WEIGHT_ONE = 1 << WEIGHT_BITS,
    KEPT_BITS = 6, /* of fraction between the passes: cubic overshoot still fits 16 bits */
    MAX_SIDE = 1 << 16,
};

/* For output i: input positions first[i] .. first[i]+taps-1, weights[i*taps ...]. */
struct axis {
    size_t out, taps;
    int32_t *first;
    int32_t *weights;
};

/* ---- weights ---- */

static double keys(double x)
{
    x = fabs(x);
    if (x < 1)
        return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

/* The weight of input k for output i; both count from 0. */
static double weight_of(size_t in, size_t out, size_t i, int64_t k)
{
    double scale = (double)in / (double)out;
    if (in <= out)
        return keys((double)k - (((double)i + 0.5) * scale - 0.5));
    double from = (double)i * scale, to = from + scale;
    double left = fmax(from, (double)k), right = fmin(to, (double)k + 1);
    return right > left ? right - left : 0;
}

/* Integers that sum to WEIGHT_ONE; the largest takes what rounding left. */
static void quantise(const double *w, size_t n, int32_t *out)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += w[i];
    int32_t left = WEIGHT_ONE;
    size_t largest = 0;
    for (size_t i = 0; i < n; i++) {
        out[i] = (int32_t)lrint(w[i] / sum * WEIGHT_ONE);
        left -= out[i];
        largest = out[i] > out[largest] ? i : largest;
    }
    out[largest] += left;
}

/* One output's weights; positions beyond an edge count for the edge's pixel. */
static void fill_output(struct axis *a, size_t in, size_t i, double *w)
{
    double scale = (double)in / (double)a->out;
    int64_t begin = in <= a->out ? (int64_t)floor(((double)i + 0.5) * scale - 0.5) - 1
                                 : (int64_t)((double)i * scale);
    size_t span = a->taps;
    int64_t first = begin < 0 ? 0 : begin;
    if (first > (int64_t)(in - span))
        first = (int64_t)(in - span);
    for (size_t t = 0; t < span; t++)
        w[t] = 0;
    int64_t reach = in <= a->out ? 4 : (int64_t)span;
    for (int64_t k = begin; k < begin + reach; k++) {
        int64_t at = k < 0 ? 0 : k >= (int64_t)in ? (int64_t)in - 1 : k;
        w[at - first] += weight_of(in, a->out, i, k);
    }
    a->first[i] = (int32_t)first;
    quantise(w, span, a->weights + i * span);
}

static size_t taps_of(size_t in, size_t out)
{
    if (in == out)
        return 1;
    size_t taps = in < out ? 4 : (in + out - 1) / out + 1;
    return taps < in ? taps : in;
}

static bool axis_init(struct axis *a, size_t in, size_t out)
{
    size_t n;
    *a = (struct axis){.out = out, .taps = taps_of(in, out)};
    if (!at_mul(out, a->taps, SIZE_MAX / sizeof *a->weights, &n))
        return false;
    double *w = calloc(a->taps, sizeof *w);
    a->first = calloc(out, sizeof *a->first);
    a->weights = calloc(n, sizeof *a->weights);
    bool there = w && a->first && a->weights;
    for (size_t i = 0; there && i < out; i++)
        if (in == out) {
            a->first[i] = (int32_t)i;
            a->weights[i] = WEIGHT_ONE;
        } else {
            fill_output(a, in, i, w);
        }
    free(w);
    return there;
}

static void axis_fini(struct axis *a)
{
    free(a->first);
    free(a->weights);
}

/* ---- the two passes ---- */

enum { ROW_SHIFT = WEIGHT_BITS - KEPT_BITS, ROW_HALF = 1 << (ROW_SHIFT - 1) };

/* One row [W,1] to [out,1] with KEPT_BITS of fraction. */
static void fit_grey_row(const struct axis *a, const uint8_t *in, int16_t *out)
{
    for (size_t i = 0; i < a->out; i++) {
        const int32_t *w = a->weights + i * a->taps;
        const uint8_t *p = in + a->first[i];
        int32_t sum = ROW_HALF;
        for (size_t t = 0; t < a->taps; t++)
            sum += w[t] * p[t];
        out[i] = (int16_t)(sum >> ROW_SHIFT);
    }
}

/* The same of [W,3]: each weight is loaded once for three channels. */
static void fit_rgb_row(const struct axis *a, const uint8_t *in, int16_t *out)
{
    for (size_t i = 0; i < a->out; i++, out += 3) {
        const int32_t *w = a->weights + i * a->taps;
        const uint8_t *p = in + (size_t)a->first[i] * 3;
        int32_t red = ROW_HALF, green = ROW_HALF, blue = ROW_HALF;
        for (size_t t = 0; t < a->taps; t++, p += 3) {
            red += w[t] * p[0];
            green += w[t] * p[1];
            blue += w[t] * p[2];
        }
        out[0] = (int16_t)(red >> ROW_SHIFT);
        out[1] = (int16_t)(green >> ROW_SHIFT);
        out[2] = (int16_t)(blue >> ROW_SHIFT);
    }
}

/* Weighted sum of `taps` rows of n values each. */
static void fit_columns(const int16_t *rows, const int32_t *w, size_t taps, size_t n, int32_t *sum,
                        uint8_t *out)
{
    const int shift = WEIGHT_BITS + KEPT_BITS;
    for (size_t i = 0; i < n; i++)
        sum[i] = 1 << (shift - 1);
    for (size_t t = 0; t < taps; t++)
        for (size_t i = 0; i < n; i++)
            sum[i] += w[t] * rows[t * n + i];
    for (size_t i = 0; i < n; i++) {
        int32_t v = sum[i] >> shift;
        out[i] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
    }
}

/* [H,W,C] to [height,width,C]. */
static int fit(const at_image *image, size_t height, size_t width, uint8_t *out)
{
    size_t channels = (size_t)image->channels, stride = (size_t)image->width * channels;
    size_t n = width * channels, in_height = (size_t)image->height;
    struct axis x, y = {0};
    int16_t *rows = NULL;
    int32_t *sum = NULL;
    int code = AT_ENOMEM;
    if (!axis_init(&x, (size_t)image->width, width) || !axis_init(&y, in_height, height))
        goto done;
    rows = malloc(in_height * n * sizeof *rows);
    sum = malloc(n * sizeof *sum);
    if (!rows || !sum)
        goto done;
    for (size_t r = 0; r < in_height; r++)
        if (channels == 3)
            fit_rgb_row(&x, image->pixels + r * stride, rows + r * n);
        else
            fit_grey_row(&x, image->pixels + r * stride, rows + r * n);
    for (size_t r = 0; r < height; r++)
        fit_columns(rows + (size_t)y.first[r] * n, y.weights + r * y.taps, y.taps, n, sum,
                    out + r * n);
    code = 0;
done:
    free(sum);
    free(rows);
    axis_fini(&x);
    axis_fini(&y);
    return code;
}

/* ---- channels ---- */

static void spread_grey(const uint8_t *in, size_t pixels, uint8_t *out)
{
    for (size_t i = 0; i < pixels; i++)
        out[3 * i] = out[3 * i + 1] = out[3 * i + 2] = in[i];
}

/* Luma of ITU-R BT.601 in 1/65536. */
static void merge_rgb(const uint8_t *in, size_t pixels, uint8_t *out)
{
    for (size_t i = 0; i < pixels; i++, in += 3)
        out[i] = (uint8_t)((19595u * in[0] + 38470u * in[1] + 7471u * in[2] + 32768u) >> 16);
}

static void convert(const uint8_t *in, int from, size_t pixels, int to, uint8_t *out)
{
    if (from == to)
        memcpy(out, in, pixels * (size_t)to);
    else if (to == 3)
        spread_grey(in, pixels, out);
    else
        merge_rgb(in, pixels, out);
}

static bool shape_is_good(int height, int width, int channels)
{
    return height >= 1 && width >= 1 && height <= MAX_SIDE && width <= MAX_SIDE &&
           (channels == 1 || channels == 3);
}

int at_image_fit(const at_image *image, int height, int width, int channels, uint8_t *out,
                 at_error *err)
{
    if (!shape_is_good(height, width, channels) ||
        !shape_is_good(image->height, image->width, image->channels))
        return at_fail(err, AT_EINPUT, "cannot fit %d x %d x %d into %d x %d x %d", image->height,
                       image->width, image->channels, height, width, channels);
    size_t pixels = (size_t)height * (size_t)width;
    if (image->height == height && image->width == width) {
        convert(image->pixels, image->channels, pixels, channels, out);
        return 0;
    }
    if (image->channels == channels)
        return fit(image, (size_t)height, (size_t)width, out) ? at_nomem(err) : 0;
    uint8_t *fitted = malloc(pixels * (size_t)image->channels);
    if (!fitted)
        return at_nomem(err);
    int code = fit(image, (size_t)height, (size_t)width, fitted);
    if (code == 0)
        convert(fitted, image->channels, pixels, channels, out);
    free(fitted);
    return code ? at_nomem(err) : 0;
}
