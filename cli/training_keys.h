/* SPDX-License-Identifier: Apache-2.0
 * What commands that start other commands know of them: their keys, and where the program is.
 */
#ifndef ATOLL_CLI_TRAINING_KEYS_H
#define ATOLL_CLI_TRAINING_KEYS_H

#include <atoll/coordinator.h>

/* Asks training, models and ingest whether they know these keys and take these values. */
at_checks cli_training_checks(void);
int64_t cli_training_batch(void); /* a rank's batch where none is given */
/* This program's own path; malloc'd. */
char *cli_program_path(at_error *err);

#endif
