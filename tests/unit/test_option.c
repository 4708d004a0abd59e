/* SPDX-License-Identifier: Apache-2.0
 * Options: one table read from text, trees and the command line, with the messages users meet.
 */
#include "atoll/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct config {
    int64_t epochs;
    double lr, momentum;
    char *schedule, *data;
    bool flip, quiet, bar;
    int64_t shift;
    char **set;
    char *freeze;
} config;

static const at_option table[] = {
    {"epochs", AT_OPT_INT, offsetof(config, epochs), "8", "how often", "N", .min = 1,
     .letter = 'e'},
    {"lr", AT_OPT_REAL, offsetof(config, lr), "0.05", "learning rate", "RATE", .min = 0,
     .max = 100},
    {"momentum", AT_OPT_REAL, offsetof(config, momentum), NULL, .help = "share of the old step"},
    {"schedule", AT_OPT_CHOICE, offsetof(config, schedule), "cosine",
     "how the learning rate goes from the first epoch to the last one, after the warm-up", "NAME",
     .choices = "cosine|step|onecycle"},
    {"data", AT_OPT_STRING, offsetof(config, data), NULL, "the data set", "DIR", .letter = 'd'},
    {"augment.flip", AT_OPT_BOOL, offsetof(config, flip), NULL, .help = "mirror images"},
    {"augment.shift_by", AT_OPT_INT, offsetof(config, shift), "4", "shift images", .arg = "PIXELS"},
    {"quiet", AT_OPT_BOOL, offsetof(config, quiet), NULL, "no progress", NULL, .letter = 'q'},
    {"bar", AT_OPT_BOOL, offsetof(config, bar), "true", "the bar", NULL, .letter = 'b'},
    {"set", AT_OPT_PAIRS, offsetof(config, set), NULL, "sets a key", NULL, .letter = 's'},
    {"freeze", AT_OPT_STRING, offsetof(config, freeze), NULL, "globs", "GLOB,...", .list = true},
    {0}};

static config fresh(void)
{
    config c;
    at_error err = {0};
    memset(&c, 0xA5, sizeof c); /* init must not read what was there */
    if (at_options_init(table, &c, &err))
        fail_msg("%s", err.message);
    return c;
}

static int load(config *c, const char *yaml, at_error *err)
{
    at_node *n = at_yaml_parse(yaml, strlen(yaml), "sweep.yaml", err);
    if (!n)
        fail_msg("%s", err->message);
    int status = at_options_from_node(table, c, n, err);
    at_node_free(n);
    return status;
}

static void defaults_come_from_the_table(void **state)
{
    (void)state;
    config c = fresh();
    assert_int_equal(c.epochs, 8);
    assert_true(c.lr == 0.05 && c.momentum == 0.0);
    assert_string_equal(c.schedule, "cosine");
    assert_string_equal(c.data, "");
    assert_true(!c.flip && c.bar && !c.quiet);
    assert_non_null(c.set);
    assert_null(c.set[0]);
    at_options_fini(table, &c);
    at_options_fini(table, &c); /* twice is harmless */
}

static void a_bad_default_is_an_error(void **state)
{
    (void)state;
    static const at_option bad[] = {
        {"data", AT_OPT_STRING, offsetof(config, data), "x", .help = ""},
        {"lr", AT_OPT_REAL, offsetof(config, lr), "fast", .help = ""},
        {0}};
    config c;
    at_error err = {0};
    assert_int_equal(at_options_init(bad, &c, &err), AT_EINPUT);
    assert_string_equal(err.message, "lr: expected a number, got \"fast\"");
}

static void good_texts_are_read(void **state)
{
    (void)state;
    config c = fresh();
    assert_int_equal(at_options_set(table, &c, "epochs", "0x10", "-s", NULL), 0);
    assert_int_equal(at_options_set(table, &c, "lr", "1e-3", NULL, NULL), 0);
    assert_int_equal(at_options_set(table, &c, "momentum", "3", "", NULL), 0);
    assert_int_equal(at_options_set(table, &c, "schedule", "step", NULL, NULL), 0);
    assert_int_equal(at_options_set(table, &c, "data", "a b", NULL, NULL), 0);
    assert_int_equal(at_options_set(table, &c, "augment.shift-by", "-2", NULL, NULL), 0);
    assert_int_equal(c.epochs, 16);
    assert_true(c.lr == 1e-3 && c.momentum == 3.0);
    assert_string_equal(c.schedule, "step");
    assert_string_equal(c.data, "a b");
    assert_int_equal(c.shift, -2);
    static const char *const words[] = {"false", "true", "no", "YES", "off", "On", "0", "1"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        assert_int_equal(at_options_set(table, &c, "augment.flip", words[i], NULL, NULL), 0);
        assert_int_equal(c.flip, i % 2);
    }
    at_options_fini(table, &c);
}

static void bad_texts_name_the_place_and_change_nothing(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"lr", "fast", "-s: lr: expected a number, got \"fast\""},
        {"lr", "", "-s: lr: expected a number, got \"\""},
        {"lr", ".nan", "-s: lr: expected a number, got \".nan\""},
        {"lr", " 1", "-s: lr: expected a number, got \" 1\""},
        {"lr", "1x", "-s: lr: expected a number, got \"1x\""},
        {"lr", "500", "-s: lr: 500 is above the maximum 100"},
        {"lr", "-0.5", "-s: lr: -0.5 is below the minimum 0"},
        {"lr", ".inf", "-s: lr: .inf is above the maximum 100"},
        {"epochs", "1e3", "-s: epochs: expected an integer, got \"1e3\""},
        {"epochs", "2.0", "-s: epochs: expected an integer, got \"2.0\""},
        {"epochs", "9223372036854775808",
         "-s: epochs: expected an integer, got \"9223372036854775808\""},
        {"epochs", "0", "-s: epochs: 0 is below the minimum 1"},
        {"quiet", "maybe", "-s: quiet: expected true or false, got \"maybe\""},
        {"schedule", "cosin",
         "-s: schedule: \"cosin\" is not one of cosine, step, onecycle; did you mean \"cosine\"?"},
        {"schedule", "", "-s: schedule: \"\" is not one of cosine, step, onecycle"},
        {"set", "lr", "-s: set: expected key=value, got \"lr\""},
        {"set", "=3", "-s: set: expected key=value, got \"=3\""},
        {"learning_rate", "1", "-s: unknown key \"learning_rate\"; did you mean \"lr\"?"},
        {"epoch", "1", "-s: unknown key \"epoch\"; did you mean \"epochs\"?"},
        {"flip", "1", "-s: unknown key \"flip\"; did you mean \"augment.flip\"?"},
        {"Momentum", "1", "-s: unknown key \"Momentum\"; did you mean \"momentum\"?"},
        {"zzz", "1", "-s: unknown key \"zzz\""},
        {"", "1", "-s: unknown key \"\""},
    };
    config c = fresh();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        at_error err = {0};
        int status = at_options_set(table, &c, cases[i][0], cases[i][1], "-s", &err);
        assert_int_equal(status, AT_EINPUT);
        assert_int_equal(err.code, AT_EINPUT);
        assert_string_equal(err.message, cases[i][2]);
    }
    assert_true(c.lr == 0.05 && c.epochs == 8 && !c.quiet && !c.set[0]);
    assert_string_equal(c.schedule, "cosine");
    at_options_fini(table, &c);
}

static void yaml_is_read_nested_and_dotted(void **state)
{
    (void)state;
    config c = fresh();
    at_error err = {0};
    assert_int_equal(load(&c,
                          "lr: 1\nepochs: 0x3\ndata: 2026\nquiet: on\n"
                          "augment: {flip: true}\naugment.shift_by: 2\n"
                          "set: {lr: 0.1, name: x=y}\n",
                          &err),
                     0);
    assert_true(c.lr == 1.0 && c.epochs == 3 && c.flip && c.quiet && c.shift == 2);
    assert_string_equal(c.data, "2026");
    assert_string_equal(c.set[0], "lr=0.1");
    assert_string_equal(c.set[1], "name=x=y");
    assert_null(c.set[2]);
    assert_int_equal(load(&c, "set: [a=1]", &err), 0); /* a file's list replaces */
    assert_string_equal(c.set[0], "a=1");
    assert_null(c.set[1]);
    assert_int_equal(load(&c, "", &err), 0);
    at_options_fini(table, &c);
}

static void yaml_errors_name_file_line_and_column(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"data: x\n\n# c\n\n\nquiet: no\nlr:   fast\n",
         "sweep.yaml:7:7: lr: expected a number, got \"fast\""},
        {"learning_rate: 1", "sweep.yaml:1:1: unknown key \"learning_rate\"; did you mean \"lr\"?"},
        {"augment:\n  flop: 1",
         "sweep.yaml:2:3: unknown key \"augment.flop\"; did you mean \"augment.flip\"?"},
        {"augment: 3", "sweep.yaml:1:1: unknown key \"augment\""},
        {"lr: [1, 2]", "sweep.yaml:1:5: lr: expected a number, got a list"},
        {"lr: {a: 1}", "sweep.yaml:1:5: lr: expected a number, got a map"},
        {"lr:", "sweep.yaml:1:4: lr: expected a number, got \"\""},
        {"data: [x]", "sweep.yaml:1:7: data: expected a string, got a list"},
        {"schedule: [x]", "sweep.yaml:1:11: schedule: expected one of its names, got a list"},
        {"quiet: ~", "sweep.yaml:1:8: quiet: expected true or false, got \"\""},
        {"set: [x]", "sweep.yaml:1:6: set: expected key=value, got \"x\""},
        {"set: {a: [1]}", "sweep.yaml:1:6: set: expected key=value, got a list or a map"},
        {"- lr", "sweep.yaml:1:1: expected keys and values"},
        {"lr", "sweep.yaml:1:1: expected keys and values"},
    };
    config c = fresh();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        at_error err = {0};
        assert_int_equal(load(&c, cases[i][0], &err), AT_EINPUT);
        const char *expected = cases[i][1];
        if (strncmp(err.message, expected, strlen(expected)) != 0)
            fail_msg("\"%s\" is not \"%s\"", err.message, expected);
    }
    at_options_fini(table, &c);
}

static void everything_resolved_reads_back(void **state)
{
    (void)state;
    enum { CASES = 2000 };
    at_rng rng = at_rng_stream(8, "options", 0);
    static const char *const schedules[] = {"cosine", "step", "onecycle"};
    for (int i = 0; i < CASES; i++) {
        config a = fresh(), b = fresh();
        a.epochs = 1 + (int64_t)(at_rng_next(&rng) >> 1) % INT32_MAX;
        a.lr = at_rng_uniform(&rng) * 100;
        a.momentum = at_rng_normal(&rng);
        a.flip = at_rng_below(&rng, 2);
        a.bar = at_rng_below(&rng, 2);
        char *pair = at_format("k%d=%a", i, at_rng_normal(&rng));
        assert_int_equal(at_options_set(table, &a, "schedule", schedules[i % 3], "", NULL), 0);
        assert_int_equal(at_options_set(table, &a, "data", i % 2 ? "yes" : "~", "", NULL), 0);
        assert_int_equal(at_options_set(table, &a, "set", pair, "", NULL), 0);
        at_node *n = at_options_to_node(table, &a);
        char *text = at_yaml_print(n);
        at_error err = {0};
        if (load(&b, text, &err))
            fail_msg("%s", err.message);
        assert_true(a.epochs == b.epochs && a.lr == b.lr && a.momentum == b.momentum);
        assert_true(a.flip == b.flip && a.bar == b.bar && a.quiet == b.quiet && a.shift == b.shift);
        assert_string_equal(a.schedule, b.schedule);
        assert_string_equal(a.data, b.data);
        assert_string_equal(b.set[0], pair);
        free(pair);
        free(text);
        at_node_free(n);
        at_options_fini(table, &a);
        at_options_fini(table, &b);
    }
    print_message("%d configurations printed and read\n", CASES);
}

static void the_tree_is_nested(void **state)
{
    (void)state;
    config c = fresh();
    at_node *n = at_options_to_node(table, &c);
    char *text = at_yaml_print(n);
    assert_string_equal(text, "epochs: 8\nlr: 0.05\nmomentum: 0.0\nschedule: cosine\ndata: \"\"\n"
                              "augment:\n  flip: false\n  shift_by: 4\n"
                              "quiet: false\nbar: true\nset: []\nfreeze: \"\"\n");
    free(text);
    at_node_free(n);
    at_options_fini(table, &c);
}

static int parse(config *c, char **argv, at_error *err)
{
    int argc = 0;
    while (argv[argc])
        argc++;
    return at_options_parse(table, c, argc, argv, err);
}

static void the_command_line_is_read(void **state)
{
    (void)state;
    config c = fresh();
    char *argv[] = {"one",
                    "--lr",
                    "0.5",
                    "-e3",
                    "two",
                    "--no-bar",
                    "-qs",
                    "a=1",
                    "--lr=2",
                    "-s",
                    "b=",
                    "-",
                    "--augment.flip=yes",
                    "--augment.shift-by",
                    "-7",
                    "--data=--x",
                    "--set=c=d",
                    "--",
                    "--lr",
                    NULL};
    at_error err = {0};
    int operands = parse(&c, argv, &err);
    if (operands != 4)
        fail_msg("%d: %s", operands, err.message);
    assert_string_equal(argv[0], "one");
    assert_string_equal(argv[1], "two");
    assert_string_equal(argv[2], "-");
    assert_string_equal(argv[3], "--lr");
    assert_true(c.lr == 2.0 && c.epochs == 3 && !c.bar && c.quiet && c.flip && c.shift == -7);
    assert_string_equal(c.data, "--x");
    assert_string_equal(c.set[0], "a=1");
    assert_string_equal(c.set[1], "b=");
    assert_string_equal(c.set[2], "c=d");
    assert_null(c.set[3]);
    at_options_fini(table, &c);
}

static void flags_take_values_by_equals_only(void **state)
{
    (void)state;
    config c = fresh();
    char *argv[] = {"--bar=false", "--quiet", "false", "-b", NULL};
    assert_int_equal(parse(&c, argv, NULL), 1);
    assert_string_equal(argv[0], "false");
    assert_true(c.quiet && c.bar);
    char *again[] = {"--bar=off", NULL};
    assert_int_equal(parse(&c, again, NULL), 0);
    assert_false(c.bar);
    at_options_fini(table, &c);
}

static void lists_are_joined(void **state)
{
    (void)state;
    at_error err = {0};
    config c = fresh();
    char *argv[] = {"--freeze", "a,b", "--lr", "1", "--freeze=c*", NULL};
    assert_string_equal(c.freeze, "");
    for (int i = 0; i < 2; i++) { /* again: a command line replaces what was there */
        assert_int_equal(at_options_parse(table, &c, 5, argv, &err), 0);
        assert_string_equal(c.freeze, "a,b,c*");
    }
    assert_int_equal(load(&c, "freeze: [x, 'y[12]*']", &err), 0);
    assert_string_equal(c.freeze, "x,y[12]*");
    assert_int_equal(load(&c, "freeze: []", &err), 0);
    assert_string_equal(c.freeze, "");
    assert_int_equal(load(&c, "freeze: x", &err), 0);
    assert_string_equal(c.freeze, "x");
    assert_int_equal(load(&c, "freeze: [x, [y]]", &err), AT_EINPUT);
    assert_int_equal(load(&c, "data: [x, y]", &err), AT_EINPUT);
    at_options_fini(table, &c);
}

static void wrong_command_lines_are_usage_errors(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"--epoch=3", NULL, "unknown option \"--epoch\"; did you mean \"--epochs\"?"},
        {"--zzz", NULL, "unknown option \"--zzz\""},
        {"--no-lr", NULL, "unknown option \"--no-lr\""},
        {"--no-bar=1", NULL, "--no-bar takes no value"},
        {"--lr", NULL, "--lr needs a value"},
        {"--data", "--quiet", "--data needs a value"},
        {"-d", NULL, "-d needs a value"},
        {"-z", NULL, "unknown option \"-z\""},
        {"-qz", NULL, "unknown option \"-z\""},
        {"--lr=fast", NULL, "--lr: expected a number, got \"fast\""},
        {"--lr", "101", "--lr: 101 is above the maximum 100"},
        {"-e", "1.5", "-e: expected an integer, got \"1.5\""},
        {"--quiet=2", NULL, "--quiet: expected true or false, got \"2\""},
        {"-s", "lr", "-s: expected key=value, got \"lr\""},
        {"--=3", NULL, "unknown option \"--\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        config c = fresh();
        char first[32], second[32] = "";
        strcpy(first, cases[i][0]);
        if (cases[i][1])
            strcpy(second, cases[i][1]);
        char *argv[] = {first, cases[i][1] ? second : NULL, NULL};
        at_error err = {0};
        assert_int_equal(parse(&c, argv, &err), AT_EUSAGE);
        assert_int_equal(err.code, AT_EUSAGE);
        if (strncmp(err.message, cases[i][2], strlen(cases[i][2])) != 0)
            fail_msg("\"%s\" is not \"%s\"", err.message, cases[i][2]);
        at_options_fini(table, &c);
    }
}

/* Any words at all end in an operand count or a message, never in a crash or a leak. */
static void random_command_lines_do_no_harm(void **state)
{
    (void)state;
    enum { CASES = 20000 };
    static const char *const words[] = {"--lr",    "0.5",   "-e",         "3",        "--",
                                        "-",       "-q",    "--no-",      "--no-bar", "-s",
                                        "a=b",     "--set", "=",          "--=",      "-qbs",
                                        "--data=", "x",     "--schedule", "step",     "--lr=1=2",
                                        "",        "---",   "-e=3",       "--no-no"};
    at_rng rng = at_rng_stream(9, "argv", 0);
    int good = 0;
    for (int i = 0; i < CASES; i++) {
        char *argv[8] = {0};
        int n = (int)at_rng_below(&rng, 7);
        for (int k = 0; k < n; k++)
            argv[k] = (char *)words[at_rng_below(&rng, sizeof words / sizeof *words)];
        config c = fresh();
        at_error err = {0};
        int operands = parse(&c, argv, &err);
        assert_true((operands >= 0 && operands <= n) || operands == AT_EUSAGE);
        assert_true((operands >= 0) == (err.message[0] == 0));
        good += operands >= 0;
        at_options_fini(table, &c);
    }
    print_message("%d random command lines, %d good\n", CASES, good);
}

static void names_are_near_or_not(void **state)
{
    (void)state;
    static const char *const names[] = {"lr", "batch", "weight_decay", "optimizer", "augment.flip"};
    static const char *const cases[][2] = {
        {"bacth", "batch"},
        {"weightdecay", "weight_decay"},
        {"wd", "weight_decay"},
        {"optimiser", "optimizer"},
        {"BATCH", "batch"},
        {"Weight-Decay", "weight_decay"},
        {"l", "lr"},
        {"xy", NULL},
        {"something", NULL},
        {"flip", "augment.flip"},
        {"lrr", "lr"},
        {"", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *near = at_nearest(cases[i][0], names, 5);
        if (!near || !cases[i][1] ? near != cases[i][1] : strcmp(near, cases[i][1]) != 0)
            fail_msg("%s gave %s", cases[i][0], near ? near : "nothing");
    }
    char lengthy[5000];
    memset(lengthy, 'x', sizeof lengthy);
    lengthy[sizeof lengthy - 1] = 0;
    assert_null(at_nearest(lengthy, names, 5));
    assert_null(at_nearest("lr", NULL, 0));
}

static void help_is_aligned_and_narrow(void **state)
{
    (void)state;
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    at_options_help(table, out);
    fclose(out);
    static const char *const lines[] = {
        "  -e, --epochs N              how often (default 8)\n",
        "      --lr RATE               learning rate (default 0.05)\n",
        "      --momentum VALUE        share of the old step\n",
        "                              the last one, after the warm-up (one of cosine,\n",
        "                              step, onecycle; default cosine)\n",
        "      --augment.flip          mirror images\n",
        "      --augment.shift_by PIXELS\n                              shift images (default 4)\n",
        "  -b, --no-bar                switches off: the bar\n",
        "  -s, --set KEY=VALUE         sets a key (repeatable)\n",
        "      --freeze GLOB,...       globs (repeatable)\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (!strstr(text, lines[i]))
            fail_msg("missing \"%s\" in\n%s", lines[i], text);
    for (const char *line = text; *line; line += strcspn(line, "\n") + 1)
        assert_true(strcspn(line, "\n") <= 80);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_come_from_the_table),
        cmocka_unit_test(a_bad_default_is_an_error),
        cmocka_unit_test(good_texts_are_read),
        cmocka_unit_test(bad_texts_name_the_place_and_change_nothing),
        cmocka_unit_test(yaml_is_read_nested_and_dotted),
        cmocka_unit_test(yaml_errors_name_file_line_and_column),
        cmocka_unit_test(everything_resolved_reads_back),
        cmocka_unit_test(the_tree_is_nested),
        cmocka_unit_test(the_command_line_is_read),
        cmocka_unit_test(flags_take_values_by_equals_only),
        cmocka_unit_test(lists_are_joined),
        cmocka_unit_test(wrong_command_lines_are_usage_errors),
        cmocka_unit_test(random_command_lines_do_no_harm),
        cmocka_unit_test(names_are_near_or_not),
        cmocka_unit_test(help_is_aligned_and_narrow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
