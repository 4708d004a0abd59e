/* SPDX-License-Identifier: Apache-2.0
 * RUN/report.html: one file without script or foreign address, to keep, mail and print. Light or dark as the reader's
 * system is.
 */
#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char style[] =
    "<style>\n"
    ":root{--ink:#1b2733;--soft:#5d6b78;--paper:#fff;--card:#f5f7f9;--line:#dde3e8;--c0:#0b6e99;--c1:#d9622b;"
    "--c2:#5a4fcf;--c3:#2e8b57;--hit:11,110,153;--miss:217,98,43}\n"
    "@media(prefers-color-scheme:dark){:root{--ink:#e6ebf0;--soft:#9aa7b3;--paper:#14191f;--card:#1d242c;--line:#2f3a45;"
    "--c0:#4fb3dd;--c1:#f08a5b;--c2:#a59cf5;--c3:#6fcf97;--hit:79,179,221;--miss:240,138,91}}\n"
    "body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:0 auto;max-width:1000px;"
    "padding:24px}\n"
    "h1{font-size:26px;margin:0}h2{font-size:19px;margin:36px 0 12px}h3{font-size:15px;margin:16px 0 6px}\n"
    ".note,header p{color:var(--soft);margin:4px 0}\n"
    ".cards{display:flex;flex-wrap:wrap;gap:12px;margin:20px 0}\n"
    ".card{background:var(--card);border-radius:8px;padding:12px 16px;min-width:120px}\n"
    ".card b{display:block;font-size:24px;font-variant-numeric:tabular-nums}.card span{color:var(--soft)}\n"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(380px,1fr));gap:16px}\n"
    "svg{width:100%;background:var(--card);border-radius:8px}\n"
    ".grid{stroke:var(--line)}.tick{font-size:11px;fill:var(--soft)}.title{font-size:13px;font-weight:600;"
    "fill:var(--ink)}\n"
    ".line{fill:none;stroke-width:2}.legend{font-size:12px}\n"
    ".c0{--c:var(--c0)}.c1{--c:var(--c1)}.c2{--c:var(--c2)}.c3{--c:var(--c3)}\n"
    ".line{stroke:var(--c)}.dot{fill:var(--c);fill-opacity:.75}.legend{fill:var(--c)}\n"
    ".side{display:flex;flex-wrap:wrap;gap:28px;align-items:start;overflow-x:auto}\n"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px}\n"
    "caption{color:var(--soft);text-align:left;padding-bottom:6px}th{text-align:left;font-weight:600;padding:3px 8px}\n"
    "td{text-align:right;padding:3px 8px;border-top:1px solid var(--line)}\n"
    ".confusion td{border:1px solid var(--paper);min-width:26px}\n"
    ".confusion .hit{background:rgba(var(--hit),var(--share))}.confusion .miss{background:rgba(var(--miss),"
    "calc(var(--share)*4))}\n"
    ".confusion .full{color:var(--paper)}\n"
    ".down{height:90px;vertical-align:bottom;padding:3px}.down span{writing-mode:vertical-rl;transform:rotate(180deg)}\n"
    ".gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(104px,1fr));gap:12px}\n"
    "figure{margin:0;background:var(--card);border-radius:8px;padding:8px;border-top:3px solid rgb(var(--hit))}\n"
    "figure.miss{border-color:rgb(var(--miss))}figure img{width:100%;image-rendering:pixelated;border-radius:4px}\n"
    "figcaption{font-size:12px;line-height:1.3;margin-top:4px}small{color:var(--soft)}\n"
    "pre{background:var(--card);border-radius:8px;padding:14px;overflow-x:auto;font-size:12.5px}\n"
    "@media print{body{max-width:none}section{break-inside:avoid}}\n"
    "</style>\n";

static char *read_text(const char *run, const char *name)
{
    char *path = at_path_join(run, name), *data = NULL;
    size_t bytes;
    if (!path || !at_file_exists(path) || at_file_read(path, (size_t)64 << 20, &data, &bytes, NULL) < 0)
        data = NULL;
    free(path);
    return data;
}

static void add_card(at_text *page, const char *label, const char *format, double value)
{
    if (!isfinite(value))
        return;
    at_text_add(page, "<div class=card><b>");
    char text[64];
    snprintf(text, sizeof text, format, value);
    at_html_text(page, text);
    at_text_add(page, "</b><span>%s</span></div>\n", label);
}

static void draw_head(at_text *page, const char *run, const at_node *summary)
{
    static const struct {
        const char *key, *label, *format;
    } cards[] = {{"test_accuracy", "test accuracy", "%.4f"},  {"test_loss", "test loss", "%.4f"},
                 {"val_accuracy", "validation accuracy", "%.4f"}, {"epochs", "epochs", "%.0f"},
                 {"ranks", "ranks", "%.0f"},                  {"images_per_second", "images/s", "%.0f"},
                 {"seconds", "seconds of training", "%.1f"},  {"parameters", "parameters", "%.0f"}};
    char date[32];
    at_wall_iso(date);
    const char *model = at_node_string(at_node_get(summary, "model"), "training");
    at_text_add(page, "<!doctype html>\n<html lang=en><meta charset=utf-8>"
                      "<meta name=viewport content=\"width=device-width\"><title>");
    at_html_text(page, model);
    at_text_add(page, " &middot; atoll</title>\n");
    at_text_append(page, style, sizeof style - 1);
    at_text_add(page, "<header><h1>");
    at_html_text(page, model);
    at_text_add(page, "</h1><p>");
    at_html_text(page, run);
    at_text_add(page, " &middot; %s &middot; atoll " ATOLL_VERSION "</p></header>\n<div class=cards>\n", date);
    for (size_t i = 0; i < sizeof cards / sizeof *cards; i++)
        add_card(page, cards[i].label, cards[i].format, at_node_real(at_node_get(summary, cards[i].key), NAN));
    at_text_add(page, "</div>\n");
}

static void draw_config(at_text *page, const char *run)
{
    char *config = read_text(run, "config.yaml");
    if (config) {
        at_text_add(page, "<section><h2>Configuration</h2><pre>");
        at_html_text(page, config);
        at_text_add(page, "</pre></section>\n");
    }
    free(config);
}

static int draw_page(at_text *page, const at_report_sources *from, const at_node *summary, at_error *err)
{
    draw_head(page, from->run, summary);
    at_report_curves(page, from->run, from->job);
    int code = at_report_trials(page, from->study, err);
    at_report_classes(page, at_node_get(summary, "test"));
    code = code < 0 ? code : at_report_samples(page, from->run, from->data, err);
    draw_config(page, from->run);
    return code;
}

int at_report_write(const at_report_sources *from, const char *out, at_error *err)
{
    at_error local = {0};
    err = err ? err : &local;
    char *path = at_path_join(from->run, "summary.json");
    at_node *summary = path ? at_json_read(path, err) : NULL;
    free(path);
    if (!summary)
        return at_fail(err, AT_EINPUT, "%s has no summary.json that can be read: has its training ended?",
                       from->run);
    at_text page = {0};
    int code = draw_page(&page, from, summary, err);
    if (code == 0)
        code = page.failed ? at_nomem(err) : at_file_write(out, page.data, page.length, err);
    at_text_fini(&page);
    at_node_free(summary);
    return code;
}
