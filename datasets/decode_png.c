/* SPDX-License-Identifier: Apache-2.0
 * PNG by libpng: any depth, palette and interlace become 8-bit grey or RGB; transparency is laid
 * over black, since that is what the unset pixels of a cut-out are in most data sets.
 *
 * libpng's errors come back by longjmp; so that no local can be clobbered, all state lies in the
 * struct png that the caller of setjmp holds. A critical chunk with a wrong CRC is an error, an
 * ancillary one is left out. The picture must be whole: the end chunk is read, too. Of the chunks
 * that say something about the picture only eXIf is looked into, so that compressed texts and colour
 * profiles, which may unpack to a thousand times their size, cost nothing; nor do pixels behind the
 * last row, all of which libpng would unpack. */
#include "internal.h"

#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_CHUNK = 8 << 20,
    MAX_CHUNKS = 1000,
    MAX_BEHIND = 64 << 10, /* packed bytes; an encoder leaves some ten behind the last row */
};

struct png {
    png_structp lib;
    png_infop info;
    at_decoding *d;
    size_t position;
    bool ended_early;
    png_bytep *rows;
    at_buffer wide; /* the pixels while they still have an alpha channel */
    char message[160];
};

static void on_error(png_structp lib, png_const_charp text)
{
    struct png *p = png_get_error_ptr(lib);
    snprintf(p->message, sizeof p->message, "%s", text);
    png_longjmp(lib, 1);
}

static void on_warning(png_structp lib, png_const_charp text)
{
    (void)lib;
    (void)text;
}

static void on_read(png_structp lib, png_bytep out, size_t bytes)
{
    struct png *p = png_get_io_ptr(lib);
    if (bytes > p->d->size - p->position) {
        p->ended_early = true;
        png_error(lib, "the file ends early");
    }
    memcpy(out, p->d->bytes + p->position, bytes);
    p->position += bytes;
}

/* 8-bit grey, grey+alpha, RGB or RGBA. Returns the number of channels that libpng will write. */
static int set_transformations(struct png *p)
{
    if (png_get_bit_depth(p->lib, p->info) == 16)
        png_set_scale_16(p->lib);
    png_set_expand(p->lib); /* palette to RGB, 1, 2, 4 bits to 8, tRNS to alpha */
    png_set_interlace_handling(p->lib);
    png_read_update_info(p->lib, p->info);
    return png_get_channels(p->lib, p->info);
}

static at_stored stored_as(const struct png *p)
{
    static const at_mode modes[] = {[PNG_COLOR_TYPE_GRAY] = AT_MODE_GREY,
                                    [PNG_COLOR_TYPE_GRAY_ALPHA] = AT_MODE_GREY_ALPHA,
                                    [PNG_COLOR_TYPE_PALETTE] = AT_MODE_PALETTE,
                                    [PNG_COLOR_TYPE_RGB] = AT_MODE_RGB,
                                    [PNG_COLOR_TYPE_RGBA] = AT_MODE_RGBA};
    return (at_stored){modes[png_get_color_type(p->lib, p->info)],
                       png_get_bit_depth(p->lib, p->info)};
}

/* v*a/255, rounded: transparent is black. */
static void drop_alpha(const uint8_t *in, size_t pixels, int channels, uint8_t *out)
{
    for (size_t i = 0; i < pixels; i++, in += channels + 1, out += channels)
        for (int c = 0; c < channels; c++)
            out[c] = (uint8_t)((in[c] * in[channels] + 127) / 255);
}

static bool set_rows(struct png *p, uint8_t *pixels, size_t stride)
{
    size_t height = (size_t)p->d->image->height, bytes;
    if (!at_mul(height, sizeof *p->rows, SIZE_MAX / 2, &bytes) || !(p->rows = malloc(bytes)))
        return false;
    for (size_t y = 0; y < height; y++)
        p->rows[y] = pixels + y * stride;
    return true;
}

static int orientation_of(struct png *p)
{
    png_uint_32 size = 0;
    png_bytep exif = NULL;
    if (!png_get_eXIf_1(p->lib, p->info, &size, &exif))
        return 1;
    return at_exif_orientation(exif, size);
}

static size_t u32_at(const uint8_t *p)
{
    return (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
}

/* Bytes of IDAT chunks that have not been read. */
static size_t data_left(const struct png *p)
{
    size_t left = 0;
    for (size_t at = 8; p->d->size - at >= 12;) {
        const uint8_t *chunk = p->d->bytes + at;
        size_t begin = at + 8, room = p->d->size - begin, bytes = u32_at(chunk);
        size_t end = begin + (bytes < room ? bytes : room);
        if (!memcmp(chunk + 4, "IDAT", 4) && end > p->position)
            left += end - (begin > p->position ? begin : p->position);
        at = p->d->size - end > 4 ? end + 4 : p->d->size;
    }
    return left;
}

/* With the last row libpng unpacks whatever data is left. */
static int read_rows(struct png *p)
{
    int height = p->d->image->height;
    for (int pass = png_set_interlace_handling(p->lib); pass > 0; pass--)
        for (int y = 0; y < height; y++) {
            bool last = pass == 1 && y == height - 1; /* its samples may be 16 bits in the file */
            if (last && data_left(p) > 2 * png_get_rowbytes(p->lib, p->info) + MAX_BEHIND)
                return at_decoding_fail(p->d, AT_REASON_CORRUPT,
                                        "%zu bytes of data for the last row", data_left(p));
            png_read_row(p->lib, p->rows[y], NULL);
        }
    return 0;
}

static int read_pixels(struct png *p, int channels)
{
    at_image *image = p->d->image;
    int wanted = channels > 2 ? 3 : 1;
    size_t pixels = (size_t)image->width * (size_t)image->height;
    uint8_t *into = image->pixels;
    if (channels != wanted) {
        if (!at_buffer_reserve(&p->wide, pixels * (size_t)channels))
            return at_decoding_fail(p->d, AT_REASON_TOO_LARGE, "no memory for %zu pixels", pixels);
        into = p->wide.data;
    }
    if (!set_rows(p, into, (size_t)image->width * (size_t)channels))
        return at_nomem(p->d->err);
    if (read_rows(p) < 0)
        return AT_EINPUT;
    png_read_end(p->lib, p->info); /* eXIf may come behind the pixels */
    p->d->orientation = orientation_of(p);
    if (channels != wanted)
        drop_alpha(into, pixels, wanted, image->pixels);
    return 0;
}

/* Everything that may longjmp. */
static int decode(struct png *p)
{
    png_set_read_fn(p->lib, p, on_read);
    png_set_user_limits(p->lib, PNG_UINT_31_MAX, PNG_UINT_31_MAX); /* our own limits follow */
    png_set_chunk_malloc_max(p->lib, MAX_CHUNK);
    png_set_chunk_cache_max(p->lib, MAX_CHUNKS);
    png_set_keep_unknown_chunks(p->lib, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_set_keep_unknown_chunks(p->lib, PNG_HANDLE_CHUNK_AS_DEFAULT, (png_const_bytep) "eXIf", 1);
    png_set_crc_action(p->lib, PNG_CRC_ERROR_QUIT, PNG_CRC_WARN_DISCARD);
    png_read_info(p->lib, p->info);
    size_t width = png_get_image_width(p->lib, p->info),
           height = png_get_image_height(p->lib, p->info);
    p->d->stored = stored_as(p);
    bool colour = png_get_color_type(p->lib, p->info) & PNG_COLOR_MASK_COLOR;
    if (!at_decoding_begin(p->d, width, height, colour ? 3 : 1, 1))
        return AT_EINPUT;
    return read_pixels(p, set_transformations(p));
}

static int guarded(struct png *p)
{
    if (setjmp(png_jmpbuf(p->lib)))
        return at_decoding_fail(p->d, p->ended_early ? AT_REASON_TRUNCATED : AT_REASON_CORRUPT,
                                "%s", p->message);
    return decode(p);
}

int at_png_decode(at_decoding *d)
{
    struct png p = {.d = d};
    int code = AT_ENOMEM;
    p.lib = png_create_read_struct(PNG_LIBPNG_VER_STRING, &p, on_error, on_warning);
    p.info = p.lib ? png_create_info_struct(p.lib) : NULL;
    if (p.info)
        code = guarded(&p);
    else
        at_nomem(d->err);
    png_destroy_read_struct(&p.lib, &p.info, NULL);
    free(p.rows);
    at_buffer_fini(&p.wide);
    return code;
}
