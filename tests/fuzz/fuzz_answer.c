/* SPDX-License-Identifier: Apache-2.0
 * What a decoding process that was taken over may tell: whatever it is, the picture has a reason, or is
 * one that a decoder may have seen.
 */
#include "../../datasets/sandbox.h"
#include "fuzz.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const at_decode_limits limits = {.pixels = 1 << 16, .bytes = 1 << 20, .seconds = 1};

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
    for (int seen = 0; seen < 2; seen++) {
        item.bad = false;
        at_answer_take(answers, 0, &limits, seen, &item);
        if (item.bad)
            check_bad(&item);
        else if (seen)
            check_good(&item);
    }
    at_item_fini(&item);
    return 0;
}
