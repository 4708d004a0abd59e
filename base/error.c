/* SPDX-License-Identifier: Apache-2.0
 * Errors: one table (AT_ERRORS) makes the codes, their names and the program's exit statuses.
 * A message is formatted aside first, so that it may quote the message that it replaces. */
#include "atoll/base.h"

#include <errno.h>
#include <string.h>

static const struct {
    const char *name, *text;
    int code, status;
} errors[] = {
#define X(name, code, status, text) {#name, text, code, status},
    AT_ERRORS(X)
#undef X
};
enum { N_ERRORS = sizeof errors / sizeof errors[0] };

static int fill(at_error *err, int code, const char *format, va_list args)
{
    if (!err)
        return code;
    char message[sizeof err->message];
    vsnprintf(message, sizeof message, format, args);
    memcpy(err->message, message, sizeof message);
    err->code = code;
    return code;
}

int at_fail(at_error *err, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(err, code, format, args);
    va_end(args);
    return code;
}

static int code_of_errno(int number)
{
    switch (number) {
    case ENOENT:
    case ENOTDIR:
        return AT_ENOENT;
    case EACCES:
    case EPERM:
    case EISDIR:
    case ELOOP:
    case ENAMETOOLONG:
        return AT_EINPUT;
    case ENOMEM:
        return AT_ENOMEM;
    case EINTR:
        return AT_EINTERRUPTED;
    default:
        return AT_EIO;
    }
}

int at_fail_errno(at_error *err, int number, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int code = fill(err, code_of_errno(number), format, args);
    va_end(args);
    if (err) {
        char reason[128];
        size_t used = strlen(err->message);
        snprintf(err->message + used, sizeof err->message - used, ": %s",
                 strerror_r(number, reason, sizeof reason));
    }
    return code;
}

int at_fail_in(at_error *err, const char *format, ...)
{
    if (!err)
        return AT_EFAIL;
    char context[sizeof err->message];
    va_list args;
    va_start(args, format);
    vsnprintf(context, sizeof context, format, args);
    va_end(args);
    return at_fail(err, err->code, "%s: %s", context, err->message);
}

int at_nomem(at_error *err)
{
    return at_fail(err, AT_ENOMEM, "out of memory");
}

const char *at_error_name(int code)
{
    for (int i = 0; i < N_ERRORS; i++)
        if (errors[i].code == code)
            return errors[i].name;
    return "unknown error";
}

const char *at_error_text(int code)
{
    for (int i = 0; i < N_ERRORS; i++)
        if (errors[i].code == code)
            return errors[i].text;
    return "failed";
}

int at_error_exit_status(int code)
{
    for (int i = 0; i < N_ERRORS; i++)
        if (errors[i].code == code)
            return errors[i].status;
    return 1;
}
