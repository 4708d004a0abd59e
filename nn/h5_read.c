/* SPDX-License-Identifier: Apache-2.0
 * Reading HDF5 that may come from a stranger. A file in the first layout is read by h5_classic.c,
 * one in a layout with checksums by libhdf5; from here up nobody sees which.
 */
#include <stdlib.h>
#include <string.h>

#include "h5_library.h"

int at_h5_members(at_h5 *h, const char *group, h5_names *out, at_error *err)
{
    return h->classic.data ? classic_members(&h->classic, group, out, err)
                           : library_members(h, group, out, err);
}

int at_h5_shape(at_h5 *h, const char *name, int *ndims, int64_t dims[H5_DIMS], at_error *err)
{
    return h->classic.data ? classic_shape(&h->classic, name, ndims, dims, err)
                           : library_shape(h, name, ndims, dims, err);
}

int at_h5_read_floats(at_h5 *h, const char *name, float *data, size_t count, at_error *err)
{
    return h->classic.data ? classic_floats(&h->classic, name, data, count, err)
                           : library_floats(h, name, data, count, err);
}

static int read_strings(const at_h5 *h, const char *object, const char *name, h5_names *out,
                        bool *found, at_error *err)
{
    return h->classic.data ? classic_strings(&h->classic, object, name, out, found, err)
                           : library_strings(h, object, name, out, found, err);
}

char *at_h5_read_text(at_h5 *h, const char *name, at_error *err)
{
    h5_names one = {0};
    bool found = false;
    char *text = NULL;
    int rc = read_strings(h, "/", name, &one, &found, err);
    if (rc == AT_OK && !found)
        at_fail(err, AT_EINPUT, "%s: attribute '%s' is missing", h->path, name);
    else if (rc == AT_OK && one.count != 1)
        at_fail(err, AT_EINPUT, "%s: attribute '%s' is not one string", h->path, name);
    else if (rc == AT_OK && !(text = strdup(one.items[0])))
        at_nomem(err);
    h5_names_fini(&one);
    return text;
}

int at_h5_has_text(at_h5 *h, const char *name, bool *found, at_error *err)
{
    h5_names ignored = {0};
    int rc = read_strings(h, "/", name, &ignored, found, err);
    h5_names_fini(&ignored);
    return rc;
}

int at_h5_read_list(at_h5 *h, const char *object, const char *name, h5_names *out, at_error *err)
{
    char part[H5_PATH_BYTES];
    bool found = false;
    int rc = read_strings(h, object, name, out, &found, err);
    for (int i = 0; rc == AT_OK && (i == 0 ? !found : found); i++) {
        snprintf(part, sizeof part, "%s%d", name, i);
        rc = read_strings(h, object, part, out, &found, err);
        if (rc == AT_OK && out->bytes > h->bytes)
            rc = at_fail(err, AT_EINPUT, "%s: attribute '%s' claims more bytes than the file has",
                         h->path, name);
    }
    return rc;
}

int at_h5_expect_members(at_h5 *h, const char *group, const char *const *names, size_t n,
                         at_error *err)
{
    h5_names there = {0};
    const char *within = strcmp(group, "/") == 0 ? "" : group;
    int rc = at_h5_members(h, group, &there, err);
    for (size_t i = 0; i < n && rc == AT_OK; i++)
        if (!h5_names_have(&there, names[i]))
            rc = at_fail(err, AT_EINPUT, "%s: '%s/%s' is missing", h->path, within, names[i]);
    for (size_t i = 0; i < there.count && there.count != n && rc == AT_OK; i++) {
        size_t k = 0;
        while (k < n && strcmp(names[k], there.items[i]) != 0)
            k++;
        if (k == n)
            rc = at_fail(err, AT_EINPUT, "%s: '%s/%s' does not belong there", h->path, within,
                         there.items[i]);
    }
    h5_names_fini(&there);
    return rc;
}

int at_h5_expect_shape(at_h5 *h, const char *name, int ndims, const int64_t *dims, at_error *err)
{
    int64_t got[H5_DIMS];
    int rank = 0, rc = at_h5_shape(h, name, &rank, got, err);
    if (rc != AT_OK)
        return rc;
    if (rank != ndims)
        return at_fail(err, AT_EINPUT, "%s: dataset '%s' has %d dimensions, not %d", h->path, name,
                       rank, ndims);
    for (int i = 0; i < ndims; i++)
        if (got[i] != dims[i])
            return at_fail(err, AT_EINPUT,
                           "%s: dataset '%s' has extent %lld in dimension %d, not %lld", h->path,
                           name, (long long)got[i], i, (long long)dims[i]);
    return AT_OK;
}
