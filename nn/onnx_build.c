/* SPDX-License-Identifier: Apache-2.0
 * onnx_build: see onnx.h.
 */
#include "onnx.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEP = 128 };

void onnx_init(onnx *x)
{
    *x = (onnx){0};
    onnx__model_proto__init(&x->model);
    onnx__graph_proto__init(&x->graph);
}

void onnx_fini(onnx *x)
{
    for (size_t i = 0; i < x->block_count; i++)
        free(x->blocks[i]);
    free(x->blocks);
    *x = (onnx){0};
}

/* Takes the block, which may be NULL. */
static void *keep(onnx *x, void *block)
{
    if (block && x->block_count == x->block_capacity) {
        size_t capacity = 2 * x->block_capacity + STEP;
        void **more = realloc(x->blocks, capacity * sizeof *more);
        if (!more) {
            free(block);
            block = NULL;
        } else {
            x->blocks = more;
            x->block_capacity = capacity;
        }
    }
    if (block)
        x->blocks[x->block_count++] = block;
    else
        x->failed = true;
    return block;
}

void *onnx_alloc(onnx *x, size_t bytes)
{
    return keep(x, calloc(1, bytes ? bytes : 1));
}

char *onnx_text(onnx *x, const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int length = vasprintf(&text, format, args);
    va_end(args);
    return keep(x, length < 0 ? NULL : text);
}

static char *copy(onnx *x, const char *text)
{
    return onnx_text(x, "%s", text);
}

/* A list one longer, with `item` last; the old one stays among the blocks. */
static void *push(onnx *x, void *list, size_t *n, void *item)
{
    void **items = list;
    if (!item)
        return list;
    if (*n % STEP == 0) {
        items = onnx_alloc(x, (*n + STEP) * sizeof *items);
        if (!items)
            return list;
        if (*n)
            memcpy(items, list, *n * sizeof *items);
    }
    items[(*n)++] = item;
    return items;
}

#define PUSH(x, owner, field, item)                                                                \
    ((owner)->field = push(x, (owner)->field, &(owner)->n_##field, item))

Onnx__NodeProto *onnx_node(onnx *x, const char *op, const char *out, int inputs,
                           const char *const *in)
{
    Onnx__NodeProto *node = onnx_alloc(x, sizeof *node);
    if (!node)
        return NULL;
    onnx__node_proto__init(node);
    node->op_type = copy(x, op);
    node->name = copy(x, out);
    for (int i = 0; i < inputs; i++)
        PUSH(x, node, input, copy(x, in[i]));
    PUSH(x, node, output, node->name);
    PUSH(x, &x->graph, node, node);
    return node;
}

static Onnx__AttributeProto *add_attribute(onnx *x, Onnx__NodeProto *node, const char *name,
                                           Onnx__AttributeProto__AttributeType type)
{
    Onnx__AttributeProto *a = node ? onnx_alloc(x, sizeof *a) : NULL;
    if (!a)
        return NULL;
    onnx__attribute_proto__init(a);
    a->name = copy(x, name);
    a->has_type = true;
    a->type = type;
    PUSH(x, node, attribute, a);
    return a;
}

void onnx_int(onnx *x, Onnx__NodeProto *node, const char *name, int64_t value)
{
    Onnx__AttributeProto *a =
        add_attribute(x, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
    if (!a)
        return;
    a->has_i = true;
    a->i = value;
}

void onnx_ints(onnx *x, Onnx__NodeProto *node, const char *name, size_t n, const int64_t *values)
{
    Onnx__AttributeProto *a =
        add_attribute(x, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
    int64_t *own = a ? onnx_alloc(x, n * sizeof *own) : NULL;
    if (!own)
        return;
    memcpy(own, values, n * sizeof *own);
    a->n_ints = n;
    a->ints = own;
}

void onnx_float(onnx *x, Onnx__NodeProto *node, const char *name, double value)
{
    Onnx__AttributeProto *a =
        add_attribute(x, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);
    if (!a)
        return;
    a->has_f = true;
    a->f = (float)value;
}

/* Borrows the data. */
static const char *add_tensor(onnx *x, const char *name, int32_t type, size_t ndims,
                              const int64_t *dims, const void *data, size_t bytes)
{
    Onnx__TensorProto *t = onnx_alloc(x, sizeof *t);
    int64_t *own = onnx_alloc(x, ndims * sizeof *own);
    if (!t || !own)
        return NULL;
    onnx__tensor_proto__init(t);
    if (ndims)
        memcpy(own, dims, ndims * sizeof *own);
    t->n_dims = ndims;
    t->dims = own;
    t->has_data_type = true;
    t->data_type = type;
    t->name = copy(x, name);
    t->has_raw_data = true;
    t->raw_data = (ProtobufCBinaryData){bytes, (uint8_t *)(uintptr_t)data};
    PUSH(x, &x->graph, initializer, t);
    return t->name;
}

const char *onnx_floats(onnx *x, const char *name, size_t ndims, const int64_t *dims,
                        const float *data)
{
    size_t count = 1;
    for (size_t i = 0; i < ndims; i++)
        count *= (size_t)dims[i];
    return data ? add_tensor(x, name, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, ndims, dims, data,
                             count * sizeof *data)
                : NULL;
}

const char *onnx_int64s(onnx *x, const char *name, size_t n, const int64_t *values)
{
    int64_t *own = onnx_alloc(x, n * sizeof *own), dims = (int64_t)n;
    if (!own)
        return NULL;
    memcpy(own, values, n * sizeof *own);
    return add_tensor(x, name, ONNX__TENSOR_PROTO__DATA_TYPE__INT64, 1, &dims, own,
                      n * sizeof *own);
}

const char *onnx_number(onnx *x, const char *name, double value)
{
    float *own = onnx_alloc(x, sizeof *own);
    if (own)
        *own = (float)value;
    return onnx_floats(x, name, 0, NULL, own);
}

static void add_dimension(onnx *x, Onnx__TensorShapeProto *shape, int64_t size)
{
    Onnx__TensorShapeProto__Dimension *d = onnx_alloc(x, sizeof *d);
    if (!d)
        return;
    onnx__tensor_shape_proto__dimension__init(d);
    if (size > 0) {
        d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
        d->dim_value = size;
    } else {
        d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
        d->dim_param = copy(x, "N");
    }
    PUSH(x, shape, dim, d);
}

Onnx__ValueInfoProto *onnx_value(onnx *x, const char *name, size_t ndims, const int64_t *dims)
{
    Onnx__ValueInfoProto *value = onnx_alloc(x, sizeof *value);
    Onnx__TypeProto *type = onnx_alloc(x, sizeof *type);
    Onnx__TypeProto__Tensor *tensor = onnx_alloc(x, sizeof *tensor);
    Onnx__TensorShapeProto *shape = onnx_alloc(x, sizeof *shape);
    if (!value || !type || !tensor || !shape)
        return NULL;
    onnx__value_info_proto__init(value);
    onnx__type_proto__init(type);
    onnx__type_proto__tensor__init(tensor);
    onnx__tensor_shape_proto__init(shape);
    add_dimension(x, shape, 0);
    for (size_t i = 0; i < ndims; i++)
        add_dimension(x, shape, dims[i]);
    tensor->has_elem_type = true;
    tensor->elem_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    tensor->shape = shape;
    type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    type->tensor_type = tensor;
    value->name = copy(x, name);
    value->type = type;
    return value;
}

void onnx_metadata(onnx *x, const char *key, const char *value)
{
    Onnx__StringStringEntryProto *entry = onnx_alloc(x, sizeof *entry);
    if (!entry)
        return;
    onnx__string_string_entry_proto__init(entry);
    entry->key = copy(x, key);
    entry->value = copy(x, value);
    PUSH(x, &x->model, metadata_props, entry);
}
