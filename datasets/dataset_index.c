/* SPDX-License-Identifier: Apache-2.0
 * DATASET/images.idx: where every image lies, as at_dataset keeps it in memory, so that a data set
 * of a million images opens by one mmap instead of a query of a second.
 *
 *     struct head, then the entries of train, val and test in path order, then their paths
 *
 * It is only a copy of what catalog.db says, in this machine's byte order. It counts where it is
 * whole (CRC-32C) and the catalog is the very file that it was made from: the same data set's hash,
 * size and SQLite change counter, and no write-ahead log beside it. Else the catalog is asked. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAGIC = 0x31785441, CHANGE_COUNTER_AT = 24 }; /* "ATx1" on a little-endian machine */

struct head {
    uint32_t magic, crc; /* crc: of all that follows */
    uint64_t catalog_bytes, catalog_changes;
    char hash[64]; /* of the data set */
    uint64_t counts[AT_SPLITS], names_bytes;
};

/* What tells the catalog's state. False: it is in use, or cannot be read. */
static bool stamp_catalog(const char *folder, struct head *h)
{
    char *path = at_path_join(folder, "catalog.db");
    char *wal = path ? at_format("%s-wal", path) : NULL;
    uint8_t counter[4];
    struct stat st;
    int fd = wal ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    bool known = fd >= 0 && fstat(fd, &st) == 0 && (stat(wal, &st) || st.st_size == 0) &&
                 fstat(fd, &st) == 0 && pread(fd, counter, 4, CHANGE_COUNTER_AT) == 4;
    if (known) {
        h->catalog_bytes = (uint64_t)st.st_size;
        h->catalog_changes = at_get_u32(counter);
    }
    if (fd >= 0)
        close(fd);
    free(wal);
    free(path);
    return known;
}

/* ---- rows ---- */

const char at_entry_query[] =
    "SELECT i.id, i.path, i.split, i.label, b.shard, b.offset, b.bytes, b.crc32c"
    " FROM images i CROSS JOIN blobs b ON b.id = i.blob ORDER BY i.path";

int at_entry_read(const at_stmt *s, const char *dataset, at_split *split, at_entry *out,
                  at_error *err)
{
    int64_t label = at_stmt_int(s, 3), shard = at_stmt_int(s, 4), offset = at_stmt_int(s, 5),
            bytes = at_stmt_int(s, 6);
    if (at_split_parse(at_stmt_word(s, 2), split, err) < 0)
        return at_fail_in(err, "%s: image %s", dataset, at_stmt_word(s, 1));
    if (label < 0 || label > INT32_MAX || shard < 0 || shard > INT32_MAX || bytes < 0 ||
        bytes > UINT32_MAX || offset < 0)
        return at_fail(err, AT_EINPUT, "%s: image %s: label, shard or size is out of range",
                       dataset, at_stmt_word(s, 1));
    *out = (at_entry){.id = at_stmt_int(s, 0),
                      .offset = (uint64_t)offset,
                      .bytes = (uint32_t)bytes,
                      .crc = (uint32_t)at_stmt_int(s, 7),
                      .label = (int32_t)label,
                      .shard = (int32_t)shard};
    return 0;
}

/* Lays the index over the mapped file; false: its sizes do not add up, or (whole) the last path has
 * no end. */
static bool lay_out(at_index *index, bool whole)
{
    const struct head *h = index->map;
    size_t left = index->map_bytes - sizeof *h;
    const uint8_t *at = (const uint8_t *)(h + 1);
    for (int s = 0; s < AT_SPLITS; s++) {
        size_t bytes;
        if (!at_mul(h->counts[s], sizeof(at_entry), left, &bytes))
            return false;
        index->entries[s] = (const void *)at;
        index->counts[s] = h->counts[s];
        at += bytes;
        left -= bytes;
    }
    index->names = (const char *)at;
    index->names_bytes = left;
    return left == h->names_bytes && (!whole || left == 0 || at[left - 1] == 0);
}

static uint32_t checksum(const at_index *index)
{
    const size_t from = offsetof(struct head, catalog_bytes);
    return at_crc32c(0, (const uint8_t *)index->map + from, index->map_bytes - from);
}

/* ---- writing ---- */

/* Hash, number of images and bytes of paths. */
static int measure(at_db *db, struct head *h, at_error *err)
{
    at_stmt *s = at_db_prepare(
        db, "SELECT value FROM meta WHERE key = 'dataset_hash' AND length(value) = 64", err);
    int code = s ? at_stmt_step(s, err) : err->code;
    if (code == 1)
        memcpy(h->hash, at_stmt_word(s, 0), sizeof h->hash);
    at_stmt_free(s);
    if (code <= 0)
        return code < 0 ? code : at_fail(err, AT_EINPUT, "the catalog has no hash");
    s = at_db_prepare(db,
                      "SELECT split, count(*), sum(length(CAST(path AS BLOB)) + 1) FROM images"
                      " GROUP BY split",
                      err);
    code = s ? 1 : err->code;
    while (code == 1 && (code = at_stmt_step(s, err)) == 1) {
        at_split split;
        if (at_split_parse(at_stmt_word(s, 0), &split, err) < 0)
            code = AT_EINPUT;
        else
            h->counts[split] = (uint64_t)at_stmt_int(s, 1);
        h->names_bytes += (uint64_t)at_stmt_int(s, 2);
    }
    at_stmt_free(s);
    return code;
}

/* Fills the mapped file behind its head. */
static int fill(at_db *db, const char *folder, at_index *index, at_error *err)
{
    at_stmt *s = at_db_prepare(db, at_entry_query, err);
    size_t done[AT_SPLITS] = {0}, names = 0;
    int code = s ? 1 : err->code;
    while (code == 1 && (code = at_stmt_step(s, err)) == 1) {
        at_split split = AT_TRAIN;
        at_entry entry;
        const char *path = at_stmt_word(s, 1);
        size_t bytes = strlen(path) + 1;
        if (at_entry_read(s, folder, &split, &entry, err) < 0)
            code = AT_EINPUT;
        else if (done[split] == index->counts[split] || bytes > index->names_bytes - names)
            code = at_fail(err, AT_EINPUT, "%s/catalog.db changed meanwhile", folder);
        if (code < 0)
            break;
        entry.path = names;
        uint8_t *map = index->map; /* entries and names point into it */
        size_t at = (size_t)((const uint8_t *)&index->entries[split][done[split]++] - map);
        memcpy(map + at, &entry, sizeof entry);
        memcpy(map + ((const uint8_t *)index->names - map) + names, path, bytes);
        names += bytes;
    }
    at_stmt_free(s);
    return code;
}

/* The file gets its blocks first: a full disk is an error now, not a signal while it is filled. */
static int map_new_file(int fd, const char *path, const struct head *h, at_index *index,
                        at_error *err)
{
    size_t entries = 0;
    for (int s = 0; s < AT_SPLITS; s++)
        entries += h->counts[s];
    index->map_bytes = sizeof *h + entries * sizeof(at_entry) + h->names_bytes;
    int number = posix_fallocate(fd, 0, (off_t)index->map_bytes);
    if (number)
        return at_fail_errno(err, number, "cannot write %s", path);
    void *map = mmap(NULL, index->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return at_fail_errno(err, errno, "cannot map %s", path);
    index->map = map;
    memcpy(map, h, sizeof *h);
    return 0;
}

static int write_file(at_db *db, const char *folder, int fd, const char *path, at_error *err)
{
    struct head h = {.magic = MAGIC};
    at_index index = {0};
    int code = measure(db, &h, err);
    if (code == 0 && !stamp_catalog(folder, &h))
        code = at_fail(err, AT_EIO, "%s/catalog.db is being written", folder);
    if (code == 0)
        code = map_new_file(fd, path, &h, &index, err);
    if (code == 0 && (h.names_bytes == 0 || !lay_out(&index, false)))
        code = at_fail(err, AT_EINPUT, "%s/catalog.db has no images", folder);
    if (code == 0)
        code = fill(db, folder, &index, err);
    if (code == 0)
        ((struct head *)index.map)->crc = checksum(&index);
    at_index_unmap(&index);
    return code;
}

/* The draft has one name, so that the next ingest takes over what a killed one left. */
static int write_draft(const char *folder, const char *draft, at_error *err)
{
    char *catalog = at_path_join(folder, "catalog.db");
    at_db *db = catalog ? at_db_open(catalog, AT_DB_READ, err) : NULL;
    int fd = db ? open(draft, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : -1;
    int code = fd >= 0 ? write_file(db, folder, fd, draft, err)
               : db    ? at_fail_errno(err, errno, "cannot write %s", draft)
                       : AT_EFAIL;
    if (code == 0 && fsync(fd))
        code = at_fail_errno(err, errno, "cannot sync %s", draft);
    if (fd >= 0)
        close(fd);
    at_db_close(db);
    free(catalog);
    return code;
}

void at_dataset_write_index(const char *folder)
{
    at_error err = {0};
    char *path = at_path_join(folder, "images.idx");
    char *draft = path ? at_format("%s.partial", path) : NULL;
    int code = draft ? write_draft(folder, draft, &err) : at_nomem(&err);
    if (code == 0 && rename(draft, path))
        code = at_fail_errno(&err, errno, "cannot rename %s", draft);
    if (code < 0) {
        at_log(AT_LOG_WARN, "%s will open slowly: %s", folder, err.message);
        if (draft)
            unlink(draft);
    }
    free(draft);
    free(path);
}

/* ---- reading ---- */

static bool is_whole(const char *path, const char *hash, const struct head *now, at_index *index)
{
    const struct head *h = index->map;
    if (h->magic != MAGIC || memcmp(h->hash, hash, sizeof h->hash) ||
        h->catalog_bytes != now->catalog_bytes || h->catalog_changes != now->catalog_changes)
        return false;
    if (lay_out(index, true) && checksum(index) == h->crc)
        return true;
    at_log(AT_LOG_WARN, "%s is damaged: the catalog is read instead", path);
    return false;
}

static bool map_file(const char *path, at_index *index)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool there = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
                 st.st_size >= (off_t)sizeof(struct head);
    if (there) {
        index->map_bytes = (size_t)st.st_size;
        index->map = mmap(NULL, index->map_bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
        if (index->map == MAP_FAILED)
            index->map = NULL;
    }
    if (fd >= 0)
        close(fd);
    return index->map != NULL;
}

bool at_index_map(const char *folder, const char *hash, at_index *out)
{
    struct head now;
    *out = (at_index){0};
    char *path = at_path_join(folder, "images.idx");
    bool good = path && strlen(hash) == sizeof now.hash && map_file(path, out) &&
                stamp_catalog(folder, &now) && is_whole(path, hash, &now, out);
    free(path);
    if (!good)
        at_index_unmap(out);
    return good;
}

bool at_index_is_damaged(const char *folder)
{
    at_index index = {0};
    char *path = at_path_join(folder, "images.idx");
    bool there = path && at_file_exists(path);
    bool whole = there && map_file(path, &index) &&
                 ((const struct head *)index.map)->magic == MAGIC && lay_out(&index, true) &&
                 checksum(&index) == ((const struct head *)index.map)->crc;
    at_index_unmap(&index);
    free(path);
    return there && !whole;
}

void at_index_unmap(at_index *index)
{
    if (index->map)
        munmap(index->map, index->map_bytes);
    *index = (at_index){0};
}
