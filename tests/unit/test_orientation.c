/* SPDX-License-Identifier: Apache-2.0
 * EXIF's orientation: pictures come out upright from both codecs, wherever they are decoded, and
 * damaged EXIF changes nothing but the orientation. */
#include "../../datasets/internal.h"
#include "scratch.h"
#include "sources.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

enum { ORIENTATIONS = 8, WIDTH = 37, HEIGHT = 21 };

/* ---- EXIF blocks ----------------------------------------------------------------------------- */

static void put(at_text *t, bool big, int bytes, unsigned value)
{
    for (int i = 0; i < bytes; i++)
        at_text_append(t, &(uint8_t){(uint8_t)(value >> 8 * (big ? bytes - 1 - i : i))}, 1);
}

static void put_entry(at_text *t, bool big, unsigned tag, unsigned type, unsigned count)
{
    put(t, big, 2, tag);
    put(t, big, 2, type);
    put(t, big, 4, count);
}

/* Make, Orientation and a resolution, as a camera writes them. */
static at_text exif_block(bool big, unsigned orientation)
{
    at_text t = {0};
    at_text_append(&t, big ? "MM" : "II", 2);
    put(&t, big, 2, 42);
    put(&t, big, 4, 8);
    put(&t, big, 2, 3);
    put_entry(&t, big, 0x010F, 2, 4);
    at_text_append(&t, "ACM", 4);
    put_entry(&t, big, 0x0112, 3, 1);
    put(&t, big, 2, orientation);
    put(&t, big, 2, 0);
    put_entry(&t, big, 0x011A, 5, 1);
    put(&t, big, 4, 50);
    put(&t, big, 4, 0);
    put(&t, big, 4, 72);
    put(&t, big, 4, 1);
    assert_false(t.failed);
    return t;
}

static encoded insert(encoded file, size_t at, const at_text *part)
{
    encoded out = {malloc(file.size + part->length), file.size + part->length};
    assert_non_null(out.bytes);
    memcpy(out.bytes, file.bytes, at);
    memcpy(out.bytes + at, part->data, part->length);
    memcpy(out.bytes + at + part->length, file.bytes + at, file.size - at);
    return out;
}

/* Behind a block of another kind under the same marker. */
static encoded jpeg_with(encoded file, const at_text *exif)
{
    at_text part = {0};
    at_text_append(&part, "\xFF\xE1\x00\x09http:/", 11);
    put(&part, true, 2, 0xFFE1);
    put(&part, true, 2, (unsigned)exif->length + 8);
    at_text_append(&part, "Exif\0", 6);
    at_text_append(&part, exif->data, exif->length);
    encoded out = insert(file, 2, &part);
    at_text_fini(&part);
    return out;
}

static encoded png_with(encoded file, const at_text *exif, bool behind_the_pixels)
{
    at_text part = {0};
    put(&part, true, 4, (unsigned)exif->length);
    at_text_append(&part, "eXIf", 4);
    at_text_append(&part, exif->data, exif->length);
    put(&part, true, 4,
        (unsigned)crc32(0, (const Bytef *)part.data + 4, (unsigned)exif->length + 4));
    encoded out = insert(file, behind_the_pixels ? file.size - 12 : 33, &part);
    at_text_fini(&part);
    return out;
}

static encoded png_of(const at_image *image)
{
    png_spec spec = {image->width, image->height, 8, image->channels == 1 ? 0 : 2};
    return encode_png(&spec, image->pixels, (size_t)(image->width * image->channels));
}

/* ---- the pictures, turned by two moves ------------------------------------------------------- */

static at_image moved(at_image in, bool mirror) /* takes in; mirrored, or turned clockwise */
{
    at_image out = {.width = mirror ? in.width : in.height,
                    .height = mirror ? in.height : in.width,
                    .channels = in.channels};
    size_t n = (size_t)in.channels;
    out.pixels = malloc((size_t)(in.width * in.height) * n);
    assert_non_null(out.pixels);
    for (int y = 0; y < in.height; y++)
        for (int x = 0; x < in.width; x++) {
            int to_x = mirror ? in.width - 1 - x : in.height - 1 - y, to_y = mirror ? y : x;
            memcpy(out.pixels + (size_t)(to_y * out.width + to_x) * n,
                   in.pixels + (size_t)(y * in.width + x) * n, n);
        }
    at_image_fini(&in);
    return out;
}

static at_image turned(at_image in, int quarters) /* takes in; clockwise */
{
    while (quarters--)
        in = moved(in, false);
    return in;
}

/* What a camera stores of an upright picture: orientation 6 wants a quarter clockwise to be seen,
 * 8 three, 3 two; 2, 4, 7, 5 are their mirror images. Takes upright. */
static at_image stored(at_image upright, int orientation)
{
    static const int quarters[] = {0, 0, 0, 2, 2, 3, 3, 1, 1};
    static const bool mirrored[] = {0, 0, 1, 0, 1, 1, 0, 1, 0};
    if (mirrored[orientation])
        upright = moved(upright, true);
    return turned(upright, quarters[orientation]);
}

/* The other way round; takes in. */
static at_image upright_of(at_image in, int orientation)
{
    static const int quarters[] = {0, 0, 0, 2, 2, 1, 1, 3, 3};
    static const bool mirrored[] = {0, 0, 1, 0, 1, 1, 0, 1, 0};
    in = turned(in, quarters[orientation]);
    return mirrored[orientation] ? moved(in, true) : in;
}

static at_image decode(const encoded *file)
{
    at_image image;
    at_error err = {0};
    if (at_image_decode(file->bytes, file->size, NULL, &image, NULL, &err))
        fail_msg("%s", err.message);
    return image;
}

/* Takes both. */
static void expect_same(at_image got, at_image want)
{
    assert_int_equal(got.width, want.width);
    assert_int_equal(got.height, want.height);
    assert_int_equal(got.channels, want.channels);
    assert_memory_equal(got.pixels, want.pixels, (size_t)(got.width * got.height * got.channels));
    at_image_fini(&got);
    at_image_fini(&want);
}

/* ---- all eight ------------------------------------------------------------------------------- */

static void test_png_comes_out_upright(void **state)
{
    (void)state;
    for (int o = 1; o <= ORIENTATIONS; o++)
        for (int channels = 1; channels <= 3; channels += 2)
            for (int way = 0; way < 4; way++) { /* byte order, place of the chunk */
                at_image sensor = stored(paint_image(WIDTH, HEIGHT, channels, 5), o);
                encoded plain = png_of(&sensor);
                at_text exif = exif_block(way & 1, (unsigned)o);
                encoded file = png_with(plain, &exif, way & 2);
                expect_same(decode(&file), paint_image(WIDTH, HEIGHT, channels, 5));
                at_image_fini(&sensor);
                free(plain.bytes);
                free(file.bytes);
                at_text_fini(&exif);
            }
}

/* JPEG loses a little: what comes out is what came out without EXIF, turned by the test. */
static void test_jpeg_comes_out_upright(void **state)
{
    (void)state;
    static const jpeg_spec specs[] = {
        {.quality = 90}, {.quality = 90, .progressive = true}, {.quality = 90, .cmyk = true}};
    for (int o = 1; o <= ORIENTATIONS; o++)
        for (size_t i = 0; i < sizeof specs / sizeof *specs; i++)
            for (int channels = specs[i].cmyk ? 3 : 1; channels <= 3; channels += 2) {
                at_image sensor = stored(paint_image(WIDTH, HEIGHT, channels, 6), o);
                encoded plain = encode_jpeg(&sensor, &specs[i]);
                at_text exif = exif_block(o % 2, (unsigned)o);
                encoded file = jpeg_with(plain, &exif);
                at_image got = decode(&file);
                assert_int_equal(got.width, WIDTH);
                assert_int_equal(got.height, HEIGHT);
                expect_same(got, upright_of(decode(&plain), o));
                at_image_fini(&sensor);
                free(plain.bytes);
                free(file.bytes);
                at_text_fini(&exif);
            }
}

/* Larger than a tile in one direction, smaller in the other; one decoder for all. */
static void test_one_decoder_for_all_sizes(void **state)
{
    (void)state;
    static const int sizes[][2] = {{1, 1},    {1, 70},    {70, 1}, {33, 64},
                                   {129, 31}, {257, 130}, {2, 3}};
    at_decoder *d = at_decoder_new();
    assert_non_null(d);
    for (int o = 1; o <= ORIENTATIONS; o++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            at_image want = paint_image(sizes[i][0], sizes[i][1], 3, i), view;
            at_image sensor = stored(paint_image(sizes[i][0], sizes[i][1], 3, i), o);
            encoded plain = png_of(&sensor);
            at_text exif = exif_block(false, (unsigned)o);
            encoded file = png_with(plain, &exif, false);
            assert_int_equal(at_decoder_decode(d, file.bytes, file.size, NULL, &view, NULL, NULL),
                             0);
            assert_int_equal(view.width, want.width);
            assert_int_equal(view.height, want.height);
            assert_memory_equal(view.pixels, want.pixels, (size_t)(want.width * want.height * 3));
            at_image_fini(&want);
            at_image_fini(&sensor);
            free(plain.bytes);
            free(file.bytes);
            at_text_fini(&exif);
        }
    at_decoder_free(d);
}

/* ---- ingest ---------------------------------------------------------------------------------- */

static void test_ingest_records_the_upright_picture(void **state)
{
    (void)state;
    char *dir = scratch_new(), *source = at_path_join(dir, "source"),
         *out = at_path_join(dir, "out");
    for (int o = 1; o <= ORIENTATIONS; o++) {
        at_image sensor = stored(paint_image(WIDTH, HEIGHT, 3, 5), o);
        encoded plain = png_of(&sensor);
        at_text exif = exif_block(true, (unsigned)o);
        encoded file = png_with(plain, &exif, false);
        char name[20];
        snprintf(name, sizeof name, "a/%d.png", o);
        put_file(source, name, file.bytes, file.size);
        at_image_fini(&sensor);
        free(plain.bytes);
        free(file.bytes);
        at_text_fini(&exif);
    }
    assert_int_equal(ingest_must(source, out, 0).images, ORIENTATIONS);
    assert_string_equal(
        query(out, "SELECT group_concat(DISTINCT width || 'x' || height) FROM blobs"), "37x21");
    at_error err = {0};
    at_dataset *d = at_dataset_open(out, &err);
    assert_non_null(d);
    for (size_t i = 0; i < ORIENTATIONS; i++) {
        at_sample s;
        at_image image;
        assert_int_equal(at_dataset_sample(d, AT_TRAIN, i, &s, &err), 0);
        assert_int_equal(at_image_decode(s.bytes, s.size, NULL, &image, NULL, &err), 0);
        expect_same(image, paint_image(WIDTH, HEIGHT, 3, 5));
    }
    at_dataset_close(d);
    free(source);
    free(out);
    scratch_free(dir);
}

/* ---- damage ---------------------------------------------------------------------------------- */

static int orientation_of(const char *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1); /* its end is the allocation's: sanitizers watch it */
    assert_non_null(copy);
    memcpy(copy, data, size);
    int o = at_exif_orientation(copy, size);
    free(copy);
    assert_in_range(o, 1, 8);
    return o;
}

static void test_what_is_no_orientation_is_upright(void **state)
{
    (void)state;
    static const unsigned values[] = {0, 9, 255, 0x0600, 0xFFFF};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        at_text exif = exif_block(i % 2, values[i]);
        assert_int_equal(orientation_of(exif.data, exif.length), 1);
        at_text_fini(&exif);
    }
    at_text exif = exif_block(false, 6);
    assert_int_equal(orientation_of(exif.data, exif.length), 6);
    static const struct {
        size_t at;
        uint8_t value;
    } changes[] = {{0, 'M'}, {0, 'X'}, {2, 43}, {7, 0x80}, {8, 0}, {24, 4}, {26, 2}, {22, 0x13}};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        char before = exif.data[changes[i].at];
        exif.data[changes[i].at] = (char)changes[i].value;
        assert_int_equal(orientation_of(exif.data, exif.length), 1);
        exif.data[changes[i].at] = before;
    }
    at_text_fini(&exif);
}

static void test_damaged_exif_does_no_harm(void **state)
{
    (void)state;
    at_image image = paint_image(WIDTH, HEIGHT, 1, 1);
    encoded png = png_of(&image), jpeg = encode_jpeg(&image, &(jpeg_spec){.quality = 90});
    at_rng rng = at_rng_stream(1, "exif", 0);
    size_t blocks = 0, files = 0;
    for (int big = 0; big < 2; big++) {
        at_text exif = exif_block(big, 6), copy = {0};
        for (size_t cut = 0; cut <= exif.length; cut++, blocks++)
            assert_int_equal(orientation_of(exif.data, cut), cut < 34 ? 1 : 6);
        for (int round = 0; round < 20000; round++, blocks++) {
            copy.length = 0;
            at_text_append(&copy, exif.data, exif.length - at_rng_below(&rng, 20));
            for (uint64_t flips = 1 + at_rng_below(&rng, 6); flips; flips--)
                copy.data[at_rng_below(&rng, copy.length)] = (char)at_rng_below(&rng, 256);
            orientation_of(copy.data, copy.length);
            if (round % 40)
                continue;
            encoded file = round % 80 ? png_with(png, &copy, false) : jpeg_with(jpeg, &copy);
            at_image back = decode(&file); /* the pixels are whole: they always come out */
            assert_int_equal(back.width * back.height, WIDTH * HEIGHT);
            at_image_fini(&back);
            free(file.bytes);
            files++;
        }
        at_text_fini(&exif);
        at_text_fini(&copy);
    }
    print_message("%zu damaged EXIF blocks, %zu pictures with one: none did harm\n", blocks, files);
    at_image_fini(&image);
    free(png.bytes);
    free(jpeg.bytes);
}

/* ---- bombs ----------------------------------------------------------------------------------- */

/* Texts and colour profiles that would unpack to 800 MB are never unpacked. */
static void test_compressed_chunks_are_passed_over(void **state)
{
    (void)state;
    enum { COPIES = 200, UNPACKED = 4 << 20 };
    at_image image = paint_image(WIDTH, HEIGHT, 3, 1);
    encoded png = png_of(&image);
    uLongf size = compressBound(UNPACKED);
    uint8_t *zeros = calloc(1, UNPACKED), *packed = malloc(size);
    assert_true(zeros && packed);
    assert_int_equal(compress2(packed, &size, zeros, UNPACKED, 9), Z_OK);
    free(zeros);
    at_text bombs = {0};
    for (int i = 0; i < COPIES; i++) {
        size_t begin = bombs.length + 4;
        put(&bombs, true, 4, (unsigned)size + 3);
        at_text_append(&bombs, i ? "zTXtx\0" : "iCCPx\0", 7);
        at_text_append(&bombs, packed, size);
        put(&bombs, true, 4,
            (unsigned)crc32(0, (const Bytef *)bombs.data + begin, (unsigned)size + 7));
    }
    encoded file = insert(png, 33, &bombs);
    size_t before = at_peak_rss();
    expect_same(decode(&file), image);
    assert_true(at_peak_rss() - before < (16 << 20));
    print_message("%d chunks of %d MB unpacked: %zu MB more in memory\n", COPIES, UNPACKED >> 20,
                  (at_peak_rss() - before) >> 20);
    at_text_fini(&bombs);
    free(packed);
    free(png.bytes);
    free(file.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_png_comes_out_upright),
        cmocka_unit_test(test_jpeg_comes_out_upright),
        cmocka_unit_test(test_one_decoder_for_all_sizes),
        cmocka_unit_test(test_ingest_records_the_upright_picture),
        cmocka_unit_test(test_what_is_no_orientation_is_upright),
        cmocka_unit_test(test_damaged_exif_does_no_harm),
        cmocka_unit_test(test_compressed_chunks_are_passed_over),
    };
    at_log_set_level(AT_LOG_WARN);
    at_progress_silence(true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
