/* SPDX-License-Identifier: Apache-2.0
 * A data set as text. */
#include "dataset_text.h"

#include "../../datasets/internal.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void add_rows(at_db *db, const char *sql, at_text *out)
{
    at_error err = {0};
    at_stmt *s = at_db_prepare(db, sql, &err);
    if (!s)
        fail_msg("%s", err.message);
    at_text_add(out, "-- %s\n", sql);
    while (at_stmt_step(s, &err) == 1) {
        for (int c = 0; c < at_stmt_columns(s); c++)
            at_text_add(out, "%s|", at_stmt_text(s, c) ? at_stmt_text(s, c) : "-");
        at_text_add(out, "\n");
    }
    at_stmt_free(s);
}

static void add_tables(const char *dataset, at_text *out)
{
    at_error err = {0};
    char *path = at_path_join(dataset, "catalog.db");
    at_db *db = at_db_open(path, AT_DB_READ, &err);
    if (!db)
        fail_msg("%s", err.message);
    add_rows(db, "SELECT type, name, sql FROM sqlite_master ORDER BY name", out);
    at_stmt *s = at_db_prepare(db,
                               "SELECT name FROM sqlite_master WHERE type = 'table'"
                               " AND name NOT LIKE 'sqlite%' ORDER BY name",
                               &err);
    assert_non_null(s);
    while (at_stmt_step(s, &err) == 1) {
        char *sql = at_format("SELECT * FROM \"%s\" ORDER BY 1, 2", at_stmt_text(s, 0));
        add_rows(db, sql, out);
        free(sql);
    }
    at_stmt_free(s);
    at_db_close(db);
    free(path);
}

static void add_shards(const char *dataset, at_text *out)
{
    for (int i = 0;; i++) {
        char *path = at_format("%s/shards/%05d.atb", dataset, i), *data, hash[65];
        size_t size;
        if (!at_file_exists(path)) {
            free(path);
            return;
        }
        assert_int_equal(at_file_read(path, 1 << 30, &data, &size, NULL), 0);
        at_content_hash(data, size, hash);
        at_text_add(out, "shard %d: %zu bytes %s\n", i, size, hash);
        free(data);
        free(path);
    }
}

char *dataset_text(const char *dataset)
{
    at_text out = {0};
    add_tables(dataset, &out);
    add_shards(dataset, &out);
    assert_false(out.failed);
    return out.data;
}

static int not_dots(const struct dirent *e)
{
    return strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
}

static void add_files(const char *folder, const char *name, at_text *out)
{
    struct dirent **entries;
    int n = scandir(folder, &entries, not_dots, alphasort);
    assert_true(n >= 0);
    for (int i = 0; i < n; i++) {
        char *path = at_path_join(folder, entries[i]->d_name), hash[65];
        char *inner = at_format("%s%s%s", name, *name ? "/" : "", entries[i]->d_name);
        uint64_t bytes;
        if (at_dir_exists(path)) {
            add_files(path, inner, out);
        } else {
            assert_int_equal(at_file_sha256(path, hash, &bytes, NULL), 0);
            at_text_add(out, "%s: %llu bytes %s\n", inner, (unsigned long long)bytes, hash);
        }
        free(path);
        free(inner);
        free(entries[i]);
    }
    free(entries);
}

char *dataset_files(const char *dataset)
{
    at_text out = {0};
    add_files(dataset, "", &out);
    assert_false(out.failed);
    return out.data;
}

void same_text(const char *got, const char *wanted)
{
    if (strcmp(got, wanted)) {
        size_t i = 0;
        while (got[i] == wanted[i])
            i++;
        fail_msg("differs at character %zu: \"%.60s\" instead of \"%.60s\"", i, got + i,
                 wanted + i);
    }
}
