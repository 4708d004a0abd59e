/* SPDX-License-Identifier: Apache-2.0
 * A worker: joins the coordinator, runs one trial at a time, tells what becomes of it.
 *
 * It decides nothing: what is run comes with the lease, what a result means is the coordinator's.
 * Invariant: a child does not outlive the connection, so a trial whose lease is lost stops soon. */
#include "address.h"
#include "child.h"
#include "conn.h"
#include "internal.h"

#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    RETRY_MS = 200,
    JOIN_SECONDS = 15, /* for a coordinator that is still starting */
    FREE_MS = 50,
    FREE_SECONDS = 20 /* for an earlier training in a trial's folder to end */
};

typedef struct worker {
    uv_loop_t loop;
    const at_worker_options *options;
    char name[128];
    at_key key;
    at_signals signals;
    uv_timer_t timer; /* until connected: tries again to join; then: to start the pending trial */
    double begun;     /* what the timer tries */
    struct addrinfo *addresses, *next;
    uv_connect_t request;
    at_conn *conn; /* NULL: not connected, or no more */
    bool opened;
    at_child *child;  /* NULL: idle */
    at_node *pending; /* a lease whose folder another process is still leaving; NULL: none */
    at_lock *claim;   /* on the trial's folder, by us and the child */
    int64_t trial, epoch;
    bool interrupted; /* by a signal or by the coordinator: what ends now goes back */
    bool leaving;     /* ends when there is no child */
    bool ended;       /* the coordinator has no more work */
    at_error why;     /* of the end, code 0: all is well */
} worker;

static void try_next(worker *w);

/* ---- the end ---- */

static void leave_if_idle(worker *w)
{
    if (!w->leaving || w->child)
        return;
    if (w->conn)
        at_conn_close(w->conn, NULL);
    at_signals_close(&w->signals);
    if (!uv_is_closing((uv_handle_t *)&w->timer))
        uv_close((uv_handle_t *)&w->timer, NULL);
}

static void interrupt_trial(worker *w);

static void leave(worker *w, const at_error *why)
{
    if (why && !w->why.code)
        w->why = *why;
    w->leaving = true;
    interrupt_trial(w);
    leave_if_idle(w);
}

/* ---- a trial ---- */

static at_node *about_lease(const worker *w, const char *type)
{
    at_node *m = at_node_new(AT_MAP);
    at_set_string(m, "type", type);
    at_set_int(m, "trial", w->trial);
    at_set_int(m, "epoch", w->epoch);
    return m;
}

static void tell(worker *w, at_node *message)
{
    if (w->conn)
        at_conn_send(w->conn, message);
    else
        at_node_free(message);
}

static void on_event(void *context, const at_node *event)
{
    worker *w = context;
    at_node *m = about_lease(w, "event");
    at_node_set(m, "event", at_node_copy(event));
    tell(w, m);
}

static void report(worker *w, const at_child_end *end)
{
    at_node *m = about_lease(w, "result");
    at_set_int(m, "status", end->status);
    at_set_int(m, "signal", end->signal);
    at_set_real(m, "seconds", end->seconds);
    at_set_string(m, "tail", end->tail);
    tell(w, m);
}

static void give_back(worker *w)
{
    at_node *m = about_lease(w, "returned");
    at_set_bool(m, "leaving", w->leaving);
    tell(w, m);
}

static void release_claim(worker *w)
{
    at_lock_release(w->claim);
    w->claim = NULL;
}

static void on_child_ended(void *context, const at_child_end *end)
{
    worker *w = context;
    w->child = NULL;
    release_claim(w);
    if (end->status == at_error_exit_status(AT_EINTERRUPTED) ||
        (w->interrupted && (end->status || end->signal)))
        give_back(w);
    else
        report(w, end);
    leave_if_idle(w);
}

static void drop_pending(worker *w)
{
    at_node_free(w->pending);
    w->pending = NULL;
    uv_timer_stop(&w->timer);
}

static void interrupt_trial(worker *w)
{
    w->interrupted = true;
    if (w->child)
        at_child_interrupt(w->child);
    if (!w->pending)
        return;
    drop_pending(w);
    give_back(w);
}

static const at_child_handlers child_handlers = {.event = on_event, .ended = on_child_ended};

/* A folder with a run in it is of an earlier lease: the trial goes on from its checkpoint. */
static int add_folder(const char *out, at_node *args, at_error *err)
{
    char *config = at_path_join(out, "config.yaml");
    bool there = config && at_file_exists(config);
    bool added = config && at_node_add(args, at_node_new_string("--out")) &&
                 at_node_add(args, at_node_new_string(out)) &&
                 (!there || at_node_add(args, at_node_new_string("--resume")));
    free(config);
    return added ? 0 : at_nomem(err);
}

static int start_child(worker *w, const char *out, at_error *err)
{
    at_node *args = at_node_copy(at_node_get(w->pending, "args"));
    char *log = at_path_join(out, "log.txt");
    int rc = args && log ? add_folder(out, args, err) : at_nomem(err);
    at_child_spec spec = {
        .program = w->options->program, .args = args, .log = log, .inherit = w->claim};
    if (!rc) {
        w->child = at_child_new(&w->loop, &spec, &child_handlers, w, err);
        rc = w->child ? 0 : err->code;
    }
    free(log);
    at_node_free(args);
    return rc;
}

/* After a worker was killed, its trial may still be writing a checkpoint; with its worker's lock,
 * which it inherited. AT_EPEER while it does. */
static int claim(worker *w, const char *out, at_error *err)
{
    char *path = at_path_join(out, ".lease");
    int rc = path ? at_make_dirs(out, err) : at_nomem(err);
    if (!rc && !(w->claim = at_lock_take(path, false, err)))
        rc = err->code;
    free(path);
    return rc;
}

/* In the trial's folder, as soon as it is free; beside it where whoever has it hangs. */
static int try_start(worker *w, at_error *err)
{
    const char *out = at_node_string(at_node_get(w->pending, "out"), "");
    char *beside = at_format("%s-%" PRId64, out, w->epoch);
    int rc = beside ? claim(w, out, err) : at_nomem(err);
    if (rc == AT_EPEER && at_now() - w->begun > FREE_SECONDS)
        rc = claim(w, out = beside, err);
    if (!rc)
        rc = start_child(w, out, err);
    free(beside);
    return rc;
}

static void on_start_timer(uv_timer_t *timer)
{
    worker *w = timer->data;
    at_error why = {0};
    int rc = try_start(w, &why);
    if (rc == AT_EPEER)
        return;
    drop_pending(w);
    if (!rc)
        return;
    release_claim(w);
    report(w, &(at_child_end){.status = at_error_exit_status(rc), .tail = why.message});
}

static int take_lease(worker *w, const at_node *lease, at_error *err)
{
    if (w->child || w->pending)
        return at_fail(err, AT_EPEER, "a second lease at a time");
    w->trial = at_node_int(at_node_get(lease, "trial"), -1);
    w->epoch = at_node_int(at_node_get(lease, "epoch"), -1);
    w->pending = at_node_copy(lease);
    if (!w->pending)
        return at_nomem(err);
    w->begun = at_now();
    uv_timer_start(&w->timer, on_start_timer, FREE_MS, FREE_MS);
    on_start_timer(&w->timer);
    if (w->interrupted)
        interrupt_trial(w);
    return 0;
}

/* ---- the coordinator ---- */

/* Names the CPUs that this process may use: workers of one host with one name share them. */
static void name_cpus(char name[65])
{
    cpu_set_t set;
    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof set, &set); /* above 1024 CPUs it fails: then all share */
    at_content_hash(&set, sizeof set, name);
}

static void on_opened(void *context)
{
    worker *w = context;
    char host[256], cpus[65];
    at_host_name(host, sizeof host);
    name_cpus(cpus);
    w->opened = true;
    at_node *m = at_node_new(AT_MAP);
    at_set_string(m, "type", "hello");
    at_set_string(m, "name", w->name);
    at_set_string(m, "host", host);
    at_set_string(m, "version", ATOLL_VERSION);
    at_set_int(m, "cpus", at_cpu_count());
    at_set_string(m, "cpuset", cpus);
    at_set_int(m, "pid", getpid());
    tell(w, m);
}

static int on_message(void *context, const at_node *m, at_error *err)
{
    worker *w = context;
    const char *type = at_node_text(at_node_get(m, "type"));
    if (strcmp(type, "lease") == 0)
        return take_lease(w, m, err);
    if (strcmp(type, "stop") == 0) {
        interrupt_trial(w);
    } else if (strcmp(type, "end") == 0) {
        w->ended = true;
        leave(w, NULL);
    } else if (strcmp(type, "ack") == 0 && !at_node_bool(at_node_get(m, "accepted"), true)) {
        at_log(AT_LOG_WARN,
               "the coordinator refused trial %" PRId64 " of lease %" PRId64
               ": it has been given to another worker",
               at_node_int(at_node_get(m, "trial"), -1), at_node_int(at_node_get(m, "epoch"), -1));
    }
    return 0;
}

static void try_again(worker *w, const at_error *why);

static void on_closed(void *context, const at_error *why)
{
    worker *w = context;
    w->conn = NULL;
    if (w->leaving || !why)
        return;
    at_error err = *why;
    if (why->code == AT_EINPUT)
        at_fail(&err, AT_EINPUT, "wrong key: %s is not the key of the coordinator at %s",
                w->options->key, w->options->join);
    else
        at_fail_in(&err, "coordinator at %s", w->options->join);
    if (w->opened || err.code == AT_EINPUT)
        leave(w, &err);
    else
        try_again(w, &err);
}

static const at_conn_handlers conn_handlers = {
    .opened = on_opened, .message = on_message, .closed = on_closed};

/* ---- joining ---- */

static void on_retry(uv_timer_t *timer)
{
    worker *w = timer->data;
    w->next = w->addresses;
    try_next(w);
}

/* The coordinator may still be starting, or be busy with strangers. */
static void try_again(worker *w, const at_error *why)
{
    if (w->next)
        try_next(w);
    else if (at_now() - w->begun < JOIN_SECONDS)
        uv_timer_start(&w->timer, on_retry, RETRY_MS, 0);
    else
        leave(w, why);
}

static void on_connected(uv_connect_t *request, int status)
{
    worker *w = request->data;
    if (status == 0) {
        at_conn_begin(w->conn);
        return;
    }
    at_error why = {0};
    at_fail(&why, AT_EPEER, "cannot be reached: %s", uv_strerror(status));
    if (w->conn && !w->leaving)
        at_conn_close(w->conn, &why);
}

static void try_next(worker *w)
{
    at_error why = {0};
    const struct addrinfo *a = w->next;
    w->next = a->ai_next;
    w->conn = at_conn_new(&w->loop, &w->key, AT_WIRE_CLIENT, &conn_handlers, w, &why);
    if (!w->conn) {
        leave(w, &why);
        return;
    }
    w->request.data = w;
    int rc = uv_tcp_connect(&w->request, at_conn_stream(w->conn), a->ai_addr, on_connected);
    if (rc)
        on_connected(&w->request, rc);
}

static void on_signal(uv_signal_t *handle, int number)
{
    worker *w = handle->data;
    at_error why = {0};
    (void)number;
    at_interrupt_raise();
    at_fail(&why, AT_EINTERRUPTED, "interrupted; its trial goes back to the coordinator");
    leave(w, &why);
}

static int prepare(worker *w, at_error *err)
{
    at_address address;
    char host[200];
    at_host_name(host, sizeof host);
    snprintf(w->name, sizeof w->name, "%.100s-%d", host, (int)getpid());
    if (w->options->name && *w->options->name)
        snprintf(w->name, sizeof w->name, "%.120s", w->options->name);
    int rc = at_address_parse(w->options->join, &address, err);
    if (!rc)
        rc = at_key_load(w->options->key, false, &w->key, err);
    if (!rc)
        rc = at_address_resolve(&w->loop, &address, &w->addresses, err);
    return rc;
}

int at_worker(const at_worker_options *options, at_error *err)
{
    worker *w = calloc(1, sizeof *w);
    if (!w)
        return at_nomem(err);
    w->options = options;
    w->begun = at_now();
    int rc = uv_loop_init(&w->loop);
    if (rc) {
        free(w);
        return at_fail(err, AT_EFAIL, "cannot make an event loop: %s", uv_strerror(rc));
    }
    if ((rc = prepare(w, err)))
        goto fail_prepare;
    rc = at_signals_begin(&w->signals, &w->loop, on_signal, w, err);
    uv_timer_init(&w->loop, &w->timer);
    w->timer.data = w;
    w->next = w->addresses;
    if (rc)
        leave(w, err);
    else
        try_next(w);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    at_signals_restore(&w->signals);
    if (w->why.code && !w->ended)
        rc = at_fail(err, w->why.code, "%s", w->why.message);
fail_prepare:
    uv_freeaddrinfo(w->addresses);
    at_key_wipe(&w->key);
    uv_loop_close(&w->loop);
    free(w);
    return rc;
}
