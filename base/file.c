/* SPDX-License-Identifier: Apache-2.0
 * Reading whole files, making and removing directories, joining paths. */
#include "atoll/base.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Grows the buffer until end of file, since the size of a pipe or of a file in /proc is not known.
 */
static int read_all(int fd, const char *path, size_t limit, size_t expected, char **data,
                    size_t *bytes, at_error *err)
{
    size_t capacity = expected + 2, length = 0; /* one byte to meet the end, one for the NUL */
    char *buffer = malloc(capacity);
    if (!buffer)
        return at_nomem(err);
    int rc;
    for (;;) {
        ssize_t got = read(fd, buffer + length, capacity - 1 - length);
        if (got < 0 && errno == EINTR && !at_interrupted())
            continue;
        if (got < 0) {
            rc = at_fail_errno(err, errno, "cannot read %s", path);
            goto fail_read;
        }
        if (got == 0)
            break;
        length += (size_t)got;
        if (length > limit) {
            rc = at_fail(err, AT_EINPUT, "%s is larger than %zu bytes", path, limit);
            goto fail_read;
        }
        if (length == capacity - 1) {
            char *larger = realloc(buffer, capacity *= 2);
            if (!larger) {
                rc = at_nomem(err);
                goto fail_read;
            }
            buffer = larger;
        }
    }
    buffer[length] = 0;
    *data = buffer;
    if (bytes)
        *bytes = length;
    return 0;
fail_read:
    free(buffer);
    return rc;
}

int at_file_read(const char *path, size_t limit, char **data, size_t *bytes, at_error *err)
{
    struct stat st;
    *data = NULL;
    int rc = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return at_fail_errno(err, errno, "cannot open %s", path);
    if (fstat(fd, &st))
        rc = at_fail_errno(err, errno, "cannot read %s", path);
    else if (S_ISDIR(st.st_mode))
        rc = at_fail(err, AT_EINPUT, "%s is a folder, not a file", path);
    else if (S_ISREG(st.st_mode) && (uint64_t)st.st_size > limit)
        rc = at_fail(err, AT_EINPUT, "%s is larger than %zu bytes", path, limit);
    if (!rc)
        rc = read_all(fd, path, limit, S_ISREG(st.st_mode) ? (size_t)st.st_size : 4096, data, bytes,
                      err);
    close(fd);
    return rc;
}

int at_make_dirs(const char *path, at_error *err)
{
    char *copy = strdup(path);
    if (!copy)
        return at_nomem(err);
    int rc = 0;
    for (char *end = copy; *end && !rc;) {
        end += strspn(end, "/");
        end += strcspn(end, "/");
        char kept = *end;
        *end = 0;
        if (mkdir(copy, 0777) && !at_dir_exists(copy))
            rc = errno == EEXIST ? at_fail(err, AT_EINPUT,
                                           "cannot make folder %s: %s is not a folder", path, copy)
                                 : at_fail_errno(err, errno, "cannot make folder %s", copy);
        *end = kept;
    }
    free(copy);
    return rc;
}

static int remove_at(int dir, const char *name, const char *shown, at_error *err);

static int remove_children(int fd, const char *shown, at_error *err)
{
    DIR *dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return at_fail_errno(err, errno, "cannot read folder %s", shown);
    }
    int rc = 0;
    for (struct dirent *entry; !rc && (entry = readdir(dir));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        char *path = at_path_join(shown, entry->d_name);
        rc = path ? remove_at(dirfd(dir), entry->d_name, path, err) : at_nomem(err);
        free(path);
    }
    closedir(dir);
    return rc;
}

/* Removes dir/name with all in it. What is opened is asked for as a directory and never through a
 * link, so that a link put there meanwhile leads nowhere. */
static int remove_at(int dir, const char *name, const char *shown, at_error *err)
{
    if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return at_fail_errno(err, errno, "cannot remove %s", shown);
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return at_fail_errno(err, errno, "cannot remove %s", shown);
    int rc = remove_children(fd, shown, err);
    if (!rc && unlinkat(dir, name, AT_REMOVEDIR) && errno != ENOENT)
        rc = at_fail_errno(err, errno, "cannot remove folder %s", shown);
    return rc;
}

int at_remove_tree(const char *path, at_error *err)
{
    return remove_at(AT_FDCWD, path, path, err);
}

bool at_file_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && !S_ISDIR(st.st_mode);
}

bool at_dir_exists(const char *path)
{
    int kept = errno;
    struct stat st;
    bool is_dir = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
    errno = kept;
    return is_dir;
}

char *at_path_join(const char *dir, const char *name)
{
    size_t length = strlen(dir);
    if (length == 0 || name[0] == '/')
        return strdup(name);
    return at_format("%s%s%s", dir, dir[length - 1] == '/' ? "" : "/", name);
}
