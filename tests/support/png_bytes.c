/* SPDX-License-Identifier: Apache-2.0
 * PNG files put together chunk by chunk. */
#include "png_bytes.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

static void put_u32(at_text *t, uint32_t v)
{
    uint8_t bytes[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    at_text_append(t, bytes, 4);
}

void png_signature(at_text *png)
{
    at_text_append(png, "\x89PNG\r\n\x1A\n", 8);
}

void png_chunk(at_text *png, const char *type, const void *data, size_t bytes)
{
    put_u32(png, (uint32_t)bytes);
    size_t begin = png->length;
    at_text_append(png, type, 4);
    at_text_append(png, data ? data : "", bytes);
    assert_false(png->failed);
    put_u32(png, (uint32_t)crc32(0, (const Bytef *)png->data + begin, (uInt)(bytes + 4)));
}

void png_header(at_text *png, const png_ihdr *h)
{
    at_text t = {0};
    put_u32(&t, h->width);
    put_u32(&t, h->height);
    at_text_append(&t, &(uint8_t[]){h->depth, h->type, h->compression, h->filter, h->interlace}, 5);
    png_chunk(png, "IHDR", t.data, t.length);
    at_text_fini(&t);
}

void png_data(at_text *png, const void *rows, size_t bytes, int level, size_t piece)
{
    uLongf size = compressBound(bytes);
    uint8_t *packed = malloc(size);
    assert_non_null(packed);
    assert_int_equal(compress2(packed, &size, rows, bytes, level), Z_OK);
    piece = piece ? piece : size;
    for (size_t at = 0; at < size; at += piece)
        png_chunk(png, "IDAT", packed + at, size - at < piece ? size - at : piece);
    free(packed);
}

void png_spoil_checksum(at_text *png)
{
    png->data[png->length - 1] ^= 0x10;
}

/* ---- filters (PNG, 9.2) ---- */

static int paeth(int left, int above, int corner)
{
    int p = left + above - corner, a = abs(p - left), b = abs(p - above), c = abs(p - corner);
    return a <= b && a <= c ? left : b <= c ? above : corner;
}

at_text png_filtered(const at_image *image, int filter)
{
    at_text out = {0};
    int stride = image->width * image->channels, bpp = image->channels;
    for (int y = 0; y < image->height; y++) {
        const uint8_t *row = image->pixels + y * stride;
        int kind = filter < 5 ? filter : y % 5;
        at_text_append(&out, &(uint8_t){(uint8_t)kind}, 1);
        for (int x = 0; x < stride; x++) {
            int left = x < bpp ? 0 : row[x - bpp], above = y ? row[x - stride] : 0;
            int corner = x < bpp || !y ? 0 : row[x - bpp - stride];
            int guess[5] = {0, left, above, (left + above) / 2, paeth(left, above, corner)};
            at_text_append(&out, &(uint8_t){(uint8_t)(row[x] - guess[kind])}, 1);
        }
    }
    assert_false(out.failed);
    return out;
}

/* ---- bombs ---- */

/* A full flush ends a block that stands alone, so it can be repeated without deflating it again. */
at_text zlib_bomb(size_t mebibytes)
{
    enum { BLOCK = 1 << 20 };
    uint8_t *zeros = calloc(1, BLOCK), packed[8192];
    assert_non_null(zeros);
    z_stream z = {.next_in = zeros, .avail_in = BLOCK, .next_out = packed, .avail_out = 8192};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&z, Z_FULL_FLUSH), Z_OK);
    assert_int_equal(z.avail_in, 0);
    at_text out = {0};
    at_text_append(&out, "\x78\xDA", 2);
    uLong block = adler32(adler32(0, NULL, 0), zeros, BLOCK), sum = adler32(0, NULL, 0);
    for (size_t i = 0; i < mebibytes; i++) {
        at_text_append(&out, packed, z.total_out);
        sum = adler32_combine(sum, block, BLOCK);
    }
    at_text_append(&out, "\x03\x00", 2); /* an empty last block */
    put_u32(&out, (uint32_t)sum);
    deflateEnd(&z);
    free(zeros);
    assert_false(out.failed);
    return out;
}

encoded encoded_of(at_text *text)
{
    assert_false(text->failed);
    encoded out = {(uint8_t *)text->data, text->length};
    *text = (at_text){0};
    return out;
}
