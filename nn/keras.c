/* SPDX-License-Identifier: Apache-2.0
 * Weights between our layouts and Keras's.
 */
#include <math.h>
#include <string.h>

#include "keras.h"

/* Row i of a flattened (c,h,w) map is which row of the same map flattened (h,w,c). */
static size_t unflatten(nn_shape map, size_t i)
{
    size_t c = (size_t)map.c, h = (size_t)map.h, w = (size_t)map.w;
    return (i / w % h * w + i % w) * c + i / (w * h);
}

size_t keras_index(const keras_weight *w, size_t i)
{
    if (w->ndims == 1)
        return unflatten(w->map, i);
    if (w->ndims == 2) { /* [O,I] to [I,O] */
        size_t in = (size_t)w->dims[0], out = (size_t)w->dims[1];
        return unflatten(w->map, i % in) * out + i / in;
    }
    size_t kh = (size_t)w->dims[0], kw = (size_t)w->dims[1]; /* [O,I,KH,KW] to [KH,KW,I,O] */
    size_t in = w->inputs, out = (size_t)w->dims[2] * (size_t)w->dims[3] / in;
    size_t pixel = i % (kh * kw), channel = i / (kh * kw) % in;
    return (pixel * in + channel) * out + i / (kh * kw * in);
}

/* Ours are [outputs][inner], Keras's have the outputs last; a block of outputs at a time stays in the cache. */
enum { OUTPUTS_BLOCK = 64 };

typedef void move(float *own, float *keras);

static void from_keras(float *own, float *keras)
{
    *own = *keras;
}

static void to_keras(float *own, float *keras)
{
    *keras = *own;
}

static inline void move_all(const keras_weight *w, float *own, float *keras, move *one)
{
    const int64_t *last = &w->dims[w->ndims - 1];
    size_t outputs = w->ndims == 1 ? 1 : w->ndims == 2 ? (size_t)*last : (size_t)(last[-1] * *last) / w->inputs;
    size_t inner = outputs ? w->count / outputs : 0;
    for (size_t begin = 0, end; begin < outputs; begin = end) {
        end = begin + OUTPUTS_BLOCK < outputs ? begin + OUTPUTS_BLOCK : outputs;
        for (size_t j = 0; j < inner; j++) {
            float *there = keras + keras_index(w, j);
            for (size_t o = begin; o < end; o++)
                one(&own[o * inner + j], &there[o]);
        }
    }
}

void keras_take(const keras_weight *w, const float *values)
{
    move_all(w, w->data, (float *)values, from_keras);
}

void keras_give(const keras_weight *w, float *values)
{
    move_all(w, w->data, values, to_keras);
}

/* The map that reached this row flattened, through rows that keep each value's place. */
static nn_shape flattened_map(const at_net *net, const nn_row *row)
{
    nn_shape in = row->in[0];
    while (in.vector) {
        row = &net->rows[row->inputs[0]];
        if (row->layer == &at_layer_flatten && !row->in[0].vector)
            return row->in[0];
        if (row->layer == &at_layer_dense || row->layer == &at_layer_concat)
            break; /* a sum's inputs are alike; all others keep the order */
    }
    return (nn_shape){.c = in.c, .h = 1, .w = 1, .vector = true};
}

bool keras_is_plain(const at_net *net, const nn_row *row, int k)
{
    nn_row only = *row;
    only.inputs[0] = row->inputs[k];
    only.in[0] = row->in[k];
    nn_shape map = flattened_map(net, &only);
    return map.h * map.w == 1;
}

bool keras_is_depthwise(const nn_row *row)
{
    if (row->layer != &at_layer_conv)
        return false;
    const nn_conv_attrs *a = row->attrs;
    return a->groups > 1 && a->groups == row->in[0].c && a->window.sh == a->window.sw;
}

void keras_mark_used(const at_net *net, bool *used)
{
    used[net->row_count - 1] = true;
    for (size_t i = net->row_count; i-- > 0;)
        for (int k = 0; used[i] && k < net->rows[i].input_count; k++)
            used[net->rows[i].inputs[k]] = true;
}

at_graph *keras_used_rows(const at_net *net, const bool *used)
{
    at_graph *g = at_graph_new();
    for (size_t i = 0; i < net->row_count; i++) {
        at_row r = net->rows[i].row;
        if (used[i])
            at_graph_add(g, r.name, r.layer, r.inputs, "%s", r.attrs);
    }
    return g;
}

static keras_weight of_param(const at_net *net, const nn_row *row, const at_param *p)
{
    keras_weight w = {.layer = p->layer,
                      .name = p->name,
                      .data = net->params ? net->params + p->offset : NULL,
                      .count = p->count,
                      .ndims = p->ndims,
                      .dims = {p->dims[0]},
                      .inputs = (size_t)p->dims[1],
                      .map = {.c = p->dims[0], .h = 1, .w = 1}};
    if (p->ndims == 2) {
        memcpy(w.dims, (int64_t[]){p->dims[1], p->dims[0]}, 2 * sizeof *w.dims);
        w.map = flattened_map(net, row);
    } else if (p->ndims == 4) {
        memcpy(w.dims, (int64_t[]){p->dims[2], p->dims[3], p->dims[1], p->dims[0]}, sizeof w.dims);
        if (keras_is_depthwise(row)) /* [KH,KW,I,O/I], the same order */
            memcpy(w.dims + 2, (int64_t[]){row->in[0].c, p->dims[0] / row->in[0].c},
                   2 * sizeof *w.dims);
    } else if (row->layer == &at_layer_bn) {
        w.map = flattened_map(net, row);
    }
    return w;
}

int keras_row_weights(const at_net *net, const nn_row *row, keras_weight out[KERAS_WEIGHTS])
{
    int n = 0;
    for (int i = 0; i < row->param_count; i++)
        out[n++] = of_param(net, row, &row->params[i].info);
    for (int i = 0; i < row->state_count; i++) {
        const nn_state *s = &row->states[i];
        out[n++] = (keras_weight){.layer = s->layer,
                                  .name = s->name,
                                  .data = net->state ? net->state + s->offset : NULL,
                                  .count = s->count,
                                  .ndims = 1,
                                  .dims = {(int64_t)s->count},
                                  .map = flattened_map(net, row)};
    }
    return n;
}

bool keras_find_bad_value(const keras_weight *w, size_t *at)
{
    bool variance = strcmp(w->name, "moving_variance") == 0;
    for (size_t i = 0; i < w->count; i++) {
        if (isfinite(w->data[i]) && !(variance && w->data[i] < 0))
            continue;
        *at = i;
        return true;
    }
    return false;
}

void keras_checksum(const at_net *net, char out[9])
{
    uint32_t crc = at_crc32c(0, net->params, net->param_count * sizeof *net->params);
    crc = at_crc32c(crc, net->state, net->state_count * sizeof *net->state);
    snprintf(out, 9, "%08x", crc);
}
