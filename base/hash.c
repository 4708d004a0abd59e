/* SPDX-License-Identifier: Apache-2.0
 * Cryptographic hashes by libsodium: SHA-256 as sha256sum, BLAKE2b-256 as b2sum -l 256. */
#include "atoll/base.h"

#include <assert.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>

struct at_sha256 {
    crypto_hash_sha256_state state;
};

static pthread_once_t sodium_once = PTHREAD_ONCE_INIT;

static void start_sodium(void)
{
    if (sodium_init() < 0) /* no source of random numbers; hashes do without */
        at_log(AT_LOG_WARN, "libsodium could not be initialised");
}

static void to_hex(const unsigned char digest[32], char hex[65])
{
    sodium_bin2hex(hex, 65, digest, 32);
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
    to_hex(digest, hex);
    free(h);
}

void at_content_hash(const void *data, size_t bytes, char hex[65])
{
    pthread_once(&sodium_once, start_sodium);
    unsigned char digest[32];
    int rc = crypto_generichash(digest, sizeof digest, data, bytes, NULL, 0);
    assert(rc == 0);
    (void)rc;
    to_hex(digest, hex);
}
