/* SPDX-License-Identifier: Apache-2.0
 * JPEG by libjpeg-turbo: baseline and progressive; grey, YCbCr, RGB, CMYK and YCCK.
 *
 * libjpeg repairs what it can and only warns: a file that ends early is padded with grey. Here an
 * early end is "truncated" and a broken code is "corrupt", since a data set wants to know; harmless
 * warnings (odd markers of cameras) are let pass. Errors come back by longjmp; so that no local can
 * be clobbered, all state lies in the at_jpeg. A file of thousands of progressive scans would keep
 * a core busy for hours: scans are limited.
 *
 * Where less than the full picture is wanted, libjpeg makes it at a part of its size: it reads and
 * checks all codes as ever, and spares the transform back to pixels, which is half of the work. */
#include "internal.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

enum { ROWS = 8, EXIF_MARKER = JPEG_APP0 + 1 };

struct at_jpeg {
    struct jpeg_decompress_struct lib;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf jump;
    int64_t max_scans;
    bool ended_early, broken, scans_exceeded;
    at_buffer row; /* one row of CMYK */
    char message[JMSG_LENGTH_MAX];
};

static void on_error(j_common_ptr lib)
{
    at_jpeg *j = lib->client_data;
    lib->err->format_message(lib, j->message);
    longjmp(j->jump, 1);
}

/* level -1: a warning, else a trace message. */
static void on_message(j_common_ptr lib, int level)
{
    at_jpeg *j = lib->client_data;
    if (level >= 0)
        return;
    switch (lib->err->msg_code) {
    case JWRN_JPEG_EOF:
    case JWRN_HIT_MARKER:
        j->ended_early = true;
        break;
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE:
    case JWRN_MUST_RESYNC:
        j->broken = true;
        break;
    default:
        return;
    }
    if (!j->message[0])
        lib->err->format_message(lib, j->message);
}

static void on_progress(j_common_ptr lib)
{
    at_jpeg *j = lib->client_data;
    if (((j_decompress_ptr)lib)->input_scan_number <= j->max_scans)
        return;
    j->scans_exceeded = true;
    snprintf(j->message, sizeof j->message, "more than %lld scans, which --max-scans raises",
             (long long)j->max_scans);
    longjmp(j->jump, 1);
}

static bool create(at_jpeg *j)
{
    j->lib.err = jpeg_std_error(&j->errors);
    j->errors.error_exit = on_error;
    j->errors.emit_message = on_message;
    j->progress.progress_monitor = on_progress;
    j->lib.client_data = j; /* jpeg_create_decompress keeps it and err */
    if (setjmp(j->jump))
        return false;
    jpeg_create_decompress(&j->lib);
    jpeg_save_markers(&j->lib, EXIF_MARKER, 0xFFFF);
    j->lib.progress = &j->progress;
    return true;
}

at_jpeg *at_jpeg_new(void)
{
    at_jpeg *j = calloc(1, sizeof *j);
    if (j && create(j))
        return j;
    at_jpeg_free(j);
    return NULL;
}

void at_jpeg_free(at_jpeg *j)
{
    if (!j)
        return;
    jpeg_destroy_decompress(&j->lib);
    at_buffer_fini(&j->row);
    free(j);
}

/* ---- rows ---- */

static void read_rows(at_jpeg *j, const at_image *image)
{
    size_t stride = (size_t)image->width * (size_t)image->channels;
    while (j->lib.output_scanline < j->lib.output_height) {
        JSAMPROW rows[ROWS];
        JDIMENSION left = j->lib.output_height - j->lib.output_scanline;
        JDIMENSION n = left < ROWS ? left : ROWS;
        for (JDIMENSION r = 0; r < n; r++)
            rows[r] = image->pixels + (j->lib.output_scanline + r) * stride;
        jpeg_read_scanlines(&j->lib, rows, n);
    }
}

static uint8_t scaled(int a, int b)
{
    return (uint8_t)((a * b + 127) / 255);
}

/* Ink to light. Adobe's programs store CMYK inverted, and mark the file. */
static void cmyk_to_rgb(const uint8_t *cmyk, size_t width, bool inverted, uint8_t *rgb)
{
    int flip = inverted ? 0 : 255;
    for (size_t x = 0; x < width; x++, cmyk += 4, rgb += 3)
        for (int c = 0; c < 3; c++)
            rgb[c] = scaled(cmyk[c] ^ flip, cmyk[3] ^ flip);
}

static bool read_cmyk_rows(at_jpeg *j, const at_image *image)
{
    size_t width = (size_t)image->width;
    if (!at_buffer_reserve(&j->row, width * 4))
        return false;
    while (j->lib.output_scanline < j->lib.output_height) {
        uint8_t *out = image->pixels + j->lib.output_scanline * width * 3;
        if (jpeg_read_scanlines(&j->lib, &j->row.data, 1) == 1)
            cmyk_to_rgb(j->row.data, width, j->lib.saw_Adobe_marker, out);
    }
    return true;
}

/* ---- the picture ---- */

/* By the first EXIF block; other programs' data share its marker. */
static int orientation_of(const at_jpeg *j)
{
    static const uint8_t exif[6] = "Exif";
    for (jpeg_saved_marker_ptr m = j->lib.marker_list; m; m = m->next)
        if (m->data_length > sizeof exif && !memcmp(m->data, exif, sizeof exif))
            return at_exif_orientation(m->data + sizeof exif, m->data_length - sizeof exif);
    return 1;
}

static int choose_output(at_jpeg *j, at_decoding *d)
{
    int channels = 3;
    d->stored.depth = j->lib.data_precision;
    switch (j->lib.jpeg_color_space) {
    case JCS_GRAYSCALE:
        d->stored.mode = AT_MODE_GREY;
        j->lib.out_color_space = JCS_GRAYSCALE;
        channels = 1;
        break;
    case JCS_CMYK:
    case JCS_YCCK:
        d->stored.mode = AT_MODE_CMYK;
        j->lib.out_color_space = JCS_CMYK;
        break;
    case JCS_RGB:
    case JCS_YCbCr:
        d->stored.mode = AT_MODE_RGB;
        j->lib.out_color_space = JCS_RGB;
        break;
    default:
        return at_decoding_fail(d, AT_REASON_UNSUPPORTED, "JPEG of %d components",
                                j->lib.num_components);
    }
    unsigned part = at_decoding_part(d, j->lib.image_width, j->lib.image_height);
    d->stored.part = part;
    j->lib.scale_num = 1;
    j->lib.scale_denom = part;
    return at_decoding_begin(d, j->lib.image_width, j->lib.image_height, channels, part)
               ? 0
               : AT_EINPUT;
}

/* Everything that may longjmp back into at_jpeg_decode. */
static int decode(at_jpeg *j, at_decoding *d)
{
    jpeg_mem_src(&j->lib, d->bytes, d->size);
    jpeg_read_header(&j->lib, TRUE);
    d->orientation = orientation_of(j);
    int code = choose_output(j, d);
    if (code < 0)
        return code;
    jpeg_start_decompress(&j->lib);
    if (j->lib.out_color_space != JCS_CMYK)
        read_rows(j, d->image);
    else if (!read_cmyk_rows(j, d->image))
        return at_nomem(d->err);
    jpeg_finish_decompress(&j->lib);
    return 0;
}

static at_reason reason_of(const at_jpeg *j)
{
    if (j->scans_exceeded)
        return AT_REASON_TOO_LARGE;
    if (j->ended_early)
        return AT_REASON_TRUNCATED;
    if (j->broken)
        return AT_REASON_CORRUPT;
    switch (j->errors.msg_code) {
    case JERR_OUT_OF_MEMORY:
    case JERR_IMAGE_TOO_BIG:
        return AT_REASON_TOO_LARGE;
    case JERR_BAD_PRECISION: /* 12 bits */
    case JERR_SOF_UNSUPPORTED:
    case JERR_CONVERSION_NOTIMPL:
        return AT_REASON_UNSUPPORTED;
    default:
        return AT_REASON_CORRUPT;
    }
}

static int failure(const at_jpeg *j, at_decoding *d)
{
    return at_decoding_fail(d, reason_of(j), "%s", j->message);
}

int at_jpeg_decode(at_jpeg *j, at_decoding *d)
{
    j->max_scans = d->limits.scans;
    j->ended_early = j->broken = j->scans_exceeded = false;
    j->message[0] = 0;
    if (setjmp(j->jump)) {
        jpeg_abort_decompress(&j->lib);
        return failure(j, d);
    }
    int code = decode(j, d);
    jpeg_abort_decompress(&j->lib); /* after a finish it does nothing */
    if (code == 0 && (j->ended_early || j->broken))
        return failure(j, d);
    return code;
}
