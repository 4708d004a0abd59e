/* SPDX-License-Identifier: Apache-2.0
 * Real picture files made by libpng and libjpeg, with what encoders of others may write.
 *
 *     at_image image = paint_image(32, 20, 3, 7);
 *     encoded jpeg = encode_jpeg(&image, &(jpeg_spec){.quality = 90, .progressive = true});
 *     encoded png = encode_png(&(png_spec){.width = 5, .height = 4, .depth = 16, .type = 2}, rows);
 */
#ifndef ATOLL_TEST_ENCODE_H
#define ATOLL_TEST_ENCODE_H

#include <atoll/datasets.h>

typedef struct encoded {
    uint8_t *bytes; /* malloc'd */
    size_t size;
} encoded;

/* Smooth with some noise; at_image_fini. */
at_image paint_image(int width, int height, int channels, uint64_t seed);

typedef struct jpeg_spec {
    int quality;
    bool progressive;
    bool cmyk;   /* of RGB pixels, inverted as Adobe's programs do */
    int restart; /* rows of blocks between restart markers, 0: none */
} jpeg_spec;
encoded encode_jpeg(const at_image *image, const jpeg_spec *spec);
/* A progressive JPEG, width x width and grey, whose first scan is there so many times more. */
encoded encode_scans(int width, size_t times);

typedef struct png_spec {
    int width, height, depth, type; /* type: libpng's PNG_COLOR_TYPE_... */
    bool interlaced;
    const uint8_t *palette; /* RGB triples */
    int colours;
    const uint8_t *palette_alpha;    /* NULL or one a colour */
    int transparent_grey;            /* 0: none */
    const uint16_t *transparent_rgb; /* NULL: none */
} png_spec;
/* rows: the packed rows, one behind another, of `stride` bytes. */
encoded encode_png(const png_spec *spec, const uint8_t *rows, size_t stride);

#endif
