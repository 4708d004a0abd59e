/* SPDX-License-Identifier: Apache-2.0
 * Line, scatter and bar charts as inline SVG: no script, no foreign file; colours follow the page's style sheet.
 */
#include "internal.h"

#include <float.h>
#include <math.h>

enum { WIDTH = 440, HEIGHT = 260, LEFT = 58, RIGHT = 22, TOP = 30, BOTTOM = 40, COLOURS = 4 };

typedef struct axis {
    double low, high, step;
    bool log, whole;
} axis;

static double scale(const axis *a, double v)
{
    return ((a->log ? log10(v) : v) - a->low) / (a->high - a->low);
}

static bool drawable(const axis *x, double vx, double vy)
{
    return isfinite(vx) && isfinite(vy) && (!x->log || vx > 0);
}

/* A step of 1, 2 or 5 times a power of ten that gives at most six ticks. */
static double round_step(double span)
{
    double rough = span / 5, power = pow(10, floor(log10(rough))), m = rough / power;
    return power * (m <= 1 ? 1 : m <= 2 ? 2 : m <= 5 ? 5 : 10);
}

static void fit_axis(axis *a, double low, double high)
{
    if (a->log) {
        low = log10(low);
        high = log10(high);
    }
    if (!(high - low > 1e-12 * fmax(fabs(high), 1e-300))) {
        double pad = low == 0 || a->whole ? 1 : fabs(low) * 0.1;
        low -= pad;
        high += pad;
    }
    a->step = a->whole ? fmax(1, round_step(high - low)) : round_step(high - low);
    a->low = floor(low / a->step + 1e-9) * a->step;
    a->high = ceil(high / a->step - 1e-9) * a->step;
}

static bool fit(const at_chart *chart, const at_series *series, size_t n, axis *x, axis *y)
{
    double low[2] = {DBL_MAX, DBL_MAX}, high[2] = {-DBL_MAX, -DBL_MAX};
    for (size_t s = 0; s < n; s++)
        for (size_t i = 0; i < series[s].count + series[s].bars; i++) {
            /* the last bar's right edge has no height */
            double v[2] = {series[s].x[i], i < series[s].count ? series[s].y[i] : 0};
            for (int d = 0; d < 2 && drawable(x, v[0], v[1]); d++) {
                low[d] = fmin(low[d], v[d]);
                high[d] = fmax(high[d], v[d]);
            }
        }
    if (low[0] > high[0])
        return false;
    fit_axis(x, low[0], high[0]);
    fit_axis(y, chart->shares ? fmin(low[1], 0) : low[1], high[1]);
    return true;
}

static double place_x(const axis *x, double v)
{
    return LEFT + scale(x, v) * (WIDTH - LEFT - RIGHT);
}

static double place_y(const axis *y, double v)
{
    return HEIGHT - BOTTOM - scale(y, v) * (HEIGHT - TOP - BOTTOM);
}

static void draw_x_tick(at_text *page, const axis *x, double value)
{
    at_text_add(page, "<text class=tick x=%.1f y=%d text-anchor=middle>%.6g</text>",
                place_x(x, value), HEIGHT - BOTTOM + 16, value);
}

/* Powers of ten, with twice and five times each where there are few, or all between where there is one. */
static void draw_log_ticks(at_text *page, const axis *x)
{
    static const double within[] = {1, 2, 5, 3, 4, 6, 7, 8, 9};
    int each = x->high - x->low <= 0.7 ? 9 : x->high - x->low <= 2.5 ? 3 : 1;
    for (double power = floor(x->low); power <= x->high; power++)
        for (int i = 0; i < each; i++) {
            double value = within[i] * pow(10, power), at = scale(x, value);
            if (at > -1e-6 && at < 1 + 1e-6)
                draw_x_tick(page, x, value);
        }
}

static void draw_names(at_text *page, const axis *x, const at_node *names)
{
    for (size_t i = 0; i < at_node_count(names); i++) {
        at_text_add(page, "<text class=tick x=%.1f y=%d text-anchor=middle>", place_x(x, (double)i),
                    HEIGHT - BOTTOM + 16);
        at_html_text(page, at_node_text(at_node_at(names, i)));
        at_text_add(page, "</text>");
    }
}

static void draw_ticks(at_text *page, const axis *x, const axis *y, const at_node *names)
{
    for (double t = y->low; t <= y->high + y->step / 2; t += y->step) {
        double at = place_y(y, t);
        at_text_add(page, "<line class=grid x1=%d x2=%d y1=%.1f y2=%.1f />", LEFT, WIDTH - RIGHT,
                    at, at);
        at_text_add(page, "<text class=tick x=%d y=%.1f text-anchor=end>%.6g</text>", LEFT - 6,
                    at + 4, fabs(t) < y->step / 1e6 ? 0 : t);
    }
    if (x->log)
        draw_log_ticks(page, x);
    draw_names(page, x, names);
    for (double t = x->low; !x->log && !names && t <= x->high + x->step / 1e6; t += x->step)
        draw_x_tick(page, x, fabs(t) < x->step / 1e6 ? 0 : t);
}

static void draw_line(at_text *page, const at_series *s, const axis *x, const axis *y)
{
    at_text_add(page, "<polyline class=\"line c%d\" points=\"", s->colour % COLOURS);
    for (size_t i = 0; i < s->count; i++)
        if (drawable(x, s->x[i], s->y[i]))
            at_text_add(page, "%.1f,%.1f ", place_x(x, s->x[i]), place_y(y, s->y[i]));
    at_text_add(page, "\"/>");
}

static void draw_points(at_text *page, const at_series *s, const axis *x, const axis *y)
{
    for (size_t i = 0; i < s->count; i++)
        if (drawable(x, s->x[i], s->y[i]))
            at_text_add(
                page,
                "<circle class=\"dot c%d\" cx=%.1f cy=%.1f r=4><title>%.5g: %.5g</title></circle>",
                s->colour % COLOURS, place_x(x, s->x[i]), place_y(y, s->y[i]), s->x[i], s->y[i]);
}

static void draw_bars(at_text *page, const at_series *s, const axis *x, const axis *y)
{
    for (size_t i = 0; i < s->count; i++) {
        double left = place_x(x, s->x[i]), right = place_x(x, s->x[i + 1]),
               top = place_y(y, s->y[i]);
        if (s->y[i] > 0)
            at_text_add(
                page,
                "<rect class=\"bar c%d\" x=%.1f y=%.1f width=%.1f height=%.1f><title>%.4g to "
                "%.4g: %.6g</title></rect>",
                s->colour % COLOURS, left + 0.5, top, right - left - 1, HEIGHT - BOTTOM - top,
                s->x[i], s->x[i + 1], s->y[i]);
    }
}

static void draw_series(at_text *page, const at_series *s, const axis *x, const axis *y)
{
    if (s->bars)
        draw_bars(page, s, x, y);
    else if (s->points)
        draw_points(page, s, x, y);
    else
        draw_line(page, s, x, y);
}

static void draw_legend(at_text *page, const at_series *series, size_t n)
{
    int right = WIDTH - RIGHT;
    for (size_t s = n; s-- > 0;) {
        if (!series[s].name)
            continue;
        at_text_add(page, "<text class=\"legend c%d\" x=%d y=18 text-anchor=end>",
                    series[s].colour % COLOURS, right);
        at_html_text(page, series[s].name);
        at_text_add(page, "</text>");
        size_t length = 0;
        while (series[s].name[length])
            length++;
        right -= (int)length * 7 + 14;
    }
}

void at_chart_draw(at_text *page, const at_chart *chart, const at_series *series, size_t n)
{
    axis x = {.log = chart->log_x, .whole = chart->whole_x}, y = {0};
    if (!fit(chart, series, n, &x, &y))
        return;
    if (chart->names) { /* room at both ends */
        x.low = -0.5;
        x.high = (double)at_node_count(chart->names) - 0.5;
    }
    if (chart->x_low < chart->x_high) {
        x.low = chart->x_low;
        x.high = chart->x_high;
        x.step = round_step(0.9 * (x.high - x.low)); /* such an end is seldom round */
    }
    at_text_add(page, "<svg viewBox=\"0 0 %d %d\" role=img><text class=title x=%d y=18>", WIDTH,
                HEIGHT, LEFT);
    at_html_text(page, chart->title);
    at_text_add(page, "</text>");
    draw_ticks(page, &x, &y, chart->names);
    for (size_t s = 0; s < n; s++)
        draw_series(page, &series[s], &x, &y);
    draw_legend(page, series, n);
    at_text_add(page, "<text class=tick x=%d y=%d text-anchor=middle>", (LEFT + WIDTH - RIGHT) / 2,
                HEIGHT - 6);
    at_html_text(page, chart->x_label);
    at_text_add(page, "</text></svg>\n");
}
