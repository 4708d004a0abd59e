/* SPDX-License-Identifier: Apache-2.0
 * The loops over a picture's bytes behind picture_look.c, compiled once for each instruction set:
 *
 *     #define LOOK_VECTOR 32                     // bytes of a register
 *     #define LOOK_TABLE  at_look_kernels_avx2
 *     #include "look_kernels.h"
 */
#include "internal.h"

#include <string.h>

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

static void laplacian(const uint8_t *restrict above, const uint8_t *restrict here,
                      const uint8_t *restrict below, size_t n, size_t channels, int32_t *sum,
                      uint32_t *square)
{
    int32_t s = 0;
    uint32_t q = 0;
    for (size_t i = channels; i + channels < n; i++) {
        int16_t v =
            (int16_t)(4 * here[i] - here[i - channels] - here[i + channels] - above[i] - below[i]);
        s += v;
        q += (uint32_t)(v * v);
    }
    *sum = s;
    *square = q;
}

static void add_row(uint32_t *restrict sums, const uint8_t *restrict row, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sums[i] += row[i];
}

const at_look_kernels LOOK_TABLE = {.count = count, .laplacian = laplacian, .add_row = add_row};
