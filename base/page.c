/* SPDX-License-Identifier: Apache-2.0
 * What atoll's reports share: one file without script or foreign address, to keep, mail and print.
 * Light or dark as the reader's system is. */
#include "internal.h"

#include <math.h>

/* clang-format off */
static const char style[] =
    "<style>\n"
    ":root{--ink:#1b2733;--soft:#5d6b78;--paper:#fff;--card:#f5f7f9;--line:#dde3e8;--c0:#0b6e99;--c1:#d9622b;"
    "--c2:#5a4fcf;--c3:#2e8b57;--hit:11,110,153;--miss:217,98,43}\n"
    "@media(prefers-color-scheme:dark){:root{--ink:#e6ebf0;--soft:#9aa7b3;--paper:#14191f;--card:#1d242c;--line:#2f3a45;"
    "--c0:#4fb3dd;--c1:#f08a5b;--c2:#a59cf5;--c3:#6fcf97;--hit:79,179,221;--miss:240,138,91}}\n"
    "body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:0 auto;max-width:1000px;"
    "padding:24px}\n"
    "h1{font-size:26px;margin:0}h2{font-size:19px;margin:36px 0 12px}h3{font-size:15px;margin:16px 0 6px}\n"
    "h1,h3{overflow-wrap:anywhere}\n"
    ".note,header p{color:var(--soft);margin:4px 0}\n"
    ".cards{display:flex;flex-wrap:wrap;gap:12px;margin:20px 0}\n"
    ".card{background:var(--card);border-radius:8px;padding:12px 16px;min-width:120px}\n"
    ".card b{display:block;font-size:24px;font-variant-numeric:tabular-nums}.card span{color:var(--soft)}\n"
    ".charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(380px,1fr));gap:16px}\n"
    "svg{width:100%;background:var(--card);border-radius:8px}\n"
    ".grid{stroke:var(--line)}.tick{font-size:11px;fill:var(--soft)}.title{font-size:13px;font-weight:600;"
    "fill:var(--ink)}\n"
    ".line{fill:none;stroke-width:2}.legend{font-size:12px}\n"
    ".c0{--c:var(--c0)}.c1{--c:var(--c1)}.c2{--c:var(--c2)}.c3{--c:var(--c3)}\n"
    ".line{stroke:var(--c)}.dot,.bar{fill:var(--c);fill-opacity:.75}.legend{fill:var(--c)}\n"
    ".side{display:flex;flex-wrap:wrap;gap:28px;align-items:start;overflow-x:auto}\n"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px}\n"
    "caption{color:var(--soft);text-align:left;padding-bottom:6px}th{text-align:right;font-weight:600;padding:3px 8px}\n"
    "th:first-child,th.text{text-align:left}tr+tr>th{border-top:1px solid var(--line)}table+.charts{margin-top:16px}div+.note{margin-top:12px}\n"
    "td{text-align:right;padding:3px 8px;border-top:1px solid var(--line)}td.text{text-align:left;overflow-wrap:anywhere}\n"
    "td.meter{min-width:160px}.meter span{display:block;height:9px;border-radius:2px;background:rgba(var(--hit),.6)}\n"
    ".confusion tr>th{border:0}.confusion td{border:1px solid var(--paper);min-width:26px}\n"
    ".confusion .hit{background:rgba(var(--hit),var(--share))}.confusion .miss{background:rgba(var(--miss),"
    "calc(var(--share)*4))}\n"
    ".confusion .full{color:var(--paper)}\n"
    ".down{height:90px;vertical-align:bottom;padding:3px}.down span{writing-mode:vertical-rl;transform:rotate(180deg)}\n"
    ".gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(104px,1fr));gap:12px}\n"
    "figure{margin:0;background:var(--card);border-radius:8px;padding:8px;border-top:3px solid rgb(var(--hit))}\n"
    "figure.miss{border-color:rgb(var(--miss))}figure img{width:100%;image-rendering:pixelated;border-radius:4px}\n"
    "figcaption{font-size:12px;line-height:1.3;margin-top:4px;overflow-wrap:anywhere}small{color:var(--soft)}\n"
    ".groups{display:flex;flex-wrap:wrap;gap:4px 28px}.groups .gallery{display:flex}.groups figure{width:92px}\n"
    ".sheet{display:flex;flex-wrap:wrap;gap:4px}.sheet img,.gap{width:56px;height:56px;object-fit:contain;"
    "image-rendering:pixelated;background:var(--card);border-radius:4px}\n"
    ".gap{display:inline-block;border:1px dashed rgb(var(--miss));box-sizing:border-box}\n"
    "pre{background:var(--card);border-radius:8px;padding:14px;overflow-x:auto;font-size:12.5px}\n"
    "@media print{body{max-width:none}section{break-inside:avoid}}\n"
    "</style>\n";
/* clang-format on */

void at_html_text(at_text *page, const char *text)
{
    for (; text && *text; text++) {
        switch (*text) {
        case '&':
            at_text_append(page, "&amp;", 5);
            break;
        case '<':
            at_text_append(page, "&lt;", 4);
            break;
        case '>':
            at_text_append(page, "&gt;", 4);
            break;
        case '"':
            at_text_append(page, "&quot;", 6);
            break;
        default:
            at_text_append(page, text, 1);
        }
    }
}

void at_page_begin(at_text *page, const char *title, const char *from)
{
    char date[32];
    at_wall_iso(date);
    at_text_add(page, "<!doctype html>\n<html lang=en><meta charset=utf-8>"
                      "<meta name=viewport content=\"width=device-width\"><title>");
    at_html_text(page, title);
    at_text_add(page, " &middot; atoll</title>\n");
    at_text_append(page, style, sizeof style - 1);
    at_text_add(page, "<header><h1>");
    at_html_text(page, title);
    at_text_add(page, "</h1><p>");
    at_html_text(page, from);
    at_text_add(page, " &middot; %s &middot; atoll " ATOLL_VERSION "</p></header>\n", date);
}

void at_page_card(at_text *page, const char *label, const char *format, double value)
{
    if (!isfinite(value))
        return;
    char text[64];
    snprintf(text, sizeof text, format, value);
    at_text_add(page, "<div class=card><b>");
    at_html_text(page, text);
    at_text_add(page, "</b><span>%s</span></div>\n", label);
}

static void add_base64(at_text *page, const uint8_t *data, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)data[i] << 16 | (i + 1 < n ? (uint32_t)data[i + 1] << 8 : 0) |
                     (i + 2 < n ? data[i + 2] : 0);
        char out[4] = {digits[v >> 18], digits[v >> 12 & 63], i + 1 < n ? digits[v >> 6 & 63] : '=',
                       i + 2 < n ? digits[v & 63] : '='};
        at_text_append(page, out, 4);
    }
}

void at_page_picture(at_text *page, const void *png, size_t bytes, const char *title)
{
    at_text_add(page, "<img alt=\"\" title=\"");
    at_html_text(page, title);
    at_text_add(page, "\" src=\"data:image/png;base64,");
    add_base64(page, png, bytes);
    at_text_add(page, "\">");
}
