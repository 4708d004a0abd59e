/* SPDX-License-Identifier: Apache-2.0
 * Shards: the original bytes of the pictures, appended to files of about 256 MiB.
 *
 * DATASET/shards/00000.atb, all numbers little-endian:
 *     header   "ATOLLSHD", u32 version (1), u32 number of this shard, 16 zero bytes
 *     record   "ATBR", u32 CRC32C of the content, u64 bytes, the content's hash (BLAKE2b-256,
 *              32 bytes), the content, zeros up to a multiple of 8
 *     ...
 *     index    for each record: hash (32 bytes), u64 offset of the content, u64 bytes,
 *              u32 CRC32C, u32 0
 *     footer   "ATOLLEND", u64 offset of the index, u64 number of records,
 *              u32 CRC32C of the index, u32 0
 *
 * A shard is readable without the catalog: by its index, or record after record where a crash left
 * no index. Invariants: a content lies in one shard only; a shard is over the limit only if its
 * first content is; the bytes depend on the contents and their order alone, so that an ingest that
 * was killed and resumed writes the same file. */
#include "shard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    VERSION = 1,
    WRITE_BUFFER = 1 << 20,
    WRITTEN_AHEAD = 8 << 20, /* bytes that the disk may get before a commit wants them there */
};

struct at_shard_writer {
    char *folder, *path;
    int fd; /* -1: none is open */
    uint8_t *buffer;
    size_t waiting; /* bytes in the buffer, WRITE_BUFFER at most */
    uint64_t limit, position;
    uint64_t on_its_way; /* so much of the file the disk was told to write */
    int64_t number;
    at_shard_record *records;
    size_t count, capacity;
};

static char *path_of(const char *folder, int64_t number)
{
    return at_format("%s/%05lld.atb", folder, (long long)number);
}

static int fail(const at_shard_writer *w, at_error *err)
{
    return at_fail_errno(err, errno, "cannot write %s", w->path);
}

static int write_all(at_shard_writer *w, const uint8_t *data, size_t bytes, at_error *err)
{
    while (bytes) {
        ssize_t n = write(w->fd, data, bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail(w, err);
        data += n;
        bytes -= (size_t)n;
    }
    return 0;
}

static int flush(at_shard_writer *w, at_error *err)
{
    int code = write_all(w, w->buffer, w->waiting, err);
    w->waiting = 0;
    if (code == 0 && w->position - w->on_its_way >= WRITTEN_AHEAD) {
        sync_file_range(w->fd, (off_t)w->on_its_way, (off_t)(w->position - w->on_its_way),
                        SYNC_FILE_RANGE_WRITE);
        w->on_its_way = w->position;
    }
    return code;
}

static int put(at_shard_writer *w, const void *data, size_t bytes, at_error *err)
{
    int code = bytes > WRITE_BUFFER - w->waiting ? flush(w, err) : 0;
    if (code == 0 && bytes > WRITE_BUFFER)
        code = write_all(w, data, bytes, err);
    else if (code == 0 && bytes) {
        memcpy(w->buffer + w->waiting, data, bytes);
        w->waiting += bytes;
    }
    w->position += bytes;
    return code;
}

/* ---- files ---- */

static int begin_shard(at_shard_writer *w, at_error *err)
{
    uint8_t header[AT_SHARD_HEADER] = "ATOLLSHD";
    at_put_u32(header + 8, VERSION);
    at_put_u32(header + 12, (uint32_t)w->number);
    w->position = w->on_its_way = 0;
    w->count = 0;
    return put(w, header, sizeof header, err);
}

/* Opens shard w->number with its first `bytes` bytes; 0: anew. */
static int open_shard(at_shard_writer *w, uint64_t bytes, at_error *err)
{
    free(w->path);
    w->path = path_of(w->folder, w->number);
    if (!w->path)
        return at_nomem(err);
    w->fd = open(w->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    struct stat st;
    if (w->fd < 0 || fstat(w->fd, &st))
        return fail(w, err);
    if ((uint64_t)st.st_size < bytes)
        return at_fail(
            err, AT_EINPUT,
            "%s has %lld bytes where the catalog counts %llu: begin anew without --resume", w->path,
            (long long)st.st_size, (unsigned long long)bytes);
    if (ftruncate(w->fd, (off_t)bytes) || lseek(w->fd, (off_t)bytes, SEEK_SET) < 0)
        return fail(w, err);
    w->position = w->on_its_way = bytes;
    return bytes ? 0 : begin_shard(w, err);
}

static int write_index(at_shard_writer *w, at_error *err)
{
    uint8_t entry[AT_SHARD_INDEX_ENTRY], footer[AT_SHARD_FOOTER] = "ATOLLEND";
    uint32_t crc = 0;
    at_put_u64(footer + 8, w->position);
    at_put_u64(footer + 16, w->count);
    for (size_t i = 0; i < w->count; i++) {
        const at_shard_record *r = &w->records[i];
        memset(entry, 0, sizeof entry);
        at_digest_of_hex(r->hash, entry);
        at_put_u64(entry + AT_SHARD_HASH, r->offset);
        at_put_u64(entry + AT_SHARD_HASH + 8, r->bytes);
        at_put_u32(entry + AT_SHARD_HASH + 16, r->crc);
        crc = at_crc32c(crc, entry, sizeof entry);
        int code = put(w, entry, sizeof entry, err);
        if (code < 0)
            return code;
    }
    at_put_u32(footer + 24, crc);
    return put(w, footer, sizeof footer, err);
}

int at_shard_sync(at_shard_writer *w, at_error *err)
{
    int code = flush(w, err);
    return code == 0 && fdatasync(w->fd) ? fail(w, err) : code;
}

int at_shard_seal(at_shard_writer *w, at_error *err)
{
    int code = write_index(w, err);
    if (code == 0)
        code = flush(w, err);
    if (code == 0)
        sync_file_range(w->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    free(w->records);
    w->records = NULL;
    w->count = w->capacity = 0;
    return code;
}

static int finish_shard(at_shard_writer *w, at_error *err)
{
    int code = at_shard_seal(w, err);
    if (code == 0)
        code = at_shard_sync(w, err);
    if (close(w->fd) && code == 0)
        code = fail(w, err);
    w->fd = -1;
    return code;
}

/* ---- writing ---- */

int at_shard_remove_from(const char *folder, int64_t number, at_error *err)
{
    for (int64_t n = number;; n++) {
        char *path = path_of(folder, n);
        if (!path)
            return at_nomem(err);
        int failed = unlink(path), reason = errno;
        int code =
            failed && reason != ENOENT ? at_fail_errno(err, reason, "cannot remove %s", path) : 0;
        free(path);
        if (failed)
            return code;
    }
}

at_shard_writer *at_shard_writer_open(const char *folder, uint64_t limit, int64_t shard,
                                      uint64_t bytes, at_shard_record *records, size_t count,
                                      at_error *err)
{
    at_shard_writer *w = calloc(1, sizeof *w);
    if (w)
        w->fd = -1;
    if (!w || !(w->folder = strdup(folder)) || !(w->buffer = malloc(WRITE_BUFFER))) {
        free(records);
        at_nomem(err);
        goto fail_open;
    }
    w->limit = limit;
    w->number = shard;
    w->records = records;
    w->capacity = count;
    if (at_make_dirs(folder, err) < 0 || open_shard(w, bytes, err) < 0 ||
        at_shard_remove_from(folder, shard + 1, err) < 0)
        goto fail_open;
    w->count = count;
    return w;
fail_open:
    at_shard_writer_close(w);
    return NULL;
}

void at_shard_writer_close(at_shard_writer *w)
{
    if (!w)
        return;
    if (w->fd >= 0)
        close(w->fd);
    free(w->buffer);
    free(w->records);
    free(w->path);
    free(w->folder);
    free(w);
}

int at_shard_place(at_shard_writer *w, size_t bytes, int64_t *shard, uint64_t *offset,
                   at_error *err)
{
    if (w->count && w->position + AT_SHARD_RECORD + bytes > w->limit) {
        int code = finish_shard(w, err);
        if (code < 0)
            return code;
        w->number++;
        code = open_shard(w, 0, err);
        if (code < 0)
            return code;
    }
    *shard = w->number;
    *offset = w->position + AT_SHARD_RECORD;
    return 0;
}

static bool remember(at_shard_writer *w, const at_shard_record *record)
{
    if (w->count == w->capacity) {
        size_t capacity = w->capacity ? 2 * w->capacity : 1024;
        at_shard_record *records = realloc(w->records, capacity * sizeof *records);
        if (!records)
            return false;
        w->records = records;
        w->capacity = capacity;
    }
    w->records[w->count++] = *record;
    return true;
}

int at_shard_append(at_shard_writer *w, const void *data, size_t bytes, const char *hash,
                    uint32_t crc, at_error *err)
{
    static const uint8_t zeros[8];
    uint8_t header[AT_SHARD_RECORD] = "ATBR";
    at_shard_record record = {.offset = w->position + AT_SHARD_RECORD, .bytes = bytes, .crc = crc};
    memcpy(record.hash, hash, sizeof record.hash);
    at_put_u32(header + 4, crc);
    at_put_u64(header + 8, bytes);
    at_digest_of_hex(hash, header + 16);
    if (!remember(w, &record))
        return at_nomem(err);
    int code = put(w, header, sizeof header, err);
    if (code == 0)
        code = put(w, data, bytes, err);
    return code < 0 ? code : put(w, zeros, at_shard_padding(bytes), err);
}

void at_shard_end(const at_shard_writer *w, int64_t *shard, uint64_t *bytes)
{
    *shard = w->number;
    *bytes = w->position;
}

/* ---- reading ---- */

int at_shard_map(const char *folder, int64_t number, at_shard *out, at_error *err)
{
    *out = (at_shard){.path = path_of(folder, number)};
    if (!out->path)
        return at_nomem(err);
    int fd = open(out->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe is no shard */
    struct stat st;
    if (fd < 0 || fstat(fd, &st)) {
        int code = at_fail_errno(err, errno, "cannot read %s", out->path);
        if (fd >= 0)
            close(fd);
        return code;
    }
    void *data = st.st_size < AT_SHARD_HEADER
                     ? MAP_FAILED
                     : mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (data == MAP_FAILED)
        return at_fail(err, AT_EINPUT, "%s: %lld bytes are no shard", out->path,
                       (long long)st.st_size);
    out->data = data;
    out->size = (size_t)st.st_size;
    if (memcmp(data, "ATOLLSHD", 8) || at_get_u32(out->data + 8) != VERSION ||
        at_get_u32(out->data + 12) != (uint32_t)number)
        return at_fail(err, AT_EINPUT, "%s: its header is not that of shard %lld in format %d",
                       out->path, (long long)number, VERSION);
    return 0;
}

void at_shard_unmap(at_shard *shard)
{
    if (shard->data)
        munmap((void *)(uintptr_t)shard->data, shard->size);
    free(shard->path);
    *shard = (at_shard){0};
}
