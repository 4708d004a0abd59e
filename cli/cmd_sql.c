/* SPDX-License-Identifier: Apache-2.0
 * atoll sql: asks a data set's catalog (or another SQLite file of atoll's) in SQL, read-only.
 */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

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

/* ---- CSV (RFC 4180) ---- */

static void print_field(const char *text, bool last)
{
    if (text && strpbrk(text, ",\"\r\n")) {
        putchar('"');
        for (; *text; text++)
            fputs(*text == '"' ? "\"\"" : (char[]){*text, 0}, stdout);
        putchar('"');
    } else if (text) {
        fputs(text, stdout);
    }
    putchar(last ? '\n' : ',');
}

static int print_csv(at_stmt *s, at_error *err)
{
    int columns = at_stmt_columns(s), code;
    for (int c = 0; c < columns; c++)
        print_field(at_stmt_column_name(s, c), c + 1 == columns);
    while ((code = at_stmt_step(s, err)) == 1 && !at_interrupted())
        for (int c = 0; c < columns; c++)
            print_field(at_stmt_text(s, c), c + 1 == columns);
    return code == 1 ? at_fail(err, AT_EINTERRUPTED, "interrupted") : code;
}

/* ---- rows as trees ---- */

static at_node *value_of(const at_stmt *s, int column)
{
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

static int read_rows(at_stmt *s, const at_node *names, at_node *rows, at_error *err)
{
    int columns = at_stmt_columns(s), code;
    while ((code = at_stmt_step(s, err)) == 1) {
        at_node *row = at_node_add(rows, at_node_new(AT_MAP));
        for (int c = 0; c < columns; c++)
            if (!row ||
                !at_node_set(row, at_node_string(at_node_at(names, (size_t)c), ""), value_of(s, c)))
                return at_nomem(err);
        if (at_interrupted())
            return at_fail(err, AT_EINTERRUPTED, "interrupted");
    }
    return code;
}

static void print_header(const at_node *names)
{
    for (size_t i = 0; i < at_node_count(names); i++)
        printf("%s%s", i ? "  " : "", at_node_text(at_node_at(names, i)));
    putchar('\n');
}

static int print_rows(at_stmt *s, bool json, at_error *err)
{
    at_node *names = names_of(s), *rows = at_node_new(AT_LIST), *tree = at_node_new(AT_MAP);
    int code = names && rows && tree ? read_rows(s, names, rows, err) : at_nomem(err);
    if (code == 0 && json) {
        at_node_set(tree, "columns", names);
        at_node_set(tree, "rows", rows);
        cli_print_json(tree);
        return 0;
    }
    if (code == 0 && at_node_count(rows))
        cli_print_table(rows);
    else if (code == 0)
        print_header(names);
    at_node_free(names);
    at_node_free(rows);
    at_node_free(tree);
    return code;
}

static int ask(const char *path, const char *sql, const args *a, at_error *err)
{
    if (a->json && a->csv)
        return at_fail(err, AT_EUSAGE, "--json and --csv exclude each other");
    char *file = find_database(path, err);
    at_db *db = file ? at_db_open(file, AT_DB_READ, err) : NULL;
    at_stmt *s = db ? at_db_prepare(db, sql, err) : NULL;
    int code = !s ? err->code : a->csv ? print_csv(s, err) : print_rows(s, a->json, err);
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
    .help = "Tables: images(path, split, label, hash, mtime), blobs(hash, shard, offset, bytes, "
            "format, width, "
            "height,\nchannels), stats(hash, mean_0, ...), classes(label, name), errors(path, "
            "reason, detail), "
            "meta(key, value).\nNothing can be changed this way. Any SQLite client opens "
            "DATASET/catalog.db, "
            "too.\n\n"
            "  atoll sql data/photos 'SELECT split, name, count(*) FROM images JOIN classes "
            "USING(label) GROUP "
            "BY 1, 2'\n"
            "  atoll sql data/photos 'SELECT path, mean_0 FROM images JOIN stats USING(hash) ORDER "
            "BY 2 LIMIT "
            "5'\n"
            "  atoll sql data/photos 'SELECT * FROM errors' --csv > errors.csv",
    .options = options,
    .run = run};
