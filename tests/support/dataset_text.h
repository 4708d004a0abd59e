/* SPDX-License-Identifier: Apache-2.0
 * Everything that a data set is, as text: two data sets are the same where their texts are.
 *
 *     char *text = dataset_text(out);      // fails the test if it is no data set
 *     same_text(text, wanted);             // shows the first difference
 *     char *files = dataset_files(out);    // the same to the last byte
 */
#ifndef ATOLL_TEST_DATASET_TEXT_H
#define ATOLL_TEST_DATASET_TEXT_H

/* Every table of the catalog but SQLite's own, row by row, and the hash of every shard; malloc'd. */
char *dataset_text(const char *dataset);
/* Every file with its size and the hash of its bytes; malloc'd. */
char *dataset_files(const char *dataset);
void same_text(const char *got, const char *wanted);

#endif
