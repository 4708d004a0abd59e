/* SPDX-License-Identifier: Apache-2.0
 * h5: what model files need of HDF5 beyond the typed access in <atoll/nn.h>. Objects are named by
 * their path from the root ("model_weights/c1"); "/" is the root itself.
 */
#ifndef NN_H5_H
#define NN_H5_H

#include <atoll/nn.h>

/* Makes the group, and those above it that are missing. */
int at_h5_make_group(at_h5 *h, const char *path, at_error *err);
/* A string attribute of an object. */
int at_h5_attach_text(at_h5 *h, const char *object, const char *name, const char *text,
                      at_error *err);
/* A list of strings as Keras keeps it: an array of fixed-length strings, NAME0, NAME1, ... where
 * one attribute would pass 64,512 bytes. */
int at_h5_attach_list(at_h5 *h, const char *object, const char *name, const char *const *items,
                      size_t n, at_error *err);
/* Whether "/" has the attribute. */
bool at_h5_has_text(at_h5 *h, const char *name);
/* AT_EINPUT unless the group holds exactly these n members; names the first that is missing or
 * extra. */
int at_h5_expect_members(at_h5 *h, const char *group, const char *const *names, size_t n,
                         at_error *err);
/* AT_EINPUT unless the dataset is plain float32 of this shape. */
int at_h5_expect_shape(at_h5 *h, const char *name, int ndims, const int64_t *dims, at_error *err);

#endif
