/* SPDX-License-Identifier: Apache-2.0
 * rows: see rows.h.
 */
#include "rows.h"

static void add(nn_rows *r, const char *name, const char *layer, const char *inputs,
                const char *attrs)
{
    row_name full;
    snprintf(full.text, sizeof full.text, "%s%s", r->prefix, name);
    at_graph_add(r->graph, full.text, layer, inputs, "%s", attrs);
    r->last = full;
}

void rows_add(nn_rows *r, const char *name, const char *layer, const char *attrs, ...)
{
    char text[200];
    va_list list;
    va_start(list, attrs);
    vsnprintf(text, sizeof text, attrs, list);
    va_end(list);
    add(r, name, layer, r->last.text, text);
}

void rows_plain(nn_rows *r, const char *name, const char *layer)
{
    add(r, name, layer, r->last.text, "");
}

void rows_join(nn_rows *r, const char *name, const char *layer, const char *inputs)
{
    add(r, name, layer, inputs, "");
}

int rows_smaller_side(const nn_rows *r)
{
    return r->spec->height < r->spec->width ? r->spec->height : r->spec->width;
}

void rows_conv_relu(nn_rows *r, int i, int out, int k, int stride, int pad)
{
    char name[16];
    snprintf(name, sizeof name, "conv%d", i);
    rows_add(r, name, "conv", "out=%d k=%d stride=%d pad=%d bias=1", out, k, stride, pad);
    snprintf(name, sizeof name, "relu%d", i);
    rows_plain(r, name, "relu");
}

void rows_shrink(nn_rows *r, int height, int width, int most)
{
    if (height > most || width > most)
        rows_add(r, "avg_pool", "pool", "kind=avg out=%dx%d", height < most ? height : most,
                 width < most ? width : most);
}

void rows_hidden(nn_rows *r)
{
    for (int i = 1; i <= 2; i++) {
        snprintf(r->prefix, sizeof r->prefix, "fc%d", i);
        rows_add(r, "", "dense", "out=4096 bias=1");
        rows_plain(r, "_relu", "relu");
        rows_add(r, "_drop", "dropout", "p=0.5");
    }
    r->prefix[0] = '\0';
}

int rows_behind(int pixels, int k, int stride)
{
    return (pixels - k) / stride + 1;
}
