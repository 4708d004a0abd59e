/* SPDX-License-Identifier: Apache-2.0
 * The report's pictures: contact sheets by class, duplicates and suspects.
 *
 * A picture is decoded from its shard, made to fit a small square and embedded as PNG. How many
 * there are is limited, so that the page stays a few megabytes however large the data set is. */
#include "report.h"

#include <stdlib.h>
#include <string.h>

enum {
    SIDE = 56,
    CLASSES = 40,   /* with a sheet */
    PICTURES = 480, /* on all sheets */
    OF_CLASS = 16,
    REASON_PICTURES = 12,
};

/* ---- one picture ---- */

static int read_content(struct at_report *r, const at_stmt *place, const uint8_t **bytes,
                        size_t *size, at_error *err)
{
    int64_t number = at_stmt_int(place, 0), offset = at_stmt_int(place, 1),
            length = at_stmt_int(place, 2);
    if (r->shard_number != number) {
        at_shard_unmap(&r->shard);
        r->shard = (at_shard){0};
        r->shard_number = -1;
        int code = at_shard_map(r->shards_folder, number, &r->shard, err);
        if (code < 0)
            return code;
        r->shard_number = number;
    }
    if (offset < 0 || length < 0 || (uint64_t)offset > r->shard.size ||
        (uint64_t)length > r->shard.size - (uint64_t)offset ||
        at_crc32c(0, r->shard.data + offset, (size_t)length) != (uint32_t)at_stmt_int(place, 3))
        return at_fail(err, AT_EINPUT, "its bytes in the shard are damaged");
    *bytes = r->shard.data + offset;
    *size = (size_t)length;
    return 0;
}

int at_report_decode(struct at_report *r, const at_stmt *place, at_image *view, at_error *err)
{
    const uint8_t *bytes = NULL;
    size_t size = 0;
    at_decoder_reduce(r->decoder, (at_reduction){SIDE, SIDE, 0});
    int code = read_content(r, place, &bytes, &size, err);
    return code < 0 ? code
                    : at_decoder_decode(r->decoder, bytes, size, &r->limits, view, NULL, err);
}

static int draw_image(struct at_report *r, const at_image *image, const char *title, at_error *err)
{
    int width = image->width, height = image->height;
    int longer = width > height ? width : height;
    if (longer > SIDE) {
        width = (int)((int64_t)width * SIDE / longer);
        height = (int)((int64_t)height * SIDE / longer);
    }
    uint8_t pixels[SIDE * SIDE * 3];
    at_image small = {width > 0 ? width : 1, height > 0 ? height : 1, image->channels, pixels};
    void *png = NULL;
    size_t bytes;
    int code = at_image_fit(image, small.height, small.width, small.channels, pixels, err);
    if (code == 0)
        code = at_image_encode_png(&small, &png, &bytes, err);
    if (code == 0)
        at_page_picture(&r->page, png, bytes, title);
    free(png);
    return code;
}

void at_report_picture(struct at_report *r, const char *hash, const char *title)
{
    at_error err = {0};
    at_image view;
    at_stmt_bind(r->place, "s", hash);
    int code = at_stmt_step(r->place, &err) == 1
                   ? at_report_decode(r, r->place, &view, &err)
                   : at_fail(&err, AT_EINPUT, "its content is not in the catalog");
    at_stmt_reset(r->place);
    if (code == 0)
        code = draw_image(r, &view, title, &err);
    if (code < 0) {
        at_text_add(&r->page, "<span class=gap title=\"");
        at_html_text(&r->page, title);
        at_text_add(&r->page, ": ");
        at_html_text(&r->page, err.message);
        at_text_add(&r->page, "\"></span>");
    }
}

/* ---- contact sheets ---- */

static void draw_sheet(struct at_report *r, int64_t label, const char *name, int64_t images,
                       int64_t shown)
{
    at_text_add(&r->page, "<h3>");
    at_html_text(&r->page, name);
    at_text_add(&r->page, " <small>%lld</small></h3><div class=sheet>\n", (long long)images);
    for (int64_t i = 0; i < shown; i++) {
        at_stmt *s =
            at_report_ask(r, "SELECT hash, path FROM images WHERE label = ? LIMIT 1 OFFSET ?");
        if (s)
            at_stmt_bind(s, "ii", label, i * images / shown);
        while (at_report_row(r, &s))
            at_report_picture(r, at_stmt_word(s, 0), at_stmt_word(s, 1));
    }
    at_text_add(&r->page, "</div>\n");
}

void at_report_sheets(struct at_report *r)
{
    int64_t classes = at_report_number(r, "SELECT count(*) FROM class_counts WHERE images > 0");
    int64_t sheets = classes < CLASSES ? classes : CLASSES, each = sheets ? PICTURES / sheets : 0;
    each = each < OF_CLASS ? each : OF_CLASS;
    at_text_add(&r->page, "<section><h2>Pictures by class</h2>\n");
    at_stmt *s =
        at_report_ask(r, "SELECT label, name, images FROM class_counts WHERE images > 0 LIMIT ?");
    if (s)
        at_stmt_bind(s, "i", sheets);
    while (at_report_row(r, &s)) {
        int64_t images = at_stmt_int(s, 2);
        draw_sheet(r, at_stmt_int(s, 0), at_stmt_word(s, 1), images, images < each ? images : each);
    }
    if (classes > sheets)
        at_text_add(&r->page, "<p class=note>The first %lld of %lld classes.</p>\n",
                    (long long)sheets, (long long)classes);
    at_text_add(&r->page, "<p class=note>Evenly spread over each class; a picture's path is shown "
                          "when the pointer is on it.</p></section>\n");
}

/* ---- figures with captions ---- */

/* Row: hash, path, a line below; rows of one hash in succession are one figure. */
static void draw_figures(struct at_report *r, at_stmt **s, const char *kind)
{
    char last[65] = "";
    at_text_add(&r->page, "<div class=gallery>\n");
    while (at_report_row(r, s)) {
        const char *hash = at_stmt_word(*s, 0), *path = at_stmt_word(*s, 1);
        if (strcmp(last, hash)) {
            at_text_add(&r->page, "%s<figure class=%s>", last[0] ? "</figcaption></figure>\n" : "",
                        kind);
            at_report_picture(r, hash, path);
            at_text_add(&r->page, "<figcaption>");
            snprintf(last, sizeof last, "%s", hash);
        } else {
            at_text_add(&r->page, "<br>");
        }
        at_html_text(&r->page, path);
        at_text_add(&r->page, "<br><small>");
        at_html_text(&r->page, at_stmt_word(*s, 2));
        at_text_add(&r->page, "</small>");
    }
    at_text_add(&r->page, "%s</div>\n", last[0] ? "</figcaption></figure>\n" : "");
}

void at_report_duplicates(struct at_report *r)
{
    at_text_add(&r->page, "<section><h2>Duplicates</h2>\n");
    at_stmt *s = at_report_ask(r, "SELECT count(DISTINCT hash), count(*) FROM found_duplicates");
    int64_t contents = 0;
    while (at_report_row(r, &s)) {
        contents = at_stmt_int(s, 0);
        at_text_add(&r->page, "<p class=note>");
        if (contents > 0)
            at_text_add(&r->page, "Contents that lie in several places: %s, in %s places.",
                        at_stmt_word(s, 0), at_stmt_word(s, 1));
        at_text_add(&r->page, "%s</p>\n", contents > 0 ? "" : "none");
    }
    if (contents > 0) {
        s = at_report_ask(r,
                          "SELECT hash, path, split || ', ' || class FROM (SELECT *, dense_rank()"
                          " OVER (ORDER BY places DESC, hash) AS rank, row_number() OVER"
                          " (PARTITION BY hash ORDER BY path) AS place FROM found_duplicates)"
                          " WHERE rank <= 24 AND place <= 4 ORDER BY rank, place");
        draw_figures(r, &s, "hit");
    }
    at_text_add(&r->page, "</section>\n");
}

void at_report_suspects(struct at_report *r)
{
    at_text_add(&r->page, "<section><h2>Suspects</h2>\n");
    at_stmt *reasons = at_report_ask(
        r, "SELECT reason, count(*) FROM found_suspects GROUP BY reason ORDER BY 2 DESC, 1");
    bool any = false;
    while (at_report_row(r, &reasons)) {
        any = true;
        at_text_add(&r->page, "<h3>%s <small>%s</small></h3>\n", at_stmt_word(reasons, 0),
                    at_stmt_word(reasons, 1));
        at_stmt *s = at_report_ask(r, "SELECT hash, path, detail FROM found_suspects"
                                      " WHERE reason = ? ORDER BY hash, path LIMIT ?");
        if (s)
            at_stmt_bind(s, "si", at_stmt_word(reasons, 0), (int64_t)REASON_PICTURES);
        draw_figures(r, &s, "miss");
    }
    at_text_add(&r->page, "%s</section>\n", any ? "" : "<p class=note>none</p>\n");
}
