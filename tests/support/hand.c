/* SPDX-License-Identifier: Apache-2.0
 * A worker made by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hand.h"

int connect_to(const char *join)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)atoi(strchr(join, ':') + 1))};
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static int keep_message(void *context, const at_node *message, at_error *err)
{
    (void)err;
    hand *h = context;
    if (strcmp(at_node_text(at_node_get(message, "type")), "heartbeat") != 0) {
        at_node_free(h->latest);
        h->latest = at_node_copy(message);
    }
    return 0;
}

static void hand_over(hand *h, at_text *out)
{
    if (out->length)
        assert_int_equal(send(h->fd, out->data, out->length, MSG_NOSIGNAL), out->length);
    at_text_fini(out);
}

void hand_say(hand *h, at_node *message)
{
    at_text out = {0};
    assert_int_equal(at_wire_send(h->wire, message, &out, NULL), 0);
    hand_over(h, &out);
    at_node_free(message);
}

/* Reads until a message of this type has come. */
const at_node *hand_await(hand *h, const char *type)
{
    while (strcmp(at_node_text(at_node_get(h->latest, "type")), type) != 0) {
        char bytes[4096];
        at_text out = {0};
        at_error err = {0};
        ssize_t n = recv(h->fd, bytes, sizeof bytes, 0);
        assert_true(n > 0);
        assert_int_equal(at_wire_receive(h->wire, bytes, (size_t)n, &out, keep_message, h, &err),
                         0);
        hand_over(h, &out);
    }
    return h->latest;
}

void hand_join(hand *h, const char *join, const char *key_path)
{
    at_key key;
    at_text out = {0};
    *h = (hand){.fd = connect_to(join)};
    assert_int_equal(at_key_load(key_path, false, &key, NULL), 0);
    h->wire = at_wire_new(&key, AT_WIRE_CLIENT, &out, NULL);
    hand_over(h, &out);
    while (!at_wire_is_open(h->wire)) {
        char bytes[4096];
        ssize_t n = recv(h->fd, bytes, sizeof bytes, 0);
        assert_true(n > 0);
        assert_int_equal(at_wire_receive(h->wire, bytes, (size_t)n, &out, keep_message, h, NULL),
                         0);
    }
    hand_over(h, &out);
    at_node *hello = at_node_new(AT_MAP);
    at_set_string(hello, "type", "hello");
    at_set_string(hello, "name", "hand");
    at_set_string(hello, "host", "elsewhere");
    at_set_string(hello, "version", ATOLL_VERSION);
    at_set_int(hello, "cpus", 1);
    hand_say(h, hello);
}

void hand_leave(hand *h)
{
    close(h->fd);
    at_wire_free(h->wire);
    at_node_free(h->latest);
}

at_node *hand_result(int64_t trial, int64_t epoch)
{
    at_node *m = at_node_new(AT_MAP);
    at_set_string(m, "type", "result");
    at_set_int(m, "trial", trial);
    at_set_int(m, "epoch", epoch);
    at_set_int(m, "status", 0);
    return m;
}
