/* SPDX-License-Identifier: Apache-2.0
 * Zip as a source: as good as its folder; hostile members cost themselves alone, hostile archives
 * are refused by name. */
#include "../../datasets/internal.h"
#include "place.h"
#include "scratch.h"
#include "sources.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

static int set_up(void **state)
{
    place_set_up(state);
    return place_name_file(*state, "a.zip");
}

/* ---- a zip by hand --------------------------------------------------------------------------- */

enum { STORED = 0, DEFLATED = 8, ENCRYPTED = 1, UTF8 = 1 << 11, SYMLINK = 0120777 };

typedef struct member {
    const char *name;
    int method, flags, mode;       /* mode: of Unix, 0: none */
    uint32_t wrong_crc, more_size; /* added to what is true */
    size_t lost; /* bytes that are missing at the end of the packed ones, which claim to be whole */
} member;

typedef struct zip {
    at_text file, directory;
    int members;
} zip;

static void put(at_text *t, int bytes, uint64_t value)
{
    for (int i = 0; i < bytes; i++)
        at_text_append(t, &(uint8_t){(uint8_t)(value >> 8 * i)}, 1);
}

static uint8_t *pack(const void *data, size_t size, int method, size_t *packed_size)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)data, .avail_in = (uInt)size};
    size_t room = compressBound(size) + 16;
    uint8_t *out = malloc(room);
    assert_non_null(out);
    if (method != DEFLATED) {
        memcpy(out, data, size);
        *packed_size = size;
        return out;
    }
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_out = out;
    z.avail_out = (uInt)room;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    *packed_size = z.total_out;
    deflateEnd(&z);
    return out;
}

/* What local header and directory have in common. */
static void put_facts(at_text *t, const member *m, uint32_t crc, size_t packed, size_t size)
{
    put(t, 2, 20);
    put(t, 2, (uint64_t)m->flags);
    put(t, 2, (uint64_t)m->method);
    put(t, 4, 0x5A215A21); /* a day in 2025 */
    put(t, 4, crc + m->wrong_crc);
    put(t, 4, packed);
    put(t, 4, size + m->more_size);
    put(t, 2, strlen(m->name));
    put(t, 2, 0);
}

static void add_entry(zip *z, const member *m, size_t offset, uint32_t crc, size_t packed,
                      size_t size)
{
    at_text_append(&z->directory, "PK\1\2", 4);
    put(&z->directory, 2, 3 << 8 | 20); /* made by Unix */
    put_facts(&z->directory, m, crc, packed, size);
    put(&z->directory, 2, 0);
    put(&z->directory, 4, 0);
    put(&z->directory, 4, (uint64_t)m->mode << 16);
    put(&z->directory, 4, offset);
    at_text_append(&z->directory, m->name, strlen(m->name));
    z->members++;
}

static void add(zip *z, const member *m, const void *data, size_t size)
{
    size_t offset = z->file.length, packed_size;
    uint8_t *packed = pack(data, size, m->method, &packed_size);
    uint32_t crc = (uint32_t)crc32(0, data, (uInt)size);
    at_text_append(&z->file, "PK\3\4", 4);
    put_facts(&z->file, m, crc, packed_size, size);
    at_text_append(&z->file, m->name, strlen(m->name));
    at_text_append(&z->file, packed, packed_size - m->lost);
    add_entry(z, m, offset, crc, packed_size, size);
    free(packed);
}

static void add_picture(zip *z, const member *m, uint64_t seed)
{
    at_image image = paint_image(8, 6, 3, seed);
    encoded png = encode_png(&(png_spec){8, 6, 8, 2}, image.pixels, 24);
    add(z, m, png.bytes, png.size);
    free(png.bytes);
    at_image_fini(&image);
}

static void write_zip(zip *z, const struct place *p)
{
    size_t begin = z->file.length;
    at_text_append(&z->file, z->directory.data ? z->directory.data : "", z->directory.length);
    at_text_append(&z->file, "PK\5\6\0\0\0\0", 8);
    put(&z->file, 2, (uint64_t)z->members);
    put(&z->file, 2, (uint64_t)z->members);
    put(&z->file, 4, z->directory.length);
    put(&z->file, 4, begin);
    put(&z->file, 2, 0);
    assert_false(z->file.failed || z->directory.failed);
    put_file(p->dir, "a.zip", z->file.data, z->file.length);
    at_text_fini(&z->file);
    at_text_fini(&z->directory);
}

/* ---- as good as a folder --------------------------------------------------------------------- */

static void test_a_zip_is_as_good_as_its_folder(void **state)
{
    struct place *p = *state;
    put_pictures(p->source, "train", 3, 5, 0);
    put_pictures(p->source, "test", 3, 2, 100);
    put_picture(p->source, "train/class_0/\xC3\xA9t\xC3\xA9.png", 77);
    put_text(p->source, "train/class_1/notes.txt", "not a picture");
    ingest_must(p->source, p->out, 0);
    char *hash = strdup(query(p->out, "SELECT value FROM meta WHERE key = 'dataset_hash'"));
    put_zip(p->dir, "source", "a.zip", false);
    char *out = at_path_join(p->dir, "from-zip");
    at_ingest_result r = ingest_must(p->file, out, 0);
    assert_int_equal(r.images, 22);
    assert_int_equal(r.errors, 1);
    assert_string_equal(query(out, "SELECT value FROM meta WHERE key = 'dataset_hash'"), hash);
    assert_string_equal(query(out, "SELECT value FROM meta WHERE key = 'source_kind'"), "zip");
    assert_string_equal(query(out, "SELECT reason FROM errors"), "not-an-image");
    free(hash);
    free(out);
}

static void test_leading_folders_and_folders_with_a_zip(void **state)
{
    struct place *p = *state;
    put_pictures(p->source, "", 3, 4, 0);
    char *holder = at_path_join(p->dir, "holder");
    put_text(holder, "dataset.yaml", "name: x\n");
    put_zip(p->dir, "source", "holder/a.zip", true);
    assert_int_equal(ingest_must(holder, p->out, 0).images, 12);
    place_expect(p, "SELECT group_concat(name) FROM classes", "class_0,class_1,class_2");
    free(holder);
}

static void test_cifar_in_a_zip(void **state)
{
    struct place *p = *state;
    put_cifar(p->source, "data_batch_1.bin", 20, false, 1);
    put_cifar(p->source, "test_batch.bin", 10, false, 2);
    put_zip(p->dir, "source", "a.zip", true);
    assert_int_equal(ingest_must(p->file, p->out, 0).images, 30);
    place_expect(p, "SELECT value FROM meta WHERE key = 'source_kind'", "cifar");
}

/* ---- hostile members ------------------------------------------------------------------------- */

static void test_a_hostile_member_costs_itself(void **state)
{
    struct place *p = *state;
    static const struct {
        member m;
        const char *reason;
    } cases[] = {
        {{"a/encrypted.png", DEFLATED, .flags = ENCRYPTED}, "unsupported"},
        {{"../../a/out.png", STORED}, "unsupported"},
        {{"a/../../../etc/out.png", STORED}, "unsupported"},
        {{"a/link.png", STORED, .mode = SYMLINK}, "unsupported"},
        {{"a/method.png", 97}, "unsupported"},
        {{"a/crc.png", STORED, .wrong_crc = 1}, "corrupt"},
        {{"a/crc-deflated.png", DEFLATED, .wrong_crc = 1}, "corrupt"},
        {{"a/shorter.png", DEFLATED, .more_size = 50}, "corrupt"},
        {{"a/longer.png", DEFLATED, .more_size = (uint32_t)-5}, "corrupt"},
        {{"a/huge.png", DEFLATED, .more_size = 1u << 31}, "too-large"},
        {{"a/cut.png", DEFLATED, .lost = 30}, "corrupt"},
    };
    enum { CASES = sizeof cases / sizeof *cases };
    zip z = {0};
    for (size_t i = 0; i < CASES; i++) {
        char name[40];
        snprintf(name, sizeof name, "a/good-%02zu.png", i);
        add_picture(&z, &(member){name, i % 2 ? DEFLATED : STORED}, i);
        add_picture(&z, &cases[i].m, 100 + i);
    }
    add_picture(&z, &(member){"a/last.png", STORED}, 99);
    write_zip(&z, p);
    at_ingest_result r = ingest_must(p->file, p->out, 0);
    for (size_t i = 0; i < CASES; i++) {
        char sql[200];
        snprintf(sql, sizeof sql, "SELECT reason FROM errors WHERE path = '%s'", cases[i].m.name);
        if (strcmp(query(p->out, sql), cases[i].reason))
            fail_msg("%s: %s instead of %s", cases[i].m.name, query(p->out, sql), cases[i].reason);
    }
    assert_int_equal(r.images, CASES + 1);
    assert_int_equal(r.errors, CASES);
    place_expect(p, "SELECT detail FROM errors WHERE path = 'a/encrypted.png'", "encrypted");
    print_message("%d kinds of hostile members set aside\n", CASES);
}

static void test_names_of_every_kind(void **state)
{
    struct place *p = *state;
    static const char *const names[] = {"a/caf\xE9.png",   "a/new\nline.png", "a/\"quoted\"'.png",
                                        "/a/absolute.png", "./a/dot.png",     "a/<script>.png"};
    enum { NAMES = sizeof names / sizeof *names };
    zip z = {0};
    for (int i = 0; i < NAMES; i++)
        add_picture(&z, &(member){names[i], STORED}, (uint64_t)i);
    add_picture(&z, &(member){"a/\xC3\xA9t\xC3\xA9.png", STORED, .flags = UTF8}, 50);
    add_picture(&z, &(member){"a/b\xE9te.png", STORED, .flags = UTF8}, 51);
    write_zip(&z, p);
    at_ingest_result r = ingest_must(p->file, p->out, 0);
    assert_int_equal(r.images, NAMES + 1);
    assert_int_equal(r.errors, 1); /* said to be UTF-8, and it is not */
    place_expect(p, "SELECT path LIKE '%its name is no UTF-8' FROM errors", "1");
    place_expect(p,
                 "SELECT count(*) FROM images WHERE path IN ('a/caf\\xE9.png', 'a/new\nline.png', "
                 "'a/\"quoted\"''.png', 'a/absolute.png', 'a/dot.png', 'a/<script>.png', "
                 "'a/\xC3\xA9t\xC3\xA9.png')",
                 "7");
    place_expect(p, "SELECT group_concat(name) FROM classes", "a");
}

/* ---- bombs ----------------------------------------------------------------------------------- */

static uint8_t *zeros_with_a_picture_s_beginning(size_t size)
{
    uint8_t *data = calloc(1, size);
    assert_non_null(data);
    memcpy(data, "\xFF\xD8\xFF\xE0", 4);
    return data;
}

static void test_a_member_that_unpacks_to_a_thousandfold(void **state)
{
    struct place *p = *state;
    enum { SIZE = 60 << 20 };
    uint8_t *data = zeros_with_a_picture_s_beginning(SIZE);
    zip z = {0};
    add(&z, &(member){"a/bomb.jpg", DEFLATED}, data, SIZE);
    add_picture(&z, &(member){"a/good.png", STORED}, 1);
    write_zip(&z, p);
    at_ingest_result r = ingest_must(p->file, p->out, 0);
    assert_int_equal(r.images, 1);
    place_expect(p, "SELECT path || ' ' || reason FROM errors", "a/bomb.jpg too-large");
    free(data);
}

/* Each below what a member may unpack to, together not. */
static void test_many_members_that_unpack_to_a_thousandfold(void **state)
{
    struct place *p = *state;
    enum { SIZE = 15 << 20, MEMBERS = 16 };
    uint8_t *data = zeros_with_a_picture_s_beginning(SIZE);
    zip z = {0};
    for (int i = 0; i < MEMBERS; i++) {
        char name[40];
        snprintf(name, sizeof name, "a/%d.jpg", i);
        add(&z, &(member){name, DEFLATED}, data, SIZE);
    }
    write_zip(&z, p);
    at_ingest_options o = {.source = p->file, .out = p->out};
    const char *message = ingest_must_fail(&o, AT_EINPUT);
    if (!strstr(message, "a.zip: ") || !strstr(message, "a bomb"))
        fail_msg("%s", message);
    free(data);
}

/* ---- damage ---------------------------------------------------------------------------------- */

static void test_a_picture_with_a_zip_behind_it_is_a_picture(void **state)
{
    struct place *p = *state;
    zip z = {0};
    at_image image = paint_image(8, 6, 3, 1);
    encoded png = encode_png(&(png_spec){8, 6, 8, 2}, image.pixels, 24);
    at_text_append(&z.file, png.bytes, png.size);
    add_picture(&z, &(member){"b/hidden.png", STORED}, 2);
    write_zip(&z, p);
    char *data, *folder = at_path_join(p->dir, "photos");
    size_t size;
    assert_int_equal(at_file_read(p->file, 1 << 20, &data, &size, NULL), 0);
    put_file(folder, "a/picture.png", data, size);
    assert_int_equal(ingest_must(folder, p->out, 0).images, 1);
    place_expect(p, "SELECT path FROM images", "a/picture.png");
    at_ingest_options o = {.source = p->file, .out = folder};
    at_error err = {0};
    assert_int_equal(at_ingest(&o, NULL, &err), AT_EINPUT);
    free(data);
    free(folder);
    free(png.bytes);
    at_image_fini(&image);
}

/* 1: an item, as ingest reads them; all of a source. */
static int read_through(const char *path, size_t *items, size_t *bad, at_error *err)
{
    at_source *s = at_source_open(path, NULL, err);
    if (!s)
        return err->code;
    at_item item = {0};
    int code;
    while ((code = at_source_next(s, &item, err)) == 1) {
        ++*items;
        *bad += item.bad;
    }
    at_item_fini(&item);
    at_source_close(s);
    return code;
}

static char *sample_zip(const struct place *p, size_t *size)
{
    zip z = {0};
    for (int i = 0; i < 6; i++) {
        char name[40];
        snprintf(name, sizeof name, "%c/%d.png", 'a' + i % 2, i);
        add_picture(&z, &(member){name, i % 2 ? DEFLATED : STORED}, (uint64_t)i);
    }
    write_zip(&z, p);
    char *data;
    assert_int_equal(at_file_read(p->file, 1 << 20, &data, size, NULL), 0);
    return data;
}

static void test_every_truncation_is_refused_by_name(void **state)
{
    struct place *p = *state;
    size_t size, items = 0, bad = 0;
    char *data = sample_zip(p, &size);
    for (size_t cut = 0; cut < size; cut++) {
        put_file(p->dir, "a.zip", data, cut);
        at_error err = {0};
        assert_int_equal(read_through(p->file, &items, &bad, &err), AT_EINPUT);
        if (!strstr(err.message, "a.zip") ||
            (cut > 4 && !strstr(err.message, "a zip without its directory")))
            fail_msg("cut to %zu: %s", cut, err.message);
    }
    assert_int_equal(items, 0);
    print_message("%zu truncated zips, all refused\n", size);
    free(data);
}

static void test_an_empty_zip_holds_no_picture(void **state)
{
    struct place *p = *state;
    zip z = {0};
    char *data;
    size_t size, items = 0, bad = 0;
    at_error err = {0};
    at_ingest_result r;
    write_zip(&z, p);
    assert_int_equal(at_file_read(p->file, 1 << 20, &data, &size, NULL), 0);
    at_ingest_options o = {.source = p->file, .out = p->out};
    assert_int_equal(at_ingest(&o, &r, &err), AT_EINPUT);
    if (!strstr(err.message, "a.zip: no image in it"))
        fail_msg("%s", err.message);
    for (size_t cut = 0; cut < size; cut++) {
        put_file(p->dir, "a.zip", data, cut);
        assert_int_equal(read_through(p->file, &items, &bad, &err), AT_EINPUT);
    }
    assert_int_equal(items, 0);
    free(data);
}

static void test_random_damage_does_no_harm(void **state)
{
    struct place *p = *state;
    enum { CASES = 3000 };
    size_t size, items = 0, bad = 0, refused = 0;
    char *data = sample_zip(p, &size), *copy = malloc(size);
    assert_non_null(copy);
    at_rng rng = at_rng_stream(1, "zip", 0);
    for (int i = 0; i < CASES; i++) {
        memcpy(copy, data, size);
        for (uint64_t flips = 1 + at_rng_below(&rng, 6); flips; flips--)
            copy[at_rng_below(&rng, size)] ^= (char)(1 << at_rng_below(&rng, 8));
        put_file(p->dir, "a.zip", copy, size);
        at_error err = {0};
        int code = read_through(p->file, &items, &bad, &err);
        assert_true(code == 0 || (code == AT_EINPUT && err.message[0]));
        refused += code < 0;
    }
    print_message("%d damaged zips: %zu refused, %zu members read, %zu set aside\n", CASES, refused,
                  items, bad);
    assert_true(bad > 0 && refused > 0 && items > CASES);
    free(copy);
    free(data);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, place_tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_a_zip_is_as_good_as_its_folder),
        CASE(test_leading_folders_and_folders_with_a_zip),
        CASE(test_cifar_in_a_zip),
        CASE(test_a_hostile_member_costs_itself),
        CASE(test_names_of_every_kind),
        CASE(test_a_member_that_unpacks_to_a_thousandfold),
        CASE(test_many_members_that_unpack_to_a_thousandfold),
        CASE(test_a_picture_with_a_zip_behind_it_is_a_picture),
        CASE(test_every_truncation_is_refused_by_name),
        CASE(test_an_empty_zip_holds_no_picture),
        CASE(test_random_damage_does_no_harm),
    };
#undef CASE
    at_log_set_level(AT_LOG_ERROR);
    at_progress_silence(true);
    scratch_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
