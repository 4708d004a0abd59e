/* SPDX-License-Identifier: Apache-2.0
 * Items that are read from a pipe (item_stream.c, for viewer.c).
 */
#ifndef ATOLL_DATASETS_ITEM_STREAM_H
#define ATOLL_DATASETS_ITEM_STREAM_H

#include "internal.h"

/* Whether .file is "-", standard input, or a pipe. */
bool at_item_is_stream(const at_item *item);
/* Reads it into .bytes, up to its end; what is wrong with it is recorded in the item, also that it takes
 * longer than the limit of seconds, of real time here. AT_EINTERRUPTED: it was not read to its end. */
int at_item_load_stream(at_item *item, const at_decode_limits *limits, at_error *err);

#endif
