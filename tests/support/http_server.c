/* SPDX-License-Identifier: Apache-2.0
 * A small HTTP/1.1 server on 127.0.0.1 for tests of downloads. One connection at a time. */
#include "http_server.h"

#include "atoll/base.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { BLOCK = 4096 };

struct http_server {
    const char *dir;
    http_habits habits;
    int listener, port;
    pthread_t thread;
    pthread_mutex_t mutex; /* guards the counts and habits.failures */
    int requests, ranges;
    size_t bytes;
};

static bool send_all(int fd, const char *data, size_t bytes)
{
    while (bytes) {
        ssize_t n = send(fd, data, bytes, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        data += n;
        bytes -= (size_t)n;
    }
    return true;
}

static void send_body(http_server *s, int fd, const char *data, size_t bytes)
{
    size_t limit =
        s->habits.break_after && s->habits.break_after < bytes ? s->habits.break_after : bytes;
    for (size_t at = 0; at < limit; at += BLOCK) {
        size_t n = limit - at < BLOCK ? limit - at : BLOCK;
        if (!send_all(fd, data + at, n))
            return;
        pthread_mutex_lock(&s->mutex);
        s->bytes += n;
        pthread_mutex_unlock(&s->mutex);
        nanosleep(&(struct timespec){.tv_nsec = s->habits.pause_ms * 1000000L}, NULL);
    }
}

static void send_file(http_server *s, int fd, const char *path, long long begin)
{
    char *file = at_path_join(s->dir, path), *data = NULL, head[300];
    size_t size = 0;
    if (!file || at_file_read(file, 1 << 30, &data, &size, NULL)) {
        send_all(fd, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 45);
    } else if (begin >= 0 && (size_t)begin >= size) {
        send_all(fd, "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n", 57);
    } else {
        size_t from = begin > 0 ? (size_t)begin : 0;
        int n = begin >= 0 ? snprintf(head, sizeof head,
                                      "HTTP/1.1 206 Partial Content\r\nContent-Length: %zu\r\n"
                                      "Content-Range: bytes %zu-%zu/%zu\r\n\r\n",
                                      size - from, from, size - 1, size)
                           : snprintf(head, sizeof head,
                                      "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", size);
        if (send_all(fd, head, (size_t)n))
            send_body(s, fd, data + from, size - from);
    }
    free(data);
    free(file);
}

/* Until the other side has had enough. */
static void drip(int fd, const char *text)
{
    const char *p = text;
    while (send_all(fd, p, 1)) {
        p = p[1] ? p + 1 : text;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
}

static void say_nothing(int fd)
{
    char c;
    while (recv(fd, &c, 1, 0) > 0)
        ;
}

static void answer(http_server *s, int fd, const char *request)
{
    char path[200] = "", head[400];
    sscanf(request, "GET /%199s", path);
    const char *range = strcasestr(request, "\r\nRange: bytes=");
    long long begin = range && !s->habits.no_ranges ? atoll(range + 15) : -1;
    pthread_mutex_lock(&s->mutex);
    s->requests++;
    s->ranges += range != NULL;
    bool fail = s->habits.failures > 0 && s->habits.failures--;
    pthread_mutex_unlock(&s->mutex);
    if (s->habits.mute) {
        say_nothing(fd);
    } else if (s->habits.drip) {
        drip(fd, s->habits.drip);
    } else if (fail) {
        send_all(fd, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", 55);
    } else if (s->habits.redirect) {
        int n = snprintf(head, sizeof head,
                         "HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n",
                         s->habits.redirect);
        send_all(fd, head, (size_t)n);
    } else {
        send_file(s, fd, path, begin);
    }
}

static void serve(http_server *s, int fd)
{
    char request[4096];
    size_t n = 0;
    while (n + 1 < sizeof request) {
        ssize_t got = recv(fd, request + n, sizeof request - 1 - n, 0);
        if (got <= 0)
            return;
        n += (size_t)got;
        request[n] = 0;
        if (strstr(request, "\r\n\r\n")) {
            answer(s, fd, request);
            return;
        }
    }
}

static void *serve_all(void *context)
{
    http_server *s = context;
    int fd;
    while ((fd = accept(s->listener, NULL, NULL)) >= 0) {
        serve(s, fd);
        shutdown(fd, SHUT_RDWR);
        close(fd);
    }
    return NULL;
}

http_server *http_server_start(const char *dir, const http_habits *habits)
{
    http_server *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->dir = dir;
    s->habits = *habits;
    pthread_mutex_init(&s->mutex, NULL);
    s->listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    assert_int_equal(bind(s->listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(s->listener, 16), 0);
    assert_int_equal(getsockname(s->listener, (struct sockaddr *)&address, &length), 0);
    s->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&s->thread, NULL, serve_all, s), 0);
    return s;
}

char *http_server_url(const http_server *s, const char *path)
{
    return at_format("http://127.0.0.1:%d/%s", s->port, path);
}

void http_server_counts(http_server *s, int *requests, int *ranges, size_t *bytes)
{
    pthread_mutex_lock(&s->mutex);
    *requests = s->requests;
    *ranges = s->ranges;
    *bytes = s->bytes;
    pthread_mutex_unlock(&s->mutex);
}

void http_server_stop(http_server *s)
{
    shutdown(s->listener, SHUT_RDWR); /* accept ends */
    pthread_join(s->thread, NULL);
    close(s->listener);
    pthread_mutex_destroy(&s->mutex);
    free(s);
}
