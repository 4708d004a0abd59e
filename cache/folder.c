/* SPDX-License-Identifier: Apache-2.0
 * Where caches are made: in the folder that was told (cache.dir), else $ATOLL_CACHE_DIR, else
 * $XDG_CACHE_HOME/atoll (which counts only if absolute), else ~/.cache/atoll.
 *
 * A cache belongs on the node's own disk. Where the last two lie on a network file system, as homes
 * of clusters do, $SLURM_TMPDIR/atoll or $TMPDIR/atoll is taken instead if that is local: it may go
 * with the job, so a site names its lasting scratch disk in ATOLL_CACHE_DIR.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

/* f_type of file systems whose bytes come over a network, as statfs(2) and the kernel have them. */
static const uint32_t remote_types[] = {
    0x6969,     /* NFS */
    0x0bd00bd0, /* Lustre */
    0x47504653, /* GPFS */
    0x19830326, /* BeeGFS */
    0x00c36400, /* Ceph */
    0xff534d42, /* CIFS */
    0xfe534d42, /* SMB 2 */
    0x5346414f, /* OpenAFS */
    0x6b414653, /* AFS */
    0x01021997, /* 9P */
    0x7461636f, /* OCFS2 */
    0x01161970, /* GFS2 */
    0xaad7aaea, /* PanFS */
};

/* Cuts the last name off; false: none is left. */
static bool to_parent(char *path)
{
    char *slash = strrchr(path, '/');
    if (!slash || !path[1])
        return false;
    slash[slash == path] = 0;
    return true;
}

bool at_folder_is_remote(const char *path)
{
    struct statfs fs;
    char *at = strdup(path);
    bool remote = false, found = false;
    while (at && !(found = statfs(at, &fs) == 0) && to_parent(at))
        ;
    for (size_t i = 0; found && i < sizeof remote_types / sizeof *remote_types; i++)
        remote = remote || (uint32_t)fs.f_type == remote_types[i];
    free(at);
    return remote;
}

/* $NAME/atoll on a local disk; NULL: there is none. */
static char *temporary(const char *name, bool (*remote)(const char *path))
{
    const char *dir = getenv(name);
    bool good = dir && *dir == '/' && at_dir_exists(dir) && !remote(dir);
    return good ? at_path_join(dir, "atoll") : NULL;
}

static char *of_user(bool (*remote)(const char *path), at_error *err)
{
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char *dir = NULL;
    if (xdg && *xdg == '/')
        dir = at_path_join(xdg, "atoll");
    else if (home && *home)
        dir = at_path_join(home, ".cache/atoll");
    else {
        at_fail(err, AT_EUSAGE, "no folder for caches: set ATOLL_CACHE_DIR or HOME");
        return NULL;
    }
    if (!dir || !remote(dir))
        return dir;
    char *local = temporary("SLURM_TMPDIR", remote);
    local = local ? local : temporary("TMPDIR", remote);
    if (!local) {
        at_log(AT_LOG_WARN,
               "caches lie in %s, on a network file system: ATOLL_CACHE_DIR names a "
               "folder on this node's own disk",
               dir);
        return dir;
    }
    at_log(AT_LOG_INFO, "caches lie in %s: %s is on a network file system", local, dir);
    free(dir);
    return local;
}

char *at_cache_folder(const at_cache_spec *spec, bool (*remote)(const char *path), at_error *err)
{
    const char *own = getenv("ATOLL_CACHE_DIR");
    const char *told = spec->dir && *spec->dir ? spec->dir : own && *own ? own : NULL;
    at_error local = {0};
    char *dir = told ? strdup(told) : of_user(remote, &local);
    if (!dir)
        local.code ? at_fail(err, local.code, "%s", local.message) : at_nomem(err);
    return dir;
}
