/* SPDX-License-Identifier: Apache-2.0
 * The batch cache on disk. A cache is a folder:
 *
 *     train.atc val.atc test.atc    a split's samples
 *     meta.json                     class names, data set, transform, statistics of the train split
 *     used                          empty; its time of modification is the last use
 *     damaged                       empty; there when a batch was found damaged
 *
 * An .atc file, numbers little-endian; header, table and batches each begin on a page of 4096 bytes:
 *
 *     offset        bytes
 *     0             4096            header: at_cache_header (internal.h), zeros, and in the last 4
 *                                   bytes the CRC32C of the 4092 before
 *     4096          to data_offset  table: uint32 CRC32C of every batch, int32 label of every
 *                                   sample, of the encoded form uint64 end of every sample's bytes,
 *                                   each of these from a multiple of 8 on, then zeros;
 *                                   header.table_crc is the CRC32C of this part
 *     data_offset   data_bytes      the batches, one behind another; there the file ends
 *
 *     uint8: a batch is uint8 pixels [batch_samples, height, width, channels], zeros to the end of
 *     its page; unused samples of the last batch are zeros too. Sample i is the
 *     (i % batch_samples)-th of batch i / batch_samples, in the data set's order.
 *
 *     encoded: a batch is one sample, the bytes of its file; sample i lies from the end of the one
 *     before to its own, counted from data_offset. They are fitted when they are read.
 *
 * header.meta_crc is the CRC32C of meta.json. So every byte is under one CRC, and the header tells
 * how long the file is. The header is written last: a file without one is not complete. All of it
 * depends on data set and transform alone: a cache that is made again has the same bytes.
 *
 * Opening reads header, table and meta.json; a batch is checked when it is first used. Readers hold
 * a shared lock (fcntl, open file description) on the file while it is mapped; eviction takes an
 * exclusive one and then moves the folder away, so who gets the lock looks whether the path still
 * leads to the file.
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

size_t at_cache_batch_bytes(const at_cache_header *h)
{
    return (h->batch_samples * at_cache_sample_bytes(h) + AT_CACHE_PAGE - 1) / AT_CACHE_PAGE *
           AT_CACHE_PAGE;
}

at_frame at_cache_header_frame(const at_cache_header *h)
{
    return (at_frame){(int)h->height, (int)h->width, (int)h->channels, (at_fit)h->fit};
}

static size_t round_to_8(size_t bytes)
{
    return (bytes + 7) / 8 * 8;
}

/* Offsets in the table, which has up to 2^32 entries of each kind. */
static size_t labels_offset(const at_cache_header *h)
{
    return round_to_8(h->batches * sizeof(uint32_t));
}

static size_t ends_offset(const at_cache_header *h)
{
    return labels_offset(h) + round_to_8(h->samples * sizeof(int32_t));
}

static size_t table_bytes(const at_cache_header *h)
{
    return ends_offset(h) + (h->form == AT_FORM_ENCODED ? h->samples * sizeof(uint64_t) : 0);
}

static int check_bounds(const at_cache_header *h, const char *path, at_error *err)
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
    if (h->fit >= AT_FITS || h->form >= AT_FORMS)
        return at_fail(err, AT_EINPUT, "%s: fit %u and form %u are unknown", path, h->fit, h->form);
    return 0;
}

int at_cache_header_layout(at_cache_header *h, const char *path, at_error *err)
{
    int rc = check_bounds(h, path, err);
    if (rc)
        return rc;
    memcpy(h->magic, magic, sizeof magic);
    h->version = AT_CACHE_VERSION;
    h->batch_samples = h->form == AT_FORM_ENCODED ? 1 : AT_CACHE_BATCH;
    while (h->batch_samples > 1 &&
           h->batch_samples * at_cache_sample_bytes(h) > AT_CACHE_BATCH_BYTES)
        h->batch_samples /= 2;
    h->batches = h->samples / h->batch_samples + (h->samples % h->batch_samples != 0);
    size_t table, data = h->data_bytes;
    bool fits = h->form == AT_FORM_ENCODED ||
                at_mul(h->batches, at_cache_batch_bytes(h), INT64_MAX / 2, &data);
    if (!fits || data > INT64_MAX / 2 || !round_to_page(table_bytes(h), &table))
        return at_fail(err, AT_EINPUT, "%s: %llu samples of %zu bytes are too many", path,
                       (unsigned long long)h->samples, at_cache_sample_bytes(h));
    h->data_bytes = data;
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

int at_cache_file_finish(int fd, const char *path, at_cache_header *h, const at_cache_table *table,
                         at_error *err)
{
    uint8_t *front = calloc(1, h->data_offset);
    if (!front)
        return at_nomem(err);
    uint8_t *at = front + AT_CACHE_PAGE;
    if (h->samples) {
        memcpy(at, table->crcs, h->batches * sizeof *table->crcs);
        memcpy(at + labels_offset(h), table->labels, h->samples * sizeof *table->labels);
        if (h->form == AT_FORM_ENCODED)
            memcpy(at + ends_offset(h), table->ends, h->samples * sizeof *table->ends);
    }
    h->table_crc = at_crc32c(0, at, h->data_offset - AT_CACHE_PAGE);
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
    f->fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
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

/* A page that begins a file; the header's CRC is where it was in every version. */
static int check_magic(const uint8_t *page, const char *path, at_error *err)
{
    at_cache_header h;
    uint32_t crc;
    memcpy(&h, page, sizeof h);
    memcpy(&crc, page + CRC_OFFSET, sizeof crc);
    if (memcmp(h.magic, magic, sizeof magic) != 0)
        return at_fail(err, AT_EINPUT, "%s is not a file of an atoll cache: wrong magic at 0",
                       path);
    if (crc != at_crc32c(0, page, CRC_OFFSET))
        return at_fail(err, AT_EINPUT, "%s: the header at 0 is damaged: wrong CRC32C", path);
    if (h.version != AT_CACHE_VERSION)
        return at_fail(err, AT_EINPUT,
                       "%s: version %u of the format, this program reads %d: `atoll cache build "
                       "DATASET --out CACHE` makes the cache anew",
                       path, h.version, AT_CACHE_VERSION);
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

/* What a right CRC does not tell: the file may come from elsewhere. */
static int check_table(const at_cache_file *f, at_error *err)
{
    const at_cache_header *h = &f->header;
    for (size_t i = 0; i < h->samples; i++)
        if (f->labels[i] < 0 || (uint32_t)f->labels[i] >= h->classes)
            return at_fail(err, AT_EINPUT, "%s: sample %zu has label %d, but there are %u classes",
                           f->path, i, f->labels[i], h->classes);
    uint64_t end = 0;
    for (size_t i = 0; f->ends && i < h->samples; end = f->ends[i++])
        if (f->ends[i] < end || f->ends[i] > h->data_bytes)
            return at_fail(err, AT_EINPUT,
                           "%s: sample %zu ends at %llu, before it begins or behind the file",
                           f->path, i, (unsigned long long)f->ends[i]);
    if (f->ends && end != h->data_bytes)
        return at_fail(err, AT_EINPUT, "%s: samples end at %llu of %llu bytes", f->path,
                       (unsigned long long)end, (unsigned long long)h->data_bytes);
    return 0;
}

static void lay_out(at_cache_file *f)
{
    const at_cache_header *h = &f->header;
    const uint8_t *table = f->map + AT_CACHE_PAGE;
    f->crcs = (const void *)table;
    f->labels = (const void *)(table + labels_offset(h));
    f->ends = h->form == AT_FORM_ENCODED ? (const void *)(table + ends_offset(h)) : NULL;
    f->sample_bytes = at_cache_sample_bytes(h);
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
    int rc = check_magic(f->map, f->path, err);
    if (!rc)
        rc = check_layout(f, &h, file_bytes, split, err);
    if (rc)
        return rc;
    f->header = h;
    lay_out(f);
    f->checked = calloc(h.batches / 64 + 1, sizeof *f->checked);
    return f->checked ? check_table(f, err) : at_nomem(err);
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

bool at_cache_header_read(const char *folder, at_split split, at_cache_header *out)
{
    uint8_t page[AT_CACHE_PAGE];
    char *path = at_format("%s/%s.atc", folder, at_split_name(split));
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    bool there = fd >= 0 && pread(fd, page, sizeof page, 0) == (ssize_t)sizeof page &&
                 check_magic(page, path, NULL) == 0;
    if (fd >= 0)
        close(fd);
    free(path);
    if (there)
        memcpy(out, page, sizeof *out);
    return there && check_bounds(out, "", NULL) == 0;
}

/* ---- using --------------------------------------------------------------------------------- */

void at_cache_file_batch(const at_cache_file *f, size_t b, uint64_t *offset, size_t *bytes)
{
    uint64_t begin = f->ends ? (b ? f->ends[b - 1] : 0) : b * at_cache_batch_bytes(&f->header);
    *bytes = f->ends ? f->ends[b] - begin : at_cache_batch_bytes(&f->header);
    *offset = f->header.data_offset + begin;
}

int at_cache_file_check(at_cache_file *f, size_t batch, at_error *err)
{
    _Atomic uint64_t *word = &f->checked[batch / 64];
    uint64_t bit = (uint64_t)1 << (batch % 64), offset;
    size_t bytes;
    if (atomic_load_explicit(word, memory_order_relaxed) & bit)
        return 0;
    at_cache_file_batch(f, batch, &offset, &bytes);
    uint32_t expected = f->crcs[batch], crc = at_crc32c(0, f->map + offset, bytes);
    if (crc != expected)
        return at_fail(err, AT_EINPUT,
                       "%s: batch %zu at offset %llu is damaged: CRC32C %08x, expected %08x",
                       f->path, batch, (unsigned long long)offset, crc, expected);
    atomic_fetch_or_explicit(word, bit, memory_order_relaxed);
    return 0;
}
