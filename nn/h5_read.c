/* SPDX-License-Identifier: Apache-2.0
 * Reading HDF5 that may come from a stranger: every object is judged before a byte of it is read.
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

int at_h5_expect_shape(at_h5 *h, const char *name, int ndims, const int64_t *dims, at_error *err)
{
    hsize_t got[H5S_MAX_RANK];
    int rank = 0;
    h5_enter();
    hid_t set = open_dataset(h, name, &rank, got, err);
    h5_drop(set);
    h5_leave(AT_OK);
    if (set < 0)
        return AT_EINPUT;
    if (rank != ndims)
        return at_fail(err, AT_EINPUT, "%s: dataset '%s' has %d dimensions, not %d", h->path, name,
                       rank, ndims);
    for (int i = 0; i < ndims; i++)
        if (got[i] != (hsize_t)dims[i])
            return at_fail(err, AT_EINPUT,
                           "%s: dataset '%s' has extent %llu in dimension %d, not %lld", h->path,
                           name, (unsigned long long)got[i], i, (long long)dims[i]);
    return AT_OK;
}

int at_h5_read_floats(at_h5 *h, const char *name, float *data, size_t count, at_error *err)
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

/* The bytes of a scalar fixed-length string attribute. */
static char *read_string(const at_h5 *h, hid_t attribute, const char *name, at_error *err)
{
    hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    size_t bytes = type < 0 ? 0 : H5Tget_size(type);
    char *text = NULL;
    if (type < 0 || space < 0 || H5Tget_class(type) != H5T_STRING ||
        H5Tis_variable_str(type) != 0 || H5Sget_simple_extent_npoints(space) != 1)
        at_fail(err, AT_EINPUT, "%s: attribute '%s' is not one string of fixed length", h->path,
                name);
    else if (bytes > h->bytes)
        at_fail(err, AT_EINPUT, "%s: attribute '%s' claims more bytes than the file has", h->path,
                name);
    else if (!(text = calloc(bytes + 1, 1)))
        at_nomem(err);
    else if (H5Aread(attribute, type, text) < 0) {
        h5_fail(h, AT_EINPUT, "cannot read attribute", name, err);
        free(text);
        text = NULL;
    }
    h5_drop(space);
    h5_drop(type);
    return text;
}

char *at_h5_read_text(at_h5 *h, const char *name, at_error *err)
{
    char *text = NULL;
    h5_enter();
    hid_t attribute = H5I_INVALID_HID;
    if (H5Aexists(h->file, name) <= 0)
        at_fail(err, AT_EINPUT, "%s: attribute '%s' is missing", h->path, name);
    else if ((attribute = H5Aopen(h->file, name, H5P_DEFAULT)) < 0)
        h5_fail(h, AT_EINPUT, "cannot open attribute", name, err);
    else
        text = read_string(h, attribute, name, err);
    h5_drop(attribute);
    h5_leave(AT_OK);
    return text;
}

static int check_members(const at_h5 *h, hid_t group, const char *path, const char *const *names,
                         size_t n, at_error *err)
{
    const char *within = strcmp(path, "/") == 0 ? "" : path;
    for (size_t i = 0; i < n; i++)
        if (H5Lexists(group, names[i], H5P_DEFAULT) <= 0)
            return at_fail(err, AT_EINPUT, "%s: '%s/%s' is missing", h->path, within, names[i]);
    H5G_info_t info;
    if (H5Gget_info(group, &info) < 0)
        return h5_fail(h, AT_EINPUT, "cannot list group", path, err);
    for (hsize_t i = 0; info.nlinks != n && i < info.nlinks; i++) {
        char name[H5_PATH_BYTES] = "";
        if (H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name,
                               H5P_DEFAULT) < 0)
            return h5_fail(h, AT_EINPUT, "cannot list group", path, err);
        size_t k = 0;
        while (k < n && strcmp(names[k], name) != 0)
            k++;
        if (k == n)
            return at_fail(err, AT_EINPUT, "%s: '%s/%s' does not belong there", h->path, within,
                           name);
    }
    return AT_OK;
}

int at_h5_expect_members(at_h5 *h, const char *group, const char *const *names, size_t n,
                         at_error *err)
{
    h5_enter();
    int rc = check_links(h, group, err);
    if (rc != AT_OK)
        return h5_leave(rc);
    hid_t id = H5Gopen2(h->file, group, H5P_DEFAULT);
    if (id < 0)
        return h5_leave(h5_fail(h, AT_EINPUT, "cannot open group", group, err));
    rc = check_members(h, id, group, names, n, err);
    H5Gclose(id);
    return h5_leave(rc);
}

bool at_h5_has_text(at_h5 *h, const char *name)
{
    h5_enter();
    return h5_leave(H5Aexists(h->file, name) > 0);
}
