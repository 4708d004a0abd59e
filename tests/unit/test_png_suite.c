/* SPDX-License-Identifier: Apache-2.0
 * What PngSuite has besides the forms of test_png.c, made here: filters, ways to lay out the data,
 * chunks that tell about the picture, and its corrupted files by their names there, with others
 * that break the specification. Each corrupted file is refused with its reason. */
#include "png_bytes.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WIDTH = 13, HEIGHT = 11, GREY = 0, RGB = 2, PALETTE = 3 };
static const png_ihdr usual = {WIDTH, HEIGHT, 8, RGB};

static at_image painting(int channels)
{
    return paint_image(WIDTH, HEIGHT, channels, 7);
}

/* ---- whole files ----------------------------------------------------------------------------- */

/* The file must have the picture's pixels; frees the file. */
static void expect(at_text *png, const at_image *want, const char *name)
{
    at_image image;
    at_error err = {0};
    assert_false(png->failed);
    if (at_image_decode(png->data, png->length, NULL, &image, NULL, &err))
        fail_msg("%s: %s", name, err.message);
    assert_int_equal(image.width, want->width);
    assert_int_equal(image.height, want->height);
    assert_int_equal(image.channels, want->channels);
    if (memcmp(image.pixels, want->pixels, (size_t)(WIDTH * HEIGHT * want->channels)))
        fail_msg("%s: other pixels", name);
    at_image_fini(&image);
    at_text_fini(png);
}

static void test_filters_levels_and_pieces(void **state)
{
    (void)state;
    static const size_t pieces[] = {0, 1, 2, 7, 100};
    size_t cases = 0;
    for (int channels = 1; channels <= 3; channels += 2) {
        at_image image = painting(channels);
        for (int filter = 0; filter <= 5; filter++) {
            at_text rows = png_filtered(&image, filter);
            for (int level = 0; level <= 9; level += 3)
                for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++, cases++) {
                    char name[80];
                    snprintf(name, sizeof name, "filter %d, level %d, IDAT of %zu bytes", filter,
                             level, pieces[i]);
                    at_text png = {0};
                    png_signature(&png);
                    png_header(&png, &(png_ihdr){WIDTH, HEIGHT, 8, channels == 1 ? GREY : RGB});
                    png_data(&png, rows.data, rows.length, level, pieces[i]);
                    png_chunk(&png, "IEND", NULL, 0);
                    expect(&png, &image, name);
                }
            at_text_fini(&rows);
        }
        at_image_fini(&image);
    }
    print_message("%zu ways to lay out the data\n", cases);
}

/* Chunks about the picture: none changes its pixels, and a broken one is passed over. */
static void test_chunks_beside_the_pixels(void **state)
{
    (void)state;
#define BYTES(text) text, sizeof text - 1
    static const struct {
        const char *type, *data;
        size_t bytes;
    } chunks[] = {{"gAMA", BYTES("\0\0\x27\x10")},
                  {"gAMA", BYTES("\0\0\0\0")},
                  {"cHRM", BYTES("\0\0\x7A\x26\0\0\x80\x84\0\0\xFA\0\0\0\x80\xE8\0\0\x75\x30\0\0"
                                 "\xEA\x60\0\0\x3A\x98\0\0\x17\x70")},
                  {"sRGB", BYTES("\0")},
                  {"sBIT", BYTES("\5\5\5")},
                  {"sBIT", BYTES("\0\x09\5")},
                  {"bKGD", BYTES("\0\xFF\0\xFF\0\xFF")},
                  {"pHYs", BYTES("\0\0\0\1\0\0\0\4\0")},
                  {"tIME", BYTES("\x07\xD0\1\1\x0C\x22\x38")},
                  {"tIME", BYTES("\x07\xD0\x63\x63\x63\x63\x63")},
                  {"tEXt", BYTES("Title\0PngSuite")},
                  {"tEXt", BYTES("<script>\0alert(1)")},
                  {"zTXt", BYTES("Title\0\0x")},
                  {"iTXt", BYTES("Title\0\1\0en\0\0x")},
                  {"iCCP", BYTES("x\0\0no profile")},
                  {"sPLT", BYTES("six\0\x08\0\0\0\xFF\0\0")},
                  {"hIST", BYTES("\0\1")},
                  {"oFFs", BYTES("\0\0\0\1\0\0\0\1\0")},
                  {"sCAL", BYTES("\1x\0y")},
                  {"tRNS", BYTES("\0")},
                  {"eXIf", BYTES("no EXIF")},
                  {"eXIf", BYTES("")},
                  {"acTL", BYTES("\0\0\0\2\0\0\0\0")},
                  {"abCd", BYTES("unknown, and nobody minds")}};
#undef BYTES
    at_image image = painting(3);
    at_text rows = png_filtered(&image, 4);
    size_t cases = 0;
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++)
        for (int where = 0; where < 2; where++) /* before and behind the pixels */
            for (int spoilt = 0; spoilt < 2; spoilt++, cases++) {
                at_text png = {0}, part = {0};
                png_chunk(&part, chunks[i].type, chunks[i].data, chunks[i].bytes);
                if (spoilt)
                    png_spoil_checksum(&part);
                png_signature(&png);
                png_header(&png, &usual);
                at_text_append(&png, part.data, where ? 0 : part.length);
                png_data(&png, rows.data, rows.length, 6, 0);
                at_text_append(&png, part.data, where ? part.length : 0);
                png_chunk(&png, "IEND", NULL, 0);
                at_text_append(&png, "what comes behind the end", spoilt ? 25 : 0);
                at_text_fini(&part);
                expect(&png, &image, chunks[i].type);
            }
    at_text_fini(&rows);
    at_image_fini(&image);
    print_message("%zu files with chunks beside the pixels\n", cases);
}

/* ---- corrupted files ------------------------------------------------------------------------- */

static uint32_t u32_at(const at_text *png, size_t at)
{
    const uint8_t *p = (const uint8_t *)png->data + at;
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Where the first chunk of this type begins. */
static size_t chunk_at(const at_text *png, const char *type)
{
    for (size_t at = 8; at < png->length; at += 12 + u32_at(png, at))
        if (!memcmp(png->data + at + 4, type, 4))
            return at;
    fail_msg("no %s", type);
    return 0;
}

static void set_byte(at_text *png, size_t at, int value)
{
    png->data[at] = (char)value;
}

/* Puts `with` where `from` is, as a transfer of "text" does. */
static void convert(at_text *png, char from, const char *with)
{
    at_text out = {0};
    for (size_t i = 0; i < png->length; i++)
        if (png->data[i] == from)
            at_text_append(&out, with, strlen(with));
        else
            at_text_append(&out, png->data + i, 1);
    at_text_fini(png);
    *png = out;
}

static void remove_chunk(at_text *png, const char *type)
{
    size_t at = chunk_at(png, type), bytes = 12 + u32_at(png, at);
    memmove(png->data + at, png->data + at + bytes, png->length - at - bytes);
    png->length -= bytes;
}

static void repeat_chunk(at_text *png, const char *type)
{
    size_t at = chunk_at(png, type), bytes = 12 + u32_at(png, at);
    at_text out = {0};
    at_text_append(&out, png->data, at + bytes);
    at_text_append(&out, png->data + at, png->length - at);
    at_text_fini(png);
    *png = out;
}

static void spoil(at_text *png, const char *type)
{
    size_t at = chunk_at(png, type);
    set_byte(png, at + 8 + u32_at(png, at), ~png->data[at + 8 + u32_at(png, at)]);
}

/* A whole file with this header and `rows` of WIDTH * channels bytes. */
static at_text file_with(png_ihdr h, int filter, size_t rows, int channels)
{
    at_text png = {0}, data = {0};
    for (size_t y = 0; y < rows; y++) {
        at_text_append(&data, &(uint8_t){(uint8_t)filter}, 1);
        for (int x = 0; x < WIDTH * channels; x++)
            at_text_append(&data, &(uint8_t){(uint8_t)(x + (int)y)}, 1);
    }
    png_signature(&png);
    png_header(&png, &h);
    png_data(&png, data.data, data.length, 6, 0);
    png_chunk(&png, "IEND", NULL, 0);
    at_text_fini(&data);
    return png;
}

static const png_ihdr no_header = {0};

/* One way to break a file: another header, or something done to a good one. */
static const struct corruption {
    const char *name, *reason;
    png_ihdr header; /* width 0: the usual one */
    int filter;      /* of every row */
    size_t rows;     /* 0: all */
    void (*convert)(at_text *png, char from, const char *with);
    char from;
    const char *with;
    void (*change)(at_text *png, const char *type);
    const char *type;
    size_t at; /* where the byte becomes this value; value 0: nowhere */
    int value;
} corruptions[] = {
    /* by their names in PngSuite */
    {"xs1 signature byte 1 with its high bit reset", "not-an-image", .at = 0, .value = 0x09},
    {"xs2 signature byte 2 is a Q", "not-an-image", .at = 1, .value = 'Q'},
    {"xs4 signature byte 4 in lower case", "not-an-image", .at = 3, .value = 'g'},
    {"xs7 signature byte 7 is a space", "not-an-image", .at = 6, .value = ' '},
    {"xcr added CR bytes", "not-an-image", .convert = convert, .from = '\n', .with = "\r\n"},
    {"xlf added LF bytes", "not-an-image", .convert = convert, .from = '\r', .with = "\r\n"},
    {"xlf CR LF becomes LF", "not-an-image", .convert = convert, .from = '\r', .with = ""},
    {"xcr LF becomes CR", "not-an-image", .convert = convert, .from = '\n', .with = "\r"},
    {"xhd wrong checksum of IHDR", "corrupt", .change = spoil, .type = "IHDR"},
    {"xc1 colour type 1", "corrupt", .header = {WIDTH, HEIGHT, 8, 1}},
    {"xc9 colour type 9", "corrupt", .header = {WIDTH, HEIGHT, 8, 9}},
    {"xd0 bit depth 0", "corrupt", .header = {WIDTH, HEIGHT, 0, RGB}},
    {"xd3 bit depth 3", "corrupt", .header = {WIDTH, HEIGHT, 3, RGB}},
    {"xd9 bit depth 99", "corrupt", .header = {WIDTH, HEIGHT, 99, RGB}},
    {"xdt no IDAT", "corrupt", .change = remove_chunk, .type = "IDAT"},
    {"xcs wrong checksum of IDAT", "corrupt", .change = spoil, .type = "IDAT"},
    /* others */
    {"colour type 5", "corrupt", .header = {WIDTH, HEIGHT, 8, 5}},
    {"colour type 7", "corrupt", .header = {WIDTH, HEIGHT, 8, 7}},
    {"colour type 255", "corrupt", .header = {WIDTH, HEIGHT, 8, 255}},
    {"RGB of 4 bits", "corrupt", .header = {WIDTH, HEIGHT, 4, RGB}},
    {"RGB of 32 bits", "corrupt", .header = {WIDTH, HEIGHT, 32, RGB}},
    {"a palette of 16 bits", "corrupt", .header = {WIDTH, HEIGHT, 16, PALETTE}},
    {"a palette that is not there", "corrupt", .header = {WIDTH, HEIGHT, 8, PALETTE}},
    {"compression method 1", "corrupt", .header = {WIDTH, HEIGHT, 8, RGB, 1}},
    {"filter method 1", "corrupt", .header = {WIDTH, HEIGHT, 8, RGB, 0, 1}},
    {"interlace method 2", "corrupt", .header = {WIDTH, HEIGHT, 8, RGB, 0, 0, 2}},
    {"filter 5 of a row", "corrupt", .filter = 5},
    {"filter 255 of a row", "corrupt", .filter = 255},
    {"a row too few", "corrupt", .rows = HEIGHT - 1},
    {"one row of all", "corrupt", .rows = 1},
    {"no IHDR", "corrupt", .change = remove_chunk, .type = "IHDR"},
    {"two IHDR", "corrupt", .change = repeat_chunk, .type = "IHDR"},
    {"no IEND", "truncated", .change = remove_chunk, .type = "IEND"},
    {"wrong checksum of IEND", "corrupt", .change = spoil, .type = "IEND"},
    {"an IHDR of 14 bytes", "corrupt", .at = 11, .value = 14},
    {"an IHDR of 2 GiB", "corrupt", .at = 8, .value = 0x7F},
    {"an IHDR of more than 2 GiB", "corrupt", .at = 8, .value = 0xFF},
    {"an IDAT of 2 GiB", "truncated", .at = 33, .value = 0x7F},
    {"an IDAT of more than 2 GiB", "corrupt", .at = 33, .value = 0x80},
    {"an unknown critical chunk", "corrupt", .at = 40, .value = 'Z'},
    {"a chunk's name with a digit", "corrupt", .at = 38, .value = '1'},
};

static const png_ihdr *header_of(const struct corruption *c)
{
    return memcmp(&c->header, &no_header, sizeof no_header) ? &c->header : &usual;
}

static at_text corrupted(const struct corruption *c)
{
    at_text png = file_with(*header_of(c), c->filter, c->rows ? c->rows : HEIGHT, 3);
    if (c->convert)
        c->convert(&png, c->from, c->with);
    if (c->change)
        c->change(&png, c->type);
    if (c->value)
        set_byte(&png, c->at, c->value);
    return png;
}

static void test_corrupted_files(void **state)
{
    (void)state;
    size_t cases = 0;
    at_text good = file_with(usual, 0, HEIGHT, 3);
    at_decoder *d = at_decoder_new(); /* one for all: a bad file must leave nothing behind */
    assert_non_null(d);
    for (size_t i = 0; i < sizeof corruptions / sizeof *corruptions; i++, cases++) {
        at_text png = corrupted(&corruptions[i]);
        at_image view;
        at_error err = {0};
        const char *reason = NULL;
        int code = at_decoder_decode(d, png.data, png.length, NULL, &view, &reason, &err);
        if (code != AT_EINPUT || strcmp(reason, corruptions[i].reason))
            fail_msg("%s: %s (%s)", corruptions[i].name, reason ? reason : "taken", err.message);
        assert_memory_equal(err.message, reason, strlen(reason));
        assert_null(view.pixels);
        assert_int_equal(at_decoder_decode(d, good.data, good.length, NULL, &view, &reason, NULL),
                         0);
        at_text_fini(&png);
    }
    at_decoder_free(d);
    at_text_fini(&good);
    print_message("%zu kinds of corrupted PNG files, each refused with its reason\n", cases);
}

/* ---- sides ----------------------------------------------------------------------------------- */

#ifdef __SANITIZE_ADDRESS__
enum { QUARANTINE = 256 }; /* MB of freed memory that it keeps */
#else
enum { QUARANTINE = 0 };
#endif

static void test_sides_that_cannot_be(void **state)
{
    (void)state;
    static const uint32_t sides[] = {0,          1,          40000,      0x7FFFFFFE,
                                     0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFFFFFFF};
    enum { SIDES = sizeof sides / sizeof *sides };
    static const uint8_t types[] = {0, 2, 3, 4, 6};
    size_t cases = 0, before = at_peak_rss();
    for (int w = 0; w < SIDES; w++)
        for (int h = 0; h < SIDES; h++)
            for (int t = 0; t < 5; t++)
                for (int interlace = 0; interlace < 2; interlace++) {
                    if (sides[w] == 1 && sides[h] == 1)
                        continue;
                    png_ihdr header = {sides[w], sides[h], 8, types[t], 0, 0, (uint8_t)interlace};
                    at_text png = file_with(header, 0, 1, 3);
                    const char *reason = NULL;
                    at_image image;
                    assert_int_equal(
                        at_image_decode(png.data, png.length, NULL, &image, &reason, NULL),
                        AT_EINPUT);
                    /* the specification ends at 2^31 - 1 */
                    bool none = sides[w] == 0 || sides[h] == 0 || sides[w] > 0x7FFFFFFF ||
                                sides[h] > 0x7FFFFFFF;
                    bool thin = (uint64_t)sides[w] * sides[h] <= 40000;
                    const char *want = none || thin ? "corrupt" : "too-large";
                    if (types[t] == PALETTE) /* there is none, which may be noticed first */
                        want = none ? "corrupt" : reason;
                    if (strcmp(reason, want))
                        fail_msg("%u x %u, type %d: %s", sides[w], sides[h], types[t], reason);
                    at_text_fini(&png);
                    cases++;
                }
    assert_in_range(at_peak_rss() - before, 0, (QUARANTINE + 64) << 20);
    print_message("%zu PNG headers with impossible sides, all refused\n", cases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_filters_levels_and_pieces),
        cmocka_unit_test(test_chunks_beside_the_pixels),
        cmocka_unit_test(test_corrupted_files),
        cmocka_unit_test(test_sides_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
