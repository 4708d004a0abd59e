/* SPDX-License-Identifier: Apache-2.0
 * CRC-32C (Castagnoli, RFC 3720), which guards cached batches and shards.
 *
 * With SSE4.2 three lanes run at once, since the crc32 instruction takes 3 cycles but one can start
 * each cycle; the lanes are joined by advancing a lane's CRC over the next lane's length of zeros,
 * a linear map that four tables of 256 hold. (The idea is Mark Adler's crc32c.c.) Elsewhere:
 * eight tables, eight bytes a step. */
#include "atoll/base.h"

#include <pthread.h>
#include <string.h>

#define POLYNOMIAL 0x82f63b78u /* reflected */
enum { LANE = 4096 };          /* bytes of a lane; a multiple of 8 */

static struct {
    uint32_t byte[8][256]; /* [k][b]: the CRC of byte b followed by k zero bytes */
    uint32_t lane[4][256]; /* [k][b]: b << 8k advanced over LANE zero bytes */
    bool hardware;
} tables; /* filled once by fill_tables */
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static uint32_t advance(uint32_t crc, size_t zeros)
{
    while (zeros--)
        crc = tables.byte[0][crc & 255] ^ (crc >> 8);
    return crc;
}

static void fill_tables(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t crc = b;
        for (int i = 0; i < 8; i++)
            crc = crc & 1 ? (crc >> 1) ^ POLYNOMIAL : crc >> 1;
        tables.byte[0][b] = crc;
    }
    for (int k = 1; k < 8; k++)
        for (int b = 0; b < 256; b++)
            tables.byte[k][b] = advance(tables.byte[k - 1][b], 1);
    for (int bit = 0; bit < 32; bit++) {
        uint32_t image = advance((uint32_t)1 << bit, LANE);
        for (int b = 0; b < 256; b++)
            if (b >> (bit % 8) & 1)
                tables.lane[bit / 8][b] ^= image;
    }
#ifdef __x86_64__
    tables.hardware = __builtin_cpu_supports("sse4.2");
#endif
}

static uint64_t load_8(const unsigned char *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

static uint32_t crc_by_tables(uint32_t crc, const unsigned char *p, size_t bytes)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    for (; bytes >= 8; p += 8, bytes -= 8) {
        uint64_t word = load_8(p) ^ crc;
        crc = 0;
        for (int k = 0; k < 8; k++)
            crc ^= tables.byte[7 - k][word >> (8 * k) & 255];
    }
#endif
    for (; bytes; p++, bytes--)
        crc = tables.byte[0][(crc ^ *p) & 255] ^ (crc >> 8);
    return crc;
}

#ifdef __x86_64__
static uint64_t over_lane(uint64_t crc)
{
    return tables.lane[0][crc & 255] ^ tables.lane[1][crc >> 8 & 255] ^
           tables.lane[2][crc >> 16 & 255] ^ tables.lane[3][crc >> 24 & 255];
}

__attribute__((target("sse4.2"))) static uint32_t
crc_by_hardware(uint32_t start, const unsigned char *p, size_t bytes)
{
    uint64_t crc = start;
    for (; bytes >= 3 * LANE; p += 3 * LANE, bytes -= 3 * LANE) {
        uint64_t second = 0, third = 0;
        for (size_t i = 0; i < LANE; i += 8) {
            crc = __builtin_ia32_crc32di(crc, load_8(p + i));
            second = __builtin_ia32_crc32di(second, load_8(p + LANE + i));
            third = __builtin_ia32_crc32di(third, load_8(p + 2 * LANE + i));
        }
        crc = over_lane(over_lane(crc) ^ second) ^ third;
    }
    for (; bytes >= 8; p += 8, bytes -= 8)
        crc = __builtin_ia32_crc32di(crc, load_8(p));
    for (; bytes; p++, bytes--)
        crc = __builtin_ia32_crc32qi((uint32_t)crc, *p);
    return (uint32_t)crc;
}
#endif

uint32_t at_crc32c_portable(uint32_t crc, const void *data, size_t bytes)
{
    pthread_once(&tables_once, fill_tables);
    return ~crc_by_tables(~crc, data, bytes);
}

uint32_t at_crc32c(uint32_t crc, const void *data, size_t bytes)
{
    pthread_once(&tables_once, fill_tables);
#ifdef __x86_64__
    if (tables.hardware)
        return ~crc_by_hardware(~crc, data, bytes);
#endif
    return at_crc32c_portable(crc, data, bytes);
}
