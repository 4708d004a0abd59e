/* SPDX-License-Identifier: Apache-2.0
 * models: what a file model_x.c defines, and what all of them share.
 *
 *     const at_model at_model_lenet = {.name = "lenet", .summary = "...", .emit = emit};
 */
#ifndef NN_MODELS_H
#define NN_MODELS_H

#include <atoll/nn.h>

typedef struct at_model {
    const char *name, *summary;
    /* Adds rows behind `data`, which are normalised pixels, and returns the name of the row of
     * logits. A size that the model cannot take: NULL with AT_EINPUT. */
    const char *(*emit)(at_graph *g, const at_model_spec *spec, const char *data, at_error *err);
} at_model;

#define MODEL(x) extern const at_model at_model_##x;
#include "models.def"
#undef MODEL

#endif
