/* SPDX-License-Identifier: Apache-2.0
 * What a decoding process that was taken over may tell: whatever it is, the picture has a reason, or is
 * one that a decoder may have seen, and its frame has the size that was wanted.
 */
#include "../../datasets/sandbox.h"
#include "fuzz.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const at_decode_limits limits = {.pixels = 1 << 16, .bytes = 1 << 20, .seconds = 1};

enum { SIDE = 6 };
static uint8_t frames[SIDE * SIDE * 3];
static const at_wish wishes[] = {{.facts = true},
                                 {.frame = {SIDE, SIDE, 3, AT_FIT_STRETCH}},
                                 {.facts = true, .frame = {SIDE, SIDE, 0, AT_FIT_CROP}},
                                 {.facts = true, .frame = {SIDE, SIDE, 1, AT_FIT_CROP}}};

static at_answers *shared(void)
{
    static at_answers *answers;
    if (!answers)
        answers = mmap(NULL, sizeof *answers, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (answers == MAP_FAILED)
        abort();
    return answers;
}

static void check_bad(const at_item *item)
{
    size_t length = strnlen(item->detail, sizeof item->detail);
    if ((unsigned)item->reason >= AT_REASON_COUNT || length == sizeof item->detail)
        abort();
    for (size_t i = 0; i < length; i++)
        if (item->detail[i] < ' ' || item->detail[i] > '~')
            abort();
}

static void check_good(const at_item *item)
{
    const at_seen *s = &item->seen;
    if (s->width < 1 || s->height < 1 || (s->channels != 1 && s->channels != 3) ||
        (size_t)s->width * (size_t)s->height > limits.pixels || !at_format_text(s->format) ||
        !at_mode_text(s->stored.mode) || !isfinite(s->stats.mean[0]) || !isfinite(s->stats.entropy))
        abort();
    at_node *exif =
        item->exif.length ? at_json_parse(item->exif.data, item->exif.length, "exif", NULL) : NULL;
    if (item->exif.length && at_node_kind(exif) != AT_MAP)
        abort();
    at_node_free(exif);
}

static void check_frame(const at_item *item, const at_wish *wish)
{
    at_frame frame = wish->frame;
    int channels = item->frame_channels;
    bool right = frame.channels ? channels == frame.channels : channels == 1 || channels == 3;
    frame.channels = channels;
    if (!wish->frame.height ? channels != 0 : !right && (channels != 0 || !wish->facts))
        abort();
    if (channels && item->frame.size != at_frame_bytes(&frame))
        abort();
}

/* An answer, as much of it as there is, and behind it its EXIF. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    at_answers *answers = shared();
    at_answer *a = &answers->items[0];
    at_item item = {0};
    size_t head = size < sizeof *a ? size : sizeof *a, rest = size - head;
    memset(a, 0, sizeof *a);
    memcpy(a, data, head);
    memcpy(answers->exif[0], data + head, rest < AT_EXIF_BYTES ? rest : AT_EXIF_BYTES);
    for (size_t i = 0; i < sizeof wishes / sizeof *wishes; i++) {
        const at_cell cell = {.limits = limits,
                              .wish = wishes[i],
                              .answers = answers,
                              .frames = frames,
                              .frame_bytes = sizeof frames,
                              .frame_count = 1};
        item.bad = false;
        at_answer_take(&cell, 0, &item);
        if (item.bad) {
            check_bad(&item);
            continue;
        }
        if (wishes[i].facts)
            check_good(&item);
        check_frame(&item, &wishes[i]);
    }
    at_item_fini(&item);
    return 0;
}
