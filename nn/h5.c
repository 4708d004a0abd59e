/* SPDX-License-Identifier: Apache-2.0
 * HDF5 files: opening and closing them, and the one way into the library.
 *
 * Files come from outside, and libhdf5 does not bear hostile bytes everywhere, so it sees only
 * - superblock version 2 or 3, in which every piece of metadata carries a checksum: the library
 *   finds damage before it believes a length (the first layout, which h5py writes, is read by
 *   h5_classic.c and never reaches it; others are refused);
 * - hard links, and datasets stored plainly in this file: none external, virtual, chunked or
 *   filtered;
 * - strings of fixed length, so none of the unchecked "global heap".
 * Nothing is allocated for more bytes than the file has.
 * Files are written without time stamps, so equal contents give equal bytes.
 *
 * libhdf5 keeps global state and its serial build need not be thread-safe: one lock guards every
 * call into it.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "h5_library.h"

/* Guards all state inside libhdf5. */
static pthread_mutex_t library = PTHREAD_MUTEX_INITIALIZER;

/* A file that could not be closed, its disk full, stays open inside libhdf5, whose own tidying up at
 * exit then crashes on it. Files are closed by at_h5_close, so nothing is left for it to do. */
static void never_at_exit(void)
{
    H5dont_atexit();
}

void h5_enter(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, never_at_exit);
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
    static const char system[] = "error message = '";
    (void)n;
    const char *text = entry->desc ? entry->desc : "", *inner = strstr(text, system);
    text = inner ? inner + strlen(system) : text;
    snprintf(out, 200, "%.*s", (int)strcspn(text, inner ? "'\n" : "\n"), text);
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

/* ---- lists of names ---------------------------------------------------------------------------- */
int h5_names_add(h5_names *n, const char *text, size_t bytes, at_error *err)
{
    if ((n->count & (n->count - 1)) == 0) { /* full at every power of two */
        char **items = realloc(n->items, (n->count ? 2 * n->count : 1) * sizeof *items);
        if (!items)
            return at_nomem(err);
        n->items = items;
    }
    char *copy = strndup(text, bytes);
    if (!copy)
        return at_nomem(err);
    n->bytes += bytes;
    n->items[n->count++] = copy;
    return AT_OK;
}

bool h5_names_have(const h5_names *n, const char *text)
{
    for (size_t i = 0; i < n->count; i++)
        if (strcmp(n->items[i], text) == 0)
            return true;
    return false;
}

void h5_names_fini(h5_names *n)
{
    for (size_t i = 0; i < n->count; i++)
        free(n->items[i]);
    free(n->items);
    *n = (h5_names){0};
}

/* ---- files -------------------------------------------------------------------------------------- */
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

/* Opens by the superblock's version; image: the whole file in memory, or NULL. */
static int open_layout(at_h5 *h, const unsigned char *head, const void *image, at_error *err)
{
    static const unsigned char signature[8] = "\211HDF\r\n\032\n";
    if (h->bytes < 9 || memcmp(head, signature, sizeof signature) != 0)
        return at_fail(err, AT_EINPUT, "%s: not an HDF5 file", h->path);
    if (head[8] == 0) {
        h->classic = (h5_classic){.data = image, .bytes = h->bytes, .path = h->path};
        return AT_OK;
    }
    if (head[8] < 2 || head[8] > 3)
        return at_fail(err, AT_EINPUT, "%s: an HDF5 file with superblock version %d, not 0, 2 or 3",
                       h->path, head[8]);
    /* An image must not have the name of a file, and below a file there is none. */
    char *name = at_format("%s%s", h->path, image ? "/image" : "");
    if (!name)
        return at_nomem(err);
    h5_enter();
    hid_t access = access_list();
    if (image) {
        H5Pset_fapl_core(access, 1 << 20, false);
        H5Pset_file_image(access, (void *)image, h->bytes);
    }
    h->file = H5Fopen(name, H5F_ACC_RDONLY, access);
    free(name);
    if (h->file < 0)
        h5_fail(h, AT_EINPUT, "cannot open", h->path, err);
    h5_drop(access);
    return h5_leave(h->file < 0 ? AT_EINPUT : AT_OK);
}

static int open_file(at_h5 *h, int fd, at_error *err)
{
    unsigned char head[9] = {0};
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return at_fail(err, AT_EINPUT, "%s: not a file", h->path);
    h->bytes = (size_t)st.st_size;
    if (pread(fd, head, sizeof head, 0) < 0)
        return at_fail_errno(err, errno, "%s", h->path);
    int rc = open_layout(h, head, NULL, err);
    if (rc != AT_OK || h->file >= 0)
        return rc;
    void *image = mmap(NULL, h->bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (image == MAP_FAILED)
        return at_fail_errno(err, errno, "%s", h->path);
    h->mapped = image;
    h->classic.data = image;
    return classic_check(&h->classic, err);
}

at_h5 *at_h5_open(const char *path, at_error *err)
{
    at_h5 *h = new_handle(path, err);
    if (!h)
        return NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* nor waits for a pipe's writer */
    int rc = fd < 0 ? at_fail_errno(err, errno, "%s", path) : open_file(h, fd, err);
    if (fd >= 0)
        close(fd);
    if (rc == AT_OK)
        return h;
    at_h5_close(h, NULL);
    return NULL;
}

at_h5 *at_h5_open_bytes(const char *path, const void *data, size_t bytes, at_error *err)
{
    at_h5 *h = new_handle(path, err);
    if (!h)
        return NULL;
    h->bytes = bytes;
    int rc = open_layout(h, data, data, err);
    if (rc == AT_OK && h->classic.data)
        rc = classic_check(&h->classic, err);
    if (rc == AT_OK)
        return h;
    at_h5_close(h, NULL);
    return NULL;
}

int at_h5_close(at_h5 *h, at_error *err)
{
    if (!h)
        return AT_OK;
    int rc = AT_OK;
    h5_enter();
    if (h->file >= 0 && H5Fflush(h->file, H5F_SCOPE_GLOBAL) < 0)
        rc = h5_fail(h, AT_EIO, "cannot write", h->path, err);
    if (h->file >= 0 && H5Fclose(h->file) < 0 && rc == AT_OK)
        rc = h5_fail(h, AT_EIO, "cannot close", h->path, err);
    h5_leave(rc);
    if (h->mapped)
        munmap(h->mapped, h->bytes);
    free(h);
    return rc;
}
