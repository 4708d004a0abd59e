/* SPDX-License-Identifier: Apache-2.0
 * What a catalog tells of its images, in memory, in the order of the catalog, for all that has to look
 * at every image: read once, or kept while they are added.
 *
 *     at_rows rows = {0};
 *     if (at_rows_load(&rows, db, "photos", err) == 0)
 *         at_rows_sort(&rows); // now in path order
 *     at_rows_fini(&rows);
 *
 * 80 bytes an image, and its path.
 */
#ifndef ATOLL_DATASETS_ROWS_H
#define ATOLL_DATASETS_ROWS_H

#include "internal.h"

typedef struct at_row {
    at_entry entry;   /* .path: of the name in .names */
    uint8_t hash[32]; /* of the content; zeros: the catalog tells none */
    at_split split;
} at_row;

struct at_rows {
    at_row *items;
    size_t count, capacity;
    at_text names;         /* paths, one behind another, each with its NUL */
    int64_t height, width; /* of all images, 0: they have several sizes */
    int64_t channels;      /* the most that any has */
    uint64_t bytes;        /* of the contents */
    size_t newest;         /* while they are added: the row with the last new content */
    char dataset_hash[65]; /* at_rows_identify sets it */
};

/* Adds a row, whose entry.path is set, of a picture of this size. */
int at_rows_add(at_rows *rows, const at_row *row, const char *path, int64_t height, int64_t width,
                int64_t channels, at_error *err);
/* Replaces what rows had; dataset: its name, for messages. A row out of range: AT_EINPUT. */
int at_rows_load(at_rows *rows, at_db *db, const char *dataset, at_error *err);
void at_rows_sort(at_rows *rows); /* by path, as bytes */
/* The identity of the data set that has these rows, which are sorted. */
int at_rows_identify(at_rows *rows, at_error *err);
/* Entries by split, in the rows' order; takes the names, and the rows are empty. */
int at_rows_to_index(at_rows *rows, at_index *out, at_error *err);
void at_rows_fini(at_rows *rows);

/* The same identity, asked of a catalog whose rows may be damaged. */
int at_catalog_hash(at_db *db, char hex[65], at_error *err);

/* Writes DATASET/images.idx of a whole data set that nobody writes any more, from its sorted rows
 * (which are empty then) or, without rows, from its catalog. It opens without, only slower, so a
 * failure is no more than a warning. */
void at_dataset_write_index(const char *path, at_rows *rows);

#endif
