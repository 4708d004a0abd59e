/* SPDX-License-Identifier: Apache-2.0
 * What a picture may be and cost to be decoded.
 *
 * An ingest holds every picture against these limits and writes them into meta, so that whoever
 * decodes the data set later (the cache, reports) takes what the ingest took. A data set from before
 * a limit was written down tells nothing of it: then what that version allowed counts. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

/* X(field, key of meta, default, of a data set that does not tell) */
#define LIMITS(X)                                                                                  \
    X(pixels, "max_pixels", AT_MAX_PIXELS, 128 << 20)                                              \
    X(bytes, "max_bytes", AT_MAX_BYTES, 256 << 20)                                                 \
    X(seconds, "max_seconds", AT_MAX_SECONDS, AT_MAX_SECONDS)                                      \
    X(scans, "max_scans", AT_MAX_SCANS, 500)

const char *const at_limit_keys[] = {
#define X(field, key, usual, before) key,
    LIMITS(X)
#undef X
        NULL};

at_decode_limits at_limits_resolved(at_decode_limits limits)
{
#define X(field, key, usual, before) limits.field = limits.field > 0 ? limits.field : usual;
    LIMITS(X)
#undef X
    return limits;
}

at_decode_limits at_limits_before(void)
{
    return (at_decode_limits){
#define X(field, key, usual, before) .field = before,
        LIMITS(X)
#undef X
    };
}

void at_limit_text(const at_decode_limits *limits, int i, char out[AT_LIMIT_TEXT])
{
    const double values[] = {
#define X(field, key, usual, before) (double)limits->field,
        LIMITS(X)
#undef X
    };
    snprintf(out, AT_LIMIT_TEXT, "%.15g", values[i]);
}

void at_limit_read(at_decode_limits *limits, const char *key, const char *text)
{
#define X(field, name, usual, before)                                                              \
    if (!strcmp(key, name))                                                                        \
        limits->field = (__typeof__(limits->field))strtod(text, NULL);
    LIMITS(X)
#undef X
}

void at_limits_widen(at_decode_limits *limits, const at_decode_limits *other)
{
#define X(field, key, usual, before)                                                               \
    limits->field = limits->field > other->field ? limits->field : other->field;
    LIMITS(X)
#undef X
}
