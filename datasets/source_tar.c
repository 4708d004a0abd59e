/* SPDX-License-Identifier: Apache-2.0
 * Source: a tar, plain or compressed, with the layout of a folder; also a folder that holds just
 * such a file. Read once from front to end; members keep their order. A member that occurs twice is
 * taken the first time. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MEMBER_LIMIT = 256 << 20 };

static bool recognise(const char *path)
{
    char *file = at_archive_find(path);
    free(file);
    return file != NULL;
}

static int open_tar(at_source *s, at_error *err)
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

/* The member's bytes; a format that is no picture's is not read to its end. */
static int read_member(at_archive *a, int64_t size, at_item *item, at_error *err)
{
    size_t wanted = size < AT_SNIFF_BYTES ? (size_t)size : AT_SNIFF_BYTES;
    for (;;) {
        if (!at_buffer_reserve(&item->bytes, wanted ? wanted : 1))
            return at_nomem(err);
        while (item->bytes.size < wanted) {
            int64_t n = at_archive_read(a, item->bytes.data + item->bytes.size,
                                        wanted - item->bytes.size, err);
            if (n < 0)
                return (int)n;
            if (n == 0)
                return 0;
            item->bytes.size += (size_t)n;
        }
        at_format_id format = at_format_sniff(item->bytes.data, item->bytes.size);
        if (wanted == (size_t)size || format == AT_FORMAT_NONE || format == AT_FORMAT_FOREIGN)
            return 0;
        wanted = (size_t)size;
    }
}

static int next(at_source *s, at_item *item, at_error *err)
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
        if (at_keys_has_path(s->skip, item->path.data) ||
            !strcmp(item->path.data, at_source_label_file))
            continue;
        at_source_place(item);
        if (size < 0) {
            at_item_fail(item, AT_REASON_UNSUPPORTED, "a link");
            return 1;
        }
        if (size > MEMBER_LIMIT) {
            at_item_fail(item, AT_REASON_TOO_LARGE, "%lld bytes", (long long)size);
            return 1;
        }
        code = read_member(a, size, item, err);
        return code < 0 ? code : 1;
    }
}

static void close_tar(at_source *s)
{
    at_archive_close(s->state);
}

const at_source_kind at_source_tar = {
    .name = "tar", .recognise = recognise, .open = open_tar, .next = next, .close = close_tar};
