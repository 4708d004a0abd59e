/* SPDX-License-Identifier: Apache-2.0
 * Files that appear under their name whole or not at all, also over a crash or a loss of power:
 * written under a temporary name in the same folder, fsync'd, renamed, and the folder fsync'd. */
#include "atoll/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAMES_TRIED = 1000 };

struct at_atomic {
    char *path, *temporary;
    FILE *stream;
};

/* A new file of an unused name: threads have a counter, and nodes that share a file system and have
 * equal pids are kept apart by O_EXCL. Returns its descriptor or -1 with errno. */
static int create_temporary(const char *path, char **name)
{
    static atomic_uint counter;
    for (int i = 0; i < NAMES_TRIED; i++) {
        *name = at_format("%s.tmp.%ld.%u", path, (long)getpid(), atomic_fetch_add(&counter, 1));
        if (!*name) {
            errno = ENOMEM;
            return -1;
        }
        int fd = open(*name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0)
            return fd;
        int reason = errno;
        free(*name);
        *name = NULL;
        errno = reason;
        if (reason != EEXIST)
            return -1;
    }
    return -1;
}

at_atomic *at_atomic_open(const char *path, at_error *err)
{
    at_atomic *f = calloc(1, sizeof *f);
    if (!f || !(f->path = strdup(path))) {
        at_nomem(err);
        goto fail_alloc;
    }
    if (at_dir_exists(path)) {
        at_fail(err, AT_EINPUT, "cannot write %s: it is a folder", path);
        goto fail_alloc;
    }
    int fd = create_temporary(path, &f->temporary);
    if (fd < 0) {
        at_fail_errno(err, errno, "cannot write %s", path);
        goto fail_alloc;
    }
    f->stream = fdopen(fd, "w+");
    if (!f->stream) {
        at_nomem(err);
        goto fail_stream;
    }
    return f;
fail_stream:
    close(fd);
    unlink(f->temporary);
fail_alloc:
    if (f) {
        free(f->temporary);
        free(f->path);
    }
    free(f);
    return NULL;
}

FILE *at_atomic_stream(at_atomic *f)
{
    return f->stream;
}

const char *at_atomic_path(const at_atomic *f)
{
    return f->temporary;
}

static int sync_folder_of(const char *path, at_error *err)
{
    const char *slash = strrchr(path, '/');
    size_t length = slash == path ? 1 : slash ? (size_t)(slash - path) : 0;
    char *folder = slash ? strndup(path, length) : strdup(".");
    if (!folder)
        return at_nomem(err);
    int rc = 0;
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        rc = at_fail_errno(err, errno, "cannot open folder %s", folder);
    else if (fsync(fd) && errno != EINVAL &&
             errno != EROFS) /* file systems that have no such thing */
        rc = at_fail_errno(err, errno, "cannot sync folder %s", folder);
    if (fd >= 0)
        close(fd);
    free(folder);
    return rc;
}

/* Flushes and closes the stream whatever happens; errno says what failed first. */
static bool finish_stream(FILE *stream)
{
    bool failed = ferror(stream) != 0;
    int reason = EIO;
    if (!failed && (fflush(stream) || fsync(fileno(stream)))) {
        reason = errno;
        failed = true;
    }
    if (fclose(stream) && !failed) {
        reason = errno;
        failed = true;
    }
    errno = reason;
    return !failed;
}

static void drop(at_atomic *f)
{
    free(f->temporary);
    free(f->path);
    free(f);
}

int at_atomic_commit(at_atomic *f, at_error *err)
{
    int rc = 0;
    if (!finish_stream(f->stream) || rename(f->temporary, f->path)) {
        rc = at_fail_errno(err, errno, "cannot write %s", f->path);
        unlink(f->temporary);
    } else {
        rc = sync_folder_of(f->path, err);
    }
    drop(f);
    return rc;
}

void at_atomic_abort(at_atomic *f)
{
    if (!f)
        return;
    fclose(f->stream);
    unlink(f->temporary);
    drop(f);
}

int at_file_write(const char *path, const void *data, size_t bytes, at_error *err)
{
    at_error local = {0};
    err = err ? err : &local;
    at_atomic *f = at_atomic_open(path, err);
    if (!f)
        return err->code;
    if (bytes && fwrite(data, 1, bytes, f->stream) != bytes) {
        int rc = at_fail_errno(err, errno, "cannot write %s", path);
        at_atomic_abort(f);
        return rc;
    }
    return at_atomic_commit(f, err);
}
