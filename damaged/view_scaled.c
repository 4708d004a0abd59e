/* SPDX-License-Identifier: Apache-2.0
 * Enlarges a box of the (mirrored) picture to the whole: bilinear between the centres of pixels,
 * the outermost ones going on to the edge (torchvision's resize; as the box is never larger than
 * the picture, its antialiasing would change nothing).
 *
 * Every byte of the result lies between two bytes of each of two rows, by tables for columns and
 * rows. In fixed point with 6 bits behind the point, shares of 15 bits, each product rounded: 8
 * bytes at once with SSSE3, whose sources are at most 5 pixels side by side and so within one load;
 * the same numbers one by one elsewhere.
 */
#include "internal.h"

#ifdef __x86_64__
#include <tmmintrin.h>
#endif

enum { POINT = 6, SHARE = 15, CHUNK = 8, LOAD = 16 };

/* Between a and b of a side of the box: in rows, or in bytes of a row of the picture. */
typedef struct tap {
    uint32_t a, b;
    int16_t share; /* of b */
} tap;

typedef struct taps {
    tap *column, *row; /* [row bytes], [height] */
} taps;

size_t at_view_scratch(int height, int width, int channels)
{
    return ((size_t)width * (size_t)channels + (size_t)height) * sizeof(tap);
}

/* Where the place `at` of n lies: the centre of a pixel is at one half of it. Sides are below 2^15,
 * so 32 bits hold all of it. */
static tap tap_of(int at, int n, int box)
{
    int from_centre = (2 * at + 1) * box - n;
    uint32_t whole = 2 * (uint32_t)n, x = from_centre > 0 ? (uint32_t)from_centre : 0;
    uint32_t a = x / whole, last = (uint32_t)box - 1;
    return (tap){a, a < last ? a + 1 : last, (int16_t)((x % whole << SHARE) / whole)};
}

static taps plan(const at_view *v, void *scratch)
{
    uint32_t channels = (uint32_t)v->channels;
    int left = v->mirrored ? v->width - v->left - v->box_width : v->left;
    taps t = {.column = scratch};
    tap *to = t.column;
    for (int x = 0; x < v->width; x++) {
        tap c = tap_of(v->mirrored ? v->width - 1 - x : x, v->width, v->box_width);
        for (uint32_t k = 0; k < channels; k++)
            *to++ = (tap){(c.a + (uint32_t)left) * channels + k,
                          (c.b + (uint32_t)left) * channels + k, c.share};
    }
    t.row = to;
    for (int y = 0; y < v->height; y++) {
        tap r = tap_of(y, v->height, v->box_height);
        *to++ = (tap){r.a + (uint32_t)v->top, r.b + (uint32_t)v->top, r.share};
    }
    return t;
}

/* ---- one by one ---- */

static int between(int a, int b, int share)
{
    return a + (((b - a) * share + (1 << (SHARE - 1))) >> SHARE);
}

static void blend_bytes(const taps *t, size_t height, size_t row, const uint8_t *in, uint8_t *out)
{
    for (size_t y = 0; y < height; y++) {
        tap r = t->row[y];
        const uint8_t *above = in + r.a * row, *below = in + r.b * row;
        for (size_t i = 0; i < row; i++) {
            tap c = t->column[i];
            int a = between(above[c.a] << POINT, above[c.b] << POINT, c.share);
            int b = between(below[c.a] << POINT, below[c.b] << POINT, c.share);
            *out++ = (uint8_t)((between(a, b, r.share) + (1 << (POINT - 1))) >> POINT);
        }
    }
}

#ifdef __x86_64__
/* ---- 8 at once ---- */

/* Bytes [to, to + CHUNK) of every row: a load `from`, and which of its bytes are a and b, each as
 * the low half of 16 bits. */
typedef struct chunk {
    uint32_t to, from;
    __m128i a, b, share;
} chunk;

static chunk plan_chunk(const tap *column, size_t to, size_t row)
{
    uint8_t a[LOAD], b[LOAD];
    int16_t share[CHUNK];
    uint32_t from = (uint32_t)row - LOAD;
    for (size_t i = 0; i < CHUNK; i++)
        from = column[to + i].a < from ? column[to + i].a : from;
    for (size_t i = 0; i < CHUNK; i++) {
        tap c = column[to + i];
        a[2 * i] = (uint8_t)(c.a - from);
        b[2 * i] = (uint8_t)(c.b - from);
        a[2 * i + 1] = b[2 * i + 1] = 0x80; /* a zero */
        share[i] = c.share;
    }
    return (chunk){(uint32_t)to, from, _mm_loadu_si128((const __m128i *)a),
                   _mm_loadu_si128((const __m128i *)b), _mm_loadu_si128((const __m128i *)share)};
}

#define SHUFFLES __attribute__((target("ssse3")))

SHUFFLES static inline __m128i blend(__m128i a, __m128i b, __m128i share)
{
    return _mm_add_epi16(a, _mm_mulhrs_epi16(_mm_sub_epi16(b, a), share));
}

SHUFFLES static inline __m128i blend_row(const uint8_t *row, const chunk *c)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)(row + c->from));
    __m128i a = _mm_slli_epi16(_mm_shuffle_epi8(bytes, c->a), POINT);
    __m128i b = _mm_slli_epi16(_mm_shuffle_epi8(bytes, c->b), POINT);
    return blend(a, b, c->share);
}

SHUFFLES static void blend_chunk(const chunk *c, const tap *rows, size_t height, size_t row,
                                 const uint8_t *in, uint8_t *out)
{
    chunk k = *c;
    out += k.to;
    for (size_t y = 0; y < height; y++, out += row) {
        tap r = rows[y];
        __m128i x = blend(blend_row(in + r.a * row, &k), blend_row(in + r.b * row, &k),
                          _mm_set1_epi16(r.share));
        x = _mm_srli_epi16(_mm_add_epi16(x, _mm_set1_epi16(1 << (POINT - 1))), POINT);
        _mm_storel_epi64((__m128i *)out, _mm_packus_epi16(x, x));
    }
}
#endif

void at_view_enlarge(const at_view *v, const uint8_t *in, uint8_t *out, void *scratch)
{
    size_t row = (size_t)v->width * (size_t)v->channels, height = (size_t)v->height;
    taps t = plan(v, scratch);
#ifdef __x86_64__
    if (row >= LOAD && v->channels <= 3 && __builtin_cpu_supports("ssse3")) {
        for (size_t at = 0; at < row; at += CHUNK) {
            chunk c = plan_chunk(t.column, at + CHUNK <= row ? at : row - CHUNK, row);
            blend_chunk(&c, t.row, height, row, in, out);
        }
        return;
    }
#endif
    blend_bytes(&t, height, row, in, out);
}
