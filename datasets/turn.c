/* SPDX-License-Identifier: Apache-2.0
 * Turns: of several processes at one ingest, under mpirun or srun, one makes the data set. The lock is
 * the file <out>.lock, which whoever held it removes. */
#include "share.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char *path_of(const char *out)
{
    return at_format("%s.lock", out);
}

bool at_lock_is_named(const at_lock *lock, const char *path)
{
    struct stat held, named;
    return fstat(at_lock_descriptor(lock), &held) == 0 && stat(path, &named) == 0 &&
           held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

/* Until whoever has the turn has ended. The lock is let go of again: it may be of a file that is no
 * longer there, so nobody who waited may take over. */
static int wait_for_other(const at_ingest_options *o, const char *out, const char *path,
                          at_error *err)
{
    at_share_help(o, out, path);
    at_lock *end = at_lock_take(path, true, err);
    at_share_clear(out);
    if (end &&
        at_lock_is_named(end, path)) /* made anew meanwhile, or left by one that was killed */
        unlink(path);
    at_lock_release(end);
    return end ? 0 : err->code;
}

int at_turn_take(const at_ingest_options *o, const char *out, at_lock **turn, at_error *err)
{
    at_error local = {0};
    char *path = path_of(out);
    *turn = path ? at_lock_take(path, false, &local) : NULL;
    int code = !path ? at_nomem(err) : *turn ? 0 : local.code;
    if (code == AT_EPEER)
        code = wait_for_other(o, out, path, err);
    else if (code < 0 && path)
        at_fail(err, code, "%s", local.message);
    free(path);
    return code;
}

void at_turn_end(const char *out, at_lock *turn)
{
    char *path = turn ? path_of(out) : NULL;
    if (path)
        unlink(path);
    free(path);
    at_lock_release(turn);
}
