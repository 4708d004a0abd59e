/* SPDX-License-Identifier: Apache-2.0
 * Buffers that keep their memory between pictures, and little-endian numbers. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

bool at_buffer_reserve(at_buffer *b, size_t capacity)
{
    if (capacity <= b->capacity)
        return true;
    uint8_t *data = realloc(b->data, capacity);
    if (!data)
        return false;
    b->data = data;
    b->capacity = capacity;
    return true;
}

bool at_buffer_set(at_buffer *b, const void *data, size_t size)
{
    if (!at_buffer_reserve(b, size))
        return false;
    if (size)
        memcpy(b->data, data, size);
    b->size = size;
    return true;
}

void at_buffer_fini(at_buffer *b)
{
    free(b->data);
    *b = (at_buffer){0};
}

uint32_t at_get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

uint64_t at_get_u64(const uint8_t *p)
{
    return at_get_u32(p) | (uint64_t)at_get_u32(p + 4) << 32;
}

void at_put_u32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

void at_put_u64(uint8_t *p, uint64_t v)
{
    at_put_u32(p, (uint32_t)v);
    at_put_u32(p + 4, (uint32_t)(v >> 32));
}
