/* SPDX-License-Identifier: Apache-2.0
 * Other commands of atoll as child processes. */
#include "command.h"
#include "child.h"
#include "process.h"

#include <signal.h>
#include <stdlib.h>

bool at_command_quiet(void)
{
    return at_log_get_level() < AT_LOG_INFO;
}

bool at_command_add(at_node *words, const char *word)
{
    return at_node_add(words, at_node_new_string(word)) != NULL;
}

at_node *at_command_new(const char *program, const char *name)
{
    at_node *words = at_node_new(AT_LIST);
    if (words && at_command_add(words, program) && at_command_add(words, name))
        return words;
    at_node_free(words);
    return NULL;
}

int at_command_launch(const at_node *words, bool clean, int interrupt, const at_lock *inherit,
                      at_error *err)
{
    size_t n = at_node_count(words);
    const char **list = calloc(n + 1, sizeof *list);
    char **environment = clean ? at_child_environment() : NULL;
    int rc = list && (environment || !clean) ? 0 : at_nomem(err);
    for (size_t i = 0; i < n && !rc; i++)
        list[i] = at_node_text(at_node_at(words, i));
    if (!rc)
        rc = at_process_run(&(at_process){.words = list,
                                          .environment = environment,
                                          .interrupt = interrupt,
                                          .inherit = inherit},
                            err);
    free(list);
    free(environment);
    return rc;
}

int at_command_run(at_node *words, const at_lock *inherit, at_error *err)
{
    if (at_command_quiet() && !at_command_add(words, "--quiet"))
        return at_nomem(err);
    int rc = at_command_launch(words, true, SIGTERM, inherit, err);
    return rc && rc != AT_EINTERRUPTED
               ? at_fail(err, rc, "%s failed: %s", at_node_text(at_node_at(words, 1)), err->message)
               : rc;
}
