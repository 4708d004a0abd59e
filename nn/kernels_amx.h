/* SPDX-License-Identifier: Apache-2.0
 * kernels_amx: the steps of a convolution of bf16 tensors on the CPU's tile registers (Intel AMX: TDPBF16PS
 * multiplies 16x32 by 32x16 numbers and adds to 16x16 in fp32; "Intel 64 and IA-32 Architectures
 * Optimization Reference Manual", chapter 20). conv_amx.c puts them together.
 *
 * Samples are a tile's rows: 32 of them, a group, go through a convolution together, pixel by pixel.
 * What a window has of a pixel then lies in whole tiles whatever the plane's size and the window's
 * stride are, and what it would have of pixels beside the plane is left out. A few rows of planes at a
 * time, or small planes of a few groups, are brought into that order, in memory that stays in the
 * second-level cache, and back: `rows` are those of all groups that are taken together.
 *
 * Forward, and the input's gradient, which is forward with turned filters (AMX_PAIR channels in are a
 * tile's other side, `deep` such pairs of blocks are multiplied without a break):
 *
 *     v [rows][chunks of deep][pixels][deep][32 samples][32 channels in]
 *     u [32 channels out][chunks][kh][kw][deep][2][16 pairs of channels in][16 channels out][2]
 *     m [2][32 samples][rows][pixels][16 channels out], fp32
 *
 * The filters' gradient sums over samples instead:
 *
 *     t [32 channels in][rows][pixels][2][16 channels in][32 samples]
 *     z [32 channels out][rows][pixels][2][16 pairs of samples][16 channels out][2]
 *     sums [kh][kw][32 channels out][32 channels in][2 of out][2 of in][16 in][16 out], fp32
 *
 * The first convolution's few channels would leave most of a tile empty. Of a row of a plane with zeros
 * at both ends, what a row of a window has lies together though: these `words` count as the channels in
 * of a window that is one pixel wide, tiles are loaded where it begins, and overlap. Then
 *
 *     v [rows][32 samples][words]
 *     t [rows][words][32 samples]
 */
#ifndef NN_KERNELS_AMX_H
#define NN_KERNELS_AMX_H

#include "kernels.h"

enum { AMX_GROUP = 32, AMX_PAIR = 32, AMX_LANES = 16, AMX_MOST_SIDE = 7 };
enum { AMX_MOST_TAPS = AMX_MOST_SIDE * AMX_MOST_SIDE };

/* Steps in elements, so that NCHW16c, NHWC and every second pixel of them are alike; blocks of 16
 * channels. */
typedef struct amx_tensor {
    int64_t n, h, w, blocks;
    int64_t first, sample, block, row, pixel;
} amx_tensor;

/* NHWC planes of few channels, read as rows of words. */
typedef struct amx_words {
    int64_t pixel, before, plane, row; /* words of a pixel, of zeros, of a plane's row, of all */
} amx_words;

typedef struct amx_conv {
    amx_words words; /* pixel 0: not so */
    amx_tensor in,
        out; /* of the direction; of the filters' gradient: what forward reads and writes */
    int64_t kh, kw, sh, sw, ph, pw;
    int64_t tap, tap_row,
        tap_column;    /* the first of the window in a filter, steps to the next ones */
    int64_t ins, outs; /* pairs of blocks */
    int64_t deep;      /* divides ins */
    int64_t rows;      /* of planes out, at a time */
    int64_t slots;     /* rows of planes in that there is room for */
    int64_t together;  /* groups at a time; more than one only of whole planes */
} amx_conv;

/* Rows [begin, end) of the planes out of `groups` groups. */
typedef struct amx_strip {
    int64_t group, groups, begin, end;
} amx_strip;

static inline int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Whether the CPU has tiles, and the system lets this process use them. */
bool amx_usable(void);
/* Around all that multiplies, in each thread. */
void amx_begin(void);
void amx_end(void);

/* Row y of a group's planes in, into its slot, y % slots, of the strip's group `at`. */
void amx_take(const amx_conv *c, const nn_affine *in, int64_t group, int64_t at, int64_t y,
              const uint16_t *x, uint16_t *v);
/* 32 channels out, the pair `out`, of the strip, whose rows in have been taken. */
void amx_multiply(const amx_conv *c, const amx_strip *s, int64_t out, const uint16_t *u,
                  const uint16_t *v, float *m);
void amx_put(const amx_conv *c, const amx_strip *s, int64_t out, const nn_conv_end *e,
             const float *m, uint16_t *y);
/* u of the pairs out [begin, end), from fp32. */
void amx_filters(const amx_conv *c, const nn_filters *f, uint16_t *u, int64_t begin, int64_t end);

/* As amx_take, into t; row y of the strip's group `at` out, into z, and its sums a channel, added to
 * bias (or NULL). */
void amx_take_turned(const amx_conv *c, const nn_affine *in, int64_t group, int64_t at, int64_t y,
                     const uint16_t *x, uint16_t *t);
void amx_take_pairs(const amx_conv *c, const amx_strip *s, int64_t at, int64_t y,
                    const uint16_t *dy, uint16_t *z, double *bias);
/* Sums of all that is in the strip, of the pairs `out` and `in`, at places of windows that are `place`
 * floats apart; `fresh`: instead of what was there, else added to it. */
void amx_accumulate(const amx_conv *c, const amx_strip *s, int64_t out, int64_t in,
                    const uint16_t *t, const uint16_t *z, bool fresh, float *sums, int64_t place);
/* The gradients of these two pairs' filters, from `parts` sums. */
void amx_filters_back(const amx_conv *c, const nn_filters *f, int64_t out, int64_t in,
                      const float *sums, int64_t place, int64_t parts, int64_t part_floats,
                      float *gradients);

/* Floats of the sums of two pairs at one place of a window. */
enum { AMX_SUMS = AMX_PAIR * AMX_PAIR };
/* Elements of each memory; of u and sums as well. */
int64_t amx_v_size(const amx_conv *c);
int64_t amx_m_size(const amx_conv *c);
int64_t amx_z_size(const amx_conv *c);
int64_t amx_filters_size(const amx_conv *c);

#endif
