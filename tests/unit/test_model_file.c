/* SPDX-License-Identifier: Apache-2.0
 * ctest: timeout=600 once
 * Model files: what is saved comes back, equal models give equal files, a failed save leaves
 * nothing, and a file that is damaged or made by an enemy is refused by naming the thing. */
#include "damage.h"
#include "recipe.h"
#include "scratch.h"

#include <atoll/nn.h>
#include <hdf5.h>
#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char *dir, *path;
static char *classes[] = {"T-shirt/top", "“Ärmel”", "a \"quoted\" name"};

static int setup(void **state)
{
    (void)state;
    dir = scratch_new();
    path = at_path_join(dir, "model.h5");
    return path ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    scratch_free(dir);
    free(path);
    return 0;
}

/* A small net with every kind of row that has weights. */
static at_net *small_net(void)
{
    at_error err = {0};
    at_graph *g = at_graph_new();
    at_graph_add(g, "data", "input", "", "channels=2 height=8 width=6");
    at_graph_add(g, "rescale", "rescale", "data", "scale=0.0039215686274509803 offset=0");
    at_graph_add(g, "normalize", "normalize", "rescale", "mean=0.5,0.4 deviation=0.2,0.3");
    at_graph_add(g, "c1", "conv", "normalize", "out=5 k=3 stride=1 pad=1 bias=1");
    at_graph_add(g, "n1", "bn", "c1", "eps=1e-5 momentum=0.1");
    at_graph_add(g, "r1", "relu", "n1", "%s", "");
    at_graph_add(g, "p1", "pool", "r1", "kind=max k=2 stride=2 pad=0");
    at_graph_add(g, "flat", "flatten", "p1", "%s", "");
    at_graph_add(g, "d1", "dense", "flat", "out=7 bias=1");
    at_graph_add(g, "drop", "dropout", "d1", "p=0.5");
    at_graph_add(g, "d2", "dense", "drop", "out=3 bias=0");
    at_graph_add(g, "loss", "softmax_loss", "d2", "%s", "");
    at_net *net = at_net_new(g, 1, &err);
    at_graph_free(g);
    if (!net)
        fail_msg("%s", err.message);
    recipe_weights(net);
    recipe_state(net);
    return net;
}

static at_model_info small_info(void)
{
    return (at_model_info){.model = "small", .classes = classes, .class_count = 3};
}

static void save_small(void)
{
    at_error err = {0};
    at_net *net = small_net();
    at_model_info info = small_info();
    info.training = at_node_new(AT_MAP);
    at_set_real(info.training, "lr", 0.05);
    if (at_model_save(net, &info, path, &err) != AT_OK)
        fail_msg("%s", err.message);
    at_node_free(info.training);
    at_net_free(net);
}

static void test_round_trip(void **state)
{
    (void)state;
    at_error err = {0};
    at_net *net = small_net();
    save_small();
    at_model_info info = {0};
    at_net *back = at_model_load(path, &info, &err);
    if (!back)
        fail_msg("%s", err.message);
    assert_string_equal(info.model, "small");
    assert_int_equal(info.class_count, 3);
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(info.classes[i], classes[i]);
    assert_true(at_node_real(at_node_get(info.training, "lr"), 0) == 0.05);
    char *rows = at_graph_print(at_net_graph(net)), *rows_back = at_graph_print(at_net_graph(back));
    assert_string_equal(rows, rows_back);
    size_t params = at_net_param_count(net), states = at_net_state_count(net);
    assert_int_equal(params, at_net_param_count(back));
    assert_int_equal(states, 10);
    assert_memory_equal(at_net_params(net), at_net_params(back), params * sizeof(float));
    assert_memory_equal(at_net_state(net), at_net_state(back), states * sizeof(float));
    at_net *without_info = at_model_load(path, NULL, &err);
    assert_non_null(without_info);
    free(rows);
    free(rows_back);
    at_model_info_fini(&info);
    at_net_free(without_info);
    at_net_free(back);
    at_net_free(net);
}

static void test_equal_models_are_equal_bytes(void **state)
{
    (void)state;
    char *data[2];
    size_t bytes[2];
    for (int i = 0; i < 2; i++) {
        save_small();
        assert_int_equal(at_file_read(path, 1 << 24, &data[i], &bytes[i], NULL), AT_OK);
        sleep(i == 0); /* a time stamp would differ */
    }
    assert_int_equal(bytes[0], bytes[1]);
    assert_memory_equal(data[0], data[1], bytes[0]);
    free(data[0]);
    free(data[1]);
}

static void test_failed_save_leaves_nothing(void **state)
{
    (void)state;
    at_error err = {0};
    at_net *net = small_net();
    at_model_info info = small_info();
    info.class_count = 2;
    assert_int_equal(at_model_save(net, &info, path, &err), AT_EUSAGE);
    assert_non_null(strstr(err.message, "2 class names for 3 scores"));
    info.class_count = 3;
    at_net_params(net)[at_net_find_param(net, "d1", "bias")->offset + 4] = NAN;
    assert_int_equal(at_model_save(net, &info, path, &err), AT_EFAIL);
    assert_non_null(strstr(err.message, "'d1/bias' has no usable value at 4"));
    assert_non_null(strstr(err.message, path));
    assert_int_equal(scratch_count(dir), 0);
    assert_true(at_model_save(net, &info, "/nonexistent/model.h5", &err) < 0);
    assert_non_null(strstr(err.message, "/nonexistent/model.h5"));
    at_net_free(net);
}

/* ---- files of an enemy ---------------------------------------------------------------------- */
static hid_t edit(void)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V110);
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, access);
    H5Pclose(access);
    assert_true(file >= 0);
    return file;
}

/* Closes file and expects the load to fail, naming the path and the thing. */
static void expect_refusal(hid_t file, const char *thing)
{
    at_error err = {0};
    at_model_info info = {0};
    H5Fclose(file);
    assert_null(at_model_load(path, &info, &err));
    assert_int_equal(err.code, AT_EINPUT);
    assert_null(info.model);
    if (!strstr(err.message, path) || !strstr(err.message, thing))
        fail_msg("'%s' does not name %s and '%s'", err.message, path, thing);
    save_small();
}

static void set_text(hid_t file, const char *name, const char *text)
{
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    H5Tset_size(type, strlen(text) + 1);
    H5Adelete(file, name);
    hid_t attribute = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(attribute >= 0 && H5Awrite(attribute, type, text) >= 0);
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
}

/* Makes the dataset anew with this shape; its values are all `value`. */
static void set_dataset(hid_t file, const char *name, int ndims, const hsize_t *dims, float value)
{
    size_t n = 1;
    for (int i = 0; i < ndims; i++)
        n *= dims[i];
    float *values = malloc(n * sizeof *values);
    for (size_t i = 0; i < n; i++)
        values[i] = value;
    hid_t space = H5Screate_simple(ndims, dims, NULL);
    H5Ldelete(file, name, H5P_DEFAULT);
    hid_t set =
        H5Dcreate2(file, name, H5T_IEEE_F32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(set >= 0);
    H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    H5Dclose(set);
    H5Sclose(space);
    free(values);
}

static void test_attributes(void **state)
{
    (void)state;
    static const char *const needed[] = {"atoll_rows", "atoll_model", "atoll_classes"};
    save_small();
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        hid_t file = edit();
        H5Adelete(file, needed[i]);
        expect_refusal(file, needed[i]);
    }
    static const struct {
        const char *name, *text, *thing;
    } bad[] = {
        {"atoll_format", "2", "format '2'"},
        {"atoll_classes", "[\"a\",\"b\"]", "3 names"},
        {"atoll_classes", "{\"a\":1,\"b\":2,\"c\":3}", "3 names"},
        {"atoll_classes", "[\"a\",\"b\",3]", "item 2"},
        {"atoll_classes", "[\"a\",", "atoll_classes"},
        {"atoll_training", "{", "atoll_training"},
        {"atoll_checksum", "00000000", "checksum"},
        {"atoll_rows", "", "atoll_rows"},
        {"atoll_rows", "garbage", "atoll_rows"},
        {"atoll_rows", "data | input | | channels=1 height=8 width=8\n", "softmax_loss"},
        {"atoll_rows", "data | inptu | | channels=1 height=8 width=8\n", "did you mean"},
        {"atoll_rows", "data | input | | channels=1 height=8 colour=8\n", "colour"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        hid_t file = edit();
        set_text(file, bad[i].name, bad[i].text);
        expect_refusal(file, bad[i].thing);
    }
}

/* Rows that ask for what no memory has are refused by the file's own sizes. */
static void test_huge_rows(void **state)
{
    (void)state;
    static const char head[] = "data | input | | channels=1 height=8 width=8\n";
    static const char *const tails[] = {
        "f | flatten | data | \nd1 | dense | f | out=2000000000 bias=1\n"
        "d2 | dense | d1 | out=3 bias=1\nl | softmax_loss | d2 | \n",
        "f | flatten | data | \nd1 | dense | f | out=60000000 bias=0\n"
        "d2 | dense | d1 | out=3 bias=0\nl | softmax_loss | d2 | \n",
        "c | conv | data | out=60000 k=8 stride=1 pad=0 bias=0\nf | flatten | c | \n"
        "d2 | dense | f | out=3 bias=0\nl | softmax_loss | d2 | \n",
        "c | conv | data | out=1000000 k=3 stride=1 pad=1 bias=0\nf | flatten | c | \n"
        "d2 | dense | f | out=3 bias=0\nl | softmax_loss | d2 | \n",
    };
    save_small();
    size_t before = at_peak_rss();
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        char rows[1000];
        snprintf(rows, sizeof rows, "%s%s", head, tails[i]);
        hid_t file = edit();
        set_text(file, "atoll_rows", rows);
        expect_refusal(file, "");
    }
    assert_in_range(at_peak_rss() - before, 0, 64u << 20);
}

static void test_objects(void **state)
{
    (void)state;
    save_small();
    hid_t file = edit();
    H5Ldelete(file, "model_weights/d1/d1/bias", H5P_DEFAULT);
    expect_refusal(file, "model_weights/d1/d1/bias");
    file = edit();
    H5Ldelete(file, "model_weights/n1/n1", H5P_DEFAULT);
    expect_refusal(file, "model_weights/n1/n1");
    file = edit();
    H5Ldelete(file, "model_weights", H5P_DEFAULT);
    expect_refusal(file, "model_weights");
    file = edit();
    set_dataset(file, "model_weights/d1/d1/extra", 1, (hsize_t[]){7}, 0);
    expect_refusal(file, "model_weights/d1/d1/extra");
    file = edit();
    set_dataset(file, "model_weights/flat/extra", 1, (hsize_t[]){7}, 0);
    expect_refusal(file, "model_weights/flat/extra");
    file = edit();
    set_dataset(file, "optimizer", 1, (hsize_t[]){7}, 0);
    expect_refusal(file, "optimizer");
    file = edit();
    set_dataset(file, "model_weights/d1/d1/kernel", 2, (hsize_t[]){7, 60}, 0);
    expect_refusal(file, "model_weights/d1/d1/kernel");
    file = edit();
    set_dataset(file, "model_weights/d1/d1/bias", 1, (hsize_t[]){8}, 0);
    expect_refusal(file, "model_weights/d1/d1/bias");
    file = edit();
    set_dataset(file, "model_weights/d1/d1/bias", 2, (hsize_t[]){7, 1}, 0);
    expect_refusal(file, "model_weights/d1/d1/bias");
}

static void test_values(void **state)
{
    (void)state;
    static const float not_numbers[] = {NAN, INFINITY, -INFINITY};
    save_small();
    for (size_t i = 0; i < 3; i++) {
        hid_t file = edit();
        set_dataset(file, "model_weights/c1/c1/kernel", 4, (hsize_t[]){3, 3, 2, 5}, not_numbers[i]);
        expect_refusal(file, "model_weights/c1/c1/kernel");
    }
    hid_t file = edit();
    set_dataset(file, "model_weights/n1/n1/moving_variance", 1, (hsize_t[]){5}, -1);
    expect_refusal(file, "model_weights/n1/n1/moving_variance");
    file = edit();
    set_dataset(file, "model_weights/c1/c1/kernel", 4, (hsize_t[]){3, 3, 2, 5}, 0.5f);
    expect_refusal(file, "checksum");
}

static void test_links(void **state)
{
    (void)state;
    save_small();
    hid_t file = edit();
    H5Ldelete(file, "model_weights/d1/d1/bias", H5P_DEFAULT);
    H5Lcreate_external("/etc/passwd", "/x", file, "model_weights/d1/d1/bias", H5P_DEFAULT,
                       H5P_DEFAULT);
    expect_refusal(file, "model_weights/d1/d1/bias");
    file = edit();
    H5Lmove(file, "model_weights/d1/d1", file, "hidden", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("/hidden", file, "model_weights/d1/d1", H5P_DEFAULT, H5P_DEFAULT);
    expect_refusal(file, "hidden");
    file = edit();
    H5Ldelete(file, "model_weights/d1/d1/bias", H5P_DEFAULT);
    H5Lcreate_soft("/model_weights/c1/c1/bias", file, "model_weights/d1/d1/bias", H5P_DEFAULT,
                   H5P_DEFAULT);
    expect_refusal(file, "link");
}

/* Replaces, removes or doubles a piece of the text, or puts a number of another size into it. */
static char *mutate(const char *text, at_rng *rng)
{
    static const char *const pieces[] = {"0",    "-1",  "65535", "99999999999999999999",
                                         "1e9",  "nan", "|",     "\n",
                                         " ",    "=",   "x",     "/",
                                         ".",    ",",   "dense", "flatten",
                                         "data", ""};
    size_t length = strlen(text), at = at_rng_below(rng, length), cut = at_rng_below(rng, 12);
    const char *piece = pieces[at_rng_below(rng, sizeof pieces / sizeof *pieces)];
    cut = at + cut > length ? length - at : cut;
    if (at_rng_below(rng, 4) == 0) /* doubled */
        return at_format("%.*s%s%s", (int)(at + cut), text, piece, text + at);
    return at_format("%.*s%s%s", (int)at, text, piece, text + at + cut);
}

/* Text that a stranger wrote with care, in a file that is sound: answered, whatever it says. */
static void test_random_text(void **state)
{
    (void)state;
    enum { CASES = 1500 };
    static const char *const names[] = {"atoll_rows", "atoll_rows", "atoll_rows", "atoll_classes",
                                        "atoll_training"};
    size_t refused = 0;
    save_small();
    char *whole;
    size_t bytes;
    assert_int_equal(at_file_read(path, 1 << 24, &whole, &bytes, NULL), AT_OK);
    for (uint64_t i = 0; i < CASES; i++) {
        at_error err = {0};
        at_rng rng = at_rng_stream(3, "text", i);
        const char *name = names[i % 5];
        at_h5 *h = at_h5_open(path, &err);
        char *text = at_h5_read_text(h, name, &err);
        at_h5_close(h, NULL);
        for (uint64_t n = 1 + at_rng_below(&rng, 3); n > 0; n--) {
            char *next = mutate(text, &rng);
            free(text);
            text = next;
        }
        hid_t file = edit();
        set_text(file, name, text);
        H5Fclose(file);
        at_model_info info = {0};
        at_net *net = at_model_load(path, &info, &err);
        refused += net == NULL;
        if (!net && !strstr(err.message, path))
            fail_msg("the message does not name the file: %s", err.message);
        at_model_info_fini(&info);
        at_net_free(net);
        free(text);
        FILE *f = fopen(path, "wb");
        assert_true(f && fwrite(whole, 1, bytes, f) == bytes && fclose(f) == 0);
    }
    free(whole);
    print_message("%d changed texts, %zu refused\n", CASES, refused);
    assert_true(refused > CASES / 2);
}

/* Somebody may change a weight on purpose: then the checksum is deleted. */
static void test_edited_on_purpose(void **state)
{
    (void)state;
    save_small();
    at_error err = {0};
    hid_t file = edit();
    set_dataset(file, "model_weights/c1/c1/bias", 1, (hsize_t[]){5}, 0.5f);
    H5Adelete(file, "atoll_checksum");
    H5Adelete(file, "atoll_training");
    H5Fclose(file);
    at_model_info info = {0};
    at_net *net = at_model_load(path, &info, &err);
    if (!net)
        fail_msg("%s", err.message);
    assert_true(at_net_params(net)[at_net_find_param(net, "c1", "bias")->offset] == 0.5f);
    assert_null(info.training);
    at_model_info_fini(&info);
    at_net_free(net);
}

/* What is accepted in spite of a change must be the model that was saved. */
static int load(const char *file, void *context, at_error *err)
{
    at_net *whole = context;
    at_model_info info = {0};
    at_net *net = at_model_load(file, &info, err);
    if (!net)
        return err->code;
    size_t params = at_net_param_count(whole), states = at_net_state_count(whole);
    assert_int_equal(params, at_net_param_count(net));
    assert_memory_equal(at_net_params(whole), at_net_params(net), params * sizeof(float));
    assert_memory_equal(at_net_state(whole), at_net_state(net), states * sizeof(float));
    assert_int_equal(info.class_count, 3);
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(info.classes[i], classes[i]);
    at_model_info_fini(&info);
    at_net_free(net);
    return AT_OK;
}

static void test_damage(void **state)
{
    (void)state;
    save_small();
    damage d = {.path = path, .read = load, .context = small_net()};
    damage_truncate(&d, 2000);
    size_t cut = d.cases;
    damage_flip(&d, 4000, 2);
    print_message("%zu truncations, %zu random changes; %zu of %zu refused\n", cut, d.cases - cut,
                  d.refused, d.cases);
    assert_true(d.refused > d.cases * 9 / 10); /* the rest hit bytes that nothing reads */
    at_net_free(d.context);
}

int main(void)
{
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_equal_models_are_equal_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failed_save_leaves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_attributes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_huge_rows, setup, teardown),
        cmocka_unit_test_setup_teardown(test_objects, setup, teardown),
        cmocka_unit_test_setup_teardown(test_values, setup, teardown),
        cmocka_unit_test_setup_teardown(test_links, setup, teardown),
        cmocka_unit_test_setup_teardown(test_random_text, setup, teardown),
        cmocka_unit_test_setup_teardown(test_edited_on_purpose, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
