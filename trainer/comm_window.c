/* SPDX-License-Identifier: Apache-2.0
 * Memory that the ranks of one node share: MPI-3 shared-memory windows, each rank's part on pages
 * of its own. The processors keep it coherent and the barrier of comm_wait.c orders it, so a window
 * is in one access epoch from its first moment to its last.
 *
 * Open MPI leaves the other ranks waiting when the file behind a window does not fit, so the room
 * is looked at first (containers often have 64 MiB in /dev/shm). Without room the gradients lie in
 * plain memory and allreduce stages them: slower, but it works. */
#include "comm_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

static const char shm_folder[] = "/dev/shm"; /* where Open MPI puts windows */
enum { SPARE_BYTES = 1 << 20, PAGE = 4096 };

/* Whether every node has room for `bytes` of each of its ranks. */
static int find_room(at_comm *c, size_t bytes, bool *room, at_error *err)
{
    struct statvfs fs;
    int64_t lacking = 0;
    if (c->local_rank == 0 && c->local_size > 1 && statvfs(shm_folder, &fs) == 0)
        lacking = (double)fs.f_bavail * (double)fs.f_frsize <
                  (double)(bytes + PAGE) * c->local_size + SPARE_BYTES;
    int code = at_comm_max_int(c, &lacking, err);
    *room = !lacking;
    return code;
}

/* Open MPI begins the parts anywhere in a page, at the same place in every process. */
static float *next_page(void *part)
{
    return (float *)(((uintptr_t)part + PAGE - 1) / PAGE * PAGE);
}

/* A window of `bytes` for each rank of the node; base [local_size] gets where each part begins. */
static int open_window(at_comm *c, size_t bytes, MPI_Win *window, float **base, at_error *err)
{
    MPI_Info apart;
    void *part = NULL;
    int code = at_comm_check(c, MPI_Info_create(&apart), "MPI_Info_create", err);
    if (code)
        return code;
    MPI_Info_set(apart, "alloc_shared_noncontig", "true");
    code = at_comm_check(
        c, MPI_Win_allocate_shared((MPI_Aint)(bytes + PAGE), 1, apart, c->node, &part, window),
        "MPI_Win_allocate_shared", err);
    MPI_Info_free(&apart);
    if (code)
        return code;
    MPI_Win_set_errhandler(*window, MPI_ERRORS_RETURN);
    code = at_comm_check(c, MPI_Win_lock_all(MPI_MODE_NOCHECK, *window), "MPI_Win_lock_all", err);
    for (int i = 0; !code && i < c->local_size; i++) {
        MPI_Aint size;
        int unit;
        code = at_comm_check(c, MPI_Win_shared_query(*window, i, &size, &unit, &part),
                             "MPI_Win_shared_query", err);
        base[i] = next_page(part);
    }
    if (!code)
        memset(base[c->local_rank], 0, bytes); /* the first touch puts the pages near this rank */
    return code;
}

static void close_window(MPI_Win *window)
{
    if (*window == MPI_WIN_NULL)
        return;
    MPI_Win_unlock_all(*window);
    MPI_Win_free(window);
}

/* ---- the board ---- */

int at_comm_open_board(at_comm *c, at_error *err)
{
    size_t n = (size_t)c->local_size, stage = 2 * AT_STAGE_FLOATS * sizeof(float);
    size_t board = sizeof(at_board) + n * sizeof(at_slot);
    bool room;
    int code = find_room(c, stage + board, &room, err);
    if (code)
        return code;
    if (!room)
        return at_fail(err, AT_EIO, "%s is too full for %zu KiB of each rank", shm_folder,
                       (stage + board) >> 10);
    if (c->local_size == 1)
        return 0;
    c->stage = calloc(n, sizeof *c->stage);
    c->sources = calloc(n, sizeof *c->sources);
    if (!c->stage || !c->sources)
        return at_nomem(err);
    code = open_window(c, stage + board, &c->board_window, c->stage, err);
    if (code)
        return code;
    MPI_Barrier(c->node); /* all parts are zeroed */
    c->board = (at_board *)(void *)((char *)c->stage[0] + stage);
    return 0;
}

void at_comm_close_board(at_comm *c)
{
    close_window(&c->board_window);
    free(c->sources);
    free(c->stage);
}

/* ---- windows of floats ---- */

static int open_floats(at_comm *c, at_window *w, at_error *err)
{
    size_t bytes = (w->count ? w->count : 1) * sizeof(float);
    if (c->local_size > 1)
        return open_window(c, bytes, &w->handle, w->base, err);
    w->base[0] = at_alloc_aligned(bytes);
    return w->base[0] ? 0 : at_nomem(err);
}

static at_window *new_window(at_comm *c, size_t count, at_error *err)
{
    at_window *w = calloc(1, sizeof *w + (size_t)c->local_size * sizeof *w->base);
    if (!w) {
        at_nomem(err);
        return NULL;
    }
    w->handle = MPI_WIN_NULL;
    w->id = ++c->last_window;
    w->count = count;
    if (open_floats(c, w, err)) {
        free(w);
        return NULL;
    }
    w->next = c->windows;
    c->windows = w;
    return w;
}

float *at_comm_alloc(at_comm *c, size_t count, at_error *err)
{
    size_t bytes;
    bool room = false;
    if (!at_mul(count, sizeof(float), PTRDIFF_MAX / 2, &bytes)) {
        at_fail(err, AT_ENOMEM, "%zu gradients are too many", count);
        return NULL;
    }
    at_comm_free_windows(c, false);
    if (c->size > 1 && find_room(c, bytes, &room, err))
        return NULL;
    if (room) {
        at_window *w = new_window(c, count, err);
        return w ? w->base[c->local_rank] : NULL;
    }
    if (c->size > 1 && c->rank == 0)
        at_log(AT_LOG_WARN, "%s has no room for %zu MiB of each rank: a slower allreduce",
               shm_folder, bytes >> 20);
    float *data = at_alloc_aligned(bytes);
    if (!data)
        at_nomem(err);
    return data;
}

const at_window *at_comm_find_window(const at_comm *c, const float *data, size_t count)
{
    for (const at_window *w = c->windows; w; w = w->next) {
        uintptr_t begin = (uintptr_t)w->base[c->local_rank], at = (uintptr_t)data;
        if (!w->dead && at >= begin && (at - begin) / sizeof(float) <= w->count &&
            count <= w->count - (at - begin) / sizeof(float))
            return w;
    }
    return NULL;
}

/* MPI frees a window collectively, and another rank may have failed: so this only marks. */
void at_comm_dealloc(at_comm *c, float *data)
{
    if (!data)
        return;
    for (at_window *w = c->windows; w; w = w->next)
        if (w->base[c->local_rank] == data && !w->dead) {
            w->dead = true;
            return;
        }
    at_free_aligned(data);
}

void at_comm_free_windows(at_comm *c, bool all)
{
    for (at_window **link = &c->windows; *link;) {
        at_window *w = *link;
        if (!w->dead && !all) {
            link = &w->next;
            continue;
        }
        *link = w->next;
        if (w->handle == MPI_WIN_NULL)
            at_free_aligned(w->base[0]);
        close_window(&w->handle);
        free(w);
    }
}
