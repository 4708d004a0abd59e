/* SPDX-License-Identifier: Apache-2.0
 * How a cache's folder comes to its name and goes from it.
 *
 * It is filled as <name>.partial.<pid> and renamed when complete and on disk, so a folder under its
 * final name is whole. Whoever changes what stands under the name holds .<name>.lock; readers do
 * not need it. With the lock held every partial folder of that name is a dead process's.
 */
#include "internal.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of a link, where it leads: so the link stays, and who comes by another name takes the same lock. */
static int take_path(at_cache_site *s, const char *path, at_error *err)
{
    struct stat st;
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    if (!(s->path = strndup(path, end)))
        return at_nomem(err);
    if (lstat(s->path, &st) || !S_ISLNK(st.st_mode))
        return 0;
    char *place = realpath(s->path, NULL);
    if (!place)
        return at_fail_errno(err, errno, "%s is a link, make the folder that it leads to", s->path);
    free(s->path);
    s->path = place;
    return 0;
}

static int split_path(at_cache_site *s, const char *path, at_error *err)
{
    int rc = take_path(s, path, err);
    if (rc)
        return rc;
    const char *slash = strrchr(s->path, '/');
    s->name = strdup(slash ? slash + 1 : s->path);
    size_t before = slash ? (size_t)(slash - s->path) : 0;
    s->parent = slash ? strndup(s->path, before ? before : 1) : strdup(".");
    if (!s->name || !s->parent)
        return at_nomem(err);
    if (!*s->name || strcmp(s->name, ".") == 0 || strcmp(s->name, "..") == 0)
        return at_fail(err, AT_EUSAGE, "'%s' cannot be a cache's folder", path);
    return 0;
}

int at_cache_site_init(at_cache_site *s, const char *path, at_error *err)
{
    *s = (at_cache_site){0};
    int rc = split_path(s, path, err);
    if (!rc)
        rc = at_make_dirs(s->parent, err);
    if (!rc) {
        s->partial = at_format("%s.partial.%ld", s->path, (long)getpid());
        s->outdated = at_format("%s.partial.%ld.old", s->path, (long)getpid());
        if (!s->partial || !s->outdated)
            rc = at_nomem(err);
    }
    if (rc)
        at_cache_site_fini(s);
    return rc;
}

void at_cache_site_fini(at_cache_site *s)
{
    at_lock_release(s->lock);
    free(s->path);
    free(s->parent);
    free(s->name);
    free(s->partial);
    free(s->outdated);
    *s = (at_cache_site){0};
}

int at_cache_site_lock(at_cache_site *s, bool wait, at_error *err)
{
    at_error local = {0};
    char *path = at_format("%s/.%s.lock", s->parent, s->name);
    if (!path)
        return at_nomem(err);
    s->lock = at_lock_take(path, false, &local);
    if (!s->lock && local.code == AT_EPEER && wait) {
        at_log(AT_LOG_INFO, "another process fills %s: waiting for it", s->path);
        s->lock = at_lock_take(path, true, &local);
    }
    free(path);
    return s->lock ? 0 : at_fail(err, local.code, "%s", local.message);
}

/* <name>.partial.<digits>, maybe with .old */
static bool is_partial(const char *entry, const char *name)
{
    static const char middle[] = ".partial.";
    size_t length = strlen(name);
    if (strncmp(entry, name, length) != 0 ||
        strncmp(entry + length, middle, sizeof middle - 1) != 0)
        return false;
    const char *at = entry + length + sizeof middle - 1;
    if (!isdigit((unsigned char)*at))
        return false;
    while (isdigit((unsigned char)*at))
        at++;
    return !*at || strcmp(at, ".old") == 0;
}

int at_cache_site_sweep(const at_cache_site *s, at_error *err)
{
    DIR *dir = opendir(s->parent);
    if (!dir)
        return at_fail_errno(err, errno, "cannot read folder %s", s->parent);
    int rc = 0;
    for (struct dirent *entry; !rc && (entry = readdir(dir));) {
        if (!is_partial(entry->d_name, s->name))
            continue;
        char *path = at_path_join(s->parent, entry->d_name);
        rc = path ? at_remove_tree(path, err) : at_nomem(err);
        free(path);
    }
    closedir(dir);
    return rc;
}

static int sync_folder(const char *path, at_error *err)
{
    int rc = 0;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || (fsync(fd) && errno != EINVAL)) /* EINVAL: the file system has no such thing */
        rc = at_fail_errno(err, errno, "cannot sync folder %s", path);
    if (fd >= 0)
        close(fd);
    return rc;
}

static int move(const char *from, const char *to, at_error *err)
{
    return rename(from, to) ? at_fail_errno(err, errno, "cannot rename %s to %s", from, to) : 0;
}

int at_cache_site_fill(const at_cache_site *s, at_cache_plan *p, at_error *err)
{
    struct stat st;
    bool replaces = lstat(s->path, &st) == 0;
    int rc = at_cache_fill(p, s->partial, err);
    if (!rc)
        rc = sync_folder(s->partial, err);
    if (!rc && replaces)
        rc = move(s->path, s->outdated, err);
    if (rc)
        goto fail_fill;
    rc = move(s->partial, s->path, err);
    if (rc)
        goto fail_move;
    rc = sync_folder(s->parent, err);
    if (replaces)
        at_remove_tree(s->outdated, NULL); /* where it cannot be, the next sweep tries again */
    return rc;
fail_move:
    if (replaces)
        move(s->outdated, s->path, NULL);
fail_fill:
    at_remove_tree(s->partial, NULL);
    return rc;
}

int at_cache_site_remove(const at_cache_site *s, at_error *err)
{
    int rc = move(s->path, s->outdated, err);
    return rc ? rc : at_remove_tree(s->outdated, err);
}
