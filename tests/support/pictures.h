/* SPDX-License-Identifier: Apache-2.0
 * Data sets of made-up pictures, noise over a gradient, ingested from PNG files as anybody's are.
 *
 *     pictures p = {.classes = 3, .train = 10, .test = 2, .height = 8, .width = 6, .channels = 3};
 *     char *dataset = pictures_ingest(&p, dir, "a");      // dir/a; free it
 */
#ifndef ATOLL_TEST_PICTURES_H
#define ATOLL_TEST_PICTURES_H

#include <stdint.h>

typedef struct pictures {
    int classes, train, val, test; /* train, val, test: pictures of a class; 0: no such split */
    int height, width, channels;
    uint64_t seed; /* of the pixels */
} pictures;

char *pictures_ingest(const pictures *p, const char *dir, const char *name);

#endif
