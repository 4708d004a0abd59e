/* SPDX-License-Identifier: Apache-2.0
 * PNG bytes of a picture, for reports. */
#include "internal.h"

#include <png.h>
#include <setjmp.h>
#include <stdlib.h>

static void on_error(png_structp lib, png_const_charp text)
{
    at_fail(png_get_error_ptr(lib), AT_EFAIL, "PNG: %s", text);
    png_longjmp(lib, 1);
}

static void on_warning(png_structp lib, png_const_charp text)
{
    (void)lib;
    (void)text;
}

static void on_write(png_structp lib, png_bytep data, size_t bytes)
{
    at_text *out = png_get_io_ptr(lib);
    at_text_append(out, data, bytes);
    if (out->failed)
        png_error(lib, "out of memory");
}

static void on_flush(png_structp lib)
{
    (void)lib;
}

static int encode(png_structp lib, png_infop info, const at_image *image, at_text *out)
{
    if (setjmp(png_jmpbuf(lib)))
        return AT_EFAIL;
    png_set_write_fn(lib, out, on_write, on_flush);
    png_set_IHDR(lib, info, (png_uint_32)image->width, (png_uint_32)image->height, 8,
                 image->channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(lib, info);
    size_t stride = (size_t)image->width * (size_t)image->channels;
    for (size_t y = 0; y < (size_t)image->height; y++)
        png_write_row(lib, image->pixels + y * stride);
    png_write_end(lib, NULL);
    return 0;
}

int at_image_encode_png(const at_image *image, void **out, size_t *size, at_error *err)
{
    at_error local = {0};
    err = err ? err : &local;
    if (image->width < 1 || image->height < 1 || (image->channels != 1 && image->channels != 3))
        return at_fail(err, AT_EINPUT, "PNG: a picture of %d x %d x %d", image->width,
                       image->height, image->channels);
    at_text bytes = {0};
    int code = AT_ENOMEM;
    png_structp lib = png_create_write_struct(PNG_LIBPNG_VER_STRING, err, on_error, on_warning);
    png_infop info = lib ? png_create_info_struct(lib) : NULL;
    if (info)
        code = encode(lib, info, image, &bytes);
    else
        at_nomem(err);
    png_destroy_write_struct(&lib, &info);
    if (code < 0) {
        at_text_fini(&bytes);
        return code;
    }
    *out = bytes.data;
    *size = bytes.length;
    return 0;
}
