/* SPDX-License-Identifier: Apache-2.0
 * Moves the pixels of a view: mirrored left-right, then cropped at a small shift with the edges
 * reflected about the outermost pixel (as numpy.pad's "reflect").
 *
 * Mirror, shift and reflection move the bytes of every row in the same way. So that way is worked
 * out once a sample, as the source of each byte of a row, and then applied to all rows: with SSSE3
 * 16 bytes at once, since they come from at most 21 bytes that lie together (16 bytes touch at most
 * 6 pixels of RGB, folding at an edge only narrows them), thus from two loads and two shuffles.
 * Rows are treated in strips to bound what is kept on the stack.
 */
#include "internal.h"

#include <string.h>

#ifdef __x86_64__
#include <tmmintrin.h>
#endif

enum { STRIP = 1024, CHUNK = 16 };

/* i in (-n, 2n - 1) about the ends of [0, n). */
static int reflect(int i, int n)
{
    if (i < 0)
        return -i;
    return i < n ? i : 2 * n - 2 - i;
}

static size_t row_bytes(const at_view *v)
{
    return (size_t)v->width * (size_t)v->channels;
}

static const uint8_t *source_row(const at_view *v, const uint8_t *in, int y)
{
    return in + (size_t)reflect(y + v->top, v->height) * row_bytes(v);
}

/* For bytes [first, first + n) of a row of the view: which byte of the source row each is. */
static void find_sources(const at_view *v, size_t first, size_t n, uint32_t *source)
{
    size_t c = (size_t)v->channels, x = first / c, k = first % c;
    for (size_t i = 0; i < n; x++, k = 0) {
        int at = reflect((int)x + v->left, v->width);
        if (v->mirrored)
            at = v->width - 1 - at;
        for (; k < c && i < n; k++)
            source[i++] = (uint32_t)((size_t)at * c + k);
    }
}

static void move_bytes(const at_view *v, const uint32_t *source, size_t n, const uint8_t *in,
                       uint8_t *out)
{
    for (int y = 0; y < v->height; y++, out += row_bytes(v)) {
        const uint8_t *from = source_row(v, in, y);
        for (size_t i = 0; i < n; i++)
            out[i] = from[source[i]];
    }
}

#ifdef __x86_64__
typedef struct chunk {
    uint32_t to, from[2]; /* byte of the strip; bytes of the source row where the loads begin */
    __m128i shuffle[2];
} chunk;

/* n and the row are at least CHUNK bytes. */
static void plan_chunk(chunk *c, const uint32_t *source, size_t at, size_t n, uint32_t row)
{
    uint8_t shuffle[2][CHUNK];
    uint32_t last = row - CHUNK, low = last;
    c->to = (uint32_t)(at + CHUNK <= n ? at : n - CHUNK);
    for (size_t i = 0; i < CHUNK; i++)
        low = source[c->to + i] < low ? source[c->to + i] : low;
    c->from[0] = low;
    c->from[1] = low + CHUNK < last ? low + CHUNK : last;
    for (size_t i = 0; i < CHUNK; i++) { /* 0x80 gives zero: the other load has that byte */
        uint32_t byte = source[c->to + i];
        bool near = byte - low < CHUNK;
        shuffle[0][i] = near ? (uint8_t)(byte - low) : 0x80;
        shuffle[1][i] = near ? 0x80 : (uint8_t)(byte - c->from[1]);
    }
    memcpy(c->shuffle, shuffle, sizeof shuffle);
}

__attribute__((target("ssse3"))) static void move_chunks(const at_view *v, const uint32_t *source,
                                                         size_t n, const uint8_t *in, uint8_t *out)
{
    chunk chunks[STRIP / CHUNK];
    size_t count = 0;
    for (size_t at = 0; at < n; at += CHUNK)
        plan_chunk(&chunks[count++], source, at, n, (uint32_t)row_bytes(v));
    for (int y = 0; y < v->height; y++, out += row_bytes(v)) {
        const uint8_t *from = source_row(v, in, y);
        for (const chunk *c = chunks; c < chunks + count; c++) {
            __m128i near = _mm_loadu_si128((const __m128i *)(from + c->from[0]));
            __m128i far = _mm_loadu_si128((const __m128i *)(from + c->from[1]));
            near = _mm_shuffle_epi8(near, c->shuffle[0]);
            far = _mm_shuffle_epi8(far, c->shuffle[1]);
            _mm_storeu_si128((__m128i *)(out + c->to), _mm_or_si128(near, far));
        }
    }
}
#endif

static void move_strip(const at_view *v, size_t first, const uint8_t *in, uint8_t *out)
{
    uint32_t source[STRIP];
    size_t left = row_bytes(v) - first, n = left < STRIP ? left : STRIP;
    find_sources(v, first, n, source);
#ifdef __x86_64__
    if (n >= CHUNK && v->channels <= 4 && __builtin_cpu_supports("ssse3")) {
        move_chunks(v, source, n, in, out + first);
        return;
    }
#endif
    move_bytes(v, source, n, in, out + first);
}

void at_view_move(const at_view *v, const uint8_t *in, uint8_t *out, void *scratch)
{
    size_t row = row_bytes(v);
    if (v->box_height != v->height || v->box_width != v->width)
        at_view_enlarge(v, in, out, scratch);
    else if (!v->mirrored && !v->left && !v->top)
        memcpy(out, in, (size_t)v->height * row);
    else if (!v->mirrored && !v->left)
        for (int y = 0; y < v->height; y++)
            memcpy(out + (size_t)y * row, source_row(v, in, y), row);
    else
        for (size_t first = 0; first < row; first += STRIP)
            move_strip(v, first, in, out);
}
