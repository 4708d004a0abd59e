/* SPDX-License-Identifier: Apache-2.0
 * A trial's process.
 *
 * It has ended when the process is gone and both pipes are at their end; a grandchild that keeps a
 * pipe open may delay that only for a moment. */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TAIL_MAX = 800, LINE_MAX_BYTES = 1 << 16, GRACE_MS = 15000, DRAIN_MS = 500 };

extern char **environ;

struct at_child {
    uv_process_t process;
    uv_pipe_t events, messages; /* descriptors 3 and 2 of the child */
    uv_timer_t timer;
    int handles; /* that are not closed yet */
    int open_pipes;
    bool exited, finished;
    int64_t status;
    int signal;
    double begun;
    int log;
    at_text line; /* of events, so far */
    char tail[TAIL_MAX + 1];
    size_t tail_length;
    char buffer[4096];
    const at_child_handlers *handlers;
    void *context;
};

/* ---- environment ---- */

static bool is_of_launcher(const char *variable)
{
    static const char *const prefixes[] = {"OMPI_",     "PMIX_",           "PMI_",  "PRTE_",
                                           "SLURM_",    "ORTE_",           "HYDI_", "HYDRA_",
                                           "MPI_LOCAL", "OMP_NUM_THREADS="};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strncmp(variable, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return false;
}

char **at_child_environment(void)
{
    size_t n = 0, kept = 0;
    while (environ[n])
        n++;
    char **clean = calloc(n + 1, sizeof *clean);
    for (size_t i = 0; clean && i < n; i++)
        if (!is_of_launcher(environ[i]))
            clean[kept++] = environ[i];
    return clean;
}

/* ---- the end ---- */

static void on_handle_closed(uv_handle_t *handle)
{
    at_child *c = handle->data;
    if (--c->handles)
        return;
    if (c->log >= 0)
        close(c->log);
    at_text_fini(&c->line);
    free(c);
}

static void close_handles(at_child *c)
{
    uv_handle_t *const all[] = {(uv_handle_t *)&c->process, (uv_handle_t *)&c->events,
                                (uv_handle_t *)&c->messages, (uv_handle_t *)&c->timer};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!uv_is_closing(all[i]))
            uv_close(all[i], on_handle_closed);
}

/* The last lines that fit; the first of them may be cut. */
static const char *last_lines(at_child *c)
{
    while (c->tail_length && strchr("\n\r ", c->tail[c->tail_length - 1]))
        c->tail_length--;
    c->tail[c->tail_length] = 0;
    for (char *p = c->tail; *p; p++)
        if ((unsigned char)*p < ' ' && *p != '\n')
            *p = ' ';
    return c->tail;
}

static void finish(at_child *c)
{
    if (c->finished)
        return;
    c->finished = true;
    at_child_end end = {.status = (int)c->status,
                        .signal = c->signal,
                        .seconds = at_now() - c->begun,
                        .tail = last_lines(c)};
    close_handles(c);
    c->handlers->ended(c->context, &end);
}

static void on_drained(uv_timer_t *timer)
{
    finish(timer->data);
}

static void on_child_exit(uv_process_t *process, int64_t status, int signal)
{
    at_child *c = process->data;
    c->exited = true;
    c->status = status;
    c->signal = signal;
    if (c->open_pipes == 0)
        finish(c);
    else
        uv_timer_start(&c->timer, on_drained, DRAIN_MS, 0);
}

static void on_grace_over(uv_timer_t *timer)
{
    at_child *c = timer->data;
    uv_process_kill(&c->process, SIGKILL);
}

void at_child_interrupt(at_child *c)
{
    if (c->exited || uv_is_active((uv_handle_t *)&c->timer))
        return;
    uv_process_kill(&c->process, SIGTERM);
    uv_timer_start(&c->timer, on_grace_over, GRACE_MS, 0);
}

/* ---- what it says ---- */

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)suggested;
    at_child *c = handle->data;
    *buffer = uv_buf_init(c->buffer, sizeof c->buffer);
}

static void on_pipe_end(at_child *c)
{
    if (--c->open_pipes == 0 && c->exited)
        finish(c);
}

static void keep_tail(at_child *c, const char *bytes, size_t n)
{
    if (n > TAIL_MAX) {
        bytes += n - TAIL_MAX;
        n = TAIL_MAX;
    }
    if (c->tail_length + n > TAIL_MAX) {
        size_t drop = c->tail_length + n - TAIL_MAX;
        memmove(c->tail, c->tail + drop, c->tail_length - drop);
        c->tail_length -= drop;
    }
    memcpy(c->tail + c->tail_length, bytes, n);
    c->tail_length += n;
}

static void on_message_bytes(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    at_child *c = stream->data;
    if (n > 0) {
        keep_tail(c, buffer->base, (size_t)n);
        /* a full disk must not fail the trial: the tail is kept in any case */
        if (c->log >= 0 && write(c->log, buffer->base, (size_t)n) < 0 && errno != EINTR) {
            close(c->log);
            c->log = -1;
        }
    } else if (n < 0) {
        uv_read_stop(stream);
        on_pipe_end(c);
    }
}

static void take_line(at_child *c)
{
    at_node *event =
        c->line.failed ? NULL : at_json_parse(c->line.data, c->line.length, "event", NULL);
    if (at_node_kind(event) == AT_MAP)
        c->handlers->event(c->context, event);
    at_node_free(event);
    c->line.length = 0;
}

static void on_event_bytes(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    at_child *c = stream->data;
    for (ssize_t i = 0; i < n; i++) {
        if (buffer->base[i] == '\n' && c->line.length)
            take_line(c);
        else if (buffer->base[i] != '\n' && c->line.length < LINE_MAX_BYTES)
            at_text_append(&c->line, buffer->base + i, 1);
    }
    if (n < 0) {
        uv_read_stop(stream);
        on_pipe_end(c);
    }
}

/* ---- the beginning ---- */

static int spawn(at_child *c, uv_loop_t *loop, const at_child_spec *spec, char **argv,
                 at_error *err)
{
    char **environment = at_child_environment();
    if (!environment)
        return at_nomem(err);
    uv_stdio_container_t stdio[] = {
        {.flags = UV_IGNORE},
        {.flags = UV_IGNORE},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&c->messages},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&c->events},
        {.flags = UV_INHERIT_FD, .data.fd = at_lock_descriptor(spec->inherit)}};
    uv_process_options_t options = {.file = spec->program,
                                    .args = argv,
                                    .env = environment,
                                    .exit_cb = on_child_exit,
                                    .stdio_count = sizeof stdio / sizeof *stdio,
                                    .stdio = stdio};
    int rc = uv_spawn(loop, &c->process, &options);
    free(environment);
    return rc ? at_fail(err, AT_EINPUT, "cannot run %s: %s", spec->program, uv_strerror(rc)) : 0;
}

static char **argv_of(const char *program, const at_node *args)
{
    size_t n = at_node_count(args);
    const char **argv = calloc(n + 2, sizeof *argv);
    if (!argv)
        return NULL;
    argv[0] = program;
    for (size_t i = 0; i < n; i++)
        argv[i + 1] = at_node_text(at_node_at(args, i));
    return (char **)argv;
}

static at_child *make(uv_loop_t *loop, const char *log, const at_child_handlers *handlers,
                      void *context)
{
    at_child *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->handlers = handlers;
    c->context = context;
    c->begun = at_now();
    c->log = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    uv_pipe_init(loop, &c->events, 0);
    uv_pipe_init(loop, &c->messages, 0);
    uv_timer_init(loop, &c->timer);
    c->process.data = c->events.data = c->messages.data = c->timer.data = c;
    c->handles = 4;
    return c;
}

at_child *at_child_new(uv_loop_t *loop, const at_child_spec *spec,
                       const at_child_handlers *handlers, void *context, at_error *err)
{
    char **argv = argv_of(spec->program, spec->args);
    at_child *c = argv ? make(loop, spec->log, handlers, context) : NULL;
    int rc = c ? spawn(c, loop, spec, argv, err) : at_nomem(err);
    free(argv);
    if (rc && c)
        close_handles(c); /* uv_spawn has made the process' handle even where it failed */
    if (rc)
        return NULL;
    c->open_pipes = 2;
    uv_read_start((uv_stream_t *)&c->messages, give_buffer, on_message_bytes);
    uv_read_start((uv_stream_t *)&c->events, give_buffer, on_event_bytes);
    return c;
}
