/* SPDX-License-Identifier: Apache-2.0
 * DATASET/images.idx: where every image lies, as at_dataset keeps it in memory, so that a data set
 * of a million images opens by one mmap instead of a query of a second.
 *
 *     struct head, then the entries of train, val and test in path order, then all paths
 *
 * It is only a copy of what catalog.db says, in this machine's byte order. It counts where it is
 * whole (CRC-32C) and the catalog is the very file that it was made from: the same data set's hash,
 * size and SQLite change counter, and no write-ahead log beside it. Else the catalog is asked. */
#include "rows.h"

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
    int fd = wal ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
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

/* Lays the index over the mapped file; false: its sizes do not add up, or the last path has no end.
 */
static bool lay_out(at_index *index)
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
    return left == h->names_bytes && (left == 0 || at[left - 1] == 0);
}

static uint32_t checksum(const at_index *index)
{
    const size_t from = offsetof(struct head, catalog_bytes);
    return at_crc32c(0, (const uint8_t *)index->map + from, index->map_bytes - from);
}

/* ---- writing ---- */

static bool put(FILE *file, const void *data, size_t bytes)
{
    return bytes == 0 || fwrite(data, 1, bytes, file) == bytes;
}

/* Whether all of it is on disk. */
static bool write_file(FILE *file, struct head *h, const at_index *index)
{
    const size_t from = offsetof(struct head, catalog_bytes);
    h->crc = at_crc32c(0, (const uint8_t *)h + from, sizeof *h - from);
    for (int s = 0; s < AT_SPLITS; s++)
        h->crc = at_crc32c(h->crc, index->entries[s], index->counts[s] * sizeof(at_entry));
    h->crc = at_crc32c(h->crc, index->names, index->names_bytes);
    bool good = put(file, h, sizeof *h);
    for (int s = 0; good && s < AT_SPLITS; s++)
        good = put(file, index->entries[s], index->counts[s] * sizeof(at_entry));
    return good && put(file, index->names, index->names_bytes) && fflush(file) == 0 &&
           fsync(fileno(file)) == 0;
}

/* The draft has one name, so that the next ingest takes over what a killed one left. */
static int write_draft(const char *folder, const char *draft, const char *hash,
                       const at_index *index, at_error *err)
{
    struct head h = {.magic = MAGIC, .names_bytes = index->names_bytes};
    memcpy(h.hash, hash, sizeof h.hash);
    memcpy(h.counts, index->counts, sizeof h.counts);
    if (!stamp_catalog(folder, &h))
        return at_fail(err, AT_EIO, "%s/catalog.db is being written", folder);
    FILE *file = fopen(draft, "wbe");
    bool good = file && write_file(file, &h, index);
    int number = errno;
    if (file && fclose(file) && good) {
        good = false;
        number = errno;
    }
    return good ? 0 : at_fail_errno(err, number, "cannot write %s", draft);
}

/* The sorted rows of a whole data set, and its hash, as its catalog tells them. */
static int read_catalog(const char *folder, at_rows *rows, at_error *err)
{
    char *path = at_path_join(folder, "catalog.db");
    at_db *db = path ? at_db_open(path, AT_DB_READ, err) : NULL;
    int code = db ? at_rows_load(rows, db, folder, err) : path ? err->code : at_nomem(err);
    at_stmt *s = code == 0 ? at_db_prepare(db,
                                           "SELECT value FROM meta WHERE key = 'dataset_hash'"
                                           " AND length(value) = 64",
                                           err)
                           : NULL;
    if (code == 0)
        code = s ? at_stmt_step(s, err) : err->code;
    if (code == 1)
        snprintf(rows->dataset_hash, sizeof rows->dataset_hash, "%s", at_stmt_word(s, 0));
    else if (code == 0)
        code = at_fail(err, AT_EINPUT, "the catalog has no hash");
    at_stmt_free(s);
    at_db_close(db);
    free(path);
    at_rows_sort(rows);
    return code < 0 ? code : 0;
}

static int write_index(const char *folder, const char *path, at_rows *rows, at_error *err)
{
    at_index index = {0};
    char hash[65], *draft = at_format("%s.partial", path);
    memcpy(hash, rows->dataset_hash, sizeof hash);
    int code = draft ? at_rows_to_index(rows, &index, err) : at_nomem(err);
    if (code == 0)
        code = write_draft(folder, draft, hash, &index, err);
    if (code == 0 && rename(draft, path))
        code = at_fail_errno(err, errno, "cannot rename %s", draft);
    if (code < 0 && draft)
        unlink(draft);
    at_index_fini(&index);
    free(draft);
    return code;
}

void at_dataset_write_index(const char *folder, at_rows *rows)
{
    at_error err = {0};
    at_rows own = {0};
    char *path = at_path_join(folder, "images.idx");
    int code = !path ? at_nomem(&err) : rows ? 0 : read_catalog(folder, &own, &err);
    if (code == 0)
        code = write_index(folder, path, rows ? rows : &own, &err);
    if (code < 0)
        at_log(AT_LOG_WARN, "%s will open slowly: %s", folder, err.message);
    at_rows_fini(&own);
    free(path);
}

/* ---- reading ---- */

static bool is_whole(const char *path, const char *hash, const struct head *now, at_index *index)
{
    const struct head *h = index->map;
    if (h->magic != MAGIC || memcmp(h->hash, hash, sizeof h->hash) ||
        h->catalog_bytes != now->catalog_bytes || h->catalog_changes != now->catalog_changes)
        return false;
    if (lay_out(index) && checksum(index) == h->crc)
        return true;
    at_log(AT_LOG_WARN, "%s is damaged: the catalog is read instead", path);
    return false;
}

static bool map_file(const char *path, at_index *index)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
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
        at_index_fini(out);
    return good;
}

bool at_index_is_damaged(const char *folder)
{
    at_index index = {0};
    char *path = at_path_join(folder, "images.idx");
    bool there = path && at_file_exists(path);
    bool whole = there && map_file(path, &index) &&
                 ((const struct head *)index.map)->magic == MAGIC && lay_out(&index) &&
                 checksum(&index) == ((const struct head *)index.map)->crc;
    at_index_fini(&index);
    free(path);
    return there && !whole;
}

void at_index_fini(at_index *index)
{
    if (index->map)
        munmap(index->map, index->map_bytes);
    free(index->owned);
    free(index->owned_names);
    *index = (at_index){0};
}
