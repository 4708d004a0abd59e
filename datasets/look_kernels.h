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

/* ---- bytes made 16 bits wide ---- */

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

static int32_t total(pairs p)
{
    int32_t sum = 0;
    for (size_t i = 0; i < STEP / 2; i++)
        sum += p[i];
    return sum;
}

/* ---- histograms ---- */

enum { LANES = 3 * LOOK_VECTOR, RUN = 255 }; /* RUN: blocks of LANES that a byte can count */

typedef uint8_t vector __attribute__((vector_size(LOOK_VECTOR)));

static inline vector load(const uint8_t *bytes)
{
    vector v;
    memcpy(&v, bytes, sizeof v);
    return v;
}

/* The bytes' sum for each channel: lane i is of channel i % 3. */
static void add_lanes(const vector counts[3], uint32_t sums[3])
{
    static const int16_t thirds[16 + 2] = {[0] = 1, [3] = 1, [6] = 1, [9] = 1, [12] = 1, [15] = 1};
    _Static_assert(STEP <= 16, "the thirds go on");
    wide of_third[3];
    pairs by_channel[3] = {{0}};
    for (size_t i = 0; i < 3; i++)
        memcpy(&of_third[i], thirds + (3 - i) % 3, sizeof of_third[i]);
    for (size_t k = 0; k < LANES / STEP; k++) {
        const wide v = widen((const uint8_t *)counts + k * STEP);
        for (size_t c = 0; c < 3; c++)
            by_channel[c] += dot(v, of_third[(c + k * (3 - STEP % 3)) % 3]);
    }
    for (size_t c = 0; c < 3; c++)
        sums[c] += (uint32_t)total(by_channel[c]);
}

typedef int8_t signs __attribute__((vector_size(LOOK_VECTOR)));

enum { AT_ONCE = 5 }; /* thresholds whose counts stay in registers */

/* One of a block's three vectors, through all blocks, with comparisons of signed bytes since x86 has
 * no others. Not inlined: gcc would make each threshold anew in the loop. */
__attribute__((noinline)) static void count_column(const uint8_t *bytes, size_t blocks,
                                                   const signs below[AT_ONCE],
                                                   vector counts[AT_ONCE])
{
    vector reached[AT_ONCE] = {0};
    for (size_t b = 0; b < blocks; b++) {
        const signs v = (signs)(load(bytes + b * LANES) ^ 128);
        for (int i = 0; i < AT_ONCE; i++)
            reached[i] -= (vector)(v > below[i]); /* true is 255, that is -1 */
    }
    memcpy(counts, reached, sizeof reached);
}

/* LANES is a multiple of 3: lane i of a block is of channel i % 3, as every third byte is. */
static void count_blocks(const uint8_t *bytes, size_t blocks, uint32_t reached[][3])
{
    signs below[AT_HISTOGRAM_BINS];
    vector columns[3][AT_HISTOGRAM_BINS];
    for (int bin = 1; bin < AT_HISTOGRAM_BINS; bin++)
        below[bin] = (signs){0} + (int8_t)(bin * (256 / AT_HISTOGRAM_BINS) - 1 - 128);
    for (size_t i = 0; i < 3; i++)
        for (int bin = 1; bin < AT_HISTOGRAM_BINS; bin += AT_ONCE)
            count_column(bytes + i * LOOK_VECTOR, blocks, below + bin, columns[i] + bin);
    for (int bin = 1; bin < AT_HISTOGRAM_BINS; bin++) {
        const vector counts[3] = {columns[0][bin], columns[1][bin], columns[2][bin]};
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

enum { SUMMED = 128 }; /* blocks: as many bytes make no sum over 32767 */

/* Sums and squares of the STEP lanes from p on: pairs of 16 bits are multiplied with a half of them
 * gone, so that each product stays in its lane. */
static inline void add_lanes_of(const uint8_t *p, size_t blocks, uint32_t *sum, uint32_t *square)
{
    pairs even_squares = {0}, odd_squares = {0};
    wide even;
    for (size_t i = 0; i < STEP; i++)
        even[i] = i % 2 ? 0 : -1;
    for (size_t b = 0; b < blocks;) {
        wide sums = {0};
        for (size_t end = blocks - b < SUMMED ? blocks : b + SUMMED; b < end; b++) {
            const wide v = widen(p + b * AT_MOMENT_LANES), half = v & even, other = v ^ half;
            sums += v;
            even_squares += dot(half, half);
            odd_squares += dot(other, other);
        }
        for (size_t i = 0; i < STEP; i++)
            sum[i] += (uint16_t)sums[i];
    }
    for (size_t i = 0; i < STEP; i++) {
        const int32_t squares = i % 2 ? odd_squares[i / 2] : even_squares[i / 2];
        square[i] += (uint32_t)squares;
    }
}

static void moments(const uint8_t *restrict p, size_t blocks, at_moments *restrict m)
{
    for (size_t lane = 0; lane < AT_MOMENT_LANES; lane += STEP)
        add_lanes_of(p + lane, blocks, m->sum + lane, m->square + lane);
    uint8_t low[AT_MOMENT_LANES], high[AT_MOMENT_LANES];
    memcpy(low, m->minimum, sizeof low);
    memcpy(high, m->maximum, sizeof high);
    for (size_t b = 0; b < blocks; b++, p += AT_MOMENT_LANES)
        for (int i = 0; i < AT_MOMENT_LANES; i++) {
            low[i] = p[i] < low[i] ? p[i] : low[i];
            high[i] = p[i] > high[i] ? p[i] : high[i];
        }
    memcpy(m->minimum, low, sizeof low);
    memcpy(m->maximum, high, sizeof high);
}

const at_look_kernels LOOK_TABLE = {
    .count = count, .laplacian = laplacian, .add_row = add_row, .moments = moments};
