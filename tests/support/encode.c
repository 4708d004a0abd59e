/* SPDX-License-Identifier: Apache-2.0
 * Real picture files made by libpng and libjpeg. */
#include "encode.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <png.h>

#include <cmocka.h>

at_image paint_image(int width, int height, int channels, uint64_t seed)
{
    at_image image = {.width = width, .height = height, .channels = channels};
    image.pixels = malloc((size_t)(width * height * channels));
    assert_non_null(image.pixels);
    at_rng rng = at_rng_stream(seed, "paint", 0);
    int base[3], dx[3], dy[3];
    for (int c = 0; c < 3; c++) {
        base[c] = (int)at_rng_below(&rng, 128);
        dx[c] = (int)at_rng_below(&rng, 64);
        dy[c] = (int)at_rng_below(&rng, 56);
    }
    uint8_t *p = image.pixels;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < channels; c++)
                *p++ = (uint8_t)(base[c] + dx[c] * x / width + dy[c] * y / height +
                                 (int)at_rng_below(&rng, 8));
    return image;
}

/* ---- JPEG ---- */

static void put_rows(struct jpeg_compress_struct *lib, const at_image *image, bool cmyk)
{
    size_t width = (size_t)image->width, channels = (size_t)image->channels;
    uint8_t *row = malloc(width * 4);
    assert_non_null(row);
    while (lib->next_scanline < lib->image_height) {
        const uint8_t *in = image->pixels + lib->next_scanline * width * channels;
        if (cmyk)
            for (size_t x = 0; x < width; x++) { /* inverted ink is light; no black */
                memcpy(row + 4 * x, in + 3 * x, 3);
                row[4 * x + 3] = 255;
            }
        else
            memcpy(row, in, width * channels);
        jpeg_write_scanlines(lib, &row, 1);
    }
    free(row);
}

encoded encode_jpeg(const at_image *image, const jpeg_spec *spec)
{
    struct jpeg_compress_struct lib;
    struct jpeg_error_mgr errors;
    lib.err = jpeg_std_error(&errors);
    jpeg_create_compress(&lib);
    unsigned char *bytes = NULL;
    unsigned long size = 0;
    jpeg_mem_dest(&lib, &bytes, &size);
    lib.image_width = (JDIMENSION)image->width;
    lib.image_height = (JDIMENSION)image->height;
    lib.input_components = spec->cmyk ? 4 : image->channels;
    lib.in_color_space = spec->cmyk ? JCS_CMYK : image->channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(&lib);
    if (spec->cmyk)
        lib.write_Adobe_marker = TRUE;
    jpeg_set_quality(&lib, spec->quality, TRUE);
    if (spec->progressive)
        jpeg_simple_progression(&lib);
    lib.restart_in_rows = spec->restart;
    jpeg_start_compress(&lib, TRUE);
    put_rows(&lib, image, spec->cmyk);
    jpeg_finish_compress(&lib);
    jpeg_destroy_compress(&lib);
    return (encoded){bytes, size};
}

/* ---- PNG ---- */

static void on_write(png_structp lib, png_bytep data, size_t bytes)
{
    at_text_append(png_get_io_ptr(lib), data, bytes);
}

static void on_flush(png_structp lib)
{
    (void)lib;
}

static void set_transparency(png_structp lib, png_infop info, const png_spec *spec)
{
    if (spec->palette) {
        png_color colours[256];
        for (int i = 0; i < spec->colours; i++)
            colours[i] = (png_color){spec->palette[3 * i], spec->palette[3 * i + 1],
                                     spec->palette[3 * i + 2]};
        png_set_PLTE(lib, info, colours, spec->colours);
    }
    if (spec->palette_alpha)
        png_set_tRNS(lib, info, spec->palette_alpha, spec->colours, NULL);
    if (spec->transparent_grey > 0) {
        png_color_16 grey = {.gray = (png_uint_16)spec->transparent_grey};
        png_set_tRNS(lib, info, NULL, 0, &grey);
    }
    if (spec->transparent_rgb) {
        const uint16_t *rgb = spec->transparent_rgb;
        png_color_16 colour = {.red = rgb[0], .green = rgb[1], .blue = rgb[2]};
        png_set_tRNS(lib, info, NULL, 0, &colour);
    }
}

encoded encode_png(const png_spec *spec, const uint8_t *rows, size_t stride)
{
    at_text out = {0};
    png_structp lib = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(lib);
    assert_non_null(info);
    png_set_write_fn(lib, &out, on_write, on_flush);
    png_set_user_limits(lib, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_set_IHDR(lib, info, (png_uint_32)spec->width, (png_uint_32)spec->height, spec->depth,
                 spec->type, spec->interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    set_transparency(lib, info, spec);
    png_write_info(lib, info);
    png_bytep *pointers = malloc((size_t)spec->height * sizeof *pointers);
    assert_non_null(pointers);
    for (int y = 0; y < spec->height; y++)
        pointers[y] = (png_bytep)(uintptr_t)(rows + (size_t)y * stride);
    png_write_image(lib, pointers);
    png_write_end(lib, info);
    free(pointers);
    png_destroy_write_struct(&lib, &info);
    assert_false(out.failed);
    return (encoded){(uint8_t *)out.data, out.length};
}

/* Behind position `at`, where a marker begins, the next that neither restarts nor stands for a byte. */
static size_t next_marker(const encoded *jpeg, size_t at)
{
    do
        at++;
    while (jpeg->bytes[at] != 0xFF || jpeg->bytes[at + 1] == 0 ||
           (jpeg->bytes[at + 1] & 0xF8) == 0xD0);
    return at;
}

encoded encode_scans(int width, size_t times)
{
    at_image image = paint_image(width, width, 1, 3);
    encoded jpeg = encode_jpeg(&image, &(jpeg_spec){.quality = 80, .progressive = true});
    at_image_fini(&image);
    size_t begin = 2, end;
    while (jpeg.bytes[begin + 1] != 0xDA)
        begin += 2 + (size_t)(jpeg.bytes[begin + 2] << 8 | jpeg.bytes[begin + 3]);
    end = next_marker(&jpeg, begin);
    encoded many = {malloc(jpeg.size + (end - begin) * times), begin};
    assert_non_null(many.bytes);
    memcpy(many.bytes, jpeg.bytes, begin);
    for (size_t i = 0; i < times; i++, many.size += end - begin)
        memcpy(many.bytes + many.size, jpeg.bytes + begin, end - begin);
    memcpy(many.bytes + many.size, jpeg.bytes + end, jpeg.size - end);
    many.size += jpeg.size - end;
    free(jpeg.bytes);
    return many;
}
