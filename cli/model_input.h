/* SPDX-License-Identifier: Apache-2.0
 * What eval and predict share: how pictures come to a model's size.
 */
#ifndef ATOLL_CLI_MODEL_INPUT_H
#define ATOLL_CLI_MODEL_INPUT_H

#include <atoll/datasets.h>
#include <atoll/nn.h>

/* The option of both. */
#define CLI_FIT_OPTION(place)                                                                      \
    {                                                                                              \
        "fit", AT_OPT_CHOICE, place, "auto",                                                       \
            "how pictures come to the model's size; auto: as in its training, else stretch",       \
            .choices = "auto|" AT_FIT_CHOICES                                                      \
    }
/* told: the option's value. */
int cli_read_fit(const char *told, const at_model_info *info, const char *path, at_fit *out,
                 at_error *err);

#endif
