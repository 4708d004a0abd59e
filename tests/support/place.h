/* SPDX-License-Identifier: Apache-2.0
 * Where a test of ingest works: a scratch folder with a source and a data set, which goes at its end.
 *
 *     cmocka_unit_test_setup_teardown(test_x, place_set_up, place_tear_down)
 *     struct place *p = *state;
 */
#ifndef ATOLL_TEST_PLACE_H
#define ATOLL_TEST_PLACE_H

#include <atoll/datasets.h>

struct place {
    char *dir, *source, *out; /* out: the data set, not made yet */
    char *file;               /* another path of the test's, or NULL */
};
int place_set_up(void **state);
/* And p->out is a data set of several shards: 60 images of 3 classes in train, 6 of them moved to val,
 * 15 in test. */
int place_set_up_dataset(void **state);
/* p->file becomes dir/name. Returns 0, as a set-up ends. */
int place_name_file(struct place *p, const char *name);
int place_tear_down(void **state);
/* The first column of the query's first row on p->out must be this text. */
void place_expect(const struct place *p, const char *sql, const char *value);
/* The pixels and label of an image of a data set; at_image_fini. */
at_image place_pixels(const char *dataset, at_split split, size_t i, int32_t *label);
/* Cuts dir/name to a part of its size. */
void place_cut(const char *dir, const char *name, double part);

#endif
