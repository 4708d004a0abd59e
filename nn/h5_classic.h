/* SPDX-License-Identifier: Apache-2.0
 * h5_classic: the first layout of HDF5 (superblock 0), which h5py and so Keras write unless told
 * otherwise. Its metadata carries no checksums, and libhdf5 believes it; so it is read here, by
 * code that looks at every number before it follows it. After the "HDF5 File Format Specification
 * Version 3.0" (The HDF Group), of which this is the part that Keras's files use.
 *
 *     h5_classic c = {.data = bytes, .bytes = n, .path = path};
 *     if (classic_check(&c, err) == AT_OK) ...
 */
#ifndef NN_H5_CLASSIC_H
#define NN_H5_CLASSIC_H

#include "h5.h"

enum { H5_PATH_BYTES = 512 };

typedef struct h5_classic {
    const unsigned char *data; /* the file; borrowed */
    size_t bytes;
    const char *path; /* for messages; borrowed */
    uint64_t root;    /* its object header */
} h5_classic;

/* A piece of the file, or nothing: {NULL, 0}. */
typedef struct h5_span {
    const unsigned char *at;
    size_t bytes;
} h5_span;

/* ---- h5_classic.c: superblock, groups, object headers ------------------------------------------ */
int classic_check(h5_classic *c, at_error *err);
uint64_t classic_number(const unsigned char *p, int bytes); /* little-endian */
/* bytes of the file at the address; nothing where that passes its end. */
h5_span classic_span(const h5_classic *c, uint64_t address, uint64_t bytes);
int classic_damaged(const h5_classic *c, const char *what, const char *name, at_error *err);
/* The object's header, by its path from the root; links to elsewhere are refused. */
int classic_find(const h5_classic *c, const char *path, uint64_t *header, at_error *err);
int classic_members(const h5_classic *c, const char *group, h5_names *out, at_error *err);
/* Calls visit() with each message of an object header until it returns other than 0, which is
 * returned; a damaged header is AT_EINPUT. */
typedef int (*classic_visit)(void *context, unsigned type, h5_span message, at_error *err);
int classic_messages(const h5_classic *c, uint64_t header, const char *name, classic_visit visit,
                     void *context, at_error *err);

/* ---- h5_classic_values.c: datasets and attributes ---------------------------------------------- */
int classic_shape(const h5_classic *c, const char *name, int *ndims, int64_t *dims, at_error *err);
int classic_floats(const h5_classic *c, const char *name, float *data, size_t count, at_error *err);
int classic_strings(const h5_classic *c, const char *object, const char *name, h5_names *out,
                    bool *found, at_error *err);

#endif
