/* SPDX-License-Identifier: Apache-2.0
 * The report's confusion matrix and per-class table, from the test split's evaluation.
 */
#include "report.h"

static void draw_matrix(at_text *page, const at_node *test)
{
    const at_node *classes = at_node_get(test, "classes"), *rows = at_node_get(test, "confusion");
    size_t n = at_node_count(classes);
    at_text_add(page, "<table class=confusion><caption>rows: what it is; columns: what the model said</caption><tr><th>");
    for (size_t c = 0; c < n; c++) {
        at_text_add(page, "<th class=down><span>");
        at_html_text(page, at_node_text(at_node_at(classes, c)));
        at_text_add(page, "</span>");
    }
    for (size_t r = 0; r < n; r++) {
        const at_node *row = at_node_at(rows, r);
        double sum = 0;
        for (size_t c = 0; c < n; c++)
            sum += at_node_real(at_node_at(row, c), 0);
        at_text_add(page, "\n<tr><th>");
        at_html_text(page, at_node_text(at_node_at(classes, r)));
        for (size_t c = 0; c < n; c++) {
            double count = at_node_real(at_node_at(row, c), 0), share = sum > 0 ? count / sum : 0;
            bool full = share > (r == c ? 0.5 : 0.125); /* a cell so dark needs light figures */
            at_text_add(page, "<td class=\"%s%s\" style=\"--share:%.3f\">%.0f", r == c ? "hit" : "miss",
                        full ? " full" : "", share, count);
        }
    }
    at_text_add(page, "</table>\n");
}

static void draw_classes(at_text *page, const at_node *per_class)
{
    at_text_add(page, "<table><tr><th>class<th>precision<th>recall<th>F1<th>images");
    for (size_t i = 0; i < at_node_count(per_class); i++) {
        const at_node *c = at_node_at(per_class, i);
        at_text_add(page, "\n<tr><th>");
        at_html_text(page, at_node_string(at_node_get(c, "class"), ""));
        at_text_add(page, "<td>%.4f<td>%.4f<td>%.4f<td>%.0f", at_node_real(at_node_get(c, "precision"), 0),
                    at_node_real(at_node_get(c, "recall"), 0), at_node_real(at_node_get(c, "f1"), 0),
                    at_node_real(at_node_get(c, "support"), 0));
    }
    at_text_add(page, "</table>\n");
}

void at_report_classes(at_text *page, const at_node *test)
{
    if (!test)
        return;
    at_text_add(page, "<section><h2>Test images by class</h2><div class=side>");
    if (at_node_count(at_node_get(test, "classes")) <= 40)
        draw_matrix(page, test);
    draw_classes(page, at_node_get(test, "per_class"));
    at_text_add(page, "</div></section>\n");
}
