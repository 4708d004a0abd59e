/* SPDX-License-Identifier: Apache-2.0
 * What files of base/ share: the one line of the terminal that log and progress both write to.
 *
 *     at_screen_lock();
 *     at_screen_print(line);       // clears a bar that stands there first
 *     at_screen_unlock();
 */
#ifndef ATOLL_BASE_INTERNAL_H
#define ATOLL_BASE_INTERNAL_H

#include <stdbool.h>

void at_screen_lock(void);
void at_screen_unlock(void);
/* With the lock held. print: a whole line, newline included, instead of the bar. bar: a line without one. */
void at_screen_print(const char *line);
void at_screen_bar(const char *line);

#endif
