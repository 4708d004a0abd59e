/* SPDX-License-Identifier: Apache-2.0
 * Pictures that an ingest decoded, fitted to one frame: who fills a cache of that frame then need not
 * decode them again, which for photographs is most of the work.
 *
 * Their pixels lie one behind another in a file without a name, which ends with this process, however
 * it ends; nothing depends on them, since whoever misses one decodes it, and where room gets scarce all
 * are given up. Contents come in the order of their places in the shards, so that one is found by
 * bisection. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { PENDING_BYTES = 4 << 20, SPARED_BYTES = 256 << 20 /* of the disk, for others */ };

struct kept {
    int64_t shard;
    uint64_t offset; /* in it */
    uint64_t at;     /* of the pixels, in the file */
    int channels;
};

struct at_frames {
    at_frame frame;
    int fd;
    struct kept *kept;
    size_t count, capacity;
    at_buffer pending;
    uint64_t written; /* bytes of the file */
    bool failed;      /* none is kept any more */
};

static int open_unnamed(const char *folder)
{
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    char *path = fd < 0 ? at_path_join(folder, ".frames.XXXXXX") : NULL;
    if (path && (fd = mkostemp(path, O_CLOEXEC)) >= 0)
        unlink(path);
    free(path);
    return fd;
}

at_frames *at_frames_new(const at_frame *frame, const char *folder, at_error *err)
{
    at_frames *f = calloc(1, sizeof *f);
    if (!f) {
        at_nomem(err);
        return NULL;
    }
    f->frame = *frame;
    f->fd = open_unnamed(folder);
    if (f->fd >= 0)
        return f;
    at_fail_errno(err, errno, "cannot keep pictures in %s", folder);
    at_frames_free(f);
    return NULL;
}

void at_frames_free(at_frames *f)
{
    if (!f)
        return;
    if (f->fd >= 0)
        close(f->fd);
    at_buffer_fini(&f->pending);
    free(f->kept);
    free(f);
}

const at_frame *at_frames_frame(const at_frames *f)
{
    return f ? &f->frame : NULL;
}

/* ---- writing ---- */

void at_frames_drop(at_frames *f)
{
    f->failed = true;
    f->count = 0;
    if (ftruncate(f->fd, 0)) /* its room goes with the file, then */
        at_log(AT_LOG_DEBUG, "pictures kept for the cache: %s", strerror(errno));
}

static void give_up(at_frames *f, const char *why)
{
    at_log(AT_LOG_WARN, "pictures cannot be kept for the cache (%s): it decodes them again", why);
    at_frames_drop(f);
}

/* The cache will take as much again; and the data set may lie on this disk, too. */
static bool has_room(const at_frames *f)
{
    struct statvfs fs;
    uint64_t kept = f->written + f->pending.size;
    return fstatvfs(f->fd, &fs) || (uint64_t)fs.f_bavail * fs.f_frsize >= 2 * kept + SPARED_BYTES;
}

static void flush(at_frames *f)
{
    const uint8_t *from = f->pending.data;
    if (!f->failed && !has_room(f))
        give_up(f, "the disk is nearly full");
    for (size_t left = f->pending.size; left && !f->failed;) {
        ssize_t n = pwrite(f->fd, from, left, (off_t)f->written);
        if (n < 0 && errno != EINTR)
            give_up(f, strerror(errno));
        if (n > 0)
            from += n, left -= (size_t)n, f->written += (uint64_t)n;
    }
    f->pending.size = 0;
}

static bool grow(at_frames *f)
{
    size_t capacity = 2 * f->capacity + 1024;
    struct kept *more = realloc(f->kept, capacity * sizeof *more);
    if (!more)
        return false;
    f->kept = more;
    f->capacity = capacity;
    return true;
}

/* Room for one more; false: none is kept any more. */
static bool reserve(at_frames *f, size_t bytes)
{
    if (f->pending.size + bytes > PENDING_BYTES)
        flush(f);
    bool room = f->count < f->capacity || grow(f);
    if (!room || !at_buffer_reserve(&f->pending, bytes > PENDING_BYTES ? bytes : PENDING_BYTES))
        give_up(f, "out of memory");
    return !f->failed;
}

void at_frames_add(at_frames *f, const at_item *item, int64_t shard, uint64_t offset)
{
    size_t bytes = item->frame.size;
    if (f->failed || !item->frame_channels || !reserve(f, bytes))
        return;
    f->kept[f->count++] =
        (struct kept){shard, offset, f->written + f->pending.size, item->frame_channels};
    memcpy(f->pending.data + f->pending.size, item->frame.data, bytes);
    f->pending.size += bytes;
}

void at_frames_seal(at_frames *f)
{
    flush(f);
    at_buffer_fini(&f->pending);
}

/* ---- reading ---- */

static int compare(const void *a, const void *b)
{
    const struct kept *x = a, *y = b;
    if (x->shard != y->shard)
        return x->shard < y->shard ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static bool read_at(int fd, uint64_t at, uint8_t *out, size_t bytes)
{
    while (bytes) {
        ssize_t n = pread(fd, out, bytes, (off_t)at);
        if (n == 0 || (n < 0 && errno != EINTR))
            return false;
        if (n > 0)
            out += n, bytes -= (size_t)n, at += (uint64_t)n;
    }
    return true;
}

bool at_frames_read(const at_frames *f, const at_dataset *d, at_split split, size_t i, uint8_t *out,
                    int *channels, int32_t *label)
{
    struct kept place;
    if (!f->count || !at_dataset_place(d, split, i, &place.shard, &place.offset, label))
        return false;
    const struct kept *k = bsearch(&place, f->kept, f->count, sizeof *f->kept, compare);
    if (!k || k->channels > *channels)
        return false;
    at_frame frame = f->frame;
    *channels = frame.channels = k->channels;
    return read_at(f->fd, k->at, out, at_frame_bytes(&frame));
}
