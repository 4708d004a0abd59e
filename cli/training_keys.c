/* SPDX-License-Identifier: Apache-2.0
 * What commands that start other commands know of them.
 */
#include "training_keys.h"
#include "cli.h"

#include <atoll/nn.h>
#include <atoll/trainer.h>

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern const cli_command cmd_ingest;

enum { SCRATCH = 4096 }; /* more than the struct of any option table */

/* Reads the settings into a struct that is thrown away. */
static int check_keys(const at_option *table, const at_node *settings, at_error *err)
{
    char *scratch = calloc(1, SCRATCH);
    if (!scratch)
        return at_nomem(err);
    int code = at_options_init(table, scratch, err);
    if (code == 0) {
        code = at_options_from_node(table, scratch, settings, err);
        at_options_fini(table, scratch);
    }
    free(scratch);
    return code;
}

static int check_train(const char *model, const at_node *settings, at_error *err)
{
    int code = at_model_check(model, err);
    return code ? code : check_keys(at_train_options, settings, err);
}

/* Where a job's data set goes and when it resumes is the job's own matter. */
static int check_ingest(const at_node *settings, at_error *err)
{
    static const char *const taken[] = {"out", "resume", "json"};
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        const at_node *n = at_node_get(settings, taken[i]);
        if (n)
            return at_fail(err, AT_EINPUT, "%s: data.%s is set by the job itself", at_node_where(n),
                           taken[i]);
    }
    return check_keys(cmd_ingest.options, settings, err);
}

at_checks cli_training_checks(void)
{
    return (at_checks){.train = check_train, .ingest = check_ingest};
}

int64_t cli_training_batch(void)
{
    at_train_config config;
    if (at_options_init(at_train_options, &config, NULL))
        return 0;
    int64_t batch = config.batch;
    at_options_fini(at_train_options, &config);
    return batch;
}

char *cli_program_path(at_error *err)
{
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n < 0) {
        at_fail_errno(err, errno, "cannot find this program");
        return NULL;
    }
    path[n] = 0;
    char *copy = strdup(path);
    if (!copy)
        at_nomem(err);
    return copy;
}
