/* SPDX-License-Identifier: Apache-2.0
 * The one resize of training, evaluation, prediction and serving.
 *
 * Separable: each axis has, for each output position, a run of input positions and their weights.
 * Shrinking weighs every input pixel by the area that it covers; growing is cubic convolution with
 * a = -0.5 (R. Keys, 1981), edges repeated. Weights are integers of 1/65536 that sum to exactly
 * 65536 and the arithmetic is integer, so all CPUs give the same bytes; an axis that keeps its size
 * has the weight 1 and copies.
 *
 * What of the picture comes into what of the frame: all into all, each axis by its own scale
 * (stretch); its middle part of the frame's proportions into all (crop); all of it into the middle,
 * with black bars (letterbox). Boxes have whole pixels. */
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

/* [H,W,C], a row `stride` bytes behind the other, to [height,width,C]. */
static int fit(const at_image *image, size_t stride, size_t height, size_t width, uint8_t *out)
{
    size_t channels = (size_t)image->channels;
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

/* Copies the rows close together, or fits them. */
static int fit_or_copy(const at_image *image, size_t stride, int height, int width, uint8_t *out)
{
    if (image->height != height || image->width != width)
        return fit(image, stride, (size_t)height, (size_t)width, out);
    size_t row = (size_t)width * (size_t)image->channels;
    for (size_t r = 0; r < (size_t)height; r++)
        memcpy(out + r * row, image->pixels + r * stride, row);
    return 0;
}

/* ---- frames ---- */

const char *at_fit_name(at_fit fit)
{
    static const char *const names[AT_FITS] = {
#define X(name, text) text,
        AT_FIT_WORDS(X)
#undef X
    };
    return names[fit];
}

int at_fit_parse(const char *name, at_fit *out, at_error *err)
{
    int fit = at_choice_parse(AT_FIT_CHOICES, "fit", name, err);
    if (fit < 0)
        return fit;
    *out = (at_fit)fit;
    return 0;
}

/* side * of / to, rounded, at least 1. */
static int share(int side, int of, int to)
{
    int64_t part = ((int64_t)side * of + to / 2) / to;
    return part < 1 ? 1 : (int)part;
}

/* The largest middle part of the picture that has the frame's proportions. */
static void cut(at_image *part, size_t stride, const at_frame *f)
{
    int height = part->height, width = part->width;
    if ((int64_t)width * f->height > (int64_t)height * f->width)
        part->width = share(height, f->width, f->height);
    else
        part->height = share(width, f->height, f->width);
    size_t top = (size_t)(height - part->height) / 2, left = (size_t)(width - part->width) / 2;
    part->pixels += top * stride + left * (size_t)part->channels;
}

/* The largest box of the picture's proportions in the frame. */
static void shrink_box(const at_image *image, const at_frame *f, int *height, int *width)
{
    if ((int64_t)image->width * f->height > (int64_t)image->height * f->width)
        *height = share(f->width, image->height, image->width);
    else
        *width = share(f->height, image->width, image->height);
}

/* Puts [height,width] pixels into the middle of the frame, in its channels, black around them. */
static void place(const uint8_t *in, int from, int height, int width, const at_frame *f,
                  uint8_t *out)
{
    size_t channels = (size_t)f->channels, row = (size_t)f->width * channels;
    size_t top = (size_t)(f->height - height) / 2, left = (size_t)(f->width - width) / 2;
    if (height != f->height || width != f->width)
        memset(out, 0, (size_t)f->height * row);
    for (size_t r = 0; r < (size_t)height; r++)
        convert(in + r * (size_t)width * (size_t)from, from, (size_t)width, f->channels,
                out + (top + r) * row + left * channels);
}

int at_image_frame(const at_image *image, const at_frame *f, uint8_t *out, at_error *err)
{
    if (!shape_is_good(f->height, f->width, f->channels) ||
        !shape_is_good(image->height, image->width, image->channels))
        return at_fail(err, AT_EINPUT, "cannot fit %d x %d x %d into %d x %d x %d", image->height,
                       image->width, image->channels, f->height, f->width, f->channels);
    at_image part = *image;
    size_t stride = (size_t)image->width * (size_t)image->channels;
    int height = f->height, width = f->width;
    if (f->fit == AT_FIT_CROP)
        cut(&part, stride, f);
    else if (f->fit == AT_FIT_LETTERBOX)
        shrink_box(image, f, &height, &width);
    if (part.channels == f->channels && height == f->height && width == f->width)
        return fit_or_copy(&part, stride, height, width, out) ? at_nomem(err) : 0;
    uint8_t *fitted = malloc((size_t)height * (size_t)width * (size_t)part.channels);
    int code = fitted ? fit_or_copy(&part, stride, height, width, fitted) : AT_ENOMEM;
    if (code == 0)
        place(fitted, part.channels, height, width, f, out);
    free(fitted);
    return code ? at_nomem(err) : 0;
}

int at_image_fit(const at_image *image, int height, int width, int channels, uint8_t *out,
                 at_error *err)
{
    return at_image_frame(image, &(at_frame){height, width, channels, AT_FIT_STRETCH}, out, err);
}
