/* SPDX-License-Identifier: Apache-2.0
 * STUDY/study.db: an Optuna RDB storage written directly, one transaction a change of state.
 *
 * Invariants: one writer, who holds STUDY/lock; what a function here returned 0 for survives
 * kill -9 and power cuts. Times are naive UTC, as Optuna 5.0 stores them; 4.9 reads them as
 * local time, so it shows them shifted by the time zone and nothing else differs. */
#include "internal.h"
#include "study_schema.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct at_study {
    at_db *db;
    at_lock *lock;
    const at_space *space;
};

static const char *const state_names[] = {"WAITING", "RUNNING", "COMPLETE", "FAIL"};

const char *at_trial_state_name(at_trial_state state)
{
    return state_names[state];
}

/* As SQLAlchemy stores a naive time. */
static void naive_utc(int64_t ms, char out[32])
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    size_t n = strftime(out, 32, "%Y-%m-%d %H:%M:%S", &utc);
    snprintf(out + n, 32 - n, ".%06d", (int)(ms % 1000) * 1000);
}

/* Ends the transaction that BEGIN opened: COMMIT where rc is 0, else ROLLBACK with err as it is. */
static int end(at_study *s, int rc, at_error *err)
{
    if (!rc)
        rc = at_db_exec(s->db, "COMMIT", err);
    if (rc)
        at_db_exec(s->db, "ROLLBACK", NULL);
    return rc;
}

static int begin(at_study *s, at_error *err)
{
    return at_db_exec(s->db, "BEGIN IMMEDIATE", err);
}

/* ---- attributes ---- */

/* Takes value. */
static int set_attribute(at_study *s, const char *table, const char *owner, int64_t id,
                         const char *key, at_node *value, at_error *err)
{
    char *json = value ? at_json_print(value, false) : NULL;
    char *sql = at_format("INSERT INTO %s (%s, key, value_json) VALUES (?, ?, ?)"
                          " ON CONFLICT (%s, key) DO UPDATE SET value_json = excluded.value_json",
                          table, owner, owner);
    int rc = json && sql ? at_db_run(s->db, err, sql, "iss", id, key, json) : at_nomem(err);
    free(sql);
    free(json);
    at_node_free(value);
    return rc;
}

static int set_study_attribute(at_study *s, const char *key, at_node *value, at_error *err)
{
    return set_attribute(s, "study_user_attributes", "study_id", 1, key, value, err);
}

static int set_trial_attribute(at_study *s, const at_trial *t, const char *key, at_node *value,
                               at_error *err)
{
    return set_attribute(s, "trial_user_attributes", "trial_id", t->id, key, value, err);
}

/* ---- creating and opening ---- */

static const char *base_name(const char *path, char *out, size_t bytes)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    size_t start = n;
    while (start > 0 && path[start - 1] != '/')
        start--;
    snprintf(out, bytes, "%.*s", (int)(n - start), path + start);
    return out;
}

static int fill_new(at_study *s, const char *dir, const at_sweep *sweep, const at_node *tree,
                    at_error *err)
{
    char name[256];
    int rc = at_db_exec(s->db, study_schema, err);
    if (!rc)
        rc = at_db_run(s->db, err, "INSERT INTO studies VALUES (1, ?)", "s",
                       base_name(dir, name, sizeof name));
    if (!rc)
        rc = at_db_run(s->db, err, "INSERT INTO study_directions VALUES (1, ?, 1, 0)", "s",
                       sweep->maximize ? "MAXIMIZE" : "MINIMIZE");
    if (!rc)
        rc = set_study_attribute(s, "metric", at_node_new_string(sweep->search.metric), err);
    if (!rc)
        rc = set_study_attribute(s, "atoll_version", at_node_new_string(ATOLL_VERSION), err);
    if (!rc)
        rc = set_study_attribute(s, "sweep", at_node_copy(tree), err);
    /* as study.set_metric_names writes it */
    at_node *names = at_node_new(AT_LIST);
    at_node_add(names, at_node_new_string(sweep->search.metric));
    char *json = at_json_print(names, false);
    at_node_free(names);
    if (!rc)
        rc = json ? at_db_run(s->db, err,
                              "INSERT INTO study_system_attributes (study_id, key, value_json)"
                              " VALUES (1, 'study:metric_names', ?)",
                              "s", json)
                  : at_nomem(err);
    free(json);
    return rc;
}

/* The sweep that the study was begun with, a text attribute. */
static int read_sweep(at_study *s, at_node **out, at_error *err)
{
    at_stmt *q = at_db_prepare(
        s->db, "SELECT value_json FROM study_user_attributes WHERE key = 'sweep'", err);
    if (!q)
        return AT_EIO;
    int rc = at_stmt_step(q, err);
    const char *json = rc == 1 ? at_stmt_text(q, 0) : NULL;
    *out = json ? at_json_parse(json, strlen(json), "study.db", err) : NULL;
    if (rc == 0 || (rc == 1 && !*out))
        rc = at_fail(err, AT_EINPUT, "study.db holds no sweep: it is not a study of atoll tune");
    at_stmt_free(q);
    return rc < 0 ? rc : 0;
}

/* More trials may be asked for; any other change would make the results incomparable. */
static int check_unchanged(at_study *s, const at_node *tree, at_error *err)
{
    at_node *before = NULL, *now = at_node_copy(tree);
    int rc = now ? read_sweep(s, &before, err) : at_nomem(err);
    if (!rc) {
        at_node_remove((at_node *)at_node_get(before, "search"), "trials");
        at_node_remove((at_node *)at_node_get(now, "search"), "trials");
        char *key = at_settings_change(before, now);
        if (key)
            rc = at_fail(err, AT_EINPUT,
                         "%s has changed since the study was begun; put it back or begin another "
                         "with --out",
                         key);
        free(key);
    }
    at_node_free(before);
    at_node_free(now);
    return rc;
}

static int open_db(at_study *s, const char *dir, const char *path, const at_sweep *sweep,
                   const at_node *tree, bool resume, at_error *err)
{
    bool there = at_file_exists(path);
    if (there && !resume)
        return at_fail(err, AT_EINPUT,
                       "%s holds a study already; --resume continues it, another --out begins one",
                       dir);
    s->db = at_db_open(path, there ? AT_DB_WRITE : AT_DB_CREATE, err);
    if (!s->db)
        return err->code;
    int rc = begin(s, err);
    if (rc)
        return rc;
    /* A coordinator killed before this transaction's end leaves an empty database. */
    at_stmt *q = at_db_prepare(s->db, "SELECT 1 FROM sqlite_master WHERE name = 'studies'", err);
    int filled = q ? at_stmt_step(q, err) : err->code;
    at_stmt_free(q);
    if (filled < 0)
        rc = filled;
    else if (filled == 0)
        rc = fill_new(s, dir, sweep, tree, err);
    else if (!(rc = check_unchanged(s, tree, err)))
        rc = set_study_attribute(s, "sweep", at_node_copy(tree), err);
    return end(s, rc, err);
}

at_study *at_study_open(const char *dir, const at_sweep *sweep, const at_node *tree, bool resume,
                        at_error *err)
{
    at_error local = {0};
    err = err ? err : &local;
    at_study *s = calloc(1, sizeof *s);
    char *path = at_path_join(dir, "study.db"), *lock = at_path_join(dir, "lock");
    if (!s || !path || !lock) {
        at_nomem(err);
        goto fail;
    }
    s->space = sweep->space;
    s->lock = at_lock_take(lock, false, err);
    if (!s->lock) {
        if (err->code == AT_EPEER)
            at_fail(err, AT_EPEER, "another coordinator is running on %s", dir);
        goto fail;
    }
    if (open_db(s, dir, path, sweep, tree, resume, err))
        goto fail;
    free(path);
    free(lock);
    return s;
fail:
    free(path);
    free(lock);
    at_study_close(s);
    return NULL;
}

void at_study_close(at_study *s)
{
    if (!s)
        return;
    if (s->db)
        at_db_close(s->db);
    at_lock_release(s->lock);
    free(s);
}

/* ---- continuing ---- */

static at_trial_state state_of(const char *name)
{
    for (int i = AT_TRIAL_WAITING; i <= AT_TRIAL_FAIL; i++)
        if (strcmp(name, at_trial_state_name((at_trial_state)i)) == 0)
            return (at_trial_state)i;
    return AT_TRIAL_FAIL; /* PRUNED is of no use as a result */
}

static void place_param(const at_space *space, at_trial *t, const char *name, double value)
{
    for (size_t i = 0; i < space->count; i++)
        if (strcmp(space->dists[i].name, name) == 0)
            t->values[i] = value;
}

static int load_params(at_study *s, at_trial *trials, size_t n, at_error *err)
{
    const at_space *space = s->space;
    at_stmt *q = at_db_prepare(s->db,
                               "SELECT t.number, p.param_name, p.param_value FROM trial_params p"
                               " JOIN trials t USING (trial_id)",
                               err);
    if (!q)
        return AT_EIO;
    int rc;
    while ((rc = at_stmt_step(q, err)) == 1) {
        int64_t number = at_stmt_int(q, 0);
        if (number >= 0 && number < (int64_t)n)
            place_param(space, &trials[number], at_stmt_text(q, 1), at_stmt_real(q, 2));
    }
    at_stmt_free(q);
    /* A name may stand for several distributions, of which one is active. */
    for (size_t t = 0; t < n && !rc; t++)
        for (size_t i = 0; i < space->count; i++)
            if (!at_space_active(space, trials[t].values, i))
                trials[t].values[i] = NAN;
    return rc;
}

int at_study_load(at_study *s, at_trial *trials, size_t capacity, size_t *n, at_error *err)
{
    at_stmt *q = at_db_prepare(
        s->db,
        "SELECT t.trial_id, t.number, t.state, v.value,"
        " (SELECT value_json FROM trial_user_attributes a WHERE a.trial_id = t.trial_id"
        "  AND a.key = 'wave'),"
        " (SELECT ifnull(max(epoch), 0) FROM leases l WHERE l.trial_id = t.trial_id),"
        " (SELECT intermediate_value FROM trial_intermediate_values i"
        "  WHERE i.trial_id = t.trial_id ORDER BY step DESC LIMIT 1)"
        " FROM trials t LEFT JOIN trial_values v USING (trial_id) ORDER BY t.number",
        err);
    if (!q)
        return AT_EIO;
    int rc;
    for (*n = 0; (rc = at_stmt_step(q, err)) == 1; ++*n) {
        if (*n >= capacity || at_stmt_int(q, 1) != (int64_t)*n) {
            rc = at_fail(err, AT_EINPUT, "study.db: trial %lld is not one of this sweep's %zu",
                         (long long)at_stmt_int(q, 1), capacity);
            break;
        }
        at_trial *t = &trials[*n];
        t->id = at_stmt_int(q, 0);
        t->number = at_stmt_int(q, 1);
        t->state = state_of(at_stmt_text(q, 2));
        t->value = at_stmt_kind(q, 3) == AT_NULL ? NAN : at_stmt_real(q, 3);
        t->wave = at_stmt_int(q, 4);
        t->epoch = at_stmt_int(q, 5);
        t->latest = at_stmt_kind(q, 6) == AT_NULL ? NAN : at_stmt_real(q, 6);
    }
    at_stmt_free(q);
    return rc ? rc : load_params(s, trials, *n, err);
}

/* ---- changes of state ---- */

static int insert_param(at_study *s, const at_trial *t, size_t i, at_error *err)
{
    char *json = at_dist_json(&s->space->dists[i]);
    int rc = json ? at_db_run(s->db, err,
                              "INSERT INTO trial_params (trial_id, param_name, param_value,"
                              " distribution_json) VALUES (?, ?, ?, ?)",
                              "isrs", t->id, s->space->dists[i].name, t->values[i], json)
                  : at_nomem(err);
    free(json);
    return rc;
}

static int insert_trial(at_study *s, at_trial *t, at_error *err)
{
    int rc = at_db_run(s->db, err,
                       "INSERT INTO trials (number, study_id, state) VALUES (?, 1, 'WAITING')", "i",
                       t->number);
    t->id = at_db_last_id(s->db);
    if (!rc)
        rc = set_trial_attribute(s, t, "wave", at_node_new_int(t->wave), err);
    for (size_t i = 0; i < s->space->count && !rc; i++)
        if (!isnan(t->values[i]))
            rc = insert_param(s, t, i, err);
    return rc;
}

int at_study_propose(at_study *s, int64_t wave, at_trial *trials, size_t n, at_error *err)
{
    int rc = begin(s, err);
    if (rc)
        return rc;
    rc = at_db_run(s->db, err, "INSERT INTO waves VALUES (?, ?, ?, ?, NULL)", "iiii", wave,
                   trials[0].number, (int64_t)n, at_wall_ms());
    for (size_t i = 0; i < n && !rc; i++)
        rc = insert_trial(s, &trials[i], err);
    return end(s, rc, err);
}

int at_study_end_wave(at_study *s, int64_t wave, at_error *err)
{
    return at_db_run(s->db, err, "UPDATE waves SET ended_at_ms = ? WHERE wave = ?", "ii",
                     at_wall_ms(), wave);
}

int at_study_lease(at_study *s, const at_trial *t, const char *worker, at_error *err)
{
    int64_t now = at_wall_ms();
    char when[32];
    naive_utc(now, when);
    int rc = begin(s, err);
    if (rc)
        return rc;
    rc = at_db_run(s->db, err,
                   "INSERT INTO leases (trial_id, epoch, worker, leased_at_ms) VALUES (?, ?, ?, ?)",
                   "iisi", t->id, t->epoch, worker, now);
    if (!rc)
        rc = at_db_run(s->db, err,
                       "UPDATE trials SET state = 'RUNNING', datetime_start = ? WHERE trial_id = ?",
                       "si", when, t->id);
    if (!rc)
        rc = set_trial_attribute(s, t, "worker", at_node_new_string(worker), err);
    return end(s, rc, err);
}

int at_study_started(at_study *s, const at_trial *t, double delay_ms, at_error *err)
{
    int rc = begin(s, err);
    if (rc)
        return rc;
    rc = at_db_run(s->db, err,
                   "UPDATE leases SET started_at_ms = ? WHERE trial_id = ? AND epoch = ?", "iii",
                   at_wall_ms(), t->id, t->epoch);
    if (!rc)
        rc = set_trial_attribute(s, t, "start_delay_ms",
                                 at_node_new_real(round(delay_ms * 10) / 10), err);
    return end(s, rc, err);
}

int at_study_step(at_study *s, const at_trial *t, int64_t step, double value, at_error *err)
{
    const char *type = isnan(value)    ? "NAN"
                       : !isinf(value) ? "FINITE"
                       : value > 0     ? "INF_POS"
                                       : "INF_NEG";
    const char *sql = "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value,"
                      " intermediate_value_type) VALUES (?, ?, ?, ?) ON CONFLICT (trial_id, step)"
                      " DO UPDATE SET intermediate_value = excluded.intermediate_value,"
                      " intermediate_value_type = excluded.intermediate_value_type";
    if (isfinite(value))
        return at_db_run(s->db, err, sql, "iirs", t->id, step, value, type);
    return at_db_run(s->db, err, sql, "iins", t->id, step, type);
}

static int end_lease(at_study *s, const at_trial *t, const char *outcome, at_error *err)
{
    return at_db_run(s->db, err,
                     "UPDATE leases SET ended_at_ms = ?, outcome = ?"
                     " WHERE trial_id = ? AND epoch = ? AND ended_at_ms IS NULL",
                     "isii", at_wall_ms(), outcome, t->id, t->epoch);
}

int at_study_finish(at_study *s, const at_trial *t, double seconds, const char *failure,
                    at_error *err)
{
    char when[32];
    naive_utc(at_wall_ms(), when);
    int rc = begin(s, err);
    if (rc)
        return rc;
    rc = at_db_run(s->db, err,
                   "UPDATE trials SET state = ?, datetime_complete = ? WHERE trial_id = ?", "ssi",
                   at_trial_state_name(t->state), when, t->id);
    if (!rc && t->state == AT_TRIAL_COMPLETE)
        rc = at_db_run(s->db, err,
                       "INSERT INTO trial_values (trial_id, objective, value, value_type)"
                       " VALUES (?, 0, ?, 'FINITE')",
                       "ir", t->id, t->value);
    if (!rc)
        rc = set_trial_attribute(s, t, "seconds", at_node_new_real(round(seconds * 1000) / 1000),
                                 err);
    if (!rc && failure)
        rc = set_trial_attribute(s, t, "error", at_node_new_string(failure), err);
    if (!rc)
        rc = end_lease(s, t, at_trial_state_name(t->state), err);
    return end(s, rc, err);
}

int at_study_return(at_study *s, const at_trial *t, const char *why, at_error *err)
{
    int rc = begin(s, err);
    if (rc)
        return rc;
    rc = at_db_run(s->db, err,
                   "UPDATE trials SET state = 'WAITING', datetime_start = NULL WHERE trial_id = ?",
                   "i", t->id);
    if (!rc)
        rc = end_lease(s, t, why, err);
    return end(s, rc, err);
}
