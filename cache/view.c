/* SPDX-License-Identifier: Apache-2.0
 * Moves the pixels of a view: mirrored left-right, then cropped at a small shift with the edges
 * reflected about the outermost pixel (as numpy.pad's "reflect").
 *
 * Mirror, shift and reflection move the bytes of every row in the same way. So that way is worked
 * out as the source of each byte of a row, and then applied to all rows: with SSSE3 16 bytes at
 * once, since they come from at most 21 bytes that lie together (16 bytes touch at most 6 pixels of
 * RGB, folding at an edge only narrows them), thus from two loads and two shuffles. For small shifts
 * of short rows the ways are kept in a table; else each is worked out when it is wanted, in strips,
 * to bound what is kept on the stack.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

#ifdef __x86_64__
#include <tmmintrin.h>
#endif

enum { STRIP = 1024, CHUNK = 16, MOST_REACH = 16, LINE = 64, BROUGHT = 8192 };

static size_t row_bytes(const at_view *v)
{
    return (size_t)v->width * (size_t)v->channels;
}

/* Begins to bring the next picture into the processor's cache, part i of n: as fetches of more lines
 * than the processor has at hand would wait for each other, they lie between other work. */
static void bring_next(const at_view *v, size_t i, size_t n)
{
    size_t bytes = row_bytes(v) * (size_t)v->height;
    size_t lines = ((bytes < BROUGHT ? bytes : BROUGHT) + LINE - 1) / LINE;
    for (size_t l = lines * i / n; v->next && l < lines * (i + 1) / n; l++)
        __builtin_prefetch(v->next + l * LINE);
}

/* Rows of the result that come from rows of the picture in turn, downwards or upwards. */
typedef struct rows {
    const uint8_t *from;
    ptrdiff_t step; /* bytes from one row's source to the next one's */
    uint8_t *to;
    size_t n;
} rows;

/* Those inside the picture, and those reflected about its first or its last row. */
static void split_rows(const at_view *v, const uint8_t *in, uint8_t *out, rows part[2])
{
    size_t row = row_bytes(v), height = (size_t)v->height;
    size_t folded = (size_t)(v->top < 0 ? -v->top : v->top), inside = height - folded;
    ptrdiff_t step = (ptrdiff_t)row;
    if (v->top < 0) {
        part[0] = (rows){in + folded * row, -step, out, folded};
        part[1] = (rows){in, step, out + folded * row, inside};
    } else {
        part[0] = (rows){in + folded * row, step, out, inside};
        part[1] = (rows){in, -step, out + inside * row, folded};
        if (folded)
            part[1].from += (height - 2) * row;
    }
}

/* i in (-n, 2n - 1) about the ends of [0, n). */
static int reflect(int i, int n)
{
    if (i < 0)
        return -i;
    return i < n ? i : 2 * n - 2 - i;
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

static void move_bytes(const rows *r, const uint32_t *source, size_t n, size_t row)
{
    const uint8_t *from = r->from;
    uint8_t *to = r->to;
    for (size_t y = 0; y < r->n; y++, from += r->step, to += row)
        for (size_t i = 0; i < n; i++)
            to[i] = from[source[i]];
}

#ifdef __x86_64__
/* ---- 16 bytes at once ---- */

typedef struct chunk {
    uint32_t to, from[2]; /* byte of the strip; bytes of the source row where the loads begin */
    bool straight;        /* the bytes from from[0] on, as they are */
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
    c->straight = true;
    for (size_t i = 0; i < CHUNK; i++) { /* 0x80 gives zero: the other load has that byte */
        uint32_t byte = source[c->to + i];
        bool near = byte - low < CHUNK;
        shuffle[0][i] = near ? (uint8_t)(byte - low) : 0x80;
        shuffle[1][i] = near ? 0x80 : (uint8_t)(byte - c->from[1]);
        c->straight &= byte == low + i;
    }
    memcpy(c->shuffle, shuffle, sizeof shuffle);
}

/* Into chunks, of which there are as many as are returned. */
static size_t plan_chunks(chunk *chunks, const uint32_t *source, size_t n, size_t row)
{
    size_t count = 0;
    for (size_t at = 0; at < n; at += CHUNK)
        plan_chunk(&chunks[count++], source, at, n, (uint32_t)row);
    return count;
}

__attribute__((target("ssse3"))) static void move_chunk(const rows *r, const chunk *c, size_t row)
{
    const uint8_t *near = r->from + c->from[0], *far = r->from + c->from[1];
    uint8_t *to = r->to + c->to;
    size_t n = r->n;
    ptrdiff_t step = r->step;
    __m128i of_near = c->shuffle[0], of_far = c->shuffle[1];
    if (c->straight) {
        for (size_t y = 0; y < n; y++, near += step, to += row)
            memcpy(to, near, CHUNK);
        return;
    }
    for (size_t y = 0; y < n; y++, near += step, far += step, to += row) {
        __m128i a = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)near), of_near);
        __m128i b = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)far), of_far);
        _mm_storeu_si128((__m128i *)to, _mm_or_si128(a, b));
    }
}

struct at_row_moves {
    int reach;
    size_t count;  /* chunks of a row */
    chunk *chunks; /* [mirrored][left + reach][count] */
};

static bool can_shuffle(size_t n, int channels)
{
    return n >= CHUNK && channels <= 4 && __builtin_cpu_supports("ssse3");
}

static const chunk *chunks_of(const at_row_moves *m, const at_view *v)
{
    if (!m || abs(v->left) > m->reach)
        return NULL;
    size_t way = (size_t)(v->left + m->reach) + (v->mirrored ? 2 * (size_t)m->reach + 1 : 0);
    return m->chunks + way * m->count;
}
#endif

int at_row_moves_new(int width, int channels, int reach, at_row_moves **out, at_error *err)
{
    *out = NULL;
#ifdef __x86_64__
    at_view v = {.width = width, .channels = channels};
    size_t row = row_bytes(&v), ways = 2 * (2 * (size_t)reach + 1);
    uint32_t source[STRIP];
    if (row > STRIP || reach > MOST_REACH || reach >= width || !can_shuffle(row, channels))
        return 0;
    at_row_moves *m = calloc(1, sizeof *m);
    if (!m)
        return at_nomem(err);
    m->reach = reach;
    m->count = (row + CHUNK - 1) / CHUNK;
    m->chunks = at_alloc_aligned(ways * m->count * sizeof *m->chunks);
    if (!m->chunks) {
        free(m);
        return at_nomem(err);
    }
    chunk *to = m->chunks;
    for (int mirrored = 0; mirrored < 2; mirrored++)
        for (v.left = -reach; v.left <= reach; v.left++) {
            v.mirrored = mirrored;
            find_sources(&v, 0, row, source);
            to += plan_chunks(to, source, row, row);
        }
    *out = m;
#endif
    return 0;
}

void at_row_moves_free(at_row_moves *m)
{
#ifdef __x86_64__
    if (m)
        at_free_aligned(m->chunks);
#endif
    free(m);
}

/* ---- a picture ---- */

static void move_strip(const at_view *v, const rows part[2], size_t first)
{
    uint32_t source[STRIP];
    size_t row = row_bytes(v), left = row - first, n = left < STRIP ? left : STRIP;
    find_sources(v, first, n, source);
    for (int k = 0; k < 2; k++) {
        rows r = part[k];
        r.to += first;
#ifdef __x86_64__
        chunk chunks[STRIP / CHUNK];
        if (can_shuffle(n, v->channels)) {
            size_t count = plan_chunks(chunks, source, n, row);
            for (size_t i = 0; i < count; i++)
                move_chunk(&r, &chunks[i], row);
            continue;
        }
#endif
        move_bytes(&r, source, n, row);
    }
}

static void copy_rows(const rows *r, size_t row)
{
    const uint8_t *from = r->from;
    for (size_t y = 0; y < r->n; y++, from += r->step)
        memcpy(r->to + y * row, from, row);
}

void at_view_move(const at_view *v, const at_row_moves *moves, const uint8_t *in, uint8_t *out,
                  void *scratch)
{
    size_t row = row_bytes(v);
    rows part[2];
    if (v->box_height != v->height || v->box_width != v->width) {
        bring_next(v, 0, 1);
        at_view_enlarge(v, in, out, scratch);
        return;
    }
    split_rows(v, in, out, part);
    if (!v->mirrored && !v->left) {
        copy_rows(&part[0], row);
        copy_rows(&part[1], row);
        bring_next(v, 0, 1);
        return;
    }
#ifdef __x86_64__
    const chunk *kept = chunks_of(moves, v);
    for (size_t i = 0; kept && i < moves->count; i++) {
        move_chunk(&part[0], &kept[i], row);
        move_chunk(&part[1], &kept[i], row);
        bring_next(v, i, moves->count);
    }
    if (kept)
        return;
#else
    (void)moves;
#endif
    bring_next(v, 0, 1);
    for (size_t first = 0; first < row; first += STRIP)
        move_strip(v, part, first);
}
