/* SPDX-License-Identifier: Apache-2.0
 * PNG files put together chunk by chunk, as no library would write them.
 *
 *     at_text png = {0};
 *     png_signature(&png);
 *     png_header(&png, &(png_ihdr){.width = 8, .height = 6, .depth = 8, .type = 2});
 *     png_data(&png, rows, bytes, 1);             // IDAT chunks of one byte each
 *     png_chunk(&png, "IEND", NULL, 0);
 */
#ifndef ATOLL_TEST_PNG_BYTES_H
#define ATOLL_TEST_PNG_BYTES_H

#include "encode.h"

typedef struct png_ihdr {
    uint32_t width, height;
    uint8_t depth, type, compression, filter, interlace;
} png_ihdr;
void png_signature(at_text *png);
void png_header(at_text *png, const png_ihdr *h);
void png_chunk(at_text *png, const char *type, const void *data, size_t bytes);
/* Rows with their filter bytes, deflated at this level, in IDAT chunks of `piece` bytes (0: in one).
 */
void png_data(at_text *png, const void *rows, size_t bytes, int level, size_t piece);
/* The last chunk's checksum becomes a wrong one. */
void png_spoil_checksum(at_text *png);
/* Rows of an image, each with the byte that names its filter: 0 to 4, or of each row another one (5).
 */
at_text png_filtered(const at_image *image, int filter);
/* A zlib stream of many bytes that inflates to this many MiB of zeros. */
at_text zlib_bomb(size_t mebibytes);
/* The bytes, whose text is taken. */
encoded encoded_of(at_text *text);

#endif
