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

/* Of numbers >= 0 whose sum fits 32 bits: two at a time. */
static inline uint32_t total(pairs p)
{
    uint64_t two[LOOK_VECTOR / 8], sum = 0;
    memcpy(two, &p, sizeof two);
    for (size_t i = 0; i < LOOK_VECTOR / 8; i++)
        sum += two[i];
    return (uint32_t)sum + (uint32_t)(sum >> 32);
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

/* 1 in the lanes of channel c: lane i of the k-th STEP lanes is of channel (i + k * STEP) % 3. */
static inline wide third(size_t k, size_t c)
{
    static const int16_t thirds[16 + 2] = {[0] = 1, [3] = 1, [6] = 1, [9] = 1, [12] = 1, [15] = 1};
    _Static_assert(STEP <= 16, "the thirds go on");
    wide of_third;
    memcpy(&of_third, thirds + (k * STEP + 3 - c) % 3, sizeof of_third);
    return of_third;
}

/* The bytes' sum for each channel. What lies 3 STEP apart is of the same channel. */
static inline void add_lanes(const vector counts[3], uint32_t sums[3])
{
    const uint8_t *bytes = (const uint8_t *)counts;
    wide v[3];
    for (size_t k = 0; k < 3; k++)
        v[k] = widen(bytes + k * STEP) + widen(bytes + (k + 3) * STEP);
    for (size_t c = 0; c < 3; c++)
        sums[c] += total(dot(v[0], third(0, c)) + dot(v[1], third(1, c)) + dot(v[2], third(2, c)));
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

/* Of STEP bytes. */
static inline wide laplacian_of(const uint8_t *here, size_t stride, size_t channels)
{
    return 4 * widen(here) - widen(here - channels) - widen(here + channels) -
           widen(here - stride) - widen(here + stride);
}

static inline void add_step(laplacians *l, wide v, wide ones)
{
    l->sum += dot(v, ones);
    l->square += dot(v, v);
}

/* 0 in the first lanes, 1 in the last `kept` ones. */
static inline wide last_lanes(size_t kept)
{
    static const int16_t ones[2 * STEP] = {[STEP... 2 * STEP - 1] = 1};
    wide w;
    memcpy(&w, ones + kept, sizeof w);
    return w;
}

/* Of `end` bytes, at least STEP. The last step ends with them, and so begins within the one before,
 * whose lanes count for nothing then. */
static inline void add_laplacian_row(laplacians *l, const uint8_t *row, size_t stride, size_t end,
                                     size_t channels)
{
    const wide ones = last_lanes(STEP);
    size_t i = 0;
    for (; i + STEP <= end; i += STEP)
        add_step(l, laplacian_of(row + i, stride, channels), ones);
    if (i < end)
        add_step(l, laplacian_of(row + end - STEP, stride, channels) * last_lanes(end - i), ones);
}

static void add_narrow_row(const uint8_t *row, size_t stride, size_t end, size_t channels,
                           int64_t *sum, uint64_t *square)
{
    for (size_t i = 0; i < end; i++) {
        const uint8_t *at = row + i;
        int v = 4 * at[0] - at[-(ptrdiff_t)channels] - at[channels] - at[-(ptrdiff_t)stride] -
                at[stride];
        *sum += v;
        *square += (uint32_t)(v * v);
    }
}

enum { SQUARED = 2000 }; /* steps: twice 1020 squared, so often, fits 32 bits */

static void laplacian(const at_look_rows *rows, size_t stride, size_t channels, int64_t *sum,
                      uint64_t *square)
{
    size_t n = rows->bytes, steps = (n + STEP - 1) / STEP;
    const uint8_t *row = rows->first;
    for (size_t left = rows->count; left;) {
        laplacians l = {0};
        for (size_t step = 0; left && step + steps <= SQUARED; left--, row += rows->pitch) {
            if (n >= STEP)
                add_laplacian_row(&l, row, stride, n, channels);
            else
                add_narrow_row(row, stride, n, channels, sum, square);
            step += steps;
        }
        for (size_t i = 0; i < STEP / 2; i++) {
            *sum += l.sum[i];
            *square += (uint32_t)l.square[i];
        }
    }
}

/* ---- cells ---- */

/* Of STEP bytes a row. */
static inline wide sum_of(const uint8_t *bytes, size_t rows, size_t pitch)
{
    wide sum = {0};
    for (; rows >= 4; rows -= 4, bytes += 4 * pitch)
        sum += (widen(bytes) + widen(bytes + pitch)) +
               (widen(bytes + 2 * pitch) + widen(bytes + 3 * pitch));
    for (; rows; rows--, bytes += pitch)
        sum += widen(bytes);
    return sum;
}

static void add_rows(const at_look_rows *r, uint16_t sums[AT_LOOK_SUMS])
{
    size_t i = 0;
    for (; i + STEP <= r->bytes; i += STEP) {
        const wide sum = sum_of(r->first + i, r->count, r->pitch);
        memcpy(sums + i, &sum, sizeof sum);
    }
    memset(sums + i, 0, 2 * STEP * sizeof *sums);
    for (; i < r->bytes; i++)
        for (size_t y = 0; y < r->count; y++)
            sums[i] = (uint16_t)(sums[i] + r->first[y * r->pitch + i]);
}

/* All bits in the first `kept` lanes, none in the others. */
static inline wide first_lanes(size_t kept)
{
    static const int16_t ones[2 * STEP] = {[0 ... STEP - 1] = -1};
    wide w;
    memcpy(&w, ones + STEP - kept, sizeof w);
    return w;
}

static inline pairs weigh_step(const uint16_t *sums, const int16_t *weights, wide kept)
{
    wide v, w;
    memcpy(&v, sums, sizeof v);
    memcpy(&w, weights, sizeof w);
    return dot(v, w & kept);
}

static inline uint32_t weigh_cell(const uint16_t *sums, size_t n, const int16_t *weights)
{
    pairs sum = {0};
    size_t i = 0;
    for (; i + STEP <= n; i += STEP)
        sum += weigh_step(sums + i, weights + i % 3, first_lanes(STEP));
    return total(sum + weigh_step(sums + i, weights + i % 3, first_lanes(n - i)));
}

static void weigh(const uint16_t sums[AT_LOOK_SUMS], const size_t *edges, size_t cells,
                  const int16_t weights[AT_LOOK_WEIGHTS], uint64_t *out)
{
    for (size_t i = 0; i < cells; i++)
        out[i] += weigh_cell(sums + edges[i], edges[i + 1] - edges[i], weights);
}

/* ---- entropy ---- */

/* Doubles by fours, whatever the instruction set: sums have the same order, and entropies the same
 * bits, on every CPU. */
typedef double reals __attribute__((vector_size(32)));
typedef uint64_t words __attribute__((vector_size(32)));

/* Of numbers in 0..1: x = 2^e m with m in [sqrt(1/2), sqrt(2)), and ln(m) = 2 artanh((m-1)/(m+1)),
 * whose series is so short for these m that the rest is 1e-14. Exact for powers of 2; of 0 it is
 * some number. */
static inline reals log2_of(reals x)
{
    static const double two_over_ln2 = 2.8853900817779268;
    const uint64_t one = UINT64_C(0x3FF0000000000000), root_half = UINT64_C(0x3FE6A09E667F3BCD),
                   two_52 = UINT64_C(0x4330000000000000);
    const words bits = (words)x, exponent = (bits + (one - root_half)) >> 52; /* + 1023 */
    const reals m = (reals)(bits - (exponent << 52) + one),
                e = (reals)(exponent | two_52) - (0x1p52 + 1023); /* a cast takes longer */
    const reals s = (m - 1) / (m + 1), q = s * s;
    reals series = q / 15 + 1.0 / 13;
    for (int k = 11; k > 0; k -= 2)
        series = series * q + 1.0 / k;
    return e + two_over_ln2 * s * series;
}

static double spread(const uint32_t counts[AT_HISTOGRAM_BINS], double pixels,
                     uint16_t shares[AT_HISTOGRAM_BINS])
{
    reals bits = {0};
    for (size_t bin = 0; bin < AT_HISTOGRAM_BINS; bin += 4) {
        int32_t four __attribute__((vector_size(16)));
        memcpy(&four, counts + bin, sizeof four);
        const reals share = __builtin_convertvector(four, reals) / pixels;
        bits -= share * log2_of(share);
        four = __builtin_convertvector(share * AT_HISTOGRAM_ONE + 0.5, __typeof__(four));
        for (size_t i = 0; i < 4; i++)
            shares[bin + i] = (uint16_t)four[i];
    }
    return bits[0] + bits[1] + bits[2] + bits[3];
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
            const wide v = widen(p + b * AT_LOOK_LANES), half = v & even, other = v ^ half;
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
    for (size_t lane = 0; lane < AT_LOOK_LANES; lane += STEP)
        add_lanes_of(p + lane, blocks, m->sum + lane, m->square + lane);
    uint8_t low[AT_LOOK_LANES], high[AT_LOOK_LANES];
    memcpy(low, m->minimum, sizeof low);
    memcpy(high, m->maximum, sizeof high);
    for (size_t b = 0; b < blocks; b++, p += AT_LOOK_LANES)
        for (int i = 0; i < AT_LOOK_LANES; i++) {
            low[i] = p[i] < low[i] ? p[i] : low[i];
            high[i] = p[i] > high[i] ? p[i] : high[i];
        }
    memcpy(m->minimum, low, sizeof low);
    memcpy(m->maximum, high, sizeof high);
}

const at_look_kernels LOOK_TABLE = {.moments = moments,
                                    .count = count,
                                    .laplacian = laplacian,
                                    .add_rows = add_rows,
                                    .weigh = weigh,
                                    .spread = spread};
