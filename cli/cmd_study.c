/* SPDX-License-Identifier: Apache-2.0
 * atoll study: what a search has found.
 */
#include "cli.h"

#include <atoll/coordinator.h>

#include <stdlib.h>
#include <string.h>

typedef struct args {
    bool json;
} args;

static const at_option options[] = {
    {"json", AT_OPT_BOOL, offsetof(args, json), NULL, "print one JSON object"}, {0}};

/* Of the keys' column. */
static int width_of(const at_node *map, int indent)
{
    int width = 12;
    for (size_t i = 0; i < at_node_count(map); i++) {
        const at_node *value = at_node_at(map, i);
        int key = indent + (int)strlen(at_node_key(map, i));
        int within = at_node_kind(value) == AT_MAP ? width_of(value, indent + 2) : 0;
        width = key > width ? key : width;
        width = within > width ? within : width;
    }
    return width;
}

/* "key  value" lines; a map within is indented. */
static void print_map(const at_node *map, int indent, int width)
{
    for (size_t i = 0; i < at_node_count(map); i++) {
        const at_node *value = at_node_at(map, i);
        if (at_node_kind(value) == AT_MAP) {
            printf("%*s%s\n", indent, "", at_node_key(map, i));
            print_map(value, indent + 2, width);
            continue;
        }
        printf("%*s%-*s  %s\n", indent, "", width - indent, at_node_key(map, i),
               at_node_kind(value) == AT_NULL ? "-" : at_node_text(value));
    }
}

static void print_object(const at_node *object)
{
    print_map(object, 0, width_of(object, 0));
}

static void set_cell(at_node *row, const char *key, const at_node *value, const char *format)
{
    char text[32];
    if (at_node_kind(value) == AT_NULL) {
        at_set_string(row, key, "-");
        return;
    }
    if (at_node_kind(value) != AT_REAL) {
        at_node_set(row, key, at_node_copy(value));
        return;
    }
    snprintf(text, sizeof text, format, at_node_real(value, 0));
    at_set_string(row, key, text);
}

static char *params_text(const at_node *params)
{
    at_text t = {0};
    for (size_t i = 0; i < at_node_count(params); i++) {
        const at_node *value = at_node_at(params, i);
        at_text_add(&t, "%s%s=", i ? " " : "", at_node_key(params, i));
        if (at_node_kind(value) == AT_REAL)
            at_text_add(&t, "%.4g", at_node_real(value, 0));
        else
            at_text_add(&t, "%s", at_node_text(value));
    }
    return t.data;
}

/* One line a trial; of an error its last line. */
static at_node *row_of(const at_node *trial)
{
    at_node *row = at_node_new(AT_MAP);
    static const struct {
        const char *key, *format;
    } cells[] = {{"number", ""}, {"wave", ""},  {"state", ""},  {"value", "%.5g"},
                 {"worker", ""}, {"start_delay_ms", "%.0f"}, {"seconds", "%.1f"}};
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++)
        set_cell(row, cells[i].key, at_node_get(trial, cells[i].key), cells[i].format);
    char *params = params_text(at_node_get(trial, "params"));
    const char *error = at_node_text(at_node_get(trial, "error")), *last = strrchr(error, '\n');
    bool failed = at_node_kind(at_node_get(trial, "error")) == AT_STRING;
    at_set_string(row, "params", params ? params : "");
    at_set_string(row, "error", failed ? (last ? last + 1 : error) : "");
    free(params);
    return row;
}

static void print_trials(const at_node *object)
{
    const at_node *trials = at_node_get(object, "trials");
    at_node *rows = at_node_new(AT_LIST);
    for (size_t i = 0; i < at_node_count(trials); i++)
        at_node_add(rows, row_of(at_node_at(trials, i)));
    cli_print_table(rows);
    at_node_free(rows);
}

static const struct {
    const char *name;
    at_node *(*read)(const char *study, at_error *err);
    void (*print)(const at_node *object);
} actions[] = {{"show", at_study_show, print_object},
               {"best", at_study_best, print_object},
               {"trials", at_study_trials, print_trials}};
enum { ACTIONS = sizeof actions / sizeof *actions };

static int act(const char *name, const char *study, bool json, at_error *err)
{
    const char *names[ACTIONS];
    for (size_t i = 0; i < ACTIONS; i++) {
        names[i] = actions[i].name;
        if (strcmp(name, names[i]) != 0)
            continue;
        at_node *object = actions[i].read(study, err);
        if (!object)
            return err->code;
        if (json) {
            cli_print_json(object);
            return 0;
        }
        actions[i].print(object);
        at_node_free(object);
        return 0;
    }
    const char *near = at_nearest(name, names, ACTIONS);
    return at_fail(err, AT_EUSAGE, "atoll study has no \"%s\"%s%s%s (show, best, trials)", name,
                   near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static int run(int argc, char **argv, at_error *err)
{
    args a = {0};
    int code = cli_parse(options, &a, argc, argv, 2, 2, err);
    if (code > 0)
        code = act(argv[0], argv[1], a.json, err);
    at_options_fini(options, &a);
    return code;
}

const cli_command cmd_study = {
    .name = "study",
    .usage = "show|best|trials STUDY [--json]",
    .summary = "what a search has found, also while it runs",
    .help = "  show     states, waves and the best trial so far\n"
            "  best     number, value and parameters of the best trial\n"
            "  trials   every trial: wave, state, value, parameters, worker, how long it took\n"
            "           from its lease to its first training step (start_delay_ms), why it failed\n\n"
            "STUDY/study.db is an Optuna storage: optuna.load_study(study_name=None,\n"
            "storage=\"sqlite:///STUDY/study.db\") and optuna-dashboard open it too.",
    .options = options,
    .run = run};
