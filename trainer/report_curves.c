/* SPDX-License-Identifier: Apache-2.0
 * The report's learning curves, from RUN/metrics.jsonl.
 */
#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { EPOCH, TRAIN_LOSS, VAL_LOSS, TRAIN_ACCURACY, VAL_ACCURACY, LR, RATE, COLUMNS };
static const char *const keys[COLUMNS] = {"epoch",        "train_loss", "val_loss",         "train_accuracy",
                                          "val_accuracy", "lr",         "images_per_second"};

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
    at_chart_draw(page, &(at_chart){title, "epoch", false}, series, second < 0 ? 1 : 2);
}

void at_report_curves(at_text *page, const char *run)
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
    }
    table_fini(&t);
}
