/* SPDX-License-Identifier: Apache-2.0
 * Beginning a training with weights from a file: each row takes the weights of the layer of its name
 * where their shapes are its own, and the rest stays as it was; a report says which is which.
 *
 * Keras's layouts become ours on the way (keras.c). Three things are not a matter of layout:
 * - a convolution's bias where our row has none but a batch normalisation follows: the
 *   normalisation subtracts the moving mean, so the bias goes into that with the other sign;
 * - a bias, beta or gamma that our row has and the file's layer has not is 0, 0 or 1 there;
 * - weights that want BGR (preprocessing "caffe"): the first convolution's input channels are
 *   turned round, and everything from there on is RGB.
 */
#include "transfer.h"

#include <stdlib.h>
#include <string.h>

typedef struct transfer {
    at_net *net;
    transfer_file *file;
    const char *path;
    const at_init_options *options;
    bool *taken;   /* by the file's layers: a row has this name */
    bool *loaded;  /* by rows: its weights are the file's */
    at_node *rows; /* of the report: not owned */
    int64_t matched, missing, misshaped;
} transfer;

/* ---- the report ------------------------------------------------------------------------------ */

static void add_shape(at_text *t, int ndims, const int64_t *dims)
{
    for (int i = 0; i < ndims && i < TRANSFER_DIMS; i++)
        at_text_add(t, "%s%lld", i ? "x" : "", (long long)dims[i]);
    if (ndims > TRANSFER_DIMS)
        at_text_add(t, "x...");
    if (ndims == 0)
        at_text_add(t, "scalar");
}

static void report(transfer *t, const char *row, const char *status, const at_text *detail)
{
    at_node *item = at_node_new(AT_MAP);
    at_set_string(item, "name", row);
    at_set_string(item, "status", status);
    at_set_string(item, "detail", detail->data ? detail->data : "");
    at_node_add(t->rows, item);
}

/* ---- one weight ------------------------------------------------------------------------------ */

static bool has_names(const transfer_layer *l)
{
    for (size_t i = 0; i < l->count; i++)
        if (!*l->weights[i].name)
            return false;
    return true;
}

/* Ours by name. Where the file gives no names, by place, which a normalisation without gamma or
 * beta would leave open. */
static const transfer_weight *find_weight(const transfer_layer *l, const keras_weight *own,
                                          size_t place)
{
    bool plain = !strcmp(own->name, "kernel") || !strcmp(own->name, "bias");
    if (!has_names(l))
        return place < l->count && (plain || l->count == KERAS_WEIGHTS) ? &l->weights[place] : NULL;
    for (size_t i = 0; i < l->count; i++)
        if (!strcmp(l->weights[i].name, own->name))
            return &l->weights[i];
    return NULL;
}

/* What a layer without this weight computes as if it were; NULL: there is no such value. */
static const float *implied(const transfer_layer *l, const keras_weight *own)
{
    static const float zero = 0, one = 1;
    if (!strcmp(own->name, "bias") || (has_names(l) && !strcmp(own->name, "beta")))
        return &zero;
    return has_names(l) && !strcmp(own->name, "gamma") ? &one : NULL;
}

static bool fits(const transfer_weight *w, const keras_weight *own)
{
    if (w->ndims != own->ndims)
        return false;
    for (int i = 0; i < w->ndims; i++)
        if (w->dims[i] != own->dims[i])
            return false;
    return true;
}

static int take_weight(transfer *t, const transfer_weight *w, const keras_weight *own,
                       at_error *err)
{
    size_t bad;
    float *values = malloc(own->count * sizeof *values);
    int status = values ? transfer_read(t->file, w, values, own->count, err) : at_nomem(err);
    if (!status)
        keras_take(own, values);
    if (!status && keras_find_bad_value(own, &bad))
        status = at_fail(err, AT_EINPUT,
                         "%s: dataset '%s' has no usable value at %zu (%g): these weights cannot "
                         "be trained from",
                         t->path, w->path, keras_index(own, bad), (double)own->data[bad]);
    free(values);
    return status;
}

/* Takes the file's, or what it implies. */
static int set_weight(transfer *t, const transfer_layer *l, const transfer_weight *w,
                      const keras_weight *own, at_text *detail, at_error *err)
{
    at_text_add(detail, "%s%s ", detail->length ? ", " : "", own->name);
    if (w) {
        add_shape(detail, own->ndims, own->dims);
        t->matched++;
        return take_weight(t, w, own, err);
    }
    float value = *implied(l, own);
    for (size_t i = 0; i < own->count; i++)
        own->data[i] = value;
    at_text_add(detail, "%g", (double)value);
    return 0;
}

/* Says why the row cannot have it; nothing where it can. */
static void judge_weight(const transfer_layer *l, const transfer_weight *w, const keras_weight *own,
                         at_text *why)
{
    if (w ? w->ndims < 0 || fits(w, own) : implied(l, own) != NULL)
        return; /* below 0: reading it will say what is wrong with it */
    at_text_add(why, "%s%s ", why->length ? "; " : "", own->name);
    add_shape(why, own->ndims, own->dims);
    at_text_add(why, ", the file has ");
    if (w)
        add_shape(why, w->ndims, w->dims);
    else
        at_text_add(why, "none");
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* A dense row from which a loss, the main or an auxiliary one, gets its scores, through rows without
 * parameters. */
static bool is_head(const at_net *net, const nn_row *row)
{
    for (size_t i = 0; i < net->row_count && row->layer == &at_layer_dense; i++) {
        const nn_row *from = &net->rows[i];
        if (from->layer != &at_layer_softmax_loss)
            continue;
        while (from->input_count && !from->param_count)
            from = &net->rows[from->inputs[0]];
        if (from == row)
            return true;
    }
    return false;
}

/* The head of another number of classes. */
static int check_head(const transfer *t, const transfer_layer *l, const keras_weight *kernel,
                      at_error *err)
{
    const transfer_weight *w = find_weight(l, kernel, 0);
    if (!w || w->ndims != 2 || w->dims[1] == kernel->dims[1])
        return 0;
    return at_fail(err, AT_EINPUT,
                   "%s: its last dense row \"%s\" is for %lld classes, this data set has %lld: "
                   "--replace-head makes that row anew and takes all the others",
                   t->path, l->name, (long long)w->dims[1], (long long)kernel->dims[1]);
}

/* A row is taken whole or stays whole. */
static int match_layer(transfer *t, const nn_row *row, const transfer_layer *l, at_error *err)
{
    keras_weight own[KERAS_WEIGHTS];
    const transfer_weight *found[KERAS_WEIGHTS];
    int n = keras_row_weights(t->net, row, own);
    at_text why = {0}, detail = {0};
    int status = is_head(t->net, row) ? check_head(t, l, &own[0], err) : 0;
    for (int i = 0; i < n; i++) {
        found[i] = find_weight(l, &own[i], (size_t)i);
        judge_weight(l, found[i], &own[i], &why);
    }
    for (int i = 0; i < n && !status && !why.length; i++)
        status = set_weight(t, l, found[i], &own[i], &detail, err);
    t->loaded[row - t->net->rows] = !why.length;
    t->misshaped += why.length ? n : 0;
    if (!status)
        report(t, row->row.name, why.length ? "misshaped" : "matched", why.length ? &why : &detail);
    at_text_fini(&why);
    at_text_fini(&detail);
    return status;
}

static int match_row(transfer *t, const nn_row *row, at_error *err)
{
    static const at_text none = {0};
    keras_weight own[KERAS_WEIGHTS];
    const transfer_layer *l = transfer_find(t->file, row->row.name);
    if (l)
        t->taken[l - transfer_layer_at(t->file, 0)] = true;
    if (t->options->replace_head && is_head(t->net, row)) {
        report(t, row->row.name, "replaced", &none);
        return 0;
    }
    if (l)
        return match_layer(t, row, l, err);
    t->missing += keras_row_weights(t->net, row, own);
    report(t, row->row.name, "missing", &none);
    return 0;
}

/* ---- what is not a matter of layout ---------------------------------------------------------- */

/* The batch normalisation that alone reads this row. */
static const nn_row *normalisation_behind(const at_net *net, const nn_row *row)
{
    const nn_row *found = NULL;
    for (size_t i = 0; i < net->row_count; i++)
        for (int k = 0; k < net->rows[i].input_count; k++) {
            if (net->rows[i].inputs[k] != (int)(row - net->rows))
                continue;
            if (found || net->rows[i].layer != &at_layer_bn)
                return NULL;
            found = &net->rows[i];
        }
    return found;
}

static int fold_bias(transfer *t, const nn_row *row, at_error *err)
{
    const transfer_layer *l = transfer_find(t->file, row->row.name);
    const nn_row *bn = normalisation_behind(t->net, row);
    keras_weight bias = {.name = "bias",
                         .ndims = 1,
                         .count = (size_t)row->out.c,
                         .dims = {row->out.c},
                         .map = {.c = row->out.c, .h = 1, .w = 1}};
    const transfer_weight *w = find_weight(l, &bias, 1);
    at_text text = {0};
    int status = 0;
    if (!w)
        return 0;
    if (bn && fits(w, &bias)) {
        float *mean = t->net->state + bn->states[0].offset;
        bias.data = malloc(bias.count * sizeof *bias.data);
        status = bias.data ? take_weight(t, w, &bias, err) : at_nomem(err);
        for (size_t c = 0; c < bias.count && !status; c++)
            mean[c] -= bias.data[c];
        free(bias.data);
        t->matched += !status;
        at_text_add(&text, "bias into %s/moving_mean", bn->row.name);
    } else {
        at_text_add(&text, "bias, which this row has not");
    }
    report(t, row->row.name, bn ? "folded" : "unused", &text);
    at_text_fini(&text);
    return status;
}

static int fold_biases(transfer *t, at_error *err)
{
    int status = 0;
    for (size_t i = 0; i < t->net->row_count && !status; i++) {
        const nn_row *row = &t->net->rows[i];
        bool kernel_alone = row->param_count == 1 &&
                            (row->layer == &at_layer_conv || row->layer == &at_layer_dense);
        if (t->loaded[i] && kernel_alone)
            status = fold_bias(t, row, err);
    }
    return status;
}

static void swap_floats(float *a, float *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float kept = a[i];
        a[i] = b[i];
        b[i] = kept;
    }
}

/* Exchanges red and blue in the kernels of the convolutions that read pixels, [O,3,KH,KW]. */
static void turn_channels(transfer *t)
{
    at_text text = {0};
    at_text_add(&text, "from BGR to RGB");
    for (size_t i = 1; i < t->net->row_count; i++) {
        const nn_row *row = &t->net->rows[i];
        if (row->layer != &at_layer_conv || !t->loaded[i] || row->in[0].c != 3 ||
            !t->net->rows[row->inputs[0]].layer->pixels)
            continue;
        const at_param *p = &row->params[0].info;
        size_t plane = (size_t)(p->dims[2] * p->dims[3]);
        float *kernel = t->net->params + p->offset;
        for (size_t o = 0; o < (size_t)p->dims[0]; o++)
            swap_floats(kernel + 3 * o * plane, kernel + (3 * o + 2) * plane, plane);
        report(t, row->row.name, "turned", &text);
    }
    at_text_fini(&text);
}

/* ---- the whole ------------------------------------------------------------------------------- */

static const char *first_row(const at_net *net)
{
    for (size_t i = 0; i < net->row_count; i++)
        if (net->rows[i].param_count)
            return net->rows[i].row.name;
    return "";
}

static int fail_unmatched(const transfer *t, at_error *err)
{
    const at_node *first = NULL;
    for (size_t i = 0; i < at_node_count(t->rows) && !first; i++)
        if (!strcmp(at_node_string(at_node_get(at_node_at(t->rows, i), "status"), ""), "misshaped"))
            first = at_node_at(t->rows, i);
    const char *row = at_node_string(at_node_get(first, "name"), "");
    const char *why = at_node_string(at_node_get(first, "detail"), "");
    return at_fail(err, AT_EINPUT,
                   "%s: none of its weights fit this model, by name and shape: its first layer "
                   "with weights is \"%s\", the model's first row is \"%s\"%s%s%s%s",
                   t->path, transfer_layer_at(t->file, 0)->name, first_row(t->net),
                   first ? "; " : "", row, first ? ": " : "", why);
}

static at_node *unused_layers(const transfer *t)
{
    at_node *list = at_node_new(AT_LIST);
    for (size_t i = 0; i < transfer_layers(t->file); i++)
        if (!t->taken[i])
            at_node_add(list, at_node_new_string(transfer_layer_at(t->file, i)->name));
    return list;
}

static int match_all(transfer *t, at_error *err)
{
    int status = 0;
    for (size_t i = 0; i < t->net->row_count && !status; i++)
        if (t->net->rows[i].param_count || t->net->rows[i].state_count)
            status = match_row(t, &t->net->rows[i], err);
    if (!status && !t->matched)
        status = fail_unmatched(t, err);
    if (!status)
        status = fold_biases(t, err);
    if (!status && t->options->bgr && !transfer_is_rgb(t->file))
        turn_channels(t);
    return status;
}

static at_node *report_of(const transfer *t)
{
    at_node *out = at_node_new(AT_MAP);
    at_set_string(out, "file", t->path);
    at_set_string(out, "layout", transfer_layout(t->file));
    at_set_int(out, "matched", t->matched);
    at_set_int(out, "missing", t->missing);
    at_set_int(out, "misshaped", t->misshaped);
    at_node_set(out, "unused", unused_layers(t));
    at_node_set(out, "rows", t->rows);
    return out;
}

at_node *at_net_init(at_net *net, const char *path, const at_init_options *options, at_error *err)
{
    transfer t = {.net = net, .path = path, .options = options};
    t.file = transfer_open(path, err);
    if (!t.file)
        return NULL;
    t.taken = calloc(transfer_layers(t.file) + 1, sizeof *t.taken);
    t.loaded = calloc(net->row_count + 1, sizeof *t.loaded);
    t.rows = at_node_new(AT_LIST);
    int status = t.taken && t.loaded && t.rows ? match_all(&t, err) : at_nomem(err);
    at_node *out = status ? NULL : report_of(&t);
    if (!out)
        at_node_free(t.rows);
    free(t.taken);
    free(t.loaded);
    transfer_close(t.file);
    return out;
}
