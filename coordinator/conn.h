/* SPDX-License-Identifier: Apache-2.0
 * A wire over a libuv socket: greeting, heartbeats and deadlines are its own matter.
 *
 *     at_conn *c = at_conn_new(loop, &key, AT_WIRE_SERVER, &handlers, peer, &err);
 *     uv_accept(listener, at_conn_stream(c));
 *     at_conn_begin(c);
 */
#ifndef ATOLL_COORDINATOR_CONN_H
#define ATOLL_COORDINATOR_CONN_H

#include "wire.h"

#include <uv.h>

typedef struct at_conn at_conn;
typedef struct at_conn_handlers {
    void (*opened)(void *context); /* the peer has proved its key */
    /* Not 0 closes the connection for that reason. */
    int (*message)(void *context, const at_node *message, at_error *err);
    /* Exactly once, never from within a send; the connection is gone after it. */
    void (*closed)(void *context, const at_error *why);
} at_conn_handlers;

at_conn *at_conn_new(uv_loop_t *loop, const at_key *key, at_wire_role role,
                     const at_conn_handlers *handlers, void *context, at_error *err);
uv_tcp_t *at_conn_stream(at_conn *c); /* to accept into, or to connect with */
void at_conn_begin(at_conn *c);       /* once the socket is connected */
/* Takes the message. What cannot be sent closes the connection, soon. */
void at_conn_send(at_conn *c, at_node *message);
/* Calls closed with `why`; what was sent before still goes out. */
void at_conn_close(at_conn *c, const at_error *why);
const char *at_conn_peer(const at_conn *c); /* "10.0.0.7:41232" */

#endif
