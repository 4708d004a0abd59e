/* SPDX-License-Identifier: Apache-2.0
 * What h5.c, h5_read.c and h5_write.c share, which are the only users of HDF5.
 *
 *     h5_enter();
 *     ... calls into the library ...
 *     return h5_leave(rc);
 */
#ifndef NN_H5_LIBRARY_H
#define NN_H5_LIBRARY_H

#include <hdf5.h>

#include "h5.h"

enum { H5_PATH_BYTES = 512 };

struct at_h5 {
    hid_t file;
    size_t bytes; /* of an opened file; bounds what can lie in it */
    char path[];
};

/* Takes the lock that guards every call into the library, and silences its printing. */
void h5_enter(void);
int h5_leave(int status); /* returns status */
/* Closes an id of any kind, if it is one. */
void h5_drop(hid_t id);
/* Fills err from the library's own error stack: "<file>: <what> '<name>': <reason>". */
int h5_fail(const at_h5 *h, int code, const char *what, const char *name, at_error *err);

#endif
