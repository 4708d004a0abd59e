/* SPDX-License-Identifier: Apache-2.0
 * models: what a file model_x.c defines: a family of models that one function writes down.
 *
 *     const at_model at_models_lenet[] = {{.name = "lenet", .summary = "...", .smallest = 12, .emit = emit}, {0}};
 */
#ifndef NN_MODELS_H
#define NN_MODELS_H

#include "rows.h"

typedef struct at_model {
    const char *name, *summary;
    int smallest;            /* height and width that it can take */
    at_model_spec published; /* what its authors gave it; zeros: 1,000 classes of 3x224x224 */
    /* Adds the rows behind the normalised pixels; the last one is of the logits. */
    void (*emit)(nn_rows *r, const void *variant);
    const void *variant; /* what emit tells the family's models apart by */
} at_model;

/* Each list ends with a model without name. */
#define MODELS(x) extern const at_model at_models_##x[];
#include "models.def"
#undef MODELS

/* ---- models_yaml.c: a model that a user wrote as rows in a file ------------------------------- */
bool models_is_yaml(const char *name); /* it ends with .yaml or .yml */
/* Adds the file's rows behind r->last, "pixels" in the file; AT_EINPUT with file, line and row. */
int models_read_yaml(nn_rows *r, const char *path, at_error *err);

#endif
