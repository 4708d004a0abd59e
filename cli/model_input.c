/* SPDX-License-Identifier: Apache-2.0
 * What eval, predict and export share: finding a model file.
 */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

char *cli_model_path(const char *run_or_file, at_error *err)
{
    if (!at_dir_exists(run_or_file)) {
        char *path = strdup(run_or_file);
        if (!path)
            at_nomem(err);
        return path;
    }
    char *path = at_path_join(run_or_file, "model.h5");
    if (path && !at_file_exists(path)) {
        at_fail(err, AT_EINPUT, "%s: there is no model.h5 in this folder; has its training ended?", run_or_file);
        free(path);
        return NULL;
    }
    return path;
}
