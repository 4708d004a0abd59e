/* SPDX-License-Identifier: Apache-2.0
 * HOST:PORT, and signals on a loop that are given back afterwards. */
#ifndef ATOLL_COORDINATOR_ADDRESS_H
#define ATOLL_COORDINATOR_ADDRESS_H

#include <atoll/base.h>

#include <signal.h>
#include <uv.h>

typedef struct at_address {
    char host[256];
    int port;
} at_address;
/* "host:port" or "[v6]:port"; AT_EUSAGE else. */
int at_address_parse(const char *text, at_address *out, at_error *err);
/* The socket addresses of it, by uv_freeaddrinfo; blocks. AT_EINPUT where the name is unknown. */
int at_address_resolve(uv_loop_t *loop, const at_address *address, struct addrinfo **out,
                       at_error *err);

/* SIGINT, SIGTERM and SIGUSR1 call a function on the loop; SIGPIPE is ignored. end puts back what
 * was before; the loop must run once more to close the handles. */
enum { AT_SIGNALS = 3 };
typedef struct at_signals {
    uv_signal_t handles[AT_SIGNALS];
    struct sigaction before[AT_SIGNALS], pipe_before;
} at_signals;
int at_signals_begin(at_signals *s, uv_loop_t *loop, uv_signal_cb callback, void *data,
                     at_error *err);
void at_signals_close(at_signals *s);         /* while the loop still runs */
void at_signals_restore(const at_signals *s); /* after it */

#endif
