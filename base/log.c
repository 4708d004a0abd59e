/* SPDX-License-Identifier: Apache-2.0
 * Log lines and the progress bar share stderr: the mutex guards the terminal's last line and
 * bar_shown. A line is formatted whole and written by one call, so that lines of many processes do
 * not mix. */
#include "atoll/base.h"
#include "internal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

static pthread_mutex_t screen = PTHREAD_MUTEX_INITIALIZER;
static bool bar_shown;
static _Atomic int max_level = AT_LOG_INFO;

static const char clear_line[] = "\r\033[K";

void at_screen_lock(void)
{
    pthread_mutex_lock(&screen);
}

void at_screen_unlock(void)
{
    pthread_mutex_unlock(&screen);
}

static void put(const char *before, const char *line)
{
    char *whole = at_format("%s%s", before, line);
    fputs(whole ? whole : line, stderr);
    free(whole);
    fflush(stderr);
}

void at_screen_print(const char *line)
{
    put(bar_shown ? clear_line : "", line);
    bar_shown = false;
}

void at_screen_bar(const char *line)
{
    put(clear_line, line);
    bar_shown = true;
}

void at_log_set_level(at_log_level level)
{
    max_level = (int)level;
}

at_log_level at_log_get_level(void)
{
    return (at_log_level)max_level;
}

void at_log(at_log_level level, const char *format, ...)
{
    static const char *const prefix[] = {"error: ", "warning: ", "", "debug: "};
    if ((int)level > max_level)
        return;
    at_text text = {0}, line = {0};
    va_list args;
    va_start(args, format);
    at_text_addv(&text, format, args);
    va_end(args);
    at_text_add(&line, "%s", prefix[level]);
    at_text_add_visible(&line, text.data ? text.data : "");
    at_text_add(&line, "\n");
    at_screen_lock();
    at_screen_print(line.failed || text.failed ? "error: out of memory\n" : line.data);
    at_screen_unlock();
    at_text_fini(&text);
    at_text_fini(&line);
}
