/* SPDX-License-Identifier: Apache-2.0
 * Shared by the report's files: escaping, charts as inline SVG, and the sections of the page.
 */
#ifndef ATOLL_TRAINER_REPORT_H
#define ATOLL_TRAINER_REPORT_H

#include "internal.h"

/* ---- chart.c ------------------------------------------------------------------------------------- */
void at_html_text(at_text *page, const char *text); /* escaped */
typedef struct at_series {
    const char *name; /* of the legend; NULL: none */
    const double *x, *y; /* NaN is left out */
    size_t count;
    bool points; /* dots instead of a line */
    int colour;  /* 0.. */
} at_series;
typedef struct at_chart {
    const char *title, *x_label;
    bool log_x;
    bool whole_x; /* epochs, trials: no ticks between whole numbers */
    const at_node *names; /* NULL, or a list: x is a place in it, and the ticks are its items */
} at_chart;
/* Axes with round ticks; a hover title on every dot. */
void at_chart_draw(at_text *page, const at_chart *chart, const at_series *series, size_t n);

/* ---- sections: each adds its <section>, or nothing where its data is not there --------------------- */
void at_report_curves(at_text *page, const char *run, const char *job);     /* report_curves.c */
int at_report_trials(at_text *page, const char *study, at_error *err);      /* report_trials.c */
void at_report_classes(at_text *page, const at_node *test);                 /* report_classes.c */
int at_report_samples(at_text *page, const char *run, const char *data, at_error *err); /* report_samples.c */

#endif
