/* SPDX-License-Identifier: Apache-2.0
 * Transfer: what a training begins with that another one learned. Rank 0 reads the file, as it
 * reads checkpoints, and share_start() gives the weights to all. What was taken is told on stderr and
 * kept as RUN/init.json, so that the summary of a resumed training has it too.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

#define FILE_NAME "init.json"

static void tell(const at_node *report)
{
    const at_node *rows = at_node_get(report, "rows"), *unused = at_node_get(report, "unused");
    at_log(AT_LOG_INFO, "weights of %s (%s):", at_node_string(at_node_get(report, "file"), ""),
           at_node_string(at_node_get(report, "layout"), ""));
    for (size_t i = 0; i < at_node_count(rows); i++) {
        const at_node *row = at_node_at(rows, i);
        at_log(AT_LOG_INFO, "  %-24s %-10s %s", at_node_string(at_node_get(row, "name"), ""),
               at_node_string(at_node_get(row, "status"), ""),
               at_node_string(at_node_get(row, "detail"), ""));
    }
    for (size_t i = 0; i < at_node_count(unused); i++)
        at_log(AT_LOG_INFO, "  %-24s not used", at_node_string(at_node_at(unused, i), ""));
    at_log(AT_LOG_INFO,
           "%lld of its weights taken; %lld that it has not and %lld of other shapes "
           "were left as they were",
           (long long)at_node_int(at_node_get(report, "matched"), 0),
           (long long)at_node_int(at_node_get(report, "missing"), 0),
           (long long)at_node_int(at_node_get(report, "misshaped"), 0));
}

int at_init_read(at_training *t, at_error *err)
{
    const at_train_config *c = t->job->config;
    if (c->replace_head && !c->init[0])
        return at_fail(err, AT_EINPUT,
                       "replace_head is of weights that a training begins with: it needs init");
    if (!c->init[0])
        return 0;
    at_init_options options = {.replace_head = c->replace_head,
                               .bgr = !strcmp(c->preprocess, "caffe")};
    t->init = at_net_init(t->net, c->init, &options, err);
    if (!t->init)
        return at_fail_in(err, "init");
    tell(t->init);
    return 0;
}

int at_init_write(const at_training *t, at_error *err)
{
    return t->init ? at_run_write_node(t->job->out, FILE_NAME, t->init, err) : 0;
}

at_node *at_init_report(const at_training *t)
{
    if (t->init)
        return at_node_copy(t->init);
    char *path = at_path_join(t->job->out, FILE_NAME), *text = NULL;
    size_t bytes = 0;
    at_node *report = NULL;
    if (path && at_file_exists(path) && !at_file_read(path, (size_t)1 << 26, &text, &bytes, NULL))
        report = at_json_parse(text, bytes, FILE_NAME, NULL);
    free(text);
    free(path);
    return report;
}
