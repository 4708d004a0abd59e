/* SPDX-License-Identifier: Apache-2.0
 * What all transfers by libcurl have in common (download.c, fetch.c).
 */
#ifndef ATOLL_DATASETS_HTTP_H
#define ATOLL_DATASETS_HTTP_H

#include <curl/curl.h>
#include <stdbool.h>

/* http and https only, a few redirects, limits of waiting; errors' text goes into message. */
void at_http_options(CURL *curl, const char *url, char message[CURL_ERROR_SIZE]);
/* Whether trying again may help; http: the answer's status. */
bool at_http_passing(CURLcode status, long http);
/* Waits before a further try, the longer the more there were in vain; less when interrupted. */
void at_http_pause(int in_vain);

#endif
