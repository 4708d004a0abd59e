/* SPDX-License-Identifier: Apache-2.0
 * HOST:PORT, and signals on a loop. */
#include "address.h"

#include <netdb.h>
#include <stdlib.h>
#include <string.h>

int at_address_parse(const char *text, at_address *out, at_error *err)
{
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    long port = colon ? strtol(colon + 1, &end, 10) : -1;
    if (!colon || colon == text || end == colon + 1 || *end || port < 0 || port > 65535)
        return at_fail(err, AT_EUSAGE, "\"%s\" is not HOST:PORT", text);
    size_t n = (size_t)(colon - text);
    bool bracketed = text[0] == '[' && colon[-1] == ']';
    if (n >= sizeof out->host || (!bracketed && memchr(text, ':', n)))
        return at_fail(err, AT_EUSAGE, "\"%s\" is not HOST:PORT (IPv6 is [::1]:PORT)", text);
    snprintf(out->host, sizeof out->host, "%.*s", (int)(bracketed ? n - 2 : n),
             bracketed ? text + 1 : text);
    out->port = (int)port;
    return 0;
}

int at_address_resolve(uv_loop_t *loop, const at_address *address, struct addrinfo **out,
                       at_error *err)
{
    uv_getaddrinfo_t request;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    char port[8];
    snprintf(port, sizeof port, "%d", address->port);
    int rc = uv_getaddrinfo(loop, &request, NULL, address->host, port, &hints);
    if (rc)
        return at_fail(err, AT_EINPUT, "cannot find host %s: %s", address->host, uv_strerror(rc));
    *out = request.addrinfo;
    return 0;
}

static const int numbers[AT_SIGNALS] = {SIGINT, SIGTERM, SIGUSR1};

int at_signals_begin(at_signals *s, uv_loop_t *loop, uv_signal_cb callback, void *data,
                     at_error *err)
{
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGPIPE, &ignore, &s->pipe_before);
    int rc = 0;
    for (int i = 0; i < AT_SIGNALS; i++) {
        sigaction(numbers[i], NULL, &s->before[i]);
        uv_signal_init(loop, &s->handles[i]);
        s->handles[i].data = data;
        int started = uv_signal_start(&s->handles[i], callback, numbers[i]);
        rc = rc ? rc : started;
    }
    return rc ? at_fail(err, AT_EFAIL, "cannot wait for signals: %s", uv_strerror(rc)) : 0;
}

void at_signals_close(at_signals *s)
{
    for (int i = 0; i < AT_SIGNALS; i++)
        if (!uv_is_closing((uv_handle_t *)&s->handles[i]))
            uv_close((uv_handle_t *)&s->handles[i], NULL);
}

void at_signals_restore(const at_signals *s)
{
    for (int i = 0; i < AT_SIGNALS; i++)
        sigaction(numbers[i], &s->before[i], NULL);
    sigaction(SIGPIPE, &s->pipe_before, NULL);
}
