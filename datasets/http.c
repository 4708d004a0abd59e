/* SPDX-License-Identifier: Apache-2.0
 * What all transfers by libcurl have in common, and the opening of libcurl itself. */
#include "http.h"

#include <dlfcn.h>
#include <pthread.h>
#include <time.h>

enum { CONNECT_SECONDS = 30, STALL_SECONDS = 60, REDIRECTS = 10 };

/* ---- the library: it stays open ---- */

static struct {
    at_curl functions;
    at_error failed; /* or why there is none */
} library;

static void open_library(void)
{
    static const char name[] = ATOLL_CURL_NAME, whole[] = ATOLL_CURL_FOLDER "/" ATOLL_CURL_NAME;
    void *opened = dlopen(whole, RTLD_NOW | RTLD_LOCAL);
    if (!opened)
        opened = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!opened) {
        at_fail(&library.failed, AT_EFAIL, "transfers need %s: %s", name, dlerror());
        return;
    }
#define X(function)                                                                                \
    *(void **)&library.functions.function = dlsym(opened, "curl_" #function);                      \
    if (!library.functions.function)                                                               \
        at_fail(&library.failed, AT_EFAIL, "%s has no curl_" #function, name);
    AT_CURL_FUNCTIONS(X)
#undef X
}

const at_curl *at_curl_open(at_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, open_library);
    if (!library.failed.code)
        return &library.functions;
    at_fail(err, library.failed.code, "%s", library.failed.message);
    return NULL;
}

/* ---- transfers ---- */

void at_http_options(const at_curl *lib, CURL *c, const char *url, char message[CURL_ERROR_SIZE])
{
    lib->easy_setopt(c, CURLOPT_URL, url);
    lib->easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    lib->easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    lib->easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
    lib->easy_setopt(c, CURLOPT_MAXREDIRS, (long)REDIRECTS);
    lib->easy_setopt(c, CURLOPT_FAILONERROR, 1L);
    lib->easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    lib->easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
    lib->easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    lib->easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)STALL_SECONDS);
    lib->easy_setopt(c, CURLOPT_USERAGENT, "atoll/" ATOLL_VERSION);
    lib->easy_setopt(c, CURLOPT_ERRORBUFFER, message);
}

bool at_http_passing(CURLcode status, long http)
{
    switch (status) {
    case CURLE_HTTP_RETURNED_ERROR:
        return http == 408 || http == 429 || http >= 500;
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        return true;
    default:
        return false;
    }
}

void at_http_pause(int in_vain)
{
    struct timespec pause = {.tv_sec = 0, .tv_nsec = 200L * 1000 * 1000};
    for (int i = 0; i < 1 << in_vain && !at_interrupted(); i++)
        nanosleep(&pause, NULL);
}
