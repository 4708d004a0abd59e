/* SPDX-License-Identifier: Apache-2.0
 * Advisory locks. Open file description locks, not the older POSIX kind: those are lost when any
 * descriptor of the file is closed in the process and do not exclude its other threads. The file
 * stays after release: removing it would let two holders lock two files of one name. */
#include "atoll/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct at_lock {
    int fd;
};

static int take(int fd, const char *path, bool wait, at_error *err)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    while (fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &whole)) {
        if (errno == EINTR && !at_interrupted())
            continue;
        if (!wait && (errno == EAGAIN || errno == EACCES))
            return at_fail(err, AT_EPEER, "%s is locked by another process", path);
        return at_fail_errno(err, errno, "cannot lock %s", path);
    }
    return 0;
}

at_lock *at_lock_take(const char *path, bool wait, at_error *err)
{
    at_lock *lock = malloc(sizeof *lock);
    if (!lock) {
        at_nomem(err);
        return NULL;
    }
    lock->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (lock->fd < 0) {
        at_fail_errno(err, errno, "cannot open %s", path);
        goto fail_open;
    }
    if (take(lock->fd, path, wait, err))
        goto fail_take;
    return lock;
fail_take:
    close(lock->fd);
fail_open:
    free(lock);
    return NULL;
}

void at_lock_release(at_lock *lock)
{
    if (!lock)
        return;
    close(lock->fd);
    free(lock);
}

bool at_lock_is_held(const char *path)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = open(path, O_RDWR | O_CLOEXEC);
    bool held = fd >= 0 && fcntl(fd, F_OFD_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
    if (fd >= 0)
        close(fd);
    return held;
}

int at_lock_descriptor(const at_lock *lock)
{
    return lock->fd;
}
