/* SPDX-License-Identifier: Apache-2.0
 * DATASET/report.html: what a data set holds, in one page to read before training on it.
 *
 * Everything comes from catalog.db by SQL; only the pictures that are shown are decoded. */
#include "report.h"

#include <stdlib.h>
#include <string.h>

/* ---- rows ---- */

at_stmt *at_report_ask(struct at_report *r, const char *sql)
{
    at_stmt *s = r->code < 0 ? NULL : at_db_prepare(r->db, sql, r->err);
    if (!s && r->code == 0)
        r->code = r->err->code;
    return s;
}

bool at_report_row(struct at_report *r, at_stmt **s)
{
    int code = *s && r->code == 0 ? at_stmt_step(*s, r->err) : 0;
    if (code == 1 && at_interrupted())
        code = at_fail(r->err, AT_EINTERRUPTED, "interrupted");
    if (code == 1)
        return true;
    r->code = code < 0 ? code : r->code;
    at_stmt_free(*s);
    *s = NULL;
    return false;
}

int64_t at_report_number(struct at_report *r, const char *sql)
{
    int64_t number = 0;
    at_stmt *s = at_report_ask(r, sql);
    while (at_report_row(r, &s))
        number = at_stmt_int(s, 0);
    return number;
}

void at_report_cell(struct at_report *r, const char *text)
{
    at_text_add(&r->page, "<td class=text>");
    at_html_text(&r->page, text ? text : "");
}

/* ---- sections ---- */

static void draw_head(struct at_report *r)
{
    static const struct {
        const char *label, *format, *sql;
    } cards[] = {
        {"images", "%.0f", "SELECT count(*) FROM images"},
        {"contents", "%.0f", "SELECT count(*) FROM blobs"},
        {"classes", "%.0f", "SELECT count(*) FROM classes"},
        {"MB", "%.1f", "SELECT coalesce(sum(bytes), 0) FROM blobs"},
        {"suspects", "%.0f", "SELECT count(DISTINCT path) FROM found_suspects"},
        {"errors", "%.0f", "SELECT count(*) FROM errors"},
    };
    const char *slash = strrchr(r->path, '/');
    at_page_begin(&r->page, slash && slash[1] ? slash + 1 : r->path, r->path);
    at_text_add(&r->page, "<div class=cards>\n");
    for (size_t i = 0; i < sizeof cards / sizeof *cards; i++) {
        double value = (double)at_report_number(r, cards[i].sql);
        at_page_card(&r->page, cards[i].label, cards[i].format,
                     cards[i].format[2] == '1' ? value / 1e6 : value);
    }
    at_text_add(&r->page, "</div>\n");
    at_stmt *s = at_report_ask(r, "SELECT value FROM meta WHERE key = 'source'");
    while (at_report_row(r, &s)) {
        at_text_add(&r->page, "<p class=note>Ingested from ");
        at_html_text(&r->page, at_stmt_word(s, 0));
        at_text_add(&r->page, "</p>\n");
    }
}

enum { CLASS_ROWS = 200 };

static void draw_classes(struct at_report *r)
{
    double most = (double)at_report_number(r, "SELECT max(images) FROM class_counts");
    int64_t classes = at_report_number(r, "SELECT count(*) FROM classes");
    at_text_add(&r->page, "<section><h2>Classes and splits</h2><table><tr><th>label<th class=text>class"
                          "<th>train<th>val<th>test<th>all<th>");
    at_stmt *s = at_report_ask(r, "SELECT * FROM class_counts LIMIT ?");
    if (s)
        at_stmt_bind(s, "i", (int64_t)CLASS_ROWS);
    while (at_report_row(r, &s)) {
        at_text_add(&r->page, "\n<tr><td>%s", at_stmt_word(s, 0));
        at_report_cell(r, at_stmt_word(s, 1));
        for (int i = 2; i < 6; i++)
            at_text_add(&r->page, "<td>%s", at_stmt_word(s, i));
        at_text_add(&r->page, "<td class=meter><span style=\"width:%.1f%%\"></span>",
                    most > 0 ? 100 * at_stmt_real(s, 5) / most : 0);
    }
    s = at_report_ask(r, "SELECT sum(train), sum(val), sum(test), sum(images) FROM class_counts");
    while (at_report_row(r, &s)) {
        at_text_add(&r->page, "\n<tr><td><td class=text><b>all</b>");
        for (int i = 0; i < 4; i++)
            at_text_add(&r->page, "<td><b>%s</b>", at_stmt_word(s, i));
        at_text_add(&r->page, "<td>");
    }
    at_text_add(&r->page, "</table>\n");
    if (classes > CLASS_ROWS)
        at_text_add(&r->page, "<p class=note>The first %d of %lld classes.</p>\n", CLASS_ROWS,
                    (long long)classes);
    at_text_add(&r->page, "</section>\n");
}

static void draw_cameras(struct at_report *r)
{
    static const struct {
        const char *label, *sql;
    } facts[] = {
        {"contents with EXIF", "SELECT count(*) FROM blobs WHERE exif IS NOT NULL"},
        {"with a place (GPS)", "SELECT count(*) FROM exif WHERE tag = 'latitude'"},
        {"to be turned (orientation)",
         "SELECT count(*) FROM exif WHERE tag = 'orientation' AND value > 1"},
    };
    if (at_report_number(r, facts[0].sql) == 0)
        return;
    at_text_add(&r->page, "<section><h2>Cameras</h2><div class=side><table><tr><th>EXIF<th>");
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
        at_text_add(&r->page, "\n<tr><td class=text>%s<td>%lld", facts[i].label,
                    (long long)at_report_number(r, facts[i].sql));
    at_stmt *s = at_report_ask(r, "SELECT min(value), max(value) FROM exif WHERE tag = 'time'");
    while (at_report_row(r, &s))
        for (int i = 0; i < 2 && at_stmt_text(s, i); i++) {
            at_text_add(&r->page, "\n<tr><td class=text>%s", i ? "latest" : "earliest");
            at_report_cell(r, at_stmt_word(s, i));
        }
    at_text_add(&r->page, "</table>\n<table><tr><th>camera<th>contents");
    s = at_report_ask(r, "SELECT value, count(*) FROM exif WHERE tag = 'camera' GROUP BY value"
                         " ORDER BY 2 DESC, 1 LIMIT 12");
    while (at_report_row(r, &s)) {
        at_text_add(&r->page, "\n<tr>");
        at_report_cell(r, at_stmt_word(s, 0));
        at_text_add(&r->page, "<td>%s", at_stmt_word(s, 1));
    }
    at_text_add(&r->page, "</table></div></section>\n");
}

/* Up to five files a reason. */
static void draw_errors(struct at_report *r)
{
    at_text_add(&r->page, "<section><h2>Errors</h2>\n");
    at_stmt *s = at_report_ask(
        r, "SELECT reason, count(*) OVER (PARTITION BY reason) AS files, path, detail,"
           " row_number() OVER (PARTITION BY reason ORDER BY path) AS nth FROM errors"
           " ORDER BY files DESC, reason, nth");
    bool any = false;
    while (at_report_row(r, &s)) {
        bool first = at_stmt_int(s, 4) == 1;
        if (!any)
            at_text_add(&r->page, "<table><tr><th>reason<th>files<th class=text>e.g.<th class=text>detail");
        any = true;
        if (at_stmt_int(s, 4) > 5)
            continue;
        at_text_add(&r->page, "\n<tr><td class=text>%s<td>%s", first ? at_stmt_word(s, 0) : "",
                    first ? at_stmt_word(s, 1) : "");
        at_report_cell(r, at_stmt_word(s, 2));
        at_report_cell(r, at_stmt_word(s, 3));
    }
    at_text_add(&r->page, "%s</section>\n", any ? "</table>" : "<p class=note>none</p>");
}

static void draw_page(struct at_report *r)
{
    at_look *looks = NULL;
    size_t count = 0;
    draw_head(r);
    draw_classes(r);
    at_report_sheets(r);
    at_report_spread(r, &looks, &count);
    draw_cameras(r);
    at_report_duplicates(r);
    at_report_near(r, looks, count);
    at_report_suspects(r);
    draw_errors(r);
    free(looks);
}

/* ---- the whole ---- */

/* Only the whole catalog of this format has what the page tells. */
static int check_data_set(const char *path, at_db *db, at_error *err)
{
    at_stmt *s = at_db_prepare(db,
                               "SELECT (SELECT value FROM meta WHERE key = 'format'),"
                               " (SELECT value FROM meta WHERE key = 'source')",
                               err);
    int code = s ? at_stmt_step(s, err) : err->code;
    if (code == 1 && at_stmt_int(s, 0) < AT_CATALOG_FORMAT)
        code = at_fail(err, AT_EINPUT,
                       "%s was made by an earlier version of atoll, whose catalog lacks what a "
                       "report tells: ingest %s again",
                       path, at_stmt_text(s, 1) ? at_stmt_text(s, 1) : "its source");
    at_stmt_free(s);
    return code < 0 ? code : 0;
}

/* A view that is asked several times is worked out once; a data set's own file stays as it is. */
static const char found[] = "CREATE TEMP TABLE found_suspects AS SELECT * FROM suspects;"
                            "CREATE TEMP TABLE found_duplicates AS SELECT * FROM duplicates";

static int open_catalog(struct at_report *r)
{
    at_dataset *head = at_dataset_open_head(r->path, r->err); /* checks that it is a data set */
    if (!head)
        return r->err->code;
    r->limits = *at_dataset_limits(head);
    at_dataset_close(head);
    char *catalog = at_path_join(r->path, "catalog.db");
    r->shards_folder = at_path_join(r->path, "shards");
    r->decoder = at_decoder_new();
    int code = catalog && r->shards_folder && r->decoder ? 0 : at_nomem(r->err);
    if (code == 0 && !(r->db = at_db_open(catalog, AT_DB_READ, r->err)))
        code = r->err->code;
    free(catalog);
    if (code == 0)
        code = check_data_set(r->path, r->db, r->err);
    if (code == 0)
        code = at_db_exec(r->db, found, r->err);
    if (code == 0 && !(r->place = at_db_prepare(r->db,
                                                "SELECT shard, offset, bytes, crc32c FROM blobs"
                                                " WHERE hash = ?",
                                                r->err)))
        code = r->err->code;
    return code;
}

int at_dataset_report(const char *path, const char *out, at_error *err)
{
    at_error local = {0};
    struct at_report r = {.path = path, .shard_number = -1, .err = err ? err : &local};
    r.code = open_catalog(&r);
    if (r.code == 0)
        draw_page(&r);
    if (r.code == 0 && r.page.failed)
        r.code = at_nomem(r.err);
    if (r.code == 0)
        r.code = at_file_write(out, r.page.data, r.page.length, r.err);
    at_text_fini(&r.page);
    at_shard_unmap(&r.shard);
    at_decoder_free(r.decoder);
    at_stmt_free(r.place);
    at_db_close(r.db);
    free(r.shards_folder);
    return r.code;
}
