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
