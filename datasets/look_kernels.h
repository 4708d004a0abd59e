/* SPDX-License-Identifier: Apache-2.0
 * The loops over a picture's bytes behind picture_look.c, compiled once for each instruction set:
 *
 *     #define LOOK_VECTOR 32                     // bytes of a register
 *     #define LOOK_TABLE  at_look_kernels_avx2
 *     #include "look_kernels.h"
 */
#include "internal.h"

#include <string.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

/* ---- histograms ---- */

enum { LANES = 3 * LOOK_VECTOR, RUN = 255 }; /* RUN: blocks of LANES that a byte can count */

typedef uint8_t vector __attribute__((vector_size(LOOK_VECTOR)));

static inline vector load(const uint8_t *bytes)
{
    vector v;
    memcpy(&v, bytes, sizeof v);
    return v;
}

/* Halves are folded until three lanes are left: 48 and 96 are 3 times a power of two. */
static void add_lanes(const vector counts[3], uint32_t sums[3])
{
    uint8_t bytes[LANES];
    uint16_t lanes[LANES];
    memcpy(bytes, counts, LANES);
    for (size_t i = 0; i < LANES; i++)
        lanes[i] = bytes[i];
    for (size_t half = LANES / 2; half >= 3; half /= 2)
        for (size_t i = 0; i < half; i++)
            lanes[i] = (uint16_t)(lanes[i] + lanes[i + half]);
    for (size_t c = 0; c < 3; c++)
        sums[c] += lanes[c];
}

/* LANES is a multiple of 3: lane i of a block is of channel i % 3, as every third byte is. */
static void count_blocks(const uint8_t *bytes, size_t blocks, uint32_t reached[][3])
{
    for (int bin = 1; bin < AT_HISTOGRAM_BINS; bin++) {
        const vector from = (vector){0} + (uint8_t)(bin * (256 / AT_HISTOGRAM_BINS));
        vector counts[3] = {{0}};
        for (size_t b = 0; b < blocks; b++) {
            const uint8_t *at = bytes + b * LANES;
            counts[0] -= (vector)(load(at) >= from); /* true is -1 */
            counts[1] -= (vector)(load(at + LOOK_VECTOR) >= from);
            counts[2] -= (vector)(load(at + 2 * LOOK_VECTOR) >= from);
        }
        add_lanes(counts, reached[bin]);
    }
}

static void count(const uint8_t *bytes, size_t n, uint32_t reached[][3])
{
    size_t blocks = n / LANES;
    for (size_t b = 0; b < blocks; b += RUN)
        count_blocks(bytes + b * LANES, blocks - b < RUN ? blocks - b : RUN, reached);
    for (size_t i = blocks * LANES; i < n; i++)
        for (int bin = bytes[i] / (256 / AT_HISTOGRAM_BINS); bin > 0; bin--)
            reached[bin][i % 3]++;
}

/* ---- sharpness ---- */

enum { STEP = LOOK_VECTOR / 2 }; /* bytes that fill a register when they are made 16 bits wide */

typedef int16_t wide __attribute__((vector_size(LOOK_VECTOR)));
typedef int32_t pairs __attribute__((vector_size(LOOK_VECTOR)));

static inline wide widen(const uint8_t *bytes)
{
#if defined(__x86_64__) && LOOK_VECTOR == 32 /* of what follows gcc makes four instructions */
    return (wide)_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)bytes));
#else
    uint8_t b __attribute__((vector_size(STEP)));
    memcpy(&b, bytes, sizeof b);
    return __builtin_convertvector(b, wide);
#endif
}

/* a*b, summed by twos. */
static inline pairs dot(wide a, wide b)
{
#if defined(__x86_64__) && LOOK_VECTOR == 32
    return (pairs)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__x86_64__)
    return (pairs)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
    pairs out;
    for (size_t i = 0; i < STEP / 2; i++)
        out[i] = a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
    return out;
#endif
}

typedef struct laplacians {
    pairs sum, square;
} laplacians;

/* Of STEP bytes; those that `kept` has no 1 for count for nothing. */
static inline void add_step(laplacians *l, const uint8_t *above, const uint8_t *here,
                            const uint8_t *below, size_t channels, wide kept)
{
    wide v = 4 * widen(here) - widen(here - channels) - widen(here + channels) - widen(above) -
             widen(below);
    v *= kept;
    l->sum += dot(v, kept);
    l->square += dot(v, v);
}

static int32_t total(pairs p)
{
    int32_t sum = 0;
    for (size_t i = 0; i < STEP / 2; i++)
        sum += p[i];
    return sum;
}

/* The last step ends with the row, and so begins within the one before. */
static void laplacian(const uint8_t *above, const uint8_t *here, const uint8_t *below, size_t n,
                      size_t channels, int32_t *sum, uint32_t *square)
{
    laplacians l = {0};
    static const int16_t ones[2 * STEP] = {[STEP... 2 * STEP - 1] = 1};
    wide kept;
    memcpy(&kept, ones + STEP, sizeof kept);
    size_t i = channels, end = n > channels ? n - channels : 0;
    for (; i + STEP <= end; i += STEP)
        add_step(&l, above + i, here + i, below + i, channels, kept);
    size_t last = end - STEP;
    if (i < end && end >= channels + STEP) {
        memcpy(&kept, ones + STEP - (i - last), sizeof kept);
        add_step(&l, above + last, here + last, below + last, channels, kept);
        i = end;
    }
    *sum = total(l.sum);
    *square = (uint32_t)total(l.square);
    for (; i < end; i++) {
        int v = 4 * here[i] - here[i - channels] - here[i + channels] - above[i] - below[i];
        *sum += v;
        *square += (uint32_t)(v * v);
    }
}

/* ---- columns ---- */

static void add_row(uint32_t *restrict sums, const uint8_t *restrict row, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sums[i] += row[i];
}

/* ---- mean, deviation, extremes ---- */

static void moments(const uint8_t *restrict p, size_t blocks, at_moments *restrict m)
{
    for (size_t b = 0; b < blocks; b++, p += AT_MOMENT_LANES)
        for (int i = 0; i < AT_MOMENT_LANES; i++) {
            m->sum[i] += p[i];
            m->square[i] += (uint32_t)p[i] * p[i];
            m->minimum[i] = p[i] < m->minimum[i] ? p[i] : m->minimum[i];
            m->maximum[i] = p[i] > m->maximum[i] ? p[i] : m->maximum[i];
        }
}

const at_look_kernels LOOK_TABLE = {
    .count = count, .laplacian = laplacian, .add_row = add_row, .moments = moments};
