/* SPDX-License-Identifier: Apache-2.0
 * The coordinator's side of one worker: its hello, its leases, its results, its end.
 *
 * Invariant: a result is acknowledged only after the schedule has committed it. */
#include "hub_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PEERS_MAX = 4096, STRANGERS_MAX = 64 /* connections that have not proved their key */ };

void at_hub_tell(at_hub *h, const char *type)
{
    for (at_peer *p = h->peers; p; p = p->next) {
        at_node *m = p->joined ? at_node_new(AT_MAP) : NULL;
        if (m)
            at_set_string(m, "type", type);
        if (m)
            at_conn_send(p->conn, m);
    }
}

/* ---- leases ---- */

static int64_t threads_of(const at_hub *h, const at_peer *p)
{
    int64_t sharing = 0;
    for (const at_peer *q = h->peers; q; q = q->next)
        sharing += q->joined && strcmp(q->place, p->place) == 0;
    if (h->options->workers->kind == AT_WORKERS_LOCAL && sharing < h->options->workers->count)
        sharing = h->options->workers->count; /* one that is being started again counts */
    return p->cpus > sharing ? p->cpus / sharing : 1;
}

static int add_args(const at_hub *h, const at_peer *p, const at_trial *t, at_node *args,
                    at_error *err)
{
    const at_sweep *sweep = h->options->sweep;
    const char *const words[] = {"train",   "--data",  sweep->data,   "--model", sweep->model,
                                 "--trial", "--quiet", "--events-fd", "3"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!at_node_add(args, at_node_new_string(words[i])))
            return at_nomem(err);
    at_node *flat = at_trial_settings(sweep, t, threads_of(h, p), err);
    int rc = flat ? at_settings_args(flat, args, err) : err->code;
    at_node_free(flat);
    return rc;
}

static at_node *lease_message(const at_hub *h, const at_peer *p, const at_trial *t, at_error *err)
{
    char *out = at_format("%s/trials/%" PRId64, h->options->out, t->number);
    at_node *m = at_node_new(AT_MAP), *args = at_node_set(m, "args", at_node_new(AT_LIST));
    int rc = out && args ? add_args(h, p, t, args, err) : at_nomem(err);
    if (!rc && !(at_set_string(m, "type", "lease") && at_set_int(m, "trial", t->number) &&
                 at_set_int(m, "epoch", t->epoch) && at_set_string(m, "out", out)))
        rc = at_nomem(err);
    free(out);
    if (!rc)
        return m;
    at_node_free(m);
    return NULL;
}

static int give(at_hub *h, at_peer *p, at_trial *t, at_error *err)
{
    int rc = at_schedule_lease(h->schedule, t, p->name, err);
    if (rc)
        return rc;
    p->trial = t;
    at_node *m = lease_message(h, p, t, err);
    if (!m)
        return err->code;
    p->leased = at_now();
    at_conn_send(p->conn, m);
    return 0;
}

void at_hub_assign(at_hub *h)
{
    at_error err = {0};
    for (at_peer *p = h->peers; p && h->state == AT_HUB_RUNNING && h->assembled; p = p->next) {
        at_trial *t = NULL;
        if (!p->joined || p->leaving || p->trial)
            continue;
        if (at_schedule_next(h->schedule, &t, &err) || (t && give(h, p, t, &err)))
            at_hub_stop(h, &err);
        else if (!t)
            return;
    }
}

/* ---- messages ---- */

static void log_result(at_hub *h, const at_trial *t)
{
    at_schedule_state now = at_schedule_look(h->schedule);
    at_text line = {0};
    if (t->state == AT_TRIAL_FAIL) {
        at_log(AT_LOG_WARN, "trial %" PRId64 " failed: %s", t->number, now.failure);
        return;
    }
    at_text_add(&line, "trial %" PRId64 " done: %s ", t->number, h->options->sweep->search.metric);
    at_trial_describe(h->options->sweep, t, &line);
    at_text_add(&line, ", best so far %.4g (trial %" PRId64 ")", now.best->value, now.best->number);
    if (!line.failed)
        at_log(AT_LOG_INFO, "%s", line.data);
    at_text_fini(&line);
}

static int on_hello(at_peer *p, const at_node *m, at_error *err)
{
    at_hub *h = p->hub;
    const char *version = at_node_string(at_node_get(m, "version"), "?");
    p->name = strdup(at_node_string(at_node_get(m, "name"), "worker"));
    p->place = at_format("%s/%s", at_node_string(at_node_get(m, "host"), "?"),
                         at_node_string(at_node_get(m, "cpuset"), ""));
    p->cpus = at_node_int(at_node_get(m, "cpus"), 1);
    if (!p->name || !p->place)
        return at_nomem(err);
    if (strcmp(version, ATOLL_VERSION) != 0)
        at_log(AT_LOG_WARN, "worker %s is atoll %s, the coordinator %s", p->name, version,
               ATOLL_VERSION);
    p->joined = true;
    h->any_joined = true;
    if (++h->joined > h->most)
        h->most = h->joined;
    bool ours = h->options->workers->kind == AT_WORKERS_LOCAL;
    at_log(ours ? AT_LOG_DEBUG : AT_LOG_INFO, "worker %s joined from %s with %" PRId64 " CPUs",
           p->name, at_conn_peer(p->conn), p->cpus);
    h->assembled = h->assembled || h->joined >= h->options->workers->count;
    return 0;
}

static void acknowledge(at_peer *p, const at_node *m, bool accepted)
{
    at_node *ack = at_node_new(AT_MAP);
    at_set_string(ack, "type", "ack");
    at_set_int(ack, "trial", at_node_int(at_node_get(m, "trial"), -1));
    at_set_int(ack, "epoch", at_node_int(at_node_get(m, "epoch"), -1));
    at_set_bool(ack, "accepted", accepted);
    at_conn_send(p->conn, ack);
}

/* An error of the schedule stops the sweep, but it is not the worker's fault. */
static void on_outcome(at_peer *p, at_trial *t, const at_node *m, bool returned)
{
    at_hub *h = p->hub;
    at_error err = {0};
    int rc;
    p->trial = NULL;
    if (returned) {
        p->leaving = at_node_bool(at_node_get(m, "leaving"), false);
        rc = at_schedule_return(h->schedule, t, h->state == AT_HUB_RUNNING && !p->leaving, &err);
    } else {
        at_outcome outcome = {.status = (int)at_node_int(at_node_get(m, "status"), 1),
                              .signal = (int)at_node_int(at_node_get(m, "signal"), 0),
                              .seconds = at_node_real(at_node_get(m, "seconds"), 0),
                              .tail = at_node_string(at_node_get(m, "tail"), "")};
        rc = at_schedule_result(h->schedule, t, &outcome, &err);
    }
    if (t->state == AT_TRIAL_COMPLETE || t->state == AT_TRIAL_FAIL)
        log_result(h, t);
    if (rc)
        at_hub_stop(h, &err);
}

static int on_lease_message(at_peer *p, const char *type, const at_node *m, at_error *err)
{
    at_trial *t = at_schedule_leased(p->hub->schedule, at_node_int(at_node_get(m, "trial"), -1),
                                     at_node_int(at_node_get(m, "epoch"), -1));
    bool result = strcmp(type, "result") == 0, returned = strcmp(type, "returned") == 0;
    if (!result && !returned && strcmp(type, "event") != 0)
        return at_fail(err, AT_EPEER, "an unknown message \"%s\"", type);
    if (t && t == p->trial && (result || returned)) {
        on_outcome(p, t, m, returned);
        if (t->state != AT_TRIAL_RUNNING) /* else it could not be committed */
            acknowledge(p, m, true);
    } else if (t && t == p->trial) {
        at_error why = {0};
        if (at_schedule_event(p->hub->schedule, t, at_node_get(m, "event"),
                              1e3 * (at_now() - p->leased), &why))
            at_hub_stop(p->hub, &why);
    } else if (result || returned) {
        acknowledge(p, m, false);
    }
    return 0;
}

static int on_message(void *context, const at_node *m, at_error *err)
{
    at_peer *p = context;
    at_hub *h = p->hub;
    const char *type = at_node_text(at_node_get(m, "type"));
    bool hello = strcmp(type, "hello") == 0;
    if (hello == p->joined)
        return at_fail(err, AT_EPEER, "a message \"%s\" out of turn", type);
    int rc = hello ? on_hello(p, m, err) : on_lease_message(p, type, m, err);
    if (!rc)
        at_hub_settle(h);
    return rc;
}

/* ---- peers ---- */

static void on_opened(void *context)
{
    (void)context; /* the worker's hello comes next */
}

static void lose(at_peer *p, const at_error *why)
{
    at_hub *h = p->hub;
    at_error err = {0};
    at_trial *t = p->trial;
    at_log(AT_LOG_WARN, "worker %s (%s): %s%s", p->name, at_conn_peer(p->conn), why->message,
           t && h->state == AT_HUB_RUNNING ? "; its trial runs again" : "");
    if (t && at_schedule_return(h->schedule, t, h->state == AT_HUB_RUNNING, &err))
        at_hub_stop(h, &err);
    if (t && t->state == AT_TRIAL_FAIL)
        log_result(h, t);
}

static void on_closed(void *context, const at_error *why)
{
    at_peer *p = context;
    at_hub *h = p->hub;
    for (at_peer **at = &h->peers; *at; at = &(*at)->next) {
        if (*at == p) {
            *at = p->next;
            break;
        }
    }
    h->joined -= p->joined;
    if (p->joined && why && (p->trial || (h->state == AT_HUB_RUNNING && !p->leaving)))
        lose(p, why);
    else if (!p->joined && why)
        at_log(AT_LOG_WARN, "refused a connection from %s: %s", at_conn_peer(p->conn),
               why->message);
    free(p->name);
    free(p->place);
    free(p);
    at_hub_settle(h);
}

static const at_conn_handlers handlers = {
    .opened = on_opened, .message = on_message, .closed = on_closed};

/* Where there are too many the oldest stranger goes: a worker proves its key at once. */
static void make_room(at_hub *h)
{
    at_peer *oldest = NULL;
    int64_t strangers = 0;
    for (at_peer *p = h->peers; p; p = p->next) {
        strangers += !p->joined;
        oldest = oldest || p->joined ? oldest : p;
    }
    if (strangers >= STRANGERS_MAX)
        at_conn_close(oldest->conn, NULL);
}

void at_hub_accept(uv_stream_t *listener, int status)
{
    at_hub *h = listener->data;
    at_error err = {0};
    at_peer *p = status == 0 ? calloc(1, sizeof *p) : NULL;
    if (!p)
        return;
    p->hub = h;
    p->conn = at_conn_new(&h->loop, &h->options->key, AT_WIRE_SERVER, &handlers, p, &err);
    if (!p->conn) {
        free(p);
        return;
    }
    make_room(h);
    at_peer **last = &h->peers;
    while (*last)
        last = &(*last)->next;
    *last = p;
    if (uv_accept(listener, (uv_stream_t *)at_conn_stream(p->conn)) || h->joined >= PEERS_MAX ||
        h->state != AT_HUB_RUNNING)
        at_conn_close(p->conn, NULL);
    else
        at_conn_begin(p->conn);
}
