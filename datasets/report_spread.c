/* SPDX-License-Identifier: Apache-2.0
 * How sizes, light and colours are spread over a data set: one pass over its contents fills
 * histograms of fixed size, which are then drawn; the same pass collects the looks of the contents
 * for the search of near duplicates. */
#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BINS = 768, MAX_BARS = 40, MAX_SIZES = 400, TOP_SIZES = 12 };

/* Bins of equal width from low to high; log: of log10. What lies outside goes to the end bins. */
struct spread {
    const char *title, *x_label;
    double low, high;
    int bins;
    bool log;
    bool whole; /* the axis goes from low to high, whatever there is */
    double counts[MAX_BINS];
};

enum { ASPECT, BYTES, LIGHT, CONTRAST, SHARPNESS, ENTROPY, SPREADS };
static const struct spread shapes[SPREADS] = {
    [ASPECT] = {"Aspect ratio", "width / height", -1, 1, 40, true},
    [BYTES] = {"Bytes of a file", "bytes", 1, 9, MAX_BINS, true},
    [LIGHT] = {"Brightness", "mean of a picture's channels, 0 to 255", 0, 255, 34, false, true},
    [CONTRAST] = {"Contrast", "mean of its channels' deviations", 0, 128, 32, false},
    [SHARPNESS] = {"Sharpness", "variance of the Laplacian", 0, 5, 40, true},
    [ENTROPY] = {"Entropy", "bits of the 16-bin histograms", 0, 4, 32, false},
};

struct spreads {
    struct spread of[SPREADS];
    double colours[3][AT_HISTOGRAM_BINS], grey[AT_HISTOGRAM_BINS];
    size_t coloured, greys, contents;
    at_look *looks;
    size_t capacity;
};

static void add_value(struct spread *s, double value)
{
    double v = s->log ? log10(fmax(value, 1e-9)) : value;
    double place = (v - s->low) / (s->high - s->low) * s->bins;
    int bin = place < 0 ? 0 : place >= s->bins ? s->bins - 1 : (int)place;
    s->counts[bin]++;
}

static void add_histogram(struct spreads *all, const uint8_t *p, size_t bytes)
{
    size_t channels = bytes / (2 * AT_HISTOGRAM_BINS);
    all->greys += channels == 1;
    all->coloured += channels == 3;
    for (size_t c = 0; c < channels && channels <= 3; c++)
        for (size_t i = 0; i < AT_HISTOGRAM_BINS; i++, p += 2) {
            double share = (double)(p[0] | p[1] << 8) / AT_HISTOGRAM_ONE;
            *(channels == 1 ? &all->grey[i] : &all->colours[c][i]) += share;
        }
}

static const char every_content[] =
    "SELECT id, dhash, width, height, bytes, sharpness, entropy, histogram, mean_0, mean_1, mean_2,"
    " deviation_0, deviation_1, deviation_2 FROM blobs";

/* Column `first` is that of channel 0. */
static void channels_of(const at_stmt *s, int first, float out[3])
{
    for (int c = 0; c < 3; c++)
        out[c] = (float)at_stmt_real(s, at_stmt_kind(s, first + c) == AT_NULL ? first : first + c);
}

static at_look look_of(const at_stmt *s)
{
    at_look look = {.blob = at_stmt_int(s, 0),
                    .dhash = (uint64_t)at_stmt_int(s, 1),
                    .sharpness = (float)at_stmt_real(s, 5),
                    .aspect = (float)at_stmt_int(s, 2) / (float)at_stmt_int(s, 3)};
    channels_of(s, 8, look.mean);
    channels_of(s, 11, look.deviation);
    return look;
}

static double mean3(const float v[3])
{
    return (double)(v[0] + v[1] + v[2]) / 3;
}

static int add_content(struct spreads *all, const at_stmt *s, at_error *err)
{
    if (all->contents == all->capacity) {
        size_t capacity = all->capacity ? 2 * all->capacity : 4096;
        at_look *looks = realloc(all->looks, capacity * sizeof *looks);
        if (!looks)
            return at_nomem(err);
        all->looks = looks;
        all->capacity = capacity;
    }
    at_look look = all->looks[all->contents++] = look_of(s);
    add_value(&all->of[ASPECT], (double)look.aspect);
    add_value(&all->of[BYTES], at_stmt_real(s, 4));
    add_value(&all->of[LIGHT], mean3(look.mean));
    add_value(&all->of[CONTRAST], mean3(look.deviation));
    add_value(&all->of[SHARPNESS], at_stmt_real(s, 5));
    add_value(&all->of[ENTROPY], at_stmt_real(s, 6));
    size_t bytes;
    const void *histogram = at_stmt_blob(s, 7, &bytes);
    add_histogram(all, histogram, bytes);
    return 0;
}

/* ---- drawing ---- */

static double edge_of(const struct spread *s, int bin)
{
    double edge = s->low + (s->high - s->low) * bin / s->bins;
    return s->log ? pow(10, edge) : edge;
}

/* Without the empty bins at both ends; where many are left, several make a bar. */
static void draw_spread(at_text *page, const struct spread *s)
{
    int from = 0, to = s->bins, bars = 0;
    while (from < to && s->counts[from] == 0)
        from++;
    while (to > from && s->counts[to - 1] == 0)
        to--;
    int each = 1 + (to - from - 1) / MAX_BARS;
    double edges[MAX_BARS + 1], counts[MAX_BARS] = {0};
    for (; from + bars * each < to; bars++) {
        edges[bars] = edge_of(s, from + bars * each);
        for (int i = from + bars * each; i < from + (bars + 1) * each && i < to; i++)
            counts[bars] += s->counts[i];
    }
    edges[bars] = edge_of(s, from + bars * each);
    at_chart chart = {.title = s->title, .x_label = s->x_label, .log_x = s->log};
    if (s->whole) {
        chart.x_low = s->low;
        chart.x_high = s->high;
    }
    at_chart_draw(page, &chart,
                  &(at_series){.x = edges, .y = counts, .count = (size_t)bars, .bars = true}, 1);
}

static void draw_colours(at_text *page, struct spreads *all)
{
    static const char *const names[] = {"red", "green", "blue"};
    static const int colours[] = {1, 3, 0};
    double x[AT_HISTOGRAM_BINS];
    at_series series[4];
    size_t n = 0;
    for (size_t i = 0; i < AT_HISTOGRAM_BINS; i++) {
        x[i] = 256.0 / AT_HISTOGRAM_BINS * ((double)i + 0.5);
        all->grey[i] *= all->greys ? 100 / (double)all->greys : 0;
        for (int c = 0; c < 3; c++)
            all->colours[c][i] *= all->coloured ? 100 / (double)all->coloured : 0;
    }
    for (int c = 0; c < 3 && all->coloured; c++)
        series[n++] = (at_series){.name = names[c],
                                  .x = x,
                                  .y = all->colours[c],
                                  .count = AT_HISTOGRAM_BINS,
                                  .colour = colours[c]};
    if (all->greys)
        series[n++] = (at_series){
            .name = "grey", .x = x, .y = all->grey, .count = AT_HISTOGRAM_BINS, .colour = 2};
    at_chart_draw(page,
                  &(at_chart){.title = "Colours, % of pixels",
                              .x_label = "value, 0 to 255",
                              .x_high = 255,
                              .shares = true},
                  series, n);
}

/* The commonest sizes, and where there are several how they are spread; opens the charts. */
static void draw_sizes(struct at_report *r, const struct spread *aspect)
{
    double width[MAX_SIZES], height[MAX_SIZES];
    size_t n = 0;
    at_text_add(&r->page, "<table><tr><th>width x height<th>channels<th>images");
    at_stmt *s = at_report_ask(r, "SELECT * FROM size_histogram LIMIT 400");
    while (at_report_row(r, &s)) {
        width[n] = at_stmt_real(s, 0);
        height[n] = at_stmt_real(s, 1);
        if (n++ < TOP_SIZES)
            at_text_add(&r->page, "\n<tr><td>%.0f x %.0f<td>%s<td>%s", width[n - 1], height[n - 1],
                        at_stmt_word(s, 2), at_stmt_word(s, 3));
    }
    at_text_add(&r->page, "</table>\n");
    if (n > TOP_SIZES)
        at_text_add(&r->page, "<p class=note>The commonest %d of %lld.</p>\n", TOP_SIZES,
                    (long long)at_report_number(r, "SELECT count(*) FROM size_histogram"));
    at_text_add(&r->page, "<div class=charts>\n");
    if (n < 2)
        return;
    draw_spread(&r->page, aspect);
    at_chart_draw(&r->page, &(at_chart){.title = "Height over width", .x_label = "width, pixels"},
                  &(at_series){.x = width, .y = height, .count = n, .points = true, .colour = 2},
                  1);
}

static void draw(struct at_report *r, struct spreads *all)
{
    at_text_add(&r->page, "<section><h2>Sizes</h2>\n");
    draw_sizes(r, &all->of[ASPECT]);
    draw_spread(&r->page, &all->of[BYTES]);
    at_text_add(&r->page,
                "</div></section>\n<section><h2>Light and colour</h2><div class=charts>\n");
    draw_colours(&r->page, all);
    for (int i = LIGHT; i < SPREADS; i++)
        draw_spread(&r->page, &all->of[i]);
    at_text_add(&r->page, "</div><p class=note>Bars count contents, each once.</p></section>\n");
}

void at_report_spread(struct at_report *r, at_look **looks, size_t *count)
{
    struct spreads all = {0};
    memcpy(all.of, shapes, sizeof shapes);
    at_stmt *s = at_report_ask(r, every_content);
    while (at_report_row(r, &s))
        if (add_content(&all, s, r->err) < 0)
            r->code = AT_ENOMEM;
    if (r->code == 0)
        draw(r, &all);
    *looks = all.looks;
    *count = all.contents;
}
