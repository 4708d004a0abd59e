/* SPDX-License-Identifier: Apache-2.0
 * Every row of layers.def, with the attributes of each of its probes and with activations behind it:
 * analytical against numerical gradients (central differences), for every element of the inputs and
 * every parameter.
 *
 * A layer is compiled inside a small network, then taken out: its tensors get memory of their own,
 * so that forward and backward of this one op can be called. The loss is sum(r * y) with random r,
 * in double precision. Layers that take any layout are run in blocked, NHWC and NCHW memory; the
 * padding of blocked memory must stay zero, and backward in place must give the same bits.
 * ctest: timeout=900
 */
#include "../../nn/plan.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MOST_BATCH = 16, CLASSES = 7, MOST_INPUTS = 3 };
static const double tolerance = 2e-3; /* of the largest gradient of the tensor */

typedef struct layer_case {
    const char *layer, *attrs, *then; /* then: an activation behind it, done in the same pass */
} layer_case;

static const layer_case fused[] = {
    {"bn", "eps=1e-5 momentum=0.1", "relu"},    {"bn", "eps=1e-5 momentum=0.1", "gelu"},
    {"bn", "eps=1e-5 momentum=0.1", "sigmoid"}, {"bn", "eps=1e-5 momentum=0.1", "tanh"},
    {"bn", "eps=1e-5 momentum=0.1", "silu"},    {"add", "", "relu"},
    {"conv", "out=16 k=3 pad=1", "sigmoid"},    {"conv", "out=17 k=1 bias=0", "tanh"},
};
/* Their inputs have more than 255 pixels. */
static const layer_case large[] = {{"pool", "kind=max k=global", NULL},
                                   {"pool", "kind=max k=17x16 stride=1 pad=2", NULL}};

/* How the layer is run. */
typedef struct setting {
    int64_t lanes; /* of its input; 0: as compiled */
    int batch;
    bool large;
} setting;

typedef struct harness {
    at_net *net;
    at_plan *plan;
    plan_op *op;
    int inputs;
    int64_t in_size[MOST_INPUTS], out_size; /* elements of memory */
    float *x[MOST_INPUTS], *dx[MOST_INPUTS], *y, *dy;
    int32_t labels[MOST_BATCH];
    at_plan_input input;
    at_plan_stats stats;
    at_rng rng;
    size_t tried;
} harness;

static void check(int status, const at_error *err, const layer_case *c)
{
    if (status)
        fail_msg("%s %s: %s", c->layer, c->attrs, err->message);
}

/* ---- a network around the layer ---- */

/* Of layers with several inputs, those of concat differ in their channels. */
static at_graph *graph_of(const layer_case *c, const setting *s, bool vector)
{
    at_graph *g = at_graph_new();
    const at_layer *layer = nn_layer_find(c->layer, NULL);
    bool several = layer->inputs_min == 2, concat = layer == &at_layer_concat;
    const char *from = vector ? "flat" : several ? "pre second third" : "pre";
    at_graph_add(g, "data", "input", "", "channels=3 height=%d width=%d", s->large ? 18 : 6,
                 s->large ? 17 : 7);
    at_graph_add(g, "first", "conv", "data", "out=%d k=2", s->large ? 1 : 5);
    at_graph_add(g, "pre", "pool", "first", "kind=avg k=1"); /* takes nothing over from x */
    if (several) {
        at_graph_add(g, "second", "conv", "data", "out=%d k=2", concat ? 16 : 5);
        at_graph_add(g, "third", "conv", "data", "out=%d k=2", concat ? 3 : 5);
    }
    if (vector)
        at_graph_add(g, "flat", "flatten", "pre", "%s", "");
    if (!strcmp(c->layer, "softmax_loss")) {
        at_graph_add(g, "x", c->layer, from, "%s", c->attrs);
        return g;
    }
    at_graph_add(g, "x", c->layer, from, "%s", c->attrs);
    at_graph_add(g, "then", c->then ? c->then : "pool", "x", "%s", c->then ? "" : "kind=avg k=1");
    at_graph_add(g, "flatten", "flatten", "then", "%s", "");
    at_graph_add(g, "logits", "dense", "flatten", "out=%d", CLASSES);
    at_graph_add(g, "loss", "softmax_loss", "logits", "%s", "");
    return g;
}

static at_net *net_of(const layer_case *c, const setting *s, at_error *err)
{
    for (int vector = 0; vector < 2; vector++) {
        at_graph *g = graph_of(c, s, vector);
        at_net *net = at_net_new(g, 5, err);
        at_graph_free(g);
        if (net)
            return net;
    }
    return NULL;
}

static int64_t elements(const harness *h, const plan_tensor *t)
{
    return plan_tensor_elements(h->plan, t);
}

static float *memory_for(int64_t n)
{
    float *p = at_alloc_aligned((size_t)n * sizeof *p);
    assert_non_null(p);
    return p;
}

/* The op's tensors in memory of their own, in the given layout (0: as compiled); a last input is in
 * another layout than those before. */
static void take_out(harness *h, int64_t lanes, const layer_case *c)
{
    at_error err = {0};
    plan_tensor *out = h->op->out;
    h->inputs = h->op->row->input_count;
    if (lanes && !out->shape.vector)
        out->lanes = lanes;
    for (int k = 0; k < h->inputs; k++) {
        plan_tensor *in = h->op->in[k];
        if (lanes)
            in->lanes = k && k + 1 == h->inputs ? 1 : lanes;
        h->in_size[k] = elements(h, in);
        in->data = h->x[k] = memory_for(h->in_size[k]);
        in->grad = h->dx[k] = h->op->in_grad[k] = memory_for(h->in_size[k]);
    }
    h->out_size = elements(h, out);
    out->data = h->y = memory_for(h->out_size);
    out->grad = h->dy = memory_for(h->out_size);
    if (h->op->bind)
        check(h->op->bind(h->op, &err), &err, c);
    for (int i = 0; i < MOST_BATCH; i++)
        h->labels[i] = i % CLASSES;
    h->input = (at_plan_input){.labels = h->labels, .scale = 0.25f, .epoch = 3};
    h->plan->input = &h->input;
    h->plan->stats = &h->stats;
}

static void setup(harness *h, const layer_case *c, const setting *s)
{
    at_error err = {0};
    *h = (harness){.rng = at_rng_stream(1, c->layer, 0)};
    h->net = net_of(c, s, &err);
    check(h->net ? 0 : err.code, &err, c);
    at_plan_options options = {.batch = s->batch, .training = true, .threads = 2, .seed = 9};
    h->plan = at_plan_new(h->net, &options, &err);
    check(h->plan ? 0 : err.code, &err, c);
    h->op = &h->plan->ops[nn_net_row(h->net, "x") - h->net->rows];
    bool kept = h->plan->grouped && h->op->row->layer == &at_layer_conv;
    assert_int_equal(h->op->activation != NN_IDENTITY, c->then && !kept);
    take_out(h, s->lanes, c);
}

static void teardown(harness *h)
{
    for (int k = 0; k < h->inputs; k++) {
        at_free_aligned(h->x[k]);
        at_free_aligned(h->dx[k]);
    }
    at_free_aligned(h->y);
    at_free_aligned(h->dy);
    at_plan_free(h->plan);
    at_net_free(h->net);
}

/* ---- values ---- */

static bool is_padding(const harness *h, const plan_tensor *t, int64_t at)
{
    nn_view v = plan_view(h->plan, t);
    int64_t plane = at / (v.pixels * v.lanes), lane = at % v.lanes;
    if (v.grouped)
        return plane / v.blocks * v.lanes + lane >= v.samples;
    return plane % v.blocks * v.lanes + lane >= v.channels;
}

/* Distinct numbers 0.01 apart in random order, none nearer than 0.005 to 0: no step of 0.004
 * crosses the kink of a relu or changes which element of a window is the largest. Where something
 * normalises them before a relu, they are nearer to 1 or -1 than to 0. */
static float distinct(uint32_t order, int64_t n, bool two_heaps)
{
    float place = 0.01f * ((float)order - (float)n / 2 + 0.5f);
    return two_heaps ? 0.03f * place + (order % 2 ? 1.0f : -1.0f) : place;
}

static void fill_distinct(harness *h, int k)
{
    int64_t n = h->in_size[k];
    uint32_t *order = malloc((size_t)n * sizeof *order);
    assert_non_null(order);
    for (int64_t i = 0; i < n; i++)
        order[i] = (uint32_t)i;
    at_rng_shuffle(&h->rng, order, (size_t)n);
    for (int64_t i = 0; i < n; i++)
        h->x[k][i] = is_padding(h, h->op->in[k], i)
                         ? 0
                         : distinct(order[i], n, h->op->activation == NN_RELU);
    free(order);
}

static double loss(harness *h)
{
    at_error err = {0};
    h->stats = (at_plan_stats){0};
    assert_int_equal(h->op->forward(h->op, &err), 0);
    if (h->op->out->no_value) /* softmax_loss */
        return h->stats.loss_sum * (double)h->input.scale;
    double sum = 0;
    for (int64_t i = 0; i < h->out_size; i++)
        sum += (double)h->y[i] * (double)h->dy[i];
    return sum;
}

/* Wider where there is no kink to cross (see distinct()), as there rounding is what remains. */
static float step_of(const harness *h)
{
    nn_activation act = h->op->activation;
    bool bn = h->op->row->layer == &at_layer_bn;
    return bn && act != NN_RELU ? 0.02f : 0.004f;
}

static double numerical(harness *h, float *value)
{
    const float step = step_of(h), before = *value;
    *value = before + step;
    double up = loss(h), above = (double)*value;
    *value = before - step;
    double down = loss(h), below = (double)*value;
    *value = before;
    h->tried++;
    return (up - down) / (above - below);
}

static void compare(harness *h, const layer_case *c, const char *what, float *values,
                    const float *gradients, int64_t n, const plan_tensor *tensor)
{
    double *expected = calloc((size_t)n, sizeof *expected), largest = 0;
    assert_non_null(expected);
    for (int64_t i = 0; i < n; i++) {
        if (tensor && is_padding(h, tensor, i)) {
            assert_true(gradients[i] == 0);
            continue;
        }
        expected[i] = numerical(h, &values[i]);
        largest = fmax(largest, fabs(expected[i]));
    }
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(expected[i] - (double)gradients[i]) <= tolerance * largest))
            fail_msg("%s %s: gradient of %s[%lld] is %g, numerically %g (largest %g)", c->layer,
                     c->attrs, what, (long long)i, (double)gradients[i], expected[i], largest);
    assert_true(largest > 0);
    free(expected);
}

static float *copy(const float *from, size_t n)
{
    float *to = malloc(n * sizeof *to);
    assert_non_null(to);
    memcpy(to, from, n * sizeof *to);
    return to;
}

/* ---- the checks ---- */

/* Channels beyond the last are zero; samples that fill up a group may be anything, but have no
 * gradient. */
static void check_padding(harness *h)
{
    bool grouped = plan_view(h->plan, h->op->out).grouped;
    for (int64_t i = 0; i < h->out_size && !h->op->out->no_value && !grouped; i++)
        if (is_padding(h, h->op->out, i))
            assert_true(h->y[i] == 0);
}

/* Backward once more with dx over dy. */
static void check_in_place(harness *h, const float *dx)
{
    at_error err = {0};
    if (!h->op->grad_in_place || h->in_size[0] != h->out_size ||
        !strcmp(h->op->row->layer->name, "flatten"))
        return;
    h->op->in_grad[0] = h->dy;
    assert_int_equal(h->op->backward(h->op, &err), 0);
    assert_memory_equal(h->dy, dx, (size_t)h->in_size[0] * sizeof *dx);
}

static void check_parameters(harness *h, const layer_case *c, const float *grads)
{
    for (int k = 0; k < h->op->row->param_count; k++) {
        const at_param *p = &h->op->row->params[k].info;
        compare(h, c, p->name, h->net->params + p->offset, grads + p->offset, (int64_t)p->count,
                NULL);
    }
}

static size_t check_layer(const layer_case *c, const setting *s)
{
    harness h;
    at_error err = {0};
    float *dx[MOST_INPUTS];
    setup(&h, c, s);
    assert_non_null(h.op->backward);
    for (int k = 0; k < h.inputs; k++)
        fill_distinct(&h, k);
    for (int64_t i = 0; i < h.out_size; i++)
        h.dy[i] = is_padding(&h, h.op->out, i) ? 0 : (float)at_rng_normal(&h.rng);
    for (size_t i = 0; i < h.net->param_count; i++)
        h.net->grads[i] = NAN;
    loss(&h);
    check_padding(&h);
    float *dy = copy(h.dy, (size_t)h.out_size); /* backward may write over it */
    check(h.op->backward(h.op, &err), &err, c);
    memcpy(h.dy, dy, (size_t)h.out_size * sizeof *dy);
    free(dy);
    float *grads = copy(h.net->grads, h.net->param_count);
    for (int k = 0; k < h.inputs; k++)
        dx[k] = copy(h.dx[k], (size_t)h.in_size[k]);
    for (int k = 0; k < h.inputs; k++)
        compare(&h, c, "an input", h.x[k], dx[k], h.in_size[k], h.op->in[k]);
    check_parameters(&h, c, grads);
    loss(&h);
    check_in_place(&h, dx[0]);
    for (int k = 0; k < h.inputs; k++)
        free(dx[k]);
    free(grads);
    teardown(&h);
    return h.tried;
}

/* Layers that choose their own layouts, or work on vectors, are run as compiled. */
static bool takes_any_layout(const char *layer)
{
    return strcmp(layer, "conv") && strcmp(layer, "dense") && strcmp(layer, "softmax_loss");
}

static size_t check_layouts(const layer_case *c, bool large_input)
{
    const int64_t layouts[] = {16, 8, 5, 1};
    bool normalises = !strcmp(c->layer, "bn"), any = takes_any_layout(c->layer);
    size_t tried = check_layer(c, &(setting){0, 4, large_input});
    for (size_t i = 0; i < 4 && any; i++)
        tried += check_layer(c, &(setting){layouts[i], 4, large_input});
    /* Lanes that are samples: 12 of them do not fill the last group, which only bn minds. */
    tried += check_layer(
        c, &(setting){any ? PLAN_GROUPED : 0, normalises ? MOST_BATCH : 12, large_input});
    print_message("%s %s%s%s: %zu values tried\n", c->layer, c->attrs, c->then ? ", then " : "",
                  c->then ? c->then : "", tried);
    return tried;
}

static void test_every_row(void **state)
{
    (void)state;
    size_t tried = 0;
    for (size_t i = 0; i < nn_layer_count(); i++) {
        const at_layer *layer = nn_layer_at(i);
        assert_non_null(layer->probes[0]);
        if (layer->pixels)
            print_message("%s: pixels have no gradient\n", layer->name);
        for (int k = 0; k < NN_PROBES && layer->probes[k] && !layer->pixels; k++)
            tried += check_layouts(&(layer_case){layer->name, layer->probes[k], NULL}, false);
    }
    print_message("%zu values tried\n", tried);
}

static void test_fused(void **state)
{
    (void)state;
    size_t tried = 0;
    for (size_t i = 0; i < sizeof fused / sizeof *fused; i++)
        tried += check_layouts(&fused[i], false);
    print_message("%zu values tried\n", tried);
}

/* A place in such a window takes two bytes. */
static void test_large_windows(void **state)
{
    (void)state;
    size_t tried = 0;
    for (size_t i = 0; i < sizeof large / sizeof *large; i++)
        tried += check_layouts(&large[i], true);
    print_message("%zu values tried\n", tried);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_row),
        cmocka_unit_test(test_fused),
        cmocka_unit_test(test_large_windows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
