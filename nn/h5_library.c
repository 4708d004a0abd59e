/* SPDX-License-Identifier: Apache-2.0
 * Reading through libhdf5: every object is judged before a byte of it is read.
 */
#include <stdlib.h>
#include <string.h>

#include "h5_library.h"

/* Every step of the path must be a hard link. */
static int check_links(const at_h5 *h, const char *path, at_error *err)
{
    char prefix[H5_PATH_BYTES];
    H5L_info_t info;
    if (strlen(path) >= sizeof prefix)
        return at_fail(err, AT_EINPUT, "%s: a name of %zu bytes", h->path, strlen(path));
    for (const char *end = path; end; end = *end ? end : NULL) {
        end += strcspn(end, "/");
        snprintf(prefix, sizeof prefix, "%.*s", (int)(end - path), path);
        end += *end == '/';
        if (!*prefix)
            continue;
        if (H5Lexists(h->file, prefix, H5P_DEFAULT) <= 0)
            return at_fail(err, AT_EINPUT, "%s: '%s' is missing", h->path, prefix);
        if (H5Lget_info(h->file, prefix, &info, H5P_DEFAULT) < 0 || info.type != H5L_TYPE_HARD)
            return at_fail(err, AT_EINPUT, "%s: '%s' is a link to elsewhere", h->path, prefix);
    }
    return AT_OK;
}

/* What is not plain float32 stored whole in this file; NULL: nothing. */
static const char *find_strangeness(hid_t set)
{
    const char *strange = NULL;
    hid_t type = H5Dget_type(set), creation = H5Dget_create_plist(set);
    if (type < 0 || H5Tequal(type, H5T_IEEE_F32LE) <= 0)
        strange = "is not float32";
    else if (creation < 0 || H5Pget_layout(creation) != H5D_CONTIGUOUS)
        strange = "is chunked, filtered or virtual, not plain";
    else if (H5Pget_external_count(creation) != 0)
        strange = "lies in another file";
    h5_drop(type);
    h5_drop(creation);
    return strange;
}

/* Rank and extents of an open dataset, its product bounded by the file's size. */
static int read_shape(const at_h5 *h, hid_t set, const char *name, int *ndims, hsize_t *dims,
                      at_error *err)
{
    hid_t space = H5Dget_space(set);
    *ndims = space < 0 ? -1 : H5Sget_simple_extent_ndims(space);
    if (*ndims >= 0 && H5Sget_simple_extent_dims(space, dims, NULL) != *ndims)
        *ndims = -1;
    h5_drop(space);
    if (*ndims < 0)
        return h5_fail(h, AT_EINPUT, "no shape of dataset", name, err);
    size_t bytes = sizeof(float);
    for (int i = 0; i < *ndims; i++)
        if (!at_mul(bytes, (size_t)dims[i], h->bytes, &bytes))
            return at_fail(err, AT_EINPUT, "%s: dataset '%s' claims more bytes than the file has",
                           h->path, name);
    if (H5Dget_storage_size(set) != bytes)
        return at_fail(err, AT_EINPUT, "%s: dataset '%s' has no values stored", h->path, name);
    return AT_OK;
}

/* Opens and judges a dataset. */
static hid_t open_dataset(const at_h5 *h, const char *name, int *ndims, hsize_t *dims,
                          at_error *err)
{
    if (check_links(h, name, err) != AT_OK)
        return H5I_INVALID_HID;
    hid_t set = H5Dopen2(h->file, name, H5P_DEFAULT);
    if (set < 0) {
        h5_fail(h, AT_EINPUT, "cannot open dataset", name, err);
        return set;
    }
    const char *strange = find_strangeness(set);
    if (strange)
        at_fail(err, AT_EINPUT, "%s: dataset '%s' %s", h->path, name, strange);
    if (!strange && read_shape(h, set, name, ndims, dims, err) == AT_OK)
        return set;
    H5Dclose(set);
    return H5I_INVALID_HID;
}

int library_shape(const at_h5 *h, const char *name, int *ndims, int64_t *dims, at_error *err)
{
    hsize_t got[H5S_MAX_RANK];
    h5_enter();
    hid_t set = open_dataset(h, name, ndims, got, err);
    h5_drop(set);
    h5_leave(AT_OK);
    for (int i = 0; set >= 0 && i < *ndims; i++)
        dims[i] = (int64_t)got[i];
    return set < 0 ? AT_EINPUT : AT_OK;
}

int library_floats(const at_h5 *h, const char *name, float *data, size_t count, at_error *err)
{
    hsize_t dims[H5S_MAX_RANK];
    int ndims = 0, rc = AT_EINPUT;
    h5_enter();
    hid_t set = open_dataset(h, name, &ndims, dims, err);
    if (set < 0)
        return h5_leave(rc);
    size_t got = 1; /* no overflow: read_shape bounds it */
    for (int i = 0; i < ndims; i++)
        got *= (size_t)dims[i];
    if (got != count)
        at_fail(err, rc, "%s: dataset '%s' has %zu values, not %zu", h->path, name, got, count);
    else if (H5Dread(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
        h5_fail(h, rc, "cannot read dataset", name, err);
    else
        rc = AT_OK;
    H5Dclose(set);
    return h5_leave(rc);
}

/* The strings of an attribute of fixed length, one or a list. */
static int read_strings(const at_h5 *h, hid_t attribute, const char *name, h5_names *out,
                        at_error *err)
{
    hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    hssize_t n = space < 0 ? -1 : H5Sget_simple_extent_npoints(space);
    size_t width = type < 0 ? 0 : H5Tget_size(type), bytes = 0;
    char *text = NULL;
    int rc = AT_EINPUT;
    if (n == 0)
        rc = AT_OK; /* numpy makes an empty list one of floats */
    else if (n < 0 || H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0 ||
             H5Sget_simple_extent_ndims(space) > 1)
        at_fail(err, rc, "%s: attribute '%s' is not text of fixed length", h->path, name);
    else if (!at_mul(width, (size_t)n, h->bytes, &bytes))
        at_fail(err, rc, "%s: attribute '%s' claims more bytes than the file has", h->path, name);
    else if (!(text = calloc(bytes + 1, 1)))
        rc = at_nomem(err);
    else if (H5Aread(attribute, type, text) < 0)
        h5_fail(h, rc, "cannot read attribute", name, err);
    else
        rc = AT_OK;
    for (hssize_t i = 0; rc == AT_OK && i < n; i++)
        rc = h5_names_add(out, text + (size_t)i * width, width, err);
    free(text);
    h5_drop(space);
    h5_drop(type);
    return rc;
}

int library_strings(const at_h5 *h, const char *object, const char *name, h5_names *out,
                    bool *found, at_error *err)
{
    hid_t attribute = H5I_INVALID_HID;
    *found = false;
    h5_enter();
    int rc = strcmp(object, "/") == 0 ? AT_OK : check_links(h, object, err);
    htri_t there = rc == AT_OK ? H5Aexists_by_name(h->file, object, name, H5P_DEFAULT) : 0;
    if (there < 0) /* damage is not absence */
        rc = h5_fail(h, AT_EINPUT, "cannot look for attribute", name, err);
    if (there > 0) {
        *found = true;
        attribute = H5Aopen_by_name(h->file, object, name, H5P_DEFAULT, H5P_DEFAULT);
        rc = attribute < 0 ? h5_fail(h, AT_EINPUT, "cannot open attribute", name, err)
                           : read_strings(h, attribute, name, out, err);
    }
    h5_drop(attribute);
    return h5_leave(rc);
}

typedef struct listing {
    h5_names *names;
    at_error *err;
    int rc;
} listing;

static herr_t list_link(hid_t group, const char *name, const H5L_info_t *info, void *context)
{
    (void)group, (void)info;
    listing *l = context;
    l->rc = h5_names_add(l->names, name, strlen(name), l->err);
    return l->rc == AT_OK ? 0 : -1;
}

/* In the order in which they are stored: for any other one libhdf5 makes a table first, which it
 * frees before it has filled it where the file is damaged. */
static int list_links(const at_h5 *h, hid_t group, const char *path, h5_names *out, at_error *err)
{
    listing l = {.names = out, .err = err};
    if (H5Literate(group, H5_INDEX_NAME, H5_ITER_NATIVE, NULL, list_link, &l) >= 0)
        return AT_OK;
    return l.rc != AT_OK ? l.rc : h5_fail(h, AT_EINPUT, "cannot list group", path, err);
}

int library_members(const at_h5 *h, const char *path, h5_names *out, at_error *err)
{
    h5_enter();
    int rc = check_links(h, path, err);
    if (rc != AT_OK)
        return h5_leave(rc);
    hid_t group = H5Gopen2(h->file, path, H5P_DEFAULT);
    if (group < 0)
        return h5_leave(h5_fail(h, AT_EINPUT, "cannot open group", path, err));
    rc = list_links(h, group, path, out, err);
    H5Gclose(group);
    return h5_leave(rc);
}
