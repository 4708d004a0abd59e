/* SPDX-License-Identifier: Apache-2.0
 * What the coordinator's loop (hub.c) and its side of a connection (peer.c) share. */
#ifndef ATOLL_COORDINATOR_HUB_INTERNAL_H
#define ATOLL_COORDINATOR_HUB_INTERNAL_H

#include "conn.h"
#include "hub.h"

typedef enum { AT_HUB_RUNNING, AT_HUB_STOPPING, AT_HUB_ENDING, AT_HUB_CLOSED } at_hub_state;

typedef struct at_hub at_hub;
typedef struct at_peer {
    at_hub *hub;
    at_conn *conn;
    struct at_peer *next;
    bool joined, leaving;
    char *name;
    char *place; /* host and set of CPUs: peers of one place share `cpus` */
    int64_t cpus;
    at_trial *trial; /* under lease; NULL: free */
    double leased;   /* at_now */
} at_peer;
struct at_hub {
    uv_loop_t loop;
    const at_hub_options *options;
    at_schedule *schedule;
    at_hub_state state;
    int ticks; /* in this state, or while waiting for the first workers */
    bool assembled, any_joined;
    at_signals signals;
    uv_tcp_t listener;
    uv_timer_t timer;
    char *join, *join_file;
    at_launcher *launcher;
    bool launcher_gone;
    at_error launcher_why; /* code not 0: none of its processes is left */
    at_peer *peers;        /* in order of joining */
    int64_t joined, most;
    at_progress *progress;
    bool terminal; /* else the lines of trials are progress enough */
    at_error why;  /* of the end; code 0: all trials have ended */
};

/* peer.c */
void at_hub_accept(uv_stream_t *listener, int status); /* listener->data: the hub */
void at_hub_assign(at_hub *h);                         /* every free worker gets a trial */
void at_hub_tell(at_hub *h, const char *type);         /* all that have joined */

/* hub.c */
void at_hub_stop(at_hub *h, const at_error *why); /* no more leases; trials are asked back */
void at_hub_settle(at_hub *h);                    /* does what follows from any change */

#endif
