/* SPDX-License-Identifier: Apache-2.0
 * Which side of a photograph is up: EXIF's orientation, and turning the pixels by it.
 *
 * A camera stores the sensor's rows as they come and notes how it was held. Every decode turns the
 * picture upright, so that ingest, caches, training and prediction see the same one. Of EXIF this
 * reads one tag of its first folder (Exif 2.32, 4.6.4; TIFF 6.0, section 2), in place and within
 * bounds, because it is done for every picture that is decoded; what is damaged means upright. */
#include "internal.h"

#include <string.h>

enum { ENTRY = 12, ORIENTATION = 0x0112, SHORT = 3, TILE = 128 };

struct tiff {
    const uint8_t *bytes;
    size_t size;
    bool big_endian;
};

/* The caller has checked that offset + 2 lies within. */
static unsigned get_u16(const struct tiff *t, size_t offset)
{
    const uint8_t *p = t->bytes + offset;
    return t->big_endian ? (unsigned)(p[0] << 8 | p[1]) : (unsigned)(p[1] << 8 | p[0]);
}

static size_t get_u32(const struct tiff *t, size_t offset)
{
    size_t first = get_u16(t, offset), second = get_u16(t, offset + 2);
    return t->big_endian ? first << 16 | second : second << 16 | first;
}

int at_exif_orientation(const uint8_t *bytes, size_t size)
{
    struct tiff t = {bytes, size, .big_endian = size && bytes[0] == 'M'};
    if (size < 8 || bytes[0] != bytes[1] || (bytes[0] != 'I' && bytes[0] != 'M') ||
        get_u16(&t, 2) != 42)
        return 1;
    size_t folder = get_u32(&t, 4);
    if (folder > size - 2)
        return 1;
    size_t count = get_u16(&t, folder), there = (size - folder - 2) / ENTRY;
    for (size_t i = 0; i < count && i < there; i++) {
        size_t entry = folder + 2 + i * ENTRY;
        if (get_u16(&t, entry) != ORIENTATION)
            continue;
        unsigned value = get_u16(&t, entry + 8);
        bool good = get_u16(&t, entry + 2) == SHORT && get_u32(&t, entry + 4) == 1;
        return good && value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}

/* ---- turning ---- */

/* How the upright picture walks over the stored one, in pixels. */
struct walk {
    ptrdiff_t start, right, down;
};

static struct walk walk_of(const at_image *in, int orientation)
{
    static const struct {
        bool swap, flip_x, flip_y; /* columns become rows; stored columns and rows run backwards */
    } ways[9] = {[2] = {.flip_x = true},
                 [3] = {.flip_x = true, .flip_y = true},
                 [4] = {.flip_y = true},
                 [5] = {.swap = true},
                 [6] = {.swap = true, .flip_y = true},
                 [7] = {.swap = true, .flip_x = true, .flip_y = true},
                 [8] = {.swap = true, .flip_x = true}};
    bool swap = ways[orientation].swap, flip_x = ways[orientation].flip_x,
         flip_y = ways[orientation].flip_y;
    ptrdiff_t width = in->width, along = flip_x ? -1 : 1, across = flip_y ? -width : width;
    return (struct walk){.start =
                             (flip_x ? width - 1 : 0) + (flip_y ? width * (in->height - 1) : 0),
                         .right = swap ? across : along,
                         .down = swap ? along : across};
}

/* In tiles: rows that become columns would miss the cache at every pixel. channels is constant
 * where this is inlined. */
static inline void turn(const uint8_t *in, struct walk w, const at_image *out, size_t channels)
{
    ptrdiff_t step = w.right * (ptrdiff_t)channels;
    for (ptrdiff_t top = 0; top < out->height; top += TILE)
        for (ptrdiff_t left = 0; left < out->width; left += TILE) {
            ptrdiff_t n = out->width - left < TILE ? out->width - left : TILE;
            for (ptrdiff_t y = top; y < top + TILE && y < out->height; y++) {
                uint8_t *restrict to = out->pixels + (size_t)(y * out->width + left) * channels;
                const uint8_t *restrict from =
                    in + (w.start + y * w.down + left * w.right) * (ptrdiff_t)channels;
                for (ptrdiff_t x = 0; x < n; x++)
                    memcpy(to + (size_t)x * channels, from + x * step, channels);
            }
        }
}

void at_image_turn(const at_image *in, int orientation, at_image *out)
{
    bool swap = orientation >= 5;
    struct walk w = walk_of(in, orientation);
    out->width = swap ? in->height : in->width;
    out->height = swap ? in->width : in->height;
    out->channels = in->channels;
    if (in->channels == 1)
        turn(in->pixels, w, out, 1);
    else
        turn(in->pixels, w, out, 3);
}
