/* SPDX-License-Identifier: Apache-2.0
 * A wire over a libuv socket.
 *
 * Silence is counted in ticks of the connection's own timer, not in time: after a suspended laptop
 * or a stopped process wakes up, the peer gets its chance to speak before it counts as dead. Only
 * whole messages break the silence, so bytes that trickle in do not hold a connection. */
#include "conn.h"

#include <stdlib.h>
#include <string.h>

enum { TICK_MS = 1000, HEARTBEAT_TICKS = 2, SILENT_TICKS = 10, QUEUE_MAX = 16 << 20 };

struct at_conn {
    uv_tcp_t tcp;
    uv_timer_t timer;
    int handles; /* that are not closed yet */
    at_wire *wire;
    const at_conn_handlers *handlers;
    void *context;
    int ticks, silent;
    bool opened, closed;
    at_text greeting; /* until begin */
    at_error broken;  /* code not 0: close at the next tick */
    char peer[80];
    char buffer[16384];
};

typedef struct sending {
    uv_write_t request;
    at_conn *conn;
    char *data;
} sending;

static void on_tick(uv_timer_t *timer);

/* ---- closing ---- */

static void on_handle_closed(uv_handle_t *handle)
{
    at_conn *c = handle->data;
    if (--c->handles)
        return;
    at_wire_free(c->wire);
    at_text_fini(&c->greeting);
    free(c);
}

void at_conn_close(at_conn *c, const at_error *why)
{
    if (c->closed)
        return;
    c->closed = true;
    uv_close((uv_handle_t *)&c->timer, on_handle_closed);
    uv_close((uv_handle_t *)&c->tcp, on_handle_closed);
    c->handlers->closed(c->context, why);
}

/* From where closing would pull the connection away under a caller. */
static void break_soon(at_conn *c, const at_error *why)
{
    if (c->broken.code || c->closed)
        return;
    c->broken = *why;
    uv_timer_start(&c->timer, on_tick, 0, TICK_MS);
}

/* ---- sending ---- */

static void on_written(uv_write_t *request, int status)
{
    sending *s = (sending *)request;
    if (status < 0 && status != UV_ECANCELED) {
        at_error why = {0};
        at_fail(&why, AT_EPEER, "cannot send: %s", uv_strerror(status));
        break_soon(s->conn, &why);
    }
    free(s->data);
    free(s);
}

/* Sends what the wire has put into text, and empties it. */
static int flush(at_conn *c, at_text *text, at_error *err)
{
    if (text->failed)
        return at_nomem(err);
    if (text->length == 0 || c->closed)
        return 0;
    if (uv_stream_get_write_queue_size((uv_stream_t *)&c->tcp) > QUEUE_MAX)
        return at_fail(err, AT_EPEER, "it does not read what is sent");
    sending *s = calloc(1, sizeof *s);
    if (!s)
        return at_nomem(err);
    *s = (sending){.conn = c, .data = text->data};
    uv_buf_t buffer = uv_buf_init(text->data, (unsigned)text->length);
    int rc = uv_write(&s->request, (uv_stream_t *)&c->tcp, &buffer, 1, on_written);
    if (rc) {
        free(s);
        return at_fail(err, AT_EPEER, "cannot send: %s", uv_strerror(rc));
    }
    *text = (at_text){0};
    return 0;
}

void at_conn_send(at_conn *c, at_node *message)
{
    at_error err = {0};
    at_text out = {0};
    int rc = message ? 0 : at_nomem(&err);
    if (!rc && !c->closed)
        rc = at_wire_send(c->wire, message, &out, &err);
    if (!rc)
        rc = flush(c, &out, &err);
    if (rc)
        break_soon(c, &err);
    at_text_fini(&out);
    at_node_free(message);
}

/* ---- time ---- */

static void on_tick(uv_timer_t *timer)
{
    at_conn *c = timer->data;
    at_error why = {0};
    if (c->broken.code) {
        at_conn_close(c, &c->broken);
        return;
    }
    if (++c->silent > SILENT_TICKS) {
        at_fail(&why, AT_EPEER, c->opened ? "no sign of life for %d s" : "no greeting within %d s",
                SILENT_TICKS * TICK_MS / 1000);
        at_conn_close(c, &why);
        return;
    }
    if (c->opened && ++c->ticks % HEARTBEAT_TICKS == 0) {
        at_node *beat = at_node_new(AT_MAP);
        at_set_string(beat, "type", "heartbeat");
        at_conn_send(c, beat);
    }
}

/* ---- receiving ---- */

/* The proof and the first message may come in one piece: opened is told first. */
static void note_open(at_conn *c)
{
    if (c->opened || !at_wire_is_open(c->wire))
        return;
    c->opened = true;
    c->silent = 0;
    c->handlers->opened(c->context);
}

static int on_message(void *context, const at_node *message, at_error *err)
{
    at_conn *c = context;
    note_open(c);
    c->silent = 0;
    if (c->closed || strcmp(at_node_text(at_node_get(message, "type")), "heartbeat") == 0)
        return 0;
    return c->handlers->message(c->context, message, err);
}

static void on_bytes(at_conn *c, const char *bytes, size_t n)
{
    at_error err = {0};
    at_text out = {0};
    int rc = at_wire_receive(c->wire, bytes, n, &out, on_message, c, &err);
    int sent = flush(c, &out, rc ? NULL : &err); /* after an error too: the peer learns of it */
    at_text_fini(&out);
    if (rc || sent)
        at_conn_close(c, &err);
    else
        note_open(c);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    at_conn *c = stream->data;
    at_error why = {0};
    if (n > 0 && !c->closed)
        on_bytes(c, buffer->base, (size_t)n);
    if (n >= 0)
        return;
    if (n == UV_EOF)
        at_fail(&why, AT_EPEER, "the connection was closed");
    else
        at_fail(&why, AT_EPEER, "the connection broke: %s", uv_strerror((int)n));
    at_conn_close(c, &why);
}

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)suggested;
    at_conn *c = handle->data;
    *buffer = uv_buf_init(c->buffer, sizeof c->buffer);
}

/* ---- making ---- */

at_conn *at_conn_new(uv_loop_t *loop, const at_key *key, at_wire_role role,
                     const at_conn_handlers *handlers, void *context, at_error *err)
{
    at_conn *c = calloc(1, sizeof *c);
    if (!c) {
        at_nomem(err);
        return NULL;
    }
    c->wire = at_wire_new(key, role, &c->greeting, err);
    if (!c->wire) {
        free(c);
        return NULL;
    }
    c->handlers = handlers;
    c->context = context;
    c->handles = 2;
    uv_tcp_init(loop, &c->tcp);
    uv_timer_init(loop, &c->timer);
    c->tcp.data = c->timer.data = c;
    return c;
}

uv_tcp_t *at_conn_stream(at_conn *c)
{
    return &c->tcp;
}

static void name_peer(at_conn *c)
{
    struct sockaddr_storage address;
    int bytes = sizeof address;
    char host[64] = "?";
    int port = 0;
    if (uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&address, &bytes) == 0) {
        if (address.ss_family == AF_INET6) {
            const struct sockaddr_in6 *v6 = (const void *)&address;
            uv_ip6_name(v6, host, sizeof host);
            port = ntohs(v6->sin6_port);
        } else {
            const struct sockaddr_in *v4 = (const void *)&address;
            uv_ip4_name(v4, host, sizeof host);
            port = ntohs(v4->sin_port);
        }
    }
    snprintf(c->peer, sizeof c->peer, "%s:%d", host, port);
}

void at_conn_begin(at_conn *c)
{
    at_error err = {0};
    name_peer(c);
    uv_tcp_nodelay(&c->tcp, 1);
    uv_timer_start(&c->timer, on_tick, TICK_MS, TICK_MS);
    int rc = uv_read_start((uv_stream_t *)&c->tcp, give_buffer, on_read);
    if (rc)
        at_fail(&err, AT_EPEER, "cannot receive: %s", uv_strerror(rc));
    else
        rc = flush(c, &c->greeting, &err);
    if (rc)
        break_soon(c, &err);
}

const char *at_conn_peer(const at_conn *c)
{
    return c->peer;
}
