/* SPDX-License-Identifier: Apache-2.0
 * The page of a training, from files of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <atoll/trainer.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scratch.h"

static void put(const char *dir, const char *name, const char *text)
{
    char *path = at_path_join(dir, name);
    at_error err = {0};
    if (at_file_write(path, text, strlen(text), &err))
        fail_msg("%s", err.message);
    free(path);
}

/* The page of RUN with these epochs; malloc'd. */
static char *page_of(const char *dir, const char *metrics, const char *job)
{
    at_error err = {0};
    char *out = at_path_join(dir, "report.html"), *text = NULL;
    put(dir, "metrics.jsonl", metrics);
    if (at_report_write(&(at_report_sources){.run = dir, .job = job}, out, &err) ||
        at_file_read(out, 1 << 20, &text, NULL, &err))
        fail_msg("%s", err.message);
    free(out);
    return text;
}

static const char summary[] =
    "{\"model\": \"<b>&lenet\", \"epochs\": 3, \"test_accuracy\": 0.75, \"test\": {"
    "\"classes\": [\"cat <script>\", \"dog\"], \"confusion\": [[9, 1], [4, 6]], \"per_class\": ["
    "{\"class\": \"cat <script>\", \"precision\": 0.6923, \"recall\": 0.9, \"f1\": 0.78, "
    "\"support\": 10}]}}";
static const char epochs[] = "{\"epoch\":1,\"epoch_step\":50,\"loss\":9}\n"
                             "{\"epoch\":1,\"train_loss\":2,\"seconds\":1.5,\"waited_data\":0.25,"
                             "\"waited_allreduce\":0.125}\n"
                             "{\"epoch\":2,\"train_loss\":1,\"seconds\":2.5,\"waited_data\":0.25,"
                             "\"waited_allreduce\":0.5}\n";

static void assert_all(const char *page, const char *const *wanted)
{
    for (; *wanted; wanted++)
        if (!strstr(page, *wanted))
            fail_msg("\"%s\" is not in the page", *wanted);
}

static void a_page_tells_results_and_times(void **state)
{
    (void)state;
    char *dir = scratch_new();
    put(dir, "summary.json", summary);
    put(dir, "job.json",
        "{\"stages\": {\"ingest\": {\"seconds\": 3.25}, \"search\": {\"seconds\": 41.5}}}");
    char *page = page_of(dir, epochs, dir);
    static const char *const wanted[] = {"0.7500",
                                         "stage ingest<td>3.25 s",
                                         "stage search<td>41.50 s",
                                         "all epochs<td>4.00 s",
                                         "an epoch<td>2.00 s",
                                         "data, all epochs<td>0.50 s",
                                         "ranks, all epochs<td>0.62 s",
                                         "<td class=\"hit full\" style=\"--share:0.900\">9",
                                         "<td class=\"miss\" style=\"--share:0.100\">1",
                                         "<td class=\"miss full\" style=\"--share:0.400\">4",
                                         NULL};
    assert_all(page, wanted);
    free(page);
    page = page_of(dir, epochs, NULL);
    assert_null(strstr(page, "stage "));
    assert_non_null(strstr(page, "all epochs<td>4.00 s"));
    free(page);
    scratch_free(dir);
}

static void a_page_needs_nothing_and_runs_nothing(void **state)
{
    (void)state;
    char *dir = scratch_new();
    put(dir, "summary.json", summary);
    char *page = page_of(dir, epochs, NULL);
    assert_null(strstr(page, "<script"));
    assert_null(strstr(page, "://"));
    assert_non_null(strstr(page, "cat &lt;script&gt;"));
    assert_non_null(strstr(page, "<h1>&lt;b&gt;&amp;lenet</h1>"));
    free(page);
    scratch_free(dir);
}

/* No epoch 1.5. */
static void epochs_are_whole(void **state)
{
    (void)state;
    char *dir = scratch_new();
    put(dir, "summary.json", summary);
    size_t ticks = 0;
    for (int n = 1; n <= 30; n++) {
        at_text lines = {0};
        for (int e = 1; e <= n; e++)
            at_text_add(&lines, "{\"epoch\":%d,\"train_loss\":%g,\"seconds\":1}\n", e, 1.0 / e);
        char *page = page_of(dir, lines.data, NULL);
        static const char mark[] = "text-anchor=middle>";
        for (char *at = page; (at = strstr(at, mark)); ticks++) {
            at += strlen(mark);
            char text[32], whole[32];
            snprintf(text, sizeof text, "%.*s", (int)strcspn(at, "<"), at);
            snprintf(whole, sizeof whole, "%ld", strtol(text, NULL, 10));
            if (strcmp(text, "epoch") != 0)
                assert_string_equal(text, whole);
        }
        free(page);
        at_text_fini(&lines);
    }
    print_message("%zu labels under the epochs of 30 trainings\n", ticks);
    assert_true(ticks > 30 * 2);
    scratch_free(dir);
}

/* As Optuna lays a study out, as far as the page reads it. */
static const char study[] =
    "CREATE TABLE study_directions(direction);"
    "INSERT INTO study_directions VALUES ('MINIMIZE');"
    "CREATE TABLE study_system_attributes(key, value_json);"
    "INSERT INTO study_system_attributes VALUES ('study:metric_names', '[\"val_loss\"]');"
    "CREATE TABLE trials(trial_id, number, state);"
    "CREATE TABLE trial_values(trial_id, value);"
    "CREATE TABLE trial_params(trial_id, param_name, param_value, distribution_json);"
    "INSERT INTO trials VALUES (1, 0, 'COMPLETE'), (2, 1, 'COMPLETE'), (3, 2, 'FAIL');"
    "INSERT INTO trial_values VALUES (1, 0.5), (2, 0.25);"
    "INSERT INTO trial_params VALUES (1, 'optimizer', 0, '{\"name\": \"CategoricalDistribution\","
    " \"attributes\": {\"choices\": [\"sgd\", \"a<dam\"]}}'), (1, 'lr', 0.001,"
    " '{\"name\": \"FloatDistribution\", \"attributes\": {\"step\": null, \"low\": 0.001,"
    " \"high\": 0.1, \"log\": true}}'), (2, 'lr', 0.1, 'junk'), (2, 'odd', 3, 'junk')";

static void trials_are_drawn_with_their_names(void **state)
{
    (void)state;
    char *dir = scratch_new(), *path = at_path_join(dir, "study.db"),
         *out = at_path_join(dir, "report.html"), *page;
    at_error err = {0};
    put(dir, "summary.json", summary);
    at_db *db = at_db_open(path, AT_DB_CREATE, &err);
    if (!db || at_db_exec(db, study, &err) ||
        at_report_write(&(at_report_sources){.run = dir, .study = dir}, out, &err) ||
        at_file_read(out, 1 << 20, &page, NULL, &err))
        fail_msg("%s", err.message);
    static const char *const wanted[] = {">val_loss<", ">sgd</text>", ">a&lt;dam</text>",
                                         ">choice<",   ">odd<",       NULL};
    assert_all(page, wanted);
    at_db_close(db);
    free(page);
    free(out);
    free(path);
    scratch_free(dir);
}

static void a_training_that_has_not_ended_has_no_page(void **state)
{
    (void)state;
    char *dir = scratch_new(), *out = at_path_join(dir, "report.html");
    at_error err = {0};
    assert_int_equal(at_report_write(&(at_report_sources){.run = dir}, out, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, "has its training ended?"));
    assert_false(at_file_exists(out));
    free(out);
    scratch_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_page_tells_results_and_times),
        cmocka_unit_test(a_page_needs_nothing_and_runs_nothing),
        cmocka_unit_test(epochs_are_whole),
        cmocka_unit_test(trials_are_drawn_with_their_names),
        cmocka_unit_test(a_training_that_has_not_ended_has_no_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
