/* SPDX-License-Identifier: Apache-2.0
 * Pooling as Keras layers. Keras pads on its own terms ("same": as little as will do, split evenly,
 * not counted); where a row's windows are not those, zeros go around the map where they change
 * nothing, a maximum is taken everywhere and thinned out, or an average is put together from bands.
 */
#include <string.h>

#include "keras_export.h"

enum { MOST_BANDS = 64 };

/* One side of a row's windows. */
typedef struct side {
    int64_t size, out, k, stride, before, behind; /* behind: padding, where the windows need it */
    bool same;                                    /* Keras's "same" has the same windows */
} side;

static side side_of(int64_t size, int64_t out, int64_t k, int64_t stride, int64_t pad)
{
    int64_t end = (out - 1) * stride + k - pad; /* of the last window */
    side s = {size, out, k, stride, .before = pad, .behind = end > size ? end - size : 0};
    int64_t needed = (out - 1) * stride + k - size;
    needed = needed > 0 ? needed : 0;
    s.same = out == (size + stride - 1) / stride && pad == needed / 2;
    return s;
}

static const char *pool(exporter *e, at_node *config, const char *class, const char *from,
                        const side *y, const side *x, bool same)
{
    at_node_set(config, "pool_size", export_pair(y->k, x->k));
    at_node_set(config, "strides", export_pair(y->stride, x->stride));
    at_set_string(config, "padding", same ? "same" : "valid");
    at_set_string(config, "data_format", "channels_last");
    return export_layer(e, class, config, from);
}

static const char *crop(exporter *e, at_node *config, const char *from, int64_t top, int64_t bottom,
                        int64_t left, int64_t right)
{
    at_node *cut = at_node_set(config, "cropping", at_node_new(AT_LIST));
    at_node_add(cut, export_pair(top, bottom));
    at_node_add(cut, export_pair(left, right));
    at_set_string(config, "data_format", "channels_last");
    return export_layer(e, "Cropping2D", config, from);
}

/* ---- maxima --------------------------------------------------------------------------------- */
/* Where on this side the first window's middle lies, as "same" with stride 1 has it, and what is
 * left behind the last one. */
static bool find_thinning(const side *s, int64_t *first, int64_t *rest)
{
    *first = (s->k - 1) / 2 - s->before;
    *rest = s->size - 1 - *first - (s->out - 1) * s->stride;
    return *first >= 0 && *rest >= 0;
}

/* The maximum around every pixel, of which every stride-th is kept. */
static const char *thin_maximum(exporter *e, const nn_row *row, const char *from, const side *y,
                                const side *x, at_error *err)
{
    int64_t top, bottom, left, right;
    if (!find_thinning(y, &top, &bottom) || !find_thinning(x, &left, &right)) {
        at_fail(err, AT_EINPUT,
                "row '%s': Keras has no maximum of windows of %lldx%lld that begin "
                "%lldx%lld before the map",
                row->row.name, (long long)y->k, (long long)x->k, (long long)y->before,
                (long long)x->before);
        return NULL;
    }
    side dense[2] = {*y, *x}, thin[2] = {*y, *x};
    dense[0].stride = dense[1].stride = thin[0].k = thin[1].k = 1;
    from = pool(e, export_config_of(row, "all"), "MaxPooling2D", from, &dense[0], &dense[1], true);
    from = crop(e, export_config_of(row, "crop"), from, top, bottom, left, right);
    return pool(e, export_config(row->row.name), "MaxPooling2D", from, &thin[0], &thin[1], false);
}

static const char *export_maximum(exporter *e, const nn_row *row, const char *from, const side *y,
                                  const side *x, at_error *err)
{
    bool padded = y->before || y->behind || x->before || x->behind, same = y->same && x->same;
    bool zeros_do = e->nonnegative[row->inputs[0]];
    if (padded && !same && !zeros_do)
        return thin_maximum(e, row, from, y, x, err);
    if (padded && !same)
        from = export_padding(e, row, from, y->before, y->behind, x->before, x->behind);
    return pool(e, export_config(row->row.name), "MaxPooling2D", from, y, x, padded && same);
}

/* ---- averages ------------------------------------------------------------------------------- */
static void band(const side *s, bool adaptive, int64_t i, int64_t *from, int64_t *to)
{
    *from = adaptive ? i * s->size / s->out : i * s->stride - s->before;
    *to = adaptive ? ((i + 1) * s->size + s->out - 1) / s->out : *from + s->k;
    *from = *from > 0 ? *from : 0;
    *to = *to < s->size ? *to : s->size;
}

/* The average of each band of rows (or columns), put one under another. */
static const char *average_bands(exporter *e, const nn_row *row, const char *from, const side *s,
                                 bool adaptive, bool rows)
{
    const char *parts[MOST_BANDS];
    char suffix[40];
    for (int64_t i = 0; i < s->out; i++) {
        int64_t begin, end;
        band(s, adaptive, i, &begin, &end);
        snprintf(suffix, sizeof suffix, "%s%lld_crop", rows ? "row" : "column", (long long)i);
        const char *cut =
            crop(e, export_config_of(row, suffix), from, rows ? begin : 0, rows ? s->size - end : 0,
                 rows ? 0 : begin, rows ? 0 : s->size - end);
        side all = {.k = end - begin, .stride = 1}, one = {.k = 1, .stride = 1};
        snprintf(suffix, sizeof suffix, "%s%lld", rows ? "row" : "column", (long long)i);
        parts[i] = pool(e, export_config_of(row, suffix), "AveragePooling2D", cut,
                        rows ? &all : &one, rows ? &one : &all, false);
    }
    at_node *config = rows ? export_config_of(row, "rows") : export_config(row->row.name);
    at_set_int(config, "axis", rows ? 1 : 2);
    if (s->out > 1)
        return export_layer_of(e, "Concatenate", config, parts, (size_t)s->out);
    at_node_remove(config, "axis"); /* one alone cannot be put together */
    at_set_string(config, "activation", "linear");
    return export_layer(e, "Activation", config, parts[0]);
}

static const char *export_bands(exporter *e, const nn_row *row, const char *from, const side *y,
                                const side *x, bool adaptive, at_error *err)
{
    if (y->out > MOST_BANDS || x->out > MOST_BANDS) {
        at_fail(err, AT_EINPUT,
                "row '%s': an average of unequal windows is written for up to %d "
                "of them a side, not for %lldx%lld",
                row->row.name, MOST_BANDS, (long long)y->out, (long long)x->out);
        return NULL;
    }
    from = average_bands(e, row, from, y, adaptive, true);
    return average_bands(e, row, from, x, adaptive, false);
}

static const char *export_average(exporter *e, const nn_row *row, const char *from, const side *y,
                                  const side *x, at_error *err)
{
    const nn_pool_attrs *a = row->attrs;
    bool padded = y->before || y->behind || x->before || x->behind;
    if (!padded || (!a->count_pad && y->same && x->same))
        return pool(e, export_config(row->row.name), "AveragePooling2D", from, y, x, padded);
    if (!a->count_pad)
        return export_bands(e, row, from, y, x, false, err);
    if (y->behind > y->before || x->behind > x->before) {
        at_fail(err, AT_EINPUT,
                "row '%s': Keras has no average that counts padding but not what "
                "lies behind it (ceil=1 with count_pad=1)",
                row->row.name);
        return NULL;
    }
    from = export_padding(e, row, from, y->before, y->behind, x->before, x->behind);
    return pool(e, export_config(row->row.name), "AveragePooling2D", from, y, x, false);
}

static const char *export_adaptive(exporter *e, const nn_row *row, const char *from, at_error *err)
{
    nn_shape in = row->in[0], out = row->out;
    side y = {.size = in.h, .out = out.h, .k = in.h / out.h, .stride = in.h / out.h};
    side x = {.size = in.w, .out = out.w, .k = in.w / out.w, .stride = in.w / out.w};
    if (in.h % out.h || in.w % out.w)
        return export_bands(e, row, from, &y, &x, true, err);
    return pool(e, export_config(row->row.name), "AveragePooling2D", from, &y, &x, false);
}

const char *export_pool(exporter *e, const nn_row *row, at_error *err)
{
    const nn_pool_attrs *a = row->attrs;
    const nn_window *w = &a->window;
    const char *from = export_input(e, row, 0);
    nn_shape in = row->in[0], out = row->out;
    bool max = strcmp(a->kind, "max") == 0;
    if (*a->out_text)
        return export_adaptive(e, row, from, err);
    side y = side_of(in.h, out.h, w->kh, w->sh, w->ph),
         x = side_of(in.w, out.w, w->kw, w->sw, w->pw);
    if (w->kh == in.h && w->kw == in.w && !w->ph && !w->pw) {
        at_node *config = export_config(row->row.name);
        at_set_string(config, "data_format", "channels_last");
        at_set_bool(config, "keepdims", true);
        return export_layer(e, max ? "GlobalMaxPooling2D" : "GlobalAveragePooling2D", config, from);
    }
    return max ? export_maximum(e, row, from, &y, &x, err)
               : export_average(e, row, from, &y, &x, err);
}
