/* SPDX-License-Identifier: Apache-2.0
 * Writing HDF5: groups, float datasets, text attributes; nothing carries a time stamp.
 */
#include <stdlib.h>
#include <string.h>

#include "h5_library.h"

enum { LIST_BYTES = 64512 }; /* Keras's HDF5_OBJECT_HEADER_LIMIT */

/* Makes the groups of path that are missing, up to its last slash. HDF5 can do that itself, but
 * would stamp them with the time. */
static int make_parents(at_h5 *h, const char *path, at_error *err)
{
    char prefix[H5_PATH_BYTES];
    int rc = AT_OK;
    if (strlen(path) >= sizeof prefix)
        return at_fail(err, AT_EINPUT, "%s: a name of %zu bytes", h->path, strlen(path));
    hid_t creation = H5Pcreate(H5P_GROUP_CREATE);
    H5Pset_obj_track_times(creation, false);
    for (const char *slash = path; (slash = strchr(slash, '/')) && rc == AT_OK; slash++) {
        snprintf(prefix, sizeof prefix, "%.*s", (int)(slash - path), path);
        if (!*prefix || H5Lexists(h->file, prefix, H5P_DEFAULT) > 0)
            continue;
        hid_t group = H5Gcreate2(h->file, prefix, H5P_DEFAULT, creation, H5P_DEFAULT);
        if (group < 0)
            rc = h5_fail(h, AT_EIO, "cannot make group", prefix, err);
        h5_drop(group);
    }
    h5_drop(creation);
    return rc;
}

int at_h5_make_group(at_h5 *h, const char *path, at_error *err)
{
    char *as_parent = at_format("%s/", path);
    if (!as_parent)
        return at_nomem(err);
    h5_enter();
    int rc = h5_leave(make_parents(h, as_parent, err));
    free(as_parent);
    return rc;
}

/* stored: the type in the file; native: that of data. */
static int write_dataset(at_h5 *h, const char *name, hid_t stored, hid_t native, const void *data,
                         hid_t space, at_error *err)
{
    int made = make_parents(h, name, err);
    if (made != AT_OK)
        return made;
    hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_obj_track_times(creation, false);
    H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER);
    hid_t set = H5Dcreate2(h->file, name, stored, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    bool done = set >= 0 && H5Dwrite(set, native, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0;
    int rc = done ? AT_OK : h5_fail(h, AT_EIO, "cannot write dataset", name, err);
    h5_drop(set);
    h5_drop(creation);
    return rc;
}

static int write_values(at_h5 *h, const char *name, bool integers, const void *data, int ndims,
                        const int64_t *dims, at_error *err)
{
    hsize_t extent[H5S_MAX_RANK];
    if (ndims < 0 || ndims > H5S_MAX_RANK)
        return at_fail(err, AT_EUSAGE, "%s: dataset '%s' with %d dimensions", h->path, name, ndims);
    for (int i = 0; i < ndims; i++)
        extent[i] = (hsize_t)dims[i];
    h5_enter();
    hid_t space = H5Screate_simple(ndims, extent, NULL);
    int rc = AT_OK;
    if (space < 0)
        rc = h5_fail(h, AT_EIO, "cannot shape dataset", name, err);
    else if (integers)
        rc = write_dataset(h, name, H5T_STD_I64LE, H5T_NATIVE_INT64, data, space, err);
    else
        rc = write_dataset(h, name, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, data, space, err);
    h5_drop(space);
    return h5_leave(rc);
}

int at_h5_write_floats(at_h5 *h, const char *name, const float *data, int ndims,
                       const int64_t *dims, at_error *err)
{
    return write_values(h, name, false, data, ndims, dims, err);
}

int at_h5_write_integers(at_h5 *h, const char *name, const int64_t *data, int ndims,
                         const int64_t *dims, at_error *err)
{
    return write_values(h, name, true, data, ndims, dims, err);
}

/* Writes data of type into a new attribute; n < 0: a scalar, otherwise an array of n. Closes type.
 */
static int write_attribute(at_h5 *h, const char *object, const char *name, hid_t type, int64_t n,
                           const void *data, at_error *err)
{
    hsize_t extent = (hsize_t)n;
    hid_t space = n < 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &extent, NULL);
    hid_t attribute = H5Acreate_by_name(h->file, object, name, type, space, H5P_DEFAULT,
                                        H5P_DEFAULT, H5P_DEFAULT);
    bool done = attribute >= 0 && (n == 0 || H5Awrite(attribute, type, data) >= 0);
    int rc = done ? AT_OK : h5_fail(h, AT_EIO, "cannot write attribute", name, err);
    h5_drop(attribute);
    H5Sclose(space);
    H5Tclose(type);
    return rc;
}

static hid_t string_type(size_t bytes, H5T_str_t pad)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, bytes ? bytes : 1);
    H5Tset_strpad(type, pad);
    H5Tset_cset(type, H5T_CSET_UTF8);
    return type;
}

int at_h5_attach_text(at_h5 *h, const char *object, const char *name, const char *text,
                      at_error *err)
{
    h5_enter();
    hid_t type = string_type(strlen(text) + 1, H5T_STR_NULLTERM);
    return h5_leave(write_attribute(h, object, name, type, -1, text, err));
}

int at_h5_write_text(at_h5 *h, const char *name, const char *text, at_error *err)
{
    return at_h5_attach_text(h, "/", name, text, err);
}

static int attach_items(at_h5 *h, const char *object, const char *name, const char *const *items,
                        size_t n, size_t width, at_error *err)
{
    char *cells = calloc(n ? n : 1, width);
    if (!cells)
        return at_nomem(err);
    for (size_t i = 0; i < n; i++)
        memcpy(cells + i * width, items[i], strlen(items[i]));
    h5_enter();
    /* An empty list is what numpy makes of one: an array of no floats. */
    hid_t type = n ? string_type(width, H5T_STR_NULLPAD) : H5Tcopy(H5T_IEEE_F64LE);
    int rc = h5_leave(write_attribute(h, object, name, type, (int64_t)n, cells, err));
    free(cells);
    return rc;
}

int at_h5_attach_list(at_h5 *h, const char *object, const char *name, const char *const *items,
                      size_t n, at_error *err)
{
    size_t width = 1;
    for (size_t i = 0; i < n; i++)
        width = strlen(items[i]) > width ? strlen(items[i]) : width;
    if (width > LIST_BYTES)
        return at_fail(err, AT_EINPUT, "%s: an item of '%s' has %zu bytes", h->path, name, width);
    size_t most = LIST_BYTES / width;
    if (n <= most)
        return attach_items(h, object, name, items, n, width, err);
    size_t chunks = (n + most - 1) / most, at = 0;
    int rc = AT_OK;
    for (size_t i = 0; i < chunks && rc == AT_OK; i++) { /* as numpy.array_split */
        char part[H5_PATH_BYTES];
        snprintf(part, sizeof part, "%s%zu", name, i);
        size_t count = n / chunks + (i < n % chunks);
        rc = attach_items(h, object, part, items + at, count, width, err);
        at += count;
    }
    return rc;
}
