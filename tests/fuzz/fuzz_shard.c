/* SPDX-License-Identifier: Apache-2.0
 * A shard of a data set: its beginning and its index's CRC are made right first, so that what lies behind them is
 * reached.
 */
#include "../../datasets/shard.h"
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 1 << 20 };

static void seal(uint8_t *file, size_t size)
{
    memcpy(file, "ATOLLSHD", 8);
    at_put_u32(file + 8, 1);
    at_put_u32(file + 12, 0);
    if (size < AT_SHARD_HEADER + AT_SHARD_FOOTER)
        return;
    uint8_t *footer = file + size - AT_SHARD_FOOTER;
    uint64_t begin = at_get_u64(footer + 8);
    if (begin <= size - AT_SHARD_FOOTER)
        at_put_u32(footer + 24, at_crc32c(0, file + begin, size - AT_SHARD_FOOTER - begin));
}

static void take(void *context, uint64_t offset, const char *what)
{
    const at_shard *shard = context;
    if (offset > shard->size || !what[0])
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < AT_SHARD_HEADER || size > MOST_BYTES)
        return 0;
    fuzz_sealed_file("00000.atb", data, size, seal);
    at_shard shard;
    at_error err = {0};
    if (at_shard_map(fuzz_folder(), 0, &shard, &err) == 0)
        at_shard_check(&shard, take, &shard);
    else if (!err.message[0])
        abort();
    at_shard_unmap(&shard);
    return 0;
}
