/* SPDX-License-Identifier: Apache-2.0
 * class_weights: how much a class counts in the loss, from the catalog's numbers of images.
 */
#include "internal.h"

#include <stdlib.h>

static int count_classes(at_db *db, double *counts, size_t classes, at_error *err)
{
    at_stmt *s = at_db_prepare(
        db, "SELECT label, count(*) FROM images WHERE split = 'train' GROUP BY label", err);
    if (!s)
        return err->code;
    int row = 0;
    while ((row = at_stmt_step(s, err)) == 1) {
        int64_t label = at_stmt_int(s, 0);
        if (label >= 0 && (size_t)label < classes)
            counts[label] = (double)at_stmt_int(s, 1);
    }
    at_stmt_free(s);
    return row;
}

int at_balanced_weights(const char *data, float *weights, size_t classes, at_error *err)
{
    double *counts = calloc(classes, sizeof *counts), all = 0;
    char *path = at_path_join(data, "catalog.db");
    int code = counts && path ? 0 : at_nomem(err);
    at_db *db = code ? NULL : at_db_open(path, AT_DB_READ, err);
    if (code == 0)
        code = db ? count_classes(db, counts, classes, err) : err->code;
    for (size_t c = 0; c < classes && code == 0; c++)
        all += counts[c];
    for (size_t c = 0; c < classes && code == 0; c++)
        weights[c] = counts[c] > 0 ? (float)(all / ((double)classes * counts[c])) : 0;
    at_db_close(db);
    free(path);
    free(counts);
    return code;
}
