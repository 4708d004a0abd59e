/* SPDX-License-Identifier: Apache-2.0
 * Pictures made to mislead: names that lie, sides that cannot be, files that are two things at once,
 * and little files that want much memory or time. */
#include "../../datasets/internal.h"
#include "place.h"
#include "png_bytes.h"
#include "sources.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WIDTH = 16, HEIGHT = 16 };

static encoded small_jpeg(bool progressive)
{
    at_image image = paint_image(WIDTH, HEIGHT, 1, 1);
    encoded file = encode_jpeg(&image, &(jpeg_spec){.quality = 90, .progressive = progressive});
    at_image_fini(&image);
    return file;
}

static encoded small_png(void)
{
    at_image image = paint_image(WIDTH, HEIGHT, 3, 2);
    encoded file = encode_png(&(png_spec){WIDTH, HEIGHT, 8, 2}, image.pixels, 3 * WIDTH);
    at_image_fini(&image);
    return file;
}

/* Why it is refused; NULL: it is taken, with the usual sides. */
static const char *reason_of(const void *bytes, size_t size)
{
    at_image image;
    at_error err = {0};
    const char *reason = NULL;
    int code = at_image_decode(bytes, size, NULL, &image, &reason, &err);
    assert_int_equal(code, reason ? AT_EINPUT : 0);
    if (code == 0)
        assert_int_equal(image.width * image.height, WIDTH * HEIGHT);
    else
        assert_memory_equal(err.message, reason, strlen(reason));
    at_image_fini(&image);
    return reason;
}

/* ---- names and contents ---------------------------------------------------------------------- */

/* A file of a folder and what becomes of it: of content `what`, or these bytes. */
struct named {
    const char *name, *what, *reason; /* reason NULL: it is taken */
    const char *bytes;
    size_t size;
};
#define BYTES(text) text, sizeof text - 1

static const struct named lies[] = {
    {"png.jpg", "png"},
    {"png.txt", "png"},
    {"png", "png"},
    {".png", "png"},
    {"jpeg.png", "jpeg"},
    {"jpeg.html", "jpeg"},
    {"jpeg.gif", "jpeg"},
    {"JPEG.TIFF", "jpeg"},
    {"empty.png", "", "empty", "", 0},
    {"one-byte.jpg", "", "not-an-image", BYTES("\xFF")},
    {"text.png", "", "not-an-image", BYTES("This is no picture but a text.")},
    {"page.jpg", "", "not-an-image", BYTES("<!DOCTYPE html><title>404</title>")},
    {"svg.png", "", "not-an-image", BYTES("<svg xmlns=\"http://www.w3.org/2000/svg\"/>")},
    {"pdf.jpg", "", "not-an-image", BYTES("%PDF-1.7\n1 0 obj<<>>endobj")},
    {"zip.jpg", "", "not-an-image", BYTES("PK\3\4\x14\0\0\0\x08\0and so on")},
    {"elf.png", "", "not-an-image",
     BYTES("\x7F"
           "ELF\2\1\1\0\0\0\0\0\0\0\0\0")},
    {"film.jpg", "", "not-an-image",
     BYTES("\0\0\0\x18"
           "ftypisom\0\0\0\0isom")},
    {"mng.png", "", "not-an-image", BYTES("\x8AMNG\r\n\x1A\n\0\0\0\x1C")},
    {"gif.png", "", "unsupported", BYTES("GIF89a\1\0\1\0\x80\0\0\xFF\xFF\xFF\0\0\0")},
    {"webp.jpg", "", "unsupported", BYTES("RIFF\x24\0\0\0WEBPVP8 ")},
    {"tiff.jpg", "", "unsupported", BYTES("II*\0\x08\0\0\0\0\0\0\0\0\0\0\0")},
    {"tiff-big.jpg", "", "unsupported", BYTES("MM\0*\0\0\0\x08\0\0\0\0\0\0\0\0")},
    {"bmp.png", "", "unsupported", BYTES("BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0")},
    {"psd.png", "", "unsupported", BYTES("8BPS\0\1\0\0\0\0\0\0\0\3\0\0")},
    {"avif.jpg", "", "unsupported",
     BYTES("\0\0\0\x1C"
           "ftypavif\0\0\0\0mif1")},
    {"heic.jpg", "", "unsupported",
     BYTES("\0\0\0\x18"
           "ftypheic\0\0\0\0heic")},
    {"jxl.png", "", "unsupported", BYTES("\xFF\x0A\xFA\x7F\1\x90\x08\x10\0\0\0\0\0\0\0\0")},
    {"jp2.jpg", "", "unsupported", BYTES("\0\0\0\x0CjP  \r\n\x87\n\0\0\0\x14")},
};

/* Two things at once: what stands first counts, and nothing behind the picture is looked at. */
static const struct named polyglots[] = {
    {"jpeg-then-html.jpg", "jpeg+", NULL, BYTES("<html><script>alert(1)</script></html>")},
    {"jpeg-then-zip.jpg", "jpeg+", NULL, BYTES("PK\3\4\x14\0\0\0PK\5\6\0\0\0\0")},
    {"jpeg-then-shell.jpg", "jpeg+", NULL, BYTES("\n#!/bin/sh\nrm -rf /\n")},
    {"png-then-html.png", "png+", NULL, BYTES("<html><script>alert(1)</script></html>")},
    {"png-then-zip.png", "png+", NULL, BYTES("PK\5\6\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")},
    {"html-in-jpeg.html", "jpeg with a comment", NULL, BYTES("<script>alert(1)</script>")},
    {"php-in-jpeg.php", "jpeg with a comment", NULL, BYTES("<?php system($_GET['c']); ?>")},
    {"html-then-jpeg.jpg", "+jpeg", "not-an-image", BYTES("<html><!--")},
    {"pdf-then-jpeg.jpg", "+jpeg", "not-an-image", BYTES("%PDF-1.4\n")},
    {"gif-then-jpeg.jpg", "+jpeg", "unsupported", BYTES("GIF89a\1\0\1\0\0\0\0")},
    {"space-then-png.png", "+png", "not-an-image", BYTES(" ")},
    {"bom-then-png.png", "+png", "not-an-image", BYTES("\xEF\xBB\xBF")},
    {"jpeg-head-then-png.jpg", "+png", "corrupt", BYTES("\xFF\xD8\xFF")},
    {"png-head-then-jpeg.png", "+jpeg", "corrupt", BYTES("\x89PNG\r\n\x1A\n")},
};
#undef BYTES

static void append_jpeg(at_text *t, const at_text *comment)
{
    encoded jpeg = small_jpeg(false);
    at_text_append(t, jpeg.bytes, 2);
    if (comment->length) {
        size_t bytes = comment->length + 2;
        at_text_append(t, &(uint8_t[]){0xFF, 0xFE, (uint8_t)(bytes >> 8), (uint8_t)bytes}, 4);
        at_text_append(t, comment->data, comment->length);
    }
    at_text_append(t, jpeg.bytes + 2, jpeg.size - 2);
    free(jpeg.bytes);
}

static at_text content_of(const struct named *n)
{
    at_text t = {0}, comment = {0};
    if (strstr(n->what, "comment"))
        at_text_append(&comment, n->bytes, n->size);
    else if (n->what[0] == '+' || !n->what[0])
        at_text_append(&t, n->bytes, n->size);
    if (strstr(n->what, "jpeg"))
        append_jpeg(&t, &comment);
    encoded png = small_png();
    if (strstr(n->what, "png"))
        at_text_append(&t, png.bytes, png.size);
    free(png.bytes);
    if (n->what[0] && n->what[strlen(n->what) - 1] == '+')
        at_text_append(&t, n->bytes, n->size);
    at_text_fini(&comment);
    assert_false(t.failed);
    return t;
}

static void ingest_all(const struct place *p, const struct named *files, size_t n, const char *what)
{
    size_t taken = 0;
    for (size_t i = 0; i < n; i++) {
        char name[80];
        snprintf(name, sizeof name, "class/%s", files[i].name);
        at_text t = content_of(&files[i]);
        put_file(p->source, name, t.data ? t.data : "", t.length);
        at_text_fini(&t);
        taken += !files[i].reason;
    }
    at_ingest_result r = ingest_must(p->source, p->out, 0);
    assert_int_equal(r.images, taken);
    assert_int_equal(r.errors, n - taken);
    for (size_t i = 0; i < n; i++) {
        char sql[300];
        snprintf(sql, sizeof sql,
                 "SELECT coalesce((SELECT reason FROM errors WHERE path = 'class/%s'),"
                 " (SELECT mode FROM images JOIN blobs USING(hash) WHERE path = 'class/%s'))",
                 files[i].name, files[i].name);
        const char *want = files[i].reason                ? files[i].reason
                           : strstr(files[i].what, "png") ? "rgb"
                                                          : "grey";
        if (strcmp(query(p->out, sql), want))
            fail_msg("%s: %s, not %s", files[i].name, query(p->out, sql), want);
    }
    print_message("%zu %s, %zu of them taken\n", n, what, taken);
}

static void test_contents_tell_not_names(void **state)
{
    ingest_all(*state, lies, sizeof lies / sizeof *lies, "files whose names lie");
}

static void test_polyglots(void **state)
{
    ingest_all(*state, polyglots, sizeof polyglots / sizeof *polyglots,
               "files that are two things at once");
}

/* A JPEG with a PNG behind it is the JPEG, to the byte that was given. */
static void test_a_picture_behind_a_picture(void **state)
{
    (void)state;
    encoded jpeg = small_jpeg(false), png = small_png();
    const encoded *files[2][2] = {{&jpeg, &png}, {&png, &jpeg}};
    for (int i = 0; i < 2; i++) {
        at_text both = {0};
        at_text_append(&both, files[i][0]->bytes, files[i][0]->size);
        at_text_append(&both, files[i][1]->bytes, files[i][1]->size);
        at_image image, alone;
        assert_int_equal(at_image_decode(both.data, both.length, NULL, &image, NULL, NULL), 0);
        assert_int_equal(
            at_image_decode(files[i][0]->bytes, files[i][0]->size, NULL, &alone, NULL, NULL), 0);
        assert_int_equal(image.channels, alone.channels);
        assert_memory_equal(image.pixels, alone.pixels, (size_t)(WIDTH * HEIGHT * alone.channels));
        at_image_fini(&image);
        at_image_fini(&alone);
        at_text_fini(&both);
    }
    free(jpeg.bytes);
    free(png.bytes);
}

/* ---- sides ----------------------------------------------------------------------------------- */

/* Where the JPEG's marker of this kind stands. */
static size_t marker_at(const encoded *jpeg, uint8_t first, uint8_t last)
{
    for (size_t at = 2; at + 4 < jpeg->size && jpeg->bytes[at] == 0xFF;
         at += 2 + (size_t)(jpeg->bytes[at + 2] << 8 | jpeg->bytes[at + 3]))
        if (jpeg->bytes[at + 1] >= first && jpeg->bytes[at + 1] <= last)
            return at;
    fail_msg("no marker %02X", first);
    return 0;
}

static void test_sides_of_jpeg(void **state)
{
    (void)state;
    static const struct {
        unsigned width, height;
        const char *reason;
    } cases[] = {{0, 0, "corrupt"},           {0, 16, "corrupt"},        {16, 0, "corrupt"},
                 {65535, 65535, "too-large"}, {65535, 1, "too-large"},   {1, 65501, "too-large"},
                 {65500, 65500, "too-large"}, {4097, 4097, "too-large"}, {4000, 4000, "truncated"},
                 {65500, 1, "truncated"},     {64, 64, "truncated"},     {16, 64, "truncated"}};
    enum { CASES = sizeof cases / sizeof *cases };
    size_t before = at_peak_rss();
    for (int i = 0; i < 2 * CASES; i++) {
        encoded jpeg = small_jpeg(i % 2);
        size_t sof = marker_at(&jpeg, 0xC0, 0xC2);
        const unsigned sides[2] = {cases[i / 2].height, cases[i / 2].width};
        for (int k = 0; k < 2; k++) {
            jpeg.bytes[sof + 5 + 2 * (size_t)k] = (uint8_t)(sides[k] >> 8);
            jpeg.bytes[sof + 6 + 2 * (size_t)k] = (uint8_t)sides[k];
        }
        const char *reason = reason_of(jpeg.bytes, jpeg.size);
        if (!reason || strcmp(reason, cases[i / 2].reason))
            fail_msg("%u x %u: %s", sides[1], sides[0], reason ? reason : "taken");
        free(jpeg.bytes);
    }
    assert_true(at_peak_rss() - before < (200 << 20));
    print_message("%d JPEG headers with sides that are not the picture's\n", 2 * CASES);
}

static void test_sides_of_the_raw_form(void **state)
{
    (void)state;
    static const uint32_t sides[] = {0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 65536, 4097};
    enum { SIDES = sizeof sides / sizeof *sides };
    uint8_t raw[AT_RAW_HEADER + 3 * WIDTH * HEIGHT] = {0};
    for (int w = 0; w < SIDES; w++)
        for (int h = 0; h < SIDES; h++)
            for (uint32_t channels = 1; channels <= 3; channels += 2) {
                at_raw_header(raw, sides[w], sides[h], channels);
                const char *reason = reason_of(raw, sizeof raw);
                assert_non_null(reason);
                assert_string_equal(reason,
                                    sides[w] == 0 || sides[h] == 0 ? "corrupt" : "too-large");
            }
    for (uint32_t channels = 0; channels < 6; channels++) {
        at_raw_header(raw, WIDTH, HEIGHT, channels == 5 ? UINT32_MAX : channels);
        const char *reason = reason_of(raw, sizeof raw - (channels == 1 ? 2 * WIDTH * HEIGHT : 0));
        if (channels == 1 || channels == 3)
            assert_null(reason);
        else
            assert_string_equal(reason, "corrupt");
    }
    print_message("%d raw headers\n", 2 * SIDES * SIDES + 6);
}

/* ---- bombs ----------------------------------------------------------------------------------- */

/* Each of these chunks would unpack to 1 GiB; they are passed over, packed. */
static void test_chunks_that_inflate_to_a_gibibyte(void **state)
{
    (void)state;
    static const struct {
        const char *type, *before;
        size_t bytes;
    } kinds[] = {{"zTXt", "Comment\0", 9}, {"iTXt", "Comment\0\1\0\0", 12}, {"iCCP", "x\0", 3}};
    at_text bomb = zlib_bomb(1024);
    at_image image = paint_image(WIDTH, HEIGHT, 3, 1);
    at_text rows = png_filtered(&image, 0);
    size_t before = at_peak_rss(), largest = 0;
    for (size_t k = 0; k < 3; k++)
        for (int behind = 0; behind < 2; behind++) {
            at_text png = {0}, chunk = {0};
            at_text_append(&chunk, kinds[k].before, kinds[k].bytes);
            at_text_append(&chunk, bomb.data, bomb.length);
            png_signature(&png);
            png_header(&png, &(png_ihdr){WIDTH, HEIGHT, 8, 2});
            if (!behind)
                png_chunk(&png, kinds[k].type, chunk.data, chunk.length);
            png_data(&png, rows.data, rows.length, 6, 0);
            if (behind)
                png_chunk(&png, kinds[k].type, chunk.data, chunk.length);
            png_chunk(&png, "IEND", NULL, 0);
            assert_null(reason_of(png.data, png.length));
            size_t length;
            assert_null(at_exif_find(png.data, png.length, &length));
            largest = png.length;
            at_text_fini(&png);
            at_text_fini(&chunk);
        }
    size_t more = at_peak_rss() - before;
    print_message("6 chunks of 1 GiB in %zu KB: %zu MB more in memory\n", largest >> 10,
                  more >> 20);
    assert_true(more < (32 << 20));
    at_text_fini(&rows);
    at_text_fini(&bomb);
    at_image_fini(&image);
}

/* Pixels that do not end. Some bytes too many are no harm; a bomb is refused before it goes off. */
static void test_pixels_that_inflate_to_a_gibibyte(void **state)
{
    (void)state;
    static const png_ihdr headers[] = {{WIDTH, HEIGHT, 8, 2},
                                       {WIDTH, HEIGHT, 16, 6},
                                       {WIDTH, HEIGHT, 1, 0},
                                       {WIDTH, HEIGHT, 8, 2, .interlace = 1}};
    static const size_t mebibytes[] = {1, 1024};
    size_t before = at_peak_rss();
    for (int i = 0; i < 8; i++) {
        at_text png = {0}, bomb = zlib_bomb(mebibytes[i / 4]);
        png_signature(&png);
        png_header(&png, &headers[i % 4]);
        png_chunk(&png, "IDAT", bomb.data, bomb.length / 2);
        png_chunk(&png, "IDAT", bomb.data + bomb.length / 2, bomb.length - bomb.length / 2);
        png_chunk(&png, "IEND", NULL, 0);
        const char *reason = reason_of(png.data, png.length);
        assert_string_equal(reason ? reason : "", i / 4 ? "corrupt" : "");
        at_text_fini(&png);
        at_text_fini(&bomb);
    }
    assert_true(at_peak_rss() - before < (32 << 20));
    print_message("8 pictures with up to 1 GiB of pixels too many\n");
}

/* One row of noise, of which nothing can be packed, is no bomb. */
static void test_a_long_row(void **state)
{
    (void)state;
    enum { LONG = 100000, STRIDE = LONG * 6 };
    uint8_t *row = malloc(STRIDE);
    assert_non_null(row);
    at_rng rng = at_rng_stream(1, "row", 0);
    for (size_t i = 0; i < STRIDE; i++)
        row[i] = (uint8_t)at_rng_below(&rng, 256);
    for (int depth = 8; depth <= 16; depth += 8)
        for (int interlaced = 0; interlaced < 2; interlaced++) {
            png_spec spec = {LONG, 1, depth, 2, .interlaced = interlaced};
            encoded file = encode_png(&spec, row, STRIDE);
            at_image image;
            at_error err = {0};
            if (at_image_decode(file.bytes, file.size, NULL, &image, NULL, &err))
                fail_msg("%s", err.message);
            assert_int_equal(image.width, LONG);
            at_image_fini(&image);
            free(file.bytes);
        }
    free(row);
}

/* A progressive JPEG whose first scan comes again and again. */
static encoded jpeg_of_scans(int scans)
{
    encoded jpeg = small_jpeg(true);
    size_t starts[64], count = 0;
    for (size_t at = 2; at + 1 < jpeg.size && count < 64; at++)
        if (jpeg.bytes[at] == 0xFF && jpeg.bytes[at + 1] == 0xDA)
            starts[count++] = at;
    assert_true(count > 1 && scans > (int)count);
    size_t end = starts[0]; /* where the next marker stands */
    while (end + 1 < jpeg.size &&
           (end < starts[0] + 2 || jpeg.bytes[end] != 0xFF || jpeg.bytes[end + 1] == 0))
        end++;
    at_text t = {0};
    at_text_append(&t, jpeg.bytes, starts[0]);
    for (size_t i = count; i <= (size_t)scans; i++)
        at_text_append(&t, jpeg.bytes + starts[0], end - starts[0]);
    at_text_append(&t, jpeg.bytes + end, jpeg.size - end);
    free(jpeg.bytes);
    return encoded_of(&t);
}

static void test_ten_thousand_scans(void **state)
{
    (void)state;
    static const struct {
        int scans;
        const char *reason;
    } cases[] = {{20, NULL},
                 {AT_MAX_SCANS, NULL},
                 {AT_MAX_SCANS + 1, "too-large"},
                 {1000, "too-large"},
                 {10000, "too-large"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        encoded jpeg = jpeg_of_scans(cases[i].scans);
        const char *reason = reason_of(jpeg.bytes, jpeg.size);
        if (cases[i].reason ? !reason || strcmp(reason, cases[i].reason) : reason != NULL)
            fail_msg("%d scans: %s", cases[i].scans, reason ? reason : "taken");
        free(jpeg.bytes);
    }
    print_message("JPEG of 20 to 10000 scans: more than %d are refused\n", AT_MAX_SCANS);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, place_set_up, place_tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks_that_inflate_to_a_gibibyte), /* before memory was wanted */
        cmocka_unit_test(test_pixels_that_inflate_to_a_gibibyte),
        CASE(test_contents_tell_not_names),
        CASE(test_polyglots),
        cmocka_unit_test(test_a_picture_behind_a_picture),
        cmocka_unit_test(test_sides_of_jpeg),
        cmocka_unit_test(test_sides_of_the_raw_form),
        cmocka_unit_test(test_a_long_row),
        cmocka_unit_test(test_ten_thousand_scans),
    };
#undef CASE
    at_log_set_level(AT_LOG_WARN);
    at_progress_silence(true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
