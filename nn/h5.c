/* SPDX-License-Identifier: Apache-2.0
 * HDF5 files: opening and closing them, and the one way into the library.
 *
 * Files come from outside, and libhdf5 does not bear hostile bytes everywhere, so only the little
 * that we write is ever read back:
 * - superblock version 2 or 3, in which every piece of metadata carries a checksum: the library
 *   finds damage before it believes a length (older layouts are refused before it sees them);
 * - hard links, and datasets stored plainly in this file: none external, virtual, chunked,
 * filtered;
 * - strings of fixed length, so none of the unchecked "global heap";
 * - nothing is allocated for more bytes than the file has.
 * Files are written without time stamps, so equal contents give equal bytes.
 *
 * libhdf5 keeps global state and its serial build need not be thread-safe: one lock guards every
 * call into it.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "h5_library.h"

/* Guards all state inside libhdf5. */
static pthread_mutex_t library = PTHREAD_MUTEX_INITIALIZER;

void h5_enter(void)
{
    pthread_mutex_lock(&library);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* its own printing, which is per thread */
}

int h5_leave(int status)
{
    pthread_mutex_unlock(&library);
    return status;
}

void h5_drop(hid_t id)
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

int h5_fail(const at_h5 *h, int code, const char *what, const char *name, at_error *err)
{
    char reason[200] = "";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_reason, reason);
    return at_fail(err, code, "%s: %s '%s': %s", h->path, what, name, *reason ? reason : "failed");
}

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

/* Opens without a lock on the file, which some cluster file systems do not have; what we write gets
 * its name only when it is whole. */
static hid_t access_list(void)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
#if H5_VERSION_GE(1, 10, 7)
    H5Pset_file_locking(access, false, true);
#endif
    return access;
}

static hid_t create_file(const char *path)
{
    hid_t access = access_list(), creation = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V18);
    H5Pset_obj_track_times(creation, false);
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, creation, access);
    h5_drop(creation);
    h5_drop(access);
    return file;
}

at_h5 *at_h5_create(const char *path, at_error *err)
{
    at_h5 *h = new_handle(path, err);
    if (!h)
        return NULL;
    h5_enter();
    h->file = create_file(path);
    if (h->file < 0)
        h5_fail(h, AT_EIO, "cannot create", path, err);
    h5_leave(AT_OK);
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
        h5_enter();
        hid_t access = access_list();
        h->file = H5Fopen(path, H5F_ACC_RDONLY, access);
        if (h->file < 0)
            h5_fail(h, AT_EINPUT, "cannot open", path, err);
        h5_drop(access);
        h5_leave(AT_OK);
    }
    return opened(h);
}

int at_h5_close(at_h5 *h, at_error *err)
{
    if (!h)
        return AT_OK;
    h5_enter();
    int rc = AT_OK;
    if (H5Fflush(h->file, H5F_SCOPE_GLOBAL) < 0)
        rc = h5_fail(h, AT_EIO, "cannot write", h->path, err);
    if (H5Fclose(h->file) < 0 && rc == AT_OK)
        rc = h5_fail(h, AT_EIO, "cannot close", h->path, err);
    h5_leave(rc);
    free(h);
    return rc;
}
