/* SPDX-License-Identifier: Apache-2.0
 * Keeps the caches under one folder within a limit of bytes, and on a disk that is too full for the
 * next one makes room: whole ones go, the least recently used first, never one that a process has
 * open (see cache_file.c for the lock). Only folders with a
 * cache's name, <16 hex digits>-<H>x<W>x<C>[-<fit>][-<form>]-v<version>, are ever looked at.
 */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

typedef struct kept {
    char *path;
    uint64_t bytes;
    struct timespec used;
} kept;

typedef struct census {
    kept *items;
    size_t n, capacity;
    uint64_t bytes;
} census;

/* How many characters of s are a cache's name; 0: none. */
static size_t match_name(const char *s)
{
    size_t hex = strspn(s, "0123456789abcdef");
    if (hex != AT_CACHE_KEY || s[hex] != '-')
        return 0;
    size_t shape = strspn(s + hex + 1, "0123456789x");
    const char *version = s + hex + 1 + shape;
    while (shape && *version == '-' && version[1] != 'v')
        version += 1 + strspn(version + 1, "abcdefghijklmnopqrstuvwxyz0123456789");
    if (!shape || strncmp(version, "-v", 2) != 0)
        return 0;
    size_t digits = strspn(version + 2, "0123456789");
    return digits ? (size_t)(version + 2 + digits - s) : 0;
}

void at_cache_touch(const char *path)
{
    char *used = at_path_join(path, "used");
    int fd = used ? open(used, O_WRONLY | O_CREAT | O_CLOEXEC, 0666) : -1;
    if (fd >= 0) {
        futimens(fd, NULL);
        close(fd);
    }
    free(used);
}

/* Sizes of the files of a cache; its last use, or when it was made where that is not known. A link is
 * somebody's own doing and stays. */
static int measure(kept *k)
{
    struct stat st;
    if (lstat(k->path, &st) || !S_ISDIR(st.st_mode))
        return AT_ENOENT;
    k->used = st.st_mtim;
    DIR *dir = opendir(k->path);
    if (!dir)
        return AT_EIO;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
            continue;
        k->bytes += (uint64_t)st.st_size;
        if (strcmp(entry->d_name, "used") == 0)
            k->used = st.st_mtim;
    }
    closedir(dir);
    return 0;
}

static int add(census *c, const char *dir, const char *name, at_error *err)
{
    if (c->n == c->capacity) {
        size_t capacity = c->capacity ? 2 * c->capacity : 16;
        kept *items = realloc(c->items, capacity * sizeof *items);
        if (!items)
            return at_nomem(err);
        c->items = items;
        c->capacity = capacity;
    }
    kept k = {.path = at_path_join(dir, name)};
    if (!k.path)
        return at_nomem(err);
    if (measure(&k)) { /* just gone, or not ours */
        free(k.path);
        return 0;
    }
    c->items[c->n++] = k;
    c->bytes += k.bytes;
    return 0;
}

/* Removes what a killed filler of some other cache left; one that still works has the lock. */
static void sweep_dead(const char *dir, const char *name, size_t length)
{
    at_cache_site site;
    char *key = strndup(name, length);
    char *path = key ? at_path_join(dir, key) : NULL;
    if (path && at_cache_site_init(&site, path, NULL) == 0) {
        if (at_cache_site_lock(&site, false, NULL) == 0)
            at_cache_site_sweep(&site, NULL);
        at_cache_site_fini(&site);
    }
    free(path);
    free(key);
}

static int take_census(census *c, const char *dir, const char *keep, at_error *err)
{
    DIR *listing = opendir(dir);
    if (!listing)
        return at_fail_errno(err, errno, "cannot read folder %s", dir);
    int rc = 0;
    for (struct dirent *entry; !rc && (entry = readdir(listing));) {
        size_t length = match_name(entry->d_name);
        if (!length || (strlen(keep) == length && strncmp(entry->d_name, keep, length) == 0))
            continue;
        if (entry->d_name[length] == 0)
            rc = add(c, dir, entry->d_name, err);
        else if (strncmp(entry->d_name + length, ".partial.", 9) == 0)
            sweep_dead(dir, entry->d_name, length);
    }
    closedir(listing);
    return rc;
}

/* True where no process has it open; the lock is held until *fd is closed. One that lacks its file
 * is nobody's. */
static bool lock_unused(const char *path, int *fd)
{
    char *file = at_format("%s/%s.atc", path, at_split_name(AT_TRAIN));
    *fd = file ? open(file, O_RDWR | O_CLOEXEC) : -1;
    bool missing = file && *fd < 0 && errno == ENOENT;
    free(file);
    if (*fd < 0)
        return missing;
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(*fd, F_OFD_SETLK, &whole) == 0;
}

static bool evict(const char *path)
{
    at_cache_site site;
    int fd = -1;
    bool gone = false;
    if (at_cache_site_init(&site, path, NULL))
        return false;
    if (at_cache_site_lock(&site, false, NULL) == 0 && lock_unused(path, &fd))
        gone = at_cache_site_remove(&site, NULL) == 0;
    if (fd >= 0)
        close(fd);
    at_cache_site_fini(&site);
    return gone;
}

static int by_use(const void *a, const void *b)
{
    const struct timespec *x = &((const kept *)a)->used, *y = &((const kept *)b)->used;
    if (x->tv_sec != y->tv_sec)
        return x->tv_sec < y->tv_sec ? -1 : 1;
    return (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

uint64_t at_cache_free_bytes(const char *dir)
{
    struct statvfs fs;
    return statvfs(dir, &fs) == 0 ? (uint64_t)fs.f_bavail * fs.f_frsize : UINT64_MAX;
}

int at_cache_evict(const char *dir, const char *keep, uint64_t needed, uint64_t limit,
                   at_error *err)
{
    census c = {0};
    int rc = take_census(&c, dir, keep, err);
    if (!rc && c.n)
        qsort(c.items, c.n, sizeof *c.items, by_use);
    for (size_t i = 0; !rc && i < c.n; i++) {
        bool over = c.bytes + needed > limit;
        if (!over && at_cache_free_bytes(dir) >= needed)
            break;
        if (evict(c.items[i].path)) {
            at_log(AT_LOG_INFO, "removed the cache %s, %llu MiB, %s", c.items[i].path,
                   (unsigned long long)(c.items[i].bytes >> 20),
                   over ? "to keep to the limit" : "for the disk is full");
            c.bytes -= c.items[i].bytes;
        }
    }
    if (!rc && c.bytes + needed > limit)
        at_log(AT_LOG_WARN, "%s: caches in use take %llu MiB, the limit is %llu MiB", dir,
               (unsigned long long)((c.bytes + needed) >> 20), (unsigned long long)(limit >> 20));
    for (size_t i = 0; i < c.n; i++)
        free(c.items[i].path);
    free(c.items);
    return rc;
}
