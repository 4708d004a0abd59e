/* SPDX-License-Identifier: Apache-2.0
 * Inference: convolutions do batch normalisation, a sum and the activation behind them. The same
 * network with a row "dropout" behind every row, which keeps each to itself, must give the same
 * logits: in fp32 and bf16, however the sum's other tensor lies and whoever else reads it, from
 * weights that change between two passes and from constant ones.
 */
#include "../../nn/plan.h"
#include "scratch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 16, SIDE = 8, CLASSES = 5, PIXELS = MOST * SIDE * SIDE * 3 };

/* What is behind "x", of 16 channels unless said, and what of it convolutions take over. */
static const struct {
    const char *rows, *last;
    int norms, sums, activations, in_place;
} cases[] = {
    {"a conv x out=16 k=3 pad=1;b bn a ;c relu b ", "c", 1, 0, 1, 0},
    {"a conv x out=24 k=3 pad=1 bias=0;b bn a ;c gelu b ", "c", 1, 0, 1, 0},
    {"a conv x out=7 k=3;b sigmoid a ", "b", 0, 0, 1, 0},
    {"a conv x out=16 k=3;b tanh a ;c bn b ", "c", 0, 0, 1, 0},
    {"a conv x out=16 k=1;b silu a ;c conv b out=16 k=3 pad=1 groups=4;d bn c ", "d", 1, 0, 1, 0},
    /* residual blocks: the input again, or a normalised convolution of it */
    {"a conv x out=16 k=3 pad=1;b bn a ;c relu b ;d conv c out=16 k=3 pad=1;e bn d ;f add x,e ;"
     "g relu f ",
     "g", 2, 1, 2, 1},
    {"s conv x out=24 k=1 stride=2;t bn s ;a conv x out=24 k=3 pad=1 stride=2;b bn a ;c add t,b ;"
     "d relu c ",
     "d", 2, 1, 1, 1},
    {"a conv x out=16 k=3 pad=1;b relu a ;c conv b out=16 k=1;d add c,x ", "d", 0, 1, 1, 1},
    /* the sum's other tensor is the convolution's own input, or is read again behind it */
    {"a conv x out=16 k=3 pad=1;b add a,x ", "b", 0, 1, 0, 0},
    {"p pool x kind=avg k=1;a conv p out=16 k=3 pad=1;b bn a ;c add x,b ;d relu c ;e add d,x ", "e",
     1, 1, 1, 0},
    /* nothing to take: two read the convolution, or three are added */
    {"a conv x out=16 k=3 pad=1;b relu a ;c add a,b ", "c", 0, 0, 0, 0},
    {"a conv x out=16 k=3 pad=1;b conv x out=16 k=1;c add a,b,x ", "c", 0, 0, 0, 0},
};
enum { CASES = sizeof cases / sizeof *cases };

typedef struct side {
    at_net *net;
    at_plan *plan;
} side;

static void check(int status, const at_error *err)
{
    if (status)
        fail_msg("%s", err->message);
}

/* "NAME LAYER INPUT,INPUT ATTRS"; an input's name ends in _ where rows keep to themselves. */
static void add_row(at_graph *g, const char *row, size_t length, bool keep)
{
    char name[20], layer[20], inputs[60], from[100] = "", text[200], *next = NULL;
    snprintf(text, sizeof text, "%.*s", (int)length, row);
    int at = 0;
    assert_true(sscanf(text, "%19s %19s %59s%n", name, layer, inputs, &at) == 3);
    for (char *in = strtok_r(inputs, ",", &next); in; in = strtok_r(NULL, ",", &next))
        snprintf(from + strlen(from), sizeof from - strlen(from), "%s%s ", in, keep ? "_" : "");
    from[strlen(from) - 1] = '\0';
    at_graph_add(g, name, layer, from, "%s", text + at + (text[at] == ' '));
    char kept[24];
    snprintf(kept, sizeof kept, "%s_", name);
    if (keep)
        at_graph_add(g, kept, "dropout", name, "p=0.5"); /* of inference: nothing */
}

static at_net *net_of(int i, bool keep)
{
    at_error err = {0};
    char last[24];
    at_graph *g = at_graph_new();
    at_graph_add(g, "data", "input", "", "channels=3 height=%d width=%d", SIDE, SIDE);
    at_graph_add(g, "unit", "rescale", "data", "scale=0.004 offset=-0.5");
    at_graph_add(g, "stem", "conv", "unit", "out=16 k=3 pad=2 dilation=2"); /* not grouped, then */
    at_graph_add(g, "x", "pool", "stem", "kind=avg k=1");
    if (keep)
        at_graph_add(g, "x_", "dropout", "x", "p=0.5");
    for (const char *row = cases[i].rows; row; row = strchr(row, ';')) {
        row += *row == ';';
        add_row(g, row, strcspn(row, ";"), keep);
    }
    snprintf(last, sizeof last, "%s%s", cases[i].last, keep ? "_" : "");
    at_graph_add(g, "flat", "flatten", last, "%s", "");
    at_graph_add(g, "logits", "dense", "flat", "out=%d", CLASSES);
    at_graph_add(g, "loss", "softmax_loss", "logits", "%s", "");
    at_net *net = at_net_new(g, 7, &err);
    at_graph_free(g);
    if (!net)
        fail_msg("%s: %s", cases[i].rows, err.message);
    return net;
}

/* Every parameter and statistic by its row's name, so that both sides have the same. */
static void fill(at_net *net, uint64_t seed)
{
    for (size_t r = 0; r < net->row_count; r++) {
        const nn_row *row = &net->rows[r];
        at_rng rng = at_rng_stream(seed, row->row.name, 0);
        for (int k = 0; k < row->param_count; k++)
            for (size_t i = 0; i < row->params[k].info.count; i++)
                net->params[row->params[k].info.offset + i] = 0.3f * (float)at_rng_normal(&rng);
        for (int k = 0; k < row->state_count; k++)
            for (size_t i = 0; i < row->states[k].count; i++)
                net->state[row->states[k].offset + i] = 0.5f + 0.4f * (float)at_rng_uniform(&rng);
    }
}

static side make(int i, bool keep, at_plan_options options)
{
    at_error err = {0};
    side s = {.net = net_of(i, keep)};
    fill(s.net, 1);
    s.plan = plan_new_unchecked(s.net, &options, &err);
    check(s.plan ? 0 : err.code, &err);
    return s;
}

static void drop(side *s)
{
    at_plan_free(s->plan);
    at_net_free(s->net);
}

static const float *infer(side *s, uint64_t seed)
{
    static uint8_t pixels[PIXELS];
    at_error err = {0};
    at_rng rng = at_rng_stream(seed, "pixels", 0);
    for (int i = 0; i < PIXELS; i++)
        pixels[i] = (uint8_t)at_rng_next(&rng);
    check(at_plan_infer(s->plan, &(at_plan_input){.pixels = pixels}, NULL, &err), &err);
    return at_plan_logits(s->plan);
}

/* The largest difference, as a share of the largest logit. */
static double apart(side *a, side *b, uint64_t seed, int batch)
{
    double difference = 0, largest = 0;
    const float *x = infer(a, seed), *y = infer(b, seed);
    for (int i = 0; i < batch * CLASSES; i++) {
        difference = fmax(difference, fabs((double)x[i] - (double)y[i]));
        largest = fmax(largest, fabs((double)y[i]));
    }
    assert_true(largest > 1e-3);
    return difference / largest;
}

/* The sums that are made over the other tensor; the layouts that were timed best decide. */
static int check_taken(const at_plan *p, int i)
{
    int norms = 0, sums = 0, activations = 0, in_place = 0;
    for (int k = 0; k < p->op_count; k++) {
        const plan_op *op = &p->ops[k];
        if (op->row->layer != &at_layer_conv || op->absorbed)
            continue;
        norms += op->norm != NULL;
        sums += op->adds_input;
        activations += op->activation != NN_IDENTITY;
        in_place += op->adds_input && op->in[1]->data == op->out->data;
    }
    if (norms != cases[i].norms || sums != cases[i].sums || activations != cases[i].activations)
        fail_msg("%s: %d norms, %d sums, %d activations", cases[i].rows, norms, sums, activations);
    assert_true(in_place <= cases[i].in_place);
    return in_place;
}

static double check_case(int i, at_plan_options options, double tolerance, int *in_place)
{
    double worst = 0;
    side fused = make(i, false, options), kept = make(i, true, options);
    assert_true(!fused.plan->grouped && !kept.plan->grouped);
    *in_place += check_taken(fused.plan, i);
    for (uint64_t pass = 0; pass < 3; pass++) {
        double d = apart(&fused, &kept, pass, options.batch);
        if (!(d <= tolerance))
            fail_msg("%s: apart by %g in pass %d", cases[i].rows, d, (int)pass);
        worst = fmax(worst, d);
        if (options.constant)
            continue;
        fill(fused.net, pass + 2);
        fill(kept.net, pass + 2);
    }
    drop(&fused);
    drop(&kept);
    return worst;
}

static void check_all(at_precision precision, double tolerance)
{
    int tried = 0, in_place = 0;
    double worst = 0;
    for (int i = 0; i < CASES; i++)
        for (int batch = 1; batch <= MOST; batch += precision == AT_BF16 ? 15 : 5)
            for (int constant = 0; constant < 2; constant++, tried++)
                worst = fmax(worst, check_case(i,
                                               (at_plan_options){.batch = batch,
                                                                 .precision = precision,
                                                                 .constant = constant,
                                                                 .threads = 2},
                                               tolerance, &in_place));
    print_message("%d plans tried, %d sums in place, apart by %g at most\n", tried, in_place,
                  worst);
    assert_true(in_place > 0);
}

static void test_fp32(void **state)
{
    (void)state;
    check_all(AT_FP32, 2e-5);
}

static void test_bf16(void **state)
{
    (void)state;
    if (dnn_isa_allowed() < DNN_AVX512) {
        print_message("no bf16 below AVX-512\n");
        skip();
    }
    check_all(AT_BF16, 0.05);
}

/* Few channels: our own kernels, which take nothing over. */
static void test_grouped(void **state)
{
    (void)state;
    for (int constant = 0; constant < 2; constant++) {
        at_plan_options o = {.batch = MOST, .constant = constant, .threads = 2};
        at_error err = {0};
        at_graph *g = at_graph_parse("data | input | | channels=3 height=8 width=8\n"
                                     "unit | rescale | data | scale=0.004\n"
                                     "a | conv | unit | out=4 k=3\n"
                                     "b | relu | a | \n"
                                     "c | conv | b | out=6 k=3\n"
                                     "d | tanh | c | \n"
                                     "flat | flatten | d | \n"
                                     "logits | dense | flat | out=5\n"
                                     "loss | softmax_loss | logits | \n",
                                     &err);
        side s = {.net = at_net_new(g, 7, &err)};
        at_graph_free(g);
        s.plan = at_plan_new(s.net, &o, &err);
        check(s.plan ? 0 : err.code, &err);
        assert_true(s.plan->grouped);
        for (int k = 0; k < s.plan->op_count; k++)
            assert_true(s.plan->ops[k].row->layer != &at_layer_conv || !s.plan->ops[k].activation);
        float before = infer(&s, 1)[0];
        fill(s.net, 5);
        assert_true(fabsf(infer(&s, 1)[0] - before) > 1e-6f);
        drop(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fp32),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_grouped),
    };
    return cmocka_run_group_tests(tests, scratch_caches, scratch_caches_gone);
}
