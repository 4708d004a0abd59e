/* SPDX-License-Identifier: Apache-2.0
 * The sizes of a shard's parts, for who writes it (shard.c, where the format is described) and who
 * checks it (shard_check.c).
 */
#ifndef ATOLL_DATASETS_SHARD_H
#define ATOLL_DATASETS_SHARD_H

#include "internal.h"

enum {
    AT_SHARD_HEADER = 32,
    AT_SHARD_RECORD = 48,
    AT_SHARD_INDEX_ENTRY = 56,
    AT_SHARD_FOOTER = 32,
    AT_SHARD_HASH = 32,
};

/* Zeros behind a content of so many bytes. */
static inline size_t at_shard_padding(uint64_t bytes)
{
    return (size_t)(-bytes & 7);
}

#endif
