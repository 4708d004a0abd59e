/* SPDX-License-Identifier: Apache-2.0
 * Damaged versions are written beside the file and read one by one. */
#include "damage.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Writes the version and reads it; returns what the reader said. */
static int try(damage *d, const char *path, const char *data, size_t bytes)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, bytes, f), bytes);
    assert_int_equal(fclose(f), 0);
    at_error err = {0};
    int rc = d->read(path, d->context, &err);
    d->cases++;
    d->refused += rc != AT_OK;
    if (rc != AT_OK && !strstr(err.message, path))
        fail_msg("the message does not name the file: %s", err.message);
    return rc;
}

static void load(const damage *d, char **path, char **data, size_t *bytes)
{
    *path = at_format("%s.damaged", d->path);
    assert_non_null(*path);
    assert_int_equal(at_file_read(d->path, SIZE_MAX / 2, data, bytes, NULL), AT_OK);
}

void damage_truncate(damage *d, size_t points)
{
    char *path, *data;
    size_t bytes;
    load(d, &path, &data, &bytes);
    for (size_t i = 0; i < points + 64; i++) {
        size_t length = i < 64 ? i : (i - 64) * bytes / points;
        int rc = length < bytes ? try(d, path, data, length) : AT_EINPUT;
        if (rc != AT_EINPUT)
            fail_msg("cut to %zu of %zu bytes: %s", length, bytes, at_error_name(rc));
    }
    unlink(path);
    free(path);
    free(data);
}

void damage_flip(damage *d, size_t cases, uint64_t seed)
{
    char *path, *data;
    size_t bytes;
    load(d, &path, &data, &bytes);
    char *copy = malloc(bytes);
    assert_non_null(copy);
    for (size_t i = 0; i < cases; i++) {
        at_rng rng = at_rng_stream(seed, "damage", i);
        memcpy(copy, data, bytes);
        for (uint64_t n = 1 + at_rng_below(&rng, 8); n > 0; n--)
            copy[at_rng_below(&rng, bytes)] ^= (char)(1 + at_rng_below(&rng, 255));
        try(d, path, copy, bytes);
    }
    unlink(path);
    free(copy);
    free(path);
    free(data);
}

void damage_bits(const char *folder, const char *name, off_t offset, uint8_t mask)
{
    uint8_t byte;
    char *path = at_path_join(folder, name);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    byte ^= mask;
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
    free(path);
}
