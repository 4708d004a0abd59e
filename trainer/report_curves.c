/* SPDX-License-Identifier: Apache-2.0
 * The report's learning curves and timings, from RUN/metrics.jsonl and a job's record of its stages.
 */
#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { EPOCH, TRAIN_LOSS, VAL_LOSS, TRAIN_ACCURACY, VAL_ACCURACY, LR, RATE, SECONDS, WAITED_DATA, WAITED_RANKS, COLUMNS };
static const char *const keys[COLUMNS] = {"epoch",        "train_loss", "val_loss",         "train_accuracy",
                                          "val_accuracy", "lr",         "images_per_second", "seconds",
                                          "waited_data",  "waited_allreduce"};

typedef struct table {
    double *column[COLUMNS];
    size_t count;
} table;

static void table_fini(table *t)
{
    for (int c = 0; c < COLUMNS; c++)
        free(t->column[c]);
}

static bool add_line(table *t, const at_node *line)
{
    for (int c = 0; c < COLUMNS; c++) {
        double *grown = realloc(t->column[c], (t->count + 1) * sizeof *grown);
        if (!grown)
            return false;
        t->column[c] = grown;
        grown[t->count] = at_node_real(at_node_get(line, keys[c]), NAN);
    }
    t->count++;
    return true;
}

/* The epochs' lines; those of single steps carry "epoch_step". */
static void read_table(const char *run, table *t)
{
    char *path = at_path_join(run, "metrics.jsonl"), *data = NULL, *rest = NULL;
    size_t bytes;
    if (path && at_file_exists(path) && at_file_read(path, (size_t)1 << 30, &data, &bytes, NULL) == 0) {
        bool going = true;
        for (char *line = strtok_r(data, "\n", &rest); line && going; line = strtok_r(NULL, "\n", &rest)) {
            at_node *n = at_json_parse(line, strlen(line), path, NULL);
            if (n && !at_node_get(n, "epoch_step"))
                going = add_line(t, n);
            at_node_free(n);
        }
    }
    free(data);
    free(path);
}

static void draw(at_text *page, const table *t, const char *title, int first, int second)
{
    at_series series[2] = {
        {second < 0 ? NULL : "train", t->column[EPOCH], t->column[first], t->count, t->count == 1, 0},
        {"validation", t->column[EPOCH], second < 0 ? NULL : t->column[second], t->count, t->count == 1, 1}};
    at_chart_draw(page, &(at_chart){title, "epoch", .whole_x = true}, series, second < 0 ? 1 : 2);
}

static double sum(const table *t, int column)
{
    double total = 0;
    for (size_t i = 0; i < t->count; i++)
        total += isfinite(t->column[column][i]) ? t->column[column][i] : 0;
    return total;
}

static void draw_time(at_text *page, const char *what, double seconds)
{
    at_text_add(page, "\n<tr><th>");
    at_html_text(page, what);
    at_text_add(page, "<td>%.2f s", seconds);
}

/* Stages that are over when the report is made: its own is not. */
static void draw_stages(at_text *page, const char *job)
{
    char *path = job ? at_path_join(job, "job.json") : NULL;
    at_node *record = path ? at_json_read(path, NULL) : NULL;
    const at_node *stages = at_node_get(record, "stages");
    for (size_t i = 0; i < at_node_count(stages); i++) {
        char *what = at_format("stage %s", at_node_key(stages, i));
        if (what)
            draw_time(page, what, at_node_real(at_node_get(at_node_at(stages, i), "seconds"), 0));
        free(what);
    }
    at_node_free(record);
    free(path);
}

static void draw_timings(at_text *page, const table *t, const char *job)
{
    at_text_add(page, "<section><h2>Timings</h2><table>");
    draw_stages(page, job);
    draw_time(page, "all epochs", sum(t, SECONDS));
    draw_time(page, "an epoch", sum(t, SECONDS) / (double)t->count);
    draw_time(page, "waited for data, all epochs", sum(t, WAITED_DATA));
    draw_time(page, "waited for other ranks, all epochs", sum(t, WAITED_RANKS));
    at_text_add(page, "</table></section>\n");
}

void at_report_curves(at_text *page, const char *run, const char *job)
{
    table t = {0};
    read_table(run, &t);
    if (t.count > 0) {
        at_text_add(page, "<section><h2>Learning curves</h2><div class=charts>\n");
        draw(page, &t, "loss", TRAIN_LOSS, VAL_LOSS);
        draw(page, &t, "accuracy", TRAIN_ACCURACY, VAL_ACCURACY);
        draw(page, &t, "learning rate", LR, -1);
        draw(page, &t, "images per second", RATE, -1);
        at_text_add(page, "</div></section>\n");
        draw_timings(page, &t, job);
    }
    table_fini(&t);
}
