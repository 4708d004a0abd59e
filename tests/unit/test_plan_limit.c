/* SPDX-License-Identifier: Apache-2.0
 * ctest: once
 * The size of a plan before it is made, the largest batch that fits, and what the process may take.
 */
#include "scratch.h"

#include "../../nn/dnn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

static const char *const models[] = {"lenet", "resnet20", "vgg11"};
enum { MODELS = sizeof models / sizeof *models };

static at_net *make(const char *model)
{
    at_error err = {0};
    at_model_spec spec = {.classes = 10, .channels = 3, .height = 32, .width = 32};
    at_graph *g = at_model_graph(model, &spec, &err);
    at_net *net = g ? at_net_new(g, 1, &err) : NULL;
    at_graph_free(g);
    if (!net)
        fail_msg("%s: %s", model, err.message);
    return net;
}

/* What timing chooses may need other scratch memory (Winograd's tiles, however few the samples), but
 * values and gradients are the same. Before AVX2 that may be the whole input of a convolution, once a
 * window. */
static void test_size_is_that_of_the_plan(void **state)
{
    (void)state;
    double scratch = dnn_isa_allowed() < DNN_AVX2 ? 64 << 20 : 16 << 20;
    for (size_t m = 0; m < MODELS; m++) {
        at_net *net = make(models[m]);
        for (int training = 0; training < 2; training++) {
            at_error err = {0};
            at_plan_options o = {.batch = 4, .training = training, .threads = 1};
            size_t size = at_plan_size(net, &o, &err);
            at_plan *p = at_plan_new(net, &o, &err);
            if (!p)
                fail_msg("%s: %s", models[m], err.message);
            print_message("%s: %zu, made: %zu\n", models[m], size, at_plan_bytes(p));
            assert_true(scratch + (double)size > 0.5 * (double)at_plan_bytes(p));
            assert_true(size < 2.0 * (double)at_plan_bytes(p) + (4 << 20));
            at_plan_free(p);
        }
        at_net_free(net);
    }
}

static void test_largest_batch(void **state)
{
    (void)state;
    static const size_t limits[] = {1000, 120 << 20, 300 << 20};
    size_t cases = 0;
    for (size_t m = 0; m < MODELS; m++) {
        at_net *net = make(models[m]);
        for (size_t i = 0; i < sizeof limits / sizeof *limits; i++, cases++) {
            at_plan_options o = {.batch = 65536, .training = true, .threads = 1};
            int largest = at_plan_largest_batch(net, &o, limits[i]);
            assert_true(largest < o.batch);
            print_message("%s, %zu bytes: %d\n", models[m], limits[i], largest);
            o.batch = largest + largest / 16 + 16; /* layouts change with the batch */
            if (i > 0)
                assert_true(at_plan_size(net, &o, NULL) > limits[i]);
            o.batch = largest;
            if (i == 0)
                assert_int_equal(largest, 0);
            else if (largest)
                assert_true(at_plan_size(net, &o, NULL) <= limits[i]);
        }
        at_net_free(net);
    }
    print_message("%zu limits\n", cases);
}

static void test_bad_options(void **state)
{
    (void)state;
    at_net *net = make("lenet");
    at_error err = {0};
    assert_int_equal(at_plan_size(net, &(at_plan_options){.batch = 0}, &err), 0);
    assert_int_equal(err.code, AT_EINPUT);
    at_net_free(net);
}

static void test_available(void **state)
{
    (void)state;
    bool shared = false;
    size_t before = at_memory_available(&shared);
    assert_true(before > 1 << 20 && before < SIZE_MAX);
    assert_true(at_current_rss() > 1 << 20 && at_current_rss() <= at_peak_rss());
    struct rlimit old, small;
    assert_int_equal(getrlimit(RLIMIT_DATA, &old), 0);
    small = old;
    small.rlim_cur = (rlim_t)1 << 20; /* less than there is already */
    assert_int_equal(setrlimit(RLIMIT_DATA, &small), 0);
    size_t none = at_memory_available(&shared);
    assert_int_equal(setrlimit(RLIMIT_DATA, &old), 0);
    assert_int_equal(none, 0);
    assert_false(shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_size_is_that_of_the_plan),
        cmocka_unit_test(test_largest_batch),
        cmocka_unit_test(test_bad_options),
        cmocka_unit_test(test_available),
    };
    return cmocka_run_group_tests(tests, scratch_caches, scratch_caches_gone);
}
