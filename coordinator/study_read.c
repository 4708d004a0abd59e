/* SPDX-License-Identifier: Apache-2.0
 * Reading a study: what `atoll study` shows. Reading never waits
 * for the coordinator nor disturbs it. */
#include "internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static at_db *open_study(const char *dir, at_error *err)
{
    char *path = at_path_join(dir, "study.db");
    at_db *db = NULL;
    if (!path)
        at_nomem(err);
    else if (!at_file_exists(path))
        at_fail(err, AT_ENOENT, "%s is not a study: it has no study.db", dir);
    else
        db = at_db_open(path, AT_DB_READ, err);
    free(path);
    return db;
}

/* The value for people of one row of trial_params; *bad is set where it means nothing. */
static at_node *param_of(const char *json, double value)
{
    at_node *dist = at_json_parse(json, strlen(json), "distribution_json", NULL);
    const char *name = at_node_string(at_node_get(dist, "name"), "");
    const at_node *choices = at_node_path(dist, "attributes.choices");
    at_node *out;
    if (strcmp(name, "CategoricalDistribution") == 0)
        out = value >= 0 && value < (double)at_node_count(choices)
                  ? at_node_copy(at_node_at(choices, (size_t)value))
                  : at_node_new(AT_NULL);
    else if (strcmp(name, "IntDistribution") == 0)
        out = at_node_new_int((int64_t)value);
    else
        out = at_node_new_real(value);
    at_node_free(dist);
    return out;
}

static at_node *params_of(at_db *db, int64_t trial_id, at_error *err)
{
    at_node *params = at_node_new(AT_MAP);
    at_stmt *q = at_db_prepare(db,
                               "SELECT param_name, param_value, distribution_json"
                               " FROM trial_params WHERE trial_id = ? ORDER BY param_id",
                               err);
    int rc = q ? at_stmt_bind(q, "i", trial_id) : AT_EIO;
    while (!rc && (rc = at_stmt_step(q, err)) == 1)
        rc = !at_node_set(params, at_stmt_text(q, 0),
                          param_of(at_stmt_text(q, 2), at_stmt_real(q, 1)));
    at_stmt_free(q);
    if (!rc)
        return params;
    at_node_free(params);
    return NULL;
}

static const char best_sql[] =
    "SELECT t.trial_id, t.number, v.value FROM trials t JOIN trial_values v USING (trial_id)"
    " WHERE t.state = 'COMPLETE' AND v.value_type = 'FINITE' ORDER BY"
    " v.value * (SELECT CASE direction WHEN 'MAXIMIZE' THEN -1 ELSE 1 END FROM study_directions),"
    " t.number LIMIT 1";

/* *out stays NULL where no trial has completed. */
static int best_of(at_db *db, at_node **out, at_error *err)
{
    at_stmt *q = at_db_prepare(db, best_sql, err);
    int rc = q ? at_stmt_step(q, err) : AT_EIO;
    if (rc == 1) {
        at_node *best = at_node_new(AT_MAP);
        at_set_int(best, "number", at_stmt_int(q, 1));
        at_set_real(best, "value", at_stmt_real(q, 2));
        at_node *params = params_of(db, at_stmt_int(q, 0), err);
        rc = params && at_node_set(best, "params", params) ? 0 : AT_EIO;
        if (rc)
            at_node_free(best);
        else
            *out = best;
    }
    at_stmt_free(q);
    return rc;
}

at_node *at_study_best(const char *study, at_error *err)
{
    at_node *best = NULL;
    at_db *db = open_study(study, err);
    if (!db)
        return NULL;
    if (!best_of(db, &best, err) && !best)
        at_fail(err, AT_ENOENT, "%s: no trial has completed", study);
    at_db_close(db);
    return best;
}

/* Copies the columns of the row under their names; *_json columns are parsed. */
static int row_to_map(at_stmt *q, int from, at_node *map)
{
    for (int c = from; c < at_stmt_columns(q); c++) {
        at_node *value;
        const char *name = at_stmt_column_name(q, c), *text = at_stmt_text(q, c);
        if (at_stmt_kind(q, c) == AT_INT)
            value = at_node_new_int(at_stmt_int(q, c));
        else if (at_stmt_kind(q, c) == AT_REAL)
            value = at_node_new_real(at_stmt_real(q, c));
        else
            value = at_node_new_string(text);
        if (!at_node_set(map, name, value))
            return AT_ENOMEM;
    }
    return 0;
}

static const char trials_sql[] =
    "SELECT t.trial_id, t.number,"
    " max(json_extract(value_json, '$')) FILTER (WHERE key = 'wave') AS wave,"
    " t.state, v.value,"
    " max(json_extract(value_json, '$')) FILTER (WHERE key = 'worker') AS worker,"
    " max(json_extract(value_json, '$')) FILTER (WHERE key = 'start_delay_ms') AS start_delay_ms,"
    " max(json_extract(value_json, '$')) FILTER (WHERE key = 'seconds') AS seconds,"
    " (SELECT count(*) FROM leases l WHERE l.trial_id = t.trial_id) AS leases,"
    " max(json_extract(value_json, '$')) FILTER (WHERE key = 'error') AS error"
    " FROM trials t LEFT JOIN trial_values v USING (trial_id)"
    " LEFT JOIN trial_user_attributes a USING (trial_id) GROUP BY t.trial_id ORDER BY t.number";

static int list_trials(at_db *db, at_node *list, at_error *err)
{
    at_stmt *q = at_db_prepare(db, trials_sql, err);
    int rc = q ? 0 : AT_EIO;
    while (!rc && (rc = at_stmt_step(q, err)) == 1) {
        at_node *row = at_node_add(list, at_node_new(AT_MAP));
        at_node *params = params_of(db, at_stmt_int(q, 0), err);
        rc = row && params ? row_to_map(q, 1, row) : AT_EIO;
        if (!at_node_set(row, "params", params))
            rc = AT_EIO;
    }
    at_stmt_free(q);
    return rc;
}

at_node *at_study_trials(const char *study, at_error *err)
{
    at_db *db = open_study(study, err);
    if (!db)
        return NULL;
    at_node *out = at_node_new(AT_MAP), *list = at_node_set(out, "trials", at_node_new(AT_LIST));
    int rc = list ? list_trials(db, list, err) : at_nomem(err);
    at_db_close(db);
    if (!rc)
        return out;
    at_node_free(out);
    return NULL;
}

static const char show_sql[] =
    "SELECT study_name AS name, (SELECT lower(direction) FROM study_directions) AS direction,"
    " (SELECT json_extract(value_json, '$') FROM study_user_attributes WHERE key = 'metric')"
    " AS metric,"
    " (SELECT json_extract(value_json, '$.search.trials') FROM study_user_attributes"
    " WHERE key = 'sweep') AS trials,"
    " (SELECT count(*) FROM trials WHERE state = 'WAITING') AS waiting,"
    " (SELECT count(*) FROM trials WHERE state = 'RUNNING') AS running,"
    " (SELECT count(*) FROM trials WHERE state = 'COMPLETE') AS complete,"
    " (SELECT count(*) FROM trials WHERE state = 'FAIL') AS fail,"
    " (SELECT count(*) FROM waves) AS waves FROM studies";

at_node *at_study_show(const char *study, at_error *err)
{
    at_db *db = open_study(study, err);
    if (!db)
        return NULL;
    at_node *out = at_node_new(AT_MAP), *best = NULL;
    at_stmt *q = at_db_prepare(db, show_sql, err);
    int rc = q ? at_stmt_step(q, err) : AT_EIO;
    if (rc == 1)
        rc = row_to_map(q, 0, out);
    else if (rc == 0)
        rc = at_fail(err, AT_EINPUT, "%s: study.db holds no study", study);
    at_stmt_free(q);
    if (!rc)
        rc = best_of(db, &best, err);
    if (!rc && !at_node_set(out, "best_trial", best ? best : at_node_new(AT_NULL)))
        rc = at_nomem(err);
    at_db_close(db);
    if (!rc)
        return out;
    at_node_free(out);
    return NULL;
}
