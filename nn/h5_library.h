/* SPDX-License-Identifier: Apache-2.0
 * What h5.c, h5_library.c, h5_read.c and h5_write.c share, which are the only users of HDF5.
 *
 *     h5_enter();
 *     ... calls into the library ...
 *     return h5_leave(rc);
 */
#ifndef NN_H5_LIBRARY_H
#define NN_H5_LIBRARY_H

#include <hdf5.h>

#include "h5_classic.h"

struct at_h5 {
    hid_t file;         /* none where `classic` is set */
    h5_classic classic; /* data is NULL unless the file has the first layout */
    void *mapped;       /* the whole file; NULL: not mapped */
    size_t bytes;       /* of an opened file; bounds what can lie in it */
    char path[];
};

/* Takes the lock that guards every call into the library, and silences its printing. */
void h5_enter(void);
int h5_leave(int status); /* returns status */
/* Closes an id of any kind, if it is one. */
void h5_drop(hid_t id);
/* Fills err from the library's own error stack: "<file>: <what> '<name>': <reason>". */
int h5_fail(const at_h5 *h, int code, const char *what, const char *name, at_error *err);

/* ---- h5_library.c: reading through libhdf5 -------------------------------------------------- */
int library_members(const at_h5 *h, const char *group, h5_names *out, at_error *err);
int library_shape(const at_h5 *h, const char *name, int *ndims, int64_t *dims, at_error *err);
int library_floats(const at_h5 *h, const char *name, float *data, size_t count, at_error *err);
int library_strings(const at_h5 *h, const char *object, const char *name, h5_names *out,
                    bool *found, at_error *err);

#endif
