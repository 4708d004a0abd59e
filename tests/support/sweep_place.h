/* SPDX-License-Identifier: Apache-2.0
 * A sweep of a test's own: 8 trials in waves of 4 over lr, run by fake_atoll. Every failure fails
 * the test.
 *
 *     sweep_place p;
 *     sweep_place_init(&p, "nap_ms: 10", "  workers: local:2\n");   // train: and lines of search:
 */
#ifndef ATOLL_TEST_SWEEP_PLACE_H
#define ATOLL_TEST_SWEEP_PLACE_H

#include <atoll/base.h>

#include <sys/types.h>

typedef struct sweep_place {
    char *dir, *sweep, *study;
} sweep_place;

void sweep_place_init(sweep_place *p, const char *train, const char *search);
void sweep_place_fini(sweep_place *p);
at_node *sweep_trials(const sweep_place *p); /* of at_study_trials */
const at_node *sweep_cell(const at_node *all, size_t i, const char *key);
/* Every trial complete, with the value that its parameters give. Returns them as text. */
char *sweep_check_complete(const sweep_place *p);
char *sweep_undisturbed(void); /* the same of a sweep on one worker that nothing disturbs */
/* Waits until `key` of at_study_show is at least n. */
void sweep_wait_until(const sweep_place *p, const char *key, int64_t n);
/* A coordinator as a process of its own; where its workers join, by which key file (malloc'd). */
pid_t sweep_start(const sweep_place *p, const char *workers, bool resume);
char *sweep_join(const sweep_place *p, char **key);

pid_t process_start(const char *const *words); /* this program; words[0] is its name, NULL ends */
int process_wait(pid_t pid);                   /* exit status, or 128 + signal */

#endif
