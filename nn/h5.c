/* SPDX-License-Identifier: Apache-2.0
 * Small typed access to HDF5 files: float datasets, text attributes, groups. The only user of the
 * library.
 *
 * Files come from outside, and libhdf5 does not bear hostile bytes everywhere, so only the little
 * that we write is ever read back:
 * - superblock version 2 or 3, in which every piece of metadata carries a checksum: damage is found
 * by the library before it believes a length (files of older layout are refused before it sees
 * them);
 * - hard links only, datasets stored whole and in this file: no external, virtual, chunked or
 * filtered data;
 * - strings of fixed length, so none of the unchecked "global heap";
 * - nothing is allocated for more bytes than the file has.
 * Files are written without time stamps, so equal contents give equal bytes.
 *
 * libhdf5 keeps global state and its serial build need not be thread-safe: one lock guards every
 * call into it.
 */
#include <errno.h>
#include <hdf5.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "h5.h"

enum { LIST_BYTES = 64512, PATH_BYTES = 512 };

struct at_h5 {
    hid_t file;
    size_t bytes; /* of an opened file; bounds what can lie in it */
    char path[];
};

/* Guards all state inside libhdf5. */
static pthread_mutex_t library = PTHREAD_MUTEX_INITIALIZER;

static void enter(void)
{
    pthread_mutex_lock(&library);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* its own printing, which is per thread */
}

static int leave(int status)
{
    pthread_mutex_unlock(&library);
    return status;
}

/* Closes an id of any kind, if it is one. */
static void drop(hid_t id)
{
    if (id >= 0)
        H5Idec_ref(id);
}

static herr_t take_reason(unsigned n, const H5E_error2_t *entry, void *out)
{
    (void)n;
    snprintf(out, 200, "%s", entry->desc ? entry->desc : "");
    return 1; /* the innermost is enough */
}

/* Fills err from HDF5's own error stack. */
static int library_fail(const at_h5 *h, int code, const char *what, const char *name, at_error *err)
{
    char reason[200] = "";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_reason, reason);
    return at_fail(err, code, "%s: %s '%s': %s", h->path, what, name, *reason ? reason : "failed");
}

/* ---- opening and closing ------------------------------------------------------------------------
 */
static at_h5 *new_handle(const char *path, at_error *err)
{
    size_t length = strlen(path) + 1;
    at_h5 *h = malloc(sizeof *h + length);
    if (!h) {
        at_nomem(err);
        return NULL;
    }
    *h = (at_h5){.file = H5I_INVALID_HID};
    memcpy(h->path, path, length);
    return h;
}

/* h, or NULL and h freed where no file was opened. */
static at_h5 *opened(at_h5 *h)
{
    if (h->file >= 0)
        return h;
    free(h);
    return NULL;
}

static hid_t create_file(const char *path)
{
    hid_t file = H5I_INVALID_HID;
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), creation = H5Pcreate(H5P_FILE_CREATE);
    if (access >= 0 && creation >= 0 &&
        H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V18) >= 0 &&
        H5Pset_obj_track_times(creation, false) >= 0)
        file = H5Fcreate(path, H5F_ACC_TRUNC, creation, access);
    H5Pclose(creation);
    H5Pclose(access);
    return file;
}

at_h5 *at_h5_create(const char *path, at_error *err)
{
    at_h5 *h = new_handle(path, err);
    if (!h)
        return NULL;
    enter();
    h->file = create_file(path);
    if (h->file < 0)
        library_fail(h, AT_EIO, "cannot create", path, err);
    leave(AT_OK);
    return opened(h);
}

/* Size, signature and superblock version, before the library sees the file. */
static int check_head(at_h5 *h, at_error *err)
{
    static const unsigned char signature[8] = "\211HDF\r\n\032\n";
    unsigned char head[9] = {0};
    struct stat st;
    if (stat(h->path, &st) != 0)
        return at_fail(err, AT_ENOENT, "%s: %m", h->path);
    FILE *f = S_ISREG(st.st_mode) ? fopen(h->path, "rb") : NULL;
    if (!f)
        return at_fail(err, AT_EINPUT, "%s: %s", h->path,
                       S_ISREG(st.st_mode) ? strerror(errno) : "not a file");
    size_t got = fread(head, 1, sizeof head, f);
    fclose(f);
    h->bytes = (size_t)st.st_size;
    if (got < sizeof head || memcmp(head, signature, sizeof signature) != 0)
        return at_fail(err, AT_EINPUT, "%s: not an HDF5 file", h->path);
    if (head[8] < 2 || head[8] > 3)
        return at_fail(err, AT_EINPUT,
                       "%s: an HDF5 file, but not atoll's (superblock version %d, not 2 or 3)",
                       h->path, head[8]);
    return AT_OK;
}

at_h5 *at_h5_open(const char *path, at_error *err)
{
    at_h5 *h = new_handle(path, err);
    if (!h)
        return NULL;
    if (check_head(h, err) == AT_OK) {
        enter();
        h->file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
        if (h->file < 0)
            library_fail(h, AT_EINPUT, "cannot open", path, err);
        leave(AT_OK);
    }
    return opened(h);
}

int at_h5_close(at_h5 *h, at_error *err)
{
    if (!h)
        return AT_OK;
    enter();
    int rc = AT_OK;
    if (H5Fflush(h->file, H5F_SCOPE_GLOBAL) < 0)
        rc = library_fail(h, AT_EIO, "cannot write", h->path, err);
    if (H5Fclose(h->file) < 0 && rc == AT_OK)
        rc = library_fail(h, AT_EIO, "cannot close", h->path, err);
    leave(rc);
    free(h);
    return rc;
}

/* ---- writing
 * -------------------------------------------------------------------------------------- */
/* A property list that makes missing groups on the way to a new object. */
static hid_t making_groups(void)
{
    hid_t list = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(list, 1);
    return list;
}

int at_h5_make_group(at_h5 *h, const char *path, at_error *err)
{
    enter();
    int rc = AT_OK;
    hid_t links = making_groups();
    hid_t group = H5Gcreate2(h->file, path, links, H5P_DEFAULT, H5P_DEFAULT);
    if (group < 0 || H5Gclose(group) < 0)
        rc = library_fail(h, AT_EIO, "cannot make group", path, err);
    H5Pclose(links);
    return leave(rc);
}

static int write_dataset(at_h5 *h, const char *name, const float *data, hid_t space, at_error *err)
{
    hid_t links = making_groups(), creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_obj_track_times(creation, false);
    H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER);
    hid_t set = H5Dcreate2(h->file, name, H5T_IEEE_F32LE, space, links, creation, H5P_DEFAULT);
    bool done =
        set >= 0 && H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0;
    int rc = done ? AT_OK : library_fail(h, AT_EIO, "cannot write dataset", name, err);
    drop(set);
    H5Pclose(creation);
    H5Pclose(links);
    return rc;
}

int at_h5_write_floats(at_h5 *h, const char *name, const float *data, int ndims,
                       const int64_t *dims, at_error *err)
{
    hsize_t extent[H5S_MAX_RANK];
    if (ndims < 0 || ndims > H5S_MAX_RANK)
        return at_fail(err, AT_EUSAGE, "%s: dataset '%s' with %d dimensions", h->path, name, ndims);
    for (int i = 0; i < ndims; i++)
        extent[i] = (hsize_t)dims[i];
    enter();
    hid_t space = H5Screate_simple(ndims, extent, NULL);
    int rc = space < 0 ? library_fail(h, AT_EIO, "cannot shape dataset", name, err)
                       : write_dataset(h, name, data, space, err);
    drop(space);
    return leave(rc);
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
    int rc = done ? AT_OK : library_fail(h, AT_EIO, "cannot write attribute", name, err);
    drop(attribute);
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
    enter();
    hid_t type = string_type(strlen(text) + 1, H5T_STR_NULLTERM);
    return leave(write_attribute(h, object, name, type, -1, text, err));
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
    enter();
    /* An empty list is what numpy makes of one: an array of no floats. */
    hid_t type = n ? string_type(width, H5T_STR_NULLPAD) : H5Tcopy(H5T_IEEE_F64LE);
    int rc = leave(write_attribute(h, object, name, type, (int64_t)n, cells, err));
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
        char part[PATH_BYTES];
        snprintf(part, sizeof part, "%s%zu", name, i);
        size_t count = n / chunks + (i < n % chunks);
        rc = attach_items(h, object, part, items + at, count, width, err);
        at += count;
    }
    return rc;
}

/* ---- reading
 * -------------------------------------------------------------------------------------- */
/* Every step of the path must be a hard link. */
static int check_links(const at_h5 *h, const char *path, at_error *err)
{
    char prefix[PATH_BYTES];
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
    drop(type);
    drop(creation);
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
    drop(space);
    if (*ndims < 0)
        return library_fail(h, AT_EINPUT, "no shape of dataset", name, err);
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
        library_fail(h, AT_EINPUT, "cannot open dataset", name, err);
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
    enter();
    hid_t set = open_dataset(h, name, &rank, got, err);
    drop(set);
    leave(AT_OK);
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
    enter();
    hid_t set = open_dataset(h, name, &ndims, dims, err);
    if (set < 0)
        return leave(rc);
    size_t got = 1; /* no overflow: read_shape bounds it */
    for (int i = 0; i < ndims; i++)
        got *= (size_t)dims[i];
    if (got != count)
        at_fail(err, rc, "%s: dataset '%s' has %zu values, not %zu", h->path, name, got, count);
    else if (H5Dread(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
        library_fail(h, rc, "cannot read dataset", name, err);
    else
        rc = AT_OK;
    H5Dclose(set);
    return leave(rc);
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
        library_fail(h, AT_EINPUT, "cannot read attribute", name, err);
        free(text);
        text = NULL;
    }
    drop(space);
    drop(type);
    return text;
}

char *at_h5_read_text(at_h5 *h, const char *name, at_error *err)
{
    char *text = NULL;
    enter();
    hid_t attribute = H5I_INVALID_HID;
    if (H5Aexists(h->file, name) <= 0)
        at_fail(err, AT_EINPUT, "%s: attribute '%s' is missing", h->path, name);
    else if ((attribute = H5Aopen(h->file, name, H5P_DEFAULT)) < 0)
        library_fail(h, AT_EINPUT, "cannot open attribute", name, err);
    else
        text = read_string(h, attribute, name, err);
    drop(attribute);
    leave(AT_OK);
    return text;
}

static int check_members(const at_h5 *h, hid_t group, const char *path, const char *const *names,
                         size_t n, at_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (H5Lexists(group, names[i], H5P_DEFAULT) <= 0)
            return at_fail(err, AT_EINPUT, "%s: '%s/%s' is missing", h->path, path, names[i]);
    H5G_info_t info;
    if (H5Gget_info(group, &info) < 0)
        return library_fail(h, AT_EINPUT, "cannot list group", path, err);
    for (hsize_t i = 0; info.nlinks != n && i < info.nlinks; i++) {
        char name[PATH_BYTES] = "";
        if (H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name,
                               H5P_DEFAULT) < 0)
            return library_fail(h, AT_EINPUT, "cannot list group", path, err);
        size_t k = 0;
        while (k < n && strcmp(names[k], name) != 0)
            k++;
        if (k == n)
            return at_fail(err, AT_EINPUT, "%s: '%s/%s' does not belong there", h->path, path,
                           name);
    }
    return AT_OK;
}

int at_h5_expect_members(at_h5 *h, const char *group, const char *const *names, size_t n,
                         at_error *err)
{
    enter();
    int rc = check_links(h, group, err);
    if (rc != AT_OK)
        return leave(rc);
    hid_t id = H5Gopen2(h->file, group, H5P_DEFAULT);
    if (id < 0)
        return leave(library_fail(h, AT_EINPUT, "cannot open group", group, err));
    rc = check_members(h, id, group, names, n, err);
    H5Gclose(id);
    return leave(rc);
}
