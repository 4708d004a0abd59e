/* SPDX-License-Identifier: Apache-2.0
 * Values that backward makes again: which ones these are, and that a step comes to the same bits as
 * one in which a row "dropout p=0" in front of each convolution has them kept.
 */
#include "../../nn/plan.h"
#include "scratch.h"
#include "steps.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BATCH = 32, TEXT = 4000 };

/* Behind a and b the values are remade: a relu or nothing, and much to compute. Not behind c: few
 * channels read it; nor d: a sigmoid; nor e: two read it. Convolutions of our own would take sums for
 * the normalisation right in front of them: these have a dilation. */
static const char network[] = "data | input | | channels=3 height=12 width=12\n"
                              "unit | rescale | data | scale=0.00392156862745098\n"
                              "a_in | conv | unit | out=16 k=3 pad=1 bias=0\n"
                              "a | bn | a_in | \n"
                              "a_relu | relu | a | \n"
                              "a_kept | dropout | a_relu | p=0\n"
                              "b_in | conv | a_kept | out=64 k=3 pad=2 dilation=2 bias=0\n"
                              "b | bn | b_in | \n"
                              "b_kept | dropout | b | p=0\n"
                              "c_in | conv | b_kept | out=64 k=3 pad=2 dilation=2 bias=0\n"
                              "c | bn | c_in | \n"
                              "c_kept | dropout | c | p=0\n"
                              "d_in | conv | c_kept | out=16 k=3 pad=2 dilation=2 bias=0\n"
                              "d | bn | d_in | \n"
                              "d_act | sigmoid | d | \n"
                              "d_kept | dropout | d_act | p=0\n"
                              "e_in | conv | d_kept | out=64 k=3 pad=2 dilation=2 bias=0\n"
                              "e | bn | e_in | \n"
                              "e_kept | dropout | e | p=0\n"
                              "f | conv | e_kept | out=64 k=3 pad=2 dilation=2 bias=0\n"
                              "sum | add | f e_kept | \n"
                              "flat | flatten | sum | \n"
                              "logits | dense | flat | out=10\n"
                              "loss | softmax_loss | logits | \n";

/* The network without its rows "dropout": their readers read what these read. */
static void without_dropout(char out[TEXT])
{
    *out = 0;
    for (const char *line = network; *line; line = strchr(line, '\n') + 1) {
        int length = (int)(strchr(line, '\n') + 1 - line);
        if (!memmem(line, (size_t)length, "| dropout |", 11))
            snprintf(out + strlen(out), TEXT - strlen(out), "%.*s", length, line);
    }
    static const char *const names[][2] = {{"a_kept", "a_relu"},
                                           {"b_kept", "b"},
                                           {"c_kept", "c"},
                                           {"d_kept", "d_act"},
                                           {"e_kept", "e"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (char *at; (at = strstr(out, names[i][0]));) {
            size_t old = strlen(names[i][0]), new = strlen(names[i][1]);
            memmove(at + new, at + old, strlen(at + old) + 1);
            memcpy(at, names[i][1], new);
        }
}

/* Names of the rows whose output is remade. */
static void list_remade(const at_plan *p, char out[100])
{
    *out = 0;
    for (int i = 0; i < p->op_count; i++)
        if (p->tensors[i].remade)
            snprintf(out + strlen(out), 100 - strlen(out), "%s ",
                     p->tensors[i].producer->row->row.name);
}

/* Three steps of plain gradient descent; the last one's gradients, malloc'd. */
static float *train(const char *rows, const char *remade, size_t *count, double *loss)
{
    steps *f = steps_new(rows);
    at_plan *p = steps_plan(f, BATCH, true, 2);
    char names[100];
    list_remade(p, names);
    assert_string_equal(names, remade);
    *count = at_net_param_count(f->net);
    for (int step = 0; step < 3; step++) {
        at_plan_input in = steps_input(f, 0);
        *loss = steps_train(p, &in).loss_sum;
        for (size_t i = 0; i < *count; i++)
            at_net_params(f->net)[i] -= 0.01f * at_net_grads(f->net)[i];
    }
    float *gradients = steps_copy(at_net_grads(f->net), *count);
    at_plan_free(p);
    steps_free(f);
    return gradients;
}

static void test_same_bits(void **state)
{
    (void)state;
    char rows[TEXT];
    without_dropout(rows);
    size_t count, same_count;
    double loss, same_loss;
    float *kept = train(network, "", &count, &loss);
    float *remade = train(rows, "a b ", &same_count, &same_loss);
    assert_int_equal(count, same_count);
    assert_true(loss == same_loss && loss > 0);
    assert_memory_equal(kept, remade, count * sizeof *kept);
    free(kept);
    free(remade);
}

/* Of residual blocks, what lies between their two convolutions. */
static void test_resnet18(void **state)
{
    (void)state;
    at_error err = {0};
    at_model_spec spec = {.classes = 10, .channels = 3, .height = 32, .width = 32};
    at_graph *g = at_model_graph("resnet18", &spec, &err);
    at_net *net = g ? at_net_new(g, 1, &err) : NULL;
    at_plan_options options = {.batch = 128, .training = true, .threads = 2};
    at_plan *p = net ? plan_new_sizes(net, &options, &err) : NULL;
    if (!p)
        fail_msg("%s", err.message);
    size_t count = 0, bytes = 0;
    for (int i = 0; i < p->op_count; i++)
        if (p->tensors[i].remade) {
            count++;
            bytes += plan_tensor_bytes(p, &p->tensors[i]);
        }
    print_message("%zu values of %.0f MB are remade\n", count, (double)bytes / 1e6);
    assert_int_equal(count, 8);
    at_plan_free(p);
    at_net_free(net);
    at_graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_resnet18),
    };
    return cmocka_run_group_tests(tests, scratch_caches, scratch_caches_gone);
}
