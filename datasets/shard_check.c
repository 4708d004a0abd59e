/* SPDX-License-Identifier: Apache-2.0
 * Whether a shard is what shard.c describes, byte by byte, but for the contents themselves, which
 * the catalog's CRCs and hashes tell of: header, every record's header and padding, index, footer.
 * The index is under a CRC; each record must say the same as its entry and follow the one before. */
#include "internal.h"
#include "shard.h"

#include <string.h>

typedef struct check {
    const at_shard *shard;
    at_shard_damage_fn fn;
    void *context;
} check;

static void tell(const check *c, uint64_t offset, const char *what)
{
    c->fn(c->context, offset, what);
}

static bool all_zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i])
            return false;
    return true;
}

/* Where the index begins and how many records it has; false: told. */
static bool check_index(const check *c, uint64_t *begin, uint64_t *count)
{
    const at_shard *s = c->shard;
    size_t entries;
    if (s->size < AT_SHARD_HEADER + AT_SHARD_FOOTER) {
        tell(c, s->size, "it is cut off: there is no index");
        return false;
    }
    size_t end = s->size - AT_SHARD_FOOTER;
    const uint8_t *footer = s->data + end;
    *begin = at_get_u64(footer + 8);
    *count = at_get_u64(footer + 16);
    if (memcmp(footer, "ATOLLEND", 8) || at_get_u32(footer + 28) != 0 || *begin < AT_SHARD_HEADER ||
        *begin > end || !at_mul(*count, AT_SHARD_INDEX_ENTRY, end, &entries) ||
        *begin + entries != end) {
        tell(c, end, "its footer is damaged");
        return false;
    }
    if (at_crc32c(0, s->data + *begin, entries) != at_get_u32(footer + 24)) {
        tell(c, *begin, "its index is damaged (its CRC is wrong)");
        return false;
    }
    return true;
}

/* The record that an entry of the index tells of lies at `at`; returns where the next one does, 0 if
 * that is not known. */
static uint64_t check_record(const check *c, const uint8_t *entry, uint64_t at, uint64_t end)
{
    uint64_t offset = at_get_u64(entry + AT_SHARD_HASH);
    uint64_t bytes = at_get_u64(entry + AT_SHARD_HASH + 8);
    const uint8_t *record = c->shard->data + at;
    if (end - at < AT_SHARD_RECORD || offset != at + AT_SHARD_RECORD || bytes > end - offset ||
        at_shard_padding(bytes) > end - offset - bytes ||
        at_get_u32(entry + AT_SHARD_HASH + 20) != 0) {
        tell(c, at, "its index contradicts the records");
        return 0;
    }
    if (memcmp(record, "ATBR", 4) ||
        at_get_u32(record + 4) != at_get_u32(entry + AT_SHARD_HASH + 16) ||
        at_get_u64(record + 8) != bytes || memcmp(record + 16, entry, AT_SHARD_HASH))
        tell(c, at, "a record's header is damaged");
    if (!all_zero(c->shard->data + offset + bytes, at_shard_padding(bytes)))
        tell(c, offset + bytes, "the zeros behind a content are damaged");
    return offset + bytes + at_shard_padding(bytes);
}

void at_shard_check(const at_shard *shard, at_shard_damage_fn fn, void *context)
{
    check c = {.shard = shard, .fn = fn, .context = context};
    uint64_t begin, count, at = AT_SHARD_HEADER;
    if (!all_zero(shard->data + 16, AT_SHARD_HEADER - 16))
        tell(&c, 16, "its header is damaged");
    if (!check_index(&c, &begin, &count))
        return;
    for (uint64_t i = 0; i < count && at; i++)
        at = check_record(&c, shard->data + begin + i * AT_SHARD_INDEX_ENTRY, at, begin);
    if (at && at != begin)
        tell(&c, at, "its index contradicts the records");
}
