/* SPDX-License-Identifier: Apache-2.0
 * Other commands of atoll as child processes.
 *
 *     at_node *words = at_command_new(program, "ingest");
 *     bool ok = words && at_command_add(words, "photos") && ...;
 *     int rc = ok ? at_command_run(words, err) : at_nomem(err);
 *     at_node_free(words);
 */
#ifndef ATOLL_COORDINATOR_COMMAND_H
#define ATOLL_COORDINATOR_COMMAND_H

#include <atoll/base.h>

at_node *at_command_new(const char *program, const char *name); /* a list of words; NULL: memory */
bool at_command_add(at_node *words, const char *word);
/* The stages are as quiet as we are. */
bool at_command_quiet(void);
/* `atoll NAME ...`, alone, to its end; adds --quiet where we are. Errors name the command. inherit:
 * NULL, or a lock that is held until the child, too, has ended. */
int at_command_run(at_node *words, const at_lock *inherit, at_error *err);
/* Any words. clean: the child must not take itself for a rank of whatever started us. interrupt:
 * the signal that it gets when we are interrupted. */
int at_command_launch(const at_node *words, bool clean, int interrupt, const at_lock *inherit,
                      at_error *err);

#endif
