/* SPDX-License-Identifier: Apache-2.0
 * What of a picture needs the places or the counts of its pixels: histograms, entropy, sharpness,
 * and a hash of its looks (dHash) that pictures share which look alike.
 *
 * This runs once for each picture of an ingest, beside a decoder that takes 20 us for a small one.
 * So nothing here goes pixel by pixel: channels stay interleaved, and a loop (look_kernels.h) runs
 * over the bytes of rows, whichever channel they are of; histograms are counted by comparing 16 or
 * 32 bytes at a time with 15 thresholds, which beats an increment of memory a byte; logarithms are
 * our own, four at a time. A picture of many pixels is looked at in every k-th row. */
#include "internal.h"

#include <math.h>
#include <string.h>

enum {
    LOOKED_AT = 1 << 19, /* pixels; of more, some rows */
    CELLS_ACROSS = 9,
    CELLS_DOWN = 8,
};

struct look {
    const at_look_kernels *kernels;
    const at_image *image;
    size_t width, height, channels, step;   /* every step-th row */
    size_t pixels;                          /* looked at */
    size_t edges[CELLS_ACROSS + 1];         /* columns where cells begin */
    int16_t weights[AT_LOOK_WEIGHTS];       /* of a row's values in its luma */
    uint32_t reached[AT_HISTOGRAM_BINS][3]; /* bytes of bin b and above, by place % 3 */
    struct {
        size_t top, rows;
    } bands[CELLS_DOWN];                         /* of the rows that are looked at */
    size_t most_rows;                            /* of a band */
    uint64_t cell_sum[CELLS_DOWN][CELLS_ACROSS]; /* of luma */
    int64_t laplacian;
    uint64_t laplacian_square, laplacian_count;
};

static const uint8_t *pixels_at(const struct look *k, size_t x, size_t y)
{
    return k->image->pixels + (y * k->width + x) * k->channels;
}

/* ---- histograms ---- */

/* One run over all where all rows are looked at. Of a grey picture the places do not matter. */
static void count_rows(struct look *k)
{
    size_t stride = k->width * k->channels, rows = (k->height + k->step - 1) / k->step;
    if (k->step == 1)
        k->kernels->count(k->image->pixels, stride * k->height, k->reached);
    else
        for (size_t y = 0; y < k->height; y += k->step)
            k->kernels->count(pixels_at(k, 0, y), stride, k->reached);
    for (size_t i = 1; k->channels == 1 && i < AT_HISTOGRAM_BINS; i++)
        k->reached[i][0] += k->reached[i][1] + k->reached[i][2];
    k->pixels = k->width * rows;
}

static void set_histograms(const struct look *k, at_pixel_stats *out)
{
    double bits = 0;
    for (size_t c = 0; c < k->channels; c++) {
        uint32_t counts[AT_HISTOGRAM_BINS], reached = (uint32_t)k->pixels;
        for (size_t i = 0; i < AT_HISTOGRAM_BINS; i++) {
            uint32_t above = i + 1 < AT_HISTOGRAM_BINS ? k->reached[i + 1][c] : 0;
            counts[i] = reached - above;
            reached = above;
        }
        bits += k->kernels->spread(counts, (double)k->pixels, out->histogram[c]);
    }
    out->entropy = bits > 0 ? bits / (double)k->channels : 0;
}

/* ---- sharpness ---- */

/* Of columns [from, to). Pixels at the picture's edge are neighbours alone. */
static void add_laplacian(struct look *k, size_t from, size_t to)
{
    size_t stride = k->width * k->channels, rows = k->height > 2 ? (k->height - 2) / k->step : 0;
    from = from ? from : 1;
    to = to < k->width ? to : k->width - 1;
    if (rows == 0 || from >= to)
        return;
    const at_look_rows r = {pixels_at(k, from, k->step), rows, k->step * stride,
                            (to - from) * k->channels};
    k->kernels->laplacian(&r, stride, k->channels, &k->laplacian, &k->laplacian_square);
    k->laplacian_count += rows * r.bytes;
}

static double sharpness_of(const struct look *k)
{
    if (k->laplacian_count == 0)
        return 0;
    double n = (double)k->laplacian_count, mean = (double)k->laplacian / n;
    double variance = (double)k->laplacian_square / n - mean * mean;
    return variance > 0 ? variance : 0;
}

/* ---- dHash ---- */

/* Luma of ITU-R BT.601 in 1/256, for each of a pixel's values. */
static void set_weights(struct look *k)
{
    static const int16_t grey[3] = {256, 256, 256}, colours[3] = {77, 150, 29};
    const int16_t *weights = k->channels == 1 ? grey : colours;
    for (size_t i = 0; i < AT_LOOK_WEIGHTS; i++)
        k->weights[i] = weights[i % 3];
}

static void set_bands(struct look *k)
{
    for (size_t i = 0, y = 0; i < CELLS_DOWN; i++) {
        k->bands[i].top = y;
        for (; y * CELLS_DOWN < (i + 1) * k->height; y += k->step)
            k->bands[i].rows++;
        k->most_rows = k->bands[i].rows > k->most_rows ? k->bands[i].rows : k->most_rows;
    }
}

/* Rows [done, done + AT_LOOK_ROWS) of each band, as far as it has them. All are summed before the
 * first is weighed: what was stored just now cannot be loaded from other places without waiting. */
static void add_bands(struct look *k, size_t from, size_t to, size_t done,
                      const size_t edges[CELLS_ACROSS + 1])
{
    uint16_t sums[CELLS_DOWN][AT_LOOK_SUMS];
    size_t pitch = k->step * k->width * k->channels, bytes = (to - from) * k->channels;
    for (size_t i = 0; i < CELLS_DOWN; i++) {
        size_t rows = k->bands[i].rows > done ? k->bands[i].rows - done : 0;
        const at_look_rows r = {pixels_at(k, from, k->bands[i].top) + done * pitch,
                                rows < AT_LOOK_ROWS ? rows : AT_LOOK_ROWS, pitch, bytes};
        k->kernels->add_rows(&r, sums[i]);
    }
    for (size_t i = 0; i < CELLS_DOWN; i++)
        k->kernels->weigh(sums[i], edges, CELLS_ACROSS, k->weights, k->cell_sum[i]);
}

/* Of columns [from, to). */
static void add_cells(struct look *k, size_t from, size_t to)
{
    size_t edges[CELLS_ACROSS + 1]; /* as far as they lie within */
    for (size_t i = 0; i <= CELLS_ACROSS; i++) {
        size_t edge = k->edges[i] < from ? from : k->edges[i] > to ? to : k->edges[i];
        edges[i] = (edge - from) * k->channels;
    }
    for (size_t done = 0; done < k->most_rows; done += AT_LOOK_ROWS)
        add_bands(k, from, to, done, edges);
}

/* A picture with fewer pixels than cells: each cell is the pixel at its middle. */
static void sample_cells(struct look *k)
{
    for (size_t row = 0; row < CELLS_DOWN; row++)
        for (size_t cell = 0; cell < CELLS_ACROSS; cell++) {
            const uint8_t *at = pixels_at(k, (2 * cell + 1) * k->width / (2 * CELLS_ACROSS),
                                          (2 * row + 1) * k->height / (2 * CELLS_DOWN));
            k->cell_sum[row][cell] = 0;
            for (size_t c = 0; c < k->channels; c++)
                k->cell_sum[row][cell] += (uint64_t)k->weights[c] * at[c];
        }
    for (size_t cell = 0; cell <= CELLS_ACROSS; cell++)
        k->edges[cell] = cell;
}

/* A bit is set where a cell is lighter than the next one, which has as many rows; means are compared
 * as fractions. */
static uint64_t dhash_of(const struct look *k)
{
    uint64_t hash = 0;
    for (size_t row = 0; row < CELLS_DOWN; row++)
        for (size_t cell = 0; cell + 1 < CELLS_ACROSS; cell++) {
            const uint64_t *sum = &k->cell_sum[row][cell];
            const size_t *edge = &k->edges[cell];
            hash = hash << 1 | (sum[0] * (edge[2] - edge[1]) > sum[1] * (edge[1] - edge[0]));
        }
    return hash;
}

/* ---- all of it ---- */

/* A band of cells keeps one row at least. */
static size_t step_of(const struct look *k)
{
    size_t step = k->width * k->height / LOOKED_AT + 1, most = k->height / CELLS_DOWN;
    return step <= most ? step : most ? most : 1;
}

void at_picture_look_by(const at_look_kernels *kernels, const at_image *image, at_pixel_stats *out)
{
    struct look k = {.kernels = kernels,
                     .image = image,
                     .width = (size_t)image->width,
                     .height = (size_t)image->height,
                     .channels = (size_t)image->channels};
    k.step = step_of(&k);
    for (size_t cell = 0; cell <= CELLS_ACROSS; cell++)
        k.edges[cell] = cell * k.width / CELLS_ACROSS;
    set_weights(&k);
    count_rows(&k);
    set_bands(&k);
    for (size_t from = 0, to; from < k.width; from = to) {
        to = from + AT_LOOK_COLUMNS < k.width ? from + AT_LOOK_COLUMNS : k.width;
        add_laplacian(&k, from, to);
        add_cells(&k, from, to);
    }
    if (k.width < CELLS_ACROSS || k.height < CELLS_DOWN)
        sample_cells(&k);
    set_histograms(&k, out);
    out->sharpness = sharpness_of(&k);
    out->dhash = dhash_of(&k);
}

const at_look_kernels *at_look_kernels_here(void)
{
    return __builtin_cpu_supports("avx2") ? &at_look_kernels_avx2 : &at_look_kernels_generic;
}
