/* SPDX-License-Identifier: Apache-2.0
 * ctest: timeout=600 once
 * HDF5 files: what is written comes back, equal contents give equal bytes, and whatever a stranger
 * may put into a file is refused by a message that names the file and the thing. */
#include "damage.h"
#include "scratch.h"

#include <atoll/nn.h>
#include <hdf5.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../nn/h5.h"

static char *dir, *path;

static int setup(void **state)
{
    (void)state;
    dir = scratch_new();
    path = at_path_join(dir, "a.h5");
    return path ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    scratch_free(dir);
    free(path);
    return 0;
}

static at_h5 *create(void)
{
    at_error err = {0};
    at_h5 *h = at_h5_create(path, &err);
    if (!h)
        fail_msg("%s", err.message);
    return h;
}

static at_h5 *open_again(at_h5 *written)
{
    at_error err = {0};
    assert_int_equal(at_h5_close(written, &err), AT_OK);
    at_h5 *h = at_h5_open(path, &err);
    if (!h)
        fail_msg("%s", err.message);
    return h;
}

/* The text is written to attribute "t" and must come back. */
static void round_trip_text(const char *text)
{
    at_h5 *h = create();
    assert_int_equal(at_h5_write_text(h, "t", text, NULL), AT_OK);
    h = open_again(h);
    char *back = at_h5_read_text(h, "t", NULL);
    assert_non_null(back);
    assert_string_equal(back, text);
    free(back);
    at_h5_close(h, NULL);
}

static void test_text(void **state)
{
    (void)state;
    static char large[300001];
    memset(large, 'x', sizeof large - 1);
    round_trip_text("");
    round_trip_text("Ångström — “T-shirt”\n");
    round_trip_text(large);
}

static void test_floats(void **state)
{
    (void)state;
    float values[24], back[24];
    for (int i = 0; i < 24; i++)
        values[i] = (float)i / 7;
    const int64_t cube[] = {2, 3, 4}, line[] = {24}, none[] = {0};
    at_h5 *h = create();
    assert_int_equal(at_h5_write_floats(h, "a/b/cube", values, 3, cube, NULL), AT_OK);
    assert_int_equal(at_h5_write_floats(h, "line", values, 1, line, NULL), AT_OK);
    assert_int_equal(at_h5_write_floats(h, "scalar", values + 5, 0, NULL, NULL), AT_OK);
    assert_int_equal(at_h5_write_floats(h, "none", values, 1, none, NULL), AT_OK);
    assert_int_equal(at_h5_write_floats(h, "line", values, 1, line, NULL), AT_EIO); /* twice */
    h = open_again(h);
    assert_int_equal(at_h5_read_floats(h, "a/b/cube", back, 24, NULL), AT_OK);
    assert_memory_equal(values, back, sizeof values);
    assert_int_equal(at_h5_read_floats(h, "/line", back, 24, NULL), AT_OK);
    assert_int_equal(at_h5_read_floats(h, "scalar", back, 1, NULL), AT_OK);
    assert_true(back[0] == values[5]);
    assert_int_equal(at_h5_read_floats(h, "none", back, 0, NULL), AT_OK);
    assert_int_equal(at_h5_expect_shape(h, "a/b/cube", 3, cube, NULL), AT_OK);
    at_h5_close(h, NULL);
}

static void write_sample(at_h5 *h)
{
    static const char *const names[] = {"kernel", "bias"};
    float values[600];
    for (int i = 0; i < 600; i++)
        values[i] = (float)i;
    assert_int_equal(at_h5_write_text(h, "title", "a sample", NULL), AT_OK);
    for (int i = 0; i < 12; i++) { /* more than a group's compact form holds */
        char name[32];
        snprintf(name, sizeof name, "w/layer%d/kernel", i);
        assert_int_equal(at_h5_write_floats(h, name, values, 2, (int64_t[]){20, 30}, NULL), AT_OK);
    }
    assert_int_equal(at_h5_attach_list(h, "w/layer3", "names", names, 2, NULL), AT_OK);
    assert_int_equal(at_h5_make_group(h, "w/empty", NULL), AT_OK);
    assert_int_equal(at_h5_attach_list(h, "w/empty", "names", names, 0, NULL), AT_OK);
}

static void test_equal_contents_are_equal_bytes(void **state)
{
    (void)state;
    char *data[2];
    size_t bytes[2];
    for (int i = 0; i < 2; i++) {
        at_h5 *h = create();
        write_sample(h);
        assert_int_equal(at_h5_close(h, NULL), AT_OK);
        assert_int_equal(at_file_read(path, 1 << 24, &data[i], &bytes[i], NULL), AT_OK);
        sleep(i == 0); /* a time stamp would differ */
    }
    assert_int_equal(bytes[0], bytes[1]);
    assert_memory_equal(data[0], data[1], bytes[0]);
    free(data[0]);
    free(data[1]);
}

static void test_lists_are_split_as_keras_does(void **state)
{
    (void)state;
    enum { N = 1400 };
    static char text[N][64];
    const char *items[N];
    for (int i = 0; i < N; i++) {
        snprintf(text[i], sizeof text[i], "%063d", i);
        items[i] = text[i];
    }
    at_h5 *h = create();
    assert_int_equal(at_h5_attach_list(h, "/", "whole", items, 1024, NULL), AT_OK); /* 64,512 */
    assert_int_equal(at_h5_attach_list(h, "/", "split", items, N, NULL), AT_OK);
    static char wide[70000];
    memset(wide, 'x', sizeof wide - 1);
    const char *too_wide[] = {wide};
    assert_int_equal(at_h5_attach_list(h, "/", "wide", too_wide, 1, NULL), AT_EINPUT);
    assert_int_equal(at_h5_close(h, NULL), AT_OK);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    const char *const names[] = {"whole", "split0", "split1"};
    const hssize_t counts[] = {1024, 700, 700};
    for (int i = 0; i < 3; i++) {
        hid_t attribute = H5Aopen(file, names[i], H5P_DEFAULT), space = H5Aget_space(attribute);
        assert_int_equal(H5Sget_simple_extent_npoints(space), counts[i]);
        H5Sclose(space);
        H5Aclose(attribute);
    }
    assert_true(H5Aexists(file, "split") == 0 && H5Aexists(file, "split2") == 0);
    H5Fclose(file);
}

/* ---- files of strangers --------------------------------------------------------------------- */
static void expect_refusal(const char *thing, int rc, int code, const at_error *err)
{
    assert_int_equal(rc, code);
    if (!strstr(err->message, path) || !strstr(err->message, thing))
        fail_msg("'%s' does not name %s and '%s'", err->message, path, thing);
}

static void test_not_hdf5(void **state)
{
    (void)state;
    at_error err = {0};
    assert_null(at_h5_open(path, &err));
    expect_refusal("No such file", err.code, AT_ENOENT, &err);
    static const char *const contents[] = {"", "\211HDF", "PK\003\004 something else altogether"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(at_file_write(path, contents[i], strlen(contents[i]), NULL), AT_OK);
        assert_null(at_h5_open(path, &err));
        expect_refusal("not an HDF5 file", err.code, AT_EINPUT, &err);
    }
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_null(at_h5_open(path, &err));
    expect_refusal("not a file", err.code, AT_EINPUT, &err);
    rmdir(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_null(at_h5_open(path, &err)); /* and does not wait for a writer */
    expect_refusal("not a file", err.code, AT_EINPUT, &err);
    assert_null(at_h5_create("/dev/null/a.h5", &err));
    assert_int_equal(err.code, AT_EIO);
}

/* What h5py and newer libraries make of our files when they change them is still read. */
static void test_newer_layout(void **state)
{
    (void)state;
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110);
    H5Fclose(H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access));
    H5Pclose(access);
    at_h5 *h = at_h5_open(path, NULL);
    assert_non_null(h);
    assert_int_equal(at_h5_expect_members(h, "/", NULL, 0, NULL), AT_OK);
    assert_int_equal(at_h5_close(h, NULL), AT_OK);
}

/* A file made by the library itself, in the first layout if `classic` says so; close it with H5Fclose. */
static bool classic;

static hid_t stranger(void)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (!classic)
        H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V110);
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    H5Pclose(access);
    assert_true(file >= 0);
    return file;
}

/* A dataset "x" of n floats; closes creation. */
static void add_set(hid_t file, hid_t type, hsize_t n, hid_t creation, bool write)
{
    hid_t space = H5Screate_simple(1, &n, NULL);
    hid_t set = H5Dcreate2(file, "x", type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    assert_true(set >= 0);
    float values[64] = {0};
    if (write)
        H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    H5Dclose(set);
    H5Sclose(space);
    if (creation != H5P_DEFAULT)
        H5Pclose(creation);
}

static void expect_refused_set(hid_t file, const char *thing)
{
    at_error err = {0};
    float values[64];
    H5Fclose(file);
    at_h5 *h = at_h5_open(path, &err);
    assert_non_null(h);
    expect_refusal(thing, at_h5_read_floats(h, "x", values, 64, &err), AT_EINPUT, &err);
    expect_refusal("'x'", at_h5_expect_shape(h, "x", 1, (int64_t[]){64}, &err), AT_EINPUT, &err);
    at_h5_close(h, NULL);
}

static hid_t chunked(void)
{
    hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(creation, 1, (hsize_t[]){64});
    return creation;
}

static void try_strange_datasets(void)
{
    hid_t file = stranger();
    expect_refused_set(file, "missing");
    file = stranger();
    add_set(file, H5T_IEEE_F64LE, 64, H5P_DEFAULT, true);
    expect_refused_set(file, "float32");
    file = stranger();
    add_set(file, H5T_IEEE_F32LE, 64, chunked(), true);
    expect_refused_set(file, "plain");
    file = stranger();
    hid_t creation = chunked();
    H5Pset_filter(creation, 31337, H5Z_FLAG_OPTIONAL, 0, NULL);
    add_set(file, H5T_IEEE_F32LE, 64, creation, true);
    expect_refused_set(file, "plain");
    file = stranger();
    creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_external(creation, "/etc/passwd", 0, 256);
    add_set(file, H5T_IEEE_F32LE, 64, creation, false);
    expect_refused_set(file, "another file");
    file = stranger();
    add_set(file, H5T_IEEE_F32LE, (hsize_t)1 << 40, H5P_DEFAULT, false);
    expect_refused_set(file, "more bytes than the file");
    file = stranger();
    add_set(file, H5T_IEEE_F32LE, 64, H5P_DEFAULT, false); /* never allocated */
    expect_refused_set(file, "no values");
    file = stranger();
    H5Gclose(H5Gcreate2(file, "x", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    expect_refused_set(file, "dataset 'x'");
}

static void try_links(void)
{
    hid_t file = stranger();
    H5Lcreate_soft("/y", file, "x", H5P_DEFAULT, H5P_DEFAULT);
    expect_refused_set(file, "link");
    file = stranger();
    H5Lcreate_external("/etc/passwd", "/y", file, "x", H5P_DEFAULT, H5P_DEFAULT);
    expect_refused_set(file, "link");
    file = stranger();
    H5Gclose(H5Gcreate2(file, "real", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Lcreate_soft("/real", file, "soft", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    at_error err = {0};
    float value;
    at_h5 *h = at_h5_open(path, &err);
    expect_refusal("'soft' is a link", at_h5_read_floats(h, "soft/x", &value, 1, &err), AT_EINPUT,
                   &err);
    at_h5_close(h, NULL);
}

static void test_strange_datasets(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        classic = i == 1;
        try_strange_datasets();
        try_links();
    }
    classic = false;
}

static void test_shapes_and_counts(void **state)
{
    (void)state;
    at_error err = {0};
    float values[600];
    at_h5 *h = create();
    write_sample(h);
    h = open_again(h);
    const char *set = "w/layer3/kernel";
    expect_refusal("600 values", at_h5_read_floats(h, set, values, 599, &err), AT_EINPUT, &err);
    expect_refusal("extent 20", at_h5_expect_shape(h, set, 2, (int64_t[]){30, 20}, &err), AT_EINPUT,
                   &err);
    expect_refusal("2 dimensions", at_h5_expect_shape(h, set, 1, (int64_t[]){600}, &err), AT_EINPUT,
                   &err);
    static const char *const members[] = {"kernel", "bias"};
    assert_int_equal(at_h5_expect_members(h, "w/layer3", members, 1, &err), AT_OK);
    expect_refusal("bias", at_h5_expect_members(h, "w/layer3", members, 2, &err), AT_EINPUT, &err);
    expect_refusal("w/layer3/kernel", at_h5_expect_members(h, "w/layer3", NULL, 0, &err), AT_EINPUT,
                   &err);
    expect_refusal("title", at_h5_read_text(h, "title ", &err) ? AT_OK : err.code, AT_EINPUT, &err);
    at_h5_close(h, NULL);
}

/* An attribute "t" of the type and number of elements. */
static void expect_refused_text(hid_t type, hsize_t n)
{
    at_error err = {0};
    hid_t file = stranger(), space = H5Screate_simple(1, &n, NULL);
    hid_t attribute = H5Acreate2(file, "t", type, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(attribute >= 0);
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
    H5Fclose(file);
    at_h5 *h = at_h5_open(path, &err);
    assert_non_null(h);
    assert_null(at_h5_read_text(h, "t", &err));
    expect_refusal("'t'", err.code, AT_EINPUT, &err);
    at_h5_close(h, NULL);
}

static void test_strange_attributes(void **state)
{
    (void)state;
    hid_t variable = H5Tcopy(H5T_C_S1), fixed = H5Tcopy(H5T_C_S1);
    H5Tset_size(variable, H5T_VARIABLE);
    H5Tset_size(fixed, 8);
    expect_refused_text(variable, 1);
    expect_refused_text(fixed, 2);
    expect_refused_text(H5Tcopy(H5T_NATIVE_INT), 1);
}

/* Reads all of the sample. */
static int read_sample(const char *file, void *context, at_error *err)
{
    (void)context;
    float values[600];
    at_h5 *h = at_h5_open(file, err);
    if (!h)
        return err->code;
    char *title = at_h5_read_text(h, "title", err);
    int rc = title ? AT_OK : err->code;
    free(title);
    for (int i = 0; i < 12 && rc == AT_OK; i++) {
        char name[32];
        snprintf(name, sizeof name, "w/layer%d/kernel", i);
        rc = at_h5_read_floats(h, name, values, 600, err);
    }
    const char *const members[] = {"kernel"};
    if (rc == AT_OK)
        rc = at_h5_expect_members(h, "w/layer3", members, 1, err);
    at_h5_close(h, NULL);
    return rc;
}

static void test_damage(void **state)
{
    (void)state;
    at_h5 *h = create();
    write_sample(h);
    assert_int_equal(at_h5_close(h, NULL), AT_OK);
    damage d = {.path = path, .read = read_sample};
    damage_truncate(&d, 2000);
    size_t cut = d.cases;
    damage_flip(&d, 3000, 1);
    print_message("%zu truncations, %zu random changes; %zu of %zu refused\n", cut, d.cases - cut,
                  d.refused, d.cases);
}

int main(void)
{
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_text, setup, teardown),
        cmocka_unit_test_setup_teardown(test_floats, setup, teardown),
        cmocka_unit_test_setup_teardown(test_equal_contents_are_equal_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lists_are_split_as_keras_does, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_hdf5, setup, teardown),
        cmocka_unit_test_setup_teardown(test_newer_layout, setup, teardown),
        cmocka_unit_test_setup_teardown(test_strange_datasets, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shapes_and_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_strange_attributes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
