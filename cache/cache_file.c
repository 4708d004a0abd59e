/* SPDX-License-Identifier: Apache-2.0
 * The batch cache on disk. A cache is a folder:
 *
 *     train.atc val.atc test.atc    a split's samples, decoded and fitted to one size
 *     meta.json                     class names, data set, transform, statistics of the train split
 *     used                          empty; its time of modification is the last use
 *     damaged                       empty; there when a batch was found damaged
 *
 * An .atc file, numbers little-endian, every part beginning on a page of 4096 bytes:
 *
 *     offset             bytes
 *     0                  4096            header: at_cache_header (internal.h), zeros, and in the
 *                                        last 4 bytes the CRC32C of the 4092 before
 *     4096               to data_offset  table: uint32 CRC32C of every batch, then zeros;
 *                                        header.table_crc is the CRC32C of this part
 *     data_offset        batch_bytes     batch 0
 *     + b * batch_bytes  batch_bytes     batch b, up to `batches`; there the file ends
 *
 *     A batch:  uint8 pixels [batch_samples, height, width, channels]
 *               zeros to a multiple of 4
 *               int32 labels [batch_samples]
 *               zeros to the end of the page; unused samples of the last batch are zeros too
 *
 * Sample i is the (i % batch_samples)-th of batch i / batch_samples, in the data set's order.
 * header.meta_crc is the CRC32C of meta.json. So every byte is under one CRC, and the header alone
 * tells how long the file is. The header is written last: a file without one is not complete.
 *
 * Opening reads the header and the table only; a batch is checked when it is first used. Readers
 * hold a shared lock (fcntl, open file description) on the file while it is mapped; eviction takes
 * an exclusive one and then moves the folder away, so who gets the lock looks whether the path
 * still leads to the file.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static_assert(sizeof(at_cache_header) == 152, "the header has no holes");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers on disk are the host's");

static const char magic[8] = {'A', 'T', 'C', 'A', 'C', 'H', 'E', '\n'};
enum { CRC_OFFSET = AT_CACHE_PAGE - 4 };

/* ---- layout -------------------------------------------------------------------------------- */

static bool round_to_page(size_t bytes, size_t *out)
{
    return at_mul(bytes / AT_CACHE_PAGE + (bytes % AT_CACHE_PAGE != 0), AT_CACHE_PAGE, INT64_MAX,
                  out);
}

size_t at_cache_sample_bytes(const at_cache_header *h)
{
    return (size_t)h->height * h->width * h->channels;
}

size_t at_cache_labels_offset(const at_cache_header *h)
{
    return (h->batch_samples * at_cache_sample_bytes(h) + 3) / 4 * 4;
}

int at_cache_header_layout(at_cache_header *h, const char *path, at_error *err)
{
    bool grey_or_rgb = h->channels == 1 || h->channels == 3;
    if (!h->height || !h->width || h->height > AT_CACHE_MAX_SIDE || h->width > AT_CACHE_MAX_SIDE ||
        !grey_or_rgb)
        return at_fail(err, AT_EINPUT,
                       "%s: samples of %ux%ux%u (height, width, channels): sides must be in 1..%d "
                       "and channels 1 or 3",
                       path, h->height, h->width, h->channels, AT_CACHE_MAX_SIDE);
    if (h->samples > UINT32_MAX || h->classes > AT_CACHE_MAX_CLASSES)
        return at_fail(err, AT_EINPUT, "%s: %llu samples of %u classes are too many", path,
                       (unsigned long long)h->samples, h->classes);
    memcpy(h->magic, magic, sizeof magic);
    h->version = AT_CACHE_VERSION;
    h->batch_samples = AT_CACHE_BATCH;
    while (h->batch_samples > 1 &&
           h->batch_samples * at_cache_sample_bytes(h) > AT_CACHE_BATCH_BYTES)
        h->batch_samples /= 2;
    h->batches = h->samples / h->batch_samples + (h->samples % h->batch_samples != 0);

    size_t table, batch, data;
    bool fits =
        round_to_page(h->batches * sizeof(uint32_t), &table) &&
        round_to_page(at_cache_labels_offset(h) + h->batch_samples * sizeof(int32_t), &batch) &&
        at_mul(h->batches, batch, INT64_MAX / 2, &data);
    if (!fits)
        return at_fail(err, AT_EINPUT, "%s: %llu samples of %zu bytes are too many", path,
                       (unsigned long long)h->samples, at_cache_sample_bytes(h));
    h->batch_bytes = batch;
    h->data_offset = AT_CACHE_PAGE + table;
    h->file_bytes = h->data_offset + data;
    return 0;
}

/* ---- writing ------------------------------------------------------------------------------- */

int at_cache_write(int fd, const char *path, const void *data, size_t bytes, uint64_t offset,
                   at_error *err)
{
    const char *from = data;
    while (bytes) {
        ssize_t written = pwrite(fd, from, bytes, (off_t)offset);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return at_fail_errno(err, errno, "cannot write %s", path);
        from += written;
        bytes -= (size_t)written;
        offset += (uint64_t)written;
    }
    return 0;
}

int at_cache_file_finish(int fd, const char *path, at_cache_header *h, const uint32_t *crcs,
                         at_error *err)
{
    size_t table_bytes = h->data_offset - AT_CACHE_PAGE;
    uint8_t *front = calloc(1, h->data_offset);
    if (!front)
        return at_nomem(err);
    if (h->batches)
        memcpy(front + AT_CACHE_PAGE, crcs, h->batches * sizeof *crcs);
    h->table_crc = at_crc32c(0, front + AT_CACHE_PAGE, table_bytes);
    memcpy(front, h, sizeof *h);
    uint32_t crc = at_crc32c(0, front, CRC_OFFSET);
    memcpy(front + CRC_OFFSET, &crc, sizeof crc);
    int rc = at_cache_write(fd, path, front, h->data_offset, 0, err);
    free(front);
    if (!rc && fsync(fd))
        rc = at_fail_errno(err, errno, "cannot write %s", path);
    return rc;
}

/* ---- opening ------------------------------------------------------------------------------- */

static int open_and_lock(at_cache_file *f, at_error *err)
{
    struct stat mine, now;
    f->fd = open(f->path, O_RDONLY | O_CLOEXEC);
    if (f->fd < 0)
        return at_fail_errno(err, errno, "cannot open %s", f->path);
    struct flock shared = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    bool going = fcntl(f->fd, F_OFD_SETLK, &shared) && (errno == EAGAIN || errno == EACCES);
    if (fstat(f->fd, &mine))
        return at_fail_errno(err, errno, "cannot read %s", f->path);
    going = going || stat(f->path, &now) || now.st_ino != mine.st_ino || now.st_dev != mine.st_dev;
    if (going)
        return at_fail(err, AT_ENOENT, "%s is being removed", f->path);
    if (!S_ISREG(mine.st_mode))
        return at_fail(err, AT_EINPUT, "%s is not a file", f->path);
    f->header.file_bytes = (uint64_t)mine.st_size;
    return 0;
}

static int check_magic(const at_cache_file *f, const at_cache_header *h, at_error *err)
{
    if (memcmp(h->magic, magic, sizeof magic) != 0)
        return at_fail(err, AT_EINPUT, "%s is not a file of an atoll cache: wrong magic at 0",
                       f->path);
    uint32_t crc;
    memcpy(&crc, f->map + CRC_OFFSET, sizeof crc);
    if (crc != at_crc32c(0, f->map, CRC_OFFSET))
        return at_fail(err, AT_EINPUT, "%s: the header at 0 is damaged: wrong CRC32C", f->path);
    if (h->version != AT_CACHE_VERSION)
        return at_fail(err, AT_EINPUT,
                       "%s: version %u of the format, this program reads %d: make it anew with "
                       "atoll cache build",
                       f->path, h->version, AT_CACHE_VERSION);
    return 0;
}

/* The header must say what its own shape and counts lead to, and the file be as long as that. */
static int check_layout(const at_cache_file *f, const at_cache_header *h, uint64_t file_bytes,
                        at_split split, at_error *err)
{
    at_cache_header expected = *h;
    int rc = at_cache_header_layout(&expected, f->path, err);
    if (rc)
        return rc;
    bool has_hash = strnlen(h->dataset_hash, sizeof h->dataset_hash) >= AT_CACHE_KEY;
    if (memcmp(&expected, h, sizeof expected) != 0 || h->split != (uint32_t)split || !has_hash)
        return at_fail(err, AT_EINPUT, "%s: the header at 0 contradicts itself", f->path);
    if (h->file_bytes != file_bytes)
        return at_fail(err, AT_EINPUT, "%s has %llu bytes, but its header says %llu", f->path,
                       (unsigned long long)file_bytes, (unsigned long long)h->file_bytes);
    if (h->table_crc != at_crc32c(0, f->map + AT_CACHE_PAGE, h->data_offset - AT_CACHE_PAGE))
        return at_fail(err, AT_EINPUT, "%s: the table at %d is damaged: wrong CRC32C", f->path,
                       AT_CACHE_PAGE);
    return 0;
}

static int map_and_check(at_cache_file *f, at_split split, at_error *err)
{
    uint64_t file_bytes = f->header.file_bytes;
    if (file_bytes < AT_CACHE_PAGE || file_bytes > INT64_MAX)
        return at_fail(err, AT_EINPUT, "%s has %llu bytes, which is too short for a header",
                       f->path, (unsigned long long)file_bytes);
    void *map = mmap(NULL, file_bytes, PROT_READ, MAP_SHARED, f->fd, 0);
    if (map == MAP_FAILED)
        return at_fail_errno(err, errno, "cannot map %s", f->path);
    f->map = map;
    at_cache_header h;
    memcpy(&h, f->map, sizeof h);
    int rc = check_magic(f, &h, err);
    if (!rc)
        rc = check_layout(f, &h, file_bytes, split, err);
    if (rc)
        return rc;
    f->header = h;
    f->sample_bytes = at_cache_sample_bytes(&h);
    f->labels_offset = at_cache_labels_offset(&h);
    f->checked = calloc(h.batches / 64 + 1, sizeof *f->checked);
    return f->checked ? 0 : at_nomem(err);
}

int at_cache_file_open(at_cache_file *f, const char *folder, at_split split, at_error *err)
{
    *f = (at_cache_file){.fd = -1};
    f->path = at_format("%s/%s.atc", folder, at_split_name(split));
    if (!f->path)
        return at_nomem(err);
    int rc = open_and_lock(f, err);
    if (!rc)
        rc = map_and_check(f, split, err);
    if (rc)
        at_cache_file_close(f);
    return rc;
}

/* Also for one that is only zeroed. */
void at_cache_file_close(at_cache_file *f)
{
    if (!f->path)
        return;
    if (f->map)
        munmap((void *)(uintptr_t)f->map, f->header.file_bytes);
    if (f->fd >= 0)
        close(f->fd);
    free(f->checked);
    free(f->path);
    *f = (at_cache_file){.fd = -1};
}

/* ---- using --------------------------------------------------------------------------------- */

static int check_labels(const at_cache_file *f, size_t batch, uint64_t offset, at_error *err)
{
    const at_cache_header *h = &f->header;
    const int32_t *labels = (const void *)(f->map + offset + f->labels_offset);
    for (size_t i = 0; i < h->batch_samples; i++)
        if (labels[i] < 0 || (uint32_t)labels[i] >= h->classes)
            return at_fail(err, AT_EINPUT, "%s: sample %zu has label %d, but there are %u classes",
                           f->path, batch * h->batch_samples + i, labels[i], h->classes);
    return 0;
}

int at_cache_file_check(at_cache_file *f, size_t batch, at_error *err)
{
    const at_cache_header *h = &f->header;
    _Atomic uint64_t *word = &f->checked[batch / 64];
    uint64_t bit = (uint64_t)1 << (batch % 64);
    if (atomic_load_explicit(word, memory_order_relaxed) & bit)
        return 0;
    uint64_t offset = h->data_offset + batch * h->batch_bytes;
    uint32_t expected;
    memcpy(&expected, f->map + AT_CACHE_PAGE + batch * sizeof expected, sizeof expected);
    uint32_t crc = at_crc32c(0, f->map + offset, h->batch_bytes);
    if (crc != expected)
        return at_fail(err, AT_EINPUT,
                       "%s: batch %zu at offset %llu is damaged: CRC32C %08x, expected %08x",
                       f->path, batch, (unsigned long long)offset, crc, expected);
    int rc = check_labels(f, batch, offset, err);
    if (!rc)
        atomic_fetch_or_explicit(word, bit, memory_order_relaxed);
    return rc;
}
