/* SPDX-License-Identifier: Apache-2.0
 * Enlarges a box of the (mirrored) picture to the whole: bilinear between the centres of pixels,
 * the outermost ones going on to the edge (torchvision's resize; as the box is never larger than
 * the picture, its antialiasing would change nothing).
 *
 * A row of the result lies between two rows of the box: these are blended first, over the box's
 * width, in one pass that the compiler turns into vectors; then every byte is blended from two of
 * that row, by a table that is the same for all rows. The same bits on every machine.
 */
#include "internal.h"

/* Where along a side of the box the place `at` of n of the result lies: between a and b. */
typedef struct tap {
    uint32_t a, b;
    float share; /* of b */
} tap;

static tap tap_of(int at, int n, int box)
{
    float x = ((float)at + 0.5f) * (float)box / (float)n - 0.5f;
    x = x > 0 ? x : 0;
    uint32_t a = (uint32_t)x, last = (uint32_t)box - 1;
    return (tap){.a = a, .b = a < last ? a + 1 : last, .share = x - (float)a};
}

typedef struct columns {
    tap *tap;   /* [row bytes], in bytes of the box's row */
    float *row; /* [row bytes]: two rows of the box, blended */
} columns;

size_t at_view_scratch(int width, int channels)
{
    return (size_t)width * (size_t)channels * (sizeof(tap) + sizeof(float));
}

static columns plan_columns(const at_view *v, void *scratch)
{
    uint32_t channels = (uint32_t)v->channels;
    columns c = {.tap = scratch};
    tap *to = c.tap;
    for (int x = 0; x < v->width; x++) {
        tap t = tap_of(v->mirrored ? v->width - 1 - x : x, v->width, v->box_width);
        for (uint32_t k = 0; k < channels; k++)
            *to++ = (tap){t.a * channels + k, t.b * channels + k, t.share};
    }
    c.row = (float *)to;
    return c;
}

static void blend_rows(const uint8_t *a, const uint8_t *b, float share, size_t n, float *row)
{
    for (size_t i = 0; i < n; i++)
        row[i] = (float)a[i] + share * (float)(b[i] - a[i]);
}

static void blend_columns(const columns *c, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n; i++) {
        tap t = c->tap[i];
        float a = c->row[t.a], b = c->row[t.b];
        out[i] = (uint8_t)(a + t.share * (b - a) + 0.5f);
    }
}

void at_view_enlarge(const at_view *v, const uint8_t *in, uint8_t *out, void *scratch)
{
    size_t channels = (size_t)v->channels, row = (size_t)v->width * channels;
    int left = v->mirrored ? v->width - v->left - v->box_width : v->left;
    const uint8_t *box = in + (size_t)v->top * row + (size_t)left * channels;
    columns c = plan_columns(v, scratch);
    for (int y = 0; y < v->height; y++, out += row) {
        tap t = tap_of(y, v->height, v->box_height);
        blend_rows(box + t.a * row, box + t.b * row, t.share, (size_t)v->box_width * channels,
                   c.row);
        blend_columns(&c, row, out);
    }
}
