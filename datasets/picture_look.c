/* SPDX-License-Identifier: Apache-2.0
 * What of a picture needs the places or the counts of its pixels: histograms, entropy, sharpness,
 * and a hash of its looks (dHash) that pictures share which look alike.
 *
 * This runs once for each picture of an ingest, beside a decoder that takes 20 us for a small one.
 * So nothing here goes pixel by pixel: channels stay interleaved, and a loop (look_kernels.h) runs
 * over the bytes of a row, whichever channel they are of; histograms are counted by comparing 16 or
 * 32 bytes at a time with 15 thresholds, which beats an increment of memory a byte. A picture of many pixels is looked at in every k-th row. */
#include "internal.h"

#include <math.h>
#include <string.h>

enum {
    TILE = 1024,         /* columns at a time, so that sums stay in the first-level cache */
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
    uint32_t reached[AT_HISTOGRAM_BINS][3]; /* bytes of bin b and above, by place % 3 */
    uint64_t cell_sum[CELLS_DOWN][CELLS_ACROSS], cell_pixels[CELLS_DOWN][CELLS_ACROSS];
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
    double n = (double)k->pixels, bits = 0;
    for (size_t c = 0; c < k->channels; c++)
        for (size_t i = 0; i < AT_HISTOGRAM_BINS; i++) {
            int64_t from = i ? (int64_t)k->reached[i][c] : (int64_t)k->pixels,
                    above = i + 1 < AT_HISTOGRAM_BINS ? (int64_t)k->reached[i + 1][c] : 0;
            double share = (double)(from - above) / n;
            out->histogram[c][i] = (uint16_t)(share * AT_HISTOGRAM_ONE + 0.5);
            bits -= share > 0 ? share * (double)log2f((float)share) : 0;
        }
    out->entropy = bits > 0 ? bits / (double)k->channels : 0;
}

/* ---- sharpness ---- */

/* Of n bytes of a row, the first and the last pixel being neighbours alone. Sums of a tile fit: a
 * value is at most 1020. */
static void add_laplacian(struct look *k, const uint8_t *above, const uint8_t *here,
                          const uint8_t *below, size_t n)
{
    int32_t sum;
    uint32_t square;
    k->kernels->laplacian(above, here, below, n, k->channels, &sum, &square);
    k->laplacian += sum;
    k->laplacian_square += square;
    k->laplacian_count += n > 2 * k->channels ? n - 2 * k->channels : 0;
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

/* A tile's columns, summed over the rows of a band of cells. */
struct columns {
    size_t from, to; /* of the picture's columns */
    size_t rows;
    uint32_t sums[3 * TILE];
};

/* Luma of ITU-R BT.601 in 1/256, of sums as of single values. */
static uint64_t luma_of(const uint64_t *sums, size_t channels)
{
    return channels == 1 ? 256 * sums[0] : 77 * sums[0] + 150 * sums[1] + 29 * sums[2];
}

/* Luma of the columns before each one and, last, of all: a cell's is then a difference, without a loop
 * over its few columns. */
static void run_up(const uint32_t *sums, size_t columns, size_t channels, uint64_t *before)
{
    uint64_t total = 0;
    for (size_t x = 0; x < columns; x++, sums += channels) {
        before[x] = total;
        total += channels == 1
                     ? 256 * (uint64_t)sums[0]
                     : 77 * (uint64_t)sums[0] + 150 * (uint64_t)sums[1] + 29 * (uint64_t)sums[2];
    }
    before[columns] = total;
}

static void end_band(struct look *k, struct columns *t, size_t band)
{
    uint64_t before[TILE + 1];
    run_up(t->sums, t->to - t->from, k->channels, before);
    for (size_t cell = 0; cell < CELLS_ACROSS; cell++) {
        size_t from = k->edges[cell], to = k->edges[cell + 1];
        from = from < t->from ? t->from : from;
        to = to > t->to ? t->to : to;
        if (from >= to)
            continue;
        k->cell_sum[band][cell] += before[to - t->from] - before[from - t->from];
        k->cell_pixels[band][cell] += (to - from) * t->rows;
    }
    memset(t->sums, 0, (t->to - t->from) * k->channels * sizeof *t->sums);
    t->rows = 0;
}

/* A picture with fewer pixels than cells: each cell is the pixel at its middle. */
static void sample_cells(struct look *k)
{
    for (size_t row = 0; row < CELLS_DOWN; row++)
        for (size_t cell = 0; cell < CELLS_ACROSS; cell++) {
            const uint8_t *at = pixels_at(k, (2 * cell + 1) * k->width / (2 * CELLS_ACROSS),
                                          (2 * row + 1) * k->height / (2 * CELLS_DOWN));
            uint64_t sums[3] = {0};
            for (size_t c = 0; c < k->channels; c++)
                sums[c] = at[c];
            k->cell_sum[row][cell] = luma_of(sums, k->channels);
            k->cell_pixels[row][cell] = 1;
        }
}

/* A bit is set where a cell is lighter than the next one; means are compared as fractions. */
static uint64_t dhash_of(const struct look *k)
{
    uint64_t hash = 0;
    for (size_t row = 0; row < CELLS_DOWN; row++)
        for (size_t cell = 0; cell + 1 < CELLS_ACROSS; cell++) {
            const uint64_t *sum = &k->cell_sum[row][cell], *n = &k->cell_pixels[row][cell];
            hash = hash << 1 | (sum[0] * n[1] > sum[1] * n[0]);
        }
    return hash;
}

/* ---- all of it ---- */

/* The Laplacian looks one pixel beyond the tile where there is one. */
static void look_at_row(struct look *k, struct columns *t, size_t y)
{
    k->kernels->add_row(t->sums, pixels_at(k, t->from, y), (t->to - t->from) * k->channels);
    t->rows++;
    if (y == 0 || y + 1 == k->height)
        return;
    size_t from = t->from ? t->from - 1 : 0, to = t->to < k->width ? t->to + 1 : k->width;
    add_laplacian(k, pixels_at(k, from, y - 1), pixels_at(k, from, y), pixels_at(k, from, y + 1),
                  (to - from) * k->channels);
}

static void look_at_tile(struct look *k, struct columns *t)
{
    size_t band = 0;
    memset(t->sums, 0, (t->to - t->from) * k->channels * sizeof *t->sums);
    for (size_t y = 0; y < k->height; y += k->step) {
        if ((band + 1) * k->height <= y * CELLS_DOWN) {
            end_band(k, t, band);
            while ((band + 1) * k->height <= y * CELLS_DOWN)
                band++;
        }
        look_at_row(k, t, y);
    }
    end_band(k, t, band);
}

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
    count_rows(&k);
    struct columns t;
    for (t.from = 0; t.from < k.width; t.from += TILE) {
        t.to = t.from + TILE < k.width ? t.from + TILE : k.width;
        t.rows = 0;
        look_at_tile(&k, &t);
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
