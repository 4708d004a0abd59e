/* SPDX-License-Identifier: Apache-2.0
 * ctest: once
 * Networks: shapes and parameters from rows, backward order, initial values, and what bad rows say.
 */
#include <atoll/nn.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static at_net *net_of(const char *rows, uint64_t seed)
{
    at_error err = {0};
    at_graph *g = at_graph_parse(rows, &err);
    at_net *net = g ? at_net_new(g, seed, &err) : NULL;
    if (!net)
        fail_msg("%s", err.message);
    at_graph_free(g);
    return net;
}

static const char small[] = "data | input | | channels=2 height=9 width=8\n"
                            "c1 | conv | data | out=6 k=3 pad=1 stride=2\n"
                            "n1 | bn | c1 |\n"
                            "r1 | relu | n1 |\n"
                            "p1 | pool | r1 | k=2\n"
                            "flat | flatten | p1 |\n"
                            "d1 | dense | flat | out=5 bias=0\n"
                            "loss | softmax_loss | d1 |\n";

static void test_shapes_and_order(void **state)
{
    (void)state;
    at_net *net = net_of(small, 1);
    int c, h, w;
    at_net_input_shape(net, &c, &h, &w);
    assert_true(c == 2 && h == 9 && w == 8);
    assert_int_equal(at_net_classes(net), 5);
    /* conv: 5x4, pool: 2x2, flatten: 24 */
    static const struct {
        const char *layer, *name;
        size_t count;
        bool decay;
    } expected[] = {{"d1", "kernel", 5 * 24, true},
                    {"n1", "gamma", 6, false},
                    {"n1", "beta", 6, false},
                    {"c1", "kernel", 6 * 2 * 9, true},
                    {"c1", "bias", 6, false}};
    size_t offset = 0;
    assert_int_equal(at_net_params_listed(net), 5);
    for (size_t i = 0; i < 5; i++) {
        const at_param *p = at_net_param(net, i);
        assert_string_equal(p->layer, expected[i].layer);
        assert_string_equal(p->name, expected[i].name);
        assert_int_equal(p->count, expected[i].count);
        assert_int_equal(p->offset, offset);
        assert_int_equal(p->decay, expected[i].decay);
        assert_ptr_equal(at_net_find_param(net, p->layer, p->name), p);
        offset += p->count;
    }
    assert_int_equal(at_net_param_count(net), offset);
    assert_int_equal(at_net_state_count(net), 12);
    assert_null(at_net_find_param(net, "d1", "bias"));
    at_net_free(net);
}

/* PyTorch's default: uniform in ±1/sqrt(fan_in), kernel and bias alike. */
static void check_uniform(at_net *net, const char *layer, const char *name, double fan_in)
{
    const at_param *p = at_net_find_param(net, layer, name);
    const float *v = at_net_params(net) + p->offset;
    double bound = 1 / sqrt(fan_in), sum = 0, square = 0, largest = 0;
    for (size_t i = 0; i < p->count; i++) {
        sum += (double)v[i];
        square += (double)v[i] * (double)v[i];
        largest = fmax(largest, fabs((double)v[i]));
    }
    double n = (double)p->count, variance = bound * bound / 3;
    assert_true(largest <= bound && largest > 0.9 * bound);
    assert_true(fabs(sum / n) < 5 * sqrt(variance / n));
    assert_true(fabs(square / n - variance) < 5 * variance / sqrt(n));
}

static void test_initial_values(void **state)
{
    (void)state;
    at_net *net = net_of("data | input | | channels=3 height=9 width=9\n"
                         "c1 | conv | data | out=100 k=5\nn1 | bn | c1 |\nflat | flatten | n1 |\n"
                         "d1 | dense | flat | out=200\nloss | softmax_loss | d1 |\n",
                         7);
    check_uniform(net, "c1", "kernel", 75);
    check_uniform(net, "c1", "bias", 75);
    check_uniform(net, "d1", "kernel", 2500);
    check_uniform(net, "d1", "bias", 2500);
    const float *gamma = at_net_params(net) + at_net_find_param(net, "n1", "gamma")->offset;
    const float *beta = at_net_params(net) + at_net_find_param(net, "n1", "beta")->offset;
    for (int i = 0; i < 100; i++) {
        assert_true(gamma[i] == 1 && beta[i] == 0);
        assert_true(at_net_state(net)[i] == 0 && at_net_state(net)[100 + i] == 1);
    }
    at_net_free(net);
}

/* The values hang on the seed and the row's name, not on the other rows. */
static void test_seeds(void **state)
{
    (void)state;
    at_net *a = net_of(small, 3), *b = net_of(small, 3), *c = net_of(small, 4);
    size_t bytes = at_net_param_count(a) * sizeof(float);
    assert_memory_equal(at_net_params(a), at_net_params(b), bytes);
    assert_true(memcmp(at_net_params(a), at_net_params(c), bytes) != 0);
    at_net *other = net_of("data | input | | channels=2 height=9 width=8\nx | relu | data |\n"
                           "c1 | conv | x | out=6 k=3\nf | flatten | c1 |\nd | dense | f | out=3\n"
                           "loss | softmax_loss | d |\n",
                           3);
    const at_param *p = at_net_find_param(a, "c1", "kernel");
    const at_param *q = at_net_find_param(other, "c1", "kernel");
    assert_memory_equal(at_net_params(a) + p->offset, at_net_params(other) + q->offset,
                        p->count * sizeof(float));
    at_net_free(other);
    at_net_free(a);
    at_net_free(b);
    at_net_free(c);
}

static void test_own_gradients(void **state)
{
    (void)state;
    at_net *net = net_of(small, 3);
    float *own = at_net_grads(net), window[1000];
    at_net_use_grads(net, window);
    assert_ptr_equal(at_net_grads(net), window);
    at_net_use_grads(net, NULL);
    assert_ptr_equal(at_net_grads(net), own);
    assert_int_equal((uintptr_t)own % 64, 0);
    assert_int_equal((uintptr_t)at_net_params(net) % 64, 0);
    at_net_free(net);
    at_net_free(NULL);
}

static void test_description(void **state)
{
    (void)state;
    at_net *net = net_of(small, 3);
    at_node *about = at_net_describe(net);
    const at_node *conv = at_node_at(at_node_get(about, "layers"), 1);
    assert_int_equal(at_node_int(at_node_get(about, "parameters"), 0), at_net_param_count(net));
    assert_int_equal(at_node_count(at_node_get(about, "layers")), 8);
    assert_string_equal(at_node_string(at_node_get(conv, "name"), ""), "c1");
    assert_int_equal(at_node_int(at_node_at(at_node_get(conv, "shape"), 1), 0), 5);
    assert_true(at_node_real(at_node_get(conv, "flops"), 0) == 2.0 * 6 * 5 * 4 * 2 * 9);
    assert_true(at_node_real(at_node_get(about, "flops"), 0) ==
                2.0 * 6 * 5 * 4 * 2 * 9 + 2 * 5 * 24);
    at_node_free(about);
    at_net_free(net);
}

static const struct {
    const char *rows, *message;
} bad[] = {
    {"c | conv | data | out=6 kk=3", "row \"c\" (conv): unknown key \"kk\"; did you mean \"k\"?"},
    {"c | conv | data | out=6 k=3 out", "row \"c\" (conv): \"out\" is not key=value"},
    {"c | conv | data | out=6", "needs k=N"},
    {"c | conv | data | k=3", "needs out=N"},
    {"c | conv | data | out=6 k=3x", "k=3x: expected N or HxW"},
    {"c | conv | data | out=6 k=0", "k=0: expected N or HxW of at least 1"},
    {"c | conv | data | out=6 k=11", "on 2x9x8 needs at least 11x11 pixels"},
    {"c | conv | data | out=6 k=3 pad=3", "padding smaller than its 3x3 window"},
    {"c | conv | data | out=-1 k=3", "out"},
    {"c | conv | data | out=1000000 k=65535 pad=65534", "too large"},
    {"c | pool | data | kind=min", "\"min\" is not one of"},
    {"c | pool | data | k=300 pad=299", "less than 65535 elements"},
    {"c | pool | data | k=16", "on 2x9x8 needs at least 16x16 pixels"},
    {"c | pool | data | kind=max out=3", "needs kind=avg where out=HxW is given"},
    {"c | pool | data | kind=avg out=0", "out=0: expected N or HxW"},
    {"c | conv | data | out=6 k=3 groups=3", "channels in and out (6) that its 3 groups share"},
    {"c | conv | data | out=6 k=3 dilation=4", "on 2x9x8 needs at least 9x9 pixels"},
    {"p | pool | data |\nc | concat | data p |", "needs inputs of one height and width"},
    {"c | lrn | data | k=0", "below the minimum"},
    {"c | dense | data | out=3", "on 2x9x8 needs a vector: put a row \"flatten\" before it"},
    {"c | normalize | data | mean=1,2,3", "mean=1,2,3 to be 2 numbers"},
    {"c | normalize | data | deviation=1,0", "deviation=1,0 to be 2 positive numbers"},
    {"r | relu | data |\nc | rescale | r |", "row \"c\" (rescale) on 2x9x8 needs pixels"},
    {"c | dropout | data | p=1.5", "above the maximum"},
    {"c | bn | data | eps=abc", "expected a number"},
    {"c | cnov | data | k=3", "row \"c\": unknown layer \"cnov\"; did you mean \"conv\"?"},
    {"c | add | data |", "row \"c\" (add) has 1 inputs, it takes 2 or more"},
    {"p | pool | data |\nc | add | data p |", "on 2x9x8, 2x4x4 needs inputs of one shape"},
    {"c | relu | data data |", "has 2 inputs, it takes 1"},
    {"c | input | |", "the first row, and no other"},
    {"c | softmax_loss | data |", "needs a vector of logits"},
    {"x | relu | data |\nc | relu | data |", "row \"x\" (relu): no row uses its output"},
};

static void test_bad_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        at_error err = {0};
        char *text =
            at_format("data | input | | channels=2 height=9 width=8\n%s\nf | flatten | c |\n"
                      "d | dense | f | out=2\nloss | softmax_loss | d |",
                      bad[i].rows);
        at_graph *g = at_graph_parse(text, &err);
        assert_non_null(g);
        if (at_net_new(g, 1, &err))
            fail_msg("accepted: %s", bad[i].rows);
        assert_int_equal(err.code, AT_EINPUT);
        if (!strstr(err.message, bad[i].message))
            fail_msg("%s: \"%s\" does not hold \"%s\"", bad[i].rows, err.message, bad[i].message);
        at_graph_free(g);
        free(text);
    }
    print_message("%zu bad rows tried\n", sizeof bad / sizeof *bad);
}

static void test_no_loss(void **state)
{
    (void)state;
    at_error err = {0};
    at_graph *g = at_graph_parse("data | input | |", &err);
    assert_null(at_net_new(g, 1, &err));
    assert_int_equal(err.code, AT_EINPUT);
    at_graph_free(g);
    g = at_graph_new();
    assert_null(at_net_new(g, 1, &err));
    at_graph_free(g);
    assert_null(at_net_new(NULL, 1, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes_and_order),
        cmocka_unit_test(test_initial_values),
        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_own_gradients),
        cmocka_unit_test(test_description),
        cmocka_unit_test(test_bad_rows),
        cmocka_unit_test(test_no_loss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
