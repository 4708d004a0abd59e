/* SPDX-License-Identifier: Apache-2.0
 * Ranks share the work of an ingest: one writes the data set, the others decode for it (share.c).
 *
 *     at_share *s = at_share_new(out, rank, ranks, resumed, &err);     // the writer
 *     if (!at_share_take(s, item)) ...examine it...                   // from its decoding threads
 *     at_share_free(s);
 *
 *     at_share_help(options, out, lock);                              // every other rank
 */
#ifndef ATOLL_DATASETS_SHARE_H
#define ATOLL_DATASETS_SHARE_H

#include "internal.h"

/* passed: so many items of the source are done already. */
at_share *at_share_new(const char *out, int rank, int ranks, uint64_t passed, at_error *err);
/* Fills .seen and .exif of a hashed item from what another rank has told of its content. False: none
 * has. From many threads. */
bool at_share_take(at_share *s, at_item *item);
uint64_t at_share_taken(const at_share *s);
void at_share_free(at_share *s); /* takes NULL; what ranks told is removed */

/* Examines this rank's share of the source until all is told, or nobody holds the lock file any more.
 * What fails here is no error: the writer does without. */
void at_share_help(const at_ingest_options *o, const char *out, const char *lock);
/* Of the processes at one ingest the first gets *turn; the others help it to its end and get NULL
 * (turn.c). */
int at_turn_take(const at_ingest_options *o, const char *out, at_lock **turn, at_error *err);
void at_turn_end(const char *out, at_lock *turn); /* takes NULL */
/* Whoever ended meanwhile has removed the lock's file: then it protects from nobody. */
bool at_lock_is_named(const at_lock *lock, const char *path);
/* Removes what a rank told when nobody listened any more. */
void at_share_clear(const char *out);
/* Whether an item of this path is another rank's, or was done before. Of a writer's source: never. */
bool at_share_passes(at_source *s, const char *path);

#endif
