/* SPDX-License-Identifier: Apache-2.0
 * Augmentation of decoded pictures: mirror left-right, then crop at a small shift with the edges
 * reflected about the outermost pixel (as numpy.pad's "reflect"). Each sample draws from its own
 * stream of (seed, epoch, id), so neither threads, ranks nor batch size change a pixel.
 *
 * Mirror, shift and reflection move the bytes of every row in the same way. So that way is worked
 * out once a sample, as the source of each byte of a row, and then applied to all rows: with SSSE3
 * 16 bytes at once, since they come from at most 21 bytes that lie together (16 bytes touch at most
 * 6 pixels of RGB, folding at an edge only narrows them), thus from two loads and two shuffles.
 * Rows are treated in strips to bound what is kept on the stack.
 */
#include "atoll/cache.h"

#include <string.h>

#ifdef __x86_64__
#include <tmmintrin.h>
#endif

enum { STRIP = 1024, CHUNK = 16 };

typedef struct view {
    int height, width, channels;
    size_t row; /* bytes */
    bool mirrored;
    int dy, dx; /* the crop begins here in the (mirrored) picture; may be negative */
} view;

/* i in (-n, 2n - 1) about the ends of [0, n). */
static int reflect(int i, int n)
{
    if (i < 0)
        return -i;
    return i < n ? i : 2 * n - 2 - i;
}

static const uint8_t *source_row(const view *v, const uint8_t *in, int y)
{
    return in + (size_t)reflect(y + v->dy, v->height) * v->row;
}

/* For bytes [first, first + n) of a row of the view: which byte of the source row each is. */
static void find_sources(const view *v, size_t first, size_t n, uint32_t *source)
{
    size_t c = (size_t)v->channels, x = first / c, k = first % c;
    for (size_t i = 0; i < n; x++, k = 0) {
        int at = reflect((int)x + v->dx, v->width);
        if (v->mirrored)
            at = v->width - 1 - at;
        for (; k < c && i < n; k++)
            source[i++] = (uint32_t)((size_t)at * c + k);
    }
}

static void move_bytes(const view *v, const uint32_t *source, size_t n, const uint8_t *in,
                       uint8_t *out)
{
    for (int y = 0; y < v->height; y++, out += v->row) {
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

__attribute__((target("ssse3"))) static void move_chunks(const view *v, const uint32_t *source,
                                                         size_t n, const uint8_t *in, uint8_t *out)
{
    chunk chunks[STRIP / CHUNK];
    size_t count = 0;
    for (size_t at = 0; at < n; at += CHUNK)
        plan_chunk(&chunks[count++], source, at, n, (uint32_t)v->row);
    for (int y = 0; y < v->height; y++, out += v->row) {
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

static void move_strip(const view *v, size_t first, const uint8_t *in, uint8_t *out)
{
    uint32_t source[STRIP];
    size_t n = v->row - first < STRIP ? v->row - first : STRIP;
    find_sources(v, first, n, source);
#ifdef __x86_64__
    if (n >= CHUNK && v->channels <= 4 && __builtin_cpu_supports("ssse3")) {
        move_chunks(v, source, n, in, out + first);
        return;
    }
#endif
    move_bytes(v, source, n, in, out + first);
}

/* Uniform in [-shift, shift]; a shift of the whole picture has nothing left to reflect. */
static int draw_shift(at_rng *rng, int shift, int size)
{
    int most = shift < size ? shift : size - 1;
    return (int)at_rng_below(rng, 2 * (uint64_t)most + 1) - most;
}

static void draw_view(view *v, const at_augment *a, uint64_t seed, uint64_t epoch, uint32_t id)
{
    at_rng rng = at_rng_stream(seed, "augment", epoch << 32 | id);
    if (a->flip)
        v->mirrored = at_rng_next(&rng) >> 63;
    if (a->shift > 0) {
        v->dy = draw_shift(&rng, a->shift, v->height);
        v->dx = draw_shift(&rng, a->shift, v->width);
    }
}

void at_augment_apply(const at_augment *a, uint64_t seed, uint64_t epoch, uint32_t id,
                      const uint8_t *in, int height, int width, int channels, uint8_t *out)
{
    view v = {.height = height, .width = width, .channels = channels};
    v.row = (size_t)width * (size_t)channels;
    if (a->flip || a->shift > 0)
        draw_view(&v, a, seed, epoch, id);
    if (!v.mirrored && !v.dx && !v.dy)
        memcpy(out, in, (size_t)height * v.row);
    else if (!v.mirrored && !v.dx)
        for (int y = 0; y < height; y++)
            memcpy(out + (size_t)y * v.row, source_row(&v, in, y), v.row);
    else
        for (size_t first = 0; first < v.row; first += STRIP)
            move_strip(&v, first, in, out);
}
