/* SPDX-License-Identifier: Apache-2.0
 * Where an ingest goes on: behind the last content that a commit has noted. */
#include "internal.h"

#include <stdlib.h>

static int load_records(at_catalog *c, int64_t shard, at_shard_record **records, size_t *count,
                        at_error *err)
{
    at_stmt *s = at_db_prepare(
        at_catalog_db(c),
        "SELECT hash, offset, bytes, crc32c FROM blobs WHERE shard = ? ORDER BY offset", err);
    if (!s)
        return AT_EIO;
    at_stmt_bind(s, "i", shard);
    size_t capacity = 0;
    int code;
    while ((code = at_stmt_step(s, err)) == 1) {
        if (*count == capacity) {
            capacity = capacity ? 2 * capacity : 1024;
            at_shard_record *more = realloc(*records, capacity * sizeof *more);
            if (!more) {
                code = at_nomem(err);
                break;
            }
            *records = more;
        }
        at_shard_record *r = &(*records)[(*count)++];
        snprintf(r->hash, sizeof r->hash, "%s", at_stmt_text(s, 0));
        r->offset = (uint64_t)at_stmt_int(s, 1);
        r->bytes = (uint64_t)at_stmt_int(s, 2);
        r->crc = (uint32_t)at_stmt_int(s, 3);
    }
    at_stmt_free(s);
    return code;
}

at_shard_writer *at_catalog_shards(at_catalog *c, const char *folder, uint64_t limit, at_error *err)
{
    int64_t shard = (int64_t)at_catalog_number(c, "resume_shard");
    uint64_t bytes = at_catalog_number(c, "resume_bytes");
    at_shard_record *records = NULL;
    size_t count = 0;
    if (load_records(c, shard, &records, &count, err) < 0) {
        free(records);
        return NULL;
    }
    return at_shard_writer_open(folder, limit, shard, bytes, records, count, err);
}
