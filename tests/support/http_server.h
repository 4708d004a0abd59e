/* SPDX-License-Identifier: Apache-2.0
 * A small HTTP/1.1 server on 127.0.0.1 for tests of downloads, in a thread of its own. It answers
 * GET of the files below a folder, Range requests, and misbehaves on request.
 *
 *     http_server *s = http_server_start(dir, &(http_habits){.break_after = 5000});
 *     char *url = http_server_url(s, "file.bin");
 *     http_server_stop(s);
 */
#ifndef ATOLL_TEST_HTTP_SERVER_H
#define ATOLL_TEST_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>

typedef struct http_habits {
    size_t break_after;   /* closes each connection after so many bytes of a body; 0: never */
    bool no_ranges;       /* sends the whole file whatever is asked for */
    int failures;         /* answers 503 to so many requests at first */
    const char *redirect; /* Location of every answer (302), NULL: none */
    int pause_ms;         /* after every 4 KiB */
    bool mute;            /* never answers */
    const char *drip;     /* sends this, byte by byte for ever, instead of an answer; NULL: none */
} http_habits;
typedef struct http_server http_server;
http_server *http_server_start(const char *dir, const http_habits *habits);
char *http_server_url(const http_server *s, const char *path); /* malloc'd */
/* How many requests there were, how many with a Range, and bytes of bodies that were sent. */
void http_server_counts(http_server *s, int *requests, int *ranges, size_t *bytes);
void http_server_stop(http_server *s);

#endif
