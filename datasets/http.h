/* SPDX-License-Identifier: Apache-2.0
 * What all transfers by libcurl have in common (download.c, fetch.c).
 *
 * libcurl is opened by the first transfer: it brings some thirty libraries along, which every command
 * would wait for at its start otherwise.
 */
#ifndef ATOLL_DATASETS_HTTP_H
#define ATOLL_DATASETS_HTTP_H

#include <atoll/base.h>
#define CURL_DISABLE_TYPECHECK /* names its functions, which are called through at_curl here */
#include <curl/curl.h>

#define AT_CURL_FUNCTIONS(X)                                                                       \
    X(easy_init)                                                                                   \
    X(easy_reset)                                                                                  \
    X(easy_setopt)                                                                                 \
    X(easy_perform)                                                                                \
    X(easy_getinfo)                                                                                \
    X(easy_strerror)                                                                               \
    X(easy_cleanup)
typedef struct at_curl {
#define X(name) __typeof__(curl_##name) *name;
    AT_CURL_FUNCTIONS(X)
#undef X
} at_curl;
/* The library, for as long as the process lives; from any thread. NULL: it cannot be opened. */
const at_curl *at_curl_open(at_error *err);

/* http and https only, a few redirects, limits of waiting; errors' text goes into message. */
void at_http_options(const at_curl *lib, CURL *curl, const char *url,
                     char message[CURL_ERROR_SIZE]);
/* Whether trying again may help; http: the answer's status. */
bool at_http_passing(CURLcode status, long http);
/* Waits before a further try, the longer the more there were in vain; less when interrupted. */
void at_http_pause(int in_vain);

#endif
