/* SPDX-License-Identifier: Apache-2.0
 * An item on its way from a source to the catalog: loading its bytes, and examining them.
 * What is wrong with one item never stops an ingest: it is recorded in the item. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KEPT_BYTES = 1 << 20 }; /* a buffer that grew beyond is given back */

void at_item_reset(at_item *item)
{
    item->path.length = item->file.length = item->class_name.length = item->exif.length = 0;
    item->split = AT_TRAIN;
    item->mtime = 0;
    item->bytes.size = 0;
    item->bad = item->remote = item->dropped = false;
    if (item->bytes.capacity > KEPT_BYTES)
        at_buffer_fini(&item->bytes);
}

void at_item_fini(at_item *item)
{
    at_text_fini(&item->path);
    at_text_fini(&item->file);
    at_text_fini(&item->class_name);
    at_text_fini(&item->exif);
    at_buffer_fini(&item->bytes);
}

void at_item_fail(at_item *item, at_reason reason, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(item->detail, sizeof item->detail, format, args);
    va_end(args);
    item->bad = true;
    item->reason = reason;
}

/* Whether the first bytes promise a picture, so that a film of 10 GB is not read in vain. */
static bool promising(at_item *item, size_t size, size_t limit)
{
    at_format_id format = at_format_sniff(item->bytes.data, item->bytes.size);
    if (size == 0)
        at_item_fail(item, AT_REASON_EMPTY, "0 bytes");
    else if (format == AT_FORMAT_NONE)
        at_item_fail(item, AT_REASON_NOT_AN_IMAGE, "neither PNG nor JPEG by its first bytes");
    else if (format == AT_FORMAT_FOREIGN)
        at_item_fail(item, AT_REASON_UNSUPPORTED, "a picture, but neither PNG nor JPEG");
    else if (size > limit)
        at_item_fail(item, AT_REASON_TOO_LARGE,
                     "%zu bytes, the limit is %zu, which --max-bytes raises", size, limit);
    return !item->bad;
}

/* Reads until .bytes holds `wanted` bytes or the file ends. */
static bool read_up_to(int fd, at_item *item, size_t wanted)
{
    while (item->bytes.size < wanted) {
        ssize_t n = read(fd, item->bytes.data + item->bytes.size, wanted - item->bytes.size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            at_item_fail(item, AT_REASON_UNREADABLE, "%s", strerror(errno));
        if (n <= 0)
            break;
        item->bytes.size += (size_t)n;
    }
    return !item->bad;
}

static void load_from(int fd, at_item *item, size_t limit)
{
    struct stat st;
    if (fstat(fd, &st)) {
        at_item_fail(item, AT_REASON_UNREADABLE, "%s", strerror(errno));
        return;
    }
    if (!S_ISREG(st.st_mode)) {
        at_item_fail(item, AT_REASON_UNREADABLE, "a pipe, a device or a folder, not a file");
        return;
    }
    item->mtime = st.st_mtime;
    size_t size = (size_t)st.st_size, first = size < AT_SNIFF_BYTES ? size : AT_SNIFF_BYTES;
    if (!at_buffer_reserve(&item->bytes, AT_SNIFF_BYTES)) {
        at_item_fail(item, AT_REASON_UNREADABLE, "out of memory");
        return;
    }
    if (!read_up_to(fd, item, first) || !promising(item, size, limit))
        return;
    if (!at_buffer_reserve(&item->bytes, size))
        at_item_fail(item, AT_REASON_TOO_LARGE, "no memory for %zu bytes", size);
    else
        read_up_to(fd, item, size);
}

/* O_NONBLOCK: a pipe that nobody writes to would be waited for, before it can be seen to be one. */
void at_item_load(at_item *item, size_t limit)
{
    item->bytes.size = 0;
    int fd = open(item->file.data, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        at_item_fail(item, AT_REASON_UNREADABLE, "%s", strerror(errno));
        return;
    }
    load_from(fd, item, limit);
    close(fd);
}

static at_reason reason_of(const char *text)
{
    at_reason r = 0;
    while (strcmp(at_error_reasons[r], text))
        r++;
    return r;
}

/* Of large photographs the statistics are those of a part of their size: the file is read and
 * checked in full all the same. */
static const at_reduction looked_at = {.height = 256, .width = 256, .over = 1 << 20};

void at_item_examine(at_item *item, at_decoder *decoder, const at_decode_limits *limits)
{
    at_image image;
    at_error err = {0};
    const char *reason = NULL;
    at_decoder_reduce(decoder, looked_at);
    if (at_decoder_decode(decoder, item->bytes.data, item->bytes.size, limits, &image, &reason,
                          &err) < 0) {
        const char *text = strchr(err.message, ' '); /* behind "reason: " */
        at_item_fail(item, reason_of(reason), "%s", text ? text + 1 : err.message);
        return;
    }
    item->format = at_format_sniff(item->bytes.data, item->bytes.size);
    item->stored = at_decoder_stored(decoder);
    item->width = item->stored.width;
    item->height = item->stored.height;
    item->channels = image.channels;
    at_pixel_stats_of(&image, &item->stats);
    size_t length;
    const uint8_t *exif = at_exif_find(item->bytes.data, item->bytes.size, &length);
    if (exif)
        at_exif_read(exif, length, &item->exif);
    at_content_hash(item->bytes.data, item->bytes.size, item->hash);
    item->crc = at_crc32c(0, item->bytes.data, item->bytes.size);
}
