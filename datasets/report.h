/* SPDX-License-Identifier: Apache-2.0
 * What the files of a data set's report share: the page, and rows of queries.
 *
 * The first failure sticks in `code`: queries then have no rows, so that sections need not ask.
 */
#ifndef ATOLL_DATASETS_REPORT_H
#define ATOLL_DATASETS_REPORT_H

#include "internal.h"

struct at_report {
    const char *path; /* of the data set */
    at_db *db;
    at_text page;
    char *shards_folder;
    at_shard shard; /* the one that was read last */
    int64_t shard_number;
    at_decoder *decoder;
    at_decode_limits limits;
    at_stmt *place; /* of a content by its hash */
    int code;
    at_error *err;
};

/* ---- report.c -------------------------------------------------------------------------------- */
/*     at_stmt *s = at_report_ask(r, "SELECT ...");      // NULL: it failed
 *     while (at_report_row(r, &s))                      // at the end s is freed and NULL
 *         ... */
at_stmt *at_report_ask(struct at_report *r, const char *sql);
bool at_report_row(struct at_report *r, at_stmt **s);
/* The first column of the first row; 0 for none. */
int64_t at_report_number(struct at_report *r, const char *sql);
/* <td class=text> with escaped text; NULL is empty. */
void at_report_cell(struct at_report *r, const char *text);

/* ---- report_pictures.c ----------------------------------------------------------------------- */
/* The content as an <img> of at most 56 pixels a side; one that cannot be read as a gap. */
void at_report_picture(struct at_report *r, const char *hash, const char *title);
/* Decodes the content whose shard, offset, bytes and crc are the row's columns, large ones at a part
 * of their size; the view lasts until the next one. */
int at_report_decode(struct at_report *r, const at_stmt *place, at_image *view, at_error *err);
void at_report_sheets(struct at_report *r);
void at_report_duplicates(struct at_report *r);
void at_report_suspects(struct at_report *r);

/* ---- near.c ---------------------------------------------------------------------------------- */
typedef struct at_look {
    uint64_t dhash;
    int64_t blob;
    float mean[3], deviation[3]; /* of grey pictures thrice the same */
    float sharpness, aspect;     /* aspect: width / height */
} at_look;
/* Groups of pictures that look alike: group[i] is the number of the first of i's group, i itself
 * for one that stands alone. */
int at_near_groups(const at_look *looks, size_t n, uint32_t *group, at_error *err);

/* ---- report_spread.c, report_near.c: both see every content once ----------------------------- */
/* Draws how sizes, light and colours are spread; the looks of all contents, for at_report_near. */
void at_report_spread(struct at_report *r, at_look **looks, size_t *count);
void at_report_near(struct at_report *r, const at_look *looks, size_t count);

#endif
