/* SPDX-License-Identifier: Apache-2.0
 * Starting workers, and starting them again.
 *
 * A launched process leads a session of its own: the terminal's Ctrl-C reaches the coordinator
 * only, which then stops the trials in order; and what a killed worker leaves behind is found by
 * its group. */
#include "launcher.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RESTARTS_MAX = 3, WORDS_MAX = 32, WORKERS_MAX = 4096 };

typedef struct slot {
    at_launcher *owner;
    uv_process_t *process; /* NULL: none runs */
    int restarts;
} slot;
struct at_launcher {
    uv_loop_t *loop;
    at_launch launch;
    const char *words[WORDS_MAX];
    char count[16];
    slot *slots;
    int slot_count, running;
    bool ending;
};

int at_workers_parse(const char *text, at_workers *out, at_error *err)
{
    static const char *const names[] = {"local:", "mpi:", "slurm:"};
    *out = (at_workers){.listen = {.host = "127.0.0.1"}};
    if (strncmp(text, "listen:", 7) == 0) {
        out->kind = AT_WORKERS_LISTEN;
        return at_address_parse(text + 7, &out->listen, err);
    }
    for (int k = 0; k < 3; k++) {
        size_t n = strlen(names[k]);
        char *end = NULL;
        if (strncmp(text, names[k], n) != 0)
            continue;
        long count = strtol(text + n, &end, 10);
        if (end == text + n || *end || count < 1 || count > WORKERS_MAX)
            break;
        out->kind = (at_workers_kind)k;
        out->count = (int)count;
        if (k != AT_WORKERS_LOCAL)
            strcpy(out->listen.host, "0.0.0.0");
        return 0;
    }
    return at_fail(err, AT_EUSAGE,
                   "workers \"%s\": expected local:N, mpi:N, slurm:N (N from 1 to %d) or "
                   "listen:HOST:PORT",
                   text, WORKERS_MAX);
}

/* ---- command lines ---- */

const char **at_mpirun_words(const char *ranks)
{
    const char *const words[] = {"mpirun",
                                 "-np",
                                 ranks,
                                 "--bind-to",
                                 "none",
                                 "--oversubscribe",
                                 geteuid() == 0 ? "--allow-run-as-root" : NULL,
                                 NULL};
    const char **copy = malloc(sizeof words);
    if (copy)
        memcpy(copy, words, sizeof words);
    return copy;
}

static void add_word(at_launcher *l, size_t *n, const char *word)
{
    if (*n + 1 < WORDS_MAX)
        l->words[(*n)++] = word;
}

static int compose(at_launcher *l, at_error *err)
{
    static const char *const srun[] = {"srun", "--overlap", "--mpi=none", "--kill-on-bad-exit=0",
                                       "-n",   NULL};
    size_t n = 0;
    if (l->launch.workers->kind == AT_WORKERS_MPI) {
        const char **mpirun = at_mpirun_words(l->count);
        if (!mpirun)
            return at_nomem(err);
        for (size_t i = 0; mpirun[i]; i++)
            add_word(l, &n, mpirun[i]);
        free(mpirun);
        add_word(l, &n, "--enable-recovery"); /* a worker's death must not end the others */
    } else if (l->launch.workers->kind == AT_WORKERS_SLURM) {
        for (size_t i = 0; srun[i]; i++)
            add_word(l, &n, srun[i]);
        add_word(l, &n, l->count);
    }
    const char *const worker[] = {l->launch.program, "worker",      "--join", l->launch.join,
                                  "--key",           l->launch.key, "--quiet"};
    for (size_t i = 0; i < sizeof worker / sizeof *worker; i++)
        add_word(l, &n, worker[i]);
    return 0;
}

/* ---- processes ---- */

static int start(slot *s, at_error *err);

static void free_handle(uv_handle_t *handle)
{
    free(handle);
}

static void tell_if_gone(at_launcher *l)
{
    if (l->ending && l->running == 0)
        l->launch.gone(l->launch.context);
}

static void restart(slot *s, int64_t status, int signal)
{
    at_launcher *l = s->owner;
    at_error err = {0};
    const char *what = l->launch.workers->kind == AT_WORKERS_LOCAL ? "a worker" : l->words[0];
    at_fail(&err, AT_EPEER, "%s ended %s %d", what, signal ? "by signal" : "with exit status",
            signal ? signal : (int)status);
    bool again = s->restarts < RESTARTS_MAX;
    at_log(AT_LOG_WARN, "%s; %s", err.message,
           again ? "it is started again" : "it was started again often enough");
    if (again) {
        s->restarts++;
        if (start(s, &err))
            at_log(AT_LOG_WARN, "%s", err.message);
    }
    if (l->running == 0)
        l->launch.dead(l->launch.context, &err);
}

static void on_process_exit(uv_process_t *process, int64_t status, int signal)
{
    slot *s = process->data;
    kill(-process->pid, SIGKILL); /* a trial that outlived its worker; mostly there is none */
    s->process = NULL;
    s->owner->running--;
    uv_close((uv_handle_t *)process, free_handle);
    if (s->owner->ending)
        tell_if_gone(s->owner);
    else
        restart(s, status, signal);
}

static int start(slot *s, at_error *err)
{
    at_launcher *l = s->owner;
    uv_process_t *process = calloc(1, sizeof *process);
    if (!process)
        return at_nomem(err);
    uv_stdio_container_t stdio[] = {{.flags = UV_IGNORE},
                                    {.flags = UV_IGNORE},
                                    {.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO}};
    uv_process_options_t options = {.file = l->words[0],
                                    .args = (char **)l->words,
                                    .flags = UV_PROCESS_DETACHED,
                                    .exit_cb = on_process_exit,
                                    .stdio_count = 3,
                                    .stdio = stdio};
    process->data = s;
    int rc = uv_spawn(l->loop, process, &options);
    if (rc) {
        uv_close((uv_handle_t *)process, free_handle);
        return at_fail(err, AT_EINPUT, "cannot run %s: %s", l->words[0], uv_strerror(rc));
    }
    s->process = process;
    l->running++;
    return 0;
}

at_launcher *at_launcher_new(uv_loop_t *loop, const at_launch *launch, at_error *err)
{
    at_launcher *l = calloc(1, sizeof *l);
    if (!l) {
        at_nomem(err);
        return NULL;
    }
    l->loop = loop;
    l->launch = *launch;
    snprintf(l->count, sizeof l->count, "%d", launch->workers->count);
    l->slot_count = launch->workers->kind == AT_WORKERS_LOCAL    ? launch->workers->count
                    : launch->workers->kind == AT_WORKERS_LISTEN ? 0
                                                                 : 1;
    l->slots = calloc((size_t)l->slot_count + 1, sizeof *l->slots);
    int rc = l->slots ? compose(l, err) : at_nomem(err);
    for (int i = 0; i < l->slot_count && !rc; i++) {
        l->slots[i].owner = l;
        rc = start(&l->slots[i], err);
    }
    if (!rc || l->running > 0) /* some run: the rest is the caller's to judge */
        return l;
    at_launcher_free(l);
    return NULL;
}

void at_launcher_end(at_launcher *l)
{
    if (l->ending)
        return;
    l->ending = true;
    tell_if_gone(l);
}

void at_launcher_kill(at_launcher *l, int signal)
{
    for (int i = 0; i < l->slot_count; i++)
        if (l->slots[i].process)
            kill(-l->slots[i].process->pid, signal);
}

void at_launcher_free(at_launcher *l)
{
    if (!l)
        return;
    free(l->slots);
    free(l);
}
