/* SPDX-License-Identifier: Apache-2.0
 * RUN/report.html: a training told in one page.
 */
#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static char *read_text(const char *run, const char *name)
{
    char *path = at_path_join(run, name), *data = NULL;
    size_t bytes;
    if (!path || !at_file_exists(path) || at_file_read(path, (size_t)64 << 20, &data, &bytes, NULL) < 0)
        data = NULL;
    free(path);
    return data;
}

static void draw_head(at_text *page, const char *run, const at_node *summary)
{
    static const struct {
        const char *key, *label, *format;
    } cards[] = {{"test_accuracy", "test accuracy", "%.4f"},  {"test_loss", "test loss", "%.4f"},
                 {"val_accuracy", "validation accuracy", "%.4f"}, {"epochs", "epochs", "%.0f"},
                 {"ranks", "ranks", "%.0f"},                  {"images_per_second", "images/s", "%.0f"},
                 {"seconds", "seconds of training", "%.1f"},  {"parameters", "parameters", "%.0f"}};
    at_page_begin(page, at_node_string(at_node_get(summary, "model"), "training"), run);
    at_text_add(page, "<div class=cards>\n");
    for (size_t i = 0; i < sizeof cards / sizeof *cards; i++)
        at_page_card(page, cards[i].label, cards[i].format, at_node_real(at_node_get(summary, cards[i].key), NAN));
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
