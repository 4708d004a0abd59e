/* SPDX-License-Identifier: Apache-2.0
 * EXIF blocks made by hand, and files that carry them.
 *
 *     exif_spec e = {.make = "Canon", .model = "Canon EOS 5D", .orientation = 6};
 *     encoded file = exif_into(jpeg, &e);             // JPEG: APP1 behind SOI; PNG: eXIf behind IHDR
 */
#ifndef ATOLL_TEST_EXIF_BLOCK_H
#define ATOLL_TEST_EXIF_BLOCK_H

#include "encode.h"

typedef struct exif_spec {
    const char *make, *model, *time; /* NULL: not there; time "2024:05:31 12:30:00" */
    int orientation;                 /* 0: not there */
    double latitude, longitude;      /* both 0: no place */
    bool big_endian;
} exif_spec;
/* The block alone, from its byte order mark on. */
encoded exif_block(const exif_spec *spec);
/* A copy of the file with the block in it; the file is freed. */
encoded exif_into(encoded file, const exif_spec *spec);
/* The same with these bytes as the block. */
encoded exif_bytes_into(encoded file, const uint8_t *block, size_t size);

#endif
