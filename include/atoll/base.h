/* SPDX-License-Identifier: Apache-2.0
 * base: what every other folder stands on.
 *
 *     at_error err = {0};
 *     at_node *conf = at_yaml_read("sweep.yaml", &err);
 *     if (!conf)
 *         return at_report(&err);           // only cli/ prints
 *
 * Conventions: functions that can fail return 0 or a negative AT_E… code and fill *err (may be NULL).
 * "takes" transfers ownership, everything else borrows. _free functions take NULL.
 */
#ifndef ATOLL_BASE_H
#define ATOLL_BASE_H

#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define AT_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* ---- errors (error.c) ------------------------------------------------------------------------
 * X(name, code, exit code of the program, text) */
#define AT_ERRORS(X)                                                                               \
    X(AT_OK, 0, 0, "done")                                                                         \
    X(AT_EFAIL, -1, 1, "failed")                                                                   \
    X(AT_ENOMEM, -2, 1, "out of memory")                                                           \
    X(AT_EIO, -3, 1, "input or output failed")                                                     \
    X(AT_EPEER, -4, 1, "another process failed")                                                   \
    X(AT_EUSAGE, -5, 2, "wrong usage")                                                             \
    X(AT_EINPUT, -6, 3, "bad input")                                                               \
    X(AT_ENOENT, -7, 3, "not found")                                                               \
    X(AT_EINTERRUPTED, -8, 4, "interrupted")
enum {
#define X(name, code, status, text) name = code,
    AT_ERRORS(X)
#undef X
};

typedef struct at_error {
    int code;
    char message[1000];
} at_error;

/* Fills err (NULL is fine) and returns code. */
int at_fail(at_error *err, int code, const char *format, ...) AT_PRINTF(3, 4);
/* As at_fail with ": reason" of that errno appended; ENOENT makes AT_ENOENT, an unreadable or odd path
 * AT_EINPUT, ENOMEM AT_ENOMEM, EINTR AT_EINTERRUPTED, all else AT_EIO. */
int at_fail_errno(at_error *err, int number, const char *format, ...) AT_PRINTF(3, 4);
/* Puts "context: " before the message already in err; returns err's code. */
int at_fail_in(at_error *err, const char *format, ...) AT_PRINTF(2, 3);
int at_nomem(at_error *err);
const char *at_error_name(int code); /* "AT_EIO" */
const char *at_error_text(int code); /* "input or output failed" */
int at_error_exit_status(int code);

/* ---- log (log.c): to stderr, thread safe ----------------------------------------------------- */
typedef enum { AT_LOG_ERROR, AT_LOG_WARN, AT_LOG_INFO, AT_LOG_DEBUG } at_log_level;
void at_log_set_level(at_log_level level); /* AT_LOG_WARN with --quiet; AT_LOG_INFO at start */
at_log_level at_log_get_level(void);
void at_log(at_log_level level, const char *format, ...) AT_PRINTF(2, 3);

/* ---- memory (memory.c) ----------------------------------------------------------------------- */
/* a*b into *out; false where it overflows or passes limit. For every size that comes from input. */
bool at_mul(size_t a, size_t b, size_t limit, size_t *out);
void *at_alloc_aligned(size_t bytes); /* 64-byte aligned and zeroed, NULL on failure; at_free_aligned */
void at_free_aligned(void *p);
char *at_format(const char *format, ...) AT_PRINTF(1, 2); /* malloc'd; NULL on failure */

/* A growing string: zero it to begin; a failed allocation sticks in .failed. */
typedef struct at_text {
    char *data;
    size_t length, capacity;
    bool failed;
} at_text;
void at_text_add(at_text *t, const char *format, ...) AT_PRINTF(2, 3);
void at_text_addv(at_text *t, const char *format, va_list args) AT_PRINTF(2, 0);
void at_text_append(at_text *t, const void *data, size_t bytes);
/* Control characters become escapes, \n or \x1B: the name of a file must not move the cursor. */
void at_text_add_visible(at_text *t, const char *s);
void at_text_fini(at_text *t);

/* ---- random streams (rng.c): xoshiro256++ seeded by splitmix64 -------------------------------
 * A stream depends only on (seed, purpose, id), never on how others were used. */
typedef struct at_rng {
    uint64_t s[4];
} at_rng;
at_rng at_rng_stream(uint64_t seed, const char *purpose, uint64_t id);
uint64_t at_rng_next(at_rng *rng);
uint64_t at_rng_below(at_rng *rng, uint64_t n); /* uniform in [0, n), without bias */
double at_rng_uniform(at_rng *rng);             /* [0, 1) with 53 bits */
double at_rng_normal(at_rng *rng);              /* mean 0, deviation 1 */
void at_rng_shuffle(at_rng *rng, uint32_t *items, size_t n);

/* ---- hashes (hash.c) ------------------------------------------------------------------------- */
uint32_t at_crc32c(uint32_t crc, const void *data, size_t bytes); /* begin with 0; SSE4.2 where there */
uint32_t at_crc32c_portable(uint32_t crc, const void *data, size_t bytes); /* the same without it */
typedef struct at_sha256 at_sha256; /* streaming; as sha256sum */
at_sha256 *at_sha256_new(void);
void at_sha256_add(at_sha256 *h, const void *data, size_t bytes);
void at_sha256_end(at_sha256 *h, char hex[65]);  /* frees h */
void at_content_hash(const void *data, size_t bytes, char hex[65]); /* BLAKE2b-256, as b2sum -l 256 */
void at_content_digest(const void *data, size_t bytes, uint8_t digest[32]); /* the same in bytes */
/* SipHash-2-4 of 128 bits under a key that this process draws: for tables in memory, in a fifth of the time. */
void at_table_digest(const void *data, size_t bytes, uint8_t digest[16]);
void at_digest_to_hex(const uint8_t digest[32], char hex[65]);
void at_digest_of_hex(const char *hex, uint8_t digest[32]); /* hex: 64 characters; others than digits give any bytes */

/* ---- linear algebra (eigen.c) ------------------------------------------------------------------ */
/* Of symmetric a[n][n], which is overwritten: values[n], the largest first, and in the rows of
 * vectors[n][n] their vectors of length 1, the largest component positive. The same bits everywhere. */
int at_eigen_symmetric(double *a, size_t n, double *values, double *vectors, at_error *err);

/* ---- clock, machine, interruption (clock.c, machine.c, interrupt.c) -------------------------- */
double at_now(void);      /* monotonic seconds */
int64_t at_wall_ms(void); /* milliseconds since 1970 */
void at_wall_iso(char out[32]); /* 2026-11-21T10:00:00Z */
int at_cpu_count(void);   /* of this process's cpuset */
size_t at_peak_rss(void); /* bytes */
size_t at_current_rss(void);
size_t at_anonymous_rss(void); /* resident bytes besides mapped files */
/* Bytes that this process may still take (memory_limit.c); *shared: others take from the same. */
size_t at_memory_available(bool *shared);
void at_host_name(char *out, size_t bytes);
/* SIGINT and SIGTERM (and Slurm's SIGUSR1) set a flag; a second SIGINT ends the process. */
void at_interrupt_install(void);
bool at_interrupted(void);
void at_interrupt_raise(void); /* sets the flag, for tests and for peers that were told */

/* ---- files (file.c): atomic = temp + fsync + rename + directory fsync ------------------------ */
int at_file_read(const char *path, size_t limit, char **data, size_t *bytes, at_error *err); /* NUL-terminated; free; more than limit bytes: AT_EINPUT */
int at_file_write(const char *path, const void *data, size_t bytes, at_error *err); /* atomic */
int at_make_dirs(const char *path, at_error *err); /* like mkdir -p */
int at_remove_tree(const char *path, at_error *err); /* does not follow links; missing is fine */
bool at_file_exists(const char *path);
bool at_dir_exists(const char *path);
char *at_path_join(const char *dir, const char *name); /* malloc'd */
/* A file written in pieces under PATH.tmp.<pid>.<n>; commit renames it, abort removes it. */
typedef struct at_atomic at_atomic;
at_atomic *at_atomic_open(const char *path, at_error *err);
FILE *at_atomic_stream(at_atomic *f);
const char *at_atomic_path(const at_atomic *f); /* the temporary name, for libraries that open by name */
int at_atomic_commit(at_atomic *f, at_error *err); /* frees f */
void at_atomic_abort(at_atomic *f);
/* An exclusive advisory lock on PATH (made if missing), held until release or death; tells nodes apart
 * by fcntl locks, so it works on NFS. wait=false: AT_EPEER where another process holds it. */
typedef struct at_lock at_lock;
at_lock *at_lock_take(const char *path, bool wait, at_error *err);
/* Whether somebody holds it, by another descriptor than the caller's. */
bool at_lock_is_held(const char *path);
void at_lock_release(at_lock *lock);
/* For a child process to inherit: the lock is held until both have let go of it. */
int at_lock_descriptor(const at_lock *lock);

/* ---- threads (pool.c): a pool for decoding and loading; compute uses OpenMP -------------------- */
typedef struct at_pool at_pool;
/* threads counts the caller's, so 1 starts none; 0: at_cpu_count(). Every function takes a NULL pool, which
 * runs on the caller's thread. Runs may come from several threads at once and from inside a run. */
at_pool *at_pool_new(int threads, at_error *err);
/* Calls fn(context, i) for each i in [0, n) on the pool's threads and the caller's; returns when all are done. */
void at_pool_run(at_pool *pool, size_t n, void (*fn)(void *context, size_t i), void *context);
void at_pool_free(at_pool *pool);
/* Lets other threads go first. Whose wait may be short does so AT_YIELDS times before it sleeps on a condition: a processor
 * that has nothing to do falls asleep, too, and to wake it takes longer than a short job. */
enum { AT_YIELDS = 30 };
void at_give_way(pthread_mutex_t *held);
/* Bounded queue of pointers, many to many; close wakes everyone. */
typedef struct at_queue at_queue;
at_queue *at_queue_new(size_t capacity);
bool at_queue_push(at_queue *q, void *item); /* waits while full; false when closed */
void *at_queue_pop(at_queue *q);             /* waits while empty; NULL when closed and empty */
void at_queue_close(at_queue *q);
void at_queue_free(at_queue *q);

/* ---- progress (progress.c): stderr; a bar with rate and time left on a terminal, else a line every 10 s -- */
typedef struct at_progress at_progress;
at_progress *at_progress_new(const char *label, double total, const char *unit); /* total 0: unknown */
void at_progress_update(at_progress *p, double done, const char *note); /* cheap; draws at most 10 times a second; NULL note: as before */
void at_progress_end(at_progress *p, const char *note); /* last line stays; frees p */
void at_progress_silence(bool quiet); /* --quiet */

/* ---- data trees: YAML and JSON (node.c, yaml.c, json.c) --------------------------------------- */
typedef enum { AT_NULL, AT_BOOL, AT_INT, AT_REAL, AT_STRING, AT_LIST, AT_MAP } at_kind;
typedef struct at_node at_node;
at_node *at_yaml_read(const char *path, at_error *err);  /* AT_EINPUT with file:line:column */
at_node *at_yaml_parse(const char *text, size_t bytes, const char *name, at_error *err);
at_node *at_json_read(const char *path, at_error *err);
at_node *at_json_parse(const char *text, size_t bytes, const char *name, at_error *err);
char *at_json_print(const at_node *n, bool indent); /* malloc'd; NaN and infinity become null */
char *at_yaml_print(const at_node *n);              /* malloc'd; parses back to the same tree */
void at_node_free(at_node *n);
at_node *at_node_copy(const at_node *n);
/* Reading; all take NULL, which is a missing node. */
at_kind at_node_kind(const at_node *n);
size_t at_node_count(const at_node *n);                          /* items of a list or map */
const at_node *at_node_at(const at_node *n, size_t i);           /* i-th item */
const char *at_node_key(const at_node *n, size_t i);             /* i-th key of a map */
const at_node *at_node_get(const at_node *map, const char *key); /* NULL if missing */
const at_node *at_node_path(const at_node *map, const char *dotted); /* "search.train.lr" */
const char *at_node_string(const at_node *n, const char *otherwise);
double at_node_real(const at_node *n, double otherwise); /* AT_INT too */
int64_t at_node_int(const at_node *n, int64_t otherwise);
bool at_node_bool(const at_node *n, bool otherwise);
const char *at_node_text(const at_node *n);  /* a scalar as it was written, "" for others */
const char *at_node_where(const at_node *n); /* "file:line:column" or "" */
const char *at_node_key_where(const at_node *n, size_t i); /* the place of the i-th key, or "" */
/* Building; set and add take the child and return it (NULL on failure). */
at_node *at_node_new(at_kind kind); /* AT_MAP, AT_LIST or AT_NULL */
at_node *at_node_new_string(const char *s); /* NULL makes a null */
at_node *at_node_new_int(int64_t v);
at_node *at_node_new_real(double v);
at_node *at_node_new_bool(bool v);
at_node *at_node_set(at_node *map, const char *key, at_node *child); /* replaces */
at_node *at_node_add(at_node *list, at_node *child);
void at_node_remove(at_node *map, const char *key);
#define at_set_string(m, k, v) at_node_set(m, k, at_node_new_string(v))
#define at_set_int(m, k, v)    at_node_set(m, k, at_node_new_int(v))
#define at_set_real(m, k, v)   at_node_set(m, k, at_node_new_real(v))
#define at_set_bool(m, k, v)   at_node_set(m, k, at_node_new_bool(v))

/* ---- options (option.c): one table serves the command line, YAML, -s key=value, --help and config.yaml --
 *     static const at_option table[] = {
 *         {"lr", AT_OPT_REAL, offsetof(config, lr), "0.05", "learning rate", "RATE", .min = 0, .max = 100},
 *         {"schedule", AT_OPT_CHOICE, offsetof(config, schedule), "cosine", "…", .choices = "cosine|step|onecycle"},
 *         {0}};
 * A name may hold dots (augment.flip): in YAML it is nested or dotted. Strings are owned by the struct. */
/* AT_OPT_PAIRS is repeatable (-s key=value): a NULL-terminated list, never NULL after at_options_init. */
typedef enum {
    AT_OPT_BOOL,
    AT_OPT_INT,
    AT_OPT_REAL,
    AT_OPT_STRING,
    AT_OPT_CHOICE,
    AT_OPT_PAIRS
} at_option_type;
typedef struct at_option {
    const char *name;
    at_option_type type; /* bool, int64_t, double, char *, char *, char ** */
    size_t offset;
    const char *fallback; /* the default as text; NULL: empty string, 0, false */
    const char *help;
    const char *arg;     /* what --help calls the value */
    const char *choices; /* a|b|c */
    double min, max;     /* both 0: no bounds; max < min: only the lower bound */
    char letter;         /* short form, 0: none */
    bool list; /* of a string: items with commas between; a YAML list, or the option repeated, joins them */
} at_option;
int at_options_init(const at_option *table, void *config, at_error *err); /* defaults */
void at_options_fini(const at_option *table, void *config);               /* frees strings */
/* Sets one key from text; unknown: AT_EINPUT naming the nearest key; where is "file:line:column", "-s", ... */
int at_options_set(const at_option *table, void *config, const char *key, const char *value,
                   const char *where, at_error *err);
int at_options_from_node(const at_option *table, void *config, const at_node *map, at_error *err);
at_node *at_options_to_node(const at_option *table, const void *config); /* everything resolved, nested */
/* An option's bytes: "800M", "1.5G", "2000000000", at least 1M; empty: 0. AT_EINPUT names the key. */
int at_parse_bytes(const char *key, const char *text, double *out, at_error *err);
/* Which of "one|two|three" the word is, from 0; none of them: AT_EINPUT naming the label, all words and the nearest. */
int at_choice_parse(const char *choices, const char *label, const char *word, at_error *err);
/* The nearest of the n names by edit distance, NULL where none is near. */
const char *at_nearest(const char *word, const char *const *names, size_t n);
/* Command line: --name VALUE, --name=VALUE, --flag, --no-flag, -x VALUE, -- . Operands are moved to argv[0..],
 * their number returned (negative: error AT_EUSAGE). argv begins after the subcommand. */
int at_options_parse(const at_option *table, void *config, int argc, char **argv, at_error *err);
void at_options_help(const at_option *table, FILE *out); /* aligned list with defaults */

/* ---- pages (page.c, chart.c): one self-contained HTML file, with charts as inline SVG ---------- */
void at_html_text(at_text *page, const char *text); /* escaped; NULL: nothing */
void at_page_begin(at_text *page, const char *title, const char *from); /* head, style, header */
void at_page_card(at_text *page, const char *label, const char *format, double value); /* in .cards; not finite: none */
void at_page_picture(at_text *page, const void *png, size_t bytes, const char *title); /* embedded */
typedef struct at_series {
    const char *name; /* of the legend; NULL: none */
    const double *x, *y; /* NaN is left out */
    size_t count;
    bool points; /* dots instead of a line */
    int colour;  /* 0.. */
    bool bars;   /* bars from 0 up: x has count + 1 edges */
} at_series;
typedef struct at_chart {
    const char *title, *x_label;
    bool log_x;
    bool whole_x; /* epochs, trials: no ticks between whole numbers */
    bool shares;  /* of a whole: the upright axis begins at 0 */
    const at_node *names; /* NULL, or a list: x is a place in it, and the ticks are its items */
    double x_low, x_high; /* of the axis; the same: round numbers around the series */
} at_chart;
/* Axes with round ticks; a hover title on every dot and bar. */
void at_chart_draw(at_text *page, const at_chart *chart, const at_series *series, size_t n);

/* ---- SQLite (db.c): WAL where the file system allows, busy timeout, foreign keys on ------------ */
typedef struct at_db at_db;
typedef struct at_stmt at_stmt;
/* CREATE: made if missing; FILL: the same for a file that one process fills, with a rollback journal instead of WAL. */
typedef enum { AT_DB_READ, AT_DB_WRITE, AT_DB_CREATE, AT_DB_FILL } at_db_mode;
at_db *at_db_open(const char *path, at_db_mode mode, at_error *err);
/* From now on a statement that runs long ends with AT_EINTERRUPTED where at_interrupted(). */
void at_db_heed_interrupts(at_db *db);
void at_db_close(at_db *db);
int at_db_exec(at_db *db, const char *sql, at_error *err); /* any number of statements */
/* The disk begins with what the file has got so far, for which a commit would wait. */
void at_db_write_ahead(at_db *db);
int64_t at_db_last_id(const at_db *db);
at_stmt *at_db_prepare(at_db *db, const char *sql, at_error *err);
/* Binds by a type string, one letter a value: i int64_t, r double, s text (NULL: null), b (const void *, size_t), n null;
 * S and B: the same without a copy, so what they point to stays as it is until the statement is done or bound anew. */
int at_stmt_bind(at_stmt *s, const char *types, ...);
int at_stmt_step(at_stmt *s, at_error *err); /* 1: a row, 0: done (and reset), negative: error */
void at_stmt_reset(at_stmt *s);
bool at_stmt_only_reads(const at_stmt *s); /* false where it may change a file */
int at_stmt_columns(const at_stmt *s);
const char *at_stmt_column_name(const at_stmt *s, int column);
at_kind at_stmt_kind(const at_stmt *s, int column); /* a blob's is AT_STRING */
bool at_stmt_is_blob(const at_stmt *s, int column);
int64_t at_stmt_int(const at_stmt *s, int column);
double at_stmt_real(const at_stmt *s, int column);
const char *at_stmt_text(const at_stmt *s, int column); /* valid until the next step; NULL for null */
/* The same with "" for null: a database of strangers may have nulls where ours has none. */
const char *at_stmt_word(const at_stmt *s, int column);
const void *at_stmt_blob(const at_stmt *s, int column, size_t *bytes);
void at_stmt_free(at_stmt *s);
/* prepare + bind + step to the end + free. */
int at_db_run(at_db *db, at_error *err, const char *sql, const char *types, ...);

#endif
