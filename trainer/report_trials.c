/* SPDX-License-Identifier: Apache-2.0
 * The report's trials, read from STUDY/study.db (an Optuna storage: see docs/formats.md): the metric over the trials,
 * and each parameter against the metric.
 */
#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct points {
    double *x, *y;
    size_t count;
} points;

static bool points_add(points *p, double x, double y)
{
    double *gx = realloc(p->x, (p->count + 1) * sizeof *gx);
    p->x = gx ? gx : p->x;
    double *gy = realloc(p->y, (p->count + 1) * sizeof *gy);
    p->y = gy ? gy : p->y;
    if (!gx || !gy)
        return false;
    gx[p->count] = x;
    gy[p->count++] = y;
    return true;
}

static void points_fini(points *p)
{
    free(p->x);
    free(p->y);
}

static bool is_maximized(at_db *db)
{
    at_stmt *s = at_db_prepare(db, "SELECT direction = 'MAXIMIZE' FROM study_directions LIMIT 1", NULL);
    bool maximize = s && at_stmt_step(s, NULL) == 1 && at_stmt_int(s, 0);
    at_stmt_free(s);
    return maximize;
}

/* malloc'd; NULL where the storage does not tell. */
static char *metric_of(at_db *db)
{
    at_stmt *s = at_db_prepare(db, "SELECT json_extract(value_json, '$[0]') FROM study_system_attributes "
                                   "WHERE key = 'study:metric_names'", NULL);
    char *name = s && at_stmt_step(s, NULL) == 1 && at_stmt_kind(s, 0) != AT_NULL ? strdup(at_stmt_text(s, 0)) : NULL;
    at_stmt_free(s);
    return name;
}

static int draw_history(at_text *page, at_db *db, const char *metric, at_error *err)
{
    points trials = {0}, best = {0};
    bool maximize = is_maximized(db);
    at_stmt *s = at_db_prepare(db,
                               "SELECT number, value FROM trials JOIN trial_values USING (trial_id) "
                               "WHERE state = 'COMPLETE' ORDER BY number",
                               err);
    int code = s ? 0 : AT_EINPUT;
    while (s && (code = at_stmt_step(s, err)) == 1) {
        double number = at_stmt_real(s, 0), value = at_stmt_real(s, 1);
        double so_far = best.count ? best.y[best.count - 1] : value;
        so_far = maximize ? fmax(so_far, value) : fmin(so_far, value);
        if (!points_add(&trials, number, value) || !points_add(&best, number, so_far)) {
            code = at_nomem(err);
            break;
        }
    }
    at_stmt_free(s);
    at_series series[2] = {{"best so far", best.x, best.y, best.count, false, 1},
                           {"trials", trials.x, trials.y, trials.count, true, 0}};
    if (code == 0)
        at_chart_draw(page, &(at_chart){metric, "trial", .whole_x = true}, series, 2);
    points_fini(&trials);
    points_fini(&best);
    return code;
}

static int draw_parameter(at_text *page, at_db *db, const char *name, const at_node *distribution,
                          at_error *err)
{
    points p = {0};
    const at_node *choices = at_node_path(distribution, "attributes.choices");
    bool log_x = at_node_bool(at_node_path(distribution, "attributes.log"), false);
    at_stmt *s = at_db_prepare(db,
                               "SELECT param_value, value FROM trials JOIN trial_params USING (trial_id) "
                               "JOIN trial_values USING (trial_id) WHERE state = 'COMPLETE' AND param_name = ?",
                               err);
    int code = s ? at_stmt_bind(s, "s", name) : AT_EINPUT;
    while (code >= 0 && (code = at_stmt_step(s, err)) == 1)
        if (!points_add(&p, at_stmt_real(s, 0), at_stmt_real(s, 1))) {
            code = at_nomem(err);
            break;
        }
    at_stmt_free(s);
    at_series series = {NULL, p.x, p.y, p.count, true, 2};
    if (code == 0)
        at_chart_draw(page, &(at_chart){name, choices ? "choice" : log_x ? "value (logarithmic)" : "value", .log_x = log_x, .names = choices}, &series, 1);
    points_fini(&p);
    return code;
}

static int draw_parameters(at_text *page, at_db *db, at_error *err)
{
    at_stmt *s = at_db_prepare(db,
                               "SELECT param_name, max(distribution_json) FROM trial_params GROUP BY param_name", err);
    int code = s ? 0 : AT_EINPUT;
    while (s && (code = at_stmt_step(s, err)) == 1) {
        char *name = strdup(at_stmt_text(s, 0));
        const char *text = at_stmt_text(s, 1);
        at_node *distribution = at_json_parse(text, strlen(text), name, NULL); /* NULL: points without more */
        code = name ? draw_parameter(page, db, name, distribution, err) : at_nomem(err);
        at_node_free(distribution);
        free(name);
        if (code < 0)
            break;
    }
    at_stmt_free(s);
    return code;
}

int at_report_trials(at_text *page, const char *study, at_error *err)
{
    if (!study)
        return 0;
    char *path = at_path_join(study, "study.db");
    at_db *db = path ? at_db_open(path, AT_DB_READ, err) : NULL;
    free(path);
    if (!db)
        return err && err->code ? err->code : at_nomem(err);
    char *metric = metric_of(db);
    at_text_add(page, "<section><h2>Trials</h2><div class=charts>\n");
    int code = draw_history(page, db, metric ? metric : "metric", err);
    code = code < 0 ? code : draw_parameters(page, db, err);
    at_text_add(page, "</div></section>\n");
    at_db_close(db);
    free(metric);
    return code;
}
