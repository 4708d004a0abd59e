/* SPDX-License-Identifier: Apache-2.0
 * Weights from files in each layout of Keras and from models of ours: what is matched, what is turned
 * into our form, and what is refused. Files that Keras itself wrote: tests/golden/test_transfer.py. */
#include "../../nn/h5.h"
#include "scratch.h"
#include "steps.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BATCH = 8, MOST = 8192 };

/* conv, bn, dense: with a bias before the normalisation, or without. */
#define ROWS(bias, classes)                                                                        \
    "data | input | | channels=3 height=12 width=12\n"                                             \
    "rescale | rescale | data |\n"                                                                 \
    "c1 | conv | rescale | out=4 k=3 bias=" bias "\n"                                              \
    "n1 | bn | c1 |\n"                                                                             \
    "r1 | relu | n1 |\n"                                                                           \
    "flat | flatten | r1 |\n"                                                                      \
    "logits | dense | flat | out=" classes "\n"                                                    \
    "loss | softmax_loss | logits |\n"

typedef struct weight {
    const char *layer, *name;
    int ndims;
    int64_t dims[4];
    float bad; /* its last value, if not 0 */
} weight;
static const weight whole[] = {{"c1", "kernel", 4, {3, 3, 3, 4}},
                               {"c1", "bias", 1, {4}},
                               {"n1", "gamma", 1, {4}},
                               {"n1", "beta", 1, {4}},
                               {"n1", "moving_mean", 1, {4}},
                               {"n1", "moving_variance", 1, {4}},
                               {"logits", "kernel", 2, {400, 10}},
                               {"logits", "bias", 1, {10}},
                               {0}};

/* ---- files ----------------------------------------------------------------------------------- */

typedef enum { KERAS_3, KERAS_2, KERAS_1, WEIGHTS_ALONE, NESTED, LAYOUTS } layout;

static void check(int status, const at_error *err)
{
    if (status)
        fail_msg("%s", err->message);
}

static float value_of(const weight *w, size_t i)
{
    at_rng rng = at_rng_stream(3, w->layer, i * 16 + strlen(w->name));
    return (float)at_rng_uniform(&rng) + (strstr(w->name, "variance") ? 0.5f : -0.5f);
}

static void put_values(at_h5 *h, const weight *w, const char *path)
{
    static float values[MOST];
    at_error err = {0};
    size_t n = 1;
    for (int i = 0; i < w->ndims; i++)
        n *= (size_t)w->dims[i];
    assert_true(n <= MOST);
    for (size_t i = 0; i < n; i++)
        values[i] = value_of(w, i);
    if (w->bad != 0)
        values[n - 1] = w->bad;
    check(at_h5_write_floats(h, path, values, w->ndims, w->dims, &err), &err);
}

static int ends_layer(const weight *w)
{
    return !w[1].layer || strcmp(w[1].layer, w->layer) != 0;
}

static void put_keras_3(at_h5 *h, const weight *w)
{
    at_error err = {0};
    for (int layer = 0, k = 0; w->layer; w++, k++) {
        char vars[100], path[120];
        snprintf(vars, sizeof vars, "layers/some_class_%d/vars", layer);
        snprintf(path, sizeof path, "%s/%d", vars, k);
        put_values(h, w, path);
        if (ends_layer(w)) {
            check(at_h5_attach_text(h, vars, "name", w->layer, &err), &err);
            layer++;
            k = -1;
        }
    }
}

/* As the versions name a weight within its layer's group. */
static void name_weight(layout l, const weight *w, char out[100])
{
    static const char *const forms[] = {
        [KERAS_2] = "%s/%s:0", [WEIGHTS_ALONE] = "%s/%s", [NESTED] = "outer/%s/%s:0"};
    if (l == KERAS_1)
        snprintf(out, 100, "%s_W%zu_1:0", w->layer, strlen(w->name));
    else
        snprintf(out, 100, forms[l], w->layer, w->name);
}

static void put_legacy(at_h5 *h, layout l, const weight *w)
{
    at_error err = {0};
    const char *top = l == WEIGHTS_ALONE ? "" : "model_weights/", *layers[8], *names[16];
    static char texts[16][100];
    size_t layer_count = 0, n = 0;
    layers[layer_count++] = "pool"; /* one without weights */
    for (; w->layer; w++) {
        char path[300], group[200];
        const char *own = l == NESTED ? "inside" : w->layer;
        name_weight(l, w, texts[n]);
        names[n] = texts[n];
        snprintf(group, sizeof group, "%s%s", top, own);
        snprintf(path, sizeof path, "%s/%s", group, texts[n++]);
        put_values(h, w, path);
        if (!ends_layer(w) || (l == NESTED && w[1].layer))
            continue;
        check(at_h5_attach_list(h, group, "weight_names", names, n, &err), &err);
        layers[layer_count++] = own;
        n = 0;
    }
    char pool[100];
    snprintf(pool, sizeof pool, "%spool", top);
    check(at_h5_make_group(h, pool, &err), &err);
    check(at_h5_attach_list(h, *top ? "model_weights" : "/", "layer_names", layers, layer_count,
                            &err),
          &err);
}

static void put_file(const char *path, layout l, const weight *weights)
{
    at_error err = {0};
    at_h5 *h = at_h5_create(path, &err);
    check(h ? 0 : err.code, &err);
    if (l == KERAS_3)
        put_keras_3(h, weights);
    else
        put_legacy(h, l, weights);
    check(at_h5_close(h, &err), &err);
}

/* ---- what is taken --------------------------------------------------------------------------- */

static int64_t count_of(const at_node *report, const char *key)
{
    return at_node_int(at_node_get(report, key), -1);
}

/* The status of a row; "" where it has none. */
static bool has_status(const at_node *report, const char *row, const char *status)
{
    const at_node *rows = at_node_get(report, "rows");
    for (size_t i = 0; i < at_node_count(rows); i++)
        if (!strcmp(at_node_string(at_node_get(at_node_at(rows, i), "name"), ""), row) &&
            !strcmp(at_node_string(at_node_get(at_node_at(rows, i), "status"), ""), status))
            return true;
    return false;
}

static at_node *init(at_net *net, const char *path, at_init_options options)
{
    at_error err = {0};
    at_node *report = at_net_init(net, path, &options, &err);
    check(report ? 0 : err.code, &err);
    return report;
}

static const float *param(at_net *net, const char *layer, const char *name)
{
    return at_net_params(net) + at_net_find_param(net, layer, name)->offset;
}

/* By the definition of the layouts, not by the program's own functions. */
static void check_values(at_net *net)
{
    const float *conv = param(net, "c1", "kernel"), *dense = param(net, "logits", "kernel");
    for (size_t o = 0; o < 4; o++)
        for (size_t c = 0; c < 3; c++)
            for (size_t k = 0; k < 9; k++)
                assert_true(conv[(o * 3 + c) * 9 + k] == value_of(&whole[0], (k * 3 + c) * 4 + o));
    for (size_t o = 0; o < 10; o++)
        for (size_t c = 0; c < 4; c++)
            for (size_t k = 0; k < 100; k++)
                assert_true(dense[o * 400 + c * 100 + k] ==
                            value_of(&whole[6], (k * 4 + c) * 10 + o));
    for (size_t i = 0; i < 4; i++) {
        assert_true(param(net, "c1", "bias")[i] == value_of(&whole[1], i));
        assert_true(param(net, "n1", "gamma")[i] == value_of(&whole[2], i));
        assert_true(param(net, "n1", "beta")[i] == value_of(&whole[3], i));
        assert_true(at_net_state(net)[i] == value_of(&whole[4], i));
        assert_true(at_net_state(net)[4 + i] == value_of(&whole[5], i));
    }
}

static void every_layout_gives_the_same(void **state)
{
    const char *dir = *state;
    for (layout l = 0; l < LAYOUTS; l++) {
        char *path = at_format("%s/layout%d.h5", dir, (int)l);
        put_file(path, l, whole);
        at_net *net = steps_net(ROWS("1", "10"));
        at_node *report = init(net, path, (at_init_options){0});
        check_values(net);
        assert_int_equal(count_of(report, "matched"), 8);
        assert_int_equal(count_of(report, "missing") + count_of(report, "misshaped"), 0);
        assert_int_equal(at_node_count(at_node_get(report, "unused")), 0);
        assert_string_equal(at_node_string(at_node_get(report, "layout"), ""),
                            l == KERAS_3 ? "keras 3" : "keras legacy");
        at_node_free(report);
        at_net_free(net);
        free(path);
    }
}

static void a_model_of_ours_gives_its_own(void **state)
{
    at_error err = {0};
    char *path = at_path_join(*state, "own.h5"), *classes[10];
    for (int i = 0; i < 10; i++)
        classes[i] = "some";
    at_net *from = steps_net(ROWS("1", "10")), *net = steps_net(ROWS("1", "10"));
    for (size_t i = 0; i < at_net_param_count(from); i++)
        at_net_params(from)[i] += 1;
    at_model_info info = {.model = "some", .classes = classes, .class_count = 10};
    check(at_model_save(from, &info, path, &err), &err);
    at_node *report = init(net, path, (at_init_options){.bgr = true}); /* ours is RGB already */
    assert_memory_equal(at_net_params(net), at_net_params(from),
                        at_net_param_count(net) * sizeof(float));
    assert_string_equal(at_node_string(at_node_get(report, "layout"), ""), "atoll");
    at_node_free(report);
    at_net_free(net);
    at_net_free(from);
    free(path);
}

static void the_rest_stays_as_it_was(void **state)
{
    static const weight some[] = {{"c1", "kernel", 4, {3, 3, 3, 4}},
                                  {"c1", "bias", 1, {4}},
                                  {"n1", "gamma", 1, {5}},
                                  {"stranger", "kernel", 2, {2, 2}},
                                  {0}};
    char *path = at_path_join(*state, "some.h5");
    put_file(path, KERAS_2, some);
    at_net *net = steps_net(ROWS("1", "10")), *before = steps_net(ROWS("1", "10"));
    at_node *report = init(net, path, (at_init_options){0});
    assert_int_equal(count_of(report, "matched"), 2);
    assert_int_equal(count_of(report, "misshaped"), 4); /* gamma, and with it the row */
    assert_int_equal(count_of(report, "missing"), 2);
    assert_true(has_status(report, "c1", "matched"));
    assert_true(has_status(report, "n1", "misshaped"));
    assert_true(has_status(report, "logits", "missing"));
    assert_string_equal(at_node_string(at_node_at(at_node_get(report, "unused"), 0), ""),
                        "stranger");
    assert_memory_equal(param(net, "n1", "gamma"), param(before, "n1", "gamma"), 16);
    assert_memory_equal(param(net, "logits", "kernel"), param(before, "logits", "kernel"), 16000);
    at_node_free(report);
    at_net_free(net);
    at_net_free(before);
    free(path);
}

/* Keras's scale=False, center=False, use_bias=False: 1, 0 and 0. */
static void what_a_layer_has_not_is_implied(void **state)
{
    static const weight some[] = {{"c1", "kernel", 4, {3, 3, 3, 4}},
                                  {"n1", "moving_mean", 1, {4}},
                                  {"n1", "moving_variance", 1, {4}},
                                  {0}};
    char *path = at_path_join(*state, "implied.h5");
    put_file(path, KERAS_2, some);
    at_net *net = steps_net(ROWS("1", "10"));
    for (size_t i = 0; i < at_net_param_count(net); i++)
        at_net_params(net)[i] = 7;
    at_node *report = init(net, path, (at_init_options){0});
    for (size_t i = 0; i < 4; i++) {
        assert_true(param(net, "c1", "bias")[i] == 0);
        assert_true(param(net, "n1", "beta")[i] == 0);
        assert_true(param(net, "n1", "gamma")[i] == 1);
    }
    at_node_free(report);
    at_net_free(net);
    free(path);
}

/* ---- what is not a matter of layout ---------------------------------------------------------- */

static float *logits_of(at_net *net, const steps *f)
{
    at_error err = {0};
    at_plan *p = at_plan_new(net, &(at_plan_options){.batch = BATCH, .threads = 1}, &err);
    check(p ? 0 : err.code, &err);
    at_plan_input in = {.pixels = f->pixels, .scale = 1};
    check(at_plan_infer(p, &in, NULL, &err), &err);
    float *out = steps_copy(at_plan_logits(p), BATCH * STEPS_CLASSES);
    at_plan_free(p);
    return out;
}

static void a_bias_goes_into_the_moving_mean(void **state)
{
    char *path = at_path_join(*state, "bias.h5");
    put_file(path, KERAS_3, whole);
    steps *f = steps_new(ROWS("1", "10"));
    at_net *without = steps_net(ROWS("0", "10"));
    at_node *a = init(f->net, path, (at_init_options){0});
    at_node *b = init(without, path, (at_init_options){0});
    assert_true(has_status(b, "c1", "folded"));
    assert_false(has_status(a, "c1", "folded"));
    assert_int_equal(count_of(b, "matched"), 8);
    float *expected = logits_of(f->net, f), *got = logits_of(without, f);
    steps_assert_near(got, expected, BATCH * STEPS_CLASSES, 1e-5);
    free(expected);
    free(got);
    at_node_free(a);
    at_node_free(b);
    at_net_free(without);
    steps_free(f);
    free(path);
}

static void weights_for_bgr_become_weights_for_rgb(void **state)
{
    char *path = at_path_join(*state, "bgr.h5");
    put_file(path, KERAS_2, whole);
    steps *f = steps_new(ROWS("1", "10"));
    at_net *turned = steps_net(ROWS("1", "10"));
    at_node *a = init(f->net, path, (at_init_options){0});
    at_node *b = init(turned, path, (at_init_options){.bgr = true});
    assert_true(has_status(b, "c1", "turned"));
    float *got = logits_of(turned, f);
    for (size_t i = 0; i < sizeof f->pixels; i += 3) {
        uint8_t red = f->pixels[i];
        f->pixels[i] = f->pixels[i + 2];
        f->pixels[i + 2] = red;
    }
    float *expected = logits_of(f->net, f);
    steps_assert_near(got, expected, BATCH * STEPS_CLASSES, 1e-5);
    free(expected);
    free(got);
    at_node_free(a);
    at_node_free(b);
    at_net_free(turned);
    steps_free(f);
    free(path);
}

static void the_head_is_made_anew(void **state)
{
    char *path = at_path_join(*state, "head.h5");
    put_file(path, KERAS_2, whole);
    static const char *const rows[] = {ROWS("1", "10"), ROWS("1", "7")};
    for (size_t i = 0; i < 2; i++) {
        at_net *net = steps_net(rows[i]), *before = steps_net(rows[i]);
        at_node *report = init(net, path, (at_init_options){.replace_head = true});
        assert_true(has_status(report, "logits", "replaced"));
        assert_int_equal(count_of(report, "matched"), 6);
        size_t kernel = at_net_find_param(net, "logits", "kernel")->count;
        assert_memory_equal(param(net, "logits", "kernel"), param(before, "logits", "kernel"),
                            kernel * sizeof(float));
        at_node_free(report);
        at_net_free(net);
        at_net_free(before);
    }
    free(path);
}

static void auxiliary_heads_are_made_anew_too(void **state)
{
    static const char *const rows = "data | input | | channels=3 height=12 width=12\n"
                                    "rescale | rescale | data |\n"
                                    "c1 | conv | rescale | out=4 k=3\n"
                                    "r1 | relu | c1 |\n"
                                    "flat | flatten | r1 |\n"
                                    "side | dense | flat | out=10\n"
                                    "aux | softmax_loss | side |\n"
                                    "logits | dense | flat | out=10\n"
                                    "loss | softmax_loss | logits |\n";
    char *path = at_path_join(*state, "aux.h5");
    put_file(path, KERAS_2, whole);
    at_net *net = steps_net(rows);
    at_node *report = init(net, path, (at_init_options){.replace_head = true});
    assert_true(has_status(report, "side", "replaced"));
    assert_true(has_status(report, "logits", "replaced"));
    assert_true(has_status(report, "c1", "matched"));
    at_node_free(report);
    at_net_free(net);
    free(path);
}

/* ---- bad files ------------------------------------------------------------------------------- */

static int refused;

static void refuse(const char *path, const char *rows, bool replace, const char *pattern)
{
    at_error err = {0};
    at_net *net = steps_net(rows);
    at_init_options options = {.replace_head = replace};
    at_node *report = at_net_init(net, path, &options, &err);
    if (report)
        fail_msg("%s was taken", path);
    assert_int_equal(err.code, AT_EINPUT);
    if (!strstr(err.message, pattern) || !strstr(err.message, path))
        fail_msg("no \"%s\" or path in: %s", pattern, err.message);
    at_net_free(net);
    refused++;
}

static void put_bad_value(const char *path, size_t which, float bad)
{
    weight weights[sizeof whole / sizeof *whole];
    memcpy(weights, whole, sizeof whole);
    weights[which].bad = bad;
    put_file(path, (layout)(which % LAYOUTS), weights);
}

static void bad_files_are_refused(void **state)
{
    static const char good[] = ROWS("1", "10"), seven[] = ROWS("1", "7");
    static const weight other[] = {{"x1", "kernel", 4, {3, 3, 3, 4}}, {0}};
    static const weight wrong[] = {
        {"c1", "kernel", 4, {5, 5, 3, 4}}, {"logits", "kernel", 2, {4, 10}}, {0}};
    at_error err = {0};
    char *path = at_path_join(*state, "bad.h5");
    refuse(path, good, false, "No such file");
    refuse(*state, good, false, "");
    check(at_file_write(path, "no HDF5", 7, &err), &err);
    refuse(path, good, false, "not an HDF5 file");
    check(at_file_write(path, "", 0, &err), &err);
    refuse(path, good, false, "not an HDF5 file");

    at_h5 *h = at_h5_create(path, &err);
    check(at_h5_close(h, &err), &err);
    refuse(path, good, false, "without weights");
    h = at_h5_create(path, &err);
    const char *gone = "c1";
    check(at_h5_make_group(h, "model_weights", &err), &err);
    check(at_h5_attach_list(h, "model_weights", "layer_names", &gone, 1, &err), &err);
    check(at_h5_close(h, &err), &err);
    refuse(path, good, false, "missing");
    h = at_h5_create(path, &err);
    char deep[200] = "layers";
    for (int i = 0; i < 40; i++)
        strcat(deep, "/x");
    check(at_h5_make_group(h, deep, &err), &err);
    check(at_h5_close(h, &err), &err);
    refuse(path, good, false, "deep");

    for (layout l = 0; l < LAYOUTS; l++) {
        put_file(path, l, other);
        refuse(path, good, false, l == NESTED ? "\"inside\"" : "\"x1\"");
        put_file(path, l, wrong);
        refuse(path, good, true, "c1: kernel 3x3x3x4, the file has 5x5x3x4");
        put_file(path, l, whole);
        refuse(path, seven, false, "10 classes, this data set has 7: --replace-head");
    }
    for (size_t i = 0; i < 8; i++) {
        put_bad_value(path, i, NAN);
        refuse(path, good, false, "no usable value");
        put_bad_value(path, i, -INFINITY);
        refuse(path, good, false, "(-inf)");
    }
    put_bad_value(path, 5, -1); /* a variance */
    refuse(path, good, false, "(-1)");
    print_message("%d bad files\n", refused);
    free(path);
}

/* A file cut off anywhere, or with a byte changed, is taken or refused, in one piece. */
static void damaged_files_do_no_harm(void **state)
{
    at_error err = {0};
    char *path = at_path_join(*state, "damaged.h5"), *bytes;
    size_t n, taken = 0, cases = 0;
    put_file(path, KERAS_2, whole);
    check(at_file_read(path, 1 << 20, &bytes, &n, &err), &err);
    at_rng rng = at_rng_stream(4, "damage", 0);
    for (; cases < 300; cases++) {
        size_t at = (size_t)at_rng_below(&rng, (uint32_t)n);
        char kept = bytes[at];
        bytes[at] = (char)(kept ^ (1 << at_rng_below(&rng, 8)));
        check(at_file_write(path, bytes, cases % 3 ? n : at, &err), &err);
        bytes[at] = kept;
        at_net *net = steps_net(ROWS("1", "10"));
        at_error why = {0};
        at_node *report = at_net_init(net, path, &(at_init_options){0}, &why);
        taken += report != NULL;
        assert_true(report || (why.code < 0 && why.message[0]));
        at_node_free(report);
        at_net_free(net);
    }
    print_message("%zu damaged files, %zu of them in values alone\n", cases, taken);
    assert_true(taken < cases);
    free(bytes);
    free(path);
}

/* ---- preprocessing --------------------------------------------------------------------------- */

static void preprocessing_is_rows_of_the_model(void **state)
{
    (void)state;
    static const struct {
        const char *mode;
        int channels;
        const char *rescale, *normalize;
    } cases[] = {{"caffe", 3, "scale=1 offset=0", "mean=123.68"},
                 {"torch", 3, "scale=0.0039", "mean=0.485"},
                 {"tf", 3, "offset=-1", NULL},
                 {"tf", 1, "offset=-1", NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        at_error err = {0};
        at_model_spec spec = {
            .classes = 4, .channels = cases[i].channels, .height = 32, .width = 32};
        check(at_preprocess(&spec, cases[i].mode, &err), &err);
        at_graph *g = at_model_graph("lenet", &spec, &err);
        check(g ? 0 : err.code, &err);
        assert_non_null(strstr(at_graph_row(g, 1).attrs, cases[i].rescale));
        const char *next = at_graph_row(g, 2).attrs;
        assert_int_equal(!strcmp(at_graph_row(g, 2).layer, "normalize"), cases[i].normalize != 0);
        assert_true(!cases[i].normalize || strstr(next, cases[i].normalize));
        at_graph_free(g);
    }
    at_error err = {0};
    at_model_spec grey = {.classes = 4, .channels = 1, .height = 32, .width = 32};
    assert_int_equal(at_preprocess(&grey, "caffe", &err), AT_EINPUT);
    assert_non_null(strstr(err.message, "3 channels"));
    assert_int_equal(at_preprocess(&grey, "cafe", &err), AT_EINPUT);
}

static int set_up(void **state)
{
    *state = scratch_new();
    return 0;
}

static int tear_down(void **state)
{
    scratch_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layout_gives_the_same),
        cmocka_unit_test(a_model_of_ours_gives_its_own),
        cmocka_unit_test(the_rest_stays_as_it_was),
        cmocka_unit_test(what_a_layer_has_not_is_implied),
        cmocka_unit_test(a_bias_goes_into_the_moving_mean),
        cmocka_unit_test(weights_for_bgr_become_weights_for_rgb),
        cmocka_unit_test(the_head_is_made_anew),
        cmocka_unit_test(auxiliary_heads_are_made_anew_too),
        cmocka_unit_test(bad_files_are_refused),
        cmocka_unit_test(damaged_files_do_no_harm),
        cmocka_unit_test(preprocessing_is_rows_of_the_model),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
