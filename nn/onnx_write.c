/* SPDX-License-Identifier: Apache-2.0
 * at_model_export_onnx: a network as an ONNX model (opset 17), through protobuf-c and the messages
 * that Debian's libonnx-dev declares.
 *
 *     in    "pixels"   float [N,H,W,C], raw 0..255: rescaling and normalising are in the graph
 *     out   "scores"   float [N,classes], softmax
 *
 * Rows that only training uses (a second classifier's) are left out. The class names are in
 * metadata_props as JSON, "classes". Nothing carries a time, so equal models give equal files.
 */
#include "onnx.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static const char input_name[] = "pixels", output_name[] = "scores";

/* ---- rows ------------------------------------------------------------------------------------ */
/* What the scores, the last row's, depend on. */
static void mark_needed(const at_net *net, bool *needed)
{
    needed[net->row_count - 1] = true;
    for (size_t i = net->row_count; i-- > 0;) {
        const nn_row *row = &net->rows[i];
        for (int k = 0; needed[i] && k < row->input_count; k++)
            needed[row->inputs[k]] = true;
    }
}

/* A row's tensor has its name, which is neither the input's nor the output's. */
static const char *tensor_name(onnx *x, const at_net *net, size_t i)
{
    return i + 1 == net->row_count ? output_name : onnx_text(x, "%s/out", net->rows[i].row.name);
}

static int add_rows(onnx *x, const at_net *net, at_error *err)
{
    bool *needed = onnx_alloc(x, net->row_count * sizeof *needed);
    int status = needed ? 0 : at_nomem(err);
    if (needed)
        mark_needed(net, needed);
    for (size_t i = 0; i < net->row_count && !status; i++) {
        const nn_row *row = &net->rows[i];
        const char *in[NN_INPUTS] = {input_name};
        for (int k = 0; k < row->input_count; k++)
            in[k] = tensor_name(x, net, (size_t)row->inputs[k]);
        if (needed[i])
            status = onnx_row(x, net, row, in, tensor_name(x, net, i), err);
    }
    return status;
}

/* ---- the model ------------------------------------------------------------------------------- */
static void add_classes(onnx *x, const at_model_info *info)
{
    at_node *list = at_node_new(AT_LIST);
    for (size_t i = 0; i < info->class_count; i++)
        at_node_add(list, at_node_new_string(info->classes[i]));
    char *text = at_node_count(list) == info->class_count ? at_json_print(list, false) : NULL;
    if (text)
        onnx_metadata(x, "classes", text);
    else
        x->failed = true;
    free(text);
    at_node_free(list);
}

static void add_head(onnx *x, const at_net *net, const at_model_info *info)
{
    int c, h, w;
    at_net_input_shape(net, &c, &h, &w);
    int64_t pixels[] = {h, w, c}, classes = at_net_classes(net);
    Onnx__ValueInfoProto **values = onnx_alloc(x, 2 * sizeof *values);
    Onnx__OperatorSetIdProto *opset = onnx_alloc(x, sizeof *opset),
                             **opsets = onnx_alloc(x, sizeof *opsets);
    if (!values || !opset || !opsets)
        return;
    onnx__operator_set_id_proto__init(opset);
    opset->has_version = true;
    opset->version = ONNX_OPSET;
    opsets[0] = opset;
    values[0] = onnx_value(x, input_name, 3, pixels);
    values[1] = onnx_value(x, output_name, 1, &classes);
    x->graph.name = onnx_text(x, "%s", info->model);
    x->graph.n_input = x->graph.n_output = 1;
    x->graph.input = values;
    x->graph.output = values + 1;
    x->model.has_ir_version = true;
    x->model.ir_version = ONNX_IR_VERSION;
    x->model.n_opset_import = 1;
    x->model.opset_import = opsets;
    x->model.producer_name = onnx_text(x, "atoll");
    x->model.producer_version = onnx_text(x, "%s", ATOLL_VERSION);
    x->model.graph = &x->graph;
    onnx_metadata(x, "atoll_model", info->model);
    if (info->fit)
        onnx_metadata(x, "fit", info->fit);
    add_classes(x, info);
}

/* ---- the file -------------------------------------------------------------------------------- */
typedef struct stream {
    ProtobufCBuffer base;
    FILE *file;
    bool failed;
} stream;

static void append(ProtobufCBuffer *buffer, size_t bytes, const uint8_t *data)
{
    stream *s = (stream *)buffer;
    if (!s->failed && fwrite(data, 1, bytes, s->file) != bytes)
        s->failed = true;
}

static int write_model(const onnx *x, const char *path, at_error *err)
{
    size_t bytes = protobuf_c_message_get_packed_size(&x->model.base);
    if (bytes > INT32_MAX)
        return at_fail(err, AT_EINPUT,
                       "the model takes %.1f GiB, but a file of ONNX's takes at most 2 GiB; "
                       "keras-h5 has no such limit",
                       (double)bytes / (double)(1 << 30));
    at_atomic *file = at_atomic_open(path, err);
    if (!file)
        return err->code;
    stream s = {.base.append = append, .file = at_atomic_stream(file)};
    protobuf_c_message_pack_to_buffer(&x->model.base, &s.base);
    if (!s.failed)
        return at_atomic_commit(file, err);
    int write_error = errno;
    at_atomic_abort(file);
    return at_fail_errno(err, write_error, "cannot write");
}

int at_model_export_onnx(at_net *net, const at_model_info *info, const char *path, at_error *err)
{
    at_error mine = {0};
    onnx x;
    int status = 0;
    if (!info->model || (int)info->class_count != at_net_classes(net))
        return at_fail(err, AT_EUSAGE, "exporting %s: %zu class names for %d scores", path,
                       info->class_count, at_net_classes(net));
    onnx_init(&x);
    add_head(&x, net, info);
    status = add_rows(&x, net, &mine);
    if (!status && x.failed)
        status = at_nomem(&mine);
    if (!status)
        status = write_model(&x, path, &mine);
    onnx_fini(&x);
    return status ? at_fail(err, status, "exporting %s: %s", path, mine.message) : 0;
}
