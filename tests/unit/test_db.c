/* SPDX-License-Identifier: Apache-2.0
 * SQLite: opening, binding, errors, many processes writing at once, and a writer that is killed.
 */
#include "atoll/base.h"
#include "scratch.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct place {
    char *dir, *path;
} place;

static int set_up(void **state)
{
    place *p = calloc(1, sizeof *p);
    p->dir = scratch_new();
    p->path = at_path_join(p->dir, "study.db");
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    place *p = *state;
    scratch_free(p->dir);
    free(p->path);
    free(p);
    return 0;
}

static at_db *must_open(const char *path, at_db_mode mode)
{
    at_error err = {0};
    at_db *db = at_db_open(path, mode, &err);
    if (!db)
        fail_msg("%s", err.message);
    return db;
}

static void must_run(at_db *db, const char *sql)
{
    at_error err = {0};
    if (at_db_exec(db, sql, &err))
        fail_msg("%s", err.message);
}

static int64_t query_int(at_db *db, const char *sql)
{
    at_error err = {0};
    at_stmt *s = at_db_prepare(db, sql, &err);
    if (!s || at_stmt_step(s, &err) != 1)
        fail_msg("%s", err.message);
    int64_t value = at_stmt_int(s, 0);
    at_stmt_free(s);
    return value;
}

static void values_come_back_as_bound(void **state)
{
    place *p = *state;
    at_error err = {0};
    at_db *db = must_open(p->path, AT_DB_CREATE);
    must_run(db, "CREATE TABLE t(i INTEGER, r REAL, s TEXT, z TEXT, b BLOB, n); SELECT 1;");
    at_stmt *s = at_db_prepare(db, "INSERT INTO t VALUES(?,?,?,?,?,?)", &err);
    int64_t i = INT64_MIN;
    assert_int_equal(
        at_stmt_bind(s, "irssbn", i, 0.1, "caf\xC3\xA9", NULL, (const void *)"a\0b", (size_t)3), 0);
    assert_int_equal(at_stmt_step(s, &err), 0);
    assert_int_equal(at_db_last_id(db), 1);
    at_stmt_free(s);
    s = at_db_prepare(db, "SELECT * FROM t -- all\n;", &err);
    assert_int_equal(at_stmt_columns(s), 6);
    assert_string_equal(at_stmt_column_name(s, 2), "s");
    assert_int_equal(at_stmt_step(s, &err), 1);
    at_kind kinds[] = {AT_INT, AT_REAL, AT_STRING, AT_NULL, AT_STRING, AT_NULL};
    for (int c = 0; c < 6; c++)
        assert_int_equal(at_stmt_kind(s, c), kinds[c]);
    assert_int_equal(at_stmt_int(s, 0), INT64_MIN);
    assert_true(at_stmt_real(s, 1) == 0.1);
    assert_string_equal(at_stmt_text(s, 2), "caf\xC3\xA9");
    assert_null(at_stmt_text(s, 3));
    size_t bytes = 0;
    assert_memory_equal(at_stmt_blob(s, 4, &bytes), "a\0b", 3);
    assert_int_equal(bytes, 3);
    assert_int_equal(at_stmt_step(s, &err), 0);
    assert_int_equal(at_stmt_step(s, &err), 1); /* done resets */
    at_stmt_free(s);
    at_db_close(db);
}

static void a_statement_is_bound_again_and_again(void **state)
{
    place *p = *state;
    at_error err = {0};
    at_db *db = must_open(p->path, AT_DB_CREATE);
    must_run(db, "CREATE TABLE t(i INTEGER, s TEXT); BEGIN");
    at_stmt *s = at_db_prepare(db, "INSERT INTO t VALUES(?,?)", &err);
    for (int64_t i = 0; i < 1000; i++) {
        char text[32];
        snprintf(text, sizeof text, "%lld", (long long)i);
        assert_int_equal(at_stmt_bind(s, i % 2 ? "is" : "in", i, text), 0);
        assert_int_equal(at_stmt_step(s, &err), 0);
    }
    at_stmt_free(s);
    must_run(db, "COMMIT");
    assert_int_equal(query_int(db, "SELECT count(*) FROM t WHERE s = i"), 500);
    assert_int_equal(at_db_run(db, &err, "DELETE FROM t WHERE i < ?", "i", (int64_t)10), 0);
    assert_int_equal(query_int(db, "SELECT count(*) FROM t"), 990);
    at_db_close(db);
}

static void the_number_of_values_is_checked(void **state)
{
    place *p = *state;
    at_error err = {0};
    at_db *db = must_open(p->path, AT_DB_CREATE);
    must_run(db, "CREATE TABLE t(a, b)");
    at_stmt *s = at_db_prepare(db, "INSERT INTO t VALUES(?,?)", &err);
    assert_int_equal(at_stmt_bind(s, "i", (int64_t)1), AT_EFAIL);
    assert_int_equal(at_stmt_step(s, &err), AT_EFAIL); /* also where bind's answer was ignored */
    assert_non_null(strstr(err.message, "takes 2 values"));
    assert_int_equal(at_stmt_bind(s, "iq", (int64_t)1, 2), AT_EFAIL);
    assert_int_equal(at_stmt_bind(s, "iii", (int64_t)1, (int64_t)2, (int64_t)3), AT_EFAIL);
    assert_int_equal(at_stmt_bind(s, "ii", (int64_t)1, (int64_t)2), 0);
    assert_int_equal(at_stmt_step(s, &err), 0);
    at_stmt_free(s);
    assert_int_equal(query_int(db, "SELECT count(*) FROM t"), 1);
    assert_int_equal(at_db_run(db, &err, "INSERT INTO t VALUES(?,?)", ""), AT_EFAIL);
    assert_int_equal(at_db_run(db, NULL, "INSERT INTO nowhere VALUES(1)", ""), AT_EINPUT);
    at_db_close(db);
}

static void bad_sql_is_refused(void **state)
{
    place *p = *state;
    at_db *db = must_open(p->path, AT_DB_CREATE);
    static const char *const cases[][2] = {
        {"SELEC 1", "syntax error"},
        {"SELECT * FROM nowhere", "no such table"},
        {"", "empty"},
        {" -- nothing", "empty"},
        {"SELECT 1; DROP TABLE t", "more than one"},
        {"SELECT 1; gibberish", "more than one"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        at_error err = {0};
        assert_null(at_db_prepare(db, cases[i][0], &err));
        assert_int_equal(err.code, AT_EINPUT);
        assert_non_null(strstr(err.message, cases[i][1]));
        assert_int_equal(strncmp(err.message, p->path, strlen(p->path)), 0);
    }
    at_db_close(db);
}

static void constraints_hold(void **state)
{
    place *p = *state;
    at_error err = {0};
    at_db *db = must_open(p->path, AT_DB_CREATE);
    must_run(db, "CREATE TABLE a(id INTEGER PRIMARY KEY);"
                 "CREATE TABLE b(a INTEGER REFERENCES a(id), u UNIQUE)");
    assert_int_equal(at_db_exec(db, "INSERT INTO b VALUES(7, 1)", &err), AT_EFAIL);
    assert_non_null(strstr(err.message, "FOREIGN KEY constraint failed"));
    must_run(db, "INSERT INTO a VALUES(7); INSERT INTO b VALUES(7, 1)");
    assert_int_equal(at_db_run(db, &err, "INSERT INTO b VALUES(7, ?)", "i", (int64_t)1), AT_EFAIL);
    assert_non_null(strstr(err.message, "UNIQUE constraint failed: b.u"));
    at_db_close(db);
}

static void writers_are_durable(void **state)
{
    place *p = *state;
    at_db *db = must_open(p->path, AT_DB_CREATE);
    assert_int_equal(query_int(db, "PRAGMA synchronous"), 2);
    assert_int_equal(query_int(db, "PRAGMA foreign_keys"), 1);
    assert_int_equal(query_int(db, "PRAGMA busy_timeout"), 10000);
    at_db_close(db);
    db = must_open(p->path, AT_DB_WRITE);
    assert_int_equal(query_int(db, "PRAGMA synchronous"), 2);
    at_db_close(db);
}

static void readers_cannot_write(void **state)
{
    place *p = *state;
    at_error err = {0};
    at_db *db = must_open(p->path, AT_DB_CREATE);
    must_run(db, "CREATE TABLE t(a); INSERT INTO t VALUES(1)");
    at_db *reader = must_open(p->path, AT_DB_READ); /* while the writer has it open */
    assert_int_equal(query_int(reader, "SELECT a FROM t"), 1);
    assert_int_equal(at_db_exec(reader, "INSERT INTO t VALUES(2)", &err), AT_EIO);
    assert_non_null(strstr(err.message, "readonly"));
    must_run(db, "INSERT INTO t VALUES(3)");
    assert_int_equal(query_int(reader, "SELECT count(*) FROM t"), 2);
    at_db_close(reader);
    at_db_close(db);
}

static void what_is_no_database_is_named(void **state)
{
    place *p = *state;
    static const at_db_mode modes[] = {AT_DB_READ, AT_DB_WRITE, AT_DB_CREATE};
    at_error err = {0};
    for (int i = 0; i < 2; i++) {
        assert_null(at_db_open(p->path, modes[i], &err));
        assert_int_equal(err.code, AT_ENOENT);
        assert_non_null(strstr(err.message, p->path));
        assert_false(at_file_exists(p->path));
    }
    char noise[5000];
    memset(noise, 'x', sizeof noise);
    assert_int_equal(at_file_write(p->path, noise, sizeof noise, &err), 0);
    for (int i = 0; i < 3; i++) {
        assert_null(at_db_open(p->path, modes[i], &err));
        assert_int_equal(err.code, AT_EINPUT);
        assert_int_equal(strncmp(err.message, p->path, strlen(p->path)), 0);
        assert_non_null(strstr(err.message, "not a database"));
    }
    assert_null(at_db_open(p->dir, AT_DB_READ, &err));
    assert_int_equal(err.code, AT_EINPUT);
    assert_non_null(strstr(err.message, "not a file"));
    assert_null(at_db_open("/nonexistent/a.db", AT_DB_CREATE, &err));
    assert_true(err.code < 0);
    assert_non_null(strstr(err.message, "/nonexistent/a.db"));
    at_db_close(NULL);
    at_stmt_free(NULL);
}

/* Runs fn in a child, as nobody where this is root, and gives its exit status. */
static int in_child(int (*fn)(const char *path), const char *path)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        if (geteuid() == 0 && setuid(65534))
            _exit(99);
        _exit(fn(path));
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
}

static int count_rows(const char *path)
{
    at_error err = {0};
    at_db *db = at_db_open(path, AT_DB_READ, &err);
    if (!db) {
        fprintf(stderr, "%s\n", err.message);
        return 101;
    }
    at_stmt *s = at_db_prepare(db, "SELECT count(*) FROM t", &err);
    int rows = s && at_stmt_step(s, &err) == 1 ? (int)at_stmt_int(s, 0) : 102;
    at_stmt_free(s);
    at_db_close(db);
    return rows;
}

/* A data set that another user made, in a folder where this one may not write. */
static void a_read_only_folder_is_readable(void **state)
{
    place *p = *state;
    char *dir = at_path_join(p->dir, "odd %41?#dir");
    char *path = at_path_join(dir, "catalog.db");
    assert_int_equal(at_make_dirs(dir, NULL), 0);
    at_db *db = must_open(path, AT_DB_CREATE);
    must_run(db, "CREATE TABLE t(a); INSERT INTO t VALUES(1),(2),(3)");
    at_db_close(db);
    at_db_close(must_open(path, AT_DB_READ)); /* leaves an empty -wal file behind */
    assert_int_equal(chmod(p->dir, 0755), 0);
    assert_int_equal(chmod(dir, 0555), 0);
    assert_int_equal(chmod(path, 0444), 0);
    assert_int_equal(in_child(count_rows, path), 3);
    assert_int_equal(chmod(dir, 0755), 0);
    free(dir);
    free(path);
}

/* Ends in the middle of a change that no longer fits the cache, and so is partly in the file. */
static void die_in_a_change(const char *path)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        at_db *db = at_db_open(path, AT_DB_FILL, NULL);
        at_db_exec(db,
                   "CREATE TABLE t(a PRIMARY KEY, b);"
                   "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 1000)"
                   "INSERT INTO t SELECT i, randomblob(200) FROM c;"
                   "PRAGMA cache_size = 5; BEGIN; UPDATE t SET a = -a, b = randomblob(900);",
                   NULL);
        kill(getpid(), SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void a_killed_change_is_taken_back_by_readers(void **state)
{
    place *p = *state;
    die_in_a_change(p->path);
    char *journal = at_format("%s-journal", p->path);
    assert_true(at_file_exists(journal));
    at_db *db = must_open(p->path, AT_DB_READ);
    assert_int_equal(query_int(db, "SELECT count(*) FROM t WHERE a > 0 AND length(b) = 200"), 1000);
    assert_int_equal(query_int(db, "SELECT count(*) FROM t"), 1000);
    at_error err = {0};
    assert_true(at_db_exec(db, "DELETE FROM t", &err) < 0);
    assert_non_null(strstr(err.message, "readonly"));
    at_db_close(db);
    assert_false(at_file_exists(journal));
    free(journal);
}

/* Who may not write cannot take it back, and does not read it as it lies. */
static void a_killed_change_is_not_read(void **state)
{
    place *p = *state;
    die_in_a_change(p->path);
    assert_int_equal(chmod(p->dir, 0555), 0);
    assert_int_equal(chmod(p->path, 0444), 0);
    if (geteuid() == 0)
        assert_int_equal(in_child(count_rows, p->path), 101);
    assert_int_equal(chmod(p->dir, 0755), 0);
}

enum { WRITERS = 4, ROWS = 50 };

static int write_rows(const char *path)
{
    at_error err = {0};
    at_db *db = at_db_open(path, AT_DB_WRITE, &err);
    for (int i = 0; db && i < ROWS; i++) {
        if (at_db_run(db, &err, "INSERT INTO t VALUES(?, ?)", "ii", (int64_t)getpid(),
                      (int64_t)i)) {
            fprintf(stderr, "%s\n", err.message);
            break;
        }
    }
    at_db_close(db);
    return err.code ? 1 : 0;
}

static void writers_wait_for_each_other(void **state)
{
    place *p = *state;
    at_db *db = must_open(p->path, AT_DB_CREATE);
    must_run(db, "CREATE TABLE t(pid, i)");
    at_db_close(db);
    pid_t children[WRITERS];
    fflush(NULL);
    for (int i = 0; i < WRITERS; i++) {
        children[i] = fork();
        if (children[i] == 0)
            _exit(write_rows(p->path));
    }
    for (int i = 0; i < WRITERS; i++) {
        int status = 0;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    db = must_open(p->path, AT_DB_READ);
    assert_int_equal(query_int(db, "SELECT count(*) FROM t"), WRITERS * ROWS);
    assert_int_equal(query_int(db, "SELECT count(DISTINCT pid) FROM t"), WRITERS);
    at_db_close(db);
}

/* Writes rows for ever, telling of each through the pipe once the database has it. */
static int write_and_tell(const char *path, int tell)
{
    at_db *db = at_db_open(path, AT_DB_WRITE, NULL);
    for (int64_t i = 0; db; i++)
        if (at_db_run(db, NULL, "INSERT INTO t VALUES(?)", "i", i) ||
            write(tell, &i, sizeof i) != sizeof i)
            break;
    return 1;
}

static void what_was_acknowledged_survives_a_kill(void **state)
{
    place *p = *state;
    at_db *db = must_open(p->path, AT_DB_CREATE);
    must_run(db, "CREATE TABLE t(i)");
    at_db_close(db);
    for (int round = 1; round <= 5; round++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        fflush(NULL);
        pid_t child = fork();
        if (child == 0)
            _exit(write_and_tell(p->path, ends[1]));
        close(ends[1]);
        int64_t last = -1;
        for (int i = 0; i < 7 * round; i++)
            assert_int_equal(read(ends[0], &last, sizeof last), sizeof last);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        while (read(ends[0], &last, sizeof last) == sizeof last)
            continue;
        close(ends[0]);
        db = must_open(p->path, AT_DB_WRITE);
        assert_int_equal(query_int(db, "PRAGMA quick_check") /* "ok" */, 0);
        assert_true(query_int(db, "SELECT max(i) FROM t") >= last);
        assert_true(query_int(db, "SELECT count(*) FROM t") >= last + 1);
        must_run(db, "DELETE FROM t");
        at_db_close(db);
    }
    print_message("5 writers killed\n");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(values_come_back_as_bound),
        TEST(a_statement_is_bound_again_and_again),
        TEST(the_number_of_values_is_checked),
        TEST(bad_sql_is_refused),
        TEST(constraints_hold),
        TEST(writers_are_durable),
        TEST(readers_cannot_write),
        TEST(what_is_no_database_is_named),
        TEST(a_read_only_folder_is_readable),
        TEST(a_killed_change_is_taken_back_by_readers),
        TEST(a_killed_change_is_not_read),
        TEST(writers_wait_for_each_other),
        TEST(what_was_acknowledged_survives_a_kill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
