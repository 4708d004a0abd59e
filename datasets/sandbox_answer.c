/* SPDX-License-Identifier: Apache-2.0
 * What a sandbox's worker tells of a picture (sandbox.h). A worker that a picture has taken over writes
 * into the shared memory what it likes, also while this reads: so it is copied first, and what is out
 * of range or not in the form that a worker gives it is that picture's "corrupt". */
#include "sandbox.h"

#include <math.h>

static bool is_finite(const at_seen *seen)
{
    const at_pixel_stats *p = &seen->stats;
    bool good = isfinite(p->entropy) && isfinite(p->sharpness);
    for (int c = 0; c < seen->channels; c++)
        good = good && isfinite(p->mean[c]) && isfinite(p->deviation[c]) && p->minimum[c] >= 0 &&
               p->maximum[c] >= 0 && p->minimum[c] <= 255 && p->maximum[c] <= 255;
    return good;
}

static bool makes_sense(const at_seen *s, const at_decode_limits *limits)
{
    size_t pixels;
    return (s->format == AT_FORMAT_PNG || s->format == AT_FORMAT_JPEG ||
            s->format == AT_FORMAT_RAW) &&
           (s->channels == 1 || s->channels == 3) && s->width > 0 && s->height > 0 &&
           at_mul((size_t)s->width, (size_t)s->height, limits->pixels, &pixels) &&
           (unsigned)s->stored.mode <= AT_MODE_CMYK && s->stored.depth > 0 &&
           s->stored.depth <= 16 && is_finite(s);
}

/* An object of numbers and texts, or nothing. */
static bool is_flat_object(const at_text *json)
{
    if (!json->length)
        return true;
    at_node *map = at_json_parse(json->data, json->length, "EXIF", NULL);
    bool flat = at_node_kind(map) == AT_MAP;
    for (size_t i = 0; flat && i < at_node_count(map); i++)
        flat = at_node_kind(at_node_at(map, i)) <= AT_STRING;
    at_node_free(map);
    return flat;
}

static void make_printable(char detail[static sizeof((at_answer *)0)->detail])
{
    size_t last = sizeof((at_answer *)0)->detail - 1;
    detail[last] = 0;
    for (char *p = detail; *p; p++)
        if (*p < ' ' || *p > '~')
            *p = '?';
}

static void fail_for_nonsense(at_item *item)
{
    at_item_fail(item, AT_REASON_CORRUPT, "what the decoder tells of it makes no sense");
}

static void take_seen(const at_answers *answers, size_t i, const at_answer *a,
                      const at_decode_limits *limits, at_item *item)
{
    item->exif.length = 0;
    if (a->exif && a->exif <= AT_EXIF_BYTES)
        at_text_append(&item->exif, answers->exif[i], a->exif);
    item->seen = a->seen;
    if (item->exif.failed)
        at_item_fail(item, AT_REASON_UNREADABLE, "out of memory");
    else if (!makes_sense(&a->seen, limits) || !is_flat_object(&item->exif))
        fail_for_nonsense(item);
}

/* Any bytes are pixels. */
static void take_frame(const at_cell *cell, size_t i, const at_answer *a, at_item *item)
{
    const at_wish *wish = &cell->wish;
    at_frame frame = wish->frame;
    bool good =
        frame.channels ? a->channels == frame.channels : a->channels == 1 || a->channels == 3;
    frame.channels = a->channels;
    bool taken = good && at_buffer_set(&item->frame, cell->frames + i * cell->frame_bytes,
                                       at_frame_bytes(&frame));
    if (taken)
        item->frame_channels = a->channels;
    else if (!wish->facts && good)
        at_item_fail(item, AT_REASON_UNREADABLE, "out of memory");
    else if (!wish->facts)
        fail_for_nonsense(item);
}

void at_answer_take(const at_cell *cell, size_t i, at_item *item)
{
    const at_answers *answers = cell->answers;
    at_answer a = answers->items[i];
    item->frame_channels = 0;
    if (a.bad && (unsigned)a.reason < AT_REASON_COUNT) {
        make_printable(a.detail);
        at_item_fail(item, a.reason, "%s", a.detail);
    } else if (a.bad)
        fail_for_nonsense(item);
    else if (cell->wish.facts)
        take_seen(answers, i, &a, &cell->limits, item);
    if (!item->bad && cell->wish.frame.height)
        take_frame(cell, i, &a, item);
}
