/* SPDX-License-Identifier: Apache-2.0
 * ctest: timeout=600 once
 * HDF5's first layout, in which Keras's files come, read without libhdf5: all that it holds, and no
 * crash whatever is broken in it. */
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

static void expect_refusal(const char *thing, int rc, int code, const at_error *err)
{
    assert_int_equal(rc, code);
    if (!strstr(err->message, path) || !strstr(err->message, thing))
        fail_msg("'%s' does not name %s and '%s'", err->message, path, thing);
}

/* The first layout, which h5py writes, without libhdf5: groups of one node and of many, attributes
 * of fixed and variable length, in the header and in its continuations. */
static void write_classic_sample(void)
{
    float values[600];
    for (int i = 0; i < 600; i++)
        values[i] = (float)i;
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t group = H5Gcreate2(file, "w", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    hid_t space = H5Screate_simple(2, (hsize_t[]){20, 30}, NULL);
    for (int i = 0; i < 300; i++) { /* a tree of two levels */
        char name[32];
        snprintf(name, sizeof name, "layer%d", i);
        hid_t set =
            H5Dcreate2(group, name, H5T_IEEE_F32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        values[0] = (float)i;
        H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
        H5Dclose(set);
    }
    H5Sclose(space);
    hid_t fixed = H5Tcopy(H5T_C_S1), variable = H5Tcopy(H5T_C_S1), scalar = H5Screate(H5S_SCALAR);
    H5Tset_size(fixed, 4);
    H5Tset_size(variable, H5T_VARIABLE);
    const char *title = "a sample";
    hid_t attribute = H5Acreate2(file, "title", variable, scalar, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(attribute, variable, &title);
    H5Aclose(attribute);
    space = H5Screate_simple(1, (hsize_t[]){3}, NULL);
    for (int part = 0; part < 2; part++) {
        attribute =
            H5Acreate2(group, part ? "names1" : "names0", fixed, space, H5P_DEFAULT, H5P_DEFAULT);
        H5Awrite(attribute, fixed, part ? "dee\0eeee\0\0\0" : "aaa\0bb\0\0cccc");
        H5Aclose(attribute);
    }
    H5Sclose(space);
    H5Sclose(scalar);
    H5Tclose(variable);
    H5Tclose(fixed);
    H5Gclose(group);
    H5Fclose(file);
}

static int read_classic_sample(const char *file, void *context, at_error *err)
{
    (void)context;
    float values[600];
    h5_names names = {0};
    at_h5 *h = at_h5_open(file, err);
    if (!h)
        return err->code;
    char *title = at_h5_read_text(h, "title", err);
    int rc = title ? at_h5_members(h, "w", &names, err) : err->code;
    if (rc == AT_OK)
        rc = at_h5_read_list(h, "w", "names", &names, err);
    for (int i = 0; i < 300 && rc == AT_OK; i++) {
        char name[32];
        snprintf(name, sizeof name, "w/layer%d", i);
        rc = at_h5_read_floats(h, name, values, 600, err);
    }
    h5_names_fini(&names);
    free(title);
    at_h5_close(h, NULL);
    return rc;
}

static void test_classic_layout(void **state)
{
    (void)state;
    at_error err = {0};
    write_classic_sample();
    at_h5 *h = at_h5_open(path, &err);
    if (!h)
        fail_msg("%s", err.message);
    float values[600];
    for (int i = 0; i < 300; i++) {
        char name[32];
        snprintf(name, sizeof name, "w/layer%d", i);
        assert_int_equal(at_h5_expect_shape(h, name, 2, (int64_t[]){20, 30}, &err), AT_OK);
        assert_int_equal(at_h5_read_floats(h, name, values, 600, &err), AT_OK);
        assert_true(values[0] == (float)i && values[599] == 599);
    }
    h5_names names = {0};
    assert_int_equal(at_h5_members(h, "w", &names, &err), AT_OK);
    assert_int_equal(names.count, 300);
    h5_names_fini(&names);
    char *title = at_h5_read_text(h, "title", &err);
    assert_string_equal(title, "a sample");
    free(title);
    assert_int_equal(at_h5_read_list(h, "w", "names", &names, &err), AT_OK);
    static const char *const expected[] = {"aaa", "bb", "cccc", "dee", "eeee", ""};
    assert_int_equal(names.count, 6);
    for (size_t i = 0; i < 6; i++)
        assert_string_equal(names.items[i], expected[i]);
    h5_names_fini(&names);
    assert_int_equal(at_h5_read_list(h, "w", "other", &names, &err), AT_OK);
    assert_int_equal(names.count, 0);
    expect_refusal("'w/layer300' is missing", at_h5_read_floats(h, "w/layer300", values, 600, &err),
                   AT_EINPUT, &err);
    expect_refusal("'w/layer3' is no group", at_h5_members(h, "w/layer3", &names, &err), AT_EINPUT,
                   &err);
    at_h5_close(h, NULL);
    damage d = {.path = path, .read = read_classic_sample};
    damage_truncate(&d, 500);
    size_t cut = d.cases;
    damage_flip(&d, 3000, 2);
    print_message("%zu truncations, %zu random changes; %zu of %zu refused\n", cut, d.cases - cut,
                  d.refused, d.cases);
}

/* Superblock 1 is nobody's: too old for h5py, too new for a file of the first layout. */
static void test_other_layouts(void **state)
{
    (void)state;
    at_error err = {0};
    write_classic_sample();
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, 8, SEEK_SET), 0);
    fputc(1, f);
    assert_int_equal(fclose(f), 0);
    assert_null(at_h5_open(path, &err));
    expect_refusal("superblock version 1", err.code, AT_EINPUT, &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_classic_layout, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_layouts, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
