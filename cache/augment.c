/* SPDX-License-Identifier: Apache-2.0
 * Augmentation of decoded pictures: mirror left-right, then crop at a small shift with the edges
 * reflected about the outermost pixel (as numpy.pad's "reflect"). Each sample draws from its own
 * stream of (seed, epoch, id), so neither threads, ranks nor batch size change a pixel.
 *
 * A row is a span of whole pixels, copied or mirrored at once, and at most `shift` reflected pixels
 * at one end. Rows of 1 and 3 channels are mirrored by byte shuffles where SSSE3 is there.
 */
#include "atoll/cache.h"

#include <string.h>

#ifdef __x86_64__
#include <tmmintrin.h>
#endif

typedef struct view {
    int width, channels;
    bool mirrored;
    int dx; /* the crop begins at this column of the (mirrored) row; may be negative */
} view;

/* out[x] = in[n - 1 - x] for x in [from, n); pixels of c bytes. */
static void mirror_pixels(const uint8_t *in, uint8_t *out, size_t from, size_t n, size_t c)
{
    for (size_t x = from; x < n; x++)
        for (size_t k = 0; k < c; k++)
            out[x * c + k] = in[(n - 1 - x) * c + k];
}

#ifdef __x86_64__
/* 16 pixels a step; returns how many of the n are done. */
__attribute__((target("ssse3"))) static size_t mirror_grey(const uint8_t *in, uint8_t *out,
                                                           size_t n)
{
    const __m128i reversed = _mm_setr_epi8(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    size_t x = 0;
    for (; x + 16 <= n; x += 16) {
        __m128i pixels = _mm_loadu_si128((const __m128i *)(in + n - 16 - x));
        _mm_storeu_si128((__m128i *)(out + x), _mm_shuffle_epi8(pixels, reversed));
    }
    return x;
}

/* 5 pixels a step out of a load of 16 bytes that begins one byte early; the store's 16th byte is
 * the next pixel's, which is written afterwards. So a pixel must be left on both sides. */
__attribute__((target("ssse3"))) static size_t mirror_rgb(const uint8_t *in, uint8_t *out, size_t n)
{
    const __m128i reversed = _mm_setr_epi8(13, 14, 15, 10, 11, 12, 7, 8, 9, 4, 5, 6, 1, 2, 3, -128);
    size_t x = 0;
    for (; x + 6 <= n; x += 5) {
        __m128i pixels = _mm_loadu_si128((const __m128i *)(in + 3 * (n - 5 - x) - 1));
        _mm_storeu_si128((__m128i *)(out + 3 * x), _mm_shuffle_epi8(pixels, reversed));
    }
    return x;
}
#endif

static void mirror_span(const uint8_t *in, uint8_t *out, size_t n, size_t c)
{
    size_t done = 0;
#ifdef __x86_64__
    if (c == 3 && __builtin_cpu_supports("ssse3"))
        done = mirror_rgb(in, out, n);
    else if (c == 1 && __builtin_cpu_supports("ssse3"))
        done = mirror_grey(in, out, n);
#endif
    mirror_pixels(in, out, done, n, c);
}

/* i in (-n, 2n - 1) about the ends of [0, n). */
static int reflect(int i, int n)
{
    if (i < 0)
        return -i;
    return i < n ? i : 2 * n - 2 - i;
}

static void copy_row(const uint8_t *in, uint8_t *out, const view *v)
{
    size_t c = (size_t)v->channels;
    int first = v->dx < 0 ? -v->dx : 0;              /* columns of out with an inner source: */
    int n = v->width - (v->dx < 0 ? -v->dx : v->dx); /* [first, first + n) */
    int source = v->mirrored ? v->width - (first + v->dx) - n : first + v->dx;
    uint8_t *to = out + (size_t)first * c;
    const uint8_t *from = in + (size_t)source * c;
    if (v->mirrored)
        mirror_span(from, to, (size_t)n, c);
    else
        memcpy(to, from, (size_t)n * c);

    int edge = first ? 0 : n, edge_end = first ? first : v->width;
    for (int x = edge; x < edge_end; x++) {
        int at = reflect(x + v->dx, v->width);
        if (v->mirrored)
            at = v->width - 1 - at;
        for (size_t k = 0; k < c; k++)
            out[(size_t)x * c + k] = in[(size_t)at * c + k];
    }
}

/* Uniform in [-shift, shift]; a shift of the whole picture has nothing left to reflect. */
static int draw_shift(at_rng *rng, int shift, int size)
{
    int most = shift < size ? shift : size - 1;
    return (int)at_rng_below(rng, 2 * (uint64_t)most + 1) - most;
}

void at_augment_apply(const at_augment *a, uint64_t seed, uint64_t epoch, uint32_t id,
                      const uint8_t *in, int height, int width, int channels, uint8_t *out)
{
    size_t row = (size_t)width * (size_t)channels;
    if (!a->flip && a->shift <= 0) {
        memcpy(out, in, (size_t)height * row);
        return;
    }
    at_rng rng = at_rng_stream(seed, "augment", epoch << 32 | id);
    view v = {.width = width, .channels = channels};
    int dy = 0;
    if (a->flip)
        v.mirrored = at_rng_next(&rng) >> 63;
    if (a->shift > 0) {
        dy = draw_shift(&rng, a->shift, height);
        v.dx = draw_shift(&rng, a->shift, width);
    }
    for (int y = 0; y < height; y++)
        copy_row(in + (size_t)reflect(y + dy, height) * row, out + (size_t)y * row, &v);
}
