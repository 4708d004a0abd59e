/* SPDX-License-Identifier: Apache-2.0
 * SQLite: one wrapper for catalog, study, registry and records.
 *
 * What a writer was told is done must survive a power cut, so synchronous is FULL (NORMAL loses
 * the last transactions under WAL). WAL needs shared memory among all that have the file open,
 * which network file systems do not give: there, and where SQLite refuses it, the rollback
 * journal stays. A file to which much is only added is written once with the journal, which keeps the
 * old content of pages, and twice with WAL; large pages suit it, too. A failed bind sticks in the statement and is reported by the next step.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { BUSY_TIMEOUT_MS = 10000, INTERRUPT_STEPS = 100000 };

struct at_db {
    sqlite3 *handle;
    char *path;
    int file; /* -1, or the file once more; its closing drops SQLite's locks, and so comes last */
};

struct at_stmt {
    sqlite3_stmt *handle;
    at_db *db;
    int bind_status; /* the SQLite code of the last bind; SQLITE_MISUSE: wrong number of values */
};

/* ---- errors ---- */

static int code_of(int status)
{
    switch (status & 0xFF) {
    case SQLITE_NOMEM:
        return AT_ENOMEM;
    case SQLITE_ERROR:
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
        return AT_EINPUT;
    case SQLITE_IOERR:
    case SQLITE_FULL:
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return AT_EIO;
    case SQLITE_INTERRUPT:
        return AT_EINTERRUPTED;
    default:
        return AT_EFAIL;
    }
}

/* SQLite's "disk I/O error" alone does not tell that the disk is full. */
static int fail(const at_db *db, int status, at_error *err)
{
    if (status == SQLITE_READONLY_ROLLBACK)
        return at_fail(err, code_of(status),
                       "%s: a change that was cut off has to be taken back first, and that takes "
                       "the right to write there",
                       db->path);
    int kind = status & 0xFF, number = sqlite3_system_errno(db->handle);
    if (number && (kind == SQLITE_IOERR || kind == SQLITE_CANTOPEN))
        return at_fail(err, code_of(status), "%s: %s (%s)", db->path, sqlite3_errmsg(db->handle),
                       strerror(number));
    return at_fail(err, code_of(status), "%s: %s", db->path, sqlite3_errmsg(db->handle));
}

/* ---- opening ---- */

static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Counting the bytes that SQLite has would lock a mutex at each allocation. */
static void set_up(void)
{
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

static bool on_network(const char *path)
{
    static const unsigned long magics[] = {0x6969,     0x517B,     0xFE534D42, 0xFF534D42,
                                           0x0BD00BD0, 0x47504653, 0x19830326, 0x00C36400};
    struct statfs info;
    if (statfs(path, &info))
        return false;
    for (size_t i = 0; i < sizeof magics / sizeof *magics; i++)
        if (((unsigned long)info.f_type & 0xFFFFFFFF) == magics[i])
            return true;
    return false;
}

static bool has_beside(const at_db *db, const char *suffix)
{
    char *path = at_format("%s%s", db->path, suffix);
    struct stat info;
    bool has = !path || (stat(path, &info) == 0 && info.st_size > 0);
    free(path);
    return has;
}

/* Without a -wal file, or with an empty one (readers leave it behind), nobody is writing; without a
 * -journal, nobody was killed while writing. */
static bool is_alone(const at_db *db)
{
    return !has_beside(db, "-wal") && !has_beside(db, "-journal");
}

/* A database left in WAL mode cannot be opened in a directory without write permission, since its
 * -shm file cannot be made. Where nobody writes it, it is read as it lies. */
static int reopen_immutable(at_db *db)
{
    at_text uri = {0};
    at_text_add(&uri, *db->path == '/' ? "file://" : "file:");
    for (const char *c = db->path; *c; c++) {
        if (strchr("?#%", *c))
            at_text_add(&uri, "%%%02X", (unsigned)*c);
        else
            at_text_append(&uri, c, 1);
    }
    at_text_add(&uri, "?immutable=1");
    int status = SQLITE_NOMEM;
    if (!uri.failed) {
        sqlite3_close(db->handle);
        db->handle = NULL;
        status =
            sqlite3_open_v2(uri.data, &db->handle,
                            SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, NULL);
    }
    at_text_fini(&uri);
    return status;
}

/* Reading the schema makes SQLite look at the file: it is lazy till then. */
static int probe(at_db *db)
{
    return sqlite3_exec(db->handle, "SELECT count(*) FROM sqlite_master", NULL, NULL, NULL);
}

static int open_handle(at_db *db, int flags)
{
    int status = sqlite3_open_v2(db->path, &db->handle, flags | SQLITE_OPEN_NOMUTEX, NULL);
    if (status == SQLITE_OK) {
        sqlite3_busy_timeout(db->handle, BUSY_TIMEOUT_MS);
        sqlite3_extended_result_codes(db->handle, 1);
    }
    return status;
}

/* A writer that was killed has left a journal: who reads first takes its unfinished change back. Read as
 * it lies, the file would be half changed. */
static int reopen_to_roll_back(at_db *db)
{
    sqlite3_close(db->handle);
    db->handle = NULL;
    int status = open_handle(db, SQLITE_OPEN_READWRITE);
    if (status == SQLITE_OK)
        status = probe(db);
    return status == SQLITE_OK
               ? sqlite3_exec(db->handle, "PRAGMA query_only = ON", NULL, NULL, NULL)
               : status;
}

static int configure(at_db *db, at_db_mode mode)
{
    int status = probe(db);
    if (mode == AT_DB_READ && status == SQLITE_READONLY_ROLLBACK)
        status = reopen_to_roll_back(db);
    bool no_shm = (status & 0xFF) == SQLITE_CANTOPEN || (status & 0xFF) == SQLITE_READONLY;
    if (mode == AT_DB_READ && no_shm && is_alone(db)) {
        status = reopen_immutable(db);
        if (status == SQLITE_OK)
            status = probe(db);
    }
    if (status == SQLITE_OK)
        status = sqlite3_exec(db->handle, "PRAGMA foreign_keys = ON", NULL, NULL, NULL);
    if (status != SQLITE_OK || mode == AT_DB_READ)
        return status;
    if (mode == AT_DB_FILL)
        sqlite3_exec(db->handle, "PRAGMA page_size = 16384; PRAGMA journal_mode = DELETE", NULL,
                     NULL, NULL);
    else if (!on_network(
                 db->path)) /* a refusal leaves the rollback journal, which serves as well */
        sqlite3_exec(db->handle, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
    return sqlite3_exec(db->handle, "PRAGMA synchronous = FULL", NULL, NULL, NULL);
}

at_db *at_db_open(const char *path, at_db_mode mode, at_error *err)
{
    static const int flags[] = {
        [AT_DB_READ] = SQLITE_OPEN_READONLY,
        [AT_DB_WRITE] = SQLITE_OPEN_READWRITE,
        [AT_DB_CREATE] = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
        [AT_DB_FILL] = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
    };
    struct stat st;
    bool there = stat(path, &st) == 0;
    if (!there && mode < AT_DB_CREATE) {
        at_fail(err, errno == ENOENT ? AT_ENOENT : AT_EIO, "%s: %s", path, strerror(errno));
        return NULL;
    }
    if (there && !S_ISREG(st.st_mode)) { /* SQLite would wait for a pipe's other end */
        at_fail(err, AT_EINPUT, "%s is not a file", path);
        return NULL;
    }
    at_db *db = calloc(1, sizeof *db);
    if (db)
        db->file = -1;
    if (!db || !(db->path = strdup(path))) {
        at_nomem(err);
        goto fail_db;
    }
    pthread_once(&once, set_up);
    int status = open_handle(db, flags[mode]);
    if (status == SQLITE_OK)
        status = configure(db, mode);
    if (status == SQLITE_OK)
        return db;
    fail(db, status, err);
fail_db:
    at_db_close(db);
    return NULL;
}

static int stop_where_interrupted(void *unused)
{
    (void)unused;
    return at_interrupted();
}

void at_db_heed_interrupts(at_db *db)
{
    sqlite3_progress_handler(db->handle, INTERRUPT_STEPS, stop_where_interrupted, NULL);
}

void at_db_close(at_db *db)
{
    if (!db)
        return;
    sqlite3_close_v2(db->handle);
    if (db->file >= 0)
        close(db->file);
    free(db->path);
    free(db);
}

void at_db_write_ahead(at_db *db)
{
    if (db->file < 0)
        db->file = open(db->path, O_RDONLY | O_CLOEXEC);
    if (db->file >= 0)
        sync_file_range(db->file, 0, 0, SYNC_FILE_RANGE_WRITE);
}

int at_db_exec(at_db *db, const char *sql, at_error *err)
{
    int status = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);
    return status == SQLITE_OK ? 0 : fail(db, status, err);
}

int64_t at_db_last_id(const at_db *db)
{
    return sqlite3_last_insert_rowid(db->handle);
}

/* ---- statements ---- */

/* Whether anything but space and comments follows the first statement. */
static bool has_more(at_db *db, const char *rest)
{
    while (*rest) {
        sqlite3_stmt *more = NULL;
        const char *tail = rest;
        int status = sqlite3_prepare_v2(db->handle, rest, -1, &more, &tail);
        sqlite3_finalize(more);
        if (status != SQLITE_OK || more)
            return true;
        if (tail == rest)
            return false;
        rest = tail;
    }
    return false;
}

at_stmt *at_db_prepare(at_db *db, const char *sql, at_error *err)
{
    at_stmt *s = calloc(1, sizeof *s);
    if (!s) {
        at_nomem(err);
        return NULL;
    }
    s->db = db;
    const char *rest = "";
    int status = sqlite3_prepare_v2(db->handle, sql, -1, &s->handle, &rest);
    if (status != SQLITE_OK)
        fail(db, status, err);
    else if (!s->handle)
        at_fail(err, AT_EINPUT, "%s: the SQL statement is empty", db->path);
    else if (has_more(db, rest))
        at_fail(err, AT_EINPUT, "%s: more than one SQL statement", db->path);
    else
        return s;
    at_stmt_free(s);
    return NULL;
}

static int bind_one(sqlite3_stmt *s, int i, char type, va_list *args)
{
    switch (type) {
    case 'i':
        return sqlite3_bind_int64(s, i, va_arg(*args, int64_t));
    case 'r':
        return sqlite3_bind_double(s, i, va_arg(*args, double));
    case 's':
        return sqlite3_bind_text(s, i, va_arg(*args, const char *), -1, SQLITE_TRANSIENT);
    case 'S':
        return sqlite3_bind_text(s, i, va_arg(*args, const char *), -1, SQLITE_STATIC);
    case 'b':
    case 'B': {
        const void *data = va_arg(*args, const void *);
        size_t bytes = va_arg(*args, size_t);
        return sqlite3_bind_blob64(s, i, data, bytes,
                                   type == 'B' ? SQLITE_STATIC : SQLITE_TRANSIENT);
    }
    case 'n':
        return sqlite3_bind_null(s, i);
    default:
        return SQLITE_MISUSE;
    }
}

static int bind_all(at_stmt *s, const char *types, va_list *args)
{
    sqlite3_reset(s->handle);
    size_t n = strlen(types);
    s->bind_status = SQLITE_OK;
    if ((size_t)sqlite3_bind_parameter_count(s->handle) != n)
        s->bind_status = SQLITE_MISUSE;
    for (size_t i = 0; i < n && s->bind_status == SQLITE_OK; i++)
        s->bind_status = bind_one(s->handle, (int)i + 1, types[i], args);
    return s->bind_status == SQLITE_OK ? 0 : code_of(s->bind_status);
}

int at_stmt_bind(at_stmt *s, const char *types, ...)
{
    va_list args;
    va_start(args, types);
    int status = bind_all(s, types, &args);
    va_end(args);
    return status;
}

int at_stmt_step(at_stmt *s, at_error *err)
{
    if (s->bind_status == SQLITE_MISUSE)
        return at_fail(err, AT_EFAIL, "%s: the statement takes %d values: %s", s->db->path,
                       sqlite3_bind_parameter_count(s->handle), sqlite3_sql(s->handle));
    if (s->bind_status != SQLITE_OK)
        return at_fail(err, code_of(s->bind_status), "%s: %s", s->db->path,
                       sqlite3_errstr(s->bind_status));
    int status = sqlite3_step(s->handle);
    if (status == SQLITE_ROW)
        return 1;
    int result = status == SQLITE_DONE ? 0 : fail(s->db, status, err);
    sqlite3_reset(s->handle);
    return result;
}

void at_stmt_reset(at_stmt *s)
{
    sqlite3_reset(s->handle);
}

int at_stmt_columns(const at_stmt *s)
{
    return sqlite3_column_count(s->handle);
}

const char *at_stmt_column_name(const at_stmt *s, int column)
{
    return sqlite3_column_name(s->handle, column);
}

bool at_stmt_only_reads(const at_stmt *s)
{
    return sqlite3_stmt_readonly(s->handle);
}

bool at_stmt_is_blob(const at_stmt *s, int column)
{
    return sqlite3_column_type(s->handle, column) == SQLITE_BLOB;
}

at_kind at_stmt_kind(const at_stmt *s, int column)
{
    switch (sqlite3_column_type(s->handle, column)) {
    case SQLITE_NULL:
        return AT_NULL;
    case SQLITE_INTEGER:
        return AT_INT;
    case SQLITE_FLOAT:
        return AT_REAL;
    default:
        return AT_STRING;
    }
}

int64_t at_stmt_int(const at_stmt *s, int column)
{
    return sqlite3_column_int64(s->handle, column);
}

double at_stmt_real(const at_stmt *s, int column)
{
    return sqlite3_column_double(s->handle, column);
}

const char *at_stmt_text(const at_stmt *s, int column)
{
    return (const char *)sqlite3_column_text(s->handle, column);
}

const char *at_stmt_word(const at_stmt *s, int column)
{
    const char *text = at_stmt_text(s, column);
    return text ? text : "";
}

const void *at_stmt_blob(const at_stmt *s, int column, size_t *bytes)
{
    const void *data = sqlite3_column_blob(s->handle, column);
    *bytes = (size_t)sqlite3_column_bytes(s->handle, column);
    return data;
}

void at_stmt_free(at_stmt *s)
{
    if (!s)
        return;
    sqlite3_finalize(s->handle);
    free(s);
}

int at_db_run(at_db *db, at_error *err, const char *sql, const char *types, ...)
{
    at_error local = {0};
    err = err ? err : &local;
    at_stmt *s = at_db_prepare(db, sql, err);
    if (!s)
        return err->code;
    va_list args;
    va_start(args, types);
    bind_all(s, types, &args);
    va_end(args);
    int status = 1;
    while (status > 0)
        status = at_stmt_step(s, err);
    at_stmt_free(s);
    return status;
}
