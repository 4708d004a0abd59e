/* SPDX-License-Identifier: Apache-2.0
 * atoll sql: asks a data set's catalog (or another SQLite file of atoll's) in SQL, read-only.
 */
#include "cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct args {
    bool json, csv;
} args;

static const at_option options[] = {
    {"json", AT_OPT_BOOL, offsetof(args, json), "false", "print one JSON object: columns and rows"},
    {"csv", AT_OPT_BOOL, offsetof(args, csv), "false",
     "print comma-separated values, a header first"},
    {0}};

/* The database of a folder, or the file itself; malloc'd. */
static char *find_database(const char *path, at_error *err)
{
    static const char *const names[] = {"catalog.db", "records.db", "study.db", "registry.db"};
    if (!at_dir_exists(path))
        return strdup(path);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *file = at_path_join(path, names[i]);
        if (file && at_file_exists(file))
            return file;
        free(file);
    }
    at_fail(err, AT_ENOENT, "%s: no catalog.db, records.db, study.db or registry.db in it", path);
    return NULL;
}

/* ---- values ---- */

enum { PIECE = 4096 }; /* of a blob's bytes at once */

/* The bytes of a blob as hexadecimal digits, at most `limit` of them. */
static void add_hex(at_text *t, const at_stmt *s, int column, size_t limit)
{
    size_t bytes;
    const uint8_t *data = at_stmt_blob(s, column, &bytes);
    bytes = bytes < limit ? bytes : limit;
    for (size_t at = 0, n; at < bytes; at += n) {
        char digits[2 * PIECE];
        n = bytes - at < PIECE ? bytes - at : PIECE;
        for (size_t i = 0; i < n; i++) {
            digits[2 * i] = "0123456789abcdef"[data[at + i] >> 4];
            digits[2 * i + 1] = "0123456789abcdef"[data[at + i] & 15];
        }
        at_text_append(t, digits, 2 * n);
    }
}

/* Four decimals are enough for people; --csv and --json have them all. */
static void add_real(cli_table *t, double value)
{
    char text[40];
    bool plain = value == 0 || (fabs(value) >= 1e-3 && fabs(value) < 1e15);
    snprintf(text, sizeof text, plain ? "%.4f" : "%.6g", value);
    size_t n = strlen(text);
    while (plain && text[n - 1] == '0')
        n--;
    text[plain && text[n - 1] == '.' ? n - 1 : n] = 0;
    cli_table_add(t, text, true);
}

/* A cell for people: of a blob its beginning and its length. */
static void add_cell(cli_table *t, const at_stmt *s, int column)
{
    at_kind kind = at_stmt_kind(s, column);
    if (kind == AT_REAL) {
        add_real(t, at_stmt_real(s, column));
        return;
    }
    if (!at_stmt_is_blob(s, column)) {
        cli_table_add(t, kind == AT_NULL ? "NULL" : at_stmt_text(s, column), kind != AT_STRING);
        return;
    }
    at_text cell = {0};
    size_t bytes;
    at_stmt_blob(s, column, &bytes);
    add_hex(&cell, s, column, 4);
    at_text_add(&cell, "%s (%zu bytes)", bytes > 4 ? "\u2026" : "", bytes);
    cli_table_add(t, cell.failed ? "" : cell.data, false);
    at_text_fini(&cell);
}

/* 1: a row; 0: the end; negative: an error, of the query or of who reads what is printed. */
static int next_row(at_stmt *s, at_error *err)
{
    if (at_interrupted())
        return at_fail(err, AT_EINTERRUPTED, "interrupted");
    if (ferror(stdout))
        return at_fail(err, AT_EIO, "standard output cannot be written");
    return at_stmt_step(s, err);
}

/* ---- CSV (RFC 4180): an empty field is NULL, "" an empty text, a blob hexadecimal ---- */

static void print_field(const char *text, bool last)
{
    if (text && (!*text || strpbrk(text, ",\"\r\n"))) {
        putchar('"');
        for (; *text; text++)
            fputs(*text == '"' ? "\"\"" : (char[]){*text, 0}, stdout);
        putchar('"');
    } else if (text) {
        fputs(text, stdout);
    }
    putchar(last ? '\n' : ',');
}

static int print_value(const at_stmt *s, int column, bool last, at_error *err)
{
    at_text hex = {0};
    if (at_stmt_is_blob(s, column))
        add_hex(&hex, s, column, SIZE_MAX);
    int code = hex.failed ? at_nomem(err) : 0;
    if (code == 0)
        print_field(hex.length ? hex.data : at_stmt_text(s, column), last);
    at_text_fini(&hex);
    return code;
}

static int print_csv(at_stmt *s, at_error *err)
{
    int columns = at_stmt_columns(s), code;
    for (int c = 0; c < columns; c++)
        print_field(at_stmt_column_name(s, c), c + 1 == columns);
    while ((code = next_row(s, err)) == 1)
        for (int c = 0; c < columns; c++)
            if (print_value(s, c, c + 1 == columns, err) < 0)
                return err->code;
    return code;
}

/* ---- JSON: {"columns": [...], "rows": [{...}, ...]}, a row at a time ---- */

static at_node *value_of(const at_stmt *s, int column)
{
    if (at_stmt_is_blob(s, column)) {
        at_text hex = {0};
        add_hex(&hex, s, column, SIZE_MAX);
        at_node *n = hex.failed ? NULL : at_node_new_string(hex.data ? hex.data : "");
        at_text_fini(&hex);
        return n;
    }
    switch (at_stmt_kind(s, column)) {
    case AT_NULL:
        return at_node_new(AT_NULL);
    case AT_INT:
        return at_node_new_int(at_stmt_int(s, column));
    case AT_REAL:
        return at_node_new_real(at_stmt_real(s, column));
    default:
        return at_node_new_string(at_stmt_text(s, column));
    }
}

/* The columns' names, made distinct: a, a_2, a_3. */
static at_node *names_of(const at_stmt *s)
{
    at_node *names = at_node_new(AT_LIST);
    for (int c = 0; c < at_stmt_columns(s); c++) {
        int same = 1;
        for (int before = 0; before < c; before++)
            same += !strcmp(at_stmt_column_name(s, before), at_stmt_column_name(s, c));
        char *name = same > 1 ? at_format("%s_%d", at_stmt_column_name(s, c), same) : NULL;
        at_node_add(names, at_node_new_string(name ? name : at_stmt_column_name(s, c)));
        free(name);
    }
    return names;
}

static int print_tree(const at_node *tree, at_error *err)
{
    char *text = tree ? at_json_print(tree, false) : NULL;
    if (!text)
        return at_nomem(err);
    fputs(text, stdout);
    free(text);
    return 0;
}

static int print_row(const at_stmt *s, const at_node *names, at_error *err)
{
    at_node *row = at_node_new(AT_MAP);
    int code = row ? 0 : at_nomem(err);
    for (int c = 0; code == 0 && c < at_stmt_columns(s); c++)
        if (!at_node_set(row, at_node_string(at_node_at(names, (size_t)c), ""), value_of(s, c)))
            code = at_nomem(err);
    code = code < 0 ? code : print_tree(row, err);
    at_node_free(row);
    return code;
}

static int print_json(at_stmt *s, at_error *err)
{
    at_node *names = names_of(s);
    const char *between = isatty(STDOUT_FILENO) ? ",\n" : ",";
    fputs("{\"columns\":", stdout);
    int code = print_tree(names, err);
    fputs(",\"rows\":[", stdout);
    for (bool first = true; code == 0 && (code = next_row(s, err)) == 1; first = false) {
        fputs(first ? "" : between, stdout);
        code = print_row(s, names, err);
    }
    puts("]}");
    at_node_free(names);
    return code;
}

/* ---- tables ---- */

static int print_table(at_stmt *s, at_error *err)
{
    int columns = at_stmt_columns(s), code = 1;
    if (columns == 0) /* a PRAGMA without an answer */
        return at_stmt_step(s, err);
    const char **names = calloc((size_t)columns, sizeof *names);
    for (int c = 0; names && c < columns; c++)
        names[c] = at_stmt_column_name(s, c);
    cli_table *t = names ? cli_table_new(names, (size_t)columns) : NULL;
    while (t && (code = next_row(s, err)) == 1)
        for (int c = 0; c < columns; c++)
            add_cell(t, s, c);
    int ended = cli_table_end(t, err);
    free(names);
    return code < 0 ? code : ended;
}

/* ---- the question ---- */

/* What would help with SQL that the database cannot take. */
static int explain(at_db *db, at_error *err)
{
    at_error why = *err;
    at_stmt *s = at_db_prepare(db, "SELECT value FROM meta WHERE key = 'format'", NULL);
    bool old = s && at_stmt_step(s, NULL) == 1 && at_stmt_int(s, 0) == 1;
    at_stmt_free(s);
    if (old)
        at_fail(err, why.code,
                "%s (an earlier atoll made this catalog: views and newer columns come when its "
                "source is ingested again)",
                why.message);
    else if (strstr(why.message, "no such table") &&
             (s = at_db_prepare(db,
                                "SELECT group_concat(name, ', ') FROM (SELECT name FROM"
                                " sqlite_master WHERE type IN ('table', 'view') ORDER BY name)",
                                NULL))) {
        if (at_stmt_step(s, NULL) == 1 && at_stmt_text(s, 0))
            at_fail(err, why.code, "%s (there are: %s)", why.message, at_stmt_text(s, 0));
        at_stmt_free(s);
    }
    return err->code;
}

static int expect_reading(const at_stmt *s, const char *sql, at_error *err)
{
    if (at_stmt_only_reads(s))
        return 0;
    sql += strspn(sql, " \t\r\n");
    return at_fail(err, AT_EUSAGE, "\"%.*s\" changes the database: this command only reads",
                   (int)strcspn(sql, " \t\r\n("), sql);
}

static int ask(const char *path, const char *sql, const args *a, at_error *err)
{
    if (a->json && a->csv)
        return at_fail(err, AT_EUSAGE, "--json and --csv exclude each other");
    char *file = find_database(path, err);
    at_db *db = file ? at_db_open(file, AT_DB_READ, err) : NULL;
    if (db)
        at_db_heed_interrupts(db);
    at_stmt *s = db ? at_db_prepare(db, sql, err) : NULL;
    int code = s ? expect_reading(s, sql, err) : db ? explain(db, err) : err->code;
    if (code == 0)
        code = a->csv ? print_csv(s, err) : a->json ? print_json(s, err) : print_table(s, err);
    at_stmt_free(s);
    at_db_close(db);
    free(file);
    return code;
}

static int run(int argc, char **argv, at_error *err)
{
    args a = {0};
    int code = cli_parse(options, &a, argc, argv, 2, 2, err);
    if (code > 0)
        code = ask(argv[0], argv[1], &a, err);
    at_options_fini(options, &a);
    return code;
}

const cli_command cmd_sql = {
    .name = "sql",
    .usage = "DATASET|RECORDS 'SELECT ...' [--json|--csv]",
    .summary = "ask a data set's catalog in SQL",
    .help =
        "Tables: images(path, split, label, hash, mtime), blobs(hash, format, width, height, "
        "bit_depth, "
        "mode, bytes,\nmean_0, ..., sharpness, entropy, exif, ...), classes(label, name), "
        "exif(hash, tag, "
        "value), errors(path, reason,\ndetail), meta(key, value). Views: class_counts, "
        "size_histogram, "
        "duplicates, suspects, stats.\nNothing can be changed this way. Any SQLite client opens "
        "DATASET/catalog.db, too.\nIn --csv NULL is an empty field and \"\" an empty text; a blob "
        "is "
        "hexadecimal there and in --json.\n\n"
        "  atoll sql data/photos 'SELECT * FROM class_counts'\n"
        "  atoll sql data/photos 'SELECT path, reason, detail FROM suspects'\n"
        "  atoll sql data/photos 'SELECT path, sharpness FROM images JOIN blobs USING(hash) ORDER "
        "BY 2 "
        "LIMIT 5'\n"
        "  atoll sql data/photos \"SELECT value, count(*) FROM exif WHERE tag = 'camera' GROUP BY "
        "1\"\n"
        "  atoll sql data/photos 'SELECT * FROM errors' --csv > errors.csv",
    .options = options,
    .run = run};
