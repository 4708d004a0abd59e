/* SPDX-License-Identifier: Apache-2.0
 * Pictures from http and https addresses into memory, for lists of them (source_urls.c).
 *
 * What is no picture by its first bytes, or too large, is not read to its end. What fails in passing
 * is tried again; an item that an interruption kept from coming is neither picture nor error: it is
 * dropped, and asked for when the ingest is resumed. A server that lets the bytes of a picture drip
 * would keep a thread for days: it is given up like one that says nothing. */
#include "http.h"
#include "internal.h"

#include <stdlib.h>
#include <string.h>

enum { TRIES = 3, FIRST_BYTES = 1 << 16, LEAST_RATE = 1024 /* bytes a second */ };

struct at_fetcher {
    const at_curl *lib;
    CURL *curl;
    at_item *item; /* at work */
    size_t limit;
    double patience, begun; /* seconds; at_now() */
    bool too_slow;
    bool enough; /* what came so far tells what is wrong with it */
    bool no_memory;
    char message[CURL_ERROR_SIZE];
};

static bool make_room(at_buffer *b, size_t size)
{
    size_t wanted = b->capacity < FIRST_BYTES ? FIRST_BYTES : b->capacity;
    while (wanted < size)
        wanted *= 2;
    return at_buffer_reserve(b, wanted);
}

static size_t on_data(char *data, size_t size, size_t count, void *context)
{
    at_fetcher *f = context;
    at_buffer *b = &f->item->bytes;
    size_t bytes = size * count;
    if (bytes > f->limit - b->size) {
        at_item_fail(f->item, AT_REASON_TOO_LARGE, "more than %zu bytes, which --max-bytes raises",
                     f->limit);
        return 0;
    }
    f->no_memory = !make_room(b, b->size + bytes);
    if (f->no_memory)
        return 0;
    memcpy(b->data + b->size, data, bytes);
    b->size += bytes;
    at_format_id format = at_format_sniff(b->data, b->size);
    f->enough =
        b->size >= AT_SNIFF_BYTES && (format == AT_FORMAT_NONE || format == AT_FORMAT_FOREIGN);
    return f->enough ? 0 : bytes;
}

static int on_progress(void *context, curl_off_t total, curl_off_t now, curl_off_t up_total,
                       curl_off_t up_now)
{
    at_fetcher *f = context;
    double taken = at_now() - f->begun;
    (void)total;
    (void)up_total;
    (void)up_now;
    f->too_slow = taken > f->patience && (double)now < LEAST_RATE * taken;
    return at_interrupted() || f->too_slow;
}

static void set_options(at_fetcher *f)
{
    f->lib->easy_reset(f->curl);
    at_http_options(f->lib, f->curl, f->item->file.data, f->message);
    f->lib->easy_setopt(f->curl, CURLOPT_FILETIME, 1L);
    f->lib->easy_setopt(f->curl, CURLOPT_WRITEFUNCTION, on_data);
    f->lib->easy_setopt(f->curl, CURLOPT_WRITEDATA, f);
    f->lib->easy_setopt(f->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    f->lib->easy_setopt(f->curl, CURLOPT_XFERINFODATA, f);
    f->lib->easy_setopt(f->curl, CURLOPT_NOPROGRESS, 0L);
}

/* Whether the item is done with, one way or the other. */
static bool try_once(at_fetcher *f, bool last)
{
    at_item *item = f->item;
    long http = 0, modified = -1;
    item->bytes.size = 0;
    f->enough = f->no_memory = f->too_slow = false;
    f->begun = at_now();
    f->message[0] = 0;
    set_options(f);
    CURLcode status = f->lib->easy_perform(f->curl);
    f->lib->easy_getinfo(f->curl, CURLINFO_RESPONSE_CODE, &http);
    f->lib->easy_getinfo(f->curl, CURLINFO_FILETIME, &modified);
    item->mtime = modified > 0 ? modified : 0;
    if (status == CURLE_OK || f->enough || item->bad)
        return true;
    item->dropped = at_interrupted();
    if (item->dropped || (!last && at_http_passing(status, http)))
        return item->dropped;
    if (f->too_slow)
        at_item_fail(item, AT_REASON_TIMEOUT,
                     "the server sends less than %d bytes a second, for %g s", (int)LEAST_RATE,
                     f->patience);
    else if (f->no_memory)
        at_item_fail(item, AT_REASON_UNREADABLE, "out of memory");
    else if (status == CURLE_HTTP_RETURNED_ERROR)
        at_item_fail(item, AT_REASON_UNREADABLE, "the server answers %ld", http);
    else
        at_item_fail(item, AT_REASON_UNREADABLE, "%s",
                     f->message[0] ? f->message : f->lib->easy_strerror(status));
    return true;
}

static at_fetcher *fetcher_new(at_error *err)
{
    const at_curl *lib = at_curl_open(err);
    if (!lib)
        return NULL;
    at_fetcher *f = calloc(1, sizeof *f);
    if (f && (f->curl = lib->easy_init())) {
        f->lib = lib;
        return f;
    }
    free(f);
    at_nomem(err);
    return NULL;
}

void at_fetcher_free(at_fetcher *f)
{
    if (!f)
        return;
    f->lib->easy_cleanup(f->curl);
    free(f);
}

void at_item_fetch(at_item *item, at_fetcher **fetcher, size_t limit, double patience)
{
    at_error err = {0};
    at_fetcher *f = *fetcher ? *fetcher : (*fetcher = fetcher_new(&err));
    if (!f) {
        at_item_fail(item, AT_REASON_UNREADABLE, "%s", err.message);
        return;
    }
    f->item = item;
    f->limit = limit;
    f->patience = patience;
    item->dropped = at_interrupted();
    for (int i = 0; !item->dropped && !try_once(f, i == TRIES - 1); i++)
        at_http_pause(i);
}
