/* SPDX-License-Identifier: Apache-2.0
 * h5: what model files need of HDF5 beyond the typed access in <atoll/nn.h>. Objects are named by
 * their path from the root ("model_weights/c1"); "/" is the root itself.
 */
#ifndef NN_H5_H
#define NN_H5_H

#include <atoll/nn.h>

/* Copied strings; zero it to begin. */
typedef struct h5_names {
    char **items;
    size_t count, bytes; /* all of them together */
} h5_names;
int h5_names_add(h5_names *n, const char *text, size_t bytes, at_error *err);
bool h5_names_have(const h5_names *n, const char *text);
void h5_names_fini(h5_names *n);

enum { H5_DIMS = 32 };

/* A file that lies in memory, which is borrowed; path is for messages. */
at_h5 *at_h5_open_bytes(const char *path, const void *data, size_t bytes, at_error *err);

/* ---- writing -------------------------------------------------------------------------------- */
/* Makes the group, and those above it that are missing. */
int at_h5_make_group(at_h5 *h, const char *path, at_error *err);
/* A string attribute of an object. */
int at_h5_attach_text(at_h5 *h, const char *object, const char *name, const char *text,
                      at_error *err);
/* A list of strings as Keras keeps it: an array of fixed-length strings, NAME0, NAME1, ... where
 * one attribute would pass 64,512 bytes. */
int at_h5_attach_list(at_h5 *h, const char *object, const char *name, const char *const *items,
                      size_t n, at_error *err);
/* Plain integers of 64 bits. */
int at_h5_write_integers(at_h5 *h, const char *name, const int64_t *data, int ndims,
                         const int64_t *dims, at_error *err);

/* ---- reading: AT_EINPUT names the file and the thing ---------------------------------------- */
/* Whether "/" has the attribute; an error is not absence. */
int at_h5_has_text(at_h5 *h, const char *name, bool *found, at_error *err);
/* The strings of an attribute, joined where it was split; none where there is none. */
int at_h5_read_list(at_h5 *h, const char *object, const char *name, h5_names *out, at_error *err);
/* What lies in the group, in no order. */
int at_h5_members(at_h5 *h, const char *group, h5_names *out, at_error *err);
/* AT_EINPUT unless the group holds exactly these n members; names the first that is missing or
 * extra. */
int at_h5_expect_members(at_h5 *h, const char *group, const char *const *names, size_t n,
                         at_error *err);
/* The shape of a dataset; AT_EINPUT unless it is plain float32. */
int at_h5_shape(at_h5 *h, const char *name, int *ndims, int64_t dims[H5_DIMS], at_error *err);
/* AT_EINPUT unless the dataset is plain float32 of this shape. */
int at_h5_expect_shape(at_h5 *h, const char *name, int ndims, const int64_t *dims, at_error *err);

#endif
