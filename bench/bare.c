/* SPDX-License-Identifier: Apache-2.0
 * bare: the limit of whoever has to decode: libjpeg and libpng as a program of twenty lines calls
 * them, to 8-bit RGB, a row at a time into one buffer, each thread with one decompressor. No checks,
 * no hash, no statistics; what is no PNG or JPEG is copied. */
#include "bare.h"

#include <setjmp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <png.h>

enum {
    TURN = 8,   /* images that a thread takes at a time */
    BEHIND = 8, /* rows begin so far behind a vector's multiple: libjpeg-turbo is faster there */
};

struct bare {
    at_sample *samples;
    size_t count;
    atomic_size_t next;
    atomic_bool failed;
};

/* ---- JPEG ---- */

struct jpeg {
    struct jpeg_decompress_struct lib;
    struct jpeg_error_mgr errors;
    jmp_buf jump;
    uint8_t *room, *row; /* row: in room */
    size_t row_bytes;
};

/* The pictures went through an ingest: this is memory that is short. */
static void on_error(j_common_ptr lib)
{
    struct jpeg *j = lib->client_data;
    longjmp(j->jump, 1);
}

static void on_message(j_common_ptr lib, int level)
{
    (void)lib;
    (void)level;
}

static bool jpeg_init(struct jpeg *j)
{
    *j = (struct jpeg){0};
    j->lib.err = jpeg_std_error(&j->errors);
    j->errors.error_exit = on_error;
    j->errors.emit_message = on_message;
    j->lib.client_data = j;
    if (setjmp(j->jump))
        return false;
    jpeg_create_decompress(&j->lib);
    return true;
}

static bool make_row(struct jpeg *j)
{
    size_t bytes = (size_t)j->lib.output_width * (size_t)j->lib.output_components;
    if (bytes > j->row_bytes) {
        free(j->room);
        j->room = malloc(bytes + BEHIND);
        j->row = j->room + BEHIND;
        j->row_bytes = j->room ? bytes : 0;
    }
    return j->room != NULL;
}

static bool decode_jpeg(struct jpeg *j, const at_sample *s)
{
    if (setjmp(j->jump)) {
        jpeg_abort_decompress(&j->lib);
        return false;
    }
    jpeg_mem_src(&j->lib, s->bytes, s->size);
    jpeg_read_header(&j->lib, TRUE);
    if (j->lib.jpeg_color_space == JCS_YCbCr)
        j->lib.out_color_space = JCS_RGB;
    jpeg_start_decompress(&j->lib);
    if (!make_row(j))
        return false;
    while (j->lib.output_scanline < j->lib.output_height)
        jpeg_read_scanlines(&j->lib, &j->row, 1);
    jpeg_finish_decompress(&j->lib);
    return true;
}

/* ---- others ---- */

static bool decode_png(const at_sample *s)
{
    png_image image = {.version = PNG_IMAGE_VERSION};
    if (!png_image_begin_read_from_memory(&image, s->bytes, s->size))
        return false;
    image.format = image.format & PNG_FORMAT_FLAG_COLOR ? PNG_FORMAT_RGB : PNG_FORMAT_GRAY;
    png_color black = {0};
    void *pixels = malloc(PNG_IMAGE_SIZE(image));
    bool good = pixels && png_image_finish_read(&image, &black, pixels, 0, NULL);
    png_image_free(&image);
    free(pixels);
    return good;
}

static bool copy(const at_sample *s)
{
    void *bytes = malloc(s->size);
    if (bytes)
        memcpy(bytes, s->bytes, s->size);
    free(bytes);
    return bytes != NULL;
}

static bool decode_one(struct jpeg *j, const at_sample *s)
{
    const uint8_t *first = s->bytes;
    if (s->size > 2 && first[0] == 0xFF && first[1] == 0xD8)
        return decode_jpeg(j, s);
    return s->size > 8 && !png_sig_cmp(first, 0, 8) ? decode_png(s) : copy(s);
}

/* ---- all ---- */

static void decode_share(void *context, size_t thread)
{
    (void)thread;
    struct bare *b = context;
    struct jpeg j;
    bool good = jpeg_init(&j);
    size_t from;
    while (good && (from = atomic_fetch_add(&b->next, TURN)) < b->count)
        for (size_t i = from; i < b->count && i < from + TURN && !at_interrupted(); i++)
            good = decode_one(&j, &b->samples[i]) && good;
    if (!good)
        atomic_store(&b->failed, true);
    jpeg_destroy_decompress(&j.lib);
    free(j.room);
}

static int list_samples(const at_dataset *d, struct bare *b, at_error *err)
{
    size_t total = 0;
    for (int split = 0; split < AT_SPLITS; split++)
        total += at_dataset_count(d, (at_split)split);
    b->samples = calloc(total + 1, sizeof *b->samples);
    if (!b->samples)
        return at_nomem(err);
    int code = 0;
    for (int split = 0; split < AT_SPLITS; split++)
        for (size_t i = 0; code == 0 && i < at_dataset_count(d, (at_split)split); i++)
            code = at_dataset_sample(d, (at_split)split, i, &b->samples[b->count++], err);
    return code;
}

int bench_bare_decode(const at_dataset *d, int threads, double *seconds, at_error *err)
{
    struct bare b = {0};
    at_pool *pool = at_pool_new(threads, err);
    int code = pool ? list_samples(d, &b, err) : err->code;
    double begin = at_now();
    if (code == 0)
        at_pool_run(pool, (size_t)threads, decode_share, &b);
    *seconds = at_now() - begin;
    if (code == 0 && at_interrupted())
        code = at_fail(err, AT_EINTERRUPTED, "interrupted");
    else if (code == 0 && b.failed)
        code = at_fail(err, AT_EFAIL, "libjpeg or libpng alone cannot decode what was ingested");
    at_pool_free(pool);
    free(b.samples);
    return code;
}
