/* SPDX-License-Identifier: Apache-2.0
 * A file in many damaged versions, for readers that promise to refuse them.
 *
 *     damage d = {.path = path, .read = open_it};     // read returns AT_OK or an error
 *     damage_truncate(&d, 400);
 *     damage_flip(&d, 1000, 7);
 *     print_message("%zu damaged files, %zu refused\n", d.cases, d.refused);
 */
#ifndef ATOLL_TEST_DAMAGE_H
#define ATOLL_TEST_DAMAGE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <atoll/base.h>

typedef struct damage {
    const char *path; /* the whole file; it is not changed */
    int (*read)(const char *path, void *context, at_error *err);
    void *context;
    /* out: how many versions there were and how many were refused, each with a message */
    size_t cases, refused;
} damage;

/* Cut at `points` lengths spread over the file, and at each of the first 64; all must be refused
 * with AT_EINPUT. */
void damage_truncate(damage *d, size_t points);
/* `cases` versions with 1 to 8 bytes changed, the same ones for the same seed; any answer will do,
 * no crash. */
void damage_flip(damage *d, size_t cases, uint64_t seed);

/* Inverts the bits of mask in a byte of folder/name; again: as it was. */
void damage_bits(const char *folder, const char *name, off_t offset, uint8_t mask);

#endif
