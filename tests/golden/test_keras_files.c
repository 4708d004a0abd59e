/* SPDX-License-Identifier: Apache-2.0
 * ctest: timeout=900 once
 * Files that Keras 2.15 and 3 saved (make_keras.py): the same scores as Keras's, in every form that
 * atoll writes of them too; and however they are broken, an answer. */
#include "damage.h"
#include "scratch.h"

#include <atoll/nn.h>
#include <archive.h>
#include <archive_entry.h>
#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PICTURES = 20 };
#ifdef __SANITIZE_ADDRESS__
enum { QUARANTINE = 256 }; /* MB of freed memory that it keeps */
#else
enum { QUARANTINE = 0 };
#endif

static char *dir;

static int setup(void **state)
{
    (void)state;
    dir = scratch_new();
    return dir ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    scratch_free(dir);
    return 0;
}

static char *golden(const char *name)
{
    return at_format("%s/tests/golden/%s", getenv("ATOLL_SOURCE"), name);
}

static float *read_values(const char *file, const char *name, size_t count)
{
    char *path = golden(file);
    at_error err = {0};
    float *values = malloc(count * sizeof *values);
    at_h5 *h = at_h5_open(path, &err);
    if (!h || at_h5_read_floats(h, name, values, count, &err) != AT_OK)
        fail_msg("%s", err.message);
    at_h5_close(h, NULL);
    free(path);
    return values;
}

static at_net *load(const char *path, at_model_info *info)
{
    at_error err = {0};
    at_net *net = at_model_load(path, info, &err);
    if (!net)
        fail_msg("%s", err.message);
    return net;
}

/* The largest difference of the model's scores from Keras's. */
static float differ(at_net *net, const char *scores_file, const char *form)
{
    int c, h, w, classes = at_net_classes(net);
    at_error err = {0};
    char name[64];
    at_net_input_shape(net, &c, &h, &w);
    size_t bytes = (size_t)(PICTURES * c * h * w), n = (size_t)(PICTURES * classes);
    snprintf(name, sizeof name, "%s_pixels", form);
    float *pixels = read_values(scores_file, name, bytes), worst = 0;
    snprintf(name, sizeof name, "%s_scores", form);
    float *scores = read_values(scores_file, name, n);
    uint8_t *input = malloc(bytes);
    for (size_t i = 0; i < bytes; i++)
        input[i] = (uint8_t)pixels[i];
    at_plan *plan = at_plan_new(net, &(at_plan_options){.batch = PICTURES}, &err);
    if (!plan || at_plan_infer(plan, &(at_plan_input){.pixels = input}, NULL, &err) != AT_OK)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < n; i++)
        worst = fmaxf(worst, fabsf(at_plan_scores(plan)[i] - scores[i]));
    at_plan_free(plan);
    free(input);
    free(scores);
    free(pixels);
    return worst;
}

/* A whole model as Keras saved it, and that in every form of ours, read back. */
static size_t check_file(const char *keras, const char *form)
{
    at_error err = {0};
    at_model_info info = {0}, again_info = {0};
    char *scores = at_format("%s_scores.h5", keras), *name = at_format("%s.%s", keras, form);
    char *path = golden(name);
    at_net *net = load(path, &info);
    assert_true(differ(net, scores, form) < 1e-4f);
    assert_int_equal((int)info.class_count, at_net_classes(net));
    assert_string_equal(info.classes[1], "1");
    size_t forms = 0;
    for (; forms < at_model_format_count(); forms++) {
        const at_model_format *f = at_model_format_at(forms);
        if (strstr(f->name, "onnx"))
            continue;
        char *file = at_path_join(dir, f->name);
        if (at_model_export(net, &info, f, file, &err) != AT_OK)
            fail_msg("%s", err.message);
        at_net *again = load(file, &again_info);
        float worst = differ(again, scores, form);
        print_message("%s as %s: largest difference %g\n", name, f->name, (double)worst);
        assert_true(worst < 1e-4f);
        at_model_info_fini(&again_info);
        at_net_free(again);
        free(file);
    }
    at_model_info_fini(&info);
    at_net_free(net);
    free(path);
    free(name);
    free(scores);
    return forms;
}

static void test_same_scores(void **state)
{
    (void)state;
    size_t files = 0;
    static const char *const kerases[] = {"keras2", "keras3"};
    for (int i = 0; i < 2; i++)
        files += check_file(kerases[i], "h5") + check_file(kerases[i], "keras");
    assert_true(files >= 16);
}

static int read_model(const char *path, void *context, at_error *err)
{
    (void)context;
    at_model_info info = {0};
    at_net *net = at_model_load(path, &info, err);
    at_model_info_fini(&info);
    at_net_free(net);
    return net ? AT_OK : err->code;
}

static void break_file(const char *path, size_t *cases, size_t *refused)
{
    char *data;
    size_t bytes;
    assert_int_equal(at_file_read(path, 1 << 24, &data, &bytes, NULL), AT_OK);
    char *copy = at_path_join(dir, "copy");
    assert_int_equal(at_file_write(copy, data, bytes, NULL), AT_OK);
    damage d = {.path = copy, .read = read_model};
    damage_truncate(&d, bytes / 97);
    damage_flip(&d, 1000, bytes);
    *cases += d.cases;
    *refused += d.refused;
    free(copy);
    free(data);
}

/* Cut at every 97th byte and changed at random, in every form, ours and Keras's. */
static void test_damage(void **state)
{
    (void)state;
    static const char *const files[] = {"keras2.h5", "keras2.keras", "keras3.h5", "keras3.keras"};
    at_error err = {0};
    at_model_info info = {0};
    size_t cases = 0, refused = 0, before = at_peak_rss();
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *path = golden(files[i]);
        break_file(path, &cases, &refused);
        free(path);
    }
    char *path = golden(files[3]);
    at_net *net = load(path, &info);
    for (size_t i = 0; i < at_model_format_count(); i++) {
        const at_model_format *f = at_model_format_at(i);
        char *file = at_path_join(dir, f->name);
        assert_int_equal(at_model_export(net, &info, f, file, &err), AT_OK);
        if (!strstr(f->name, "onnx"))
            break_file(file, &cases, &refused);
        free(file);
    }
    print_message("%zu damaged files, %zu refused\n", cases, refused);
    assert_true(cases > 10000 && refused > 3000);
    assert_in_range(at_peak_rss() - before, 0, (size_t)(512 + QUARANTINE) << 20);
    at_model_info_fini(&info);
    at_net_free(net);
    free(path);
}

/* ---- archives of an enemy ---------------------------------------------------------------------- */
static void add_member(struct archive *a, const char *name, const char *data, size_t bytes,
                       size_t repeat)
{
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_size(entry, (la_int64_t)(bytes * repeat));
    assert_int_equal(archive_write_header(a, entry), ARCHIVE_OK);
    for (size_t i = 0; i < repeat; i++)
        assert_int_equal(archive_write_data(a, data, bytes), bytes);
    archive_entry_free(entry);
}

static void expect_refusal(const char *path, const char *thing)
{
    at_error err = {0};
    at_model_info info = {0};
    assert_null(at_model_load(path, &info, &err));
    assert_int_equal(err.code, AT_EINPUT);
    if (!strstr(err.message, path) || !strstr(err.message, thing))
        fail_msg("'%s' does not name %s and '%s'", err.message, path, thing);
}

static const char flat[] = "{\"class_name\":\"Sequential\",\"config\":{\"layers\":[{\"class_name\":"
                           "\"InputLayer\",\"config\":"
                           "{\"name\":\"i\",\"batch_shape\":[null,4,4,1]}},%s]}}";

/* A .keras file of one layer behind the input, with these weights. */
static void write_archive(const char *path, const char *layer, const char *weights, size_t bytes,
                          size_t repeat)
{
    char config[2000];
    struct archive *a = archive_write_new();
    archive_write_set_format_zip(a);
    assert_int_equal(archive_write_open_filename(a, path), ARCHIVE_OK);
    int length = snprintf(config, sizeof config, flat, layer);
    add_member(a, "metadata.json", "{}", 2, 1);
    add_member(a, "config.json", config, (size_t)length, 1);
    if (weights)
        add_member(a, "model.weights.h5", weights, bytes, repeat);
    assert_int_equal(archive_write_close(a), ARCHIVE_OK);
    archive_write_free(a);
}

static void test_archives(void **state)
{
    (void)state;
    static char zeros[1 << 16];
    char *path = at_path_join(dir, "model.keras");
    size_t before = at_peak_rss();
    write_archive(path, "{}", NULL, 0, 0);
    expect_refusal(path, "'model.weights.h5' is missing");
    write_archive(path, "{}", "no HDF5 at all", 14, 1);
    expect_refusal(path, "not an HDF5 file");
    write_archive(path, "{}", zeros, sizeof zeros, 16384); /* 1 GiB in a megabyte */
    expect_refusal(path, "unpacks to more than");
    assert_in_range(at_peak_rss() - before, 0, 256u << 20);
    free(path);
}

/* Configurations that atoll has no rows for, each named. */
static void test_configurations(void **state)
{
    (void)state;
    static const struct {
        const char *layer, *thing;
    } bad[] = {
        {"{\"class_name\":\"Lambda\",\"config\":{\"name\":\"evil\"}}", "layer 'evil' (Lambda)"},
        {"{\"class_name\":\"Flatten\",\"config\":{}}", "(Flatten)"},
        {"{\"class_name\":\"Activation\",\"config\":{\"name\":\"a\",\"activation\":\"selu\"}}",
         "selu"},
        {"{\"class_name\":\"Dense\",\"config\":{\"name\":\"d\",\"units\":9}}", "layer 'd' (Dense)"},
        {"{\"class_name\":\"Conv2D\",\"config\":{\"name\":\"c\",\"filters\":8,\"kernel_size\":[9,9]"
         "}}",
         "layer 'c' (Conv2D)"},
        {"{\"class_name\":\"Conv2D\",\"config\":{\"name\":\"c\",\"filters\":8,\"kernel_size\":0}}",
         "kernel_size"},
        {"{\"class_name\":\"Conv2D\",\"config\":{\"name\":\"c\",\"filters\":1e99,\"kernel_size\":1}"
         "}",
         "out"},
        {"{\"class_name\":\"ZeroPadding2D\",\"config\":{\"name\":\"z\",\"padding\":99999999}}",
         "layer 'z'"},
        {"{\"class_name\":\"MaxPooling2D\",\"config\":{\"name\":\"p\",\"pool_size\":2,"
         "\"data_format\":\"channels_first\"}}",
         "channels_first"},
        {"{\"class_name\":\"ReLU\",\"config\":{\"name\":\"r\",\"max_value\":6}}",
         "layer 'r' (ReLU)"},
        {"[]", "no rows"},
        {"3", "no rows"},
    };
    char *path = at_path_join(dir, "model.keras"), *weights = golden("keras3_scores.h5"), *data;
    size_t bytes, n = sizeof bad / sizeof *bad;
    assert_int_equal(at_file_read(weights, 1 << 24, &data, &bytes, NULL), AT_OK);
    for (size_t i = 0; i < n; i++) {
        write_archive(path, bad[i].layer, data, bytes, 1);
        expect_refusal(path, bad[i].thing);
    }
    print_message("%zu configurations refused\n", n);
    free(data);
    free(weights);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_same_scores, setup, teardown),
        cmocka_unit_test_setup_teardown(test_archives, setup, teardown),
        cmocka_unit_test_setup_teardown(test_configurations, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
