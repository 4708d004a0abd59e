/* SPDX-License-Identifier: Apache-2.0
 * The coordinator's loop.
 *
 * It goes through three states: running; stopping, where the trials that still run are asked to
 * give themselves back; ending, where workers are sent home and everything is closed. */
#include "hub_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    TICK_MS = 1000,
    JOIN_TICKS = 10, /* how long the first worker waits for the others */
    STOP_TICKS = 20, /* for checkpoints */
    END_TICKS = 5,   /* for workers to go home */
    BACKLOG = 128
};

/* ---- states ---- */

void at_hub_stop(at_hub *h, const at_error *why)
{
    if (h->state != AT_HUB_RUNNING)
        return;
    h->why = *why;
    h->state = AT_HUB_STOPPING;
    h->ticks = 0;
    at_hub_tell(h, "stop");
    if (h->launcher)
        at_launcher_end(h->launcher);
}

/* Connections that have proved nothing are told nothing. */
static void end(at_hub *h)
{
    h->state = AT_HUB_ENDING;
    h->ticks = 0;
    at_hub_tell(h, "end");
    uv_close((uv_handle_t *)&h->listener, NULL);
    for (at_peer *p = h->peers, *next; p; p = next) {
        next = p->next;
        if (!p->joined)
            at_conn_close(p->conn, NULL);
    }
    if (h->launcher)
        at_launcher_end(h->launcher);
}

static void on_launcher_gone(void *context)
{
    at_hub *h = context;
    h->launcher_gone = true;
    at_hub_settle(h);
}

static bool any_leased(const at_hub *h)
{
    for (const at_peer *p = h->peers; p; p = p->next)
        if (p->trial)
            return true;
    return false;
}

/* ---- what follows from any change ---- */

/* Draws where things stand; with `last` for the last time. */
static void show(at_hub *h, bool last)
{
    at_schedule_state now = at_schedule_look(h->schedule);
    at_text note = {0};
    if (now.best) {
        at_text_add(&note, "best trial %" PRId64 ": ", now.best->number);
        at_trial_describe(h->options->sweep, now.best, &note);
    }
    at_progress_update(h->progress, (double)now.done, note.data);
    if (last)
        at_progress_end(h->progress, note.data);
    at_text_fini(&note);
}

void at_hub_settle(at_hub *h)
{
    at_hub_assign(h);
    if (h->state == AT_HUB_RUNNING && at_schedule_ended(h->schedule) && !any_leased(h))
        end(h);
    if (h->state == AT_HUB_STOPPING && !any_leased(h))
        end(h);
    if (h->state == AT_HUB_RUNNING && h->launcher_why.code && !h->peers)
        at_hub_stop(h, &h->launcher_why);
    if (h->state == AT_HUB_ENDING && !h->peers && (!h->launcher || h->launcher_gone)) {
        h->state = AT_HUB_CLOSED;
        uv_close((uv_handle_t *)&h->timer, NULL);
        at_signals_close(&h->signals);
    }
    if (h->terminal && (h->state == AT_HUB_RUNNING || h->state == AT_HUB_STOPPING))
        show(h, false);
}

/* What did not end in time. Its leases wait for the next coordinator. */
static void cut_off(at_hub *h)
{
    at_error why = {0};
    at_fail(&why, AT_EPEER, "it did not end in time");
    if (h->state == AT_HUB_STOPPING)
        end(h);
    for (at_peer *p = h->peers, *next; p; p = next) {
        next = p->next;
        at_conn_close(p->conn, p->trial ? &why : NULL);
    }
    if (h->launcher)
        at_launcher_kill(h->launcher, SIGKILL);
}

static void on_tick(uv_timer_t *timer)
{
    at_hub *h = timer->data;
    bool waits = h->state != AT_HUB_RUNNING || (h->any_joined && !h->assembled);
    if (waits)
        h->ticks++;
    if (h->state == AT_HUB_RUNNING && !h->assembled && h->ticks >= JOIN_TICKS) {
        at_log(AT_LOG_WARN, "only %" PRId64 " of %d workers have joined: beginning", h->joined,
               h->options->workers->count);
        h->assembled = true;
    }
    if ((h->state == AT_HUB_STOPPING && h->ticks > STOP_TICKS) ||
        (h->state == AT_HUB_ENDING && h->ticks > END_TICKS))
        cut_off(h);
    at_hub_settle(h);
}

static void on_signal(uv_signal_t *handle, int number)
{
    at_hub *h = handle->data;
    at_error why = {0};
    (void)number;
    at_interrupt_raise();
    at_fail(&why, AT_EINTERRUPTED, "interrupted");
    if (h->state == AT_HUB_STOPPING)
        cut_off(h); /* asked twice: at once */
    else
        at_hub_stop(h, &why);
    at_hub_settle(h);
}

/* Workers that joined by themselves may still go on. */
static void on_launcher_dead(void *context, const at_error *why)
{
    at_hub *h = context;
    h->launcher_why = *why;
    at_hub_settle(h);
}

/* ---- beginning ---- */

static int listen_at(at_hub *h, at_error *err)
{
    const at_address *address = &h->options->workers->listen;
    struct addrinfo *found;
    int rc = at_address_resolve(&h->loop, address, &found, err);
    if (rc)
        return rc;
    h->listener.data = h;
    rc = uv_tcp_bind(&h->listener, found->ai_addr, 0);
    if (!rc)
        rc = uv_listen((uv_stream_t *)&h->listener, BACKLOG, at_hub_accept);
    uv_freeaddrinfo(found);
    return rc ? at_fail(err, AT_EINPUT, "cannot listen at %s:%d: %s", address->host, address->port,
                        uv_strerror(rc))
              : 0;
}

static int bound_port(const at_hub *h)
{
    struct sockaddr_storage bound;
    int bytes = sizeof bound;
    if (uv_tcp_getsockname(&h->listener, (struct sockaddr *)&bound, &bytes))
        return 0;
    return bound.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&bound)->sin6_port)
                                       : ntohs(((struct sockaddr_in *)&bound)->sin_port);
}

/* Where workers find this coordinator. A host whose name leads nowhere is a host on its own. */
static int name_join(at_hub *h, at_error *err)
{
    at_address self = h->options->workers->listen;
    struct addrinfo *found;
    self.port = bound_port(h);
    if (strcmp(self.host, "0.0.0.0") == 0 || strcmp(self.host, "::") == 0) {
        at_host_name(self.host, sizeof self.host);
        if (at_address_resolve(&h->loop, &self, &found, NULL))
            strcpy(self.host, "127.0.0.1");
        else
            uv_freeaddrinfo(found);
    }
    h->join = at_format(strchr(self.host, ':') ? "[%s]:%d" : "%s:%d", self.host, self.port);
    h->join_file = at_path_join(h->options->out, "coordinator.json");
    at_node *n = at_node_new(AT_MAP);
    at_set_string(n, "join", h->join);
    at_set_string(n, "key", h->options->key_path);
    at_set_int(n, "pid", getpid());
    char *text = at_json_print(n, true);
    at_node_free(n);
    int rc = h->join && h->join_file && text ? at_file_write(h->join_file, text, strlen(text), err)
                                             : at_nomem(err);
    free(text);
    if (!rc && h->options->workers->kind == AT_WORKERS_LISTEN)
        at_log(AT_LOG_INFO, "waiting for workers: atoll worker --join %s --key %s", h->join,
               h->options->key_path);
    return rc;
}

static int begin(at_hub *h, at_error *err)
{
    int rc = listen_at(h, err);
    if (!rc)
        rc = name_join(h, err);
    if (rc)
        return rc;
    uv_timer_start(&h->timer, on_tick, TICK_MS, TICK_MS);
    at_launch launch = {.workers = h->options->workers,
                        .program = h->options->program,
                        .join = h->join,
                        .key = h->options->key_path,
                        .dead = on_launcher_dead,
                        .gone = on_launcher_gone,
                        .context = h};
    h->launcher = at_launcher_new(&h->loop, &launch, err);
    return h->launcher ? 0 : err->code;
}

static int run(at_hub *h, at_error *err)
{
    uv_tcp_init(&h->loop, &h->listener);
    uv_timer_init(&h->loop, &h->timer);
    h->timer.data = h;
    int rc = at_signals_begin(&h->signals, &h->loop, on_signal, h, err);
    at_schedule_state now = at_schedule_look(h->schedule);
    if (!rc && !at_schedule_ended(h->schedule))
        rc = begin(h, err);
    h->terminal = isatty(STDERR_FILENO);
    h->progress = at_progress_new("tune", (double)now.trials, "trials");
    if (rc)
        at_hub_stop(h, err);
    else if (at_interrupted())
        on_signal(&h->signals.handles[0], SIGINT);
    at_hub_settle(h);
    uv_run(&h->loop, UV_RUN_DEFAULT);
    show(h, true);
    at_signals_restore(&h->signals);
    return h->why.code ? at_fail(err, h->why.code, "%s", h->why.message) : 0;
}

int at_hub_run(const at_hub_options *options, int64_t *most, at_error *err)
{
    at_hub *h = calloc(1, sizeof *h);
    if (!h)
        return at_nomem(err);
    h->options = options;
    h->schedule = options->schedule;
    int rc = uv_loop_init(&h->loop);
    if (rc) {
        free(h);
        return at_fail(err, AT_EFAIL, "cannot make an event loop: %s", uv_strerror(rc));
    }
    rc = run(h, err);
    *most = h->most;
    if (h->join_file)
        unlink(h->join_file);
    at_launcher_free(h->launcher);
    uv_loop_close(&h->loop);
    free(h->join);
    free(h->join_file);
    free(h);
    return rc;
}
