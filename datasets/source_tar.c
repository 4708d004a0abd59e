/* SPDX-License-Identifier: Apache-2.0
 * Source: a tar, plain or compressed, with the layout of a folder; also a folder that holds just
 * such a file. Read once from front to end; members keep their order. A member that occurs twice is
 * taken the first time. source_zip.c reads zips by the same functions.
 *
 * Nothing is ever written under a member's name; one that leads out of the archive is set aside all
 * the same, since it is nobody's honest picture. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FIRST_BYTES = 1 << 16 };

static bool recognise(const char *path)
{
    char *file = at_archive_find(path);
    bool tar = file && !at_archive_is_zip(file);
    free(file);
    return tar;
}

int at_members_open(at_source *s, at_error *err)
{
    char *file = at_archive_find(s->path);
    if (!file)
        return at_fail(err, AT_EINPUT, "%s is no archive any more", s->path);
    struct stat st;
    if (stat(file, &st) == 0)
        s->total = (double)st.st_size;
    s->unit = "bytes";
    s->state = at_archive_open(file, err);
    free(file);
    return s->state ? 0 : AT_EINPUT;
}

/* Reads until .bytes holds `wanted` or the member ends. Memory grows with what there is, not with
 * what the header tells. */
static int read_up_to(at_archive *a, size_t wanted, at_item *item, at_error *err)
{
    at_buffer *b = &item->bytes;
    while (b->size < wanted) {
        if (b->size == b->capacity) {
            size_t more = b->size < FIRST_BYTES ? FIRST_BYTES : 2 * b->size;
            if (!at_buffer_reserve(b, more < wanted ? more : wanted))
                return at_nomem(err);
        }
        size_t room = b->capacity < wanted ? b->capacity : wanted;
        int64_t n = at_archive_read(a, b->data + b->size, room - b->size, err);
        if (n <= 0)
            return (int)n;
        b->size += (size_t)n;
    }
    return 0;
}

/* The member's bytes; a format that is no picture's is not read to its end. */
static int read_member(at_archive *a, size_t size, at_item *item, at_error *err)
{
    int code = read_up_to(a, size < AT_SNIFF_BYTES ? size : AT_SNIFF_BYTES, item, err);
    at_format_id format = at_format_sniff(item->bytes.data, item->bytes.size);
    if (code < 0 || format == AT_FORMAT_NONE || format == AT_FORMAT_FOREIGN)
        return code;
    code = read_up_to(a, size, item, err);
    if (code < 0)
        return code;
    uint8_t beyond; /* a zip's checksum is compared at the member's end */
    int64_t n = at_archive_read(a, &beyond, 1, err);
    if (n > 0)
        at_item_fail(item, AT_REASON_CORRUPT, "longer than the %zu bytes that the archive tells",
                     size);
    return n < 0 ? (int)n : 0;
}

/* Puts a member that could not be read aside, where the archive can be read on. */
static int set_aside(at_archive *a, at_item *item, const at_error *why, at_error *err)
{
    at_error worse = *why;
    if (at_archive_recover(a, &worse) < 0)
        return at_fail(err, worse.code, "%s", worse.message);
    const char *place = strstr(why->message, "at byte "); /* behind the archive's path */
    at_item_fail(item, at_archive_reason(a), "%s", place ? place : why->message);
    return 0;
}

static bool is_parent(const char *name)
{
    return !strncmp(name, "..", 2) && (name[2] == '/' || !name[2]);
}

static bool leads_out(const char *name)
{
    for (const char *slash; !is_parent(name); name = slash + 1)
        if (!(slash = strchr(name, '/')))
            return false;
    return true;
}

static int fill_item(at_source *s, const char *name, int64_t size, at_item *item, at_error *err)
{
    at_source_place(item);
    if (leads_out(name))
        at_item_fail(item, AT_REASON_UNSUPPORTED, "its name leads out of the archive");
    else if (size == AT_MEMBER_LINK)
        at_item_fail(item, AT_REASON_UNSUPPORTED, "a link");
    else if (size == AT_MEMBER_SPECIAL)
        at_item_fail(item, AT_REASON_UNREADABLE, "a pipe or a device, not a file");
    else if (size == AT_MEMBER_ENCRYPTED)
        at_item_fail(item, AT_REASON_UNSUPPORTED, "encrypted");
    else if ((uint64_t)size > s->limits.bytes)
        at_item_fail_for_size(item, (size_t)size, s->limits.bytes);
    if (item->bad)
        return 0;
    at_error why = {0};
    int code = read_member(s->state, (size_t)size, item, &why);
    return code < 0 ? set_aside(s->state, item, &why, err) : 0;
}

int at_members_next(at_source *s, at_item *item, at_error *err)
{
    at_archive *a = s->state;
    const char *name;
    int64_t size;
    for (;;) {
        int code = at_archive_next(a, &name, &size, &item->mtime, err);
        if (code <= 0)
            return code;
        s->done = at_archive_position(a);
        item->path.length = 0;
        at_text_add_utf8(&item->path, name);
        if (item->path.failed)
            return at_nomem(err);
        if (at_source_passes(s, item->path.data) || !strcmp(item->path.data, at_source_label_file))
            continue;
        code = fill_item(s, name, size, item, err);
        return code < 0 ? code : 1;
    }
}

void at_members_close(at_source *s)
{
    at_archive_close(s->state);
}

const at_source_kind at_source_tar = {.name = "tar",
                                      .recognise = recognise,
                                      .open = at_members_open,
                                      .next = at_members_next,
                                      .close = at_members_close};
