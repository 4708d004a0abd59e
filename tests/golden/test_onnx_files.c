/* SPDX-License-Identifier: Apache-2.0
 * ctest: timeout=900 once
 * Every model of the table, and a network of every layer with attributes that the models do not
 * have, as ONNX: what lies in the file. With ATOLL_ARTEFACTS=DIR it leaves NAME.onnx and
 * NAME.scores.h5 (pixels [N,H,W,C], scores [N,K]) there, which test_onnx.py holds against
 * onnxruntime.
 */
#include "../../nn/onnx.h"
#include "artefacts.h"
#include "recipe.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

enum { BATCH = 20, IMAGES = 100, CLASSES = 10, MOST_BYTES = 1 << 30 };

/* Noise on a colour of the image's own: of noise alone, networks that average see the same. */
static uint8_t *make_pixels(const at_net *net, size_t n)
{
    int c, h, w;
    at_net_input_shape(net, &c, &h, &w);
    size_t one = artefacts_pixels(net), channels = (size_t)c;
    uint8_t *pixels = recipe_pixels(n * one);
    for (size_t i = 0; i < n * one; i++) {
        uint32_t colour = recipe_noise("colour", i / one * channels + i % channels) & 255;
        pixels[i] = (uint8_t)((3 * colour + pixels[i]) / 4);
    }
    return pixels;
}

/* Weights with the variance 2/fan_in of Kaiming's, and moving statistics that differ little from 0
 * and 1: in a deep network images stay as far apart as they are after training. */
static void enliven(at_net *net)
{
    for (size_t i = 0; i < at_net_params_listed(net); i++) {
        const at_param *p = at_net_param(net, i);
        for (size_t k = 0; p->ndims > 1 && k < p->count; k++)
            net->params[p->offset + k] *= 2.4494897f; /* sqrt(6) */
    }
    recipe_state(net);
    for (size_t i = 0; i < net->row_count; i++) {
        const nn_state *mean = &net->rows[i].states[0];
        for (size_t k = 0; net->rows[i].state_count && k < mean->count; k++)
            net->state[mean->offset + k] = 0.1f * (net->state[mean->offset + k] - 1);
    }
}

/* Scales the last layer, which has a bias, so that each class's logits are around 0 and about 1
 * apart: scores of all 0 or 1, or equal ones, would show little. */
static void soften(at_net *net, const uint8_t *pixels)
{
    size_t classes = (size_t)at_net_classes(net);
    float *logits = artefacts_infer(net, pixels, BATCH, BATCH);
    double mean[CLASSES] = {0}, square = 0;
    for (size_t i = 0; i < BATCH * classes; i++)
        mean[i % classes] += (double)logits[i] / BATCH;
    for (size_t i = 0; i < BATCH * classes; i++)
        square += pow((double)logits[i] - mean[i % classes], 2);
    double scale = 1 / sqrt(square / (double)(BATCH * classes));
    const nn_row *last = &net->rows[net->rows[net->row_count - 1].inputs[0]];
    const at_param *kernel = &last->params[0].info, *bias = &last->params[1].info;
    for (size_t i = 0; i < kernel->count; i++)
        net->params[kernel->offset + i] *= (float)scale;
    for (size_t i = 0; i < classes; i++)
        net->params[bias->offset + i] =
            (float)(((double)net->params[bias->offset + i] - mean[i]) * scale);
    free(logits);
}

static void score(const char *name, at_net *net)
{
    uint8_t *pixels = make_pixels(net, IMAGES);
    soften(net, pixels);
    float *out = artefacts_infer(net, pixels, IMAGES, BATCH);
    artefacts_write_scores(name, net, pixels, out, IMAGES);
    free(out);
    free(pixels);
}

/* ---- what lies in a file ---- */

static const char *metadata(const Onnx__ModelProto *model, const char *key)
{
    for (size_t i = 0; i < model->n_metadata_props; i++)
        if (!strcmp(model->metadata_props[i]->key, key))
            return model->metadata_props[i]->value;
    return "";
}

static void check_value(const Onnx__ValueInfoProto *value, const char *name, size_t ndims,
                        const int64_t *dims)
{
    const Onnx__TensorShapeProto *shape = value->type->tensor_type->shape;
    assert_string_equal(value->name, name);
    assert_int_equal(shape->n_dim, ndims + 1);
    assert_string_equal(shape->dim[0]->dim_param, "N");
    for (size_t i = 0; i < ndims; i++)
        assert_int_equal(shape->dim[i + 1]->dim_value, dims[i]);
}

/* The model of the file, which has every parameter and every moving statistic of the rows that
 * inference uses; onnx__model_proto__free_unpacked frees it. */
static Onnx__ModelProto *read_back(const char *path, const at_net *net, size_t at_least)
{
    at_error err = {0};
    char *bytes = NULL;
    size_t n = 0, floats = 0;
    must(at_file_read(path, MOST_BYTES, &bytes, &n, &err) == AT_OK, &err);
    Onnx__ModelProto *model = onnx__model_proto__unpack(NULL, n, (const uint8_t *)bytes);
    assert_non_null(model);
    free(bytes);
    assert_int_equal(model->ir_version, ONNX_IR_VERSION);
    assert_int_equal(model->n_opset_import, 1);
    assert_int_equal(model->opset_import[0]->version, 17);
    assert_string_equal(model->producer_name, "atoll");
    assert_string_equal(metadata(model, "classes"), "[\"class 0\",\"class 1\",\"class 2\"]");
    int c, h, w;
    at_net_input_shape(net, &c, &h, &w);
    check_value(model->graph->input[0], "pixels", 3, (const int64_t[]){h, w, c});
    check_value(model->graph->output[0], "scores", 1, (const int64_t[]){at_net_classes(net)});
    for (size_t i = 0; i < model->graph->n_initializer; i++)
        floats += model->graph->initializer[i]->raw_data.len / sizeof(float);
    assert_true(floats >= at_least);
    return model;
}

static const Onnx__NodeProto *node_of(const Onnx__ModelProto *model, const char *op)
{
    for (size_t i = 0; i < model->graph->n_node; i++)
        if (!strcmp(model->graph->node[i]->op_type, op))
            return model->graph->node[i];
    fail_msg("no %s in the graph", op);
    return NULL;
}

static char *export(const char *name, at_net *net, int *status, at_error *err)
{
    char *file = at_format("%s.onnx", name), *path = artefacts_path(file);
    at_model_info info = artefacts_info(name, net);
    *status = at_model_export_onnx(net, &info, path, err);
    artefacts_info_fini(&info);
    free(file);
    return path;
}

/* Exports; with artefacts wanted, scores too. The path; frees g. */
static char *show(const char *name, at_graph *g, at_net **out)
{
    at_error err = {0};
    int status = 0;
    at_net *net = g ? at_net_new(g, 1, &err) : NULL;
    must(net != NULL, &err);
    at_graph_free(g);
    enliven(net);
    if (artefacts_wanted())
        score(name, net);
    char *path = export(name, net, &status, &err);
    must(status == 0, &err);
    assert_true(at_file_exists(path));
    *out = net;
    return path;
}

/* ---- the tests ---- */

static void test_every_model(void **state)
{
    (void)state;
    const float mean[] = {0.49f, 0.48f, 0.45f}, deviation[] = {0.25f, 0.24f, 0.26f};
    const int sizes[] = {32, 64, 96, 128, 224};
    size_t shown = 0;
    for (size_t i = 0; i < at_model_count(); i++) {
        at_error err = {0};
        at_graph *g = NULL;
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes && !g; k++) {
            at_model_spec spec = {.classes = CLASSES,
                                  .channels = 3,
                                  .height = sizes[k],
                                  .width = sizes[k],
                                  .mean = mean,
                                  .deviation = deviation};
            g = at_model_graph(at_model_name(i), &spec, &err);
        }
        at_net *net = NULL;
        char *path = show(at_model_name(i), g, &net);
        at_net_free(net);
        free(path);
        shown++;
    }
    print_message("%zu models\n", shown);
    assert_int_equal(shown, at_model_count());
}

static void test_every_layer(void **state)
{
    (void)state;
    at_graph *g = at_graph_new();
    at_graph_add(g, "data", "input", "", "channels=3 height=31 width=22");
    at_graph_add(g, "rescale", "rescale", "data", "scale=0.0078125 offset=-1");
    at_graph_add(g, "norm", "normalize", "rescale", "mean=0.1,0.2,-0.1 deviation=0.5,0.6,0.7");
    at_graph_add(g, "c1", "conv", "norm", "out=8 k=3x5 stride=2x1 pad=1x2");
    at_graph_add(g, "n1", "bn", "c1", "eps=1e-3 momentum=0.25");
    at_graph_add(g, "r1", "relu", "n1", "%s", "");
    at_graph_add(g, "l1", "lrn", "r1", "size=3 alpha=0.5 beta=0.6 k=2");
    at_graph_add(g, "c2", "conv", "l1", "out=12 k=3 pad=2 dilation=2 groups=4 bias=0");
    at_graph_add(g, "s1", "sigmoid", "c2", "%s", "");
    at_graph_add(g, "l2", "lrn", "s1", "size=4 alpha=0.5 beta=0.6 k=2");
    at_graph_add(g, "t1", "tanh", "l2", "%s", "");
    at_graph_add(g, "u1", "silu", "c2", "%s", "");
    at_graph_add(g, "sum", "add", "t1 u1", "%s", "");
    at_graph_add(g, "cat", "concat", "sum l1 t1", "%s", "");
    at_graph_add(g, "p1", "pool", "cat", "kind=max k=3 stride=2 pad=1 ceil=1");
    at_graph_add(g, "p2", "pool", "p1", "kind=avg k=3x2 stride=2 pad=1 ceil=1");
    at_graph_add(g, "p3", "pool", "p1", "kind=avg k=3x2 stride=2 pad=1 ceil=1 count_pad=0");
    at_graph_add(g, "both", "add", "p2 p3", "%s", "");
    at_graph_add(g, "p4", "pool", "both", "kind=avg out=3x4");
    at_graph_add(g, "p5", "pool", "cat", "kind=max k=global");
    at_graph_add(g, "p6", "pool", "p1", "kind=avg k=2 stride=1 pad=1");
    at_graph_add(g, "p7", "pool", "p6", "kind=avg k=global");
    at_graph_add(g, "aux_flat", "flatten", "p1", "%s", "");
    at_graph_add(g, "aux_logits", "dense", "aux_flat", "out=3");
    at_graph_add(g, "aux_loss", "softmax_loss", "aux_logits", "weight=0.3");
    at_graph_add(g, "f4", "flatten", "p4", "%s", "");
    at_graph_add(g, "f5", "flatten", "p5", "%s", "");
    at_graph_add(g, "f7", "flatten", "p7", "%s", "");
    at_graph_add(g, "d4", "dense", "f4", "out=20 bias=0");
    at_graph_add(g, "d5", "dense", "f5", "out=20");
    at_graph_add(g, "d7", "dense", "f7", "out=20");
    at_graph_add(g, "all", "add", "d4 d5 d7", "%s", "");
    at_graph_add(g, "n2", "bn", "all", "eps=1e-5 momentum=0.1");
    at_graph_add(g, "g2", "gelu", "n2", "%s", "");
    at_graph_add(g, "drop", "dropout", "g2", "p=0.5");
    at_graph_add(g, "logits", "dense", "drop", "out=3");
    at_graph_add(g, "loss", "softmax_loss", "logits", "%s", "");
    at_net *net = NULL;
    char *path = show("layers", g, &net);
    size_t aux = nn_net_row(net, "aux_logits")->params[0].info.count + 3;
    size_t needed = net->param_count - aux + net->state_count;
    Onnx__ModelProto *model = read_back(path, net, needed);
    for (size_t i = 0; i < nn_layer_count(); i++) {
        bool used = false;
        for (size_t k = 0; k < net->row_count; k++)
            used |= net->rows[k].layer == nn_layer_at(i);
        if (!used || !onnx_knows(nn_layer_at(i)))
            fail_msg("layer %s is not in this test, or not in ONNX", nn_layer_at(i)->name);
    }
    for (size_t i = 0; i < model->graph->n_node; i++)
        assert_null(strstr(model->graph->node[i]->name, "aux"));
    assert_int_equal(node_of(model, "LRN")->n_input, 1);
    assert_int_equal(node_of(model, "BatchNormalization")->n_input, 5);
    onnx__model_proto__free_unpacked(model, NULL);
    at_net_free(net);
    free(path);
}

/* 2.1 GiB of weights in memory that nobody touches. */
static void test_too_large(void **state)
{
    (void)state;
    at_error err = {0};
    int status = 0;
    at_graph *g = at_graph_new();
    at_graph_add(g, "data", "input", "", "channels=1 height=16 width=16");
    at_graph_add(g, "flat", "flatten", "data", "%s", "");
    at_graph_add(g, "d1", "dense", "flat", "out=20000 bias=0");
    at_graph_add(g, "d2", "dense", "d1", "out=27000 bias=0");
    at_graph_add(g, "logits", "dense", "d2", "out=3 bias=0");
    at_graph_add(g, "loss", "softmax_loss", "logits", "%s", "");
    at_net *net = nn_net_resolve(g, &err);
    must(net != NULL, &err);
    size_t bytes = net->param_count * sizeof(float);
    net->params = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(net->params != MAP_FAILED);
    char *path = export("large", net, &status, &err);
    assert_int_equal(status, AT_EINPUT);
    assert_non_null(strstr(err.message, "2 GiB"));
    assert_non_null(strstr(err.message, "large.onnx"));
    assert_false(at_file_exists(path));
    munmap(net->params, bytes);
    net->params = NULL;
    at_net_free(net);
    at_graph_free(g);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_layer),
        cmocka_unit_test(test_every_model),
        cmocka_unit_test(test_too_large),
    };
    return cmocka_run_group_tests(tests, artefacts_setup, artefacts_teardown);
}
