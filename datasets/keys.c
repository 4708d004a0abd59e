/* SPDX-License-Identifier: Apache-2.0
 * A table from 128-bit keys to numbers: which contents and which paths an ingest has seen.
 * Open addressing, at most 5/8 full; 24 bytes an entry, so that ten million pictures fit a laptop.
 * Keys are halves of BLAKE2b hashes, of paths SipHash under a key that nobody knows: for two to meet
 * by chance it takes 2^64 of them. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

struct slot {
    uint64_t low, high; /* both 0: free */
    int64_t value;
};

struct at_keys {
    struct slot *slots;
    size_t count, capacity; /* a power of 2 */
};

static at_key key_of(const uint8_t digest[16])
{
    return (at_key){.low = at_get_u64(digest) | 1,
                    .high = at_get_u64(digest + 8)}; /* not the free slot */
}

at_key at_key_of_digest(const uint8_t digest[32])
{
    return key_of(digest);
}

at_key at_key_of_hash(const char *hex)
{
    uint8_t digest[32];
    at_digest_of_hex(hex, digest);
    return at_key_of_digest(digest);
}

at_key at_key_of_path(const char *path)
{
    uint8_t digest[16];
    at_table_digest(path, strlen(path), digest);
    return key_of(digest);
}

at_keys *at_keys_new(void)
{
    at_keys *k = calloc(1, sizeof *k);
    if (k && !(k->slots = at_alloc_aligned((k->capacity = 1024) * sizeof *k->slots))) {
        free(k);
        k = NULL;
    }
    return k;
}

void at_keys_free(at_keys *k)
{
    if (!k)
        return;
    at_free_aligned(k->slots);
    free(k);
}

static size_t first_place(const at_keys *k, at_key key)
{
    return (key.low >> 1) & (k->capacity - 1);
}

void at_keys_expect(const at_keys *k, at_key key)
{
    __builtin_prefetch(&k->slots[first_place(k, key)]);
}

/* The key's slot or the free one where it belongs. */
static struct slot *find(const at_keys *k, at_key key)
{
    for (size_t i = first_place(k, key);; i = (i + 1) & (k->capacity - 1)) {
        struct slot *s = &k->slots[i];
        if ((s->low == key.low && s->high == key.high) || (s->low | s->high) == 0)
            return s;
    }
}

static bool grow(at_keys *k)
{
    at_keys larger = {.count = k->count, .capacity = 2 * k->capacity};
    larger.slots = at_alloc_aligned(larger.capacity * sizeof *larger.slots);
    if (!larger.slots)
        return false;
    for (size_t i = 0; i < k->capacity; i++)
        if (k->slots[i].low | k->slots[i].high)
            *find(&larger, (at_key){k->slots[i].low, k->slots[i].high}) = k->slots[i];
    at_free_aligned(k->slots);
    *k = larger;
    return true;
}

bool at_keys_add(at_keys *k, at_key key, int64_t value)
{
    if (8 * (k->count + 1) > 5 * k->capacity && !grow(k))
        return false;
    struct slot *s = find(k, key);
    k->count += (s->low | s->high) == 0;
    *s = (struct slot){key.low, key.high, value};
    return true;
}

int64_t at_keys_get(const at_keys *k, at_key key)
{
    if (!k)
        return -1;
    const struct slot *s = find(k, key);
    return s->low | s->high ? s->value : -1;
}

bool at_keys_has_path(const at_keys *k, const char *path)
{
    return k && k->count && at_keys_get(k, at_key_of_path(path)) >= 0;
}
