/* SPDX-License-Identifier: Apache-2.0
 * An item from a pipe: standard input, a FIFO, what a shell's <(...) gives. Its length is not known
 * before its end, and the end may never come: it is read up to the limit of bytes, for as long as the
 * limit of seconds, and left where its first bytes promise no picture. */
#include "item_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FIRST_BYTES = 1 << 16, LONGEST_WAIT = 250 /* milliseconds between looks for a Ctrl-C */ };

static bool is_standard_input(const char *path)
{
    return strcmp(path, "-") == 0;
}

bool at_item_is_stream(const at_item *item)
{
    struct stat st;
    return is_standard_input(item->file.data) ||
           (stat(item->file.data, &st) == 0 && S_ISFIFO(st.st_mode));
}

/* Waits for bytes or the end. A FIFO that nobody writes to yet has neither. */
static bool await(int fd, at_item *item, double deadline, double limit)
{
    struct pollfd file = {.fd = fd, .events = POLLIN};
    double left; /* milliseconds */
    while ((left = 1e3 * (deadline - at_now())) > 0 && !at_interrupted()) {
        int n = poll(&file, 1, left < LONGEST_WAIT ? 1 + (int)left : LONGEST_WAIT);
        if (n > 0)
            return true;
        if (n < 0 && errno != EINTR) {
            at_item_fail(item, AT_REASON_UNREADABLE, "%s", strerror(errno));
            return false;
        }
    }
    at_item_fail(item, AT_REASON_TIMEOUT,
                 "a pipe that does not end within %g s, which --max-seconds raises", limit);
    return false;
}

static bool make_room(at_item *item, size_t limit)
{
    at_buffer *b = &item->bytes;
    if (b->size < b->capacity)
        return true;
    size_t wanted = b->capacity < FIRST_BYTES / 2 ? FIRST_BYTES : 2 * b->capacity;
    if (wanted > limit)
        wanted = limit + 1; /* a byte too many tells that there are */
    if (at_buffer_reserve(b, wanted))
        return true;
    at_item_fail(item, AT_REASON_TOO_LARGE, "no memory for %zu bytes", wanted);
    return false;
}

/* 1: more may come, 0: the end; negative: what is wrong is recorded in the item. */
static int read_some(int fd, at_item *item, size_t limit)
{
    at_buffer *b = &item->bytes;
    if (!make_room(item, limit))
        return -1;
    ssize_t n = read(fd, b->data + b->size, b->capacity - b->size);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return 1;
    if (n < 0) {
        at_item_fail(item, AT_REASON_UNREADABLE, "%s", strerror(errno));
        return -1;
    }
    b->size += (size_t)n;
    if (b->size > limit)
        at_item_fail(item, AT_REASON_TOO_LARGE, "more than %zu bytes, which --max-bytes raises",
                     limit);
    else if (n == 0 || b->size >= AT_SNIFF_BYTES)
        at_item_is_promising(item, b->size, limit);
    return item->bad ? -1 : n > 0;
}

static void read_stream(int fd, at_item *item, const at_decode_limits *limits)
{
    double deadline = at_now() + limits->seconds;
    int more = 1;
    item->bytes.size = 0;
    while (more > 0 && await(fd, item, deadline, limits->seconds))
        more = read_some(fd, item, limits->bytes);
}

int at_item_load_stream(at_item *item, const at_decode_limits *limits, at_error *err)
{
    bool standard = is_standard_input(item->file.data);
    int fd = standard ? STDIN_FILENO : open(item->file.data, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        at_item_fail(item, AT_REASON_UNREADABLE, "%s", strerror(errno));
        return 0;
    }
    read_stream(fd, item, limits);
    if (!standard)
        close(fd);
    return at_interrupted() ? at_fail(err, AT_EINTERRUPTED, "interrupted") : 0;
}
