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

enum {
    KEPT_BYTES = 1 << 20, /* a buffer that grew beyond is given back */
    READ_TRIES = 3,
};

void at_item_reset(at_item *item)
{
    item->path.length = item->file.length = item->class_name.length = item->exif.length = 0;
    item->split = AT_TRAIN;
    item->coarse = 0;
    item->mtime = 0;
    item->bytes.size = item->frame.size = 0;
    item->frame_channels = 0;
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
    at_buffer_fini(&item->frame);
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

void at_item_fail_for_size(at_item *item, size_t bytes, size_t limit)
{
    at_item_fail(item, AT_REASON_TOO_LARGE, "%zu bytes, the limit is %zu, which --max-bytes raises",
                 bytes, limit);
}

void at_item_fail_for_time(at_item *item, double limit)
{
    at_item_fail(item, AT_REASON_TIMEOUT,
                 "decoding takes more than %g s of a CPU's time, which --max-seconds raises",
                 limit);
}

bool at_item_is_promising(at_item *item, size_t size, size_t limit)
{
    at_format_id format = at_format_sniff(item->bytes.data, item->bytes.size);
    if (size == 0)
        at_item_fail(item, AT_REASON_EMPTY, "0 bytes");
    else if (format == AT_FORMAT_NONE)
        at_item_fail(item, AT_REASON_NOT_AN_IMAGE, "neither PNG nor JPEG by its first bytes");
    else if (format == AT_FORMAT_FOREIGN)
        at_item_fail(item, AT_REASON_UNSUPPORTED, "a picture, but neither PNG nor JPEG");
    else if (size > limit)
        at_item_fail_for_size(item, size, limit);
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

/* Reads the file as st tells it to be. */
static bool load_once(int fd, const struct stat *st, at_item *item, size_t limit)
{
    size_t size = (size_t)st->st_size, first = size < AT_SNIFF_BYTES ? size : AT_SNIFF_BYTES;
    item->bytes.size = 0;
    item->mtime = st->st_mtime;
    if (!at_buffer_reserve(&item->bytes, AT_SNIFF_BYTES)) {
        at_item_fail(item, AT_REASON_UNREADABLE, "out of memory");
        return false;
    }
    if (!read_up_to(fd, item, first) || !at_item_is_promising(item, size, limit))
        return false;
    if (at_buffer_reserve(&item->bytes, size))
        return read_up_to(fd, item, size);
    at_item_fail(item, AT_REASON_TOO_LARGE, "no memory for %zu bytes", size);
    return false;
}

static bool same_state(const struct stat *a, const struct stat *b)
{
    return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* A file that somebody writes meanwhile would be the beginning of one picture and the end of another:
 * it is read anew, and set aside if it does not come to rest. */
static void load_from(int fd, at_item *item, size_t limit)
{
    struct stat before, after;
    int failed = fstat(fd, &after);
    if (!failed && !S_ISREG(after.st_mode)) {
        at_item_fail(item, AT_REASON_UNREADABLE, "%s, not a file",
                     S_ISDIR(after.st_mode)    ? "a folder"
                     : S_ISFIFO(after.st_mode) ? "a pipe"
                                               : "a device or a socket");
        return;
    }
    for (int tries = 0; !failed && tries < READ_TRIES; tries++) {
        before = after;
        item->bad = false;
        failed = lseek(fd, 0, SEEK_SET) < 0;
        bool read = !failed && load_once(fd, &before, item, limit);
        failed = failed || fstat(fd, &after);
        if (!failed && same_state(&before, &after) &&
            (!read || item->bytes.size == (size_t)before.st_size))
            return;
    }
    if (failed)
        at_item_fail(item, AT_REASON_UNREADABLE, "%s", strerror(errno));
    else
        at_item_fail(item, AT_REASON_UNREADABLE, "it changed while it was read, %d times",
                     READ_TRIES);
}

/* O_NONBLOCK: a pipe that nobody writes to would be waited for, before it can be seen to be one. */
void at_item_load(at_item *item, size_t limit)
{
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

bool at_item_decode(at_item *item, at_decoder *decoder, const at_decode_limits *limits,
                    at_reduction reduction, at_image *view)
{
    at_error err = {0};
    const char *reason = NULL;
    at_decoder_reduce(decoder, reduction);
    if (at_decoder_decode(decoder, item->bytes.data, item->bytes.size, limits, view, &reason,
                          &err) == 0)
        return true;
    const char *text = strchr(err.message, ' '); /* behind "reason: " */
    at_item_fail(item, reason_of(reason), "%s", text ? text + 1 : err.message);
    return false;
}

/* Of large photographs the statistics are those of a part of their size: the file is read and
 * checked in full all the same. */
static const at_reduction looked_at = {.height = 256, .width = 256, .over = 1 << 20};

void at_item_examine(at_item *item, at_decoder *decoder, const at_decode_limits *limits,
                     at_image *image)
{
    if (!at_item_decode(item, decoder, limits, looked_at, image))
        return;
    at_stored stored = at_decoder_stored(decoder);
    item->seen = (at_seen){.format = at_format_sniff(item->bytes.data, item->bytes.size),
                           .width = stored.width,
                           .height = stored.height,
                           .channels = image->channels,
                           .stored = stored};
    at_pixel_stats_of(image, &item->seen.stats);
    size_t length;
    const uint8_t *exif = at_exif_find(item->bytes.data, item->bytes.size, &length);
    if (exif)
        at_exif_read(exif, length, &item->exif);
}

bool at_item_fit(at_item *item, at_decoder *decoder, const at_decode_limits *limits,
                 const at_frame *frame, at_image *image, uint8_t *out)
{
    const at_reduction wanted = {.height = frame->height, .width = frame->width};
    bool decoded = image->pixels && at_decoder_serves(decoder, wanted);
    if (!decoded && !at_item_decode(item, decoder, limits, wanted, image))
        return false;
    at_error err = {0};
    at_frame own = *frame;
    item->frame_channels = own.channels = own.channels ? own.channels : image->channels;
    if (at_image_frame(image, &own, out, &err))
        at_item_fail(item, AT_REASON_TOO_LARGE, "%s", err.message);
    return !item->bad;
}

void at_item_hash(at_item *item)
{
    uint8_t digest[32];
    at_content_digest(item->bytes.data, item->bytes.size, digest);
    at_digest_to_hex(digest, item->hash);
    item->content_key = at_key_of_digest(digest);
    item->crc = at_crc32c(0, item->bytes.data, item->bytes.size);
}
