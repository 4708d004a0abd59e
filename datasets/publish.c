/* SPDX-License-Identifier: Apache-2.0
 * The last step of an ingest: one renaming, after which all is on disk. The data set's bytes depend
 * on the source and the options alone, not on how often its making was stopped. */
#include "rows.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int at_sync_path(const char *path, at_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int failed = fd < 0 || (fsync(fd) && errno != EINVAL); /* EINVAL: the file system has none */
    int code = failed ? at_fail_errno(err, errno, "cannot sync %s", path) : 0;
    if (fd >= 0)
        close(fd);
    return code;
}

/* SQLite's header counts the transactions, at two places (fileformat2.html, 1.3.7 and 1.3.17), and how
 * many there were depends on how often the ingest was stopped. Nobody has the catalog open now. */
int at_settle_catalog(const char *path, at_error *err)
{
    static const off_t counters[] = {24, 92};
    static const uint8_t one[4] = {0, 0, 0, 1};
    int fd = open(path, O_RDWR | O_CLOEXEC);
    bool good = fd >= 0;
    for (size_t i = 0; good && i < sizeof counters / sizeof *counters; i++)
        good = pwrite(fd, one, sizeof one, counters[i]) == sizeof one;
    good = good && fsync(fd) == 0;
    int code = good ? 0 : at_fail_errno(err, errno, "cannot write %s", path);
    if (fd >= 0)
        close(fd);
    return code;
}

/* malloc'd */
static char *parent_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return !slash          ? strdup(".")
           : slash == path ? strdup("/")
                           : strndup(path, (size_t)(slash - path));
}

int at_publish_folder(const char *partial, const char *out, at_rows *rows, at_error *err)
{
    char *lock = at_path_join(partial, ".lock"), *catalog = at_path_join(partial, "catalog.db"),
         *parent = parent_of(out);
    int code = lock && catalog && parent ? at_settle_catalog(catalog, err) : at_nomem(err);
    if (code == 0 && unlink(lock) && errno != ENOENT)
        code = at_fail_errno(err, errno, "cannot remove %s", lock);
    if (code == 0)
        at_dataset_write_index(partial, rows);
    if (code == 0)
        code = at_sync_path(partial, err);
    if (code == 0 && rename(partial, out))
        code = at_fail_errno(err, errno, "cannot rename %s to %s", partial, out);
    if (code == 0)
        code = at_sync_path(parent, err);
    free(lock);
    free(catalog);
    free(parent);
    return code;
}

int at_publish_nothing(const char *partial, const char *dataset, at_error *err)
{
    at_dataset_write_index(dataset, NULL); /* which a killed run may have left undone */
    return at_remove_tree(partial, err);
}

int at_publish_catalog(const char *partial, const char *dataset, at_rows *rows, at_error *err)
{
    char *from = at_path_join(partial, "catalog.db"), *to = at_path_join(dataset, "catalog.db");
    int code = from && to ? at_settle_catalog(from, err) : at_nomem(err);
    if (code == 0 && rename(from, to))
        code = at_fail_errno(err, errno, "cannot rename %s to %s", from, to);
    if (code == 0)
        code = at_sync_path(dataset, err);
    if (code == 0)
        at_dataset_write_index(dataset, rows);
    if (code == 0)
        code = at_remove_tree(partial, err);
    free(from);
    free(to);
    return code;
}
