/* SPDX-License-Identifier: Apache-2.0
 * Downloads by libcurl, http and https only.
 *
 * Bytes go to <path>.part; a download that broke off goes on behind them with a Range request, and
 * if the server sends the whole file instead, from the beginning. What breaks off on the way is
 * tried again as long as it advances, five times in vain. Only a file with the right SHA-256 gets
 * its name. */
#include "http.h"
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TRIES = 5, READ_BLOCK = 1 << 20 };

struct download {
    const char *url, *name; /* name: the path's last part, for people */
    char *part;
    FILE *file;
    curl_off_t begin; /* bytes that were there before this try */
    const at_curl *lib;
    CURL *curl;
    at_progress *progress;
    bool write_failed, started;
    char message[CURL_ERROR_SIZE];
};

/* ---- libcurl's callbacks ---- */

/* At the first byte it shows whether the server goes on or sends the file from its beginning. */
static bool begin_body(struct download *d)
{
    long status = 0;
    d->lib->easy_getinfo(d->curl, CURLINFO_RESPONSE_CODE, &status);
    d->started = true;
    if (status == 206 || d->begin == 0)
        return true;
    d->begin = 0;
    return ftruncate(fileno(d->file), 0) == 0 && fseeko(d->file, 0, SEEK_SET) == 0;
}

static size_t on_data(char *data, size_t size, size_t count, void *context)
{
    struct download *d = context;
    size_t bytes = size * count;
    if ((!d->started && !begin_body(d)) || fwrite(data, 1, bytes, d->file) != bytes) {
        d->write_failed = true;
        return 0;
    }
    return bytes;
}

static int on_progress(void *context, curl_off_t total, curl_off_t now, curl_off_t up_total,
                       curl_off_t up_now)
{
    struct download *d = context;
    (void)up_total;
    (void)up_now;
    if (!d->progress && total > 0)
        d->progress = at_progress_new(d->name, (double)(d->begin + total), "bytes");
    at_progress_update(d->progress, (double)(d->begin + now), NULL);
    return at_interrupted();
}

/* ---- one try ---- */

static void set_options(struct download *d, const char *range)
{
    CURL *c = d->curl;
    at_http_options(d->lib, c, d->url, d->message);
    d->lib->easy_setopt(c, CURLOPT_RANGE, range);
    d->lib->easy_setopt(c, CURLOPT_WRITEFUNCTION, on_data);
    d->lib->easy_setopt(c, CURLOPT_WRITEDATA, d);
    d->lib->easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
    d->lib->easy_setopt(c, CURLOPT_XFERINFODATA, d);
    d->lib->easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
}

static int open_part(struct download *d, at_error *err)
{
    d->file = fopen(d->part, "ab");
    if (!d->file || fseeko(d->file, 0, SEEK_END))
        return at_fail_errno(err, errno, "cannot write %s", d->part);
    d->begin = ftello(d->file);
    return 0;
}

static int explain(struct download *d, CURLcode status, long http, at_error *err)
{
    if (status == CURLE_ABORTED_BY_CALLBACK || at_interrupted())
        return at_fail(err, AT_EINTERRUPTED, "interrupted: %s goes on from %s", d->url, d->part);
    if (d->write_failed)
        return at_fail_errno(err, errno, "cannot write %s", d->part);
    if (status == CURLE_HTTP_RETURNED_ERROR)
        return at_fail(err, AT_EIO, "%s: the server answers %ld", d->url, http);
    if (status == CURLE_UNSUPPORTED_PROTOCOL || status == CURLE_URL_MALFORMAT)
        return at_fail(err, AT_EINPUT, "%s: not an http or https address", d->url);
    return at_fail(err, AT_EIO, "%s: %s", d->url,
                   d->message[0] ? d->message : d->lib->easy_strerror(status));
}

/* 0: the whole file is in .part; 1: worth another try; negative: not. *advanced: bytes came. */
static int try_once(struct download *d, bool *advanced, at_error *err)
{
    int code = open_part(d, err);
    if (code < 0)
        return code;
    char range[32];
    snprintf(range, sizeof range, "%lld-", (long long)d->begin);
    d->started = d->write_failed = false;
    d->message[0] = 0;
    d->lib->easy_reset(d->curl);
    set_options(d, d->begin ? range : NULL);
    CURLcode status = d->lib->easy_perform(d->curl);
    long http = 0;
    d->lib->easy_getinfo(d->curl, CURLINFO_RESPONSE_CODE, &http);
    off_t length = ftello(d->file);
    bool closed = fflush(d->file) == 0 && fsync(fileno(d->file)) == 0;
    closed = fclose(d->file) == 0 && closed;
    d->file = NULL;
    *advanced = d->started && length > d->begin;
    if (status == CURLE_OK && !closed)
        return at_fail_errno(err, errno, "cannot write %s", d->part);
    if (status == CURLE_OK || (status == CURLE_HTTP_RETURNED_ERROR && http == 416))
        return 0; /* 416: nothing lies behind what is there; the hash decides */
    code = explain(d, status, http, err);
    return code == AT_EIO && at_http_passing(status, http) ? 1 : code;
}

static int fetch(struct download *d, at_error *err)
{
    int code = 1;
    for (int vain = 0; code == 1 && vain < TRIES;) {
        bool advanced = false;
        code = try_once(d, &advanced, err);
        vain = advanced ? 0 : vain + 1;
        if (code == 1 && vain < TRIES)
            at_http_pause(vain);
        if (code == 1 && at_interrupted())
            return at_fail(err, AT_EINTERRUPTED, "interrupted: %s goes on from %s", d->url,
                           d->part);
    }
    return code == 1 ? AT_EIO : code;
}

/* ---- the whole ---- */

int at_file_sha256(const char *path, char hex[65], uint64_t *bytes, at_error *err)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return at_fail_errno(err, errno, "cannot read %s", path);
    char *block = malloc(READ_BLOCK);
    at_sha256 *h = at_sha256_new();
    int code = block && h ? 0 : at_nomem(err);
    size_t n;
    for (*bytes = 0; code == 0 && (n = fread(block, 1, READ_BLOCK, file)) > 0; *bytes += n)
        at_sha256_add(h, block, n);
    if (code == 0 && ferror(file))
        code = at_fail_errno(err, errno, "cannot read %s", path);
    if (h)
        at_sha256_end(h, hex);
    free(block);
    fclose(file);
    return code;
}

/* 0: right; 1: wrong, and .part is gone; negative: error. */
static int check(struct download *d, const char *sha256, at_error *err)
{
    char hex[65];
    uint64_t bytes;
    int code = at_file_sha256(d->part, hex, &bytes, err);
    if (code < 0 || !strcmp(hex, sha256))
        return code;
    unlink(d->part);
    at_fail(err, AT_EINPUT,
            "%s: the SHA-256 of its %llu bytes is %s, but %s belongs there: not kept", d->url,
            (unsigned long long)bytes, hex, sha256);
    return 1;
}

static int run(struct download *d, const char *sha256, at_error *err)
{
    bool resumed = access(d->part, F_OK) == 0;
    int code = fetch(d, err);
    if (code == 0)
        code = check(d, sha256, err);
    if (code == 1 && resumed) { /* what lay there may have been of another file */
        code = fetch(d, err);
        if (code == 0)
            code = check(d, sha256, err);
    }
    return code == 1 ? AT_EINPUT : code;
}

int at_download(const char *url, const char *sha256, const char *path, at_error *err)
{
    const char *slash = strrchr(path, '/');
    struct download d = {
        .url = url, .name = slash ? slash + 1 : path, .part = at_format("%s.part", path)};
    d.lib = at_curl_open(err);
    d.curl = d.lib ? d.lib->easy_init() : NULL;
    int code = !d.lib ? AT_EFAIL : d.part && d.curl ? run(&d, sha256, err) : at_nomem(err);
    at_progress_end(d.progress, NULL);
    if (code == 0 && rename(d.part, path))
        code = at_fail_errno(err, errno, "cannot rename %s to %s", d.part, path);
    if (d.curl)
        d.lib->easy_cleanup(d.curl);
    free(d.part);
    return code;
}
