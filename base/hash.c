/* SPDX-License-Identifier: Apache-2.0
 * Hashes by libsodium: SHA-256 as sha256sum, BLAKE2b-256 as b2sum -l 256, and SipHash for tables. */
#include "atoll/base.h"

#include <assert.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>

struct at_sha256 {
    crypto_hash_sha256_state state;
};

static pthread_once_t sodium_once = PTHREAD_ONCE_INIT;
static uint8_t table_key[crypto_shorthash_siphashx24_KEYBYTES];

static void start_sodium(void)
{
    if (sodium_init() < 0) /* no source of random numbers; hashes do without */
        at_log(AT_LOG_WARN, "libsodium could not be initialised");
    else
        randombytes_buf(table_key, sizeof table_key);
}

/* Not by sodium_bin2hex, whose time must not tell what it converts: nothing here is a secret. */
void at_digest_to_hex(const uint8_t digest[32], char hex[65])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < 32; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    hex[64] = 0;
}

/* Of a digit, whose bit 6 is set in letters alone: no branch, which random digits would mislead. */
static unsigned nibble(char c)
{
    return ((unsigned)c & 15) + 9 * ((unsigned)c >> 6 & 1);
}

void at_digest_of_hex(const char *hex, uint8_t digest[32])
{
    for (int i = 0; i < 32; i++)
        digest[i] = (uint8_t)(nibble(hex[2 * i]) << 4 | nibble(hex[2 * i + 1]));
}

at_sha256 *at_sha256_new(void)
{
    pthread_once(&sodium_once, start_sodium);
    at_sha256 *h = malloc(sizeof *h);
    if (h)
        crypto_hash_sha256_init(&h->state);
    return h;
}

void at_sha256_add(at_sha256 *h, const void *data, size_t bytes)
{
    crypto_hash_sha256_update(&h->state, data, bytes);
}

void at_sha256_end(at_sha256 *h, char hex[65])
{
    unsigned char digest[crypto_hash_sha256_BYTES];
    crypto_hash_sha256_final(&h->state, digest);
    at_digest_to_hex(digest, hex);
    free(h);
}

void at_content_digest(const void *data, size_t bytes, uint8_t digest[32])
{
    pthread_once(&sodium_once, start_sodium);
    int rc = crypto_generichash(digest, 32, data, bytes, NULL, 0);
    assert(rc == 0);
    (void)rc;
}

void at_table_digest(const void *data, size_t bytes, uint8_t digest[16])
{
    pthread_once(&sodium_once, start_sodium);
    crypto_shorthash_siphashx24(digest, data, bytes, table_key);
}

void at_content_hash(const void *data, size_t bytes, char hex[65])
{
    unsigned char digest[32];
    at_content_digest(data, bytes, digest);
    at_digest_to_hex(digest, hex);
}
