/* SPDX-License-Identifier: Apache-2.0
 * The sections of a training's page.
 */
#ifndef ATOLL_TRAINER_REPORT_H
#define ATOLL_TRAINER_REPORT_H

#include "internal.h"

/* ---- sections: each adds its <section>, or nothing where its data is not there --------------------- */
void at_report_curves(at_text *page, const char *run, const char *job);     /* report_curves.c */
int at_report_trials(at_text *page, const char *study, at_error *err);      /* report_trials.c */
void at_report_classes(at_text *page, const at_node *test);                 /* report_classes.c */
int at_report_samples(at_text *page, const char *run, const char *data, at_error *err); /* report_samples.c */

#endif
