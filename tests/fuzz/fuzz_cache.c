/* SPDX-License-Identifier: Apache-2.0
 * A split's file of the batch cache. Its checksums are made right first, so that what lies behind them is reached.
 */
#include "../../cache/internal.h"
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 1 << 20, CRC_OFFSET = AT_CACHE_PAGE - 4 };

static void seal(uint8_t *file, size_t size)
{
    at_cache_header h;
    memcpy(&h, file, sizeof h);
    bool fits = h.data_offset >= AT_CACHE_PAGE && h.data_offset <= size;
    uint64_t each = h.batches ? h.data_bytes / h.batches : 0; /* right for uint8 */
    for (uint64_t b = 0; fits && b < h.batches && AT_CACHE_PAGE + 4 * b + 4 <= h.data_offset; b++) {
        uint64_t at = h.data_offset + b * each;
        if (at > size || each > size - at)
            break;
        uint32_t crc = at_crc32c(0, file + at, each);
        memcpy(file + AT_CACHE_PAGE + 4 * b, &crc, sizeof crc);
    }
    h.table_crc = fits ? at_crc32c(0, file + AT_CACHE_PAGE, h.data_offset - AT_CACHE_PAGE) : h.table_crc;
    memcpy(file, &h, sizeof h);
    uint32_t crc = at_crc32c(0, file, CRC_OFFSET);
    memcpy(file + CRC_OFFSET, &crc, sizeof crc);
}

static void use(const char *folder)
{
    at_error err = {0};
    at_cache_file f;
    int code = at_cache_file_open(&f, folder, AT_TRAIN, &err);
    for (size_t b = 0; code == 0 && b < f.header.batches; b++)
        code = at_cache_file_check(&f, b, &err);
    if (code < 0 && !err.message[0])
        abort();
    at_cache_file_close(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < AT_CACHE_PAGE || size > MOST_BYTES)
        return 0;
    fuzz_sealed_file("train.atc", data, size, seal);
    use(fuzz_folder());
    return 0;
}
