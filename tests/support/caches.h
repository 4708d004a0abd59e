/* SPDX-License-Identifier: Apache-2.0
 * What the tests of caches share: opening that must succeed, a small cache, damage, and the check
 * that a cache holds what its data set holds.
 */
#ifndef ATOLL_TEST_CACHES_H
#define ATOLL_TEST_CACHES_H

#include "pictures.h"

#include <sys/types.h>

#include <atoll/cache.h>

extern const pictures cache_small; /* 21, 6 and 9 pictures of 9x5x3 */

void cache_must(int code, const at_error *err); /* fails the test with the message */
at_cache *cache_must_open(const char *path);
at_cache *cache_must_make(const char *dataset,
                          const char *dir); /* at_cache_open with two threads */
/* Ingests cache_small as dir/data and builds dir/cache; free the path. */
char *cache_build_small(const char *dir);
char *cache_file_path(const char *folder, const char *name); /* free it */
ino_t cache_inode(const char *folder, const char *name);
/* Every sample, label, class name and the statistics, against decoding anew. */
void cache_check_contents(const char *dataset, at_cache *c);

#endif
