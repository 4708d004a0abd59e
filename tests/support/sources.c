/* SPDX-License-Identifier: Apache-2.0
 * Sources of pictures for ingest. */
#include "sources.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

void put_file(const char *dir, const char *name, const void *bytes, size_t size)
{
    at_error err = {0};
    char *path = at_path_join(dir, name);
    assert_non_null(path);
    *strrchr(path, '/') = 0;
    if (at_make_dirs(path, &err))
        fail_msg("%s", err.message);
    path[strlen(path)] = '/';
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    free(path);
}

void put_text(const char *dir, const char *name, const char *text)
{
    put_file(dir, name, text, strlen(text));
}

void put_picture(const char *dir, const char *name, uint64_t seed)
{
    at_image image = paint_image(8, 6, 3, seed);
    const char *dot = strrchr(name, '.');
    bool jpeg = dot && (dot[1] == 'j' || dot[1] == 'J');
    encoded file;
    if (jpeg)
        file = encode_jpeg(&image, &(jpeg_spec){.quality = 90});
    else
        file = encode_png(&(png_spec){.width = 8, .height = 6, .depth = 8, .type = 2}, image.pixels,
                          24);
    put_file(dir, name, file.bytes, file.size);
    free(file.bytes);
    at_image_fini(&image);
}

void put_pictures(const char *dir, const char *split, int classes, int count, uint64_t seed)
{
    for (int k = 0; k < classes; k++)
        for (int i = 0; i < count; i++) {
            char name[100];
            snprintf(name, sizeof name, "%s%sclass_%d/%05d.%s", split, *split ? "/" : "", k, i,
                     i % 2 ? "jpg" : "png");
            put_picture(dir, name, seed + (uint64_t)(k * count + i));
        }
}

/* ---- tar and zip ---- */

static int not_dots(const struct dirent *e)
{
    return strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
}

static void add_member(struct archive *a, const char *path, const char *name)
{
    char *data;
    size_t size;
    at_error err = {0};
    if (at_file_read(path, 1 << 30, &data, &size, &err))
        fail_msg("%s", err.message);
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_size(entry, (la_int64_t)size);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_mtime(entry, 1600000000, 0);
    assert_int_equal(archive_write_header(a, entry), ARCHIVE_OK);
    assert_int_equal(archive_write_data(a, data, size), size);
    archive_entry_free(entry);
    free(data);
}

static void add_folder(struct archive *a, const char *path, const char *name)
{
    struct dirent **entries;
    int n = scandir(path, &entries, not_dots, alphasort);
    assert_true(n >= 0);
    for (int i = 0; i < n; i++) {
        char *inner = at_path_join(path, entries[i]->d_name);
        char *member = *name ? at_path_join(name, entries[i]->d_name) : strdup(entries[i]->d_name);
        if (at_dir_exists(inner))
            add_folder(a, inner, member);
        else
            add_member(a, inner, member);
        free(inner);
        free(member);
        free(entries[i]);
    }
    free(entries);
}

/* Takes a, whose format is set. */
static void write_archive(struct archive *a, const char *dir, const char *folder, const char *name,
                          bool leading)
{
    char *path = at_path_join(dir, folder), *out = at_path_join(dir, name);
    assert_int_equal(archive_write_open_filename(a, out), ARCHIVE_OK);
    add_folder(a, path, leading ? folder : "");
    assert_int_equal(archive_write_close(a), ARCHIVE_OK);
    archive_write_free(a);
    free(path);
    free(out);
}

void put_tar(const char *dir, const char *folder, const char *name, bool gzip, bool leading)
{
    struct archive *a = archive_write_new();
    if (gzip)
        archive_write_add_filter_gzip(a);
    archive_write_set_format_pax_restricted(a);
    write_archive(a, dir, folder, name, leading);
}

void put_zip(const char *dir, const char *folder, const char *name, bool leading)
{
    struct archive *a = archive_write_new();
    archive_write_set_format_zip(a);
    write_archive(a, dir, folder, name, leading);
}

/* ---- idx and CIFAR ---- */

static void put_big_endian(at_text *t, uint32_t v)
{
    uint8_t bytes[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    at_text_append(t, bytes, 4);
}

static void put_maybe_gzipped(const char *dir, const char *name, const at_text *t, bool gzip)
{
    if (!gzip) {
        put_file(dir, name, t->data, t->length);
        return;
    }
    char *path = at_format("%s/%s.gz", dir, name);
    gzFile f = gzopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(gzwrite(f, t->data, (unsigned)t->length), t->length);
    assert_int_equal(gzclose(f), Z_OK);
    free(path);
}

void put_idx(const char *dir, const char *prefix, const idx_spec *spec)
{
    at_text images = {0}, labels = {0};
    char name[100];
    at_error err = {0};
    if (at_make_dirs(dir, &err))
        fail_msg("%s", err.message);
    put_big_endian(&images, spec->images_magic ? spec->images_magic : 0x803);
    put_big_endian(&images, spec->images);
    put_big_endian(&images, 4);
    put_big_endian(&images, 5);
    uint32_t there = spec->images_there ? spec->images_there : spec->images;
    for (uint32_t i = 0; i < there * 20; i++)
        at_text_append(&images, &(uint8_t){(uint8_t)(i * 7 + i / 20)}, 1);
    put_big_endian(&labels, spec->labels_magic ? spec->labels_magic : 0x801);
    put_big_endian(&labels, spec->labels);
    there = spec->labels_there ? spec->labels_there : spec->labels;
    for (uint32_t i = 0; i < there; i++)
        at_text_append(&labels, &(uint8_t){(uint8_t)(i % 3)}, 1);
    snprintf(name, sizeof name, "%s-images-idx3-ubyte", prefix);
    put_maybe_gzipped(dir, name, &images, spec->gzip);
    snprintf(name, sizeof name, "%s-labels-idx1-ubyte", prefix);
    put_maybe_gzipped(dir, name, &labels, spec->gzip);
    at_text_fini(&images);
    at_text_fini(&labels);
}

void put_cifar(const char *dir, const char *name, int count, bool coarse, uint64_t seed)
{
    at_text t = {0};
    at_rng rng = at_rng_stream(seed, "cifar", 0);
    for (int i = 0; i < count; i++) {
        if (coarse)
            at_text_append(&t, &(uint8_t){(uint8_t)((i + 3) % 20)}, 1);
        at_text_append(&t, &(uint8_t){(uint8_t)(i % 10)}, 1);
        for (int k = 0; k < 3072; k++)
            at_text_append(&t, &(uint8_t){(uint8_t)at_rng_below(&rng, 256)}, 1);
    }
    put_file(dir, name, t.data ? t.data : "", t.length);
    at_text_fini(&t);
}

/* ---- ingesting ---- */

at_ingest_result ingest_must(const char *source, const char *out, double val_fraction)
{
    at_ingest_result r;
    at_error err = {0};
    at_ingest_options o = {.source = source, .out = out, .val_fraction = val_fraction, .jobs = 2};
    if (at_ingest(&o, &r, &err))
        fail_msg("%s", err.message);
    return r;
}

const char *ingest_must_fail(const at_ingest_options *o, int code)
{
    static at_error err;
    err = (at_error){0};
    at_ingest_result r;
    int got = at_ingest(o, &r, &err);
    if (got != code)
        fail_msg("%s instead of %s: %s", at_error_name(got), at_error_name(code), err.message);
    assert_int_equal(err.code, code);
    assert_true(err.message[0]);
    assert_false(at_dir_exists(o->out));
    return err.message;
}

const char *query(const char *dataset, const char *sql)
{
    static char text[4096];
    at_error err = {0};
    char *path = at_path_join(dataset, "catalog.db");
    at_db *db = at_db_open(path, AT_DB_READ, &err);
    at_stmt *s = db ? at_db_prepare(db, sql, &err) : NULL;
    int code = s ? at_stmt_step(s, &err) : -1;
    if (code < 0)
        fail_msg("%s: %s", sql, err.message);
    const char *value = code == 1 ? at_stmt_text(s, 0) : NULL;
    snprintf(text, sizeof text, "%s", value ? value : "");
    at_stmt_free(s);
    at_db_close(db);
    free(path);
    return text;
}
