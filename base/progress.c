/* SPDX-License-Identifier: Apache-2.0
 * Progress on stderr: on a terminal one line that is drawn over, elsewhere a plain line at most
 * every 10 s; the last line stays. Any thread may update: what an update reads before it takes the
 * screen's lock (log.c) is atomic, and the lock guards the rest. */
#include "atoll/base.h"
#include "internal.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { BAR_MAX = 40, BAR_MIN = 8, NOTE_MAX = 200 };
static const double draw_every_terminal = 0.1, draw_every_plain = 10;

struct at_progress {
    char *label, *unit;
    double total, start;
    bool terminal, utf8;
    double first_done, first_time; /* of the first update: a resumed job does not begin at 0 */
    char note[NOTE_MAX];
    _Atomic double done, next_draw;
    _Atomic int updates;
};

static _Atomic bool silent;

void at_progress_silence(bool quiet)
{
    silent = quiet;
}

static bool is_terminal(void)
{
    const char *kind = getenv("TERM");
    return isatty(STDERR_FILENO) && kind && strcmp(kind, "dumb") != 0;
}

/* As the C library ranks them: the first of these that is set decides. */
static bool is_utf8(void)
{
    const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *value = getenv(names[i]);
        if (value && *value)
            return strcasestr(value, "utf-8") || strcasestr(value, "utf8");
    }
    return false;
}

at_progress *at_progress_new(const char *label, double total, const char *unit)
{
    at_progress *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->label = strdup(label);
    p->unit = strdup(unit ? unit : "");
    if (!p->label || !p->unit) {
        free(p->label);
        free(p->unit);
        free(p);
        return NULL;
    }
    p->total = total > 0 ? total : 0;
    p->start = at_now();
    p->terminal = is_terminal();
    p->utf8 = is_utf8();
    p->next_draw = p->start + (p->terminal ? 0 : draw_every_plain);
    return p;
}

/* "12.3 MB" for bytes, else "12345" or "1.2". */
static void add_amount(at_text *t, double value, const char *unit)
{
    static const char *const prefixes[] = {"B", "kB", "MB", "GB", "TB"};
    if (strcmp(unit, "bytes") == 0 || strcmp(unit, "B") == 0) {
        int i = 0;
        for (; value >= 1000 && i < 4; i++)
            value /= 1000;
        at_text_add(t, "%.*f %s", i ? 1 : 0, value, prefixes[i]);
        return;
    }
    bool whole = value >= 100 || value == floor(value);
    at_text_add(t, "%.*f%s%s", whole ? 0 : value < 1 ? 3 : 1, value, *unit ? " " : "", unit);
}

static void add_duration(at_text *t, double seconds)
{
    if (seconds < 10) {
        at_text_add(t, "%.1f s", seconds);
        return;
    }
    long s = seconds < 1e9 ? lround(seconds) : 1000000000L;
    if (s < 3600)
        at_text_add(t, "%ld:%02ld", s / 60, s % 60);
    else
        at_text_add(t, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
}

/* Of what was done since the first update; of all where there was no other. */
static double rate_of(const at_progress *p, double done, double now)
{
    if (p->updates > 1 && done > p->first_done && now > p->first_time)
        return (done - p->first_done) / (now - p->first_time);
    return now > p->start ? done / (now - p->start) : 0;
}

/* "31500/70000 images, 12345 images/s, 0:03 left, NOTE" */
static void add_figures(at_text *t, const at_progress *p, double done, double now, bool last)
{
    double rate = rate_of(p, done, now);
    if (p->total > 0 && strcmp(p->unit, "bytes") != 0)
        at_text_add(t, "%.0f/", done);
    add_amount(t, p->total > 0 && strcmp(p->unit, "bytes") != 0 ? p->total : done, p->unit);
    if (p->total > 0 && strcmp(p->unit, "bytes") == 0) {
        at_text_add(t, " of ");
        add_amount(t, p->total, p->unit);
    }
    if (rate > 0) {
        at_text_add(t, ", ");
        add_amount(t, rate, p->unit);
        at_text_add(t, "/s");
    }
    if (last) {
        at_text_add(t, ", ");
        add_duration(t, now - p->start);
    } else if (rate > 0 && p->total > done) {
        at_text_add(t, ", ");
        add_duration(t, (p->total - done) / rate);
        at_text_add(t, " left");
    }
    if (p->note[0])
        at_text_add(t, ", %s", p->note);
}

/* A bar of `cells` columns; with blocks of eighths where the terminal knows them. */
static void add_bar(at_text *t, double share, int cells, bool utf8)
{
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    int steps = (int)(share * cells * 8);
    int full = steps / 8, part = steps % 8;
    at_text_add(t, utf8 ? "▕" : "[");
    for (int i = 0; i < full; i++)
        at_text_add(t, utf8 ? "█" : "#");
    bool partly = utf8 && part;
    if (partly)
        at_text_add(t, "%s", eighths[part]);
    at_text_add(t, "%*s%s", cells - full - partly, "", utf8 ? "▏" : "]");
}

static int columns(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return 80;
}

/* Columns are counted as code points, and no sequence is cut in two. */
static size_t count_columns(const char *s)
{
    size_t n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static void cut_to(at_text *t, size_t width)
{
    size_t n = 0;
    for (size_t i = 0; i < t->length; i++) {
        n += ((unsigned char)t->data[i] & 0xc0) != 0x80;
        if (n > width) {
            t->data[t->length = i] = 0;
            return;
        }
    }
}

static double share_of(const at_progress *p, double done)
{
    double share = p->total > 0 ? done / p->total : 0;
    return share < 0 ? 0 : share > 1 ? 1 : share;
}

static void compose(at_text *line, const at_progress *p, double now, bool last)
{
    double done = p->done, share = share_of(p, done);
    at_text figures = {0};
    add_figures(&figures, p, done, now, last);
    at_text_add(line, "%s ", p->label);
    if (p->total > 0)
        at_text_add(line, "%3.0f%% ", floor(100 * share));
    if (p->terminal && p->total > 0 && !figures.failed && !line->failed) {
        size_t used = count_columns(line->data) + count_columns(figures.data) + 4;
        int room = columns() - (int)used;
        if (room >= BAR_MIN) {
            add_bar(line, share, room < BAR_MAX ? room : BAR_MAX, p->utf8);
            at_text_add(line, " ");
        }
    }
    at_text_add(line, "%s", figures.failed ? "" : figures.data);
    at_text_fini(&figures);
}

/* With the screen's lock held. A line that stays may wrap, one that is drawn over must not. */
static void draw(const at_progress *p, double now, bool last)
{
    at_text line = {0};
    bool stays = last || !p->terminal;
    compose(&line, p, now, last);
    if (stays)
        at_text_add(&line, "\n");
    else if (!line.failed)
        cut_to(&line, (size_t)columns() - 1);
    if (!line.failed)
        (stays ? at_screen_print : at_screen_bar)(line.data);
    at_text_fini(&line);
}

static void set_note(at_progress *p, const char *note)
{
    if (!note)
        return;
    size_t length = 0;
    for (; note[length] && length < NOTE_MAX - 1; length++)
        p->note[length] = (unsigned char)note[length] < ' ' ? ' ' : note[length];
    p->note[length] = 0;
}

void at_progress_update(at_progress *p, double done, const char *note)
{
    if (!p)
        return;
    p->done = done;
    double now = at_now();
    if (p->updates && now < p->next_draw)
        return;
    at_screen_lock();
    if (!p->updates++) {
        p->first_done = done;
        p->first_time = now;
    }
    bool ends = !p->terminal && p->total > 0 && done >= p->total; /* its line is at_progress_end's */
    if (now >= p->next_draw && !ends) {
        p->next_draw = now + (p->terminal ? draw_every_terminal : draw_every_plain);
        set_note(p, note);
        if (!silent)
            draw(p, now, false);
    }
    at_screen_unlock();
}

void at_progress_end(at_progress *p, const char *note)
{
    if (!p)
        return;
    at_screen_lock();
    set_note(p, note);
    if (!silent)
        draw(p, at_now(), true);
    at_screen_unlock();
    free(p->label);
    free(p->unit);
    free(p);
}
