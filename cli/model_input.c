/* SPDX-License-Identifier: Apache-2.0
 * What eval, predict and export share: finding a model file, and how pictures come to its size.
 */
#include "model_input.h"
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
        at_fail(err, AT_EINPUT, "%s: there is no model.h5 in this folder; has its training ended?",
                run_or_file);
        free(path);
        return NULL;
    }
    return path;
}

int cli_read_fit(const char *told, const at_model_info *info, const char *path, at_fit *out,
                 at_error *err)
{
    *out = AT_FIT_STRETCH;
    if (strcmp(told, "auto") != 0)
        return at_fit_parse(told, out, err);
    if (info->fit && at_fit_parse(info->fit, out, err) < 0)
        return at_fail_in(err, "%s", path);
    return 0;
}
